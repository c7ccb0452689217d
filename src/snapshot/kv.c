/* snapshot/kv.c - rows of a block that is not full, out of its place and in: [layer][K,V][head][rows][head_dim] f16, the
 * block's own order without the rows that there are not yet. */
#include <string.h>

#include "model/model.h"
#include "snapshot/snapshot.h"

static const spi_kv_shape *shape_of(const sp_session *session) {
    return &spi_model_tape(session->model)->kv;
}

/* Everything that decides what a block's bytes mean. Two formats never share a block, whatever else is the same. */
uint64_t spi_kv_format(const sp_model *model) {
    const spi_kv_shape *shape = &spi_model_tape(model)->kv;
    uint64_t words[] = {1, SPI_BLOCK_TOKENS, shape->layers, shape->kv_heads, shape->head_dim, 16, shape->block_bytes};
    return spi_hash64(words, sizeof words);
}

uint64_t spi_kv_block_bytes_of(const sp_session *session) {
    return shape_of(session)->block_bytes;
}

uint64_t spi_kv_tail_bytes(const sp_session *session, uint32_t rows) {
    const spi_kv_shape *shape = shape_of(session);
    return (uint64_t)shape->layers * 2 * shape->kv_heads * rows * shape->head_dim * 2;
}

static void copy_rows(const sp_session *session, uint32_t block, uint32_t rows, uint8_t *packed, bool out) {
    const spi_kv_shape *shape = shape_of(session);
    size_t bytes = (size_t)rows * shape->head_dim * 2;
    uint8_t *first = spi_session_block(session, 0);
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        for (uint32_t which = 0; which < 2; which++) {
            for (uint32_t head = 0; head < shape->kv_heads; head++) {
                uint8_t *place = first + spi_kv_row_offset(shape, layer, which, head, block * SPI_BLOCK_TOKENS);
                memcpy(out ? packed : place, out ? place : packed, bytes);
                packed += bytes;
            }
        }
    }
}

void spi_kv_tail_out(const sp_session *session, uint32_t block, uint32_t rows, uint8_t *to) {
    copy_rows(session, block, rows, to, true);
}

void spi_kv_tail_in(sp_session *session, uint32_t block, uint32_t rows, const uint8_t *from) {
    copy_rows(session, block, rows, (uint8_t *)(uintptr_t)from, false);
}
