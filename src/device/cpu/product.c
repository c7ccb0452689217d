/* device/cpu/product.c - sharing out a product of weights and rows, and what happens to sums on their way to their place.
 *
 * A part is a contiguous run of the matrix's rows, and is taken in tiles: so many tokens
 * that their activations stay in the second-level cache, so many rows that their sums stay in the first. Weights are
 * read once for each block of tokens. May include: device, os, base.
 */
#include "device/cpu/cpu.h"

#define ACT_BLOCK_BYTES ((size_t)512 << 10)
#define TOKENS_MAX      120u
#define TOKENS_UNIT     24u /* a multiple of what any kernel takes at once */
#define OUT_TILE_FLOATS 8192u
#define OUT_ROWS_MAX    2048u
#define ALONE_BYTES     ((size_t)256 << 10)
#define PART_ROWS       256u
#define PARTS_MAX       16u
#define STRIDE_UNIT     16u /* floats: rows of the tile start on cache lines */

static uint32_t round_up(uint32_t value, uint32_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* Tokens of one block: as even as can be, at most what fits. */
static uint32_t block_tokens(const spi_cpu_type *type, uint32_t cols, uint32_t tokens) {
    size_t token_bytes =
        type->form == SPI_FORM_I8 ? (size_t)cols / SPI_I8_COLUMNS * SPI_I8_TOKEN_BYTES : (size_t)cols * sizeof(float);
    size_t fit = ACT_BLOCK_BYTES / token_bytes / TOKENS_UNIT * TOKENS_UNIT;
    uint32_t most = fit > TOKENS_MAX ? TOKENS_MAX : fit < TOKENS_UNIT ? TOKENS_UNIT : (uint32_t)fit;
    uint32_t blocks = (tokens - 1) / most + 1;
    return blocks == 1 ? tokens : round_up((tokens - 1) / blocks + 1, TOKENS_UNIT);
}

static uint32_t tile_rows(const spi_cpu_type *type, uint32_t tokens) {
    uint32_t rows = OUT_TILE_FLOATS / tokens / STRIDE_UNIT * STRIDE_UNIT;
    rows = (rows > OUT_ROWS_MAX ? OUT_ROWS_MAX : rows) / type->group_rows * type->group_rows;
    return rows ? rows : type->group_rows;
}

/* Of the largest tile; a multiple of cache lines. */
static size_t sums_bytes(uint32_t group_rows) {
    size_t least = (size_t)TOKENS_MAX * round_up(group_rows, STRIDE_UNIT);
    return (least > OUT_TILE_FLOATS ? least : OUT_TILE_FLOATS) * sizeof(float);
}

size_t spi_cpu_product_scratch_bytes(const spi_program *program, const spi_op *op) {
    uint32_t group = program->store->matrices[op->weight].type->group_rows;
    return sums_bytes(group) + program->cpu->kernels->product_scratch_bytes;
}

/* Sums of one token for rows first .. to where the op wants them. */
static void finish(const spi_program *program, const spi_op *op, uint32_t token, uint32_t first, uint32_t count,
                   float *sums) {
    const spi_tape *tape = program->tape;
    if (op->bias != SPI_NONE) {
        const float *bias = program->store->tensors[op->bias].data;
        program->cpu->kernels->add(sums, bias + first, count);
    }
    if (op->kind == SPI_OP_HEAD) {
        if (op->scale != 1 || op->softcap != 0) {
            program->cpu->kernels->cap(sums, count, op->scale, op->softcap);
        }
        float *logits = program->logits[token] + first;
        for (uint32_t i = 0; i < count; i++) {
            logits[i] = sums[i];
        }
        return;
    }
    float *dst = program->buffers[op->dst] + (size_t)token * tape->buffers[op->dst].width + first;
    if (op->accumulate) {
        program->cpu->kernels->add(dst, sums, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        dst[i] = sums[i];
    }
}

static const void *first_act(const spi_program *program, const spi_step *step, const spi_cpu_type *type, uint32_t cols,
                             uint32_t token) {
    if (type->form == SPI_FORM_I8) {
        return program->acts[step->buffer] + (size_t)token * (cols / SPI_I8_COLUMNS) * SPI_I8_TOKEN_BYTES;
    }
    return program->buffers[step->buffer] + (size_t)token * cols;
}

/* So large that beginning one costs nothing, so many that threads can help each other. */
uint32_t spi_cpu_product_parts(const spi_program *program, const spi_op *op, uint32_t owner_count) {
    uint32_t parts = program->store->tensors[op->weight].rows / owner_count / PART_ROWS;
    return parts < 1 ? 1 : parts > PARTS_MAX ? PARTS_MAX : parts;
}

/* Token by token, since a product of f32 adds in another order for one token than for several; a few rows at a time, which
 * stay in the second-level cache for the next token. (Sums of products with rounded activations are exact, or in an
 * order that tokens do not change.) */
static void product_alone(const spi_cpu_type *type, const spi_cpu_product *all, size_t row_bytes) {
    uint32_t rows = (uint32_t)(ALONE_BYTES / row_bytes) / type->group_rows * type->group_rows;
    rows = rows ? rows : type->group_rows;
    for (uint32_t row = 0; row < all->row_count; row += rows) {
        spi_cpu_product args = *all;
        args.row_first += row;
        args.row_count = all->row_count - row < rows ? all->row_count - row : rows;
        args.token_count = 1;
        for (uint32_t t = 0; t < all->token_count; t++) {
            args.acts = (const float *)all->acts + t * all->act_stride;
            args.out = all->out + t * all->out_stride + row;
            type->product(&args);
        }
    }
}

void spi_cpu_product_share(const spi_program *program, const spi_step *step, uint32_t tokens, uint32_t part,
                           uint32_t part_count, uint32_t thread) {
    const spi_op *op = step->op;
    const spi_tensor *tensor = &program->store->tensors[op->weight];
    const spi_cpu_matrix *matrix = &program->store->matrices[op->weight];
    const spi_cpu_type *type = matrix->type;
    uint64_t first, end;
    spi_pool_share(tensor->rows, type->group_rows, part, part_count, &first, &end);
    uint32_t block = block_tokens(type, tensor->cols, tokens), rows = tile_rows(type, block);
    uint8_t *scratch = program->scratch + thread * program->scratch_bytes;
    float *sums = (float *)(void *)scratch;
    for (uint32_t token = 0; token < tokens; token += block) {
        uint32_t count = tokens - token < block ? tokens - token : block;
        for (uint32_t row = (uint32_t)first; row < end; row += rows) {
            spi_cpu_product args = {.weights = matrix->data,
                                    .rows = tensor->rows,
                                    .cols = tensor->cols,
                                    .row_first = row,
                                    .row_count = end - row < rows ? (uint32_t)end - row : rows,
                                    .acts = first_act(program, step, type, tensor->cols, token),
                                    .act_stride = tensor->cols,
                                    .token_count = count,
                                    .ahead = spi_cpu_get_features()->intel,
                                    .out = sums,
                                    .out_stride = round_up(rows, STRIDE_UNIT),
                                    .scratch = scratch + sums_bytes(type->group_rows)};
            if (program->alone && type->form == SPI_FORM_F32) {
                product_alone(type, &args, tensor->bytes / tensor->rows);
            } else {
                type->product(&args);
            }
            for (uint32_t t = 0; t < count; t++) {
                finish(program, op, token + t, row, args.row_count, sums + t * args.out_stride);
            }
        }
    }
}
