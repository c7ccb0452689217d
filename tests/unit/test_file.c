/* tests/unit/test_file.c - files are read if they are files, and written beside what else there is, never over it. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

static int files_in_folder(void) {
    int count = 0;
    DIR *all = opendir(folder);
    assert_non_null(all);
    for (struct dirent *item; (item = readdir(all));) {
        count += item->d_name[0] != '.';
    }
    closedir(all);
    return count;
}

/* One who is killed cannot tidy up. */
static void nothing_is_left_of_a_writer_that_is_killed(void **state) {
    (void)state;
    int file = spi_file_open_nameless(folder, 0600);
    if (file < 0) {
        skip(); /* this system, or this file system, has no files without a name */
    }
    close(file);
    pid_t child = fork();
    if (!child) {
        spi_file_writer *writer;
        bool good = !spi_file_writer_open(path_of("file"), false, &writer, NULL) &&
                    !spi_file_writer_put(writer, "half", 4, NULL);
        raise(good ? SIGKILL : SIGTERM);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(files_in_folder(), 0);
}

static int fail_rename(spi_file_op op) {
    return op == SPI_FILE_RENAME ? EIO : 0;
}

static spi_file_writer *begin_file(bool is_private) {
    spi_file_writer *writer;
    sp_error error = {0};
    TEST_OK(spi_file_writer_open(path_of("file"), is_private, &writer, &error), error);
    TEST_OK(spi_file_writer_put(writer, "x", 1, &error), error);
    return writer;
}

/* However a file is put in its place: where nothing was and over another, with a name from the start and without; none
 * of the ways leaves anything, and neither do those that fail or are given up. */
static void nothing_but_the_file_is_left(void **state) {
    (void)state;
    mode_t mask = umask(022);
    for (int i = 0; i < 8; i++) {
        sp_error error = {0};
        struct stat made;
        bool is_private = i % 2;
        spi_file_uses_nameless = i < 4;
        int before = i % 4 ? 1 : 0;
        if (!before) {
            unlink(path_of("file"));
        }
        spi_file_writer_abort(begin_file(is_private));
        assert_int_equal(files_in_folder(), before);
        spi_file_writer *writer = begin_file(is_private);
        spi_file_set_fault(fail_rename);
        assert_int_equal(spi_file_writer_commit(writer, true, &error), SP_IO);
        spi_file_set_fault(NULL);
        assert_int_equal(files_in_folder(), before);
        TEST_OK(spi_file_writer_commit(begin_file(is_private), i % 4 < 2, &error), error);
        assert_int_equal(stat(path_of("file"), &made), 0);
        assert_int_equal(made.st_mode & 0777, is_private ? 0600 : 0644);
        assert_int_equal(made.st_nlink, 1);
        assert_int_equal(made.st_size, 1);
        assert_int_equal(files_in_folder(), 1);
    }
    spi_file_uses_nameless = true;
    umask(mask);
}

static sp_status write_as_people_do(const char *path, const char *text, sp_error *error) {
    spi_file_writer *writer;
    sp_status status = spi_file_writer_open(path, true, &writer, error);
    return status
               ? status
               : (spi_file_writer_put(writer, text, strlen(text), error), spi_file_writer_commit(writer, true, error));
}

static void must_hold(const char *path, const char *text) {
    sp_error error = {0};
    void *data;
    size_t bytes;
    TEST_OK(spi_file_read(path, 100, &data, &bytes, &error), error);
    assert_string_equal(data, text);
    spi_free(data);
}

/* Files that people name are written through links; those of our own folders take a link's place. */
static void what_a_link_leads_to_is_written(void **state) {
    (void)state;
    sp_error error = {0};
    struct stat found;
    TEST_OK(spi_file_write(path_of("file"), "first", 5, false, &error), error);
    assert_int_equal(symlink("file", path_of("link")), 0);
    TEST_OK(write_as_people_do(path_of("link"), "other", &error), error);
    assert_true(!lstat(path_of("link"), &found) && S_ISLNK(found.st_mode));
    must_hold(path_of("file"), "other");
    TEST_OK(spi_file_write(path_of("link"), "third", 5, false, &error), error);
    assert_true(!lstat(path_of("link"), &found) && S_ISREG(found.st_mode));
    must_hold(path_of("file"), "other");

    assert_int_equal(symlink("none", path_of("nowhere")), 0); /* to a disk that is not mounted, perhaps */
    assert_int_equal(write_as_people_do(path_of("nowhere"), "x", &error), SP_IO);
    assert_non_null(strstr(error.message, "it is a link, and what it leads to: No such file"));
    assert_true(!lstat(path_of("nowhere"), &found) && S_ISLNK(found.st_mode));
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
        cmocka_unit_test_setup_teardown(nothing_is_left_of_a_writer_that_is_killed, begin, end),
        cmocka_unit_test_setup_teardown(nothing_but_the_file_is_left, begin, end),
        cmocka_unit_test_setup_teardown(what_a_link_leads_to_is_written, begin, end),
        cmocka_unit_test_setup_teardown(folders_are_made_where_nothing_is, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
