/* quantise/plan.h - which tensor of a model gets which type. May include: base, gguf. */
#ifndef SPI_QUANTISE_PLAN_H
#define SPI_QUANTISE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "gguf/gguf.h"
#include "samepage/dtype.h"

/* A file's general.file_type: github.com/ggml-org/llama.cpp, llama_ftype. */
typedef enum spi_file_type {
    SPI_FILE_F32 = 0,
    SPI_FILE_F16 = 1,
    SPI_FILE_Q4_0 = 2,
    SPI_FILE_Q4_1 = 3,
    SPI_FILE_Q8_0 = 7,
    SPI_FILE_Q5_0 = 8,
    SPI_FILE_Q5_1 = 9,
    SPI_FILE_Q2_K = 10,
    SPI_FILE_Q3_K_S = 11,
    SPI_FILE_Q3_K_M = 12,
    SPI_FILE_Q3_K_L = 13,
    SPI_FILE_Q4_K_S = 14,
    SPI_FILE_Q4_K_M = 15,
    SPI_FILE_Q5_K_S = 16,
    SPI_FILE_Q5_K_M = 17,
    SPI_FILE_Q6_K = 18,
    SPI_FILE_IQ4_NL = 25,
    SPI_FILE_IQ4_XS = 30,
    SPI_FILE_BF16 = 32
} spi_file_type;

typedef struct spi_mix {
    const char *name;
    spi_file_type file_type;
    sp_dtype base; /* what a tensor has that no rule is about */
} spi_mix;

typedef struct spi_plan {
    const spi_mix *mix;
    bool pure;
    bool tied;          /* there is no output.weight: the embedding is the output matrix too */
    bool shares_values; /* 80 layers whose heads share values: attn_v is small there and worth more bits */
    uint32_t layers;
    uint32_t values_count;    /* tensors that are or hold a layer's attn_v */
    uint32_t heads_per_value; /* heads that share one KV head */
} spi_plan;

/* SP_UNSUPPORTED: no such name, or a model that the rules are not made for. */
sp_status spi_plan_make(const spi_source *gguf, const char *type, bool pure, spi_plan *plan, sp_error *error);

/* What the tensor is to have; its own type if it is to stay as it is. */
uint32_t spi_plan_type(const spi_plan *plan, const spi_source_tensor *tensor);

const spi_mix *spi_mix_at(uint32_t index); /* NULL behind the last */

#endif
