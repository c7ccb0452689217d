/* snapshot/kv.c - what a snapshot has to know of blocks: what their format is, and one that is not full. */
#include "model/model.h"
#include "snapshot/snapshot.h"

/* Everything that decides what a block's bytes mean. Two formats never share a block, whatever else is the same. */
uint64_t spi_kv_format(const sp_model *model, sp_kv_type type) {
    const spi_kv_shape *shape = spi_model_kv(model, type);
    uint64_t bits = spi_kv_is_q8(shape) ? 8 : 16;
    uint64_t words[] = {1, SPI_BLOCK_TOKENS, shape->layers, shape->kv_heads, shape->head_dim, bits, shape->block_bytes};
    return spi_hash64(words, sizeof words);
}

uint64_t spi_kv_format_of(const sp_session *session) {
    return spi_kv_format(session->model, session->kv->type);
}

uint64_t spi_kv_saved_format(const spi_saved_model *model, sp_kv_type type) {
    return model->kv_formats[type == SP_KV_Q8_0];
}

uint64_t spi_kv_block_bytes_of(const sp_session *session) {
    return session->kv->block_bytes;
}

uint64_t spi_kv_row_bytes(const spi_tail *tail) {
    const spi_kv_shape *shape = tail->session->kv;
    return (uint64_t)shape->layers * 2 * shape->kv_heads * (spi_kv_number_bytes(shape) + spi_kv_scale_bytes(shape));
}

/* Head by head: its rows, and what the block has room for behind them, numbers and then scales where there are any;
 * then the padding at the block's end. */
spi_part spi_kv_tail_part(const void *env, uint32_t i) {
    const spi_tail *tail = env;
    const spi_kv_shape *shape = tail->session->kv;
    uint64_t planes = spi_kv_is_q8(shape) ? 2 : 1, head = i / 2 / planes, plane = i / 2 % planes;
    uint64_t heads = (uint64_t)shape->layers * 2 * shape->kv_heads, head_bytes = spi_kv_head_bytes(shape);
    if (head == heads) {
        return (spi_part){.bytes = shape->block_bytes - heads * head_bytes};
    }
    uint64_t row = plane ? spi_kv_scale_bytes(shape) : spi_kv_number_bytes(shape);
    uint64_t at = head * head_bytes + (plane ? SPI_BLOCK_TOKENS * spi_kv_number_bytes(shape) : 0);
    return i % 2 ? (spi_part){.bytes = row * (SPI_BLOCK_TOKENS - tail->rows)}
                 : (spi_part){spi_session_block(tail->session, tail->block) + at, row * tail->rows};
}
