/* dtype/dequant.c - the plain types, and which function decodes which blocks. */
#include "dtype/dequant.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/half.h"

static void decode_f32(const void *values, uint32_t count, float *out) {
    memcpy(out, values, (size_t)count * sizeof *out);
}

static void decode_f16(const void *values, uint32_t count, float *out) {
    const uint16_t *halves = values;
    for (uint32_t i = 0; i < count; i++) {
        out[i] = spi_f16_to_f32(halves[i]);
    }
}

static void decode_bf16(const void *values, uint32_t count, float *out) {
    const uint16_t *brains = values;
    for (uint32_t i = 0; i < count; i++) {
        out[i] = spi_bf16_to_f32(brains[i]);
    }
}

static spi_decode *find(sp_dtype type) {
    switch (type) {
    case SP_F32: return decode_f32;
    case SP_F16: return decode_f16;
    case SP_BF16: return decode_bf16;
    case SP_Q4_0: return spi_decode_q4_0;
    case SP_Q4_1: return spi_decode_q4_1;
    case SP_Q5_0: return spi_decode_q5_0;
    case SP_Q5_1: return spi_decode_q5_1;
    case SP_Q8_0: return spi_decode_q8_0;
    case SP_Q2_K: return spi_decode_q2_k;
    case SP_Q3_K: return spi_decode_q3_k;
    case SP_Q4_K: return spi_decode_q4_k;
    case SP_Q5_K: return spi_decode_q5_k;
    case SP_Q6_K: return spi_decode_q6_k;
    case SP_IQ4_NL: return spi_decode_iq4_nl;
    case SP_IQ4_XS: return spi_decode_iq4_xs;
    case SP_MXFP4: return spi_decode_mxfp4;
    default: return NULL; /* affine types are not in one piece: affine.h */
    }
}

void spi_dequantise(sp_dtype type, const void *row, uint32_t first, uint32_t count, float *out) {
    uint32_t block = sp_dtype_block_elements(type);
    assert(block && first % block == 0 && count % block == 0);
    const uint8_t *from = (const uint8_t *)row + (size_t)(first / block) * sp_dtype_block_bytes(type);
    find(type)(from, count / block, out);
}
