/* device/metal/plan.c - where a run's KV and logits are bound, and the parameters that kernels read.
 *
 * Rows of sessions whose blocks lie in one buffer share a dispatch. A session longer than a buffer is cut into spans of
 * whole blocks.
 */
#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

typedef struct planner {
    spi_program *program;
    const spi_run *run;
    spi_mt_plan *plan;
    uint32_t *rows, *outs;  /* the records in the parameter buffer */
    spi_mt_binding binding; /* what was found last, and where in its region it begins */
    uint64_t first_byte;
    sp_error *error;
} planner;

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "metal: no memory to plan a run");
}

static sp_status not_linked(const planner *p, const char *what, uint64_t offset) {
    return spi_fail(p->error, SP_LINK_REFUSED, "metal: %s at byte %llu of its region is not in a linked buffer", what,
                    (unsigned long long)offset);
}

static const spi_mt_map *map_of(const spi_link *link) {
    return &((const spi_mt_link *)link)->map;
}

static bool reaches(void *env, const spi_link *link, uint64_t offset, uint64_t bytes) {
    planner *p = env;
    spi_mt_binding binding;
    bool holds = spi_mt_map_holds(map_of(link), offset, bytes, &binding);
    if (holds) {
        p->binding = binding;
        p->first_byte = offset;
    }
    return holds;
}

static sp_status add_kv(const planner *p, spi_mt_span span) {
    spi_mt_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->kv, plan->kv_count, plan->kv_capacity)) {
        return no_memory(p->error);
    }
    plan->kv[plan->kv_count++] = span;
    return SP_OK;
}

/* A session that no buffer holds: spans of whole blocks. */
static sp_status plan_long(const planner *p, const spi_segment *segment) {
    uint64_t block_bytes = p->program->tape->kv.block_bytes;
    uint32_t needed = spi_shader_block_count(segment);
    spi_shader_write_rows(p->run, segment, 0, p->rows);
    for (uint32_t block = 0; block < needed;) {
        spi_mt_binding binding;
        uint64_t at = segment->kv_offset + block * block_bytes;
        uint64_t count = spi_mt_map_find(map_of(segment->link), at, &binding) / block_bytes;
        if (!count) {
            return not_linked(p, "a KV block", at);
        }
        uint32_t end = count < needed - block ? block + (uint32_t)count : needed;
        spi_mt_span span = {.binding = binding,
                            .first = segment->row_first,
                            .count = segment->row_count,
                            .block_first = block,
                            .block_end = end,
                            .flags = (block ? 0 : SPI_SHADER_SPAN_FIRST) | (end == needed ? SPI_SHADER_SPAN_LAST : 0)};
        sp_status status = add_kv(p, span);
        if (status) {
            return status;
        }
        block = end;
    }
    return SP_OK;
}

/* Takes in the segment at *index and as many behind it as one buffer holds. */
static sp_status plan_kv(planner *p, uint32_t *index) {
    const spi_segment *first = &p->run->segments[*index];
    uint32_t end = spi_shader_reach_segments(p->run, p->program->tape->kv.block_bytes, *index, reaches, p), rows = 0;
    if (end == *index) {
        (*index)++;
        return plan_long(p, first);
    }
    for (; *index < end; (*index)++) {
        const spi_segment *segment = &p->run->segments[*index];
        uint32_t base_word = (uint32_t)((segment->kv_offset - p->first_byte) / sizeof(uint32_t));
        spi_shader_write_rows(p->run, segment, base_word, p->rows);
        rows += segment->row_count;
    }
    return add_kv(p, (spi_mt_span){.binding = p->binding,
                                   .first = first->row_first,
                                   .count = rows,
                                   .block_end = UINT32_MAX,
                                   .flags = SPI_SHADER_SPAN_FIRST | SPI_SHADER_SPAN_LAST});
}

/* Takes in the output at *index and as many behind it as one buffer holds. */
static sp_status plan_outs(planner *p, uint32_t *index) {
    const spi_shader_out *places = p->program->out_places;
    uint32_t first = *index;
    uint32_t end = spi_shader_reach_outs(places, p->run->out_count, p->program->tape->vocab, first, reaches, p);
    if (end == first) {
        return not_linked(p, "a row of logits", places[first].offset);
    }
    for (; *index < end; (*index)++) {
        p->outs[(size_t)*index * SPI_SHADER_OUT_WORDS + 1] =
            (uint32_t)((places[*index].offset - p->first_byte) / sizeof(uint32_t));
    }
    spi_mt_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->outs, plan->out_span_count, plan->out_capacity)) {
        return no_memory(p->error);
    }
    plan->outs[plan->out_span_count++] = (spi_mt_span){.binding = p->binding, .first = first, .count = end - first};
    return SP_OK;
}

sp_status spi_mt_plan_run(spi_program *program, const spi_run *run, sp_error *error) {
    uint32_t *words = program->parameters.contents;
    planner p = {.program = program,
                 .run = run,
                 .plan = &program->plan,
                 .rows = words + program->rows_word,
                 .outs = words + program->outs_word,
                 .error = error};
    p.plan->row_count = run->row_count;
    p.plan->out_count = run->out_count;
    p.plan->kv_count = p.plan->out_span_count = 0;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < run->segment_count && !status;) {
        status = plan_kv(&p, &i);
    }
    spi_shader_find_outs(run, program->tape->vocab, p.outs, program->out_places);
    for (uint32_t i = 0; i < run->out_count && !status;) {
        status = plan_outs(&p, &i);
    }
    return status;
}
