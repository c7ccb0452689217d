/* tests/unit/test_faults.c - written pages found by faults: every one, once, from any thread; faults of others' pages reach
 * who was there before. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "os/faults.h"
#include "os/thread.h"
#include "os/vm.h"
#include "support/support.h"

#define PAGES   2000u /* of 4 KiB: more than three chunks */
#define THREADS 4u

static sigjmp_buf back;
static volatile sig_atomic_t others;

/* Stands in for Wasmtime's. */
static void other_handler(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    (void)context;
    others = others + 1;
    siglongjmp(back, 1);
}

typedef struct seen {
    uint8_t *base;
    size_t page_bytes;
    uint8_t told[PAGES];
} seen;

static void on_written(void *env, uint8_t *from, size_t bytes) {
    seen *all = env;
    size_t first = (size_t)(from - all->base) / all->page_bytes;
    assert_int_equal(bytes % all->page_bytes, 0);
    for (size_t i = 0; i < bytes / all->page_bytes; i++) {
        assert_true(first + i < PAGES);
        all->told[first + i]++;
    }
}

/* A range that begins in the middle of a chunk. */
static uint8_t *map_pages(size_t page_bytes, void **mapping, size_t *mapping_bytes) {
    void *base;
    assert_int_equal(spi_vm_reserve((PAGES + 2) * page_bytes, (size_t)2 << 20, &base, mapping, mapping_bytes), SP_OK);
    assert_int_equal(spi_vm_commit(base, (PAGES + 2) * page_bytes, false), SP_OK);
    return (uint8_t *)base + page_bytes;
}

static void take(spi_faults *faults, seen *all) {
    memset(all->told, 0, sizeof all->told);
    assert_int_equal(spi_faults_take(faults, all->base, PAGES * all->page_bytes, on_written, all), SP_OK);
}

static void written_pages_are_told_once(void **state) {
    (void)state;
    seen all = {.page_bytes = spi_vm_page_bytes()};
    void *mapping;
    size_t mapping_bytes;
    spi_faults *faults;
    all.base = map_pages(all.page_bytes, &mapping, &mapping_bytes);
    assert_int_equal(spi_faults_create(&faults), SP_OK);
    assert_int_equal(spi_faults_watch(faults, all.base, PAGES * all.page_bytes), SP_OK);
    for (int turn = 0; turn < 3; turn++) {
        uint8_t wanted[PAGES] = {0};
        all.base[-1] = 1; /* beside the range: nobody's business */
        all.base[PAGES * all.page_bytes] = 1;
        for (uint32_t i = 0; i < 700; i++) {
            uint32_t page = (i * 37 + (uint32_t)turn * 11) % PAGES;
            all.base[page * all.page_bytes] = (uint8_t)(i | 1);
            wanted[page] = 1;
        }
        uint32_t sum = 0;
        for (uint32_t page = 0; page < PAGES; page++) {
            sum += all.base[page * all.page_bytes]; /* reading is no writing */
        }
        assert_true(sum > 0);
        take(faults, &all);
        assert_memory_equal(all.told, wanted, sizeof wanted);
    }
    take(faults, &all);
    for (uint32_t page = 0; page < PAGES; page++) {
        assert_int_equal(all.told[page], 0);
    }
    spi_faults_destroy(faults);
    memset(all.base, 7, PAGES * all.page_bytes); /* open again */
    spi_vm_release(mapping, mapping_bytes);
}

static void one_page_has_one_watcher(void **state) {
    (void)state;
    size_t page_bytes = spi_vm_page_bytes(), mapping_bytes;
    void *mapping;
    spi_faults *first, *second;
    uint8_t *base = map_pages(page_bytes, &mapping, &mapping_bytes);
    seen all = {.base = base, .page_bytes = page_bytes};
    assert_int_equal(spi_faults_create(&first), SP_OK);
    assert_int_equal(spi_faults_create(&second), SP_OK);
    assert_int_equal(spi_faults_watch(first, base, page_bytes), SP_OK);
    assert_int_equal(spi_faults_watch(second, base, page_bytes), SP_UNSUPPORTED);
    assert_int_equal(spi_faults_take(second, base, page_bytes, on_written, &all), SP_UNSUPPORTED);
    spi_faults_destroy(first);
    assert_int_equal(spi_faults_watch(second, base, page_bytes), SP_OK);
    spi_faults_destroy(second);
    spi_vm_release(mapping, mapping_bytes);
}

typedef struct writer {
    seen *all;
    uint32_t number;
} writer;

static void write_all(void *env) {
    const writer *of = env;
    for (uint32_t page = 0; page < PAGES; page++) {
        of->all->base[page * of->all->page_bytes + of->number] = 1;
    }
}

/* All write to the same pages at the same time, in threads whose signals are blocked. */
static void threads_meet_in_pages(void **state) {
    (void)state;
    seen all = {.page_bytes = spi_vm_page_bytes()};
    void *mapping;
    size_t mapping_bytes;
    spi_faults *faults;
    all.base = map_pages(all.page_bytes, &mapping, &mapping_bytes);
    assert_int_equal(spi_faults_create(&faults), SP_OK);
    for (int turn = 0; turn < 5; turn++) {
        spi_thread threads[THREADS];
        writer writers[THREADS];
        assert_int_equal(spi_faults_watch(faults, all.base, PAGES * all.page_bytes), SP_OK);
        for (uint32_t i = 0; i < THREADS; i++) {
            writers[i] = (writer){&all, i};
            assert_int_equal(spi_thread_start(&threads[i], "writer", write_all, &writers[i]), SP_OK);
        }
        for (uint32_t i = 0; i < THREADS; i++) {
            spi_thread_join(&threads[i]);
        }
        take(faults, &all);
        for (uint32_t page = 0; page < PAGES; page++) {
            assert_int_equal(all.told[page], 1);
            for (uint32_t i = 0; i < THREADS; i++) {
                assert_int_equal(all.base[page * all.page_bytes + i], 1);
            }
        }
    }
    spi_faults_destroy(faults);
    spi_vm_release(mapping, mapping_bytes);
}

static void other_faults_are_others(void **state) {
    (void)state;
    struct sigaction action, kept_segv, kept_bus;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = other_handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &kept_segv);
    sigaction(SIGBUS, &action, &kept_bus);
    size_t page_bytes = spi_vm_page_bytes(), mapping_bytes;
    void *mapping;
    uint8_t *base = map_pages(page_bytes, &mapping, &mapping_bytes);
    spi_faults *faults;
    assert_int_equal(spi_faults_create(&faults), SP_OK); /* comes before the handler that is there */
    assert_int_equal(spi_faults_watch(faults, base, page_bytes), SP_OK);
    assert_int_equal(spi_vm_protect(base + page_bytes, page_bytes, false, false), SP_OK);
    others = 0;
    base[0] = 1;
    assert_int_equal(others, 0);
    if (!sigsetjmp(back, 1)) {
        ((volatile uint8_t *)base)[page_bytes] = 1;
        fail();
    }
    assert_int_equal(others, 1);
    spi_faults_destroy(faults);
    spi_vm_release(mapping, mapping_bytes);
    sigaction(SIGSEGV, &kept_segv, NULL);
    sigaction(SIGBUS, &kept_bus, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_pages_are_told_once),
        cmocka_unit_test(one_page_has_one_watcher),
        cmocka_unit_test(threads_meet_in_pages),
        cmocka_unit_test(other_faults_are_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
