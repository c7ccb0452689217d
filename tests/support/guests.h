/* tests/support/guests.h - making guests in tests: modules from text, an engine with imports of its own. */
#ifndef SPI_TESTS_SUPPORT_GUESTS_H
#define SPI_TESTS_SUPPORT_GUESTS_H

#include "guest/guest.h"
#include "support/support.h"

/* An engine with no cache on disk that compiles in this process. hooks may be NULL: those of sp_engine_create. */
sp_engine *test_engine(const spi_engine_hooks *hooks);
sp_engine *test_engine_with(const spi_engine_hooks *hooks, uint32_t slice_ms);

/* To be called after an engine was made in another way: cmocka takes the signals that traps are. */
void test_guest_signals(void);

/* A module from WebAssembly text; asserts that it opens. */
sp_module *test_module(sp_engine *engine, const char *text);

/* The bytes that a text stands for; to be freed with wasm_byte_vec_delete. */
wasm_byte_vec_t test_wasm(const char *text);

/* A guest of a module that is opened for it alone; test_guest_end destroys both. */
sp_guest *test_guest(sp_engine *engine, const char *text, const sp_guest_options *options);
void test_guest_end(sp_guest *guest);

/* Starts, runs until it is over (asserts that this takes less than 20 s) and gives the state. */
sp_guest_state test_call(sp_guest *guest, const char *function, const int64_t *arguments, uint32_t argument_count);

/* The result of a call with at most one argument that must return. */
int64_t test_result(sp_guest *guest, const char *function, int64_t argument, uint32_t argument_count);

/* Asserts FAILED, the status, and that the message has this in it and is one line. */
void test_failed(const sp_guest *guest, sp_status status, const char *part);

/* A new empty folder below the temporary one, and its removal with all that is in it. */
void test_folder_create(char path[64]);
void test_folder_remove(const char *path);

/* Collects what a guest prints. */
typedef struct test_output {
    char text[4096];
    size_t bytes;
} test_output;
void test_output_write(void *env, const void *bytes, size_t byte_count);

#endif
