/* Which Wasmtime was found: another one is refused with its version, before anything relies on it.
 *
 * The right one is known by a symbol; any other by what it compiles. This program has a wasmtime_module_serialize of
 * its own in front of the library's, and so can play another version. */
#include <dlfcn.h>
#include <string.h>

#include "support/guests.h"

static int serialized_count;
static const char *true_symbol;
static const char *played; /* the version that artifacts say, NULL: the true one; "": no artifact at all */

wasmtime_error_t *wasmtime_module_serialize(const wasmtime_module_t *module, wasm_byte_vec_t *artifact) {
    wasmtime_error_t *(*real)(const wasmtime_module_t *, wasm_byte_vec_t *);
    void *symbol = dlsym(RTLD_NEXT, "wasmtime_module_serialize");
    memcpy(&real, &symbol, sizeof real);
    wasmtime_error_t *failure = real(module, artifact);
    serialized_count++;
    if (failure || !played) {
        return failure;
    }
    char *version = memmem(artifact->data, artifact->size, "\2" SPI_WASMTIME_MAJOR, 3);
    assert_non_null(version);
    if (!played[0]) {
        memset(artifact->data, 0, artifact->size);
    } else {
        memcpy(version + 1, played, 2);
    }
    return NULL;
}

static int forget_the_symbol(void **state) {
    (void)state;
    true_symbol = spi_config_version_symbol;
    spi_config_version_symbol = "resolve_vmctx_memory_ptr_0_0_0";
    return 0;
}

static int remember_the_symbol(void **state) {
    (void)state;
    spi_config_version_symbol = true_symbol;
    played = NULL;
    return 0;
}

static void expect_refused(const char *version, const char *told) {
    sp_engine *engine;
    sp_error error = {0};
    played = version;
    assert_int_equal(sp_engine_create(NULL, &engine, &error), SP_UNSUPPORTED);
    assert_null(engine);
    assert_non_null(strstr(error.message, told));
    assert_non_null(strstr(error.message, "samepage was built for " SPI_WASMTIME_VERSION));
    assert_non_null(strstr(error.message, "libwasmtime"));
    assert_non_null(strstr(error.message, "tools/bootstrap.sh"));
}

static void others_are_refused(void **state) {
    (void)state;
    expect_refused("47", "is of version 47,");
    expect_refused("49", "is of version 49,");
    expect_refused("4x", "is of version 4x,");
    expect_refused("", "is of version unknown,");
}

static void the_right_one_is_taken(void **state) {
    (void)state;
    serialized_count = 0;
    sp_engine_destroy(test_engine(NULL));
    assert_int_equal(serialized_count, 0); /* nothing had to be compiled to find out */
}

static void another_patch_release_is_taken(void **state) {
    (void)state;
    serialized_count = 0;
    sp_engine_destroy(test_engine(NULL));
    assert_int_equal(serialized_count, 1);
}

static void keys_differ_by_variant(void **state) {
    (void)state;
    assert_true(spi_config_key(SPI_PLAIN) != 0);
    assert_true(spi_config_key(SPI_METERED) != 0);
    assert_true(spi_config_key(SPI_PLAIN) != spi_config_key(SPI_METERED));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(others_are_refused, forget_the_symbol, remember_the_symbol),
        cmocka_unit_test_setup_teardown(another_patch_release_is_taken, forget_the_symbol, remember_the_symbol),
        cmocka_unit_test(the_right_one_is_taken),
        cmocka_unit_test(keys_differ_by_variant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
