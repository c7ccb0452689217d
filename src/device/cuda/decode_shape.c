/* device/cuda/decode_shape.c - how a token's phases share multiprocessors, their memory, and the forms of what they
 * leave. May include: what decode_parts.h may. */
#include "device/cuda/decode_parts.h"

#define STAGE_BYTES       20480u
#define STAGE_PLAIN_BYTES 16384u /* where all weights are plain: a long row of them, and keys and values fill it */
#define FLIGHT_BYTES      33792u /* of a multiprocessor's weights on their way at once: more delays all other loads */
#define FLIGHT_MOST_BYTES 67584u /* where its warps have little left */
#define KV_FLIGHT_BYTES   20480u /* of keys and values beside weights of few bits, which leave memory time for them */
#define KV_SHIFTS_BYTES   256u   /* of a stage, between groups of positions: kernels/ring.cuh */

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Bytes of shared memory for a phase's vector, or for attention's queries and sums. */
static uint32_t vector_bytes(const spi_cu_phase *phase, const spi_kv_shape *kv) {
    if (phase->kind == SPI_CU_PHASE_ATTENTION) {
        uint32_t group = phase->heads / kv->kv_heads, fours = group > 8 ? 4 : group > 4 ? 2 : 1, dim = kv->head_dim;
        uint32_t parts = SPI_CU_DECODE_WARPS / (dim / 64) / most(fours, 2); /* kernels/token_attention.cuh */
        uint32_t sums = most(parts * group * (dim + 4), (group + 2) * dim); /* one behind the other in the same place */
        return fours * dim * 16 + 2 * dim * 2 + SPI_CU_DECODE_WARPS * 32 + sums * 4;
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

/* Whether sums of quantised products can be left as f16 numbers: each by itself is read by the product behind it only,
 * through a norm, and otherwise added to by whoever has made it, which the same threads do in all such phases. */
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

/* What phases need of shared memory, the largest of each. */
typedef struct needs {
    uint32_t attention, vector, sums, unit;
    bool plain; /* no weights are quantised */
    bool wide;  /* none have less than 8 bits */
} needs;

/* False: a phase does not fit. */
static bool find_needs(const spi_program *program, uint32_t blocks, spi_cu_phases *phases, needs *all) {
    const spi_kv_shape *kv = &program->tape->kv;
    bool fits = blocks <= SPI_CU_DECODE_WARPS * 32; /* one thread reads what one block picks */
    *all = (needs){.unit = 16, .plain = true, .wide = true};
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        if (phase->kind == SPI_CU_PHASE_ATTENTION) {
            all->attention = most(all->attention, vector_bytes(phase, kv));
            phase->group = phase->heads / kv->kv_heads;
            fits = fits && phase->group <= SPI_CU_DECODE_WARPS;
        } else {
            all->vector = most(all->vector, vector_bytes(phase, kv));
            all->unit = most(all->unit, phase->unit_rows * phase->stride);
            all->plain = all->plain && !spi_cu_is_quantised(phase->type);
            all->wide = all->wide && phase->stride >= phase->cols;
            /* Every block has a part in every vector, so that who has read one knows that all have read those
             * before. */
            bool shared = phase->unit_count >= blocks || phase->input == SPI_CU_INPUT_SAME ||
                          phase->output == SPI_CU_OUTPUT_LOGITS;
            fits = fits && shared && slice_rows(phase);
            all->sums = most(all->sums, sums_bytes(phase, blocks));
        }
    }
    return fits;
}

/* The ring's stages, a whole number of the largest unit, and how many may be on their way. False: there are too few. */
static bool size_stages(const spi_cu *cu, const spi_kv_shape *kv, const needs *all, spi_cu_token *token) {
    const uint32_t chosen = cu->choices.stage_bytes, wanted = all->plain ? STAGE_PLAIN_BYTES : STAGE_BYTES;
    token->stage_bytes = spi_cu_ceil(chosen ? chosen : wanted, all->unit) * all->unit;
    token->stage_bytes = (most(token->stage_bytes, chosen ? 0 : wanted + KV_SHIFTS_BYTES) + 127) / 128 * 128;
    const uint32_t row_bytes = (uint32_t)(2 * (spi_kv_number_bytes(kv) + spi_kv_scale_bytes(kv)));
    token->kv_stage = SPI_BLOCK_TOKENS;
    while (token->kv_stage * row_bytes + KV_SHIFTS_BYTES > token->stage_bytes) {
        token->kv_stage /= 2;
    }
    token->kv_group_log2 = (uint32_t)__builtin_ctz(token->kv_stage) - 2;
    token->sums_byte = (all->vector + 127) / 128 * 128;
    token->vector_bytes = (most(token->sums_byte + all->sums, all->attention) + 127) / 128 * 128;
    uint32_t room = (uint32_t)cu->card.shared_bytes - SPI_CU_DECODE_STATIC_BYTES;
    token->stage_count = token->vector_bytes < room ? (room - token->vector_bytes) / token->stage_bytes : 0;
    token->stage_count = least(token->stage_count, SPI_CU_STAGES_MAX);
    uint32_t flight = cu->choices.flight_bytes ? cu->choices.flight_bytes : FLIGHT_BYTES;
    uint32_t flight_most = cu->choices.flight_most_bytes ? cu->choices.flight_most_bytes : FLIGHT_MOST_BYTES;
    uint32_t kv_flight = all->wide ? FLIGHT_BYTES : KV_FLIGHT_BYTES;
    token->flight = least(most(flight / token->stage_bytes, 1), token->stage_count);
    token->kv_flight = least(most(kv_flight / (token->kv_stage * row_bytes), 1), token->stage_count);
    token->flight_most = least(most(flight_most / token->stage_bytes, token->flight), token->stage_count);
    return token->kv_stage >= 16 && token->stage_count >= 2;
}

/* Shares shared memory out, and gives each phase the size of its stages. */
static bool shape_ring(const spi_cu *cu, const spi_program *program, spi_cu_decode *decode) {
    spi_cu_phases *phases = &decode->phases;
    uint32_t blocks = (uint32_t)cu->card.multiprocessors, extra = 0;
    pack_gates(phases, blocks);
    narrow_sums(phases, blocks);
    needs all;
    bool fits = find_needs(program, blocks, phases, &all);
    fits = size_stages(cu, &program->tape->kv, &all, &decode->token) && fits;
    for (uint32_t i = 0; i < phases->count; i++) {
        if (phases->items[i].kind == SPI_CU_PHASE_PRODUCT) {
            share_units(&phases->items[i], decode->token.stage_bytes, blocks, &extra);
        }
    }
    return fits;
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

/* In which form what is attended to is left: few runs of it as they are, and as f16 numbers for who multiplies by
 * quantised weights. */
static void shape_attention(spi_cu_decode *decode) {
    spi_cu_phases *phases = &decode->phases;
    decode->token.joined = can_join(phases) ? SPI_CU_JOINED_MAX : 0;
    for (uint32_t i = 0; i + 1 < phases->count && decode->token.joined; i++) {
        if (phases->items[i].kind == SPI_CU_PHASE_ATTENTION && spi_cu_is_quantised(phases->items[i + 1].type)) {
            phases->items[i].narrow = phases->items[i + 1].narrow_in = 1;
        }
    }
}

bool spi_cu_decode_shape(const spi_cu *cu, const spi_program *program, spi_cu_decode *decode) {
    bool fits = shape_ring(cu, program, decode);
    shape_attention(decode);
    return fits;
}
