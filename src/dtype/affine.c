/* dtype/affine.c - see affine.h. Written to be obviously right: what every faster way is held against. */
#include "dtype/affine.h"

#include <string.h>

#include "base/half.h"

bool spi_affine_type(uint32_t bits, sp_dtype *type) {
    switch (bits) {
#define X(name, value, text, elements, bytes)                                                                          \
    case value - 1000: *type = name; return true;
        SP_AFFINE_LIST(X)
#undef X
    default: return false;
    }
}

float spi_affine_number(sp_dtype type, const void *plane, uint64_t index) {
    float value;
    uint16_t half;
    if (type == SP_F32) {
        memcpy(&value, (const uint8_t *)plane + index * sizeof value, sizeof value);
        return value;
    }
    memcpy(&half, (const uint8_t *)plane + index * sizeof half, sizeof half);
    return type == SP_F16 ? spi_f16_to_f32(half) : spi_bf16_to_f32(half);
}

void spi_affine_codes(uint32_t bits, const uint8_t *bytes, uint8_t codes[SPI_AFFINE_BLOCK]) {
    uint32_t waiting = 0, have = 0;
    for (uint32_t j = 0; j < SPI_AFFINE_BLOCK; j++) {
        while (have < bits) {
            waiting |= (uint32_t)*bytes++ << have;
            have += 8;
        }
        codes[j] = (uint8_t)(waiting & ((1u << bits) - 1));
        waiting >>= bits;
        have -= bits;
    }
}

void spi_affine_values(sp_dtype type, const spi_affine *affine, const void *codes, uint64_t row, uint32_t cols,
                       uint32_t first, uint32_t count, float *out) {
    const uint32_t bits = spi_affine_bits(type);
    const uint8_t *bytes = (const uint8_t *)codes + first / SPI_AFFINE_BLOCK * (4 * bits);
    for (uint32_t done = 0; done < count; done += SPI_AFFINE_BLOCK, bytes += 4 * bits) {
        uint64_t group = row * (cols / affine->group) + (first + done) / affine->group;
        float scale = spi_affine_number(affine->type, affine->scales, group);
        float bias = spi_affine_number(affine->type, affine->biases, group);
        uint8_t block[SPI_AFFINE_BLOCK];
        spi_affine_codes(bits, bytes, block);
        for (uint32_t j = 0; j < SPI_AFFINE_BLOCK; j++) {
            out[done + j] = (float)block[j] * scale + bias;
        }
    }
}
