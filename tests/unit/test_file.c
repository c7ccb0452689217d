/* tests/unit/test_file.c - files are read if they are files, and written beside what else there is, never over it. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/file.h"
#include "support/guests.h"
#include "support/support.h"

static char folder[64];

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int begin(void **state) {
    (void)state;
    test_folder_create(folder);
    return 0;
}

static int end(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* A pipe that nobody writes into would keep its reader waiting for ever: the alarm ends a test that does. */
static void what_is_no_file_is_not_read(void **state) {
    (void)state;
    const char *const names[] = {"pipe", "folder", "/dev/null"};
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    alarm(20);
    for (int i = 0; i < 3; i++) {
        const char *path = names[i][0] == '/' ? names[i] : path_of(names[i]);
        sp_error error = {0};
        spi_file_map map;
        void *data;
        size_t bytes;
        assert_int_equal(spi_file_map_open(path, &map, &error), SP_IO);
        assert_null(map.data);
        assert_non_null(strstr(error.message, "is not a regular file"));
        assert_int_equal(spi_file_read(path, 100, &data, &bytes, &error), SP_IO);
        assert_null(data);
    }
    alarm(0);
}

static void cannot_write(const char *path) {
    struct stat before, after;
    sp_error error = {0};
    assert_int_equal(lstat(path, &before), 0);
    assert_int_equal(spi_file_write(path, "x", 1, false, &error), SP_IO);
    assert_non_null(strstr(error.message, path));
    assert_non_null(strstr(error.message, "not a regular file"));
    assert_int_equal(lstat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
}

/* A file is put in its place by renaming, and what a name led to before is gone then: that must not be a device. */
static void what_is_no_file_is_not_written_over(void **state) {
    (void)state;
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    cannot_write(path_of("pipe"));
    assert_int_equal(symlink("pipe", path_of("link")), 0);
    cannot_write(path_of("link"));
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    cannot_write(path_of("folder"));
}

static void files_are_replaced_as_a_whole(void **state) {
    (void)state;
    sp_error error = {0};
    void *data;
    size_t bytes;
    TEST_OK(spi_file_write(path_of("file"), "first", 5, true, &error), error);
    TEST_OK(spi_file_write(path_of("file"), "other", 5, false, &error), error);
    TEST_OK(spi_file_read(path_of("file"), 5, &data, &bytes, &error), error);
    assert_int_equal(bytes, 5);
    assert_memory_equal(data, "other", 6); /* with a zero byte behind it */
    spi_free(data);
    assert_int_equal(spi_file_read(path_of("file"), 4, &data, &bytes, &error), SP_LIMIT);
    assert_int_equal(spi_file_read(path_of("none"), 4, &data, &bytes, &error), SP_NOT_FOUND);
}

static void folders_are_made_where_nothing_is(void **state) {
    (void)state;
    char path[200];
    struct stat made;
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    TEST_OK(spi_folder_create(path, &error), error);
    assert_true(!stat(path, &made) && S_ISDIR(made.st_mode) && (made.st_mode & 0777) == 0700);
    TEST_OK(spi_folder_create(path, &error), error);
    TEST_OK(spi_file_write(path_of("file"), "x", 1, false, &error), error);
    snprintf(path, sizeof path, "%s/file/b", folder);
    assert_int_equal(spi_folder_create(path, &error), SP_IO);
    assert_non_null(strstr(error.message, "/file: there is something else of that name"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_no_file_is_not_read, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_not_written_over, begin, end),
        cmocka_unit_test_setup_teardown(files_are_replaced_as_a_whole, begin, end),
        cmocka_unit_test_setup_teardown(folders_are_made_where_nothing_is, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
