/* device/cuda/decode.c - a run of one row as one launch (kernels/decode.cu). */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/decode_parts.h"

/* The kernel that has all types of the phases and as few others as there are. Those for quantised types count on what
 * is attended to being left as f16 numbers. */
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

/* Phases, the vectors between them and counters, on the card. */
static sp_status upload(spi_cu *cu, const spi_program *program, const spi_cu_vectors *vectors, spi_cu_decode *decode,
                        sp_error *error) {
    const spi_kv_shape *kv = &program->tape->kv;
    uint64_t phase_bytes = decode->phases.count * sizeof *decode->phases.items;
    uint32_t blocks = (uint32_t)cu->card.multiprocessors, vocab = program->tape->vocab;
    uint64_t finished_at = spi_cu_decode_round_up(phase_bytes), best_at = finished_at + 256,
             row_at = best_at + spi_cu_decode_round_up(blocks * sizeof(uint64_t)),
             buffers_at = row_at + spi_cu_decode_round_up(vocab * 4ull);
    sp_status status = spi_cu_buffer_create(cu, buffers_at + vectors->bytes, "decoding", &decode->memory, error);
    status = status ? status : spi_cu_buffer_zero(cu, &decode->memory, error);
    if (status) {
        return status;
    }
    spi_cu_pointer base = decode->memory.address;
    spi_cu_decode_move_vectors(&decode->phases, base + buffers_at);
    spi_cu_result result = cu->call->MemcpyHtoDAsync(base, decode->phases.items, phase_bytes, cu->stream);
    status = spi_cu_check(cu, result, "preparing to decode", error);
    decode->token.phases = (const spi_cu_phase *)(uintptr_t)base;
    decode->token.attended = (float *)(uintptr_t)(base + buffers_at + vectors->attended_at);
    decode->token.x = (float *)(uintptr_t)(base + buffers_at + vectors->x_at);
    decode->token.finished = (uint32_t *)(uintptr_t)(base + finished_at);
    decode->token.done = program->done.address;
    decode->token.best = (uint64_t *)(uintptr_t)(base + best_at);
    decode->token.row = (float *)(uintptr_t)(base + row_at);
    decode->token.runs = blocks / kv->kv_heads < SPI_CU_SPLITS_MAX ? blocks / kv->kv_heads : SPI_CU_SPLITS_MAX;
    decode->token.kv = (spi_cu_kv){.block_bytes = kv->block_bytes, .kv_heads = kv->kv_heads, .head_dim = kv->head_dim};
    decode->token.dim_shift = (uint32_t)__builtin_ctz(kv->head_dim);
    decode->block_count = blocks;
    return status ? status : spi_cu_wait(cu, "preparing to decode", error);
}

static uint32_t shared_bytes(const spi_cu_token *token) {
    return token->vector_bytes + token->stage_bytes * token->stage_count;
}

static sp_status make_ready(spi_cu *cu, const spi_program *program, const spi_cu_vectors *vectors,
                            spi_cu_decode *decode, sp_error *error) {
    decode->token.embedding = decode->phases.embedding;
    decode->kernel = kernel_for(decode, spi_kv_is_q8(&program->tape->kv));
    decode->token.embedding_scale = decode->phases.embedding_scale;
    spi_cu_result result = cu->call->FuncSetAttribute(cu->kernels[decode->kernel], SPI_CU_FUNCTION_SHARED_BYTES,
                                                      cu->card.shared_bytes - (int)SPI_CU_DECODE_STATIC_BYTES);
    sp_status status = spi_cu_check(cu, result, "preparing to decode", error);
    return status ? status : upload(cu, program, vectors, decode, error);
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
    spi_cu_vectors vectors;
    found =
        found && !status && spi_cu_decode_shape(cu, program, decode) && spi_cu_decode_tag(program, decode, &vectors);
    if (found) {
        status = make_ready(cu, program, &vectors, decode, error);
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
    uint32_t steps = picks->count_max < SPI_CU_STEPS_MAX ? picks->count_max : SPI_CU_STEPS_MAX;
    return steps < program->tape->rows_max ? steps : program->tape->rows_max;
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
