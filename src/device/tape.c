/* device/tape.c - the check that lets every backend trust a tape. */
#include "device/tape.h"

#include <math.h>

#include "base/error.h"

const char *spi_op_name(spi_op_kind kind) {
    static const char *const names[SPI_OP_KIND_COUNT] = {"embed",     "norm", "matmul", "rope",   "kv_store",
                                                         "attention", "gate", "add",    "gather", "head"};
    return (unsigned)kind < SPI_OP_KIND_COUNT ? names[kind] : "unknown";
}

typedef struct checker {
    const spi_tape *tape;
    const spi_weights *weights;
    const spi_op *op;
    uint32_t index;
    sp_error *error;
} checker;

static sp_status bad(const checker *check, const char *what) {
    return spi_fail(check->error, SP_INVALID, "tape op %u (%s): %s", check->index, spi_op_name(check->op->kind), what);
}

static uint32_t width(const checker *check, uint32_t buffer) {
    return buffer < check->tape->buffer_count ? check->tape->buffers[buffer].width : 0;
}

static const spi_tensor *tensor(const checker *check, uint32_t index) {
    return index < check->weights->count ? &check->weights->tensors[index] : NULL;
}

static bool is_vector(const spi_tensor *tensor, uint32_t elements) {
    return tensor && tensor->type == SP_F32 && tensor->rows == 1 && tensor->cols == elements;
}

static sp_status check_embed(const checker *check) {
    const spi_tensor *weight = tensor(check, check->op->weight);
    if (!weight || weight->rows != check->tape->vocab || weight->cols != width(check, check->op->dst)) {
        return bad(check, "the weight is not [vocab][width of dst]");
    }
    return SP_OK;
}

static sp_status check_norm(const checker *check) {
    uint32_t columns = width(check, check->op->dst), group = check->op->group;
    if (!columns || width(check, check->op->src) != columns || !group || columns % group) {
        return bad(check, "src, dst and group do not fit together");
    }
    return is_vector(tensor(check, check->op->weight), group) ? SP_OK : bad(check, "the weight is not f32 [group]");
}

/* MATMUL and HEAD. */
static sp_status check_product(const checker *check, uint32_t columns_out) {
    const spi_op *op = check->op;
    const spi_tensor *weight = tensor(check, op->weight);
    if (!weight || !columns_out || weight->rows != columns_out || weight->cols != width(check, op->src)) {
        return bad(check, "the weight is not [width of dst][width of src]");
    }
    if (op->bias != SPI_NONE && !is_vector(tensor(check, op->bias), columns_out)) {
        return bad(check, "the bias is not f32 [width of dst]");
    }
    return op->dst != SPI_NONE && op->dst == op->src ? bad(check, "dst and src are the same buffer") : SP_OK;
}

static sp_status check_rope(const checker *check) {
    const spi_op *op = check->op;
    uint32_t columns = width(check, op->dst);
    if (!columns || !op->heads || columns % op->heads || !op->rope_dims || op->rope_dims % 2 ||
        op->rope_dims > columns / op->heads) {
        return bad(check, "heads and rope_dims do not fit the width of dst");
    }
    if (op->weight != SPI_NONE && !is_vector(tensor(check, op->weight), op->rope_dims / 2)) {
        return bad(check, "the factors are not f32 [rope_dims / 2]");
    }
    return op->rope_base > 0 && isfinite(op->rope_base) && isfinite(op->rope_freq_scale)
               ? SP_OK
               : bad(check, "base or frequency scale is no usable number");
}

static sp_status check_kv_store(const checker *check) {
    const spi_kv_shape *kv = &check->tape->kv;
    uint32_t columns = kv->kv_heads * kv->head_dim;
    if (check->op->layer >= kv->layers || width(check, check->op->src) != columns ||
        width(check, check->op->src1) != columns) {
        return bad(check, "layer, or the width of k or v, does not fit the KV shape");
    }
    return SP_OK;
}

static sp_status check_attention(const checker *check) {
    const spi_op *op = check->op;
    const spi_kv_shape *kv = &check->tape->kv;
    uint64_t columns = (uint64_t)op->heads * kv->head_dim;
    if (op->layer >= kv->layers || !op->heads || op->heads % kv->kv_heads || width(check, op->src) != columns ||
        width(check, op->dst) != columns || op->src == op->dst) {
        return bad(check, "layer, heads or widths do not fit the KV shape");
    }
    return SP_OK;
}

static sp_status check_gate(const checker *check) {
    uint32_t columns = width(check, check->op->dst);
    if (!columns || width(check, check->op->src) != columns || width(check, check->op->src1) != columns) {
        return bad(check, "src, src1 and dst differ in width");
    }
    return SP_OK;
}

/* Scaling by 0 is a scale that nobody set. */
static bool is_scale(float scale) {
    return isfinite(scale) && scale != 0;
}

/* ADD and GATHER. */
static sp_status check_copy(const checker *check) {
    uint32_t columns = width(check, check->op->dst);
    if (!columns || width(check, check->op->src) != columns || check->op->src == check->op->dst) {
        return bad(check, "src and dst differ in width, or are the same");
    }
    return SP_OK;
}

static sp_status check_op(const checker *check) {
    bool scales = check->op->kind == SPI_OP_EMBED || check->op->kind == SPI_OP_ROPE ||
                  check->op->kind == SPI_OP_ATTENTION || check->op->kind == SPI_OP_ADD ||
                  check->op->kind == SPI_OP_HEAD;
    if (scales && !is_scale(check->op->scale)) {
        return bad(check, "the scale is no usable number");
    }
    switch (check->op->kind) {
    case SPI_OP_EMBED: return check_embed(check);
    case SPI_OP_NORM: return check_norm(check);
    case SPI_OP_MATMUL: return check_product(check, width(check, check->op->dst));
    case SPI_OP_ROPE: return check_rope(check);
    case SPI_OP_KV_STORE: return check_kv_store(check);
    case SPI_OP_ATTENTION: return check_attention(check);
    case SPI_OP_GATE: return check_gate(check);
    case SPI_OP_ADD:
    case SPI_OP_GATHER: return check_copy(check);
    case SPI_OP_HEAD: return check_product(check, check->tape->vocab);
    case SPI_OP_KIND_COUNT: break;
    }
    return bad(check, "no such op");
}

/* Behind a GATHER rows are outputs, whose tokens and positions nobody knows. */
static bool needs_rows_of_run(spi_op_kind kind) {
    return kind == SPI_OP_EMBED || kind == SPI_OP_ROPE || kind == SPI_OP_KV_STORE || kind == SPI_OP_ATTENTION;
}

static bool is_affine_whole(const spi_tensor *tensor) {
    const spi_affine *affine = &tensor->affine;
    bool is_float = affine->type == SP_F32 || affine->type == SP_F16 || affine->type == SP_BF16;
    bool is_group = affine->group == 32 || affine->group == 64 || affine->group == 128;
    return !spi_affine_bits(tensor->type) ||
           (affine->scales && affine->biases && is_float && is_group && tensor->cols % affine->group == 0);
}

static sp_status check_weights(const spi_weights *weights, sp_error *error) {
    for (uint32_t i = 0; i < weights->count; i++) {
        const spi_tensor *tensor = &weights->tensors[i];
        uint32_t block = sp_dtype_block_elements(tensor->type);
        if (!block || !tensor->rows || !tensor->cols || tensor->cols % block || !tensor->data ||
            !is_affine_whole(tensor) ||
            tensor->bytes != (uint64_t)tensor->rows * (tensor->cols / block) * sp_dtype_block_bytes(tensor->type)) {
            return spi_fail(error, SP_INVALID, "tensor %s: type, shape and length do not fit together", tensor->name);
        }
    }
    return SP_OK;
}

sp_status spi_tape_check(const spi_tape *tape, const spi_weights *weights, sp_error *error) {
    const spi_kv_shape *kv = &tape->kv;
    if (!tape->rows_max || !tape->vocab || !kv->layers || !kv->kv_heads || !kv->head_dim || kv->head_dim % 2 ||
        (spi_kv_is_q8(kv) && kv->head_dim % SPI_KV_SCALE_COLUMNS) ||
        kv->block_bytes < spi_kv_block_bytes(kv->type, kv->layers, kv->kv_heads, kv->head_dim) ||
        kv->block_bytes % SPI_KV_BLOCK_PAD_BYTES) {
        return spi_fail(error, SP_INVALID, "the tape's rows, vocabulary or KV shape is not valid");
    }
    for (uint32_t i = 0; i < tape->buffer_count; i++) {
        if (!tape->buffers[i].width) {
            return spi_fail(error, SP_INVALID, "tape buffer %u (%s) has no width", i, tape->buffers[i].name);
        }
    }
    sp_status status = check_weights(weights, error);
    bool is_gathered = false;
    for (uint32_t i = 0; i < tape->op_count && !status; i++) {
        checker check = {.tape = tape, .weights = weights, .op = &tape->ops[i], .index = i, .error = error};
        status = is_gathered && needs_rows_of_run(check.op->kind) ? bad(&check, "it stands behind a gather")
                                                                  : check_op(&check);
        is_gathered |= check.op->kind == SPI_OP_GATHER;
    }
    return status;
}
