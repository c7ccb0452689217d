/* device/vulkan/repack.c - weights in the order in which kernels read them: see spi_vk_packing. */
#include <string.h>

#include "device/vulkan/vulkan.h"

#define UNIT_BYTES 16u

typedef struct type_facts {
    sp_dtype type;
    uint32_t unit_elements;
    uint32_t step_units;  /* taken at once by a kernel; for the quantised types two blocks, which share a scale word */
    uint32_t block_bytes; /* 0: no scales */
} type_facts;

static const type_facts facts[] = {
    [SPI_VK_F32] = {SP_F32, 4, 1, 0},     [SPI_VK_F16] = {SP_F16, 8, 1, 0},     [SPI_VK_BF16] = {SP_BF16, 8, 1, 0},
    [SPI_VK_Q8_0] = {SP_Q8_0, 16, 4, 34}, [SPI_VK_Q4_0] = {SP_Q4_0, 32, 2, 18},
};

uint32_t spi_vk_type_unit_elements(spi_vk_type type) {
    return facts[type].unit_elements;
}

bool spi_vk_packing_of(sp_dtype dtype, uint32_t rows, uint32_t cols, spi_vk_packing *packing) {
    for (uint32_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (facts[i].type != dtype) {
            continue;
        }
        uint32_t step_elements = facts[i].unit_elements * facts[i].step_units;
        packing->type = (spi_vk_type)i;
        packing->tile_rows = rows == 1 ? 1 : SPI_VK_TILE_ROWS;
        packing->steps = cols / step_elements + (cols % step_elements != 0);
        packing->units = packing->steps * facts[i].step_units;
        packing->tile_bytes = (uint64_t)packing->units * packing->tile_rows * UNIT_BYTES;
        packing->tile_scale_bytes = facts[i].block_bytes ? (uint64_t)packing->steps * packing->tile_rows * 4 : 0;
        return true;
    }
    return false;
}

/* A unit of plain elements: up to 16 bytes of the row, zeros behind its end. */
static void take_plain(uint8_t *to, const uint8_t *row, uint64_t row_bytes, uint32_t unit) {
    uint64_t at = (uint64_t)unit * UNIT_BYTES;
    uint64_t left = at < row_bytes ? row_bytes - at : 0;
    memset(to, 0, UNIT_BYTES);
    memcpy(to, row + (left ? at : 0), left < UNIT_BYTES ? left : UNIT_BYTES);
}

/* Half of a block: signed bytes in their order. */
static void take_q8_0(uint8_t *to, const uint8_t *row, uint64_t row_bytes, uint32_t unit) {
    uint64_t at = (uint64_t)(unit / 2) * 34;
    if (at >= row_bytes) {
        memset(to, 0, UNIT_BYTES);
    } else {
        memcpy(to, row + at + 2 + (unit % 2) * UNIT_BYTES, UNIT_BYTES);
    }
}

/* A block: its file order has element j in the low and j + 16 in the high half of byte j; here neighbours share a byte. */
static void take_q4_0(uint8_t *to, const uint8_t *row, uint64_t row_bytes, uint32_t unit) {
    uint64_t at = (uint64_t)unit * 18;
    if (at >= row_bytes) {
        memset(to, 0, UNIT_BYTES); /* its scale is zero, so that the offset of 8 does no harm */
        return;
    }
    const uint8_t *from = row + at + 2;
    for (uint32_t i = 0; i < 8; i++) {
        to[i] = (uint8_t)((from[2 * i] & 15u) | (from[2 * i + 1] & 15u) << 4);
        to[i + 8] = (uint8_t)(from[2 * i] >> 4 | (from[2 * i + 1] & 0xf0u));
    }
}

static void take_scales(uint8_t *to, const uint8_t *row, uint64_t row_bytes, uint32_t step, uint32_t block_bytes) {
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t at = ((uint64_t)step * 2 + i) * block_bytes;
        if (at < row_bytes) {
            memcpy(to + (size_t)i * 2, row + at, 2);
        } else {
            memset(to + (size_t)i * 2, 0, 2);
        }
    }
}

void spi_vk_repack(const spi_vk_packing *packing, const spi_tensor *tensor, uint32_t tile, void *units, void *scales) {
    uint64_t row_bytes = tensor->bytes / tensor->rows;
    uint32_t block_bytes = facts[packing->type].block_bytes;
    uint32_t row_first = tile * packing->tile_rows;
    uint32_t rows = tensor->rows - row_first < packing->tile_rows ? tensor->rows - row_first : packing->tile_rows;
    const uint8_t *first = (const uint8_t *)tensor->data + row_first * row_bytes;
    uint8_t *to = units;
    for (uint32_t unit = 0; unit < packing->units; unit++) {
        for (uint32_t row = 0; row < packing->tile_rows; row++, to += UNIT_BYTES) {
            const uint8_t *from = first + row * row_bytes;
            if (row >= rows) {
                memset(to, 0, UNIT_BYTES);
            } else if (packing->type == SPI_VK_Q8_0) {
                take_q8_0(to, from, row_bytes, unit);
            } else if (packing->type == SPI_VK_Q4_0) {
                take_q4_0(to, from, row_bytes, unit);
            } else {
                take_plain(to, from, row_bytes, unit);
            }
        }
    }
    to = scales;
    for (uint32_t step = 0; block_bytes && step < packing->steps; step++) {
        for (uint32_t row = 0; row < packing->tile_rows; row++, to += 4) {
            uint64_t length = row < rows ? row_bytes : 0;
            take_scales(to, first + (row < rows ? row : 0) * row_bytes, length, step, block_bytes);
        }
    }
}
