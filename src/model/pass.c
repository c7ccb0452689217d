/* model/pass.c - the forward pass of the Llama family (arXiv:2302.13971, arXiv:2407.21783), written once for all
 * devices: pre-norm blocks of grouped-query attention with rotary positions and a gated feed-forward network. */
#include "model/recorder.h"

#include <math.h>

typedef struct pass {
    spi_recorder *recorder;
    const spi_hparams *hp;
    uint32_t x, normed, q, k, v, attended, gate, up; /* a row for each token of a run */
    uint32_t out_x, out_attended;                    /* a row for each wanted output */
    uint32_t rope_factors;
} pass;

static void norm(const pass *p, uint32_t dst, uint32_t src, const char *name, uint32_t layer) {
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_NORM,
                                        .dst = dst,
                                        .src = src,
                                        .src1 = SPI_NONE,
                                        .weight = spi_record_vector(p->recorder, name, layer, p->hp->embedding, false),
                                        .bias = SPI_NONE,
                                        .group = p->hp->embedding,
                                        .eps = p->hp->norm_eps});
}

/* name has no ending: ".weight" must be there and ".bias" may be. */
static void matmul(const pass *p, uint32_t dst, uint32_t src, const char *weight, const char *bias, uint32_t layer,
                   uint32_t rows, uint32_t cols, bool accumulate) {
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_MATMUL,
                                        .dst = dst,
                                        .src = src,
                                        .src1 = SPI_NONE,
                                        .weight = spi_record_matrix(p->recorder, weight, layer, rows, cols),
                                        .bias = spi_record_vector(p->recorder, bias, layer, rows, true),
                                        .accumulate = accumulate});
}

static void rope(const pass *p, uint32_t buffer, uint32_t heads) {
    const spi_hparams *hp = p->hp;
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_ROPE,
                                        .dst = buffer,
                                        .src = SPI_NONE,
                                        .src1 = SPI_NONE,
                                        .weight = p->rope_factors,
                                        .bias = SPI_NONE,
                                        .heads = heads,
                                        .rope_dims = hp->rope_dims,
                                        .rope_pairs = hp->family->rope_pairs,
                                        .rope_base = hp->rope_base,
                                        .rope_freq_scale = hp->rope_freq_scale,
                                        .scale = 1});
}

static void attention(const pass *p, uint32_t layer) {
    const spi_hparams *hp = p->hp;
    uint32_t q_width = hp->heads * hp->head_dim, kv_width = hp->kv_heads * hp->head_dim;
    norm(p, p->normed, p->x, "blk.%u.attn_norm.weight", layer);
    matmul(p, p->q, p->normed, "blk.%u.attn_q.weight", "blk.%u.attn_q.bias", layer, q_width, hp->embedding, false);
    matmul(p, p->k, p->normed, "blk.%u.attn_k.weight", "blk.%u.attn_k.bias", layer, kv_width, hp->embedding, false);
    matmul(p, p->v, p->normed, "blk.%u.attn_v.weight", "blk.%u.attn_v.bias", layer, kv_width, hp->embedding, false);
    rope(p, p->q, hp->heads);
    rope(p, p->k, hp->kv_heads);
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_KV_STORE,
                                        .dst = SPI_NONE,
                                        .src = p->k,
                                        .src1 = p->v,
                                        .weight = SPI_NONE,
                                        .bias = SPI_NONE,
                                        .layer = layer});
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_ATTENTION,
                                        .dst = p->attended,
                                        .src = p->q,
                                        .src1 = SPI_NONE,
                                        .weight = SPI_NONE,
                                        .bias = SPI_NONE,
                                        .layer = layer,
                                        .heads = hp->heads,
                                        .scale = 1 / sqrtf((float)hp->head_dim)});
}

static void gather(const pass *p, uint32_t dst, uint32_t src) {
    spi_record_op(
        p->recorder,
        (spi_op){
            .kind = SPI_OP_GATHER, .dst = dst, .src = src, .src1 = SPI_NONE, .weight = SPI_NONE, .bias = SPI_NONE});
}

/* The part of a block that looks at each row by itself. */
static void feed_forward(const pass *p, uint32_t x, uint32_t attended, uint32_t layer) {
    const spi_hparams *hp = p->hp;
    matmul(p, x, attended, "blk.%u.attn_output.weight", "blk.%u.attn_output.bias", layer, hp->embedding,
           hp->heads * hp->head_dim, true);
    norm(p, p->normed, x, "blk.%u.ffn_norm.weight", layer);
    matmul(p, p->gate, p->normed, "blk.%u.ffn_gate.weight", "blk.%u.ffn_gate.bias", layer, hp->feed_forward,
           hp->embedding, false);
    matmul(p, p->up, p->normed, "blk.%u.ffn_up.weight", "blk.%u.ffn_up.bias", layer, hp->feed_forward, hp->embedding,
           false);
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_GATE,
                                        .dst = p->gate,
                                        .src = p->gate,
                                        .src1 = p->up,
                                        .weight = SPI_NONE,
                                        .bias = SPI_NONE,
                                        .act = hp->family->act});
    matmul(p, x, p->gate, "blk.%u.ffn_down.weight", "blk.%u.ffn_down.bias", layer, hp->embedding, hp->feed_forward,
           true);
}

static void make_buffers(pass *p) {
    const spi_hparams *hp = p->hp;
    uint32_t q_width = hp->heads * hp->head_dim, kv_width = hp->kv_heads * hp->head_dim;
    p->x = spi_record_buffer(p->recorder, "x", hp->embedding);
    p->normed = spi_record_buffer(p->recorder, "normed", hp->embedding);
    p->q = spi_record_buffer(p->recorder, "q", q_width);
    p->k = spi_record_buffer(p->recorder, "k", kv_width);
    p->v = spi_record_buffer(p->recorder, "v", kv_width);
    p->attended = spi_record_buffer(p->recorder, "attended", q_width);
    p->gate = spi_record_buffer(p->recorder, "gate", hp->feed_forward);
    p->up = spi_record_buffer(p->recorder, "up", hp->feed_forward);
    p->out_x = spi_record_buffer(p->recorder, "out_x", hp->embedding);
    p->out_attended = spi_record_buffer(p->recorder, "out_attended", q_width);
}

void spi_record_pass(spi_recorder *recorder) {
    const spi_hparams *hp = &recorder->hparams;
    pass p = {.recorder = recorder, .hp = hp};
    if (recorder->status) {
        return;
    }
    make_buffers(&p);
    uint32_t embedding = spi_record_matrix(recorder, "token_embd.weight", 0, hp->vocab, hp->embedding);
    p.rope_factors = spi_record_vector(recorder, "rope_freqs.weight", 0, hp->rope_dims / 2, true);
    spi_record_op(recorder, (spi_op){.kind = SPI_OP_EMBED,
                                     .dst = p.x,
                                     .src = SPI_NONE,
                                     .src1 = SPI_NONE,
                                     .weight = embedding,
                                     .bias = SPI_NONE,
                                     .scale = 1});
    for (uint32_t layer = 0; layer + 1 < hp->layers; layer++) {
        attention(&p, layer);
        feed_forward(&p, p.x, p.attended, layer);
    }
    /* Behind the last attention only the wanted rows matter: a long prompt wants one, or none. */
    attention(&p, hp->layers - 1);
    gather(&p, p.out_x, p.x);
    gather(&p, p.out_attended, p.attended);
    feed_forward(&p, p.out_x, p.out_attended, hp->layers - 1);
    norm(&p, p.normed, p.out_x, "output_norm.weight", 0);
    bool tied = !spi_gguf_find_tensor(recorder->gguf, "output.weight");
    uint32_t head = tied ? embedding : spi_record_matrix(recorder, "output.weight", 0, hp->vocab, hp->embedding);
    if (!tied && embedding != SPI_NONE) {
        recorder->tensors[embedding].rows_only = true;
    }
    spi_record_op(recorder, (spi_op){.kind = SPI_OP_HEAD,
                                     .dst = SPI_NONE,
                                     .src = p.normed,
                                     .src1 = SPI_NONE,
                                     .weight = head,
                                     .bias = SPI_NONE,
                                     .scale = 1});
}
