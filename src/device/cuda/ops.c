/* device/cuda/ops.c - the kernel of each op. */
#include "base/error.h"
#include "device/cuda/cuda.h"

#define THREADS           256u
#define ROWS_A_BLOCK      8u /* of a weight: a warp each (kernels/product.cu) */
#define TOKENS_A_WARP     8u
#define ATTENTION_THREADS 128u
#define ATTENTION_QUERIES 16u /* of a block of attention_rows */

/* kernels/matrix.cu */
#define LARGE_TILE_ROWS    128u
#define LARGE_TILE_OUTS    64u
#define LARGE_TILE_THREADS 256u
#define SMALL_TILE_ROWS    64u
#define SMALL_TILE_OUTS    32u
#define SMALL_TILE_THREADS 128u

typedef struct op_view {
    spi_cu *cu;
    const spi_program *program;
    const spi_op *op;
    uint32_t index, rows;
    sp_error *error;
} op_view;

static uint32_t width(const op_view *view, uint32_t buffer) {
    return view->program->tape->buffers[buffer].width;
}

static spi_cu_pointer at(const op_view *view, uint32_t buffer) {
    return view->program->scratch.address + view->program->buffer_bytes[buffer];
}

static spi_cu_pointer rows_at(const op_view *view) {
    return view->program->fetched.address;
}

static spi_cu_pointer outs_at(const op_view *view) {
    return view->program->fetched.address + view->program->outs_byte;
}

static spi_cu_kv kv_of(const op_view *view) {
    const spi_kv_shape *kv = &view->program->tape->kv;
    return (spi_cu_kv){.block_bytes = kv->block_bytes,
                       .layer_bytes = (uint64_t)view->op->layer * 2 * kv->kv_heads * spi_kv_head_bytes(kv),
                       .kv_heads = kv->kv_heads,
                       .head_dim = kv->head_dim};
}

static uint32_t type_index(uint32_t type) {
    static const uint32_t types[] = {
#define TYPE(name) name,
        SPI_CU_ALL_TYPES(TYPE)
#undef TYPE
    };
    uint32_t i = 0;
    while (types[i] != type) {
        i++;
    }
    return i;
}

static spi_cu_kernel by_type(uint32_t type, spi_cu_kernel first, uint32_t step) {
    return (spi_cu_kernel)(first + type_index(type) * step);
}

spi_cu_kernel spi_cu_embed_kernel(uint32_t type) {
    return by_type(type, SPI_CU_embed_SP_F32, 1);
}

static sp_status embed(const op_view *view) {
    spi_cu_matrix weight = view->program->store->matrices[view->op->weight];
    spi_cu_pointer dst = at(view, view->op->dst), rows = rows_at(view);
    uint32_t stride = spi_cu_stride(weight.cols);
    float scale = view->op->scale;
    void *arguments[] = {&weight, &dst, &stride, &rows, &scale};
    return spi_cu_launch(view->cu, spi_cu_embed_kernel(weight.type), spi_cu_ceil(weight.cols, 32 * 32), view->rows, 32,
                         arguments, view->error);
}

static sp_status norm(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_pointer dst = at(view, op->dst), src = at(view, op->src);
    spi_cu_pointer weight = view->program->store->matrices[op->weight].data;
    uint32_t columns = width(view, op->dst), stride = spi_cu_stride(columns), group = op->group;
    float eps = op->eps;
    void *arguments[] = {&dst, &src, &weight, &stride, &group, &eps};
    return spi_cu_launch(view->cu, SPI_CU_normalise, columns / group, view->rows, THREADS, arguments, view->error);
}

static sp_status plain_product(const op_view *view, spi_cu_product *args) {
    void *arguments[] = {args};
    bool one = view->rows == 1;
    return spi_cu_launch(view->cu, by_type(args->weight.type, one ? SPI_CU_product1_SP_F32 : SPI_CU_product8_SP_F32, 2),
                         spi_cu_ceil(args->weight.rows, ROWS_A_BLOCK), one ? 1 : spi_cu_ceil(view->rows, TOKENS_A_WARP),
                         ROWS_A_BLOCK * 32, arguments, view->error);
}

/* One row is bound by reading the weight, and F32 weights would lose too much. */
static bool is_for_tensor_cores(const op_view *view, const spi_cu_matrix *weight) {
    return view->rows > 1 && weight->type != SP_F32 && !view->cu->choices.op_by_op;
}

static sp_status matrix_product(const op_view *view, spi_cu_product *args) {
    spi_cu_pointer from = (uintptr_t)args->x, to = view->program->packed.address;
    uint32_t count = args->row_count * args->x_stride / 4,
             brain = args->weight.type == SP_BF16 || args->weight.type == SP_MXFP4;
    void *pack[] = {&to, &from, &count, &brain};
    args->packed = (const void *)(uintptr_t)to;
    sp_status status =
        spi_cu_launch(view->cu, SPI_CU_pack_acts, spi_cu_ceil(count, THREADS), 1, THREADS, pack, view->error);
    if (status) {
        return status;
    }
    bool large = args->row_count > SMALL_TILE_ROWS;
    uint32_t rows = large ? LARGE_TILE_ROWS : SMALL_TILE_ROWS, outs = large ? LARGE_TILE_OUTS : SMALL_TILE_OUTS;
    spi_cu_kernel first = large ? SPI_CU_matrix128_SP_F16 : SPI_CU_matrix64_SP_F16;
    void *arguments[] = {args};
    return spi_cu_launch(view->cu, (spi_cu_kernel)(first + 2 * (type_index(args->weight.type) - type_index(SP_F16))),
                         spi_cu_ceil(args->row_count, rows), spi_cu_ceil(args->weight.rows, outs),
                         large ? LARGE_TILE_THREADS : SMALL_TILE_THREADS, arguments, view->error);
}

static sp_status product(const op_view *view) {
    const spi_op *op = view->op;
    const spi_store *store = view->program->store;
    spi_cu_product args = {.weight = store->matrices[op->weight],
                           .x = (const float *)(uintptr_t)at(view, op->src),
                           .row_count = view->rows,
                           .x_stride = spi_cu_stride(width(view, op->src)),
                           .scale = 1};
    if (op->bias != SPI_NONE) {
        args.bias = (const float *)(uintptr_t)store->matrices[op->bias].data;
    }
    if (op->kind == SPI_OP_HEAD) {
        args.outs = (const spi_cu_out *)(uintptr_t)outs_at(view);
        args.scale = op->scale;
        args.softcap = op->softcap;
    } else {
        args.y = (float *)(uintptr_t)at(view, op->dst);
        args.y_stride = spi_cu_stride(width(view, op->dst));
        args.accumulate = op->accumulate;
    }
    return is_for_tensor_cores(view, &args.weight) ? matrix_product(view, &args) : plain_product(view, &args);
}

static sp_status rope(const op_view *view) {
    const spi_op *op = view->op;
    const spi_rotations *rotations = &view->program->rotations;
    const spi_rotation *rotation = &rotations->items[rotations->of_op[view->index]];
    spi_cu_pointer dst = at(view, op->dst), table = view->program->fetched.address + rotation->place;
    uint32_t columns = width(view, op->dst), stride = spi_cu_stride(columns), head_dim = columns / op->heads;
    uint32_t pairs = rotation->pairs, heads = op->heads, halves = op->rope_pairs == SPI_ROPE_HALVES;
    void *arguments[] = {&dst, &table, &stride, &heads, &head_dim, &pairs, &halves};
    return spi_cu_launch(view->cu, SPI_CU_rope, spi_cu_ceil((uint64_t)heads * pairs, THREADS), view->rows, THREADS,
                         arguments, view->error);
}

static sp_status kv_store(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_kv kv = kv_of(view);
    spi_cu_pointer k = at(view, op->src), v = at(view, op->src1), rows = rows_at(view);
    uint32_t columns = width(view, op->src), stride = spi_cu_stride(columns);
    void *arguments[] = {&k, &v, &stride, &rows, &kv};
    spi_cu_kernel kernel = spi_kv_is_q8(&view->program->tape->kv) ? SPI_CU_kv_store_q8 : SPI_CU_kv_store;
    return spi_cu_launch(view->cu, kernel, spi_cu_ceil(columns, THREADS), view->rows, THREADS, arguments, view->error);
}

static sp_status attention(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_attention args = {.q = (const float *)(uintptr_t)at(view, op->src),
                             .out = (float *)(uintptr_t)at(view, op->dst),
                             .rows = (const spi_cu_row *)(uintptr_t)rows_at(view),
                             .kv = kv_of(view),
                             .stride = spi_cu_stride(width(view, op->dst)),
                             .heads = op->heads,
                             .window = op->window,
                             .scale = op->scale,
                             .softcap = op->softcap};
    uint32_t rows = view->rows, group = op->heads / args.kv.kv_heads;
    bool q8 = spi_kv_is_q8(&view->program->tape->kv);
    void *arguments[] = {&args, &rows};
    if (rows > 1 && group <= ATTENTION_QUERIES && !view->cu->choices.op_by_op) {
        return spi_cu_launch(view->cu, q8 ? SPI_CU_attention_rows_q8 : SPI_CU_attention_rows, args.kv.kv_heads,
                             spi_cu_ceil(rows, ATTENTION_QUERIES / group), ATTENTION_THREADS, arguments, view->error);
    }
    return spi_cu_launch(view->cu, q8 ? SPI_CU_attention_q8 : SPI_CU_attention, op->heads, view->rows,
                         ATTENTION_THREADS, arguments, view->error);
}

static sp_status gate(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_pointer dst = at(view, op->dst), src = at(view, op->src), src1 = at(view, op->src1);
    uint32_t columns = width(view, op->dst), stride = spi_cu_stride(columns), silu = op->act == SPI_ACT_SILU;
    void *arguments[] = {&dst, &src, &src1, &columns, &stride, &silu};
    return spi_cu_launch(view->cu, SPI_CU_gate, spi_cu_ceil(columns, THREADS), view->rows, THREADS, arguments,
                         view->error);
}

static sp_status add(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_pointer dst = at(view, op->dst), src = at(view, op->src);
    uint32_t columns = width(view, op->dst), stride = spi_cu_stride(columns);
    float scale = op->scale;
    void *arguments[] = {&dst, &src, &columns, &stride, &scale};
    return spi_cu_launch(view->cu, SPI_CU_add, spi_cu_ceil(columns, THREADS), view->rows, THREADS, arguments,
                         view->error);
}

static sp_status gather(const op_view *view) {
    const spi_op *op = view->op;
    spi_cu_pointer dst = at(view, op->dst), src = at(view, op->src), outs = outs_at(view);
    uint32_t columns = width(view, op->dst), stride = spi_cu_stride(columns);
    void *arguments[] = {&dst, &src, &outs, &columns, &stride};
    return spi_cu_launch(view->cu, SPI_CU_gather, spi_cu_ceil(columns, THREADS), view->rows, THREADS, arguments,
                         view->error);
}

sp_status spi_cu_op(spi_cu *cu, const spi_program *program, uint32_t op_index, uint32_t rows, sp_error *error) {
    op_view view = {cu, program, &program->tape->ops[op_index], op_index, rows, error};
    switch (view.op->kind) {
    case SPI_OP_EMBED: return embed(&view);
    case SPI_OP_NORM: return norm(&view);
    case SPI_OP_MATMUL:
    case SPI_OP_HEAD: return product(&view);
    case SPI_OP_ROPE: return rope(&view);
    case SPI_OP_KV_STORE: return kv_store(&view);
    case SPI_OP_ATTENTION: return attention(&view);
    case SPI_OP_GATE: return gate(&view);
    case SPI_OP_ADD: return add(&view);
    case SPI_OP_GATHER: return gather(&view);
    case SPI_OP_KIND_COUNT: break;
    }
    return spi_fail(error, SP_UNSUPPORTED, "cuda: there is no kernel for %s", spi_op_name(view.op->kind));
}
