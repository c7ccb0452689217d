/* device/cuda/formats.c - the weight formats as planes: see spi_cu_format. The fields of a block are those of
 * github.com/ggml-org/ggml, ggml-common.h. */
#include "device/cuda/cuda.h"

typedef struct known {
    sp_dtype type;
    spi_cu_format format;
} known;

static const known formats[] = {
    {SP_F32, {1, 4, 1, {{0, 4}}}},
    {SP_F16, {1, 2, 1, {{0, 2}}}},
    {SP_BF16, {1, 2, 1, {{0, 2}}}},
    {SP_Q8_0, {32, 34, 2, {{2, 32}, {0, 2}}}}, /* values, scale */
    {SP_Q4_0, {32, 18, 2, {{2, 16}, {0, 2}}}},
    {SP_Q4_1, {32, 20, 2, {{4, 16}, {0, 4}}}},         /* values, scale and minimum */
    {SP_Q5_0, {32, 22, 3, {{6, 16}, {2, 4}, {0, 2}}}}, /* values, fifth bits, scale */
    {SP_Q5_1, {32, 24, 3, {{8, 16}, {4, 4}, {0, 4}}}},
    {SP_Q2_K, {256, 84, 3, {{16, 64}, {0, 16}, {80, 4}}}},      /* values, scales of sub-blocks, scale and minimum */
    {SP_Q3_K, {256, 110, 3, {{32, 64}, {0, 32}, {96, 14}}}},    /* values, third bits, scales */
    {SP_Q4_K, {256, 144, 2, {{16, 128}, {0, 16}}}},             /* values, scales */
    {SP_Q5_K, {256, 176, 3, {{48, 128}, {16, 32}, {0, 16}}}},   /* values, fifth bits, scales */
    {SP_Q6_K, {256, 210, 3, {{0, 128}, {128, 64}, {192, 18}}}}, /* low bits, high bits, scales */
    {SP_IQ4_NL, {32, 18, 2, {{2, 16}, {0, 2}}}},
    {SP_IQ4_XS, {256, 136, 2, {{8, 128}, {0, 8}}}},
    {SP_MXFP4, {32, 17, 2, {{1, 16}, {0, 1}}}},
    {SP_AFFINE2, {32, 16, 2, {{0, 8}, {8, 8}}}}, /* blocks of spi_tensor_affine_blocks: codes, scale and bias */
    {SP_AFFINE3, {32, 20, 2, {{0, 12}, {12, 8}}}},
    {SP_AFFINE4, {32, 24, 2, {{0, 16}, {16, 8}}}},
    {SP_AFFINE5, {32, 28, 2, {{0, 20}, {20, 8}}}},
    {SP_AFFINE6, {32, 32, 2, {{0, 24}, {24, 8}}}},
    {SP_AFFINE8, {32, 40, 2, {{0, 32}, {32, 8}}}},
};

const spi_cu_format *spi_cu_format_of(sp_dtype type) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (formats[i].type == type) {
            return &formats[i].format;
        }
    }
    return NULL;
}

void spi_cu_matrix_lay_out(const spi_cu_format *format, const spi_tensor *tensor, spi_cu_matrix *matrix) {
    uint32_t elements = (tensor->cols + SPI_CU_ROW_ELEMENTS - 1) / SPI_CU_ROW_ELEMENTS * SPI_CU_ROW_ELEMENTS;
    uint32_t blocks = elements / format->block_elements;
    *matrix =
        (spi_cu_matrix){.type = tensor->type, .rows = tensor->rows, .cols = tensor->cols, .groups = elements / 32};
    for (uint32_t i = 0; i < format->plane_count; i++) {
        matrix->plane_bytes[i] = matrix->stride;
        matrix->stride += (blocks * format->planes[i].bytes + 15) / 16 * 16;
    }
}
