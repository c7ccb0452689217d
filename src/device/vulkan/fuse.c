/* device/vulkan/fuse.c - ops that are one step together: a norm and the products of it, two products and the gate, and
 * all that a decoded token does between its projections and its attention.
 *
 * A fused step leaves out what it would have written in between, so it is used only where nobody reads that later. May
 * include: device/vulkan/vulkan.h.
 */
#include "device/vulkan/vulkan.h"

/* attention_decode's work groups. */
#define DECODE_OUTPUTS          4352u /* of its shared memory */
#define DECODE_INVOCATIONS      512u
#define DECODE_INVOCATIONS_MANY 256u
#define DECODE_ROWS_WIDE        4u

/* Nobody reads a buffer behind op `last`, before it is written anew. */
static bool is_dead(const spi_tape *tape, uint32_t last, uint32_t buffer) {
    for (uint32_t i = last + 1; i < tape->op_count; i++) {
        const spi_op *op = &tape->ops[i];
        bool adds = op->kind == SPI_OP_ROPE || op->kind == SPI_OP_ADD || (op->kind == SPI_OP_MATMUL && op->accumulate);
        if (op->src == buffer || op->src1 == buffer || (adds && op->dst == buffer)) {
            return false;
        }
        if (op->dst == buffer) {
            return true;
        }
    }
    return true;
}

static bool is_product(const spi_op *op) {
    return op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD;
}

/* A weight that row.comp takes with a norm before it: x and the norm's weight are read in its steps, and end
 * together. */
static bool fits_norm(const spi_program *program, const spi_op *op) {
    const spi_vk_packing *packing = &program->store->tensors[op->weight].packing;
    uint32_t cols = program->store->sources[op->weight].cols;
    return packing->tile_rows == SPI_VK_TILE_ROWS && packing->type < SPI_VK_AFFINE2 &&
           cols % spi_vk_formats[packing->type].step_elements == 0;
}

/* The gate's two products at `index`: the same shape and type, and pieces of the same rows. */
bool spi_vk_is_gated(const spi_program *program, uint32_t index) {
    const spi_tape *tape = program->tape;
    if (index + 2 >= tape->op_count) {
        return false;
    }
    const spi_op *a = &tape->ops[index], *b = a + 1, *gate = a + 2;
    if (a->kind != SPI_OP_MATMUL || b->kind != SPI_OP_MATMUL || gate->kind != SPI_OP_GATE || a->src != b->src ||
        a->accumulate || b->accumulate || a->bias != SPI_NONE || b->bias != SPI_NONE || a->dst == b->dst ||
        a->dst == a->src || b->dst == a->src || gate->dst == a->src || gate->src != a->dst || gate->src1 != b->dst) {
        return false;
    }
    const spi_vk_tensor *x = &program->store->tensors[a->weight], *y = &program->store->tensors[b->weight];
    return x->packing.type == y->packing.type && x->packing.type < SPI_VK_AFFINE2 &&
           x->packing.tile_rows == SPI_VK_TILE_ROWS && x->packing.units == y->packing.units &&
           x->piece_count == y->piece_count &&
           program->store->sources[a->weight].rows == program->store->sources[b->weight].rows &&
           (gate->dst == a->dst || is_dead(tape, index + 2, a->dst)) &&
           (gate->dst == b->dst || is_dead(tape, index + 2, b->dst));
}

static sp_status record_gated(spi_vk_recorder *r, uint32_t index, const spi_op *norm) {
    const spi_op *first = &r->program->tape->ops[index], *gate = first + 2;
    spi_vk_product_ops ops = {.op = first, .norm = norm, .second = first + 1, .gate = gate};
    spi_vk_order(r, (spi_vk_access){spi_vk_bit(norm ? norm->src : first->src), spi_vk_bit(gate->dst)});
    return spi_vk_products_record(r, &ops);
}

/* A norm and the products behind it that read it. */
static sp_status record_normed(spi_vk_recorder *r, uint32_t index, uint32_t *taken) {
    const spi_tape *tape = r->program->tape;
    const spi_op *norm = &tape->ops[index];
    uint32_t end = index + 1;
    if (norm->group != tape->buffers[norm->dst].width) {
        return SP_OK;
    }
    for (; end < tape->op_count; end++) {
        const spi_op *op = &tape->ops[end];
        if (!is_product(op) || op->src != norm->dst || op->dst == norm->dst || op->dst == norm->src ||
            !fits_norm(r->program, op)) {
            break;
        }
    }
    bool gated = end - index == 3 && spi_vk_is_gated(r->program, index + 1) && tape->ops[end].dst != norm->src;
    uint32_t last = gated ? end : end - 1;
    if (end == index + 1 || !is_dead(tape, last, norm->dst)) {
        return SP_OK;
    }
    *taken = last + 1 - index;
    if (gated) {
        return record_gated(r, index + 1, norm);
    }
    sp_status status = SP_OK;
    for (uint32_t i = index + 1; i < end && !status; i++) {
        const spi_op *op = &tape->ops[i];
        spi_vk_access access = spi_vk_op_access(op);
        access.reads = (access.reads & ~spi_vk_bit(norm->dst)) | spi_vk_bit(norm->src);
        spi_vk_order(r, access);
        status = spi_vk_products_record(r, &(spi_vk_product_ops){.op = op, .norm = norm});
    }
    return status;
}

/* The rotations of q and k, k's and v's way to their blocks, and the attention to them. */
static bool is_attention(const spi_vk_recorder *r, uint32_t index) {
    const spi_tape *tape = r->program->tape;
    if (index + 3 >= tape->op_count) {
        return false;
    }
    const spi_op *q = &tape->ops[index], *k = q + 1, *store = q + 2, *attend = q + 3;
    return q->kind == SPI_OP_ROPE && k->kind == SPI_OP_ROPE && store->kind == SPI_OP_KV_STORE &&
           attend->kind == SPI_OP_ATTENTION && q->dst == attend->src && k->dst == store->src && q->dst != k->dst &&
           store->src1 != k->dst && store->src1 != q->dst && store->layer == attend->layer &&
           q->rope_dims == k->rope_dims && q->rope_pairs == k->rope_pairs && attend->dst != q->dst &&
           attend->dst != k->dst && attend->dst != store->src1 && is_dead(tape, index + 3, q->dst) &&
           is_dead(tape, index + 3, k->dst);
}

static bool is_decode(const spi_vk_recorder *r) {
    const uint32_t whole = SPI_SHADER_SPAN_FIRST | SPI_SHADER_SPAN_LAST;
    bool decodes = r->plan->decode && r->program->tape->kv.head_dim % 8 == 0;
    for (size_t i = 0; i < r->plan->kv_count; i++) {
        decodes = decodes && (r->plan->kv[i].flags & whole) == whole;
    }
    return decodes;
}

static uint32_t stride(const spi_vk_recorder *r, uint32_t buffer) {
    return spi_shader_stride(r->program->tape->buffers[buffer].width);
}

/* The kernel for heads of so many columns, and for so many of a KV head's in a work group. */
static spi_vk_shader decode_shader(const spi_kv_shape *kv, uint32_t at_once) {
    static const spi_vk_shader shaders[2][2][3] = {
        {{SPI_VK_attention_decode_1_64, SPI_VK_attention_decode_1_128, SPI_VK_attention_decode_1_256},
         {SPI_VK_attention_decode_2_64, SPI_VK_attention_decode_2_128, SPI_VK_attention_decode_2_256}},
        {{SPI_VK_attention_decode_q8_1_64, SPI_VK_attention_decode_q8_1_128, SPI_VK_attention_decode_q8_1_256},
         {SPI_VK_attention_decode_q8_2_64, SPI_VK_attention_decode_q8_2_128, SPI_VK_attention_decode_q8_2_256}}};
    return shaders[spi_kv_is_q8(kv)][at_once == 2][kv->head_dim <= 64 ? 0 : kv->head_dim <= 128 ? 1 : 2];
}

/* Of a work group: what one row needs to be done soon, fewer where rows keep a device busy; and no more subgroups than
 * have room for their outputs. */
static uint32_t decode_invocations(const spi_vk *vk, uint32_t rows, uint32_t head_dim, uint32_t at_once) {
    uint32_t columns = head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
    uint32_t count = rows <= DECODE_ROWS_WIDE ? DECODE_INVOCATIONS : DECODE_INVOCATIONS_MANY;
    while (count / vk->adapter.subgroup * (at_once * columns + 4) > DECODE_OUTPUTS || count > spi_vk_group_max(vk)) {
        count /= 2;
    }
    return count;
}

static sp_status record_decode(const spi_vk_recorder *r, uint32_t index, const spi_vk_span *span) {
    const spi_program *program = r->program;
    const spi_kv_shape *kv = &program->tape->kv;
    const spi_op *q = &program->tape->ops[index], *store = q + 2, *attend = q + 3;
    const spi_rotations *rotations = &program->rotations;
    const spi_rotation *turns[2] = {&rotations->items[rotations->of_op[index]],
                                    &rotations->items[rotations->of_op[index + 1]]};
    /* One head is done soonest; where rows keep a device busy, two of them read k and v together. */
    uint32_t share = attend->heads / kv->kv_heads, at_once = share == 1 || r->plan->row_count == 1 ? 1 : 2;
    spi_vk_binding host = span->binding;
    host.buffer = span->host ? span->host : host.buffer;
    spi_vk_dispatch dispatch = {
        .shader = decode_shader(kv, at_once),
        .variant = {.invocations = decode_invocations(r->vk, r->rows, kv->head_dim, at_once)},
        .groups_x = kv->kv_heads * ((share + at_once - 1) / at_once),
        .groups_y = span->count,
        .groups_z = r->plan->ranges,
        .signals = kv->kv_heads * ((share + at_once - 1) / at_once) * span->count * r->plan->ranges,
        .push = {span->first, stride(r, attend->src), stride(r, store->src), attend->heads, kv->kv_heads, kv->head_dim,
                 program->rows_word, (uint32_t)(kv->block_bytes / sizeof(uint32_t)),
                 (uint32_t)(spi_kv_row_offset(kv, attend->layer, 0, 0, 0) / sizeof(uint32_t)), attend->window,
                 spi_vk_float_word(attend->scale), spi_vk_float_word(attend->softcap), (uint32_t)turns[0]->place,
                 (uint32_t)turns[1]->place, turns[0]->pairs, q->rope_pairs == SPI_ROPE_HALVES, r->plan->ranges,
                 span->host != VK_NULL_HANDLE},
        .bindings = {[1] = spi_vk_bind(&program->parameters),
                     [2] = span->binding,
                     [3] = host,
                     [4] = spi_vk_bind(&program->buffers[attend->src]),
                     [5] = spi_vk_bind(&program->buffers[store->src]),
                     [6] = spi_vk_bind(&program->buffers[attend->dst]),
                     [7] = spi_vk_bind(&program->buffers[store->src1]),
                     [8] = spi_vk_bind(&program->parts),
                     [9] = span->binding}};
    return spi_vk_dispatch_record(r, &dispatch);
}

static sp_status record_merge(const spi_vk_recorder *r, const spi_op *attend) {
    const spi_program *program = r->program;
    spi_vk_dispatch dispatch = {.shader = SPI_VK_attention_merge,
                                .groups_x = attend->heads,
                                .groups_y = r->rows,
                                .signals = attend->heads * r->rows,
                                .push = {0, stride(r, attend->dst), attend->heads, program->tape->kv.head_dim,
                                         program->rows_word, attend->window, r->plan->ranges},
                                .bindings = {[1] = spi_vk_bind(&program->parameters),
                                             [6] = spi_vk_bind(&program->buffers[attend->dst]),
                                             [8] = spi_vk_bind(&program->parts)}};
    return spi_vk_dispatch_record(r, &dispatch);
}

static sp_status record_attention(spi_vk_recorder *r, uint32_t index) {
    const spi_op *q = &r->program->tape->ops[index], *store = q + 2, *attend = q + 3;
    bool ranges = r->plan->ranges > 1;
    uint64_t reads = spi_vk_bit(attend->src) | spi_vk_bit(store->src) | spi_vk_bit(store->src1) | SPI_VK_KV_BIT;
    spi_vk_order(r, (spi_vk_access){reads, SPI_VK_KV_BIT | (ranges ? SPI_VK_PARTS_BIT : spi_vk_bit(attend->dst))});
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->plan->kv_count && !status; i++) {
        status = record_decode(r, index, &r->plan->kv[i]);
    }
    if (!status && ranges) {
        spi_vk_order(r, (spi_vk_access){SPI_VK_PARTS_BIT, spi_vk_bit(attend->dst)});
        status = record_merge(r, attend);
    }
    return status;
}

/* A norm, the gate's two products, the gate, and all products of it that follow. */
static sp_status record_gate(spi_vk_recorder *r, uint32_t begin, const spi_op *norm, uint32_t *end) {
    const spi_tape *tape = r->program->tape;
    uint32_t x = tape->ops[begin + 2].dst, first = begin + 3, last = first;
    while (last < tape->op_count && is_product(&tape->ops[last]) && tape->ops[last].src == x &&
           tape->ops[last].dst != x && spi_vk_takes_halves(r, &tape->ops[last])) {
        last++;
    }
    if (last == first || !is_dead(tape, last - 1, x)) {
        return SP_OK;
    }
    *end = last;
    sp_status status = spi_vk_gated_record(r, begin, norm);
    return status ? status : spi_vk_matrices_record(r, first, last, &(spi_vk_x){.is_gated = true});
}

/* Products of many rows, ops [begin, end): of x, which `by` makes of `from`, or attention, or which is there. */
typedef struct many {
    const spi_op *by; /* a norm or a gate, or NULL */
    bool attends;
    uint32_t begin, end, x, from;
} many;

static bool find_many(const spi_vk_recorder *r, uint32_t index, many *found) {
    const spi_tape *tape = r->program->tape;
    const spi_op *first = &tape->ops[index];
    bool norm = first->kind == SPI_OP_NORM && first->group == tape->buffers[first->dst].width;
    const spi_op *by = norm || first->kind == SPI_OP_GATE ? first : NULL;
    /* What attention leaves as f16 has no padding. */
    bool attends = first->kind == SPI_OP_ATTENTION && spi_vk_attends_to_halves(r) &&
                   !spi_vk_takes_few(r->vk, r->rows) && tape->buffers[first->dst].width % SPI_SHADER_COLUMN_PAD == 0;
    if (!by && !attends && !is_product(first)) {
        return false;
    }
    uint32_t begin = by || attends ? index + 1 : index, end = begin, x = by || attends ? first->dst : first->src;
    for (; end < tape->op_count; end++) {
        const spi_op *op = &tape->ops[end];
        if (!is_product(op) || op->src != x || op->dst == x || !spi_vk_takes_halves(r, op)) {
            break;
        }
    }
    *found = (many){by, attends, begin, end, x, by ? by->src : x};
    return end > begin && ((!by && !attends) || is_dead(tape, end - 1, x));
}

bool spi_vk_norm_makes_halves(const spi_vk_recorder *r, uint32_t index) {
    many found;
    return index < r->program->tape->op_count && r->program->tape->ops[index].kind == SPI_OP_NORM &&
           find_many(r, index, &found) && found.by;
}

/* Products of many rows: x as f16 once, from a norm, a gate or as it is, then all products of it that follow. */
static sp_status record_many(spi_vk_recorder *r, uint32_t index, uint32_t *taken) {
    const spi_op *first = &r->program->tape->ops[index];
    many found;
    if (!find_many(r, index, &found)) {
        return SP_OK;
    }
    bool norm = found.by && found.by->kind == SPI_OP_NORM;
    if (norm && found.end - found.begin == 2 && spi_vk_is_gated(r->program, found.begin) &&
        spi_vk_takes_gated(r, found.begin)) {
        uint32_t gate_end = 0;
        sp_status status = record_gate(r, found.begin, found.by, &gate_end);
        if (status || gate_end) {
            *taken = gate_end - index;
            return status;
        }
    }
    *taken = found.end - index;
    if (found.attends) {
        spi_vk_access access = spi_vk_op_access(first);
        access.writes = (access.writes & ~spi_vk_bit(found.x)) | SPI_VK_HALVES_BIT;
        spi_vk_order(r, access);
        sp_status status = spi_vk_attention_record(r, first, true);
        return status ? status : spi_vk_matrices_record(r, found.begin, found.end, &(spi_vk_x){.is_halves = true});
    }
    return spi_vk_matrices_record(r, found.begin, found.end, &(spi_vk_x){.src = found.from, .by = found.by});
}

sp_status spi_vk_fused_record(spi_vk_recorder *r, uint32_t index, uint32_t *taken) {
    *taken = 0;
    if (!spi_vk_is_fast(r->vk)) {
        return SP_OK;
    }
    const spi_op *op = &r->program->tape->ops[index];
    if (r->rows > 1) {
        sp_status status = record_many(r, index, taken);
        if (status || *taken) {
            return status;
        }
    }
    if (r->rows <= SPI_VK_BATCH_MAX && op->kind == SPI_OP_NORM) {
        return record_normed(r, index, taken);
    }
    if (r->rows <= SPI_VK_BATCH_MAX && spi_vk_is_gated(r->program, index)) {
        *taken = 3;
        return record_gated(r, index, NULL);
    }
    if (is_attention(r, index) && is_decode(r)) {
        *taken = 4;
        return record_attention(r, index);
    }
    if (is_attention(r, index) && spi_vk_turns(r, index)) {
        *taken = 3;
        uint64_t q = spi_vk_bit(op->dst), store = spi_vk_bit(op[2].src) | spi_vk_bit(op[2].src1);
        spi_vk_order(r, (spi_vk_access){q | store, q | SPI_VK_KV_BIT});
        return spi_vk_turned_record(r, index);
    }
    return SP_OK;
}
