/* device/shader_run.c - see shader_run.h. */
#include "device/shader_run.h"

#include <string.h>

void spi_shader_place_tables(spi_rotations *rotations, uint32_t rows_max, uint64_t *words) {
    for (uint32_t i = 0; i < rotations->count; i++) {
        rotations->items[i].place = *words;
        *words += (uint64_t)rows_max * rotations->items[i].pairs * 2;
    }
}

uint32_t spi_shader_heads_max(const spi_tape *tape) {
    uint32_t heads = 1;
    for (uint32_t i = 0; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        heads = op->kind == SPI_OP_ATTENTION && op->heads > heads ? op->heads : heads;
    }
    return heads;
}

void spi_shader_pad_rows(const float *data, uint32_t rows, uint32_t width, float *scratch) {
    uint32_t stride = spi_shader_stride(width);
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(scratch + (size_t)i * stride, data + (size_t)i * width, width * sizeof(float));
        memset(scratch + (size_t)i * stride + width, 0, (stride - width) * sizeof(float));
    }
}

void spi_shader_unpad_rows(const float *scratch, uint32_t rows, uint32_t width, float *data) {
    uint32_t stride = spi_shader_stride(width);
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(data + (size_t)i * width, scratch + (size_t)i * stride, width * sizeof(float));
    }
}

uint32_t spi_shader_block_count(const spi_segment *segment) {
    return (segment->position_first + segment->row_count + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
}

void spi_shader_write_rows(const spi_run *run, const spi_segment *segment, uint32_t base_word, uint32_t *rows) {
    for (uint32_t i = 0; i < segment->row_count; i++) {
        uint32_t row = segment->row_first + i;
        uint32_t *words = rows + (size_t)row * SPI_SHADER_ROW_WORDS;
        words[0] = (uint32_t)run->tokens[row];
        words[1] = segment->position_first + i;
        words[2] = base_word;
        words[3] = 0;
    }
}

void spi_shader_find_outs(const spi_run *run, uint32_t vocab, uint32_t *outs, spi_shader_out *places) {
    uint64_t row_bytes = (uint64_t)vocab * sizeof(float);
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        for (uint32_t i = 0; i < segment->out_count; i++) {
            uint32_t out = segment->out_first + i;
            outs[(size_t)out * SPI_SHADER_OUT_WORDS] = segment->row_first + segment->row_count - segment->out_count + i;
            places[out] = (spi_shader_out){segment->link, segment->logits_offset + i * row_bytes};
        }
    }
}

/* Bytes of a region that a binding is to reach. */
typedef struct reach {
    const spi_link *link;
    uint64_t low, high;
} reach;

/* Takes in more of the same region, if one binding reaches all of it. */
static bool widen(reach *so_far, const spi_link *link, uint64_t low, uint64_t high, spi_shader_reaches *reaches,
                  void *env) {
    low = so_far->low < low ? so_far->low : low;
    high = so_far->high > high ? so_far->high : high;
    if (link != so_far->link || !reaches(env, link, low, high - low)) {
        return false;
    }
    so_far->low = low;
    so_far->high = high;
    return true;
}

uint32_t spi_shader_reach_segments(const spi_run *run, uint64_t block_bytes, uint32_t first,
                                   spi_shader_reaches *reaches, void *env) {
    const spi_segment *segments = run->segments;
    reach all = {segments[first].link, segments[first].kv_offset, segments[first].kv_offset};
    uint32_t end = first;
    while (end < run->segment_count) {
        const spi_segment *segment = &segments[end];
        uint64_t bytes = spi_shader_block_count(segment) * block_bytes;
        if (!widen(&all, segment->link, segment->kv_offset, segment->kv_offset + bytes, reaches, env)) {
            break;
        }
        end++;
    }
    return end;
}

uint32_t spi_shader_reach_outs(const spi_shader_out *places, uint32_t count, uint32_t vocab, uint32_t first,
                               spi_shader_reaches *reaches, void *env) {
    reach all = {places[first].link, places[first].offset, places[first].offset};
    uint32_t end = first;
    while (end < count && widen(&all, places[end].link, places[end].offset,
                                places[end].offset + (uint64_t)vocab * sizeof(float), reaches, env)) {
        end++;
    }
    return end;
}
