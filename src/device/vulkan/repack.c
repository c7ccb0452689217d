/* device/vulkan/repack.c - weights in the order in which kernels read them: see spi_vk_packing. */
#include <string.h>

#include "device/vulkan/vulkan.h"

#define UNIT_BYTES     16u
#define STEP_BYTES_MAX 256u /* of a step's blocks in the file, and of its units */
#define STEP_WORDS_MAX (SPI_VK_SCALE_WORDS_MAX + 2 * SPI_VK_STEP_ELEMENTS_MAX / 32)

static uint32_t step_words(const spi_vk_format *format, const spi_tensor *tensor) {
    uint32_t words = format->scale_words + format->step_elements / 32 * format->high;
    if (spi_affine_bits(tensor->type)) {
        words += format->step_elements / tensor->affine.group * (tensor->affine.type == SP_F32 ? 2 : 1);
    }
    return words;
}

static uint32_t affine_word(const spi_affine *affine) {
    uint32_t type = affine->type == SP_F16 ? 0 : affine->type == SP_BF16 ? 1 : 2;
    return type | (affine->group == 32 ? 5u : affine->group == 64 ? 6u : 7u) << 4;
}

bool spi_vk_packing_of(const spi_tensor *tensor, spi_vk_packing *packing) {
    for (uint32_t i = 0; i < SPI_VK_TYPE_COUNT; i++) {
        const spi_vk_format *format = &spi_vk_formats[i];
        if (format->dtype != tensor->type) {
            continue;
        }
        packing->type = (spi_vk_type)i;
        packing->tile_rows = tensor->rows == 1 ? 1 : SPI_VK_TILE_ROWS;
        packing->steps = tensor->cols / format->step_elements + (tensor->cols % format->step_elements != 0);
        packing->units = packing->steps * (format->step_elements * format->low / 8 / UNIT_BYTES);
        packing->tile_bytes = (uint64_t)packing->units * packing->tile_rows * UNIT_BYTES;
        packing->step_words = step_words(format, tensor);
        packing->tile_scale_bytes = (uint64_t)packing->steps * packing->tile_rows * packing->step_words * 4;
        packing->affine = spi_affine_bits(tensor->type) ? affine_word(&tensor->affine) : 0;
        return true;
    }
    return false;
}

/* `bits` of each element, from bit `shift` on. A word has four elements in its bytes' lowest bits, the next four above
 * them, and so on: four that are neighbours in the row come out with a shift and a mask, as bytes. */
static void gather_bits(uint8_t *to, const uint8_t *quants, uint32_t count, uint32_t bits, uint32_t shift) {
    uint32_t each = 32 / bits, mask = (1u << bits) - 1;
    for (uint32_t i = 0; i < count / each; i++) {
        uint32_t word = 0;
        for (uint32_t k = 0; k < each; k++) {
            word |= (quants[i * each + k] >> shift & mask) << (k % 4 * 8 + k / 4 * bits);
        }
        memcpy(to + (size_t)i * 4, &word, 4);
    }
}

/* A step of one row: its units, and its words. The file's bytes may end before it does. */
static void take_step(const spi_vk_format *format, const uint8_t *from, uint64_t bytes, uint8_t *units,
                      uint8_t *words) {
    /* A plain step is one unit, and zeros are good blocks of every type. */
    _Alignas(4) uint8_t padded[STEP_BYTES_MAX];
    uint32_t blocks = format->step_elements / sp_dtype_block_elements(format->dtype);
    uint32_t needed = blocks * sp_dtype_block_bytes(format->dtype);
    if (bytes < needed) {
        memset(padded, 0, needed);
        memcpy(padded, from, (size_t)bytes);
        from = padded;
    }
    if (!format->read) {
        memcpy(units, from, UNIT_BYTES);
        return;
    }
    spi_vk_step step;
    format->read(from, &step);
    gather_bits(units, step.quants, format->step_elements, format->low, 0);
    memcpy(words, step.words, (size_t)format->scale_words * 4);
    if (format->high) {
        gather_bits(words + (size_t)format->scale_words * 4, step.quants, format->step_elements, format->high,
                    format->low);
    }
}

/* The same of an affine type, whose blocks are taken from its planes; what lies behind the row is zero. */
static void take_affine_step(const spi_vk_packing *packing, const spi_tensor *tensor, uint32_t row, uint32_t step,
                             uint8_t *units, uint8_t *words) {
    const spi_vk_format *format = &spi_vk_formats[packing->type];
    const spi_affine *affine = &tensor->affine;
    const uint32_t bits = spi_affine_bits(tensor->type), blocks = tensor->cols / SPI_AFFINE_BLOCK;
    const uint32_t row_groups = tensor->cols / affine->group, step_groups = format->step_elements / affine->group;
    const uint32_t bytes = affine->type == SP_F32 ? 4 : 2, high_words = format->step_elements / 32 * format->high;
    uint8_t quants[SPI_VK_STEP_ELEMENTS_MAX] = {0};
    for (uint32_t i = 0, b = step * 4; i < 4 && b < blocks; i++, b++) {
        const uint8_t *codes = (const uint8_t *)tensor->data + ((uint64_t)row * blocks + b) * (4 * bits);
        spi_affine_codes(bits, codes, quants + i * SPI_AFFINE_BLOCK);
    }
    gather_bits(units, quants, format->step_elements, format->low, 0);
    memset(words, 0, (size_t)packing->step_words * 4);
    if (format->high) {
        gather_bits(words, quants, format->step_elements, format->high, format->low);
    }
    for (uint32_t i = 0, g = step * step_groups; i < step_groups && g < row_groups; i++, g++) {
        uint64_t from = ((uint64_t)row * row_groups + g) * bytes;
        uint8_t *to = words + (size_t)high_words * 4 + (size_t)2 * i * bytes;
        memcpy(to, (const uint8_t *)affine->scales + from, bytes);
        memcpy(to + bytes, (const uint8_t *)affine->biases + from, bytes);
    }
}

void spi_vk_repack(const spi_vk_packing *packing, const spi_tensor *tensor, uint32_t tile, void *units, void *scales) {
    const spi_vk_format *format = &spi_vk_formats[packing->type];
    uint64_t row_bytes = tensor->bytes / tensor->rows;
    uint64_t step_bytes =
        (uint64_t)format->step_elements / sp_dtype_block_elements(format->dtype) * sp_dtype_block_bytes(format->dtype);
    uint32_t row_first = tile * packing->tile_rows, tile_rows = packing->tile_rows;
    uint32_t unit_count = packing->units / packing->steps, word_count = packing->step_words;
    for (uint32_t row = 0; row < tile_rows; row++) {
        bool there = row_first + row < tensor->rows;
        const uint8_t *from = (const uint8_t *)tensor->data + (there ? (row_first + row) * row_bytes : 0);
        for (uint32_t step = 0; step < packing->steps; step++) {
            uint8_t step_units[STEP_BYTES_MAX], words[STEP_WORDS_MAX * 4];
            uint64_t at = there ? step * step_bytes : 0, left = there ? row_bytes - at : 0;
            if (!spi_affine_bits(tensor->type)) {
                take_step(format, from + at, left, step_units, words);
            } else if (there) {
                take_affine_step(packing, tensor, row_first + row, step, step_units, words);
            } else {
                memset(step_units, 0, sizeof step_units);
                memset(words, 0, sizeof words);
            }
            for (uint32_t i = 0; i < unit_count; i++) {
                uint64_t to = ((uint64_t)step * unit_count + i) * tile_rows + row;
                memcpy((uint8_t *)units + to * UNIT_BYTES, step_units + (size_t)i * UNIT_BYTES, UNIT_BYTES);
            }
            for (uint32_t i = 0; i < word_count; i++) {
                uint64_t to = ((uint64_t)step * word_count + i) * tile_rows + row;
                memcpy((uint8_t *)scales + to * 4, words + (size_t)i * 4, 4);
            }
        }
    }
}
