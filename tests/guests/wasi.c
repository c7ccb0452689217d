/* What a guest can do with WASI: each word of its command line is a thing to try, and each prints one line. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void read_file(const char *path) {
    char line[100] = "";
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("read %s: %s\n", path, strerror(errno));
        return;
    }
    if (!fgets(line, sizeof line, file)) {
        line[0] = 0;
    }
    fclose(file);
    printf("read %s: %s\n", path, line);
}

static void write_file(const char *path) {
    FILE *file = fopen(path, "w");
    int failed = !file || fputs("from a guest", file) < 0;
    if (file && fclose(file)) {
        failed = 1;
    }
    printf("write %s: %s\n", path, failed ? "refused" : "done");
}

static void change(const char *folder) {
    char path[200], other[200];
    snprintf(path, sizeof path, "%s/in.txt", folder);
    snprintf(other, sizeof other, "%s/moved.txt", folder);
    printf("unlink: %s\n", unlink(path) ? "refused" : "done");
    printf("rename: %s\n", rename(path, other) ? "refused" : "done");
    snprintf(path, sizeof path, "%s/new", folder);
    printf("mkdir: %s\n", mkdir(path, 0700) ? "refused" : "done");
}

static void print_variable(const char *name) {
    const char *found = getenv(name);
    printf("env %s: %s\n", name, found ? found : "none");
}

static void rest(long ms) {
    struct timespec time = {.tv_nsec = ms * 1000000};
    printf("sleep: %d\n", nanosleep(&time, NULL));
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = strchr(word, ':');
        value = value ? value + 1 : "";
        if (strncmp(word, "read:", 5) == 0) {
            read_file(value);
        } else if (strncmp(word, "write:", 6) == 0) {
            write_file(value);
        } else if (strncmp(word, "change:", 7) == 0) {
            change(value);
        } else if (strncmp(word, "env:", 4) == 0) {
            print_variable(value);
        } else if (strncmp(word, "exit:", 5) == 0) {
            exit(atoi(value));
        } else if (strcmp(word, "stdin") == 0) {
            printf("stdin: %s\n", getchar() == EOF ? "empty" : "something");
        } else if (strcmp(word, "stderr") == 0) {
            fprintf(stderr, "to stderr\n");
        } else if (strncmp(word, "sleep:", 6) == 0) {
            rest(atol(value));
        } else if (strcmp(word, "abort") == 0) {
            abort();
        } else {
            printf("argument %d of %d: %s\n", i, argc, word);
        }
    }
    return 0;
}
