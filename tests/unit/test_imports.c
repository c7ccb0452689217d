/* tests/unit/test_imports.c - the imports, called through their table as the engine calls them, over a stand-in for all
 * that lies below (support/imports_double.h). What must hold: whatever a guest passes, nothing outside of its memory is
 * touched, no handle but its own open ones works, and each failure leaves a status and a message. */
#include "support/support.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"
#include "support/imports_double.h"

#define MEMORY_BYTES (1u << 20)

static spi_job last_job;

static const spi_import *row(const char *name) {
    for (uint32_t i = 0; i < spi_import_count; i++) {
        if (!strcmp(spi_imports[i].name, name)) {
            return &spi_imports[i];
        }
    }
    print_error("no import %s\n", name);
    fail();
    return NULL;
}

/* Calls a row with 32-bit arguments, which reach it with their sign extended. A job that it begins is in last_job. */
static int64_t call_row(sp_guest *guest, const spi_import *import, const uint32_t *arguments, size_t count) {
    int64_t words[16] = {0};
    assert_int_equal(count, strlen(import->parameters));
    for (size_t i = 0; i < count; i++) {
        words[i] = (int32_t)arguments[i];
    }
    memset(&last_job, 0, sizeof last_job);
    if (import->begin) {
        return import->begin(guest, words, &last_job);
    }
    import->call(guest, words);
    return words[0];
}

#define CALL0(guest, name) call_row(guest, row(name), NULL, 0)
#define CALL(guest, name, ...)                                                                                         \
    call_row(guest, row(name), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static uint8_t *at(sp_guest *guest, uint32_t address) {
    return sp_region_base(guest->region) + address;
}

/* A failing status, and that its message is there. */
#define REFUSED(expected, call)                                                                                        \
    do {                                                                                                               \
        *spi_host_error(guest) = (sp_error){0};                                                                        \
        assert_int_equal(call, expected);                                                                              \
        assert_int_equal(spi_host_error(guest)->status, expected);                                                     \
        assert_true(strlen(spi_host_error(guest)->message) > 10);                                                      \
        assert_true(CALL(guest, "error_message", 0, 0) > 10);                                                          \
    } while (0)

static int setup(void **state) {
    *state = double_guest_create(MEMORY_BYTES);
    return 0;
}

static int teardown(void **state) {
    double_guest_destroy(*state);
    assert_int_equal(double_session_count, 0);
    assert_int_equal(double_sampler_count, 0);
    return 0;
}

static void test_table(void **state) {
    (void)state;
    for (uint32_t i = 0; i < spi_import_count; i++) {
        const spi_import *import = &spi_imports[i];
        assert_true(!import->call == !!import->begin);
        assert_true(import->is_async == !!import->begin);
        assert_int_equal(strspn(import->parameters, "iIfF"), strlen(import->parameters));
        assert_true(!strcmp(import->results, "i") || !strcmp(import->results, "I"));
        assert_ptr_equal(row(import->name), import);
    }
}

static void test_pointers(void **state) {
    sp_guest *guest = *state;
    uint32_t model = (uint32_t)CALL(guest, "model_open", 0, 0);
    assert_true((int32_t)model > 0);
    /* i32 arrays: the end is allowed, one past it is not, however it is put. */
    uint32_t end = MEMORY_BYTES;
    assert_int_equal(CALL(guest, "detokenize", model, end - 8, 2, 0, 0, 0), 2);
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, end - 4, 2, 0, 0, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, end, 1, 0, 0, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, 0xfffffffc, 2, 0, 0, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, 0, 0x40000001, 0, 0, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, 8, 0xffffffff, 0, 0, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "detokenize", model, 2, 2, 0, 0, 0));
    assert_non_null(strstr(spi_host_error(guest)->message, "aligned"));
    /* Nothing is read or written if the count is 0, so any address will do. */
    assert_int_equal(CALL(guest, "detokenize", model, 0xfffffffd, 0, 0, 0xffffffff, 0), 0);
    /* Outputs. */
    REFUSED(SP_BAD_POINTER, CALL(guest, "tokenize", model, 0, 4, 0, end - 4, 2));
    REFUSED(SP_BAD_POINTER, CALL(guest, "tokenize", model, 0, 4, 0, 6, 4));
    REFUSED(SP_BAD_POINTER, CALL(guest, "model_info", model, end - 8, 9));
    REFUSED(SP_BAD_POINTER, CALL(guest, "error_message", end, 1));
    REFUSED(SP_BAD_POINTER, CALL(guest, "counters", 0x80000000, 64));
    /* Structs may lie anywhere, because they are copied. */
    assert_int_equal(CALL(guest, "counters", 3, 64), SP_OK);
    /* The same address is good once the memory has grown. */
    TEST_OK(sp_region_grow(guest->region, MEMORY_BYTES + 65536, NULL), *spi_host_error(guest));
    assert_int_equal(CALL(guest, "detokenize", model, end - 4, 2, 0, 0, 0), 2);
}

static void test_handles(void **state) {
    sp_guest *guest = *state, *other = double_guest_create(MEMORY_BYTES);
    uint32_t model = (uint32_t)CALL(guest, "model_open", 0, 0), foreign;
    uint32_t sampler = (uint32_t)CALL(guest, "sampler_create", 0, 0);
    uint32_t session = (uint32_t)CALL(guest, "session_create", model, 64, 1);
    assert_true((int32_t)model > 0 && (int32_t)sampler > 0 && (int32_t)session > 0);
    /* Of the wrong kind. */
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_length", model));
    assert_non_null(strstr(spi_host_error(guest)->message, "is a model, not a session"));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_sample", session, model));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_sample", sampler, sampler));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "sampler_destroy", session));
    /* Made up: every single bit is looked at. */
    for (int bit = 0; bit < 32; bit++) {
        REFUSED(SP_BAD_HANDLE, CALL(guest, "session_length", session ^ 1u << bit));
    }
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_length", 0));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_length", (uint32_t)SP_NO_MEMORY));
    /* Of another guest: not even where slot and kind are the same. Generations begin at random, so that one try in
     * 65,536 may hit; several are needed to tell. */
    int hits = 0;
    for (int i = 0; i < 8; i++) {
        foreign = (uint32_t)CALL(other, "model_open", 0, 0);
        hits += CALL(guest, "model_close", foreign) == SP_OK;
        assert_int_equal(CALL(other, "model_close", foreign), SP_OK);
    }
    assert_true(hits <= 1);
    /* Closed: at once, and when the slot has a new tenant. */
    assert_int_equal(CALL(guest, "sampler_destroy", sampler), SP_OK);
    REFUSED(SP_BAD_HANDLE, CALL(guest, "sampler_destroy", sampler));
    uint32_t next = (uint32_t)CALL(guest, "sampler_create", 0, 0);
    assert_int_not_equal(next, sampler);
    REFUSED(SP_BAD_HANDLE, CALL(guest, "sampler_accept", sampler, 1));
    assert_int_equal(CALL(guest, "sampler_accept", next, 1), SP_OK);
    /* Generations go round without ever making a handle that is not positive. */
    for (uint32_t i = 0; i < 70000; i++) {
        assert_int_equal(CALL(guest, "sampler_destroy", next), SP_OK);
        uint32_t again = (uint32_t)CALL(guest, "sampler_create", 0, 0);
        assert_true((int32_t)again > 0 && again != next);
        next = again;
    }
    double_guest_destroy(other);
}

static void test_handle_limit(void **state) {
    sp_guest limited = *(sp_guest *)*state, *guest = &limited;
    guest->handle_count_max = 20;
    assert_int_equal(spi_host_create(guest, &guest->host, NULL), SP_OK);
    uint32_t first = (uint32_t)CALL(guest, "model_open", 0, 0);
    for (int i = 1; i < 20; i++) {
        assert_true(CALL(guest, "model_open", 0, 0) > 0);
    }
    REFUSED(SP_LIMIT, CALL(guest, "model_open", 0, 0));
    REFUSED(SP_LIMIT, CALL(guest, "sampler_create", 0, 0));
    REFUSED(SP_LIMIT, CALL(guest, "session_create", first, 64, 1));
    assert_int_equal(guest->range_count, 0);
    assert_int_equal(CALL(guest, "model_close", first), SP_OK);
    assert_true(CALL(guest, "sampler_create", 0, 0) > 0);
    spi_host_destroy(guest->host);
}

static void test_sessions(void **state) {
    sp_guest *guest = *state;
    uint32_t model = (uint32_t)CALL(guest, "model_open", 0, 0);
    /* Absurd contexts. */
    REFUSED(SP_INVALID, CALL(guest, "session_create", model, 0xffffffff, 1));
    REFUSED(SP_LIMIT, CALL(guest, "session_create", model, 1024, 0xffffffff));
    REFUSED(SP_NO_MEMORY, CALL(guest, "session_create", model, 1u << 20, 1));
    assert_non_null(strstr(spi_host_error(guest)->message, "1048576 tokens"));
    assert_int_equal(guest->range_count, 0);
    /* What fails late gives back what it had. */
    double_session_failure = SP_LINK_REFUSED;
    REFUSED(SP_LINK_REFUSED, CALL(guest, "session_create", model, 64, 1));
    assert_int_equal(guest->range_count, 0);
    /* 0 is the usual: the model's own context, one row. */
    uint64_t size = sp_region_size_bytes(guest->region);
    uint32_t session = (uint32_t)CALL(guest, "session_create", model, 0, 0);
    assert_true((int32_t)session > 0);
    spi_abi_session_info info;
    assert_int_equal(CALL(guest, "session_info", session, 64, sizeof info), SP_OK);
    memcpy(&info, at(guest, 64), sizeof info);
    assert_int_equal(info.context_max, 1024);
    assert_int_equal(info.logits_rows_max, 1);
    assert_int_equal(info.kv, (size + 65535) / 65536 * 65536);
    assert_int_equal(info.logits, info.kv + 1024 / 64 * 65536);
    assert_int_equal(info.vocab, DOUBLE_VOCAB);
    assert_int_equal(info.length, 0);
    assert_int_equal(info.kv_type, SP_KV_Q8_0); /* the guest's */
    /* A guest that was built before keys and values had a type has room for 56 bytes: no more are written. */
    memset(at(guest, 128), 0x55, 80);
    assert_int_equal(CALL(guest, "session_info", session, 128, 56), SP_OK);
    assert_memory_equal(at(guest, 128), &info, 56);
    for (uint32_t i = 56; i < 80; i++) {
        assert_int_equal(*at(guest, 128 + i), 0x55);
    }
    uint32_t other = (uint32_t)CALL(guest, "session_create_as", model, 64, 1, SP_KV_F16);
    assert_int_equal(CALL(guest, "session_info", other, 64, sizeof info), SP_OK);
    memcpy(&info, at(guest, 64), sizeof info);
    assert_int_equal(info.kv_type, SP_KV_F16);
    assert_int_equal(info.block_bytes, 131072);
    assert_int_equal(CALL(guest, "session_destroy", other), SP_OK);
    other = (uint32_t)CALL(guest, "session_create_as", model, 64, 1, SP_KV_DEFAULT);
    assert_int_equal(CALL(guest, "session_info", other, 64, sizeof info), SP_OK);
    memcpy(&info, at(guest, 64), sizeof info);
    assert_int_equal(info.kv_type, SP_KV_Q8_0);
    assert_int_equal(CALL(guest, "session_destroy", other), SP_OK);
    REFUSED(SP_INVALID, CALL(guest, "session_create_as", model, 64, 1, 3));
    REFUSED(SP_INVALID, CALL(guest, "session_create_as", model, 64, 1, 0xffffffff));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_create_as", session, 64, 1, SP_KV_Q8_0));
    /* The model's handle is only a name. */
    assert_int_equal(CALL(guest, "model_close", model), SP_OK);
    assert_int_equal(CALL(guest, "session_length", session), 0);
    assert_int_equal(CALL(guest, "session_destroy", session), SP_OK);
    assert_int_equal(guest->range_count, 0);
    assert_int_equal(double_session_count, 0);
    /* Without a device there are none. */
    model = (uint32_t)CALL(guest, "model_open", 0, 0);
    guest->device = NULL;
    REFUSED(SP_NO_DEVICE, CALL(guest, "session_create", model, 64, 1));
    REFUSED(SP_NO_DEVICE, CALL(guest, "device_name", 0, 16));
    REFUSED(SP_NO_DEVICE, CALL0(guest, "device_link"));
    REFUSED(SP_NO_DEVICE, CALL(guest, "matmul", 0, 64, 128, 1, 1, 1, 0));
}

static void test_append(void **state) {
    sp_guest *guest = *state;
    uint32_t model = (uint32_t)CALL(guest, "model_open", 0, 0);
    uint32_t session = (uint32_t)CALL(guest, "session_create", model, 70, 4);
    uint32_t sampler = (uint32_t)CALL(guest, "sampler_create", 0, 0);
    int32_t tokens[80];
    for (int i = 0; i < 80; i++) {
        tokens[i] = i;
    }
    memcpy(at(guest, 256), tokens, sizeof tokens);
    REFUSED(SP_INVALID, CALL(guest, "session_sample", session, sampler));
    /* The job has a copy: what the guest does to its array later changes nothing. */
    assert_int_equal(CALL(guest, "session_append", session, 256, 60, 0), SP_OK);
    memset(at(guest, 256), 0xff, sizeof tokens);
    assert_int_equal(last_job.kind, SPI_JOB_APPEND);
    assert_int_equal(last_job.token_count, 60);
    assert_memory_equal(last_job.tokens, tokens, 60 * sizeof *tokens);
    double_finish(&last_job);
    assert_int_equal(CALL(guest, "session_length", session), 60);
    /* Reading them back: the whole count, and as many as fit. */
    memset(at(guest, 1024), 0x55, 16);
    assert_int_equal(CALL(guest, "session_tokens", session, 1024, 3), 60);
    assert_memory_equal(at(guest, 1024), tokens, 3 * sizeof *tokens);
    assert_int_equal(*at(guest, 1024 + 12), 0x55);
    /* Tokens that are none. */
    memcpy(at(guest, 256), tokens, sizeof tokens);
    const int32_t wrong[] = {-1, DOUBLE_VOCAB, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        memcpy(at(guest, 256 + 4 * 2), &wrong[i], 4);
        REFUSED(SP_INVALID, CALL(guest, "session_append", session, 256, 3, 0));
        assert_int_equal(CALL(guest, "session_append", session, 256, 2, 0), SP_OK);
        spi_free(last_job.tokens);
    }
    REFUSED(SP_INVALID, CALL(guest, "session_append", session, 256, 1, 3));
    REFUSED(SP_INVALID, CALL(guest, "session_append", session, 256, 1, 0xffffffff));
    /* More than there is room for. */
    memcpy(at(guest, 256), tokens, sizeof tokens);
    REFUSED(SP_CONTEXT_FULL, CALL(guest, "session_append", session, 256, 11, 0));
    REFUSED(SP_LIMIT, CALL(guest, "session_append", session, 256, 5, 1));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_append", session, 256, 0x3fffffff, 2));
    assert_int_equal(CALL(guest, "session_append", session, 256, 4, 1), SP_OK);
    double_finish(&last_job);
    /* The guest may write its logits; the sampler looks at the last row. */
    spi_abi_session_info info;
    assert_int_equal(CALL(guest, "session_info", session, 0, sizeof info), SP_OK);
    memcpy(&info, at(guest, 0), sizeof info);
    assert_int_equal(info.logits_rows, 4);
    assert_int_equal(info.length, 64);
    float high = 9;
    memcpy(at(guest, (uint32_t)info.logits + (3 * DOUBLE_VOCAB + 77) * 4), &high, 4);
    assert_int_equal(CALL(guest, "session_sample", session, sampler), 77);
    assert_int_equal(CALL(guest, "sampler_pick", sampler, (uint32_t)info.logits + 3 * DOUBLE_VOCAB * 4, 200), 77);
    /* Appended and picked in one: the job has the sampler, and asks for no logits. */
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_pick", sampler, sampler, 256, 1));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_pick", session, session, 256, 1));
    REFUSED(SP_INVALID, CALL(guest, "session_pick", session, sampler, 256, 0));
    REFUSED(SP_CONTEXT_FULL, CALL(guest, "session_pick", session, sampler, 256, 7));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_pick", session, sampler, 0xfffffff0, 6));
    memcpy(at(guest, 256 + 4), &wrong[1], 4);
    REFUSED(SP_INVALID, CALL(guest, "session_pick", session, sampler, 256, 2));
    assert_int_equal(CALL(guest, "session_pick", session, sampler, 256, 1), SP_OK);
    assert_int_equal(last_job.kind, SPI_JOB_APPEND);
    assert_int_equal(last_job.token_count, 1);
    assert_int_equal(last_job.logits, SP_LOGITS_NONE);
    assert_non_null(last_job.sampler);
    spi_free(last_job.tokens);
    memcpy(at(guest, 256), tokens, sizeof tokens);
    /* A step of decoding: only while nobody else wants a turn. */
    assert_int_equal(CALL(guest, "session_truncate", session, 60), SP_OK);
    REFUSED(SP_BUSY, CALL(guest, "session_decode", session, sampler, 5));
    assert_int_equal(CALL(guest, "session_length", session), 60);
    guest->is_alone = true;
    REFUSED(SP_INVALID, CALL(guest, "session_decode", session, sampler, DOUBLE_VOCAB));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_decode", sampler, sampler, 5));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_decode", session, session, 5));
    memcpy(at(guest, (uint32_t)info.logits + 99 * 4), &high, 4);
    assert_int_equal(CALL(guest, "session_decode", session, sampler, 5), 99);
    assert_int_equal(CALL(guest, "session_length", session), 61);
    /* The likeliest is picked where it is computed, other picks are made by the sampler afterwards. */
    assert_int_equal(guest->pick_count, 1);
    const float warm = 0.5f;
    memcpy(at(guest, 2048), &warm, sizeof warm);
    uint32_t other = (uint32_t)CALL(guest, "sampler_create", 2048, sizeof warm);
    assert_int_equal(CALL(guest, "session_decode", session, other, 5), 99);
    assert_int_equal(guest->pick_count, 1);
    assert_int_equal(CALL(guest, "session_truncate", session, 61), SP_OK);
    assert_int_equal(CALL(guest, "sampler_destroy", other), SP_OK);
    guest->is_alone = false;
    /* Nothing is a valid thing to append. */
    assert_int_equal(CALL(guest, "session_append", session, 0xffffffff, 0, 0), SP_OK);
    double_finish(&last_job);
    /* Proposals: as many as there is room for, at most SP_LOOKUP_MAX; behind them nothing is touched. */
    memset(at(guest, 1024), 0x55, 64 * 4);
    assert_int_equal(CALL(guest, "session_lookup", session, 7, 1024, 3), 3);
    const int32_t proposed[] = {8, 9, 10, 0x55555555};
    assert_memory_equal(at(guest, 1024), proposed, sizeof proposed);
    assert_int_equal(CALL(guest, "session_lookup", session, 7, 1024, 64), SP_LOOKUP_MAX);
    assert_int_equal(*at(guest, 1024 + 4 * SP_LOOKUP_MAX), 0x55);
    assert_int_equal(CALL(guest, "session_lookup", session, 7, 0xffffffff, 0), 0);
    REFUSED(SP_INVALID, CALL(guest, "session_lookup", session, (uint32_t)-1, 1024, 3));
    REFUSED(SP_INVALID, CALL(guest, "session_lookup", session, DOUBLE_VOCAB, 1024, 3));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_lookup", session, 7, 0xfffffff0, 64));
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_lookup", sampler, 7, 1024, 3));
    /* Keys and values that the guest wrote: inside of its session's. */
    REFUSED(SP_BAD_HANDLE, CALL(guest, "session_edited", sampler, 0, 1));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_edited", session, 0, (uint32_t)info.kv_bytes + 1));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_edited", session, (uint32_t)info.kv_bytes, 1));
    REFUSED(SP_BAD_POINTER, CALL(guest, "session_edited", session, 0xffffffff, 0xffffffff));
    assert_int_equal(CALL(guest, "session_edited", session, 100, (uint32_t)info.kv_bytes - 100), SP_OK);
    assert_int_equal(last_job.kind, SPI_JOB_EDITED);
    assert_int_equal(last_job.edited_offset, 100);
    assert_int_equal(last_job.edited_bytes, info.kv_bytes - 100);
    REFUSED(SP_INVALID, CALL(guest, "session_truncate", session, 62));
    assert_int_equal(CALL(guest, "session_truncate", session, 10), SP_OK);
    assert_int_equal(CALL(guest, "session_length", session), 10);
}

static void test_messages(void **state) {
    sp_guest *guest = *state;
    char text[SP_ERROR_MESSAGE_BYTES];
    assert_int_equal(CALL(guest, "error_message", 0, 100), 0);
    REFUSED(SP_NOT_FOUND, CALL(guest, "model_name", 1, 0, 0));
    int64_t length = CALL(guest, "error_message", 0, sizeof text);
    memcpy(text, at(guest, 0), sizeof text);
    assert_string_equal(text, "model_name: there is no model 1");
    assert_int_equal(length, strlen(text));
    /* Cut where there is no room, and the whole length all the same. */
    memset(at(guest, 0), 0x55, 32);
    assert_int_equal(CALL(guest, "error_message", 0, 5), length);
    assert_memory_equal(at(guest, 0), "model\x55", 6);
    /* Success leaves it there; a job's failure replaces it. */
    assert_int_equal(CALL0(guest, "model_count"), 1);
    assert_int_equal(CALL(guest, "error_message", 0, 0), length);
    spi_host_job_done(guest, SP_OK, NULL);
    assert_int_equal(CALL(guest, "error_message", 0, 0), length);
    sp_error lost = {SP_DEVICE_LOST, "the card fell out"};
    spi_host_job_done(guest, SP_DEVICE_LOST, &lost);
    assert_int_equal(CALL(guest, "error_message", 0, 0), strlen(lost.message));
    spi_host_job_done(guest, SP_CANCELLED, NULL);
    assert_true(CALL(guest, "error_message", 0, 0) > 0);
    assert_int_equal(spi_host_error(guest)->status, SP_CANCELLED);
}

static void test_structs(void **state) {
    sp_guest *guest = *state;
    guest->counters = (sp_guest_counters){.host_calls = 0x1122334455667788, .slices = 7};
    /* An older guest knows less, a newer one more: both get what there is, and nothing behind it is touched. */
    memset(at(guest, 0), 0x55, 128);
    assert_int_equal(CALL(guest, "counters", 0, 8), SP_OK);
    assert_int_equal(*(uint64_t *)(void *)at(guest, 0), guest->counters.host_calls);
    assert_int_equal(*at(guest, 8), 0x55);
    assert_int_equal(CALL(guest, "counters", 0, 128), SP_OK);
    assert_int_equal(*at(guest, 56), 7);
    assert_int_equal(*at(guest, 72), 0x55);
    assert_int_equal(CALL(guest, "counters", 0, 0), SP_OK);
    /* Sampler's options in the same way. */
    assert_true(CALL(guest, "sampler_create", 256, 0) > 0);
    assert_true(CALL(guest, "sampler_create", 256, 4) > 0);
    assert_true(CALL(guest, "sampler_create", 256, 64) > 0);
    *at(guest, 256 + 60) = 1;
    REFUSED(SP_UNSUPPORTED, CALL(guest, "sampler_create", 256, 64));
    assert_true(CALL(guest, "sampler_create", 256, 60) > 0);
    *at(guest, 256 + 40) = 1;
    REFUSED(SP_UNSUPPORTED, CALL(guest, "sampler_create", 256, 48));
    float temperature = -1;
    memcpy(at(guest, 512), &temperature, 4);
    REFUSED(SP_INVALID, CALL(guest, "sampler_create", 512, 48));
}

static void test_texts(void **state) {
    sp_guest *guest = *state;
    memcpy(at(guest, 0), "toy", 3);
    uint32_t model = (uint32_t)CALL(guest, "model_open", 0, 3);
    assert_true((int32_t)model > 0);
    REFUSED(SP_NOT_FOUND, CALL(guest, "model_open", 0, 2));
    REFUSED(SP_INVALID, CALL(guest, "model_open", 0, 4));
    REFUSED(SP_LIMIT, CALL(guest, "model_open", 0, 256));
    assert_int_equal(CALL(guest, "model_name", 0, 100, 2), 3);
    assert_memory_equal(at(guest, 100), "to\0", 3);
    /* Metadata is there whole or not at all. */
    memcpy(at(guest, 0), "color", 5);
    assert_int_equal(CALL(guest, "model_metadata", model, 0, 5, 200, 3), 4);
    assert_int_equal(*at(guest, 200), 0);
    assert_int_equal(CALL(guest, "model_metadata", model, 0, 5, 200, 4), 4);
    assert_memory_equal(at(guest, 200), "blue", 4);
    REFUSED(SP_NOT_FOUND, CALL(guest, "model_metadata", model, 0, 4, 200, 4));
    /* Tokens. */
    memcpy(at(guest, 0), "a#b", 3);
    assert_int_equal(CALL(guest, "tokenize", model, 0, 3, 0, 0, 0), 3);
    assert_int_equal(CALL(guest, "tokenize", model, 0, 3, 2, 400, 3), 3);
    assert_memory_equal(at(guest, 400), ((int32_t[]){'a', 0, 'b'}), 12);
    assert_int_equal(CALL(guest, "detokenize", model, 400, 3, 0, 500, 3), 3);
    assert_memory_equal(at(guest, 500), "a\0b", 3);
    REFUSED(SP_INVALID, CALL(guest, "tokenize", model, 0, 3, 4, 0, 0));
    REFUSED(SP_INVALID, CALL(guest, "detokenize", model, 0, 3, 2, 0, 0));
    memset(at(guest, 600), 0xff, 4);
    REFUSED(SP_INVALID, CALL(guest, "detokenize", model, 600, 1, 0, 0, 0));
    assert_int_equal(CALL(guest, "token_find", model, 0, 1), 'a');
    REFUSED(SP_NOT_FOUND, CALL(guest, "token_find", model, 0, 2));
    REFUSED(SP_NOT_FOUND, CALL(guest, "token_bos", model));
    assert_int_equal(CALL(guest, "token_eos", model), 0);
    assert_int_equal(CALL(guest, "token_is_end", model, 0), 1);
    assert_int_equal(CALL(guest, "token_is_end", model, (uint32_t)-5), 0);
    /* Too much at once. */
    TEST_OK(sp_region_grow(guest->region, 8u << 20, NULL), *spi_host_error(guest));
    assert_int_equal(CALL(guest, "tokenize", model, 0, 1u << 20, 0, 0, 0), 1 << 20);
    REFUSED(SP_LIMIT, CALL(guest, "tokenize", model, 0, (1u << 20) + 1, 0, 0, 0));
    REFUSED(SP_LIMIT, CALL(guest, "detokenize", model, 0, (1u << 20) + 1, 0, 0, 0));
    uint32_t sampler = (uint32_t)CALL(guest, "sampler_create", 0, 0);
    REFUSED(SP_LIMIT, CALL(guest, "sampler_pick", sampler, 0, (1u << 20) + 1));
    REFUSED(SP_INVALID, CALL(guest, "sampler_pick", sampler, 0, 0));
    REFUSED(SP_INVALID, CALL(guest, "sampler_accept", sampler, (uint32_t)-1));
    /* A model without a tokenizer says so. */
    guest->model->has_tokenizer = false;
    REFUSED(SP_UNSUPPORTED, CALL(guest, "tokenize", model, 0, 3, 0, 0, 0));
    REFUSED(SP_UNSUPPORTED, CALL(guest, "token_eos", model));
    guest->model->has_tokenizer = true;
}

static void test_matmul(void **state) {
    sp_guest *guest = *state;
    assert_int_equal(CALL(guest, "matmul", 0, 4096, 8192, 4, 8, 16, 0), SP_OK);
    assert_int_equal(last_job.kind, SPI_JOB_MATMUL);
    assert_int_equal(last_job.matmul.m, 4);
    assert_int_equal(last_job.matmul.n, 8);
    assert_int_equal(last_job.matmul.k, 16);
    assert_int_equal(last_job.matmul.b_offset, 4096);
    assert_int_equal(last_job.matmul.c_offset, 8192);
    /* 1 MiB is 512 x 512 f32 exactly, so one more row is too much, and f16 is half of it. */
    assert_int_equal(CALL(guest, "matmul", 0, 0, 0, 512, 1, 512, 0), SP_OK);
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 0, 0, 0, 513, 1, 512, 0));
    assert_int_equal(CALL(guest, "matmul", 0, 0, 0, 1024, 1, 512, 1), SP_OK);
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 16, 0, 0, 512, 1, 512, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 0, MEMORY_BYTES, 0, 1, 1, 1, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 0, 0, MEMORY_BYTES - 16, 1, 5, 1, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 8, 0, 0, 1, 1, 1, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 0xfffffff0, 0, 0, 4, 4, 4, 0));
    REFUSED(SP_INVALID, CALL(guest, "matmul", 0, 64, 128, 0, 1, 1, 0));
    REFUSED(SP_INVALID, CALL(guest, "matmul", 0, 64, 128, 1, 1, 1, 2));
    REFUSED(SP_INVALID, CALL(guest, "matmul", 0, 64, 128, 1, 1, 1, 0xffffffff));
    REFUSED(SP_LIMIT, CALL(guest, "matmul", 0, 64, 128, 0xffffffff, 0xffffffff, 0xffffffff, 0));
    REFUSED(SP_LIMIT, CALL(guest, "matmul", 0, 64, 128, 0x80000000, 0x80000000, 4, 0));
    REFUSED(SP_BAD_POINTER, CALL(guest, "matmul", 0, 64, 128, 4096, 4096, 4096, 0));
}

static void test_small_things(void **state) {
    sp_guest *guest = *state;
    assert_int_equal(CALL0(guest, "abi_version"), 1);
    assert_int_equal(CALL0(guest, "interrupted"), 0);
    guest->interrupted = true;
    assert_int_equal(CALL0(guest, "interrupted"), 1);
    assert_int_equal(CALL0(guest, "interrupted"), 0);
    int64_t then = CALL0(guest, "clock_ns");
    assert_true(then > 0 && CALL0(guest, "clock_ns") >= then);
    assert_int_equal(CALL(guest, "device_name", 0, 32), 6);
    assert_memory_equal(at(guest, 0), "double", 6);
    assert_int_equal(CALL0(guest, "device_link"), SP_LINK_MAPPED);
    guest->model = NULL;
    assert_int_equal(CALL0(guest, "model_count"), 0);
    REFUSED(SP_NOT_FOUND, CALL(guest, "model_open", 0, 0));
}

/* Numbers that a hostile guest would try first. */
static uint32_t nasty(test_random *random, const uint32_t *handles, uint32_t handle_count, uint32_t size) {
    const uint32_t sizes[] = {0, 1, 2, 3, 4, 7, 16, 64, 255, 256, 4096, 65535, 65536};
    switch (test_random_below(random, 8)) {
    case 0: return handles[test_random_below(random, handle_count)];
    case 1: return size - sizes[test_random_below(random, 13)];
    case 2: return size + sizes[test_random_below(random, 13)];
    case 3: return (uint32_t)-1 - sizes[test_random_below(random, 13)];
    case 4: return 1u << test_random_below(random, 32);
    case 5: return (uint32_t)test_random_next(random);
    default: return sizes[test_random_below(random, 13)];
    }
}

/* Any import with anything: nothing may fault (there are guard pages behind the memory) or leak, and what is negative
 * is a status that there is. */
static void test_anything(void **state) {
    sp_guest *guest = *state;
    test_random random = test_random_seed(test_seed());
    uint32_t handles[32] = {(uint32_t)CALL(guest, "model_open", 0, 0)};
    uint32_t handle_count = 1, succeeded = 0;
    for (int round = 0; round < 200000; round++) {
        const spi_import *import = &spi_imports[test_random_below(&random, spi_import_count)];
        uint32_t arguments[16], count = (uint32_t)strlen(import->parameters);
        uint32_t size = (uint32_t)sp_region_size_bytes(guest->region);
        for (uint32_t i = 0; i < count; i++) {
            arguments[i] = nasty(&random, handles, handle_count, size);
        }
        int64_t result = call_row(guest, import, arguments, count);
        assert_true(result >= SP_INTERNAL);
        succeeded += result >= 0;
        if (result >= 0 && import->is_async && last_job.kind == SPI_JOB_APPEND) {
            double_finish(&last_job);
        }
        if (result > 0 && (strstr(import->name, "_create") || !strcmp(import->name, "model_open"))) {
            handles[handle_count < 32 ? handle_count++ : test_random_below(&random, 32)] = (uint32_t)result;
        }
    }
    assert_true(succeeded > 20000); /* or it would only have tested the first check */
}

/* Every allocation fails once: a status, and nothing is lost. */
/* ---- actors ---- */

static sp_guest_message letter;
static char replied[64], sent_to[SPI_NAME_BYTES];
static int64_t alarm_ms;

static const char *mail_self(void *env) {
    (void)env;
    return "ada";
}

static const sp_guest_message *mail_current(void *env) {
    return *(bool *)env ? &letter : NULL;
}

static sp_status mail_reply(void *env, const char *text, uint32_t bytes, sp_error *error) {
    (void)env;
    (void)error;
    snprintf(replied, sizeof replied, "%.*s", (int)bytes, text);
    return SP_OK;
}

static sp_status mail_send(void *env, const char *name, const char *text, uint32_t bytes, uint64_t *id,
                           sp_error *error) {
    (void)env;
    (void)text;
    if (bytes > 100) {
        return spi_fail(error, SP_LIMIT, "too much for this test");
    }
    snprintf(sent_to, sizeof sent_to, "%s", name);
    *id = 5000000000; /* more than 32 bits hold */
    return SP_OK;
}

static sp_status mail_sleep_until(void *env, int64_t time_ms, const char *note, uint32_t bytes, sp_error *error) {
    (void)env;
    (void)note;
    (void)bytes;
    (void)error;
    alarm_ms = time_ms;
    return SP_OK;
}

static int64_t mail_time_ms(void *env) {
    (void)env;
    return 1234567890123;
}

static void test_actors(void **state) {
    static const sp_guest_mail mail = {mail_self, mail_current, mail_reply, mail_send, mail_sleep_until, mail_time_ms};
    sp_guest *guest = *state;
    bool has_message = false;
    REFUSED(SP_UNSUPPORTED, CALL(guest, "actor_self", 0, 8));
    REFUSED(SP_UNSUPPORTED, CALL(guest, "actor_reply", 0, 8));
    REFUSED(SP_UNSUPPORTED, CALL0(guest, "actor_time_ms"));
    guest->mail = &mail;
    guest->mail_env = &has_message;
    assert_int_equal(CALL(guest, "actor_self", 64, 8), 3);
    assert_memory_equal(at(guest, 64), "ada", 4);
    assert_int_equal(CALL0(guest, "actor_time_ms"), 1234567890123);
    REFUSED(SP_INVALID, CALL(guest, "actor_message", 0, 48)); /* between messages */
    REFUSED(SP_INVALID, CALL(guest, "actor_send", 0, 3, 0, 4));
    has_message = true;
    letter = (sp_guest_message){
        .id = 7, .time_ms = 9, .kind = 1, .attempt = 2, .text = "hello", .sender = "bob", .text_bytes = 5};
    spi_abi_actor_message facts;
    assert_int_equal(CALL(guest, "actor_message", 128, sizeof facts), SP_OK);
    memcpy(&facts, at(guest, 128), sizeof facts);
    assert_true(facts.id == 7 && facts.bytes == 5 && facts.sender_bytes == 3 && facts.attempt == 2);
    assert_int_equal(CALL(guest, "actor_read", 1, 256, 100), 4);
    assert_memory_equal(at(guest, 256), "ello", 5);
    assert_int_equal(CALL(guest, "actor_read", 5, 256, 100), 0);
    REFUSED(SP_INVALID, CALL(guest, "actor_read", 6, 256, 100));
    REFUSED(SP_BAD_POINTER, CALL(guest, "actor_read", 0, MEMORY_BYTES - 1, 2));
    assert_int_equal(CALL(guest, "actor_sender", 300, 2), 3); /* cut, and its whole length told */
    assert_memory_equal(at(guest, 300), "bo", 3);
    assert_int_equal(CALL(guest, "actor_reply", 256, 4), SP_OK);
    assert_string_equal(replied, "ello");
    REFUSED(SP_BAD_POINTER, CALL(guest, "actor_reply", 8, 0xffffffff));
    assert_int_equal(CALL(guest, "actor_send", 64, 3, 256, 4), 5000000000);
    assert_string_equal(sent_to, "ada");
    REFUSED(SP_LIMIT, CALL(guest, "actor_send", 64, 3, 256, 101));
    memset(at(guest, 1024), 'x', 65);
    REFUSED(SP_NOT_FOUND, CALL(guest, "actor_send", 1024, 65, 256, 4)); /* nobody has so long a name */
    REFUSED(SP_LIMIT, CALL(guest, "actor_send", 64, 256, 256, 4));
    REFUSED(SP_BAD_POINTER, CALL(guest, "actor_sleep_until", 0, 0x7fffffff, 0x7fffffff));
    assert_int_equal(CALL(guest, "actor_sleep_until", 77, 256, 4), SP_OK);
    assert_int_equal(alarm_ms, 77);
}

static void test_no_memory(void **state) {
    (void)state;
    for (long fail_at = 0; fail_at < 12; fail_at++) {
        sp_guest *guest = double_guest_create(MEMORY_BYTES);
        spi_memory_fail_after(fail_at);
        int64_t model = CALL(guest, "model_open", 0, 0), session = -1;
        if (model > 0) {
            session = CALL(guest, "session_create", (uint32_t)model, 64, 1);
            CALL(guest, "sampler_create", 0, 0);
            assert_true(CALL(guest, "tokenize", (uint32_t)model, 0, 8, 0, 64, 8) != SP_BAD_POINTER);
        }
        if (session > 0 && CALL(guest, "session_append", (uint32_t)session, 64, 2, 0) == SP_OK) {
            double_finish(&last_job);
        }
        spi_memory_fail_after(-1);
        assert_int_equal(guest->range_count, session > 0);
        double_guest_destroy(guest);
        assert_int_equal(double_session_count, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test_setup_teardown(test_pointers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handle_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_append, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_structs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_matmul, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_things, setup, teardown),
        cmocka_unit_test_setup_teardown(test_anything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_actors, setup, teardown),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
