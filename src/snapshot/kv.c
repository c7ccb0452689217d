/* snapshot/kv.c - what a snapshot has to know of blocks: what their format is, and one that is not full. */
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

uint64_t spi_kv_row_bytes(const spi_tail *tail) {
    const spi_kv_shape *shape = shape_of(tail->session);
    return (uint64_t)shape->layers * 2 * shape->kv_heads * shape->head_dim * 2;
}

/* Head by head: its rows, and what the block has room for behind them; then the padding at the block's end. */
spi_part spi_kv_tail_part(const void *env, uint32_t i) {
    const spi_tail *tail = env;
    const spi_kv_shape *shape = shape_of(tail->session);
    uint64_t row = (uint64_t)shape->head_dim * 2, head = row * SPI_BLOCK_TOKENS, used = row * tail->rows;
    uint64_t heads = (uint64_t)shape->layers * 2 * shape->kv_heads;
    if (i / 2 == heads) {
        return (spi_part){.bytes = shape->block_bytes - heads * head};
    }
    return i % 2 ? (spi_part){.bytes = head - used}
                 : (spi_part){spi_session_block(tail->session, tail->block) + i / 2 * head, used};
}
