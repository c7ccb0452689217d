/* base/memory.h - the one allocator of the library, so that tests can make any allocation fail.
 *
 * Everything that the library allocates goes through these; results are zeroed. Sizes are checked for overflow here and
 * nowhere else. May include: nothing.
 */
#ifndef SPI_BASE_MEMORY_H
#define SPI_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* NULL if there is no memory, or count * size overflows. A count of 0 gives a pointer that can be freed. */
void *spi_alloc(size_t count, size_t size);

/* Grows or shrinks an array; new elements are zeroed. On NULL the old array is as it was. */
void *spi_resize(void *array, size_t old_count, size_t new_count, size_t size);

/* A copy of length bytes with a zero byte behind it. */
char *spi_copy_string(const char *text, size_t length);

void spi_free(void *memory);

/* Cache-line aligned, zeroed; to be given to spi_free_aligned. */
void *spi_alloc_aligned(size_t bytes, size_t alignment);
void spi_free_aligned(void *memory);

/* Test hook: the allocation that comes after `count` more fails, once; a negative count turns it off. Counts over all
 * threads. */
void spi_memory_fail_after(long count);

/* Makes room for one more element in a growing array {pointer, count, capacity}: nonzero on success. */
#define SPI_RESERVE(array, count, capacity)                                                                            \
    spi_reserve((void **)&(array), &(capacity), (size_t)(count) + 1, sizeof *(array))
int spi_reserve(void **array, size_t *capacity, size_t needed, size_t size);

#endif
