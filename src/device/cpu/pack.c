/* device/cpu/pack.c - from the file's blocks to packed.h's units.
 *
 * In plain C, for every width: the compiler turns the words of four codes into vectors where that helps, and reading
 * the file takes as long. May include: device, dtype, base.
 */
#include <string.h>

#include "device/cpu/packed.h"
#include "dtype/blocks.h"

/* Instances for a constant type and width, so that all decisions in them are made once. */
#define INSTANCE static inline __attribute__((always_inline))

#define UNIT_BLOCKS_MAX 8u
#define HALVES_MAX      8u
#define WORDS_MAX       4u

/* A unit of one row. */
typedef struct unit {
    uint16_t halves[HALVES_MAX];
    uint32_t words[WORDS_MAX];
    uint32_t codes[UNIT_BLOCKS_MAX][SPI_PACKED_STEPS]; /* four columns each, the first in the lowest byte */
} unit;

static uint32_t load(const void *bytes) {
    uint32_t four;
    memcpy(&four, bytes, sizeof four);
    return four;
}

/* Nibbles as blocks of 32 have them: 16 bytes, first the low ones. */
static void take_nibbles(uint32_t codes[SPI_PACKED_STEPS], const uint8_t q[16]) {
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t four = load(q + 4 * i);
        codes[i] = four & 0x0f0f0f0fu;
        codes[i + 4] = four >> 4 & 0x0f0f0f0fu;
    }
}

/* Bits 0, 1, 2, 3 of x, as the bits `to` of four bytes. */
static uint32_t spread(uint32_t x, uint32_t to) {
    return (x & 1) << to | (x >> 1 & 1) << (8 + to) | (x >> 2 & 1) << (16 + to) | (x >> 3 & 1) << (24 + to);
}

static void take_fifth(uint32_t codes[SPI_PACKED_STEPS], const uint8_t high[4]) {
    uint32_t bits = load(high);
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        codes[i] |= spread(bits >> (4 * i), 4);
    }
}

/* Nibbles as blocks of 256 have them: each 32 bytes hold 32 values in their low nibbles and 32 in the high ones. */
static void take_super_nibbles(unit *to, const uint8_t q[128]) {
    for (uint32_t b = 0; b < 8; b++) {
        for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
            to->codes[b][i] = load(q + b / 2 * 32 + 4 * i) >> (b % 2 * 4) & 0x0f0f0f0fu;
        }
    }
}

/* Two bits of each value: 32 bytes hold four times 32 values. They become the bits from `shift` on. */
static void add_pairs(unit *to, const uint8_t q[64], uint32_t shift) {
    for (uint32_t b = 0; b < 8; b++) {
        for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
            to->codes[b][i] |= (load(q + b / 4 * 32 + 4 * i) >> (b % 4 * 2) & 0x03030303u) << shift;
        }
    }
}

/* One bit of each value: bit b of 32 bytes is that of block b. */
static void add_bits(unit *to, const uint8_t high[32], uint32_t shift) {
    for (uint32_t b = 0; b < 8; b++) {
        for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
            to->codes[b][i] |= (load(high + 4 * i) >> b & 0x01010101u) << shift;
        }
    }
}

static void take_q6_k(unit *to, const spi_q6_k *from) {
    to->halves[0] = from->d;
    memcpy(to->words, from->scales, sizeof from->scales);
    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *low = from->low + b / 4 * 64 + b % 2 * 32;
        for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
            to->codes[b][i] = load(low + 4 * i) >> (b % 4 / 2 * 4) & 0x0f0f0f0fu;
        }
    }
    add_pairs(to, from->high, 4);
}

INSTANCE void take_super(sp_dtype type, unit *to, const void *block) {
    if (type == SP_Q6_K) {
        take_q6_k(to, block);
    } else if (type == SP_Q4_K || type == SP_Q5_K) {
        /* Both begin with d, min and the scales. */
        const spi_q4_k *from = block;
        to->halves[0] = from->d;
        to->halves[1] = from->min;
        memcpy(to->words, from->scales, sizeof from->scales);
        take_super_nibbles(to, type == SP_Q4_K ? from->q : ((const spi_q5_k *)block)->q);
        if (type == SP_Q5_K) {
            add_bits(to, ((const spi_q5_k *)block)->high, 4);
        }
    } else if (type == SP_Q2_K) {
        const spi_q2_k *from = block;
        to->halves[0] = from->d;
        to->halves[1] = from->min;
        memcpy(to->words, from->scales, sizeof from->scales);
        memset(to->codes, 0, sizeof to->codes);
        add_pairs(to, from->q, 0);
    } else if (type == SP_Q3_K) {
        const spi_q3_k *from = block;
        to->halves[0] = from->d;
        memcpy(to->words, from->scales, sizeof from->scales);
        memset(to->codes, 0, sizeof to->codes);
        add_pairs(to, from->q, 0);
        add_bits(to, from->high, 2);
    } else {
        const spi_iq4_xs *from = block;
        to->halves[0] = from->d;
        to->halves[1] = from->scales_high;
        to->words[0] = load(from->scales_low);
        for (uint32_t b = 0; b < 8; b++) {
            take_nibbles(to->codes[b], from->q + b * 16);
        }
    }
}

/* Block b of a unit of four. */
INSTANCE void take_block(sp_dtype type, unit *to, uint32_t b, const void *block) {
    if (type == SP_Q8_0) {
        const spi_q8_0 *from = block;
        to->halves[b] = from->d;
        memcpy(to->codes[b], from->q, sizeof from->q);
    } else if (type == SP_MXFP4) {
        const spi_mxfp4 *from = block;
        to->words[0] = (b ? to->words[0] : 0) | (uint32_t)from->exponent << (8 * b);
        take_nibbles(to->codes[b], from->q);
    } else if (type == SP_Q4_1) {
        const spi_q4_1 *from = block;
        to->halves[b] = from->d;
        to->halves[b + 4] = from->min;
        take_nibbles(to->codes[b], from->q);
    } else if (type == SP_Q5_1) {
        const spi_q5_1 *from = block;
        to->halves[b] = from->d;
        to->halves[b + 4] = from->min;
        take_nibbles(to->codes[b], from->q);
        take_fifth(to->codes[b], from->high);
    } else if (type == SP_Q5_0) {
        const spi_q5_0 *from = block;
        to->halves[b] = from->d;
        take_nibbles(to->codes[b], from->q);
        take_fifth(to->codes[b], from->high);
    } else {
        const spi_q4_0 *from = block; /* IQ4_NL has the same fields */
        to->halves[b] = from->d;
        take_nibbles(to->codes[b], from->q);
    }
}

/* A row's block into its lanes. */
INSTANCE void put_codes(sp_dtype type, uint8_t *block, uint32_t lanes, uint32_t lane,
                        const uint32_t codes[SPI_PACKED_STEPS], uint32_t flip) {
    uint32_t low_bits = spi_packed_low_bits(type), vector = lanes * 4;
    uint8_t *at = block + lane * 4;
    for (uint32_t v = 0; v < low_bits; v++, at += vector) {
        uint32_t four = 0;
        if (low_bits == 8) {
            four = codes[v] ^ flip;
        } else if (low_bits == 4) {
            four = (codes[v] & 0x0f0f0f0fu) | (codes[v + 4] & 0x0f0f0f0fu) << 4;
        } else {
            for (uint32_t i = 0; i < 4; i++) {
                four |= (codes[4 * v + i] & 0x03030303u) << (2 * i);
            }
        }
        memcpy(at, &four, sizeof four);
    }
    if (spi_packed_high_bits(type) == 1) {
        uint32_t four = 0;
        for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
            four |= (codes[i] >> low_bits & 0x01010101u) << i;
        }
        memcpy(at, &four, sizeof four);
    } else if (spi_packed_high_bits(type) == 2) {
        for (uint32_t v = 0; v < 2; v++, at += vector) {
            uint32_t four = 0;
            for (uint32_t i = 0; i < 4; i++) {
                four |= (codes[4 * v + i] >> low_bits & 0x03030303u) << (2 * i);
            }
            memcpy(at, &four, sizeof four);
        }
    }
}

INSTANCE void put_unit(sp_dtype type, uint8_t *to, uint32_t lanes, uint32_t lane, const unit *from, uint32_t flip,
                       const spi_affine *affine) {
    uint16_t *halves = (uint16_t *)(void *)to;
    for (uint32_t i = 0; i < spi_packed_halves(type); i++) {
        halves[i * lanes + lane] = from->halves[i];
    }
    uint8_t *words = to + spi_packed_words_offset(type, lanes, affine);
    for (uint32_t i = 0; i < spi_packed_words(type); i++) {
        memcpy(words + (i * lanes + lane) * 4, &from->words[i], 4);
    }
    for (uint32_t b = 0; b < spi_packed_unit_blocks(type); b++) {
        put_codes(type, to + spi_packed_blocks_offset(type, lanes, affine) + b * spi_packed_block_bytes(type, lanes),
                  lanes, lane, from->codes[b], flip);
    }
}

/* A block of 32 codes, four to a word. Of the last bytes a copy is read, since eight are taken at once. */
INSTANCE void take_affine_codes(uint32_t bits, uint32_t codes[SPI_PACKED_STEPS], const uint8_t *from) {
    const uint32_t mask = (1u << bits) - 1;
    uint8_t copy[SPI_AFFINE_BLOCK + 8] = {0};
    memcpy(copy, from, 4 * (size_t)bits);
    for (uint32_t i = 0; i < SPI_PACKED_STEPS; i++) {
        uint64_t eight;
        memcpy(&eight, copy + 4 * i * bits / 8, sizeof eight);
        eight >>= 4 * i * bits % 8;
        codes[i] = (uint32_t)(eight & mask) | (uint32_t)(eight >> bits & mask) << 8 |
                   (uint32_t)(eight >> (2 * bits) & mask) << 16 | (uint32_t)(eight >> (3 * bits) & mask) << 24;
    }
}

/* Scales and biases of a row's unit into its lane, as they are. */
static void put_affine_scales(uint8_t *to, uint32_t lanes, uint32_t lane, const spi_affine *affine, uint64_t first,
                              uint32_t count) {
    const uint32_t bytes = spi_packed_scale_bytes(affine), groups = spi_packed_groups(affine);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(to + (i * lanes + lane) * bytes, (const uint8_t *)affine->scales + (first + i) * bytes, bytes);
        memcpy(to + ((groups + i) * lanes + lane) * bytes, (const uint8_t *)affine->biases + (first + i) * bytes,
               bytes);
    }
}

INSTANCE void pack_affine_row(sp_dtype type, uint32_t lanes, uint32_t flip, uint8_t *to, size_t stride, uint32_t lane,
                              const spi_tensor *tensor, uint32_t row) {
    const spi_affine *affine = &tensor->affine;
    const uint32_t bits = spi_affine_bits(type), blocks = tensor->cols / SPI_PACKED_COLUMNS;
    const uint32_t groups = spi_packed_groups(affine), row_groups = tensor->cols / affine->group;
    const uint8_t *codes = (const uint8_t *)tensor->data + (size_t)row * blocks * 4 * bits;
    unit from = {0};
    for (uint32_t b = 0, group = 0; b < blocks; b += 4, group += groups, to += stride) {
        uint32_t left = row_groups - group;
        for (uint32_t i = 0; i < 4 && b + i < blocks; i++, codes += 4 * bits) {
            take_affine_codes(bits, from.codes[i], codes);
        }
        put_unit(type, to, lanes, lane, &from, type == SP_AFFINE8 ? 0x80808080u ^ flip : flip, affine);
        put_affine_scales(to, lanes, lane, affine, (uint64_t)row * row_groups + group, left < groups ? left : groups);
    }
}

/* One row into its lane of one set: units lie `stride` apart. */
INSTANCE void pack_row(sp_dtype type, uint32_t lanes, uint32_t flip, uint8_t *to, size_t stride, uint32_t lane,
                       const uint8_t *row, uint32_t cols) {
    uint32_t unit_blocks = spi_packed_unit_blocks(type), blocks = cols / SPI_PACKED_COLUMNS;
    size_t block_bytes = sp_dtype_block_bytes(type);
    unit from = {0};
    for (uint32_t b = 0; b < blocks; b += unit_blocks, to += stride) {
        if (unit_blocks == 8) {
            take_super(type, &from, row + b / 8 * block_bytes);
        } else {
            for (uint32_t i = 0; i < unit_blocks && b + i < blocks; i++) {
                take_block(type, &from, i, row + (b + i) * block_bytes);
            }
        }
        put_unit(type, to, lanes, lane, &from, flip, NULL);
    }
}

size_t spi_packed_bytes(const spi_tensor *tensor, uint32_t lanes) {
    size_t group_rows = (size_t)SPI_PACKED_SETS * lanes, groups = (tensor->rows + group_rows - 1) / group_rows;
    return groups * SPI_PACKED_SETS * spi_packed_units(tensor->type, tensor->cols) *
           spi_packed_unit_bytes(tensor->type, lanes, &tensor->affine);
}

INSTANCE void pack(sp_dtype type, uint32_t lanes, uint32_t flip, uint8_t *packed, const spi_tensor *tensor,
                   uint32_t row_first, uint32_t row_end) {
    const uint32_t cols = tensor->cols;
    size_t unit_bytes = spi_packed_unit_bytes(type, lanes, &tensor->affine), stride = unit_bytes * SPI_PACKED_SETS;
    size_t row_bytes = (size_t)(cols / sp_dtype_block_elements(type)) * sp_dtype_block_bytes(type);
    size_t set_bytes = spi_packed_units(type, cols) * stride;
    for (uint32_t row = row_first; row < row_end && row < tensor->rows; row++) {
        uint32_t set = row / lanes;
        uint8_t *to = packed + set / SPI_PACKED_SETS * set_bytes + set % SPI_PACKED_SETS * unit_bytes;
        if (spi_affine_bits(type)) {
            pack_affine_row(type, lanes, flip, to, stride, row % lanes, tensor, row);
        } else {
            const uint8_t *from = (const uint8_t *)tensor->data + row * row_bytes;
            pack_row(type, lanes, flip, to, stride, row % lanes, from, cols);
        }
    }
}

#define PACK(type)                                                                                                     \
    case type:                                                                                                         \
        if (lanes == 8) {                                                                                              \
            pack(type, 8, flip * 0x01010101u, packed, tensor, first, end);                                             \
        } else {                                                                                                       \
            pack(type, 16, flip * 0x01010101u, packed, tensor, first, end);                                            \
        }                                                                                                              \
        break

void spi_pack(uint32_t lanes, uint8_t flip, void *packed, const spi_tensor *tensor, uint32_t group_first,
              uint32_t group_count) {
    uint32_t group_rows = SPI_PACKED_SETS * lanes, first = group_first * group_rows;
    uint32_t end = first + group_count * group_rows;
    switch (tensor->type) {
        PACK(SP_Q4_0);
        PACK(SP_Q4_1);
        PACK(SP_Q5_0);
        PACK(SP_Q5_1);
        PACK(SP_Q8_0);
        PACK(SP_Q2_K);
        PACK(SP_Q3_K);
        PACK(SP_Q4_K);
        PACK(SP_Q5_K);
        PACK(SP_Q6_K);
        PACK(SP_IQ4_NL);
        PACK(SP_IQ4_XS);
        PACK(SP_MXFP4);
        PACK(SP_AFFINE2);
        PACK(SP_AFFINE3);
        PACK(SP_AFFINE4);
        PACK(SP_AFFINE5);
        PACK(SP_AFFINE6);
        PACK(SP_AFFINE8);
    default: break;
    }
}
