/* device/cpu/turn.c - rows of floats turned round for products whose lanes are rows: groups of 32 rows, [column][32
 * rows]. May include: device, base. */
#include <string.h>

#include "device/cpu/products.h"

#define ROWS SPI_TURNED_ROWS
#define COLS 32u /* that are turned round at once: what is written stays in the first-level cache while rows are read */

/* Rows that are missing in the last group are zeros. */
size_t spi_turned_bytes(const spi_tensor *tensor) {
    return ((size_t)tensor->rows + ROWS - 1) / ROWS * ROWS * (tensor->bytes / tensor->rows);
}

/* A row's columns to their places, for either width of a weight. */
#define TURN_ROW(width)                                                                                                \
    static void turn_row_##width(uint##width##_t *to, const uint##width##_t *row, uint32_t count) {                    \
        for (uint32_t k = 0; k < count; k++) {                                                                         \
            to[(size_t)k * ROWS] = row[k];                                                                             \
        }                                                                                                              \
    }
TURN_ROW(16)
TURN_ROW(32)

static void turn_group(uint8_t *to, const uint8_t *from, size_t row_bytes, uint32_t rows, uint32_t cols) {
    const size_t bytes = row_bytes / cols;
    if (rows < ROWS) {
        memset(to, 0, ROWS * row_bytes);
    }
    for (uint32_t col = 0; col < cols; col += COLS) {
        const uint32_t count = cols - col < COLS ? cols - col : COLS;
        for (uint32_t r = 0; r < rows; r++) {
            const uint8_t *row = from + r * row_bytes + col * bytes;
            uint8_t *place = to + ((size_t)col * ROWS + r) * bytes;
            if (bytes == sizeof(uint32_t)) {
                turn_row_32((uint32_t *)(void *)place, (const uint32_t *)(const void *)row, count);
            } else {
                turn_row_16((uint16_t *)(void *)place, (const uint16_t *)(const void *)row, count);
            }
        }
    }
}

void spi_turn(void *turned, const spi_tensor *tensor, uint32_t group_first, uint32_t group_count) {
    const size_t row_bytes = tensor->bytes / tensor->rows;
    for (uint32_t group = group_first; group < group_first + group_count; group++) {
        const uint32_t first = group * ROWS, left = tensor->rows - first;
        const size_t at = first * row_bytes;
        turn_group((uint8_t *)turned + at, (const uint8_t *)tensor->data + at, row_bytes, left < ROWS ? left : ROWS,
                   tensor->cols);
    }
}
