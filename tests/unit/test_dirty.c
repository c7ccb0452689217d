/* tests/unit/test_dirty.c - records of written pages against a list of what was written, in each way that there is. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/dirty.h"
#include "os/vm.h"
#include "support/support.h"

enum { PAGES = 600, THREADS = 3 };

typedef struct rig {
    uint8_t *memory;
    size_t page;
    bool expected[PAGES], told[PAGES];
} rig;

static void on_written(void *env, uint8_t *from, size_t bytes) {
    rig *r = env;
    size_t first = (size_t)(from - r->memory) / r->page;
    assert_int_equal((size_t)(from - r->memory) % r->page, 0);
    assert_true(bytes && bytes % r->page == 0 && first + bytes / r->page <= PAGES);
    for (size_t i = 0; i < bytes / r->page; i++) {
        assert_false(r->told[first + i]); /* once each */
        r->told[first + i] = true;
    }
}

static void begin(rig *r) {
    *r = (rig){.page = spi_vm_page_bytes()};
    r->memory = mmap(NULL, PAGES * r->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(r->memory, MAP_FAILED);
    memset(r->memory, 1, PAGES / 2 * r->page); /* the other half was never touched */
}

static void end(rig *r) {
    munmap(r->memory, PAGES * r->page);
}

static bool create(spi_dirty_way way, spi_dirty **dirty) {
    sp_status status = spi_dirty_create(way, dirty);
    if (status == SP_UNSUPPORTED && way == SPI_DIRTY_KERNEL) {
        print_message("this kernel keeps no record\n");
        return false;
    }
    assert_int_equal(status, SP_OK);
    return true;
}

static void check(rig *r, spi_dirty *dirty, size_t from, size_t count) {
    memset(r->told, 0, sizeof r->told);
    assert_int_equal(spi_dirty_take(dirty, r->memory + from * r->page, count * r->page, on_written, r), SP_OK);
    for (size_t i = 0; i < PAGES; i++) {
        bool is_inside = i >= from && i < from + count;
        assert_int_equal(r->told[i], is_inside && r->expected[i]);
        r->expected[i] = r->expected[i] && !is_inside;
    }
}

typedef struct writer {
    rig *r;
    uint64_t seed, index;
    bool wrote[PAGES];
} writer;

static void *write_some(void *env) {
    writer *w = env;
    test_random random = test_random_seed(w->seed);
    for (int i = 0; i < 150; i++) {
        size_t page = test_random_below(&random, PAGES);
        size_t byte =
            test_random_below(&random, (uint32_t)(w->r->page / THREADS)) * THREADS + w->index; /* nobody else's */
        w->r->memory[page * w->r->page + byte] = (uint8_t)i;
        w->wrote[page] = true;
    }
    return NULL;
}

/* Threads at once, in two watched ranges that touch each other; taken as one and in parts. */
static void every_written_page_is_told_once(void **state) {
    (void)state;
    for (int way = SPI_DIRTY_KERNEL; way <= SPI_DIRTY_PROTECT; way++) {
        rig r;
        spi_dirty *dirty;
        if (!create((spi_dirty_way)way, &dirty)) {
            continue;
        }
        begin(&r);
        assert_int_equal(spi_dirty_watch(dirty, r.memory, 200 * r.page), SP_OK);
        assert_int_equal(spi_dirty_watch(dirty, r.memory + 200 * r.page, (PAGES - 200) * r.page), SP_OK);
        for (uint64_t turn = 0; turn < 8; turn++) {
            writer writers[THREADS];
            pthread_t threads[THREADS];
            for (uint64_t i = 0; i < THREADS; i++) {
                writers[i] = (writer){.r = &r, .seed = test_seed() + turn * THREADS + i, .index = i};
                assert_int_equal(pthread_create(&threads[i], NULL, write_some, &writers[i]), 0);
            }
            for (int i = 0; i < THREADS; i++) {
                pthread_join(threads[i], NULL);
                for (int page = 0; page < PAGES; page++) {
                    r.expected[page] = r.expected[page] || writers[i].wrote[page];
                }
            }
            if (turn % 2) {
                check(&r, dirty, 100, 200);
                check(&r, dirty, 0, 100);
                check(&r, dirty, 300, PAGES - 300);
            } else {
                check(&r, dirty, 0, PAGES);
            }
        }
        spi_dirty_destroy(dirty);
        memset(r.memory, 3, PAGES * r.page); /* ranges are as ever */
        end(&r);
    }
}

static void many_records_stand_beside_each_other(void **state) {
    enum { MANY = 5 };
    rig rigs[MANY];
    spi_dirty *dirty[MANY];
    (void)state;
    for (int turn = 0; turn < 2; turn++) { /* the second time over places that were used before */
        for (int i = 0; i < MANY; i++) {
            begin(&rigs[i]);
            create(SPI_DIRTY_PROTECT, &dirty[i]);
            assert_int_equal(spi_dirty_watch(dirty[i], rigs[i].memory, PAGES * rigs[i].page), SP_OK);
        }
        for (int i = 0; i < MANY; i++) {
            rigs[i].memory[(size_t)(i + 1) * 7 * rigs[i].page] = 9;
            rigs[i].expected[(i + 1) * 7] = true;
        }
        spi_dirty_destroy(dirty[2]);
        memset(rigs[2].memory, 5, PAGES * rigs[2].page);
        for (int i = 0; i < MANY; i++) {
            if (i != 2) {
                check(&rigs[i], dirty[i], 0, PAGES);
                spi_dirty_destroy(dirty[i]);
            }
            end(&rigs[i]);
        }
    }
}

/* What the header warns of, and the way around it. */
static void the_system_writes_to_opened_pages(void **state) {
    rig r;
    spi_dirty *dirty;
    (void)state;
    begin(&r);
    create(SPI_DIRTY_PROTECT, &dirty);
    assert_int_equal(spi_dirty_watch(dirty, r.memory, PAGES * r.page), SP_OK);
    int file = open("/dev/zero", O_RDONLY);
    r.memory[5 * r.page] = 1;
    r.expected[5] = true;
    assert_int_equal(read(file, r.memory + 10 * r.page, r.page), -1);
    assert_int_equal(errno, EFAULT);
    assert_false(spi_vm_has_access(r.memory, PAGES * r.page, true));
    spi_dirty_open(r.memory, PAGES * r.page);
    assert_true(spi_vm_has_access(r.memory, PAGES * r.page, true));
    assert_int_equal(read(file, r.memory + 10 * r.page, r.page), (ssize_t)r.page);
    spi_dirty_close(r.memory, PAGES * r.page);
    r.memory[20 * r.page] = 1;
    r.expected[20] = true;
    check(&r, dirty, 0, PAGES); /* what was written while it was open is not in it */
    close(file);
    spi_dirty_destroy(dirty);
    end(&r);
}

static void on_other(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    (void)context;
    _exit(42);
}

static int exit_of(void (*run)(rig *r), rig *r) {
    int status;
    pid_t child = fork();
    if (!child) {
        run(r);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void write_where_nobody_may(const rig *r) {
    volatile uint8_t *wall = mmap(NULL, r->page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *wall = 1;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which have something to say first */
static void die_as_ever(rig *r) {
    spi_dirty *dirty;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    create(SPI_DIRTY_PROTECT, &dirty);
    if (spi_dirty_watch(dirty, r->memory, r->page)) {
        _exit(2);
    }
    r->memory[0] = 1;
    write_where_nobody_may(r);
}
#endif

/* Somebody sets a handler of their own in front, as Wasmtime does with its first engine. */
static void watch_behind_another(rig *r) {
    struct sigaction other = {.sa_sigaction = on_other, .sa_flags = SA_SIGINFO};
    spi_dirty *dirty;
    sigaction(SIGSEGV, &other, NULL);
    sigaction(SIGBUS, &other, NULL);
    create(SPI_DIRTY_PROTECT, &dirty);
    if (spi_dirty_watch(dirty, r->memory, r->page)) {
        _exit(2);
    }
    r->memory[0] = 1; /* ours, although the other was set later */
    write_where_nobody_may(r);
}

/* No mapping can be cut in two any more. */
static void fill_the_table_of_mappings(rig *r) {
    size_t count = (size_t)1 << 20;
    uint8_t *many = mmap(NULL, count * r->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t i = 0;
    while (i < count && !mprotect(many + i * r->page, r->page, PROT_READ)) {
        i += 2;
    }
    if (i >= count) {
        _exit(3);
    }
    r->memory[7 * r->page] = 1; /* there is nothing that cannot be written because of it */
    for (size_t k = 0; k < PAGES; k++) {
        r->memory[k * r->page] = 2;
    }
    munmap(many, count * r->page);
}

static void faults_of_others_are_passed_on(void **state) {
    rig r;
    spi_dirty *dirty;
    (void)state;
    begin(&r);
    create(SPI_DIRTY_PROTECT, &dirty);
    assert_int_equal(spi_dirty_watch(dirty, r.memory + 100 * r.page, (PAGES - 100) * r.page), SP_OK);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_int_equal(exit_of(die_as_ever, &r), -SIGSEGV);
#endif
    assert_int_equal(exit_of(watch_behind_another, &r), 42);
    spi_dirty_destroy(dirty);
    end(&r);
}

static void a_full_table_of_mappings_is_survived(void **state) {
    rig r;
    spi_dirty *dirty;
    (void)state;
    begin(&r);
    create(SPI_DIRTY_PROTECT, &dirty);
    assert_int_equal(spi_dirty_watch(dirty, r.memory, PAGES * r.page), SP_OK);
    assert_int_equal(exit_of(fill_the_table_of_mappings, &r), 0);
    spi_dirty_destroy(dirty);
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_written_page_is_told_once),      cmocka_unit_test(many_records_stand_beside_each_other),
        cmocka_unit_test(the_system_writes_to_opened_pages),    cmocka_unit_test(faults_of_others_are_passed_on),
        cmocka_unit_test(a_full_table_of_mappings_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
