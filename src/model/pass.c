/* model/pass.c - the forward pass of every family, written once for all devices: blocks of grouped-query attention with
 * rotary positions and a gated feed-forward network (arXiv:2302.13971). What differs is in families.c and hparams.h.
 *
 * May include: source, model/hparams.h, device/tape.h, base.
 */
#include "model/recorder.h"

#include <math.h>

typedef struct pass {
    spi_recorder *recorder;
    const spi_hparams *hp;
    uint32_t x, branch, q, k, v, attended, gate, up; /* a row for each token of a run */
    uint32_t out_x, out_attended;                    /* a row for each wanted output */
    uint32_t factors;                                /* of the angles of layers that see everything */
} pass;

/* A weight and its optional bias; {0} of .part: a tensor of its own. */
typedef struct linear {
    const char *weight, *bias;
    spi_slice part;
} linear;

static const spi_slice whole = {0};

/* Over each `group` columns by themselves. */
static void norm(const pass *p, uint32_t dst, uint32_t src, const char *name, uint32_t layer, uint32_t group) {
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_NORM,
                                        .dst = dst,
                                        .src = src,
                                        .src1 = SPI_NONE,
                                        .weight = spi_record_vector(p->recorder, name, layer, group, whole, false),
                                        .bias = SPI_NONE,
                                        .group = group,
                                        .eps = p->hp->norm_eps});
}

static void matmul(const pass *p, uint32_t dst, uint32_t src, const linear *by, uint32_t layer, uint32_t rows,
                   uint32_t cols, bool accumulate) {
    uint32_t weight = spi_record_matrix(p->recorder, by->weight, layer, rows, cols, by->part);
    uint32_t bias = spi_record_vector(p->recorder, by->bias, layer, rows, by->part, true);
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_MATMUL,
                                        .dst = dst,
                                        .src = src,
                                        .src1 = SPI_NONE,
                                        .weight = weight,
                                        .bias = bias,
                                        .accumulate = accumulate});
}

/* The end of a branch: x += what the branch gives, normalised or scaled where the family does that. */
static void add_branch(const pass *p, uint32_t x, uint32_t src, const linear *by, const char *norm_name, uint32_t layer,
                       uint32_t cols) {
    const spi_hparams *hp = p->hp;
    bool post_norm = hp->family->post_norms, straight = !post_norm && hp->residual_scale == 1;
    matmul(p, straight ? x : p->branch, src, by, layer, hp->embedding, cols, straight);
    if (post_norm) {
        norm(p, p->branch, p->branch, norm_name, layer, hp->embedding);
    }
    if (!straight) {
        spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_ADD,
                                            .dst = x,
                                            .src = p->branch,
                                            .src1 = SPI_NONE,
                                            .weight = SPI_NONE,
                                            .bias = SPI_NONE,
                                            .scale = hp->residual_scale});
    }
}

/* What a branch computes on: x itself, or x normalised. */
static uint32_t branch_input(const pass *p, uint32_t x, const char *norm_name, uint32_t layer) {
    if (p->hp->family->no_pre_norms) {
        return x;
    }
    norm(p, p->branch, x, norm_name, layer, p->hp->embedding);
    return p->branch;
}

static void project(const pass *p, uint32_t src, uint32_t layer) {
    const spi_hparams *hp = p->hp;
    uint32_t q = hp->heads * hp->head_dim, kv = hp->kv_heads * hp->head_dim, all = q + 2 * kv;
    linear by[3] = {{.weight = "blk.%u.attn_q.weight", .bias = "blk.%u.attn_q.bias"},
                    {.weight = "blk.%u.attn_k.weight", .bias = "blk.%u.attn_k.bias"},
                    {.weight = "blk.%u.attn_v.weight", .bias = "blk.%u.attn_v.bias"}};
    if (spi_record_has(p->recorder, "blk.%u.attn_qkv.weight", layer)) {
        for (uint32_t i = 0; i < 3; i++) {
            by[i] = (linear){.weight = "blk.%u.attn_qkv.weight",
                             .bias = "blk.%u.attn_qkv.bias",
                             .part = {.first = i == 0 ? 0 : q + (i - 1) * kv, .of = all}};
        }
    }
    matmul(p, p->q, src, &by[0], layer, q, hp->embedding, false);
    matmul(p, p->k, src, &by[1], layer, kv, hp->embedding, false);
    matmul(p, p->v, src, &by[2], layer, kv, hp->embedding, false);
}

static void rope(const pass *p, uint32_t buffer, uint32_t heads, bool local) {
    const spi_hparams *hp = p->hp;
    const spi_rope *by = local ? &hp->local_rope : &hp->rope;
    bool plain = local && hp->family->local_rope_plain;
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_ROPE,
                                        .dst = buffer,
                                        .src = SPI_NONE,
                                        .src1 = SPI_NONE,
                                        .weight = plain ? SPI_NONE : p->factors,
                                        .bias = SPI_NONE,
                                        .heads = heads,
                                        .rope_dims = hp->rope_dims,
                                        .rope_pairs = hp->rope_pairs,
                                        .rope_base = by->base,
                                        .rope_freq_scale = by->yarn ? 1 : by->freq_scale,
                                        .scale = by->scale});
}

static void attention(const pass *p, uint32_t layer) {
    const spi_hparams *hp = p->hp;
    bool local = spi_hparams_is_local(hp, layer);
    project(p, branch_input(p, p->x, "blk.%u.attn_norm.weight", layer), layer);
    if (hp->family->qk_norm != SPI_QK_NORM_NONE) {
        bool row = hp->family->qk_norm == SPI_QK_NORM_ROW;
        norm(p, p->q, p->q, "blk.%u.attn_q_norm.weight", layer, hp->head_dim * (row ? hp->heads : 1));
        norm(p, p->k, p->k, "blk.%u.attn_k_norm.weight", layer, hp->head_dim * (row ? hp->kv_heads : 1));
    }
    rope(p, p->q, hp->heads, local);
    rope(p, p->k, hp->kv_heads, local);
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
                                        .window = local ? hp->window : 0,
                                        .scale = hp->attention_scale,
                                        .softcap = hp->attention_cap});
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
    uint32_t inner = hp->feed_forward;
    linear out = {.weight = "blk.%u.attn_output.weight", .bias = "blk.%u.attn_output.bias"};
    linear gate = {.weight = "blk.%u.ffn_gate.weight", .bias = "blk.%u.ffn_gate.bias"};
    linear up = {.weight = "blk.%u.ffn_up.weight", .bias = "blk.%u.ffn_up.bias"};
    linear down = {.weight = "blk.%u.ffn_down.weight", .bias = "blk.%u.ffn_down.bias"};
    if (hp->family->gate_in_up) {
        gate = up;
        gate.part = (spi_slice){.first = 0, .of = 2 * inner};
        up.part = (spi_slice){.first = inner, .of = 2 * inner};
    }
    add_branch(p, x, attended, &out, "blk.%u.post_attention_norm.weight", layer, hp->heads * hp->head_dim);
    uint32_t src = branch_input(p, x, "blk.%u.ffn_norm.weight", layer);
    matmul(p, p->gate, src, &gate, layer, inner, hp->embedding, false);
    matmul(p, p->up, src, &up, layer, inner, hp->embedding, false);
    spi_record_op(p->recorder, (spi_op){.kind = SPI_OP_GATE,
                                        .dst = p->gate,
                                        .src = p->gate,
                                        .src1 = p->up,
                                        .weight = SPI_NONE,
                                        .bias = SPI_NONE,
                                        .act = hp->family->act});
    add_branch(p, x, p->gate, &down, "blk.%u.post_ffw_norm.weight", layer, inner);
}

static void make_buffers(pass *p) {
    const spi_hparams *hp = p->hp;
    uint32_t q_width = hp->heads * hp->head_dim, kv_width = hp->kv_heads * hp->head_dim;
    p->x = spi_record_buffer(p->recorder, "x", hp->embedding);
    p->branch = spi_record_buffer(p->recorder, "branch", hp->embedding);
    p->q = spi_record_buffer(p->recorder, "q", q_width);
    p->k = spi_record_buffer(p->recorder, "k", kv_width);
    p->v = spi_record_buffer(p->recorder, "v", kv_width);
    p->attended = spi_record_buffer(p->recorder, "attended", q_width);
    p->gate = spi_record_buffer(p->recorder, "gate", hp->feed_forward);
    p->up = spi_record_buffer(p->recorder, "up", hp->feed_forward);
    p->out_x = spi_record_buffer(p->recorder, "out_x", hp->embedding);
    p->out_attended = spi_record_buffer(p->recorder, "out_attended", q_width);
}

/* The pair that turns `turns` times in the original context, as a fractional index. */
static double pair_of_turns(const spi_hparams *hp, double turns) {
    return hp->rope_dims * log(hp->original_context / (turns * 2 * 3.14159265358979323846)) /
           (2 * log((double)hp->rope.base));
}

/* What YaRN divides each frequency by: 1 for fast pairs, the factor for slow ones, between them a mean of
 * frequencies. */
static uint32_t yarn_factors(const pass *p) {
    const spi_hparams *hp = p->hp;
    double factors[SPI_HEAD_DIM_MAX / 2];
    double low = fmax(0, floor(pair_of_turns(hp, (double)hp->rope.yarn_fast)));
    double high = fmin(hp->rope_dims - 1, ceil(pair_of_turns(hp, (double)hp->rope.yarn_slow)));
    for (uint32_t i = 0; i < hp->rope_dims / 2; i++) {
        double slow = fmin(1, fmax(0, (i - low) / fmax(0.001, high - low)));
        factors[i] = 1 / ((double)hp->rope.freq_scale * slow + (1 - slow));
    }
    return spi_record_values(p->recorder, "yarn factors", factors, hp->rope_dims / 2);
}

static uint32_t find_factors(const pass *p) {
    spi_recorder *r = p->recorder;
    uint32_t pairs = p->hp->rope_dims / 2;
    if (p->hp->rope.yarn) {
        return yarn_factors(p);
    }
    if (p->hp->long_rope) {
        r->factors_long = spi_record_vector(r, "rope_factors_long.weight", 0, pairs, whole, false);
        return r->factors_short = spi_record_vector(r, "rope_factors_short.weight", 0, pairs, whole, false);
    }
    return spi_record_vector(r, "rope_freqs.weight", 0, pairs, whole, true);
}

/* The output matrix, or where there is none the embedding. */
static void head(const pass *p, uint32_t embedding) {
    const spi_hparams *hp = p->hp;
    spi_recorder *r = p->recorder;
    bool tied = !spi_record_has(r, "output.weight", 0);
    uint32_t weight = tied ? embedding : spi_record_matrix(r, "output.weight", 0, hp->vocab, hp->embedding, whole);
    if (!tied && embedding != SPI_NONE) {
        r->tensors[embedding].rows_only = true;
    }
    spi_record_op(r, (spi_op){.kind = SPI_OP_HEAD,
                              .dst = SPI_NONE,
                              .src = p->branch,
                              .src1 = SPI_NONE,
                              .weight = weight,
                              .bias = spi_record_vector(r, "output.bias", 0, hp->vocab, whole, true),
                              .scale = hp->logit_scale,
                              .softcap = hp->logit_cap});
}

void spi_record_pass(spi_recorder *recorder) {
    const spi_hparams *hp = &recorder->hparams;
    pass p = {.recorder = recorder, .hp = hp};
    if (recorder->status) {
        return;
    }
    make_buffers(&p);
    uint32_t embedding = spi_record_matrix(recorder, "token_embd.weight", 0, hp->vocab, hp->embedding, whole);
    p.factors = find_factors(&p);
    spi_record_op(recorder, (spi_op){.kind = SPI_OP_EMBED,
                                     .dst = p.x,
                                     .src = SPI_NONE,
                                     .src1 = SPI_NONE,
                                     .weight = embedding,
                                     .bias = SPI_NONE,
                                     .scale = hp->embedding_scale});
    for (uint32_t layer = 0; layer + 1 < hp->layers; layer++) {
        attention(&p, layer);
        feed_forward(&p, p.x, p.attended, layer);
    }
    /* Behind the last attention only the wanted rows matter: a long prompt wants one, or none. */
    attention(&p, hp->layers - 1);
    gather(&p, p.out_x, p.x);
    gather(&p, p.out_attended, p.attended);
    feed_forward(&p, p.out_x, p.out_attended, hp->layers - 1);
    norm(&p, p.branch, p.out_x, "output_norm.weight", 0, hp->embedding);
    head(&p, embedding);
}
