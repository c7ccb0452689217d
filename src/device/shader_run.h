/* device/shader_run.h - what a run is for the backends whose kernels come from shaders/ (vulkan, metal): the words that
 * kernels read of its rows and outputs, and which of them lie so near each other that one binding reaches them.
 *
 * Guests' addresses reach kernels as offsets only, of a binding in its buffer and of rows, blocks and logits in the
 * binding, all computed by the host from numbers that it checked. The parameter buffer has, in 32-bit words, a record
 * for each row and each output, what a backend adds, and a table of (cos, sin) for each row and pair of columns, one
 * for each way of rotating that the tape has. The host computes the tables: a shader's sine has no accuracy to count on
 * at large angles. May include: device/rotation.h, device/tape.h.
 */
#ifndef SPI_DEVICE_SHADER_RUN_H
#define SPI_DEVICE_SHADER_RUN_H

#include "device/rotation.h"
#include "device/tape.h"

#define SPI_SHADER_ROW_WORDS 4u /* token, position, where the session's KV starts in its binding (words), 0 */
#define SPI_SHADER_OUT_WORDS 2u /* row, where the logits start in their binding (words) */

/* Of a span of a session's blocks, for attention. */
#define SPI_SHADER_SPAN_FIRST 1u /* of a session's spans: attention starts afresh */
#define SPI_SHADER_SPAN_LAST  2u /* attention ends */

/* A row of scratch is padded to it with zeros, so that kernels need no care at a row's end. */
#define SPI_SHADER_COLUMN_PAD 128u
static inline uint32_t spi_shader_stride(uint32_t width) { /* in elements */
    return (width + SPI_SHADER_COLUMN_PAD - 1) / SPI_SHADER_COLUMN_PAD * SPI_SHADER_COLUMN_PAD;
}

/* Where the logits of an output go. */
typedef struct spi_shader_out {
    const spi_link *link;
    uint64_t offset; /* bytes from its region's base */
} spi_shader_out;

/* Gives each rotation its table, from word *words of the parameters on, which becomes the first behind them. */
void spi_shader_place_tables(spi_rotations *rotations, uint32_t rows_max, uint64_t *words);

/* Query heads of the op of attention that has the most; 1 without any. */
uint32_t spi_shader_heads_max(const spi_tape *tape);

/* Rows f32 [rows][width] to rows of scratch [rows][spi_shader_stride(width)], and back. */
void spi_shader_pad_rows(const float *data, uint32_t rows, uint32_t width, float *scratch);
void spi_shader_unpad_rows(const float *scratch, uint32_t rows, uint32_t width, float *data);

/* Blocks that the session has behind the run. */
uint32_t spi_shader_block_count(const spi_segment *segment);

/* The records of a segment's rows; rows: those of all. */
void spi_shader_write_rows(const spi_run *run, const spi_segment *segment, uint32_t base_word, uint32_t *rows);

/* The records of all outputs but where their logits start, and where that is in regions. */
void spi_shader_find_outs(const spi_run *run, uint32_t vocab, uint32_t *outs, spi_shader_out *places);

/* Whether one binding reaches bytes [offset, offset + bytes) of the region; if so it is noted in env. */
typedef bool spi_shader_reaches(void *env, const spi_link *link, uint64_t offset, uint64_t bytes);

/* As many of the run's segments from `first` on as one binding reaches all blocks of: up to, but without the one that
 * is returned, which is `first` if it reaches none. What is noted last is that binding. */
uint32_t spi_shader_reach_segments(const spi_run *run, uint64_t block_bytes, uint32_t first,
                                   spi_shader_reaches *reaches, void *env);

/* The same of outputs' logits. */
uint32_t spi_shader_reach_outs(const spi_shader_out *places, uint32_t count, uint32_t vocab, uint32_t first,
                               spi_shader_reaches *reaches, void *env);

#endif
