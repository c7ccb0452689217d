/* dtype/quant_search.h - searches for the scale (and minimum) that bring some values closest to a few levels.
 *
 * Each tries scales around the one that just fits the range, weighs the squared errors and keeps the best by least
 * squares; see dtype/quant.h for where they are from (make_qx_quants, make_q3_quants, make_qkx2_quants). */
#ifndef SPI_DTYPE_QUANT_SEARCH_H
#define SPI_DTYPE_QUANT_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#define SPI_GROUP 16u /* values of a sub-block without a minimum */

/* A sub-block with less than this is zero. */
#define SPI_GROUP_LEAST 1e-15f

/* The nearest whole number, of halves the even one, of |value| < 2^22. Beyond, some number. */
int spi_nearest(float value);

static inline int spi_clamp(int value, int least, int most) {
    return value < least ? least : value > most ? most : value;
}

/* x ~ scale * (levels - half), levels 0 .. 2 * half - 1. Errors are weighed by x^2. Levels of a group that is all zero
 * are 0. Returns the scale, of any sign. */
float spi_search_symmetric(const float x[SPI_GROUP], int half, uint8_t levels[SPI_GROUP]);

/* The same by changing one level at a time, from the scale that fits the range: for Q3_K. */
float spi_search_one_by_one(const float x[SPI_GROUP], int half, uint8_t levels[SPI_GROUP]);

/* x ~ scale * levels - minimum, levels 0 .. most. */
typedef struct spi_search {
    uint32_t count; /* 16 or 32 */
    int most;
    float first, step; /* scales tried: (first + step * i + most) / range for i = 0 .. steps */
    int steps;
    bool absolute; /* errors are weighed absolute, not squared */
} spi_search;
float spi_search_offset(const spi_search *how, const float *x, const float *weights, uint8_t *levels, float *minimum);

#endif
