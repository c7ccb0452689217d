/* device/cuda/decode.c - a run of one row as one launch (kernels/decode.cu). */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define SHARED_STATIC_BYTES 10240u /* of the kernel itself, and the system's own */
#define STAGE_BYTES         20480u
#define FLIGHT_BYTES        32768u /* of a multiprocessor's weights on their way at once: more delays all other loads */
#define FLIGHT_MOST_BYTES   65536u /* where its warps have little left */

#define KV_FLIGHT_BYTES 20480u /* of keys and values, whose stages are not full */

#define KV_SHIFTS_BYTES 256u /* of a stage, between groups of positions: kernels/ring.cuh */

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Bytes of shared memory for a phase's vector, or for attention's queries and sums. */
static uint32_t vector_bytes(const spi_cu_phase *phase, const spi_kv_shape *kv) {
    if (phase->kind == SPI_CU_PHASE_ATTENTION) {
        uint32_t group = phase->heads / kv->kv_heads, eights = spi_cu_ceil(group, 8), dim = kv->head_dim;
        uint32_t parts = SPI_CU_DECODE_WARPS / (dim / 32) / eights;
        uint32_t sums = most(parts * group * (dim + 4), (group + 2) * dim); /* one behind the other in the same place */
        return eights * dim * 32 + 2 * dim * 2 + SPI_CU_DECODE_WARPS * 64 + sums * 4;
    }
    uint32_t cols = phase->groups * 32;
    return spi_cu_is_quantised(phase->type) ? 2 * (cols / 32 + 4) * 16 + cols / 32 * 12 : 2 * (cols / 8 + 4) * 16;
}

/* Bytes of shared memory for the sums of a block's rows, but of logits. */
static uint32_t sums_bytes(const spi_cu_phase *phase, uint32_t blocks) {
    bool leaves = phase->kind == SPI_CU_PHASE_PRODUCT && phase->output != SPI_CU_OUTPUT_LOGITS;
    uint32_t hands = phase->unit_count >> phase->deal_log2;
    return leaves ? (spi_cu_ceil(hands, blocks) << phase->deal_log2) * phase->unit_rows * 4 << phase->slices_log2 : 0;
}

/* How many warps share a row of the phase. False: there are too few. */
static bool slice_rows(spi_cu_phase *phase) {
    uint32_t slices = spi_cu_ceil(phase->groups * 32, SPI_CU_SLICE_ELEMENTS(phase->type));
    while (1u << phase->slices_log2 < slices) {
        phase->slices_log2++;
    }
    return slices <= SPI_CU_DECODE_WARPS;
}

/* A multiprocessor's units of a phase, and how many of them go through the ring at once: as many in each stage. Those
 * that have one more than others are never the same for two phases. */
static void share_units(spi_cu_phase *phase, uint32_t stage_bytes, uint32_t blocks, uint32_t *first_extra) {
    phase->inverse_cols = 1.0f / (float)phase->cols;
    uint32_t hands = phase->unit_count >> phase->deal_log2;
    phase->units_each = hands / blocks;
    phase->units_extra = hands % blocks;
    if (!phase->narrow) { /* the same blocks, and threads, have the same sums again */
        phase->shift = *first_extra;
        *first_extra = (*first_extra + blocks - phase->units_extra) % blocks;
    }
    uint32_t units = (phase->units_each + (phase->units_extra > 0)) << phase->deal_log2;
    uint32_t stages = spi_cu_ceil(units, stage_bytes / (phase->unit_rows * phase->stride));
    phase->stage_units = spi_cu_ceil(units, stages);
}

/* A gate's outputs of quantised types are rounded by who computes them, 32 at a time, where they are enough for all
 * multiprocessors and only the next phase reads them. */
static void pack_gates(spi_cu_phases *phases, uint32_t blocks) {
    for (uint32_t i = 0; i + 1 < phases->count; i++) {
        spi_cu_phase *gate = &phases->items[i], *next = gate + 1;
        bool good = gate->kind == SPI_CU_PHASE_PRODUCT && next->kind == SPI_CU_PHASE_PRODUCT &&
                    gate->output == SPI_CU_OUTPUT_GATE && next->input == SPI_CU_INPUT_PLAIN &&
                    next->src == gate->parts[0].dst && spi_cu_is_quantised(gate->type) &&
                    spi_cu_is_quantised(next->type) && gate->unit_count % 32 == 0 && gate->unit_count / 32 >= blocks;
        for (uint32_t j = i + 2; j < phases->count && good; j++) { /* until it is written again */
            if (phases->items[j].output == SPI_CU_OUTPUT_GATE && phases->items[j].parts[0].dst == next->src) {
                break;
            }
            good = phases->items[j].src != next->src;
        }
        if (good) {
            gate->packs = next->unpacks = 1;
            gate->deal_log2 = 5;
        }
    }
}

/* Whether sums of quantised products can be left as f16 numbers: each by itself is read by the product behind it only, through
 * a norm, and otherwise added to by whoever has made it, which the same threads do in all such phases. */
static bool sums_are_narrow(const spi_cu_phases *phases, uint32_t blocks) {
    bool summed = false;
    for (uint32_t i = 0; i < phases->count; i++) {
        const spi_cu_phase *phase = &phases->items[i], *next = phase + 1;
        if (phase->kind != SPI_CU_PHASE_PRODUCT) {
            continue;
        }
        if (phase->output == SPI_CU_OUTPUT_ADD) {
            bool good = phase->parts[0].dst == phases->x && phase->part_count == 1 && phase->unit_count % 4 == 0 &&
                        phase->unit_count / 4 >= blocks && spi_cu_is_quantised(phase->type) && i + 1 < phases->count &&
                        next->kind == SPI_CU_PHASE_PRODUCT && next->input == SPI_CU_INPUT_NORM &&
                        next->src == phases->x && spi_cu_is_quantised(next->type);
            if (!good) {
                return false;
            }
            summed = true;
        } else if (summed && phase->input != SPI_CU_INPUT_SAME && phase->src == phases->x &&
                   phases->items[i - 1].output != SPI_CU_OUTPUT_ADD) {
            return false;
        }
    }
    return summed;
}

static void narrow_sums(spi_cu_phases *phases, uint32_t blocks) {
    if (!sums_are_narrow(phases, blocks)) {
        return;
    }
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        if (phase->kind == SPI_CU_PHASE_PRODUCT && phase->output == SPI_CU_OUTPUT_ADD) {
            phase->narrow = phase[1].narrow_in = 1;
            phase->deal_log2 = 2;
        }
    }
}

/* Shares shared memory out, and gives each phase the size of its stages: a whole number of the largest unit. False: it does
 * not fit. */
static bool shape_ring(const spi_cu *cu, const spi_program *program, spi_cu_decode *decode) {
    spi_cu_phases *phases = &decode->phases;
    spi_cu_token *token = &decode->token;
    uint32_t vector = 0, sums = 0, unit = 16, blocks = (uint32_t)cu->card.multiprocessors, extra = 0;
    bool fits = blocks <= SPI_CU_DECODE_WARPS * 32; /* one thread reads what one block picks */
    pack_gates(phases, blocks);
    narrow_sums(phases, blocks);
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        vector = most(vector, vector_bytes(phase, &program->tape->kv));
        if (phase->kind == SPI_CU_PHASE_ATTENTION) {
            phase->group = phase->heads / program->tape->kv.kv_heads;
            fits = fits && phase->group <= SPI_CU_DECODE_WARPS;
        } else {
            unit = most(unit, phase->unit_rows * phase->stride);
            /* Every block has a part in every vector, so that who has read one knows that all have read those before. */
            bool shared = phase->unit_count >= blocks || phase->input == SPI_CU_INPUT_SAME ||
                          phase->output == SPI_CU_OUTPUT_LOGITS;
            fits = fits && shared && slice_rows(phase);
            sums = most(sums, sums_bytes(phase, blocks));
        }
    }
    uint32_t wanted = cu->choices.stage_bytes ? cu->choices.stage_bytes : STAGE_BYTES;
    token->stage_bytes = (spi_cu_ceil(wanted, unit) * unit + 127) / 128 * 128;
    for (uint32_t i = 0; i < phases->count; i++) {
        if (phases->items[i].kind == SPI_CU_PHASE_PRODUCT) {
            share_units(&phases->items[i], token->stage_bytes, blocks, &extra);
        }
    }
    const spi_kv_shape *kv = &program->tape->kv;
    const uint32_t row_bytes = (uint32_t)(2 * (spi_kv_number_bytes(kv) + spi_kv_scale_bytes(kv)));
    token->kv_stage = SPI_BLOCK_TOKENS;
    while (token->kv_stage * row_bytes + KV_SHIFTS_BYTES > token->stage_bytes) {
        token->kv_stage /= 2;
    }
    token->kv_group_log2 = (uint32_t)__builtin_ctz(token->kv_stage) - 2;
    fits = fits && token->kv_stage >= 16;
    token->sums_byte = (vector + 127) / 128 * 128;
    token->vector_bytes = (token->sums_byte + sums + 127) / 128 * 128;
    uint32_t room = (uint32_t)cu->card.shared_bytes - SHARED_STATIC_BYTES;
    token->stage_count = token->vector_bytes < room ? (room - token->vector_bytes) / token->stage_bytes : 0;
    token->stage_count = least(token->stage_count, SPI_CU_STAGES_MAX);
    uint32_t flight = cu->choices.flight_bytes ? cu->choices.flight_bytes : FLIGHT_BYTES;
    uint32_t flight_most = cu->choices.flight_most_bytes ? cu->choices.flight_most_bytes : FLIGHT_MOST_BYTES;
    token->flight = least(most(flight / token->stage_bytes, 1), token->stage_count);
    token->kv_flight = least(most(KV_FLIGHT_BYTES / (token->kv_stage * row_bytes), 1), token->stage_count);
    token->flight_most = least(most(flight_most / token->stage_bytes, token->flight), token->stage_count);
    return fits && token->stage_count >= 2;
}

/* The kernel that has all types of the phases and as few others as there are. Those for quantised types count on what is
 * attended to being left as f16 numbers. */
static spi_cu_kernel kernel_for(const spi_cu_decode *decode, bool q8) {
    static const struct {
        spi_cu_kernel kernel;
        int first, second;
        bool q8;
    } kernels[] = {
#define DECODE(name, first, second) {SPI_CU_decode_##name, first, second, false},
        SPI_CU_DECODERS(DECODE)
#undef DECODE
#define DECODE(name, first, second) {SPI_CU_decode_q8_##name, first, second, true},
            SPI_CU_Q8_DECODERS(DECODE)
#undef DECODE
    };
    size_t best = 0;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (kernels[i].q8 != q8) {
            continue;
        }
        if (kernels[i].first < 0) { /* the first of its kind */
            best = i;
            continue;
        }
        uint32_t embedding = decode->token.embedding.type;
        bool has = (int)embedding == kernels[i].first || (int)embedding == kernels[i].second, first = false,
             second = false;
        has = has && (decode->token.joined || !spi_cu_is_quantised((uint32_t)kernels[i].first));
        for (uint32_t p = 0; p < decode->phases.count && has; p++) {
            const spi_cu_phase *phase = &decode->phases.items[p];
            if (phase->kind == SPI_CU_PHASE_PRODUCT) {
                first = first || (int)phase->type == kernels[i].first;
                second = second || (int)phase->type == kernels[i].second;
                has = (int)phase->type == kernels[i].first || (int)phase->type == kernels[i].second;
            }
        }
        best = has && (kernels[best].first < 0 || (first && second)) ? i : best;
    }
    return kernels[best].kernel;
}

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* Vectors that blocks hand to each other: the phases' places in the program's scratch, and where they are for a token. */
typedef struct tagged_buffers {
    struct {
        spi_cu_pointer place;
        uint64_t at; /* bytes in the decoder's memory */
        uint32_t uses;
    } items[SPI_CU_TAGGED_MAX];
    uint32_t count;
    uint64_t bytes;
    bool too_many;
} tagged_buffers;

/* The buffer of a place; a new one of so many numbers where there is none yet. */
static uint32_t tagged(tagged_buffers *buffers, spi_cu_pointer place, uint64_t numbers) {
    uint32_t i = 0;
    while (i < buffers->count && buffers->items[i].place != place) {
        i++;
    }
    if (i == SPI_CU_TAGGED_MAX) {
        buffers->too_many = true;
        return 0;
    }
    if (i == buffers->count) {
        buffers->items[buffers->count++].place = place;
        buffers->items[i].at = buffers->bytes;
        buffers->bytes += round_up(numbers * sizeof(float));
    }
    return i;
}

static uint32_t read_tag(tagged_buffers *buffers, spi_cu_address *place, uint64_t numbers) {
    uint32_t i = tagged(buffers, *place, numbers);
    *place = buffers->items[i].at;
    return 4 * i + buffers->items[i].uses % 4;
}

static uint32_t write_tag(tagged_buffers *buffers, spi_cu_address *place, uint64_t numbers) {
    uint32_t i = tagged(buffers, *place, numbers);
    *place = buffers->items[i].at;
    return 4 * i + ++buffers->items[i].uses % 4;
}

static uint64_t packed_uses(const tagged_buffers *buffers) {
    uint64_t packed = 0;
    for (uint32_t i = 0; i < buffers->count; i++) {
        packed |= (uint64_t)(buffers->items[i].uses % 4) << (2 * i);
    }
    return packed;
}

#define ATTENDED 1 /* no places, but names for buffers that the phases do not know */
#define EMBEDDED 2
#define NARROWED 3

static void tag_attention(tagged_buffers *buffers, spi_cu_phase *phase, const spi_kv_shape *kv) {
    spi_cu_address attended = ATTENDED;
    uint64_t columns = (uint64_t)kv->kv_heads * kv->head_dim, outs = (uint64_t)phase->heads * kv->head_dim;
    phase->src_tag = read_tag(buffers, &phase->src, outs);
    phase->k_tag = read_tag(buffers, &phase->k, columns);
    phase->v_tag = read_tag(buffers, &phase->v, columns);
    phase->run_tag = write_tag(buffers, &attended, 0);
    phase->out_tag = write_tag(buffers, &phase->out, outs);
}

static void tag_product(tagged_buffers *buffers, spi_cu_phase *phase, bool adds_to_embedding) {
    phase->src_tag = read_tag(buffers, &phase->src, phase->cols);
    if (phase->output == SPI_CU_OUTPUT_ADD) {
        phase->residual = adds_to_embedding ? EMBEDDED : phase->parts[0].dst;
        read_tag(buffers, &phase->residual, phase->parts[0].rows);
    }
    uint32_t outputs = phase->output == SPI_CU_OUTPUT_LOGITS ? 0
                       : phase->output == SPI_CU_OUTPUT_GATE ? 1
                                                             : phase->part_count;
    if (phase->narrow) { /* the sums themselves are their threads' own */
        phase->parts[0].dst = buffers->items[tagged(buffers, phase->parts[0].dst, phase->parts[0].rows)].at;
        phase->left_narrow = NARROWED;
        phase->parts[0].tag = write_tag(buffers, &phase->left_narrow, phase->parts[0].rows);
        return;
    }
    for (uint32_t i = 0; i < outputs; i++) {
        phase->parts[i].tag = write_tag(buffers, &phase->parts[i].dst, phase->parts[i].rows);
    }
}

/* Whether what phases of attention leave is read by the next phase as it is, and by no other. */
static bool can_join(const spi_cu_phases *phases) {
    spi_cu_address attended = 0;
    bool good = true;
    for (uint32_t i = 0; i < phases->count; i++) {
        const spi_cu_phase *phase = &phases->items[i];
        bool is_next = i && phases->items[i - 1].kind == SPI_CU_PHASE_ATTENTION;
        if (phase->kind == SPI_CU_PHASE_ATTENTION) {
            good = good && !is_next;
            attended = phase->out;
        } else {
            good = good && is_next == (attended && phase->input != SPI_CU_INPUT_SAME && phase->src == attended);
            good = good && (!is_next || phase->input == SPI_CU_INPUT_PLAIN);
        }
    }
    return good;
}

/* In which form what is attended to is left: few runs of it as they are, and as f16 numbers for who multiplies by quantised
 * weights. */
static void shape_attention(spi_cu_decode *decode) {
    spi_cu_phases *phases = &decode->phases;
    decode->token.joined = can_join(phases) ? SPI_CU_JOINED_MAX : 0;
    for (uint32_t i = 0; i + 1 < phases->count && decode->token.joined; i++) {
        if (phases->items[i].kind == SPI_CU_PHASE_ATTENTION && spi_cu_is_quantised(phases->items[i + 1].type)) {
            phases->items[i].narrow = phases->items[i + 1].narrow_in = 1;
        }
    }
}

/* Gives vectors that phases hand to each other their own places, as offsets, and tags. */
static void tag_phases(const spi_program *program, spi_cu_decode *decode, tagged_buffers *buffers) {
    const spi_kv_shape *kv = &program->tape->kv;
    spi_cu_phases *phases = &decode->phases;
    spi_cu_address attended = ATTENDED, embedded = EMBEDDED;
    bool summed = false;
    tagged(buffers, attended, (uint64_t)SPI_CU_SPLITS_MAX * phases->heads_max * (kv->head_dim + 4));
    decode->token.x_tag = write_tag(buffers, &embedded, phases->embedding.cols);
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        if (i == phases->hidden_count) {
            decode->uses[0] = packed_uses(buffers);
        }
        if (phase->kind == SPI_CU_PHASE_ATTENTION) {
            tag_attention(buffers, phase, kv);
            continue;
        }
        if (decode->token.joined && i && phases->items[i - 1].kind == SPI_CU_PHASE_ATTENTION) {
            phase->joins = 1;
            phase->joins_tag = phases->items[i - 1].run_tag;
        }
        phase->src = !summed && phase->src == phases->x ? EMBEDDED : phase->src;
        phase->src = phase->narrow_in && phase->input == SPI_CU_INPUT_NORM ? NARROWED : phase->src;
        bool sums = phase->output == SPI_CU_OUTPUT_ADD && phase->parts[0].dst == phases->x;
        tag_product(buffers, phase, sums && !summed);
        summed = summed || sums;
    }
    decode->uses[1] = packed_uses(buffers);
}

static void move_vectors(spi_cu_phases *phases, spi_cu_pointer base) {
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        phase->src += base, phase->residual += base, phase->k += base, phase->v += base, phase->out += base;
        phase->left_narrow += base;
        for (uint32_t p = 0; p < phase->part_count; p++) {
            phase->parts[p].dst += base;
        }
    }
}

/* Phases, the vectors between them and counters, on the card. */
static sp_status upload(spi_cu *cu, const spi_program *program, spi_cu_decode *decode, sp_error *error) {
    const spi_kv_shape *kv = &program->tape->kv;
    tagged_buffers buffers = {.count = 0};
    tag_phases(program, decode, &buffers);
    uint64_t phase_bytes = decode->phases.count * sizeof *decode->phases.items;
    uint32_t blocks = (uint32_t)cu->card.multiprocessors, vocab = program->tape->vocab;
    uint64_t finished_at = round_up(phase_bytes), best_at = finished_at + 256,
             row_at = best_at + round_up(blocks * sizeof(uint64_t)), buffers_at = row_at + round_up(vocab * 4ull);
    sp_status status = spi_cu_buffer_create(cu, buffers_at + buffers.bytes, "decoding", &decode->memory, error);
    status = status ? status : spi_cu_buffer_zero(cu, &decode->memory, error);
    if (status) {
        return status;
    }
    spi_cu_pointer base = decode->memory.address;
    move_vectors(&decode->phases, base + buffers_at);
    spi_cu_result result = cu->call->MemcpyHtoDAsync(base, decode->phases.items, phase_bytes, cu->stream);
    status = spi_cu_check(cu, result, "preparing to decode", error);
    decode->token.phases = (const spi_cu_phase *)(uintptr_t)base;
    decode->token.attended = (float *)(uintptr_t)(base + buffers_at + buffers.items[0].at);
    decode->token.x = (float *)(uintptr_t)(base + buffers_at + buffers.items[1].at);
    decode->token.finished = (uint32_t *)(uintptr_t)(base + finished_at);
    decode->token.done = program->done.address;
    decode->token.best = (uint64_t *)(uintptr_t)(base + best_at);
    decode->token.row = (float *)(uintptr_t)(base + row_at);
    decode->token.runs = least(blocks / kv->kv_heads, SPI_CU_SPLITS_MAX);
    decode->token.kv = (spi_cu_kv){.block_bytes = kv->block_bytes, .kv_heads = kv->kv_heads, .head_dim = kv->head_dim};
    decode->token.dim_shift = (uint32_t)__builtin_ctz(kv->head_dim);
    decode->block_count = blocks;
    return status ? status : spi_cu_wait(cu, "preparing to decode", error);
}

static uint32_t shared_bytes(const spi_cu_token *token) {
    return token->vector_bytes + token->stage_bytes * token->stage_count;
}

static sp_status make_ready(spi_cu *cu, const spi_program *program, spi_cu_decode *decode, sp_error *error) {
    decode->token.embedding = decode->phases.embedding;
    shape_attention(decode);
    decode->kernel = kernel_for(decode, spi_kv_is_q8(&program->tape->kv));
    decode->token.embedding_scale = decode->phases.embedding_scale;
    spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[decode->kernel], SPI_CU_FUNCTION_SHARED_BYTES,
                                                      cu->card.shared_bytes - (int)SHARED_STATIC_BYTES);
    sp_status status = spi_cu_check(cu, result, "preparing to decode", error);
    return status ? status : upload(cu, program, decode, error);
}

sp_status spi_cu_decode_create(spi_cu *cu, const spi_program *program, spi_cu_decode **out, sp_error *error) {
    *out = NULL;
    if (!cu->card.cooperative || program->tape->kv.kv_heads > (uint32_t)cu->card.multiprocessors) {
        return SP_OK;
    }
    spi_cu_decode *decode = spi_alloc(1, sizeof *decode);
    if (!decode) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to prepare a tape");
    }
    bool found = false;
    sp_status status = spi_cu_phases_find(cu, program, false, &decode->phases, &found, error);
    found = found && shape_ring(cu, program, decode);
    if (found && !status) {
        status = make_ready(cu, program, decode, error);
    }
    if (status || !found) {
        spi_cu_decode_destroy(cu, decode);
        return status;
    }
    *out = decode;
    return SP_OK;
}

void spi_cu_decode_destroy(spi_cu *cu, spi_cu_decode *decode) {
    if (decode) {
        spi_cu_buffer_destroy(cu, &decode->memory);
        spi_cu_phases_free(&decode->phases);
        spi_free(decode);
    }
}

uint32_t spi_cu_decode_steps(const spi_program *program, const spi_run *run) {
    const spi_picks *picks = run->picks;
    if (!program->decode || !picks || !run->out_count || picks->stop_count > SPI_CU_STOPS_MAX) {
        return 1;
    }
    return least(least(picks->count_max, SPI_CU_STEPS_MAX), program->tape->rows_max);
}

/* Angles of the first token go along with the launch, those of the next ones are fetched from the host's memory. */
static void place_turns(const spi_program *program, const spi_run *run, spi_cu_token *token) {
    const spi_cu_phases *phases = &program->decode->phases;
    spi_segment segment = run->segments[0];
    spi_run rows = *run;
    segment.row_count = rows.row_count = token->steps;
    rows.segments = &segment;
    spi_cu_rotations_fill(program, &rows);
    for (uint32_t i = 0; i < phases->turn_count; i++) {
        const spi_rotation *rotation = &program->rotations.items[phases->turn_rotations[i]];
        const uint8_t *table = (const uint8_t *)program->parameters.address + rotation->place;
        memcpy(token->turns[i], table, rotation->pairs * 2 * sizeof(float));
        token->later_turns[i] = (const float *)(const void *)table;
        token->turn_pairs[i] = rotation->pairs;
    }
}

/* A launch's picks, as far as there are any. */
static void take_picks(const spi_program *program, const spi_cu_token *token, spi_picks *picks) {
    const volatile int32_t *made = token->picks;
    for (picks->count = 0; picks->count < token->steps && made[picks->count] >= 0; picks->count++) {
        picks->tokens[picks->count] = made[picks->count];
    }
    program->decode->pick_count += picks->count;
}

static void advance_tags(spi_cu_decode *decode, uint64_t uses, uint32_t tokens) {
    const uint64_t odd = 0x5555555555555555u;
    for (uint32_t i = 0; i < tokens; i++) {
        uint64_t tags = decode->token.tags;
        decode->token.tags = ((tags & odd) + (uses & odd)) ^ ((tags ^ uses) & ~odd);
    }
}

sp_status spi_cu_decode_run(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error) {
    spi_cu_decode *decode = program->decode;
    const spi_segment *segment = run->segments;
    const spi_cu_link *link = (const spi_cu_link *)segment->link;
    spi_cu_pointer base = (uintptr_t)sp_region_base(link->base.region);
    spi_cu_token token = decode->token;
    spi_picks *picks = run->out_count ? run->picks : NULL;
    token.token = (uint32_t)run->tokens[0];
    token.position = segment->position_first;
    token.blocks = link->mirror + segment->kv_offset;
    token.host_blocks = link->mirror_bytes && !cu->choices.unmirrored ? base + segment->kv_offset : 0;
    token.logits = base + segment->logits_offset;
    token.phase_count = run->out_count ? decode->phases.count : decode->phases.hidden_count;
    token.run_blocks = cu->choices.split_blocks;
    token.uses = decode->uses[run->out_count > 0];
    token.steps = spi_cu_decode_steps(program, run);
    token.sequence = ++decode->sequence;
    place_turns(program, run, &token);
    if (picks) {
        token.picks = (int32_t *)(void *)((uint8_t *)program->done.address + SPI_CU_PICKS_BYTE);
        memset(token.picks, -1, token.steps * sizeof *token.picks);
        token.stop_count = token.steps > 1 ? picks->stop_count : 0;
        if (token.stop_count) { /* else there may be no list */
            memcpy(token.stops, picks->stops, token.stop_count * sizeof *picks->stops);
        }
        token.best_tag = decode->pick_count;
    }
    void *arguments[] = {&token};
    sp_status status = spi_cu_launch_together(cu, decode->kernel, decode->block_count, SPI_CU_DECODE_WARPS * 32 + 32,
                                              shared_bytes(&token), arguments, error);
    sp_error ignored;
    sp_status waited = spi_cu_wait_for(cu, program->done.address, status ? 0 : token.sequence, "running a model",
                                       status ? &ignored : error);
    status = status ? status : waited;
    if (!status && picks) {
        take_picks(program, &token, picks);
    }
    advance_tags(decode, token.uses, status || !picks ? 1 : picks->count);
    return status;
}
