/* tests/unit/test_memory.c - the allocator: zeroed, sizes checked, failures where the test wants them. */
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "support/support.h"

static bool all_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i]) {
            return false;
        }
    }
    return true;
}

static void memory_is_zeroed(void **state) {
    (void)state;
    for (size_t bytes = 1; bytes < 5000; bytes += 97) {
        unsigned char *memory = spi_alloc(bytes, 1);
        assert_true(memory && all_zero(memory, bytes));
        memset(memory, 0xff, bytes); /* so that it would show if it came back as it is */
        spi_free(memory);
        memory = spi_alloc_aligned(bytes, 64);
        assert_true(memory && (uintptr_t)memory % 64 == 0 && all_zero(memory, bytes));
        memset(memory, 0xff, bytes);
        spi_free_aligned(memory);
    }
    void *nothing = spi_alloc(0, 8), *nothing_aligned = spi_alloc_aligned(0, 64);
    assert_true(nothing && nothing_aligned);
    spi_free(nothing);
    spi_free_aligned(nothing_aligned);
    spi_free(NULL);
    spi_free_aligned(NULL);
}

static void sizes_do_not_wrap(void **state) {
    (void)state;
    volatile size_t huge = SIZE_MAX / 2 + 2; /* times 2 is 2; volatile keeps the compiler from warning of it */
    assert_null(spi_alloc(huge, 2));
    assert_null(spi_alloc(2, huge));
    assert_null(spi_resize(NULL, 0, huge, 2));
    assert_null(spi_copy_string("", SIZE_MAX));
    unsigned char *array = spi_alloc(4, 1);
    size_t capacity = 4;
    assert_non_null(array);
    array[3] = 7;
    assert_int_equal(spi_reserve((void **)&array, &capacity, huge, 2), 0);
    assert_int_equal(capacity, 4);
    assert_int_equal(array[3], 7);
    spi_free(array);
}

static void arrays_grow_and_keep(void **state) {
    (void)state;
    uint32_t *numbers = NULL;
    size_t count = 0, capacity = 0;
    for (; count < 1000; count++) {
        assert_true(SPI_RESERVE(numbers, count, capacity));
        assert_true(capacity > count && numbers[capacity - 1] == 0);
        numbers[count] = (uint32_t)count + 1;
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(numbers[i], i + 1);
    }
    uint32_t *fewer = spi_resize(numbers, capacity, 10, sizeof *numbers);
    assert_non_null(fewer);
    assert_int_equal(fewer[9], 10);
    spi_free(fewer);
    char *copy = spi_copy_string("a\0b", 3);
    assert_non_null(copy);
    assert_memory_equal(copy, "a\0b", 4);
    spi_free(copy);
}

/* Exactly one allocation fails: the one that was named. */
static void one_allocation_fails(void **state) {
    (void)state;
    for (long n = 0; n < 6; n++) {
        spi_memory_fail_after(n);
        for (long i = 0; i < 6; i++) {
            void *memory = i % 3 == 0   ? spi_alloc(1, 1)
                           : i % 3 == 1 ? spi_resize(NULL, 0, 1, 1)
                                        : spi_alloc_aligned(64, 64);
            assert_true((memory == NULL) == (i == n));
            (i % 3 == 2 ? spi_free_aligned : spi_free)(memory);
        }
    }
    spi_memory_fail_after(-1);
    for (int i = 0; i < 100; i++) {
        void *memory = spi_alloc(1, 1);
        assert_non_null(memory);
        spi_free(memory);
    }
    char *array = spi_alloc(2, 1);
    assert_non_null(array);
    array[1] = 5;
    spi_memory_fail_after(0);
    assert_null(spi_resize(array, 2, 1000, 1));
    assert_int_equal(array[1], 5);
    spi_free(array);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(arrays_grow_and_keep),
        cmocka_unit_test(one_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
