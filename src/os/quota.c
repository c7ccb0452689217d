/* os/quota.c - see quota.h. May include: base. */
#include "os/quota.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096u
#define LINE_BYTES (3 * PATH_BYTES)

/* One of the hierarchies of groups: version 2 is one for everything, version 1 has one for each controller or some. */
typedef struct hierarchy {
    bool unified;
    char group[PATH_BYTES]; /* of this process, from the hierarchy's root */
    char root[PATH_BYTES];  /* the group that is mounted: in a container often not the hierarchy's root */
    char mount[PATH_BYTES];
} hierarchy;

/* A line without its end; of one that is too long, the beginning. */
static bool next_line(FILE *file, char line[LINE_BYTES]) {
    if (!fgets(line, LINE_BYTES, file)) {
        return false;
    }
    size_t length = strcspn(line, "\n");
    for (int c = (unsigned char)line[length]; c != '\n' && c != EOF;) {
        c = fgetc(file);
    }
    line[length] = 0;
    return true;
}

/* A word of a list whose words stand between commas. */
static bool lists(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, word, length) && (at[length] == ',' || !at[length])) {
            return true;
        }
    }
    return false;
}

/* "ID:CONTROLLERS:PATH"; the unified hierarchy has no controllers. */
static bool find_group(const char *groups_file, hierarchy *of) {
    FILE *file = fopen(groups_file, "r");
    char line[LINE_BYTES];
    bool found = false;
    while (file && !found && next_line(file, line)) {
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = 0;
        controllers++;
        found = (of->unified ? !*controllers : lists(controllers, "cpu")) && strlen(path) < sizeof of->group;
        if (found) {
            strcpy(of->group, path);
        }
    }
    if (file) {
        fclose(file);
    }
    return found;
}

/* Blanks and backslashes of a path stand there as \ooo. */
static void unescape(char *path) {
    char *to = path;
    for (const char *from = path; *from; to++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            char digits[4] = {from[1], from[2], from[3], 0};
            *to = (char)strtol(digits, NULL, 8);
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

/* "ID PARENT DEVICE ROOT MOUNT OPTIONS [FIELDS] - TYPE SOURCE OPTIONS" */
static bool take_mount(char *line, hierarchy *of) {
    char *rest = strstr(line, " - "), type[32], options[PATH_BYTES];
    if (!rest || sscanf(rest, " - %31s %*s %4095s", type, options) != 2) {
        return false;
    }
    if (of->unified ? strcmp(type, "cgroup2") : strcmp(type, "cgroup") || !lists(options, "cpu")) {
        return false;
    }
    *rest = 0;
    if (sscanf(line, "%*s %*s %*s %4095s %4095s", of->root, of->mount) != 2) {
        return false;
    }
    unescape(of->root);
    unescape(of->mount);
    return true;
}

static bool find_mount(const char *mounts_file, hierarchy *of) {
    FILE *file = fopen(mounts_file, "r");
    char line[LINE_BYTES];
    bool found = false;
    while (file && !found && next_line(file, line)) {
        found = take_mount(line, of);
    }
    if (file) {
        fclose(file);
    }
    return found;
}

/* The one or two numbers that a file of a folder begins with; false: there are none, as with the word "max". */
static bool read_numbers(const char *folder, const char *name, long long *first, long long *second) {
    char path[2 * PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    int wanted = second ? 2 : 1;
    bool found = file && (second ? fscanf(file, "%lld %lld", first, second) : fscanf(file, "%lld", first)) == wanted;
    if (file) {
        fclose(file);
    }
    return found;
}

static uint32_t group_quota(const hierarchy *of, const char *folder) {
    long long limit = -1, period = 0;
    bool found = of->unified ? read_numbers(folder, "cpu.max", &limit, &period)
                             : read_numbers(folder, "cpu.cfs_quota_us", &limit, NULL) &&
                                   read_numbers(folder, "cpu.cfs_period_us", &period, NULL);
    if (!found || limit <= 0 || period <= 0) {
        return 0;
    }
    long long whole = limit / period + (limit % period != 0);
    return whole > UINT32_MAX ? 0 : (uint32_t)whole;
}

/* From the process's group up to the one that is mounted. A group that does not lie below it is out of sight: of what
 * is mounted in a container, the top then is the process's own. */
static uint32_t least_quota(const hierarchy *of) {
    char folder[2 * PATH_BYTES];
    size_t root = strcmp(of->root, "/") ? strlen(of->root) : 0, mount = strlen(of->mount);
    bool below = !strncmp(of->group, of->root, root) && (of->group[root] == '/' || !of->group[root]);
    snprintf(folder, sizeof folder, "%s%s", of->mount, below ? of->group + root : "");
    uint32_t least = 0;
    for (;;) {
        uint32_t own = group_quota(of, folder);
        least = own && (!least || own < least) ? own : least;
        char *end = strrchr(folder + mount, '/');
        if (!end) {
            return least;
        }
        *end = 0;
    }
}

uint32_t spi_quota_read(const char *groups_file, const char *mounts_file) {
    uint32_t least = 0;
    for (int unified = 0; unified < 2; unified++) {
        hierarchy of = {.unified = unified};
        if (find_group(groups_file, &of) && find_mount(mounts_file, &of)) {
            uint32_t own = least_quota(&of);
            least = own && (!least || own < least) ? own : least;
        }
    }
    return least;
}
