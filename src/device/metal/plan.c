/* device/metal/plan.c - where a run's KV and logits are bound, and the parameters that kernels read.
 *
 * Guests' addresses reach kernels as offsets only: of a binding in its buffer, and of rows and blocks in the binding,
 * all computed here from numbers that the host checked. Rows of sessions whose blocks lie in one buffer share a
 * dispatch. A session longer than a buffer is cut into spans of whole blocks.
 */
#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

typedef struct planner {
    spi_program *program;
    const spi_run *run;
    spi_mt_plan *plan;
    uint32_t *words; /* the parameter buffer */
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

static uint32_t block_count(const spi_segment *segment) {
    return (segment->position_first + segment->row_count + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
}

static void write_rows(const planner *p, const spi_segment *segment, uint32_t base_word) {
    for (uint32_t i = 0; i < segment->row_count; i++) {
        uint32_t row = segment->row_first + i;
        uint32_t *words = p->words + p->program->rows_word + (size_t)row * SPI_MT_ROW_WORDS;
        words[0] = (uint32_t)p->run->tokens[row];
        words[1] = segment->position_first + i;
        words[2] = base_word;
        words[3] = 0;
    }
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
    uint32_t needed = block_count(segment);
    write_rows(p, segment, 0);
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
                            .flags = (block ? 0 : SPI_MT_SPAN_FIRST) | (end == needed ? SPI_MT_SPAN_LAST : 0)};
        sp_status status = add_kv(p, span);
        if (status) {
            return status;
        }
        block = end;
    }
    return SP_OK;
}

/* Takes in the segment at *index and as many behind it as one buffer holds. */
static sp_status plan_kv(const planner *p, uint32_t *index) {
    const spi_segment *first = &p->run->segments[*index];
    uint64_t block_bytes = p->program->tape->kv.block_bytes, low = first->kv_offset, high = low, bound = low;
    spi_mt_binding binding = {0};
    uint32_t end = *index, rows = 0;
    for (; end < p->run->segment_count; end++) {
        const spi_segment *segment = &p->run->segments[end];
        uint64_t segment_high = segment->kv_offset + block_count(segment) * block_bytes;
        uint64_t new_low = low < segment->kv_offset ? low : segment->kv_offset;
        uint64_t new_high = high > segment_high ? high : segment_high;
        spi_mt_binding wider;
        if (segment->link != first->link ||
            !spi_mt_map_holds(map_of(first->link), new_low, new_high - new_low, &wider)) {
            break;
        }
        binding = wider;
        bound = low = new_low;
        high = new_high;
        rows += segment->row_count;
    }
    if (end == *index) {
        (*index)++;
        return plan_long(p, first);
    }
    for (; *index < end; (*index)++) {
        const spi_segment *segment = &p->run->segments[*index];
        write_rows(p, segment, (uint32_t)((segment->kv_offset - bound) / sizeof(uint32_t)));
    }
    return add_kv(p, (spi_mt_span){.binding = binding,
                                   .first = first->row_first,
                                   .count = rows,
                                   .block_end = UINT32_MAX,
                                   .flags = SPI_MT_SPAN_FIRST | SPI_MT_SPAN_LAST});
}

static void find_outs(const planner *p) {
    uint64_t row_bytes = (uint64_t)p->program->tape->vocab * sizeof(float);
    for (uint32_t s = 0; s < p->run->segment_count; s++) {
        const spi_segment *segment = &p->run->segments[s];
        for (uint32_t i = 0; i < segment->out_count; i++) {
            uint32_t out = segment->out_first + i;
            uint32_t *words = p->words + p->program->outs_word + (size_t)out * SPI_MT_OUT_WORDS;
            words[0] = segment->row_first + segment->row_count - segment->out_count + i;
            p->program->out_offsets[out] = segment->logits_offset + i * row_bytes;
            p->program->out_links[out] = segment->link;
        }
    }
}

/* Takes in the output at *index and as many behind it as one buffer holds. */
static sp_status plan_outs(const planner *p, uint32_t *index) {
    const uint64_t *offsets = p->program->out_offsets;
    const spi_link *link = p->program->out_links[*index];
    uint64_t row_bytes = (uint64_t)p->program->tape->vocab * sizeof(float);
    uint64_t low = offsets[*index], high = low, bound = low;
    spi_mt_binding binding = {0};
    uint32_t first = *index, end = first;
    for (; end < p->run->out_count && p->program->out_links[end] == link; end++) {
        uint64_t new_low = low < offsets[end] ? low : offsets[end];
        uint64_t new_high = high > offsets[end] + row_bytes ? high : offsets[end] + row_bytes;
        spi_mt_binding wider;
        if (!spi_mt_map_holds(map_of(link), new_low, new_high - new_low, &wider)) {
            break;
        }
        binding = wider;
        bound = low = new_low;
        high = new_high;
    }
    if (end == first) {
        return not_linked(p, "a row of logits", low);
    }
    for (; *index < end; (*index)++) {
        uint32_t *words = p->words + p->program->outs_word + (size_t)*index * SPI_MT_OUT_WORDS;
        words[1] = (uint32_t)((offsets[*index] - bound) / sizeof(uint32_t));
    }
    spi_mt_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->outs, plan->out_span_count, plan->out_capacity)) {
        return no_memory(p->error);
    }
    plan->outs[plan->out_span_count++] = (spi_mt_span){.binding = binding, .first = first, .count = end - first};
    return SP_OK;
}

sp_status spi_mt_plan_run(spi_program *program, const spi_run *run, sp_error *error) {
    planner p = {program, run, &program->plan, program->parameters.contents, error};
    p.plan->row_count = run->row_count;
    p.plan->out_count = run->out_count;
    p.plan->kv_count = p.plan->out_span_count = 0;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < run->segment_count && !status;) {
        status = plan_kv(&p, &i);
    }
    find_outs(&p);
    for (uint32_t i = 0; i < run->out_count && !status;) {
        status = plan_outs(&p, &i);
    }
    return status;
}
