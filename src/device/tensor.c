/* device/tensor.c - what is in a weight, whatever its type. May include: dtype, base. */
#include <string.h>

#include "device/tape.h"
#include "dtype/dequant.h"

void spi_tensor_values(const spi_tensor *tensor, uint32_t row, uint32_t first, uint32_t count, float *out) {
    const uint8_t *from = (const uint8_t *)tensor->data + tensor->bytes / tensor->rows * row;
    if (spi_affine_bits(tensor->type)) {
        spi_affine_values(tensor->type, &tensor->affine, from, row, tensor->cols, first, count, out);
    } else {
        spi_dequantise(tensor->type, from, first, count, out);
    }
}

void spi_tensor_affine_blocks(const spi_tensor *tensor, uint32_t row, uint32_t block_first, uint32_t block_count,
                              uint8_t *out) {
    const spi_affine *affine = &tensor->affine;
    const size_t code_bytes = 4 * (size_t)spi_affine_bits(tensor->type);
    const uint8_t *codes = (const uint8_t *)tensor->data + tensor->bytes / tensor->rows * row;
    for (uint32_t b = block_first; b < block_first + block_count; b++, out += code_bytes + 8) {
        uint64_t group = (uint64_t)row * (tensor->cols / affine->group) + b * SPI_AFFINE_BLOCK / affine->group;
        float pair[2] = {spi_affine_number(affine->type, affine->scales, group),
                         spi_affine_number(affine->type, affine->biases, group)};
        memcpy(out, codes + b * code_bytes, code_bytes);
        memcpy(out + code_bytes, pair, sizeof pair);
    }
}
