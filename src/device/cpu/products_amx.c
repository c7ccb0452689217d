/* device/cpu/products_amx.c - products of many tokens on AMX's tiles, and activations for them.
 * tests/ops/test_ops_amx.c is linked with another one, over emulated tiles. May include: device, dtype, os, base. */
#include "device/cpu/amx_bf16_body.h"
#include "device/cpu/amx_few_body.h"

/* A call, since it stands behind each product. */
#define X(type, name)                                                                                                  \
    static __attribute__((noinline)) void make_##name(const spi_affine *affine, amx_panel *panel) {                    \
        amx_make_piece(type, affine, panel);                                                                           \
    }                                                                                                                  \
    void spi_product_##name##_amx(const spi_cpu_product *args) {                                                       \
        if (few_takes(type, args)) {                                                                                   \
            few_product(type, args);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        amx_product(type, make_##name, args);                                                                          \
    }
SPI_SMALL_QUANTS(X)
SPI_SUPER_QUANTS(X)
SPI_AFFINE_QUANTS(X)
X(SP_BF16, bf16)
#undef X

void spi_to_bf16_amx(uint16_t dst[SPI_BF16_UNIT], const float src[SPI_BF16_UNIT]) {
    __m512i low = amx_pair(_mm512_loadu_ps(src), _mm512_setzero_ps());
    __m512i high = amx_pair(_mm512_loadu_ps(src + 16), _mm512_setzero_ps());
    __m512i both = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(low));
    _mm512_storeu_si512(dst, _mm512_inserti64x4(both, _mm512_cvtepi32_epi16(high), 1));
}
