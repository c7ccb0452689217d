/* tests/unit/test_region.c - regions: sizes, faults behind them, growth under watchers, failures that leave all as it
 * was. */
#include "support/support.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "device/backend.h"
#include "os/vm.h"
#include "region/region.h"

#define MIB ((size_t)1 << 20)

/* True if touching the byte kills a child process. */
static bool faults(volatile uint8_t *byte, bool write) {
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (write) {
            *byte = 1;
        }
        _exit(*byte == 77 ? 2 : 0);
    }
    int state;
    assert_int_equal(waitpid(child, &state, 0), child);
    return WIFSIGNALED(state) || (WIFEXITED(state) && WEXITSTATUS(state) == 1);
}

static sp_region *make(size_t reserve, size_t size, sp_backing backing) {
    sp_error error = {0};
    sp_region *region;
    sp_region_options options = {.reserve_bytes = reserve, .size_bytes = size, .guard_bytes = MIB, .backing = backing};
    TEST_OK(sp_region_create(&options, &region, &error), error);
    return region;
}

static void sizes_are_exact_and_faults_lie_behind(void **state) {
    (void)state;
    for (sp_backing backing = SP_BACKING_ANONYMOUS; backing <= SP_BACKING_SHAREABLE; backing++) {
        sp_region *region = make(64 * MIB, 65536, backing);
        uint8_t *base = sp_region_base(region);
        assert_int_equal((uintptr_t)base % SP_REGION_ALIGN_BYTES, 0);
        assert_int_equal(sp_region_size_bytes(region), 65536);
        assert_int_equal(sp_region_committed_bytes(region), 2 * MIB);
        assert_int_equal(sp_region_reserved_bytes(region), 64 * MIB);
        assert_false(faults(base + 65535, true));
        assert_true(faults(base + 65536, false));
        assert_true(faults(base + 2 * MIB - 1, true));
        assert_true(faults(base + 64 * MIB, false));
        sp_region_destroy(region);
    }
}

static void growth_keeps_base_and_bytes(void **state) {
    (void)state;
    sp_error error = {0};
    for (sp_backing backing = SP_BACKING_ANONYMOUS; backing <= SP_BACKING_SHAREABLE; backing++) {
        sp_region *region = make(64 * MIB, 4096, backing);
        uint8_t *base = sp_region_base(region);
        memset(base, 0xab, 4096);
        size_t before = sp_region_committed_bytes(region), steps = 0;
        for (size_t size = 65536; size <= 40 * MIB; size += 65536) {
            TEST_OK(sp_region_grow(region, size, &error), error);
            assert_ptr_equal(sp_region_base(region), base);
            assert_int_equal(sp_region_size_bytes(region), size);
            assert_int_equal(base[size - 1], 0);
            base[size - 1] = (uint8_t)size;
            steps += sp_region_committed_bytes(region) != before;
            before = sp_region_committed_bytes(region);
        }
        assert_in_range(steps, 1, 16); /* 640 growths, committed in a few large steps */
        for (size_t i = 0; i < 4096; i++) {
            assert_int_equal(base[i], 0xab);
        }
        assert_true(faults(base + sp_region_size_bytes(region), false));
        TEST_OK(sp_region_grow(region, 1, &error), error); /* less than there is: nothing happens */
        sp_region_destroy(region);
    }
}

static void bad_requests_are_refused(void **state) {
    (void)state;
    sp_error error = {0};
    sp_region *region = (sp_region *)&error;
    sp_region_options options = {.reserve_bytes = MIB, .size_bytes = 2 * MIB};
    assert_int_equal(sp_region_create(&options, &region, &error), SP_INVALID);
    assert_null(region);
    assert_true(strlen(error.message) > 0);
    options = (sp_region_options){.reserve_bytes = SIZE_MAX / 8};
    assert_int_equal(sp_region_create(&options, &region, &error), SP_NO_ADDRESS_SPACE);
    options = (sp_region_options){.reserve_bytes = SIZE_MAX};
    assert_int_equal(sp_region_create(&options, &region, NULL), SP_INVALID);
    region = make(4 * MIB, MIB, SP_BACKING_ANONYMOUS);
    assert_int_equal(sp_region_grow(region, 4 * MIB + 1, &error), SP_LIMIT);
    assert_int_equal(sp_region_size_bytes(region), MIB);
    TEST_OK(sp_region_grow(region, 4 * MIB, &error), error);
    sp_region_destroy(region);
    sp_region_destroy(NULL);
}

typedef struct watch_log {
    int calls;
    bool refuse;
    size_t committed;
} watch_log;

static sp_status on_committed(void *env, sp_region *region, sp_error *error) {
    (void)error;
    watch_log *log = env;
    log->calls++;
    log->committed = sp_region_committed_bytes(region);
    assert_true(spi_vm_has_access(sp_region_base(region), log->committed, true));
    return log->refuse ? SP_LINK_REFUSED : SP_OK;
}

static void watchers_hear_of_commitment_only(void **state) {
    (void)state;
    sp_error error = {0};
    watch_log log = {0};
    sp_region *region = make(64 * MIB, 65536, SP_BACKING_ANONYMOUS);
    spi_region_watcher watcher = {.committed = on_committed, .env = &log};
    spi_region_watch(region, &watcher);
    TEST_OK(sp_region_grow(region, 2 * MIB, &error), error);
    assert_int_equal(log.calls, 0);
    TEST_OK(sp_region_grow(region, 2 * MIB + 1, &error), error);
    assert_int_equal(log.calls, 1);
    assert_int_equal(log.committed, 4 * MIB);
    assert_true(faults(sp_region_base(region) + sp_region_size_bytes(region), false));
    log.refuse = true;
    size_t size = sp_region_size_bytes(region);
    assert_int_equal(sp_region_grow(region, 9 * MIB, &error), SP_LINK_REFUSED);
    assert_int_equal(sp_region_size_bytes(region), size);
    assert_true(faults(sp_region_base(region) + size, false));
    int calls = log.calls;
    log.refuse = false;
    TEST_OK(sp_region_grow(region, 9 * MIB, &error), error);
    assert_int_equal(log.calls, calls + 1); /* what was refused once is not used before it was taken */
    spi_region_unwatch(region, &watcher);
    assert_false(spi_region_is_watched(region));
    sp_region_destroy(region);
}

static void no_memory_at_any_place_is_clean(void **state) {
    (void)state;
    sp_region *region;
    sp_region_options options = {.reserve_bytes = 8 * MIB, .size_bytes = MIB};
    long failures = 0;
    for (long i = 0; i < 100; i++) {
        spi_memory_fail_after(i);
        sp_status status = sp_region_create(&options, &region, NULL);
        spi_memory_fail_after(-1);
        if (status == SP_OK) {
            sp_region_destroy(region);
            break;
        }
        assert_int_equal(status, SP_NO_MEMORY);
        assert_null(region);
        failures++;
    }
    assert_in_range(failures, 1, 99);
}

/* A device that cannot take a region again that has changed pages says so, is looked at without harm, and takes it when
 * it grows. */
static void a_lost_link_is_made_again(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    sp_device_counters counters;
    const sp_device_options options = {.thread_count = 1};
    const spi_region_piece zeros = {.bytes = spi_vm_page_bytes(), .file = -1};
    TEST_OK(sp_device_open("cpu", &options, &device, &error), error);
    sp_region *region = make(64 * MIB, MIB, SP_BACKING_ANONYMOUS);
    TEST_OK(sp_device_link(device, region, &error), error);
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.linked_bytes, sp_region_committed_bytes(region));
    spi_memory_fail_after(0);
    assert_int_equal(spi_region_remap(region, &zeros, 1, &error), SP_NO_MEMORY);
    spi_memory_fail_after(-1);
    assert_null(spi_device_find_link(device, region));
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.linked_bytes, 0);
    assert_int_equal(spi_device_host_wrote(device, region, 0, 64, &error), SP_OK); /* the same bytes: nothing to tell */
    TEST_OK(sp_region_grow(region, 3 * MIB, &error), error);
    assert_non_null(spi_device_find_link(device, region));
    sp_device_get_counters(device, &counters);
    assert_int_equal(counters.linked_bytes, sp_region_committed_bytes(region));
    sp_device_unlink(device, region);
    sp_region_destroy(region);
    sp_device_close(device);
}

/* So does who asks for the link once more. */
static void a_lost_link_is_asked_for_again(void **state) {
    (void)state;
    sp_error error = {0};
    sp_device *device;
    const sp_device_options options = {.thread_count = 1};
    const spi_region_piece zeros = {.bytes = spi_vm_page_bytes(), .file = -1};
    TEST_OK(sp_device_open("cpu", &options, &device, &error), error);
    sp_region *region = make(64 * MIB, MIB, SP_BACKING_ANONYMOUS);
    TEST_OK(sp_device_link(device, region, &error), error);
    spi_memory_fail_after(0);
    assert_int_equal(spi_region_remap(region, &zeros, 1, &error), SP_NO_MEMORY);
    spi_memory_fail_after(0);
    assert_int_equal(sp_device_link(device, region, &error), SP_NO_MEMORY);
    spi_memory_fail_after(-1);
    assert_null(spi_device_find_link(device, region));
    TEST_OK(sp_device_link(device, region, &error), error);
    assert_non_null(spi_device_find_link(device, region));
    sp_device_unlink(device, region);
    assert_non_null(spi_device_find_link(device, region)); /* the first one's */
    sp_device_unlink(device, region);
    assert_null(spi_device_find_link(device, region));
    sp_region_destroy(region);
    sp_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_exact_and_faults_lie_behind),
        cmocka_unit_test(growth_keeps_base_and_bytes),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(watchers_hear_of_commitment_only),
        cmocka_unit_test(no_memory_at_any_place_is_clean),
        cmocka_unit_test(a_lost_link_is_made_again),
        cmocka_unit_test(a_lost_link_is_asked_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
