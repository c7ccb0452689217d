/* tests/support/support.c - see support.h. */
#include "support/support.h"
#include "support/kv_type.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
/* Mesa's software driver keeps memory for as long as it is loaded, and the Vulkan loader unloads it with the last
 * device: a leak then, in a module that has no name any more. It stays loaded instead; where there is none, nothing
 * happens. */
__attribute__((constructor)) static void keep_driver(void) {
    (void)dlopen("libvulkan_lvp.so", RTLD_LAZY | RTLD_NODELETE);
}
#endif

test_random test_random_seed(uint64_t seed) {
    return (test_random){.state = seed * 0x9e3779b97f4a7c15u + 1};
}

uint64_t test_random_next(test_random *random) {
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * 0x2545f4914f6cdd1du;
}

uint32_t test_random_below(test_random *random, uint32_t limit) {
    return (uint32_t)((test_random_next(random) >> 32) * limit >> 32);
}

float test_random_float(test_random *random) {
    return (float)((double)(test_random_next(random) >> 11) * 0x1p-52 - 1.0);
}

uint64_t test_seed(void) {
    const char *text = getenv("SAMEPAGE_TEST_SEED");
    return text ? strtoull(text, NULL, 0) : 20261123;
}

sp_kv_type test_kv_type(void) {
    const char *text = getenv("SAMEPAGE_TEST_KV");
    return text && !strcmp(text, sp_kv_type_name(SP_KV_Q8_0)) ? SP_KV_Q8_0 : SP_KV_F16;
}

uint32_t test_stride(uint32_t usual) {
    const char *text = getenv("SAMEPAGE_TEST_STRIDE");
    uint32_t wanted = text ? (uint32_t)strtoul(text, NULL, 10) : 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    usual = usual > TEST_STRIDE_SLOW ? usual : TEST_STRIDE_SLOW;
#endif
#if defined(__SANITIZE_THREAD__)
    usual *= 2; /* threads meet in the same ways in every case */
#endif
    return wanted ? wanted : usual;
}

static const char *path_below(const char *variable, const char *relative) {
    static char paths[8][1024];
    static unsigned turn;
    const char *root = getenv(variable);
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root ? root : ".", relative);
    return path;
}

const char *test_source_path(const char *relative) {
    return path_below("SAMEPAGE_SOURCE_DIR", relative);
}

const char *test_build_path(const char *relative) {
    return path_below("SAMEPAGE_BUILD_DIR", relative);
}

void test_ok(sp_status status, const sp_error *error, const char *file, int line) {
    if (status != SP_OK) {
        print_error("%s: %s\n", sp_status_text(status), error ? error->message : "");
        _fail(file, line);
    }
}
