/* device/vulkan/repack_steps.c - quantised blocks taken apart, a step at a time: see spi_vk_format.
 *
 * Words hold what shaders/weights_32.glsl and weights_256.glsl expect: scales stay as the file has them, so that packed
 * weights take no more room than the file's, and kernels compute what the formats say (src/dtype/blocks.h). */
#include <string.h>

#include "device/vulkan/vulkan.h"
#include "dtype/blocks.h"

static void take_nibbles(uint8_t quants[32], const uint8_t q[16]) {
    for (uint32_t j = 0; j < 16; j++) {
        quants[j] = q[j] & 15;
        quants[j + 16] = q[j] >> 4;
    }
}

static void add_fifth(uint8_t quants[32], const uint8_t high[4]) {
    for (uint32_t j = 0; j < 32; j++) {
        quants[j] |= (uint8_t)((high[j / 8] >> j % 8 & 1) << 4);
    }
}

static uint32_t pair_of(uint16_t low, uint16_t high) {
    return low | (uint32_t)high << 16;
}

static void read_q8_0(const void *blocks, spi_vk_step *step) {
    const spi_q8_0 *two = blocks;
    step->words[0] = pair_of(two[0].d, two[1].d);
    memcpy(step->quants, two[0].q, 32);
    memcpy(step->quants + 32, two[1].q, 32);
}

static void read_q4_0(const void *blocks, spi_vk_step *step) {
    const spi_q4_0 *two = blocks;
    step->words[0] = pair_of(two[0].d, two[1].d);
    take_nibbles(step->quants, two[0].q);
    take_nibbles(step->quants + 32, two[1].q);
}

static void read_iq4_nl(const void *blocks, spi_vk_step *step) {
    const spi_iq4_nl *two = blocks;
    step->words[0] = pair_of(two[0].d, two[1].d);
    take_nibbles(step->quants, two[0].q);
    take_nibbles(step->quants + 32, two[1].q);
}

static void read_q4_1(const void *blocks, spi_vk_step *step) {
    const spi_q4_1 *one = blocks;
    step->words[0] = pair_of(one->d, one->min);
    take_nibbles(step->quants, one->q);
}

static void read_q5_0(const void *blocks, spi_vk_step *step) {
    const spi_q5_0 *two = blocks;
    step->words[0] = pair_of(two[0].d, two[1].d);
    for (uint32_t i = 0; i < 2; i++) {
        take_nibbles(step->quants + 32 * i, two[i].q);
        add_fifth(step->quants + 32 * i, two[i].high);
    }
}

static void read_q5_1(const void *blocks, spi_vk_step *step) {
    const spi_q5_1 *one = blocks;
    step->words[0] = pair_of(one->d, one->min);
    take_nibbles(step->quants, one->q);
    add_fifth(step->quants, one->high);
}

static void read_mxfp4(const void *blocks, spi_vk_step *step) {
    const spi_mxfp4 *four = blocks;
    step->words[0] = 0;
    for (uint32_t i = 0; i < 4; i++) {
        step->words[0] |= (uint32_t)four[i].exponent << (8 * i);
        take_nibbles(step->quants + 32 * i, four[i].q);
    }
}

/* Two bits of each of 128 elements from 32 bytes, shifted to their place. */
static void add_two_bits(uint8_t quants[128], const uint8_t q[32], uint32_t shift) {
    for (uint32_t j = 0; j < 128; j++) {
        quants[j] |= (uint8_t)((q[j % 32] >> (j / 32 * 2) & 3) << shift);
    }
}

/* One bit of each of 256 elements from 32 bytes. */
static void add_bit(uint8_t quants[256], const uint8_t high[32], uint32_t shift) {
    for (uint32_t j = 0; j < 256; j++) {
        quants[j] |= (uint8_t)((high[j % 32] >> (j / 32) & 1) << shift);
    }
}

/* The low nibbles of so many bytes, then the high ones. */
static void take_halves(uint8_t *quants, const uint8_t *q, uint32_t bytes) {
    for (uint32_t j = 0; j < bytes; j++) {
        quants[j] = q[j] & 15;
        quants[j + bytes] = q[j] >> 4;
    }
}

static void read_q2_k(const void *blocks, spi_vk_step *step) {
    const spi_q2_k *one = blocks;
    step->words[0] = pair_of(one->d, one->min);
    memcpy(step->words + 1, one->scales, 16);
    memset(step->quants, 0, sizeof step->quants);
    add_two_bits(step->quants, one->q, 0);
    add_two_bits(step->quants + 128, one->q + 32, 0);
}

static void read_q3_k(const void *blocks, spi_vk_step *step) {
    const spi_q3_k *one = blocks;
    step->words[0] = one->d;
    memcpy(step->words + 1, one->scales, 12);
    memset(step->quants, 0, sizeof step->quants);
    add_two_bits(step->quants, one->q, 0);
    add_two_bits(step->quants + 128, one->q + 32, 0);
    add_bit(step->quants, one->high, 2);
}

static void read_q4_k(const void *blocks, spi_vk_step *step) {
    const spi_q4_k *one = blocks;
    step->words[0] = pair_of(one->d, one->min);
    memcpy(step->words + 1, one->scales, 12);
    for (uint32_t i = 0; i < 4; i++) {
        take_halves(step->quants + 64 * i, one->q + 32 * i, 32);
    }
}

static void read_q5_k(const void *blocks, spi_vk_step *step) {
    const spi_q5_k *one = blocks;
    step->words[0] = pair_of(one->d, one->min);
    memcpy(step->words + 1, one->scales, 12);
    for (uint32_t i = 0; i < 4; i++) {
        take_halves(step->quants + 64 * i, one->q + 32 * i, 32);
    }
    add_bit(step->quants, one->high, 4);
}

static void read_q6_k(const void *blocks, spi_vk_step *step) {
    const spi_q6_k *one = blocks;
    step->words[0] = one->d;
    memcpy(step->words + 1, one->scales, 16);
    for (uint32_t i = 0; i < 2; i++) {
        take_halves(step->quants + 128 * i, one->low + 64 * i, 64);
        add_two_bits(step->quants + 128 * i, one->high + 32 * i, 4);
    }
}

static void read_iq4_xs(const void *blocks, spi_vk_step *step) {
    const spi_iq4_xs *one = blocks;
    step->words[0] = pair_of(one->d, one->scales_high);
    memcpy(step->words + 1, one->scales_low, 4);
    for (uint32_t i = 0; i < 8; i++) {
        take_nibbles(step->quants + 32 * i, one->q + 16 * i);
    }
}

const spi_vk_format spi_vk_formats[SPI_VK_TYPE_COUNT] = {
    [SPI_VK_F32] = {SP_F32, 4, 32, 0, 0, NULL},
    [SPI_VK_F16] = {SP_F16, 8, 16, 0, 0, NULL},
    [SPI_VK_BF16] = {SP_BF16, 8, 16, 0, 0, NULL},
    [SPI_VK_Q8_0] = {SP_Q8_0, 64, 8, 0, 1, read_q8_0},
    [SPI_VK_Q4_0] = {SP_Q4_0, 64, 4, 0, 1, read_q4_0},
    [SPI_VK_Q4_1] = {SP_Q4_1, 32, 4, 0, 1, read_q4_1},
    [SPI_VK_Q5_0] = {SP_Q5_0, 64, 4, 1, 1, read_q5_0},
    [SPI_VK_Q5_1] = {SP_Q5_1, 32, 4, 1, 1, read_q5_1},
    [SPI_VK_IQ4_NL] = {SP_IQ4_NL, 64, 4, 0, 1, read_iq4_nl},
    [SPI_VK_MXFP4] = {SP_MXFP4, 128, 4, 0, 1, read_mxfp4},
    [SPI_VK_Q2_K] = {SP_Q2_K, 256, 2, 0, 5, read_q2_k},
    [SPI_VK_Q3_K] = {SP_Q3_K, 256, 2, 1, 4, read_q3_k},
    [SPI_VK_Q4_K] = {SP_Q4_K, 256, 4, 0, 4, read_q4_k},
    [SPI_VK_Q5_K] = {SP_Q5_K, 256, 4, 1, 4, read_q5_k},
    [SPI_VK_Q6_K] = {SP_Q6_K, 256, 4, 2, 5, read_q6_k},
    [SPI_VK_IQ4_XS] = {SP_IQ4_XS, 256, 4, 0, 2, read_iq4_xs},
    [SPI_VK_AFFINE2] = {SP_AFFINE2, 128, 2, 0, 0, NULL},
    [SPI_VK_AFFINE3] = {SP_AFFINE3, 128, 2, 1, 0, NULL},
    [SPI_VK_AFFINE4] = {SP_AFFINE4, 128, 4, 0, 0, NULL},
    [SPI_VK_AFFINE5] = {SP_AFFINE5, 128, 4, 1, 0, NULL},
    [SPI_VK_AFFINE6] = {SP_AFFINE6, 128, 4, 2, 0, NULL},
    [SPI_VK_AFFINE8] = {SP_AFFINE8, 128, 8, 0, 0, NULL},
};
