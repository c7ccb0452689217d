/* device/cpu/product.c - sharing out a product of weights and rows, and what happens to sums on their way to their
 * place.
 *
 * A part is a contiguous run of the matrix's rows, and is taken in tiles: so many tokens
 * that their activations stay in the second-level cache, so many rows that their sums stay in the first. Weights are
 * read once for each block of tokens. May include: device, os, base.
 */
#include "device/cpu/cpu.h"

#define ACT_BLOCK_BYTES ((size_t)512 << 10)
#define TOKENS_MAX      120u
#define TOKENS_UNIT     24u /* a multiple of what any kernel takes at once */
/* Of products that expand weights for all of them: the activations come from further away. A multiple of
 * SPI_BF16_UNIT. */
#define MANY_TOKENS_MAX 512u
#define OUT_TILE_FLOATS 8192u
#define OUT_ROWS_MAX    2048u
#define ALONE_BYTES     ((size_t)256 << 10)
#define PART_ROWS       256u
#define FEW_TOKENS      4u /* whose products wait for memory */
#define PARTS_MAX       16u
#define STRIDE_UNIT     16u /* floats: rows of the tile start on cache lines */

static uint32_t round_up(uint32_t value, uint32_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* Of tokens in the tile. An odd number of cache lines: others would meet in a few sets of the cache. */
static uint32_t out_stride(uint32_t tile_rows) {
    return round_up(tile_rows, STRIDE_UNIT) | STRIDE_UNIT;
}

/* What a product is made of in this run. */
typedef struct plan {
    spi_cpu_form form;
    void (*product)(const spi_cpu_product *args);
    uint32_t group_rows;
    uint32_t block_tokens; /* as even as can be, at most what fits */
    uint32_t tile_rows;
    size_t out_stride;
} plan;

static uint32_t few_block_tokens(spi_cpu_form form, uint32_t cols, uint32_t tokens) {
    size_t token_bytes =
        form == SPI_FORM_I8 ? (size_t)cols / SPI_I8_COLUMNS * SPI_I8_TOKEN_BYTES : (size_t)cols * sizeof(float);
    size_t fit = ACT_BLOCK_BYTES / token_bytes / TOKENS_UNIT * TOKENS_UNIT;
    uint32_t most = fit > TOKENS_MAX ? TOKENS_MAX : fit < TOKENS_UNIT ? TOKENS_UNIT : (uint32_t)fit;
    uint32_t blocks = (tokens - 1) / most + 1;
    return blocks == 1 ? tokens : round_up((tokens - 1) / blocks + 1, TOKENS_UNIT);
}

static bool takes_many(const spi_program *program, const spi_cpu_type *type, uint32_t tokens) {
    return type->product_many && tokens >= type->many_tokens && !program->alone;
}

/* `many`: see takes_many. */
static plan make_plan(const spi_cpu_type *type, uint32_t cols, uint32_t tokens, bool many) {
    plan made = {.form = type->form, .product = type->product, .group_rows = type->group_rows};
    uint32_t unit = 1, floats = OUT_TILE_FLOATS;
    if (many) {
        made.form = SPI_FORM_BF16;
        made.product = type->product_many;
        uint32_t blocks = (tokens - 1) / MANY_TOKENS_MAX + 1;
        made.block_tokens = round_up((tokens - 1) / blocks + 1, SPI_BF16_UNIT);
        unit = SPI_BF16_UNIT;
        floats = type->many_out_floats ? type->many_out_floats : floats;
    } else {
        made.block_tokens = few_block_tokens(type->form, cols, tokens);
    }
    uint32_t rows = floats / round_up(made.block_tokens, unit) / STRIDE_UNIT * STRIDE_UNIT;
    rows = (rows > OUT_ROWS_MAX ? OUT_ROWS_MAX : rows) / type->group_rows * type->group_rows;
    made.tile_rows = rows ? rows : type->group_rows;
    made.out_stride = out_stride(made.tile_rows);
    return made;
}

/* Of the largest tile; a multiple of cache lines. */
static size_t sums_bytes(const spi_cpu_type *type) {
    size_t floats = type->product_many && type->many_out_floats ? type->many_out_floats : OUT_TILE_FLOATS;
    size_t tokens = type->product_many ? MANY_TOKENS_MAX : TOKENS_MAX, least = tokens * type->group_rows;
    return ((floats > least ? floats : least) + tokens * 2 * STRIDE_UNIT) * sizeof(float);
}

size_t spi_cpu_product_scratch_bytes(const spi_program *program, const spi_op *op) {
    return sums_bytes(program->store->matrices[op->weight].type) + program->cpu->kernels->product_scratch_bytes;
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

static const void *first_act(const spi_program *program, const spi_step *step, spi_cpu_form form, uint32_t cols,
                             uint32_t token) {
    const uint8_t *acts = program->acts[form][step->buffer];
    switch (form) {
    case SPI_FORM_I8: return acts + (size_t)token * (cols / SPI_I8_COLUMNS) * SPI_I8_TOKEN_BYTES;
    case SPI_FORM_BF16: return acts + token * spi_bf16_stride(cols) * sizeof(uint16_t);
    default: return program->buffers[step->buffer] + (size_t)token * cols;
    }
}

bool spi_cpu_product_joins(const spi_program *program, const spi_step *step) {
    const spi_step *joint = step->joint;
    if (!joint) {
        return false;
    }
    uint32_t rows = spi_cpu_rows(program, joint);
    const spi_cpu_type *type = program->store->matrices[joint->op->weight].type;
    return rows > FEW_TOKENS && spi_cpu_only_forms(program, joint->gate) && takes_many(program, type, rows) &&
           type->many_part_tokens;
}

/* How an owner's share is cut: rows into `rows` parts, and tokens into `tokens`. */
typedef struct cut {
    uint32_t rows, tokens;
} cut;

/* So large that beginning a part costs nothing, so many that threads can help each other. */
static cut make_cut(const spi_program *program, const spi_step *step, uint32_t tokens, uint32_t owner_count) {
    const spi_cpu_type *type = program->store->matrices[step->op->weight].type;
    uint32_t rows = program->store->tensors[step->op->weight].rows / owner_count;
    if (takes_many(program, type, tokens) && type->many_part_tokens) {
        uint32_t matrices = spi_cpu_product_joins(program, step) ? 2 : 1;
        uint32_t parts = rows * matrices / type->many_part_rows;
        return (cut){.rows = parts < 1 ? 1 : parts, .tokens = (tokens - 1) / type->many_part_tokens + 1};
    }
    uint32_t parts = rows / PART_ROWS;
    return (cut){.rows = parts < 1 ? 1 : parts > PARTS_MAX ? PARTS_MAX : parts, .tokens = 1};
}

/* Of few tokens a share is cut into two parts for each time that what is left of it can be halved: between two parts
 * memory waits for a moment, and behind the last ones a thread for the others. Groups [first, end) of the share's. */
static void few_part(uint64_t groups, uint32_t part, uint64_t *first, uint64_t *end) {
    uint64_t from = groups - (groups >> part / 2), to = groups - (groups >> (part / 2 + 1));
    uint64_t middle = from + (to - from + 1) / 2;
    *first = part % 2 ? middle : from;
    *end = part % 2 ? to : middle;
}

/* Of the largest share: others may have empty parts at their end. */
static uint32_t few_parts(const spi_program *program, const spi_op *op, uint32_t owner_count) {
    const spi_cpu_type *type = program->store->matrices[op->weight].type;
    uint32_t groups = (program->store->tensors[op->weight].rows - 1) / type->group_rows + 1, parts = 0;
    for (uint32_t left = (groups - 1) / owner_count + 1; left; left /= 2) {
        parts += 2;
    }
    return parts;
}

uint32_t spi_cpu_product_parts(const spi_program *program, const spi_step *step, uint32_t tokens,
                               uint32_t owner_count) {
    if (tokens <= FEW_TOKENS) {
        return few_parts(program, step->op, owner_count);
    }
    cut into = make_cut(program, step, tokens, owner_count);
    return into.rows * into.tokens;
}

size_t spi_cpu_product_weights(const spi_program *program, const spi_op *op, uint32_t owner, uint32_t owner_count,
                               const uint8_t **weights) {
    const spi_tensor *tensor = &program->store->tensors[op->weight];
    const spi_cpu_matrix *matrix = &program->store->matrices[op->weight];
    const spi_cpu_type *type = matrix->type;
    size_t bytes = type->packed_bytes ? type->packed_bytes(tensor) : tensor->bytes;
    uint32_t groups = (tensor->rows + type->group_rows - 1) / type->group_rows;
    uint64_t first, end;
    spi_pool_share(groups, 1, owner, owner_count, &first, &end);
    *weights = (const uint8_t *)matrix->data + bytes / groups * first;
    return bytes / groups * (size_t)(end - first);
}

/* Token by token, since a product of f32 with rows adds in another order for one token than for several; a few rows at
 * a time, which stay in the second-level cache for the next token. (Sums of products with rounded activations are
 * exact, or in an order that tokens do not change.) */
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

/* Weights of a single token are asked for before they are read, where it helps. On an Intel server, two pages ahead
 * into the second level of the cache: types of all kinds come at 0.92 to 1.08 of the memory's bandwidth, a page ahead
 * into the first level at 0.84 to 0.98, not asked for at 0.67 to 0.93. One of AMD's family 26 (Zen 5) went from
 * 0.49-0.56 to 0.89-0.98 for Q4_K, Q5_K and Q6_K with AVX-512, other types by less (into the second level by 0.05
 * less); one of family 25 (Zen 4) from 0.88 to 0.55. */
typedef struct asking {
    uint32_t bytes;
    bool second;
} asking;

static asking ask_how(void) {
    const spi_cpu_features *features = spi_cpu_get_features();
    if (features->intel) {
        return (asking){.bytes = 8192, .second = true};
    }
    return (asking){.bytes = features->amd_family >= 26 ? 8192 : 0};
}

/* Of tokens [token, token_end), for all rows. */
static spi_cpu_product arguments(const spi_program *program, const spi_step *step, const plan *made, uint32_t token,
                                 uint32_t token_end, uint8_t *scratch) {
    const spi_op *op = step->op;
    const spi_tensor *tensor = &program->store->tensors[op->weight];
    const spi_cpu_matrix *matrix = &program->store->matrices[op->weight];
    const asking ask = ask_how();
    return (spi_cpu_product){
        .weights = matrix->data,
        .tensor = tensor,
        .rows = tensor->rows,
        .cols = tensor->cols,
        .act_stride = made->form == SPI_FORM_BF16 ? spi_bf16_stride(tensor->cols) : tensor->cols,
        .ahead_bytes = ask.bytes,
        .ahead_second = ask.second,
        .acts = first_act(program, step, made->form, tensor->cols, token),
        .token_count = token_end - token,
        .out = (float *)(void *)scratch,
        .out_stride = made->out_stride,
        .scratch = scratch + sums_bytes(matrix->type),
    };
}

/* Rows [first, end) of the matrix with tokens [token, token_end). */
static void product_rows(const spi_program *program, const spi_step *step, const plan *made, uint32_t token,
                         uint32_t token_end, uint32_t first, uint32_t end, uint8_t *scratch) {
    const spi_op *op = step->op;
    const spi_tensor *tensor = &program->store->tensors[op->weight];
    const spi_cpu_matrix *matrix = &program->store->matrices[op->weight];
    spi_cpu_product args = arguments(program, step, made, token, token_end, scratch);
    for (uint32_t row = first; row < end; row += made->tile_rows) {
        args.row_first = row;
        args.row_count = end - row < made->tile_rows ? end - row : made->tile_rows;
        if (program->alone && made->form == SPI_FORM_F32 && !matrix->type->one_order) {
            product_alone(matrix->type, &args, tensor->bytes / tensor->rows);
        } else {
            made->product(&args);
        }
        for (uint32_t t = 0; t < args.token_count; t++) {
            finish(program, op, token + t, row, args.row_count, args.out + t * args.out_stride);
        }
    }
}

/* Sums of a joint product's two matrices, one behind the other, gated and turned into the forms that are read of
 * them. */
static void finish_joint(const spi_program *program, const spi_step *step, uint32_t token, const spi_cpu_product *one,
                         const spi_cpu_product *other) {
    const spi_cpu_kernels *kernels = program->cpu->kernels;
    const spi_op *ops[] = {step->gated->op, step->op};
    const spi_cpu_product *args[] = {one, other};
    for (uint32_t t = 0; t < one->token_count; t++) {
        float *sums[2];
        for (uint32_t i = 0; i < 2; i++) {
            sums[i] = args[i]->out + t * args[i]->out_stride;
            if (ops[i]->bias != SPI_NONE) {
                const float *bias = program->store->tensors[ops[i]->bias].data;
                kernels->add(sums[i], bias + one->row_first, one->row_count);
            }
        }
        bool second = step->gate->op->src == ops[1]->dst; /* is what is put through the function */
        kernels->gate(sums[0], sums[second], sums[!second], one->row_count, step->gate->op->act);
    }
    spi_cpu_make_forms(program, step->gate,
                       &(spi_cpu_patch){.row_first = token,
                                        .row_end = token + one->token_count,
                                        .first = one->row_first,
                                        .end = one->row_first + one->row_count,
                                        .values = one->out,
                                        .stride = one->out_stride});
}

/* product_rows of a joint product; the sums of both matrices have the room that one has otherwise. */
static void joint_rows(const spi_program *program, const spi_step *step, const plan *whole, uint32_t token,
                       uint32_t token_end, uint32_t first, uint32_t end, uint8_t *scratch) {
    plan made = *whole;
    uint32_t half = made.tile_rows / 2 / made.group_rows * made.group_rows;
    made.tile_rows = half ? half : made.group_rows;
    made.out_stride = out_stride(made.tile_rows);
    spi_cpu_product one = arguments(program, step->gated, &made, token, token_end, scratch);
    spi_cpu_product other = arguments(program, step, &made, token, token_end, scratch);
    other.out += round_up(one.token_count, SPI_BF16_UNIT) * made.out_stride;
    for (uint32_t row = first; row < end; row += made.tile_rows) {
        one.row_first = other.row_first = row;
        one.row_count = other.row_count = end - row < made.tile_rows ? end - row : made.tile_rows;
        made.product(&one);
        made.product(&other);
        finish_joint(program, step, token, &one, &other);
    }
}

/* What is read behind an owner's last row, its share of the next product, is asked for while that row is read. */
static void ask_for_next(const spi_program *program, const spi_step *step, uint32_t owner, uint32_t owner_count) {
    const uint8_t *weights;
    size_t bytes = spi_cpu_product_weights(program, step->next->op, owner, owner_count, &weights);
    size_t asked = ask_how().bytes;
    for (size_t at = 0; at < asked && at < bytes; at += SPI_CPU_CACHE_LINE_BYTES) {
        __builtin_prefetch(weights + at, 0, 2);
    }
}

static void few_share(const spi_program *program, const spi_step *step, uint32_t tokens, uint32_t part,
                      uint32_t part_count, uint32_t thread) {
    const spi_tensor *tensor = &program->store->tensors[step->op->weight];
    const spi_cpu_type *type = program->store->matrices[step->op->weight].type;
    uint32_t owner_count = spi_pool_thread_count(program->cpu->pool), parts = part_count / owner_count;
    uint64_t share_first, share_end, first, end;
    spi_pool_share(tensor->rows, type->group_rows, part / parts, owner_count, &share_first, &share_end);
    few_part((share_end - share_first + type->group_rows - 1) / type->group_rows, part % parts, &first, &end);
    first = share_first + first * type->group_rows;
    end = share_first + end * type->group_rows;
    end = end < share_end ? end : share_end;
    if (first < end) {
        const plan made = make_plan(type, tensor->cols, tokens, false);
        if (end == share_end) {
            ask_for_next(program, step, part / parts, owner_count);
        }
        product_rows(program, step, &made, 0, tokens, (uint32_t)first, (uint32_t)end,
                     program->scratch + thread * program->scratch_bytes);
    }
}

void spi_cpu_product_share(const spi_program *program, const spi_step *step, uint32_t tokens, uint32_t part,
                           uint32_t part_count, uint32_t thread) {
    if (tokens <= FEW_TOKENS) {
        few_share(program, step, tokens, part, part_count, thread);
        return;
    }
    const spi_tensor *tensor = &program->store->tensors[step->op->weight];
    const spi_cpu_type *type = program->store->matrices[step->op->weight].type;
    cut into = make_cut(program, step, tokens, spi_pool_thread_count(program->cpu->pool));
    bool many = takes_many(program, type, tokens);
    uint64_t first, end, token_first, token_end;
    spi_pool_share(tensor->rows, type->group_rows, part / into.tokens, part_count / into.tokens, &first, &end);
    spi_pool_share(tokens, into.tokens > 1 ? SPI_BF16_UNIT : 1, part % into.tokens, into.tokens, &token_first,
                   &token_end);
    if (token_first == token_end) {
        return;
    }
    const plan made = make_plan(type, tensor->cols, (uint32_t)(token_end - token_first), many);
    uint8_t *scratch = program->scratch + thread * program->scratch_bytes;
    for (uint32_t token = (uint32_t)token_first; token < token_end; token += made.block_tokens) {
        uint32_t left = (uint32_t)token_end - token;
        uint32_t block_end = token + (left < made.block_tokens ? left : made.block_tokens);
        if (spi_cpu_product_joins(program, step)) {
            joint_rows(program, step, &made, token, block_end, (uint32_t)first, (uint32_t)end, scratch);
        } else {
            product_rows(program, step, &made, token, block_end, (uint32_t)first, (uint32_t)end, scratch);
        }
    }
}
