/* device/cuda/decode.c - a run of one row as one launch (kernels/decode.cu). */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

#define SHARED_STATIC_BYTES 8192u /* of the kernel itself, and the system's own */
#define TILE_BYTES          16384u
#define FLIGHT_BYTES        32768u /* of a multiprocessor's weights on their way at once: more delays all other loads */

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Bytes of shared memory for a phase's vector, or for attention's queries and sums. */
static uint32_t vector_bytes(const spi_cu_phase *phase, const spi_kv_shape *kv) {
    if (phase->kind == SPI_CU_PHASE_ATTENTION) {
        uint32_t group = phase->heads / kv->kv_heads;
        return ((group + 2) * kv->head_dim + SPI_CU_DECODE_WARPS * (kv->head_dim + 4)) * 4;
    }
    uint32_t cols = phase->groups * 32;
    return spi_cu_is_quantised(phase->type) ? 2 * (cols / 32 + 4) * 16 + cols / 32 * 12 : 2 * (cols / 8 + 4) * 16;
}

/* Shares shared memory out, and gives each phase the size of its tiles. False: a row does not fit. */
static bool shape_ring(const spi_cu *cu, const spi_program *program, spi_cu_decode *decode) {
    spi_cu_phases *phases = &decode->phases;
    spi_cu_token *token = &decode->token;
    uint32_t vector = 0, unit = 0, tile_bytes = cu->choices.tile_bytes ? cu->choices.tile_bytes : TILE_BYTES;
    bool fits = true;
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        vector = most(vector, vector_bytes(phase, &program->tape->kv));
        if (phase->kind == SPI_CU_PHASE_PRODUCT) {
            uint32_t bytes = phase->unit_rows * phase->stride;
            unit = most(unit, bytes);
            phase->tile_units = most(1, tile_bytes / bytes);
            fits = fits && phase->unit_count <= UINT32_MAX / ((uint32_t)cu->card.multiprocessors + 1);
        }
    }
    token->vector_bytes = (vector + 127) / 128 * 128;
    uint32_t room = (uint32_t)cu->card.shared_bytes - SHARED_STATIC_BYTES;
    token->ring_bytes = token->vector_bytes < room ? (room - token->vector_bytes) / 128 * 128 : 0;
    token->flight_bytes = cu->choices.flight_bytes ? cu->choices.flight_bytes : FLIGHT_BYTES;
    return fits && most(unit, tile_bytes) <= token->ring_bytes / 2;
}

/* The kernel that has all types of the phases and as few others as there are. */
static spi_cu_kernel kernel_for(const spi_cu_decode *decode) {
    static const struct {
        spi_cu_kernel kernel;
        int first, second;
    } kernels[] = {
#define DECODE(name, first, second) {SPI_CU_decode_##name, first, second},
        SPI_CU_DECODERS(DECODE)
#undef DECODE
    };
    size_t best = 0;
    for (size_t i = 1; i < sizeof kernels / sizeof kernels[0]; i++) {
        uint32_t embedding = decode->token.embedding.type;
        bool has = (int)embedding == kernels[i].first || (int)embedding == kernels[i].second, first = false,
             second = false;
        for (uint32_t p = 0; p < decode->phases.count && has; p++) {
            const spi_cu_phase *phase = &decode->phases.items[p];
            if (phase->kind == SPI_CU_PHASE_PRODUCT) {
                first = first || (int)phase->type == kernels[i].first;
                second = second || (int)phase->type == kernels[i].second;
                has = (int)phase->type == kernels[i].first || (int)phase->type == kernels[i].second;
            }
        }
        best = has && (!best || (first && second)) ? i : best;
    }
    return kernels[best].kernel;
}

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* Phases, attention's runs and the barrier, on the card. */
static sp_status upload(spi_cu *cu, const spi_program *program, spi_cu_decode *decode, sp_error *error) {
    const spi_kv_shape *kv = &program->tape->kv;
    uint64_t phase_bytes = decode->phases.count * sizeof *decode->phases.items;
    uint64_t attended = (uint64_t)SPI_CU_SPLITS_MAX * decode->phases.heads_max * (kv->head_dim + 4) * sizeof(float);
    uint64_t attended_at = round_up(phase_bytes), barrier_at = attended_at + round_up(attended),
             finished_at = barrier_at + 256, arrivals_at = finished_at + 256;
    sp_status status =
        spi_cu_buffer_create(cu, arrivals_at + round_up(kv->kv_heads * 4), "decoding", &decode->memory, error);
    status = status ? status : spi_cu_buffer_zero(cu, &decode->memory, error);
    if (status) {
        return status;
    }
    spi_cu_pointer base = decode->memory.address;
    spi_cu_result result = cu->call->MemcpyHtoDAsync(base, decode->phases.items, phase_bytes, cu->stream);
    status = spi_cu_check(cu, result, "preparing to decode", error);
    decode->token.phases = (const spi_cu_phase *)(uintptr_t)base;
    decode->token.attended = (float *)(uintptr_t)(base + attended_at);
    decode->token.barrier = (uint32_t *)(uintptr_t)(base + barrier_at);
    decode->token.finished = (uint32_t *)(uintptr_t)(base + finished_at);
    decode->token.done = program->done.address;
    decode->token.arrivals = (uint32_t *)(uintptr_t)(base + arrivals_at);
    decode->token.kv = (spi_cu_kv){.block_bytes = kv->block_bytes, .kv_heads = kv->kv_heads, .head_dim = kv->head_dim};
    decode->token.dim_shift = (uint32_t)__builtin_ctz(kv->head_dim);
    decode->block_count = (uint32_t)cu->card.multiprocessors;
    return status ? status : spi_cu_wait(cu, "preparing to decode", error);
}

static uint32_t shared_bytes(const spi_cu_token *token) {
    return token->vector_bytes + token->ring_bytes;
}

static sp_status make_ready(spi_cu *cu, const spi_program *program, spi_cu_decode *decode, sp_error *error) {
    decode->token.embedding = decode->phases.embedding;
    decode->kernel = kernel_for(decode);
    decode->token.embedding_scale = decode->phases.embedding_scale;
    decode->token.x = (float *)(uintptr_t)decode->phases.x;
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

/* Shares the context's blocks out, so that each KV head's runs are computed by as many multiprocessors as there are. */
static void split(const spi_cu *cu, const spi_cu_decode *decode, spi_cu_token *token) {
    uint32_t blocks = token->position / SPI_BLOCK_TOKENS + 1;
    uint32_t runs = least(decode->block_count / token->kv.kv_heads, SPI_CU_SPLITS_MAX);
    uint32_t each = spi_cu_ceil(blocks, runs);
    token->split_blocks = most(each, cu->choices.split_blocks);
    token->splits = spi_cu_ceil(blocks, token->split_blocks);
}

sp_status spi_cu_decode_run(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error) {
    spi_cu_decode *decode = program->decode;
    const spi_segment *segment = run->segments;
    const spi_cu_link *link = (const spi_cu_link *)segment->link;
    spi_cu_pointer base = (uintptr_t)sp_region_base(link->base.region);
    spi_cu_token token = decode->token;
    token.token = (uint32_t)run->tokens[0];
    token.position = segment->position_first;
    token.blocks = link->mirror + segment->kv_offset;
    token.host_blocks = link->mirror_bytes && !cu->choices.unmirrored ? base + segment->kv_offset : 0;
    token.logits = base + segment->logits_offset;
    token.phase_count = run->out_count ? decode->phases.count : decode->phases.hidden_count;
    token.barrier_start = decode->barrier_start;
    split(cu, decode, &token);
    spi_cu_rotations_fill(program, run);
    for (uint32_t i = 0; i < decode->phases.turn_count; i++) {
        const spi_rotation *rotation = &program->rotations.items[decode->phases.turn_rotations[i]];
        memcpy(token.turns[i], (const uint8_t *)program->parameters.address + rotation->place,
               rotation->pairs * 2 * sizeof(float));
    }
    for (uint32_t i = 0; i + 1 < token.phase_count; i++) {
        decode->barrier_start += decode->phases.items[i].barrier ? decode->block_count : 0;
    }
    token.sequence = ++decode->sequence;
    void *arguments[] = {&token};
    sp_status status = spi_cu_launch_together(cu, decode->kernel, decode->block_count, SPI_CU_DECODE_WARPS * 32 + 32,
                                              shared_bytes(&token), arguments, error);
    sp_error ignored;
    sp_status waited = spi_cu_wait_for(cu, program->done.address, status ? 0 : token.sequence, "running a model",
                                       status ? &ignored : error);
    return status ? status : waited;
}
