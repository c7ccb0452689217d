/* tests/unit/test_crew.c - pieces of work that threads take: each is done once, whoever is there to do it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/crew.h"
#include "os/vm.h"
#include "support/support.h"

enum { PIECES = 1000 };

#define MIB ((size_t)1 << 20)

typedef struct tally {
    atomic_uint done[PIECES];
} tally;

static void count_piece(void *env, uint32_t piece) {
    tally *all = env;
    atomic_fetch_add(&all->done[piece], 1);
}

static void check_all(const tally *all, uint32_t count) {
    for (uint32_t i = 0; i < PIECES; i++) {
        assert_int_equal(atomic_load(&all->done[i]), i < count);
    }
}

static void every_piece_is_done_once(void **state) {
    (void)state;
    static const uint32_t threads[] = {0, 1, 2, 3, 16, 100}, counts[] = {0, 1, 2, 7, PIECES};
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            tally all = {0};
            spi_crew_run(counts[c], threads[t], count_piece, &all);
            check_all(&all, counts[c]);
        }
    }
}

static void threads_that_are_not_had_are_done_without(void **state) {
    (void)state;
    for (long fail = 0; fail < 4; fail++) {
        tally all = {0};
        spi_memory_fail_after(fail);
        spi_crew_run(PIECES, 16, count_piece, &all);
        spi_memory_fail_after(-1);
        check_all(&all, PIECES);
    }
}

static pthread_t own;
static int looks;

static void look(void *env) {
    (void)env;
    assert_true(pthread_equal(own, pthread_self()));
    looks++;
}

/* By this thread alone, and once more when all is done. */
static void who_called_looks(void **state) {
    (void)state;
    static const uint32_t threads[] = {1, 2, 16};
    own = pthread_self();
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        tally all = {0};
        looks = 0;
        spi_crew_run_watched(PIECES, threads[t], count_piece, look, &all);
        check_all(&all, PIECES);
        assert_true(threads[t] == 1 ? looks == PIECES + 1 : looks >= 1 && looks <= PIECES + 1);
    }
}

static void copies_are_whole(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2 * MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 5 * MIB + 63, 13 * MIB + 7};
    size_t most = 16 * MIB;
    uint8_t *from = malloc(most), *to = malloc(most);
    assert_true(from && to);
    for (size_t i = 0; i < most; i++) {
        from[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(to, 0xee, most);
        spi_crew_copy(to + 3, from + 5, sizes[i]);
        assert_memory_equal(to + 3, from + 5, sizes[i]);
        assert_int_equal(to[2], 0xee);
        assert_int_equal(to[3 + sizes[i]], 0xee);
        spi_crew_zero(to + 3, sizes[i]);
        for (size_t at = 0; at < sizes[i]; at++) {
            assert_int_equal(to[3 + at], 0);
        }
        assert_int_equal(to[2], 0xee);
        assert_int_equal(to[3 + sizes[i]], 0xee);
    }
    free(from);
    free(to);
}

static void pages_are_made_and_stay_zero(void **state) {
    (void)state;
    void *base, *mapping;
    size_t mapping_bytes, bytes = 10 * MIB + 4 * spi_vm_page_bytes();
    assert_int_equal(spi_vm_reserve(bytes, 2 * MIB, &base, &mapping, &mapping_bytes), SP_OK);
    assert_int_equal(spi_vm_commit(base, bytes, true), SP_OK);
    size_t before = spi_vm_resident_bytes();
    spi_crew_populate(base, bytes);
    assert_true(spi_vm_resident_bytes() >=
                before + bytes / 2); /* a system may count a little late, or know no such advice */
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(((uint8_t *)base)[i], 0);
    }
    spi_vm_release(mapping, mapping_bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_is_done_once),
        cmocka_unit_test(threads_that_are_not_had_are_done_without),
        cmocka_unit_test(who_called_looks),
        cmocka_unit_test(copies_are_whole),
        cmocka_unit_test(pages_are_made_and_stay_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
