/* tests/unit/test_quota.c - limits of control groups, of both versions, read from hierarchies made up in a folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/quota.h"
#include "support/support.h"

#define PATH_BYTES 512

static char folder[PATH_BYTES / 2];

static const char *path_of(const char *name) {
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Writes a file; folders on the way are made. */
static void put(const char *name, const char *text) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *at = strchr(path + strlen(folder) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* What is read with these lines; in those of mounts, @ is the folder. */
static uint32_t quota(const char *groups, const char *mounts) {
    char lines[4 * PATH_BYTES] = "", groups_path[PATH_BYTES];
    for (const char *at = mounts; *at; at++) {
        size_t used = strlen(lines);
        snprintf(lines + used, sizeof lines - used, *at == '@' ? "%s" : "%.1s", *at == '@' ? folder : at);
    }
    put("groups", groups);
    put("mounts", lines);
    snprintf(groups_path, sizeof groups_path, "%s", path_of("groups"));
    return spi_quota_read(groups_path, path_of("mounts"));
}

static int begin(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/samepage-quota-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#define UNIFIED "30 24 0:26 / @/v2 rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static void test_unified(void **state) {
    (void)state;
    put("v2/a/b/c/cpu.max", "max 100000\n");
    put("v2/a/b/cpu.max", "max 100000\n");
    put("v2/a/cpu.max", "max 100000\n");
    assert_int_equal(quota("0::/a/b/c\n", UNIFIED), 0);
    put("v2/a/cpu.max", "250000 100000\n"); /* above the process's own group, rounded up */
    assert_int_equal(quota("0::/a/b/c\n", UNIFIED), 3);
    put("v2/a/b/c/cpu.max", "400000 100000\n"); /* the least of all counts */
    assert_int_equal(quota("0::/a/b/c\n", UNIFIED), 3);
    put("v2/a/b/cpu.max", "50000 50000\n");
    assert_int_equal(quota("0::/a/b/c\n", UNIFIED), 1);
    assert_int_equal(quota("0::/a\n", UNIFIED), 3);
    assert_int_equal(quota("0::/\n", UNIFIED), 0); /* the true root has no such file */
    put("v2/cpu.max", "700000 100000\n");          /* that of a container has */
    assert_int_equal(quota("0::/\n", UNIFIED), 7);
    assert_int_equal(quota("0::/elsewhere\n", UNIFIED), 7);
}

static void test_by_controller(void **state) {
    (void)state;
    static const char mounts[] = "22 20 0:20 / @/sys\\040fs/memory rw - cgroup cgroup rw,memory\n"
                                 "23 20 0:21 / @/sys\\040fs/set rw - cgroup cgroup rw,cpuset\n"
                                 "24 20 0:22 / @/sys\\040fs/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
    static const char groups[] = "9:memory:/x\n8:cpuset:/y\n4:cpuacct,cpu:/slice/unit\n1:name=systemd:/z\n0::/\n";
    put("sys fs/cpu/slice/unit/cpu.cfs_quota_us", "-1\n");
    put("sys fs/cpu/slice/unit/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(groups, mounts), 0);
    put("sys fs/cpu/slice/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(quota(groups, mounts), 0); /* no period */
    put("sys fs/cpu/slice/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(groups, mounts), 2);
    put("sys fs/cpu/slice/cpu.cfs_period_us", "0\n");
    assert_int_equal(quota(groups, mounts), 0);
}

/* A container that sees the host's path of its group, and of the hierarchy only what lies below that. */
static void test_mounted_below(void **state) {
    (void)state;
    static const char mounts[] = "40 30 0:22 /docker/77 @/own rw - cgroup cgroup rw,cpu\n";
    put("own/cpu.cfs_quota_us", "300000\n");
    put("own/cpu.cfs_period_us", "100000\n");
    put("own/inner/cpu.cfs_quota_us", "200000\n");
    put("own/inner/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota("4:cpu:/docker/77\n", mounts), 3);
    assert_int_equal(quota("4:cpu:/docker/77/inner\n", mounts), 2);
    assert_int_equal(quota("4:cpu:/docker/77/other\n", mounts), 3);
    assert_int_equal(quota("4:cpu:/docker/778\n", mounts), 3); /* another group with a name that begins alike */
    assert_int_equal(quota("4:cpu:/\n", mounts), 3);
}

static void test_strange_files(void **state) {
    (void)state;
    put("v2/cpu.max", "900000 100000\n");
    assert_int_equal(spi_quota_read("/nowhere/groups", "/nowhere/mounts"), 0);
    assert_int_equal(quota("", ""), 0);
    assert_int_equal(quota("0::/\n", ""), 0);
    assert_int_equal(quota("0:\nword\n::\n0::/\n", "- - -\n1 2 3 - cgroup2\n" UNIFIED), 9);
    static char groups[40000];
    memset(groups, 'g', sizeof groups - 1);
    memcpy(groups, "0::/", 4);
    assert_int_equal(quota(groups, UNIFIED), 0); /* a path too long to exist */
    memcpy(groups + sizeof groups - 8, "\n0::/\n", 7);
    assert_int_equal(quota(groups, UNIFIED), 9); /* and the line behind it */
    put("v2/cpu.max", "99999999999999999999 1\n");
    assert_int_equal(quota("0::/\n", UNIFIED), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unified, begin, end),
        cmocka_unit_test_setup_teardown(test_by_controller, begin, end),
        cmocka_unit_test_setup_teardown(test_mounted_below, begin, end),
        cmocka_unit_test_setup_teardown(test_strange_files, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
