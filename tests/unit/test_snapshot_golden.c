/* tests/unit/test_snapshot_golden.c - files of every version are read for ever: tests/golden/snapshot/README.md.
 *
 *     test_snapshot_golden write FOLDER [CORPUS]    makes those of the newest version, and seeds for the fuzzers
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/file.h"
#include "snapshot/snapshot.h"
#include "support/durable_rig.h"
#include "support/tiny_model.h"

/* Small, with all that a snapshot of version 1 can have: a global, a table that is not as it was, a session, a
 * sampler. */
static const char program_1[] =
    "(module"
    " (import \"samepage\" \"model_open\" (func $model (param i32 i32) (result i32)))"
    " (import \"samepage\" \"session_create\" (func $session (param i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_append\" (func $append (param i32 i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_sample\" (func $sample (param i32 i32) (result i32)))"
    " (import \"samepage\" \"sampler_create\" (func $sampler (param i32 i32) (result i32)))"
    " (type $f (func (result i32))) (memory (export \"memory\") 1)"
    " (table $t 2 funcref) (elem (i32.const 0) func $one $two)"
    " (global $s (mut i32) (i32.const 0)) (global $p (mut i32) (i32.const 0))"
    " (data (i32.const 64) \"\\05\\00\\00\\00\\06\\00\\00\\00\\07\\00\\00\\00\")"
    " (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))"
    " (func (export \"begin\") (result i32)"
    "  (global.set $s (call $session (call $model (i32.const 0) (i32.const 0)) (i32.const 64) (i32.const 1)))"
    "  (global.set $p (call $sampler (i32.const 0) (i32.const 0)))"
    "  (table.set $t (i32.const 0) (table.get $t (i32.const 1)))"
    "  (call $append (global.get $s) (i32.const 64) (i32.const 3) (i32.const 0)))"
    " (func (export \"next\") (result i32)"
    "  (i32.store (i32.const 128) (call $sample (global.get $s) (global.get $p)))"
    "  (drop (call $append (global.get $s) (i32.const 128) (i32.const 1) (i32.const 0)))"
    "  (i32.add (i32.load (i32.const 128)) (i32.mul (i32.const 1000) (call_indirect $t (type $f) (i32.const 0))))))";

/* Version 2 has sessions of both types of keys and values. */
static const char program_2[] =
    "(module"
    " (import \"samepage\" \"model_open\" (func $model (param i32 i32) (result i32)))"
    " (import \"samepage\" \"session_create_as\" (func $session (param i32 i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_append\" (func $append (param i32 i32 i32 i32) (result i32)))"
    " (import \"samepage\" \"session_sample\" (func $sample (param i32 i32) (result i32)))"
    " (import \"samepage\" \"sampler_create\" (func $sampler (param i32 i32) (result i32)))"
    " (memory (export \"memory\") 1)"
    " (global $s (mut i32) (i32.const 0)) (global $q (mut i32) (i32.const 0)) (global $p (mut i32) (i32.const 0))"
    " (data (i32.const 64) \"\\05\\00\\00\\00\\06\\00\\00\\00\\07\\00\\00\\00\")"
    " (func (export \"begin\") (result i32) (local $m i32)"
    "  (local.set $m (call $model (i32.const 0) (i32.const 0)))"
    "  (global.set $s (call $session (local.get $m) (i32.const 64) (i32.const 1) (i32.const 1)))"
    "  (global.set $q (call $session (local.get $m) (i32.const 64) (i32.const 1) (i32.const 2)))"
    "  (global.set $p (call $sampler (i32.const 0) (i32.const 0)))"
    "  (drop (call $append (global.get $q) (i32.const 64) (i32.const 2) (i32.const 0)))"
    "  (call $append (global.get $s) (i32.const 64) (i32.const 3) (i32.const 0)))"
    " (func $go (param $s i32) (result i32)"
    "  (i32.store (i32.const 128) (call $sample (local.get $s) (global.get $p)))"
    "  (drop (call $append (local.get $s) (i32.const 128) (i32.const 1) (i32.const 0)))"
    "  (i32.load (i32.const 128)))"
    " (func (export \"next\") (result i32)"
    "  (i32.add (call $go (global.get $s)) (i32.mul (i32.const 1000) (call $go (global.get $q))))))";

static const struct version {
    uint32_t number, sessions;
    sp_kv_type last; /* of the last session */
    const char *program;
} versions[] = {{1, 1, SP_KV_F16, program_1}, {2, 2, SP_KV_Q8_0, program_2}};
#define NEWEST (versions[sizeof versions / sizeof versions[0] - 1])

/* "newer" of version 1 claims to be of version 2 under the first one's checksum. */
static const char *const bad_files[] = {"newer", "cut", "header", "state", "pages", "magic", "padding"};
static const char *const bad_messages[] = {"format version",    "its header says",          "header", "state", "pages",
                                           "is not a snapshot", "there is something before"};

typedef struct stage {
    sp_engine *engine;
    sp_device *device;
    sp_model *model;
    sp_module *module;
    sp_guest_model models[1];
    sp_guest_options options;
} stage;

/* The model is a file beside the snapshots: theirs for ever, whatever the tests' other models become. */
static stage open_stage(const char *folder, const char *program) {
    stage s = {.engine = test_engine(NULL)};
    sp_error error = {0};
    const sp_device_options plain = {.thread_count = 1, .isa = "reference"};
    TEST_OK(sp_device_open("cpu", &plain, &s.device, &error), error);
    char path[600];
    snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    TEST_OK(sp_model_open(path, &s.model, &error), error);
    TEST_OK(sp_model_load(s.model, s.device, NULL, NULL, &error), error);
    s.module = test_module(s.engine, program);
    return s;
}

static void close_stage(stage *s) {
    sp_module_close(s->module);
    sp_engine_destroy(s->engine);
    sp_model_close(s->model);
    sp_device_close(s->device);
}

static void set_options(stage *s) {
    s->models[0] = (sp_guest_model){.name = "tiny", .model = s->model};
    s->options = (sp_guest_options){.device = s->device, .models = s->models, .model_count = 1};
}

static void read_version(const struct version *version) {
    stage s = open_stage(test_source_path("tests/golden/snapshot"), version->program);
    char path[100];
    set_options(&s);
    test_guest_signals();
    sp_error error = {0};
    sp_snapshot *snapshot = NULL;
    snprintf(path, sizeof path, "tests/golden/snapshot/v%u.snap", version->number);
    TEST_OK(sp_snapshot_open(test_source_path(path), NULL, &snapshot, &error), error);
    sp_snapshot_info info;
    sp_snapshot_session session;
    sp_snapshot_get_info(snapshot, &info);
    assert_int_equal(info.version, version->number);
    assert_int_equal(info.sessions, version->sessions);
    assert_int_equal(info.samplers, 1);
    assert_true(sp_snapshot_get_session(snapshot, version->sessions - 1, &session));
    assert_int_equal(session.kv_type, version->last);
    sp_restore_report report;
    const sp_restore_options options = {.report = &report};
    sp_guest *guest = NULL;
    TEST_OK(sp_guest_restore(snapshot, s.module, &s.options, &options, &guest, &error), error);
    assert_int_equal(report.computed_tokens, 0);
    /* What the guest that was saved answered when it went on. */
    snprintf(path, sizeof path, "tests/golden/snapshot/v%u.txt", version->number);
    FILE *file = fopen(test_source_path(path), "r");
    assert_non_null(file);
    long wanted;
    int count = 0;
    for (; fscanf(file, "%ld", &wanted) == 1; count++) {
        assert_int_equal(test_result(guest, "next", 0, 0), wanted);
    }
    assert_int_equal(count, 8);
    fclose(file);
    sp_guest_destroy(guest);
    sp_snapshot_close(snapshot);
    close_stage(&s);
}

static void reads_every_version(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        read_version(&versions[i]);
    }
}

static void refuse(uint32_t version, size_t kind) {
    char path[100];
    sp_error error = {0};
    sp_snapshot *snapshot = NULL;
    bool is_older = kind == 0 && version < NEWEST.number;
    snprintf(path, sizeof path, "tests/golden/snapshot/v%u-%s.snap", version, bad_files[kind]);
    sp_status status = sp_snapshot_open(test_source_path(path), NULL, &snapshot, &error);
    if (status != (kind == 0 && !is_older ? SP_UNSUPPORTED : SP_BAD_FILE) ||
        !strstr(error.message, is_older ? "header" : bad_messages[kind])) {
        fail_msg("v%u %s: %s: %s", version, bad_files[kind], sp_status_text(status), error.message);
    }
    assert_null(snapshot);
}

static void refuses_bad_ones(void **state) {
    (void)state;
    for (size_t v = 0; v < sizeof versions / sizeof versions[0]; v++) {
        for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
            refuse(versions[v].number, i);
        }
    }
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t count) {
    char path[600];
    sp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    TEST_OK(spi_file_write(path, bytes, count, false, &error), error);
}

static void write_bad(const char *folder, const sp_snapshot *snapshot, size_t kind) {
    size_t count;
    const void *good = sp_snapshot_bytes(snapshot, &count);
    uint8_t *bad = spi_alloc(count, 1);
    char name[40];
    memcpy(bad, good, count);
    const spi_snapshot_section *state = spi_snapshot_find(snapshot, SPI_SECTION_STATE, 0);
    const spi_snapshot_section *pages = spi_snapshot_find(snapshot, SPI_SECTION_PAGES, 0);
    const uint64_t places[] = {8, 0, 60, state->offset + 30, pages->offset + 64, 1, pages->offset - 1};
    bad[places[kind]] ^= kind == 1 ? 0 : kind == 0 ? 0x10 : 1;
    snprintf(name, sizeof name, "v%u-%s.snap", NEWEST.number, bad_files[kind]);
    write_file(folder, name, bad, kind == 1 ? count - 4096 : count);
    spi_free(bad);
}

/* A seed has the byte in front that the fuzzer wants. */
static void write_seed(const char *folder, const char *name, const sp_snapshot *snapshot, uint8_t first) {
    size_t count;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    uint8_t *seed = spi_alloc(count + 1, 1);
    seed[0] = first;
    memcpy(seed + 1, bytes, count);
    write_file(folder, name, seed, count + 1);
    spi_free(seed);
}

static int write_all(const char *folder, const char *corpus) {
    stage s = open_stage(folder, NEWEST.program);
    set_options(&s);
    sp_error error = {0};
    sp_guest *guest = NULL;
    sp_snapshot *snapshot = NULL, *delta = NULL, *bare = NULL;
    sp_tracker *tracker = NULL;
    char text[200] = "", name[40];
    const sp_capture_options extra = {.extra = "extra", .extra_bytes = 5};
    const sp_capture_options small = {.without_cache = true, .without_module = true};
    TEST_OK(sp_guest_create(s.module, &s.options, &guest, &error), error);
    (void)test_result(guest, "begin", 0, 0);
    TEST_OK(sp_guest_capture(guest, &extra, &snapshot, &error), error);
    TEST_OK(sp_guest_capture(guest, &small, &bare, &error), error);
    TEST_OK(sp_tracker_create(guest, snapshot, NULL, &tracker, &error), error);
    size_t count;
    const void *bytes = sp_snapshot_bytes(snapshot, &count);
    snprintf(name, sizeof name, "v%u.snap", NEWEST.number);
    write_file(folder, name, bytes, count);
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        write_bad(folder, snapshot, i);
    }
    for (int i = 0; i < 8; i++) {
        snprintf(text + strlen(text), 20, "%ld\n", (long)test_result(guest, "next", 0, 0));
    }
    snprintf(name, sizeof name, "v%u.txt", NEWEST.number);
    write_file(folder, name, text, strlen(text));
    TEST_OK(sp_tracker_delta(tracker, NULL, &delta, &error), error);
    if (corpus) {
        char path[500];
        snprintf(path, sizeof path, "%s/snapshot", corpus);
        write_seed(path, "bare-2", bare, 0);
        write_seed(path, "bare-2-sealed", bare, 1);
        write_seed(path, "delta-2", delta, 1);
        wasm_byte_vec_t wasm = test_wasm(NEWEST.program);
        snprintf(path, sizeof path, "%s/rewrite", corpus);
        write_file(path, "golden-2", wasm.data, wasm.size);
        wasm_byte_vec_delete(&wasm);
    }
    sp_snapshot_close(delta);
    sp_snapshot_close(bare);
    sp_snapshot_close(snapshot);
    sp_tracker_destroy(tracker);
    sp_guest_destroy(guest);
    close_stage(&s);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "write") == 0) {
        return write_all(argv[2], argc > 3 ? argv[3] : NULL);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_every_version), cmocka_unit_test(refuses_bad_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
