/* device/cuda/run.c - a run: parameters, a kernel for each op, and waiting for the last of them. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "device/cuda/cuda.h"

#define FETCH_THREADS 256u
#define PICK_THREADS  1024u
#define PICK_PARTS    8u
#define NOTED_THREADS 512u

/* Memory behind the blocks that the run reads and writes. */
static sp_status cover(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error) {
    uint64_t block_bytes = program->tape->kv.block_bytes;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < run->segment_count && !status; i++) {
        const spi_segment *segment = &run->segments[i];
        uint64_t rows = run->row_count == 1 ? spi_cu_decode_steps(program, run) : segment->row_count;
        uint64_t blocks = spi_cu_ceil((uint64_t)segment->position_first + rows, SPI_BLOCK_TOKENS);
        uint64_t valid = spi_cu_ceil(segment->position_first, SPI_BLOCK_TOKENS);
        status = spi_cu_link_cover(cu, segment->link, segment->kv_offset, segment->kv_offset + blocks * block_bytes,
                                   segment->kv_offset + valid * block_bytes, error);
    }
    return status;
}

/* The card picks by itself, of runs that have no more outputs than there is room for. */
bool spi_cu_picks(const spi_run *run) {
    return run->picks && run->out_count && run->out_count <= SPI_CU_PICKS_MAX;
}

/* The card picks, and nobody reads this output's logits. */
static bool stays(const spi_run *run, uint32_t out) {
    return spi_cu_picks(run) && run->picks->each && run->picks->each[out].alone;
}

bool spi_cu_logits_stay(const spi_run *run) {
    bool all = true;
    for (uint32_t i = 0; i < run->out_count; i++) {
        all = all && stays(run, i);
    }
    return all;
}

static bool draws(const spi_run *run, uint32_t out) {
    return run->picks->each && run->picks->each[out].draw.inverse != 0;
}

/* Nobody reads them at all: of what the card picks, the likeliest of each piece is noted. */
static bool is_noted(const spi_program *program, const spi_run *run, uint32_t out) {
    uint32_t pieces;
    return stays(run, out) && !draws(run, out) && spi_cu_wide_noted(program, &pieces);
}

static sp_status make_logits(spi_cu *cu, spi_program *program, const spi_run *run, sp_error *error) {
    bool any = false;
    for (uint32_t i = 0; i < run->out_count; i++) {
        any = any || (stays(run, i) && !is_noted(program, run, i));
    }
    if (!any || program->logits.address) {
        return SP_OK;
    }
    uint64_t bytes = (uint64_t)SPI_CU_PICKS_MAX * program->tape->vocab * sizeof(float);
    return spi_cu_buffer_create(cu, bytes, "logits", &program->logits, error);
}

static spi_cu_address logits_of(const spi_program *program, const spi_run *run, const spi_segment *segment,
                                uint32_t index) {
    uint64_t row_bytes = program->tape->vocab * sizeof(float);
    uint32_t out = segment->out_first + index;
    if (is_noted(program, run, out)) {
        return 0;
    }
    return stays(run, out)
               ? program->logits.address + out * row_bytes
               : (uintptr_t)sp_region_base(segment->link->region) + segment->logits_offset + index * row_bytes;
}

static void place_rows(const spi_cu *cu, const spi_program *program, const spi_run *run) {
    spi_cu_row *rows = program->parameters.address;
    spi_cu_out *outs = (spi_cu_out *)(void *)((uint8_t *)program->parameters.address + program->outs_byte);
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        const spi_cu_link *link = (const spi_cu_link *)segment->link;
        spi_cu_address base = (uintptr_t)sp_region_base(link->base.region);
        for (uint32_t i = 0; i < segment->row_count; i++) {
            uint32_t row = segment->row_first + i;
            rows[row] =
                (spi_cu_row){.kv = link->mirror + segment->kv_offset,
                             .host = link->mirror_bytes && !cu->choices.unmirrored ? base + segment->kv_offset : 0,
                             .token = (uint32_t)run->tokens[row],
                             .position = segment->position_first + i};
        }
        for (uint32_t i = 0; i < segment->out_count; i++) {
            uint32_t out = segment->out_first + i;
            outs[out] = (spi_cu_out){.logits = logits_of(program, run, segment, i),
                                     .row = segment->row_first + segment->row_count - segment->out_count + i};
            if (spi_cu_picks(run) && run->picks->each) {
                outs[out].draw = run->picks->each[out].draw;
            }
        }
    }
}

/* A piece of the parameters, of which the run has filled so many bytes. */
static uint32_t add_piece(spi_cu_pieces *pieces, uint32_t index, uint64_t first_byte, uint64_t bytes) {
    pieces->first[index] = (uint32_t)(first_byte / 16);
    pieces->count[index] = spi_cu_ceil(bytes, 16);
    return index + 1;
}

static sp_status fetch(spi_cu *cu, const spi_program *program, const spi_run *run, uint32_t span_count,
                       sp_error *error) {
    uint64_t rows = run->row_count, most = 0;
    spi_cu_pieces pieces;
    uint32_t count = add_piece(&pieces, 0, 0, rows * sizeof(spi_cu_row));
    count = add_piece(&pieces, count, program->outs_byte, run->out_count * sizeof(spi_cu_out));
    count = add_piece(&pieces, count, program->spans_byte, span_count * sizeof(spi_cu_span));
    if (program->rotations.count > SPI_CU_PIECES_MAX - count) {
        count = add_piece(&pieces, 0, 0, program->parameter_bytes);
    } else {
        for (uint32_t i = 0; i < program->rotations.count; i++) {
            const spi_rotation *rotation = &program->rotations.items[i];
            count = add_piece(&pieces, count, rotation->place, rows * rotation->pairs * 2 * sizeof(float));
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        most = pieces.count[i] > most ? pieces.count[i] : most;
    }
    spi_cu_pointer to = program->fetched.address, from = (uintptr_t)program->parameters.address;
    void *arguments[] = {&to, &from, &pieces};
    return spi_cu_launch(cu, SPI_CU_fetch, spi_cu_ceil(most, FETCH_THREADS), count, FETCH_THREADS, arguments, error);
}

static int32_t *picked(const spi_program *program) {
    return (int32_t *)(void *)((uint8_t *)program->done.address + SPI_CU_PICKS_BYTE);
}

static sp_status pick(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error) {
    if (!spi_cu_picks(run)) {
        return SP_OK;
    }
    bool any_draws = false;
    for (uint32_t i = 0; i < run->out_count; i++) {
        any_draws = any_draws || draws(run, i);
    }
    spi_cu_pointer to = (uintptr_t)picked(program), outs = program->fetched.address + program->outs_byte;
    uint32_t vocab = program->tape->vocab, pieces;
    const spi_cu_buffer *noted = spi_cu_wide_noted(program, &pieces);
    if (noted) {
        spi_cu_pointer from = noted->address;
        void *arguments[] = {&to, &outs, &from, &pieces, &vocab};
        return spi_cu_launch_cluster(cu, SPI_CU_pick_noted, run->out_count, 1, any_draws ? PICK_PARTS : 1,
                                     NOTED_THREADS, 0, arguments, error);
    }
    void *arguments[] = {&to, &outs, &vocab};
    uint32_t parts = cu->card.major >= 9 ? PICK_PARTS : 1; /* in clusters, which older cards do not have */
    return spi_cu_launch_cluster(cu, SPI_CU_pick, run->out_count, 1, parts, PICK_THREADS, 0, arguments, error);
}

static sp_status run_rows(spi_cu *cu, spi_program *program, const spi_run *run, sp_error *error) {
    uint32_t rows = run->row_count, span_count = 0;
    sp_status status = make_logits(cu, program, run, error);
    if (status) {
        return status;
    }
    place_rows(cu, program, run);
    if (program->wide) {
        uint8_t *spans = (uint8_t *)program->parameters.address + program->spans_byte;
        span_count = spi_cu_wide_spans(program, run, (spi_cu_span *)(void *)spans);
    }
    spi_cu_rotations_fill(program, run);
    status = fetch(cu, program, run, span_count, error);
    if (program->wide && !status) {
        cu->overlaps = !cu->choices.apart;
        status = spi_cu_wide_run(cu, program, run, span_count, error);
        status = status ? status : pick(cu, program, run, error);
        cu->overlaps = false;
        return status;
    }
    for (uint32_t i = 0; i < program->tape->op_count && !status; i++) {
        if (program->tape->ops[i].kind == SPI_OP_GATHER) {
            rows = run->out_count;
        }
        status = rows ? spi_cu_op(cu, program, i, rows, error) : SP_OK;
    }
    return status ? status : pick(cu, program, run, error);
}

sp_status spi_cu_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    spi_cu *cu = context;
    assert(run->row_count && run->row_count <= program->tape->rows_max && run->out_count <= run->row_count);
    sp_status status = spi_cu_enter(cu, error);
    status = status ? status : cover(cu, program, run, error);
    if (status) {
        return status;
    }
    cu->runs++;
    if (program->decode && run->row_count == 1) {
        spi_run one = *run;
        /* The token's kernel takes the likeliest only; the caller has the logits. */
        one.picks = run->picks && draws(run, 0) ? NULL : run->picks;
        return spi_cu_decode_run(cu, program, &one, error);
    }
    status = run_rows(cu, program, run, error);
    /* Even after a failure nothing may be on its way to memory that is the caller's again. */
    sp_error ignored;
    sp_status waited = spi_cu_wait(cu, "running a model", status ? &ignored : error);
    status = status ? status : waited;
    if (!status && spi_cu_picks(run)) {
        memcpy(run->picks->tokens, picked(program), run->out_count * sizeof(int32_t));
        run->picks->count = run->out_count;
    }
    return status;
}
