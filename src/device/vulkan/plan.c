/* device/vulkan/plan.c - where a run's KV and logits are bound, and the parameters that kernels read.
 *
 * Rows of sessions that lie near each other in one region share a window, and so a dispatch. A session whose KV is
 * longer than a window is cut into spans of whole blocks. Nothing here depends on how far a session has come as long as
 * its last block lies in the same window, so a recording lasts for many tokens.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define RANGE_BLOCKS 16u
#define RANGE_GROUPS 256u /* of attention_decode, that a large device runs at once */

typedef struct planner {
    spi_vk *vk;
    spi_program *program;
    const spi_run *run;
    spi_vk_plan *plan;
    uint32_t *rows, *outs, *tiles; /* the records in the parameter buffer */
    spi_vk_window window;          /* that was found last */
    sp_error *error;
} planner;

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to plan a run");
}

static sp_status not_in_one_window(const planner *p, const char *what, uint64_t offset) {
    return spi_fail(p->error, SP_LINK_REFUSED,
                    "vulkan: %s at byte %llu of its region lies across the end of a linked range: keep the region "
                    "below %llu bytes, or align sessions to their blocks",
                    what, (unsigned long long)offset, (unsigned long long)p->vk->limits.allocation_bytes_max);
}

static bool reaches(void *env, const spi_link *link, uint64_t offset, uint64_t bytes) {
    planner *p = env;
    spi_vk_window window;
    uint64_t held;
    bool found = spi_vk_link_window(p->vk, link, offset, bytes, &window, &held);
    if (found) {
        p->window = window;
    }
    return found;
}

/* The rows of a segment in tiles, for attention. */
static void add_tiles(const planner *p, const spi_segment *segment) {
    for (uint32_t at = 0; p->program->tile_rows && at < segment->row_count; at += p->program->tile_rows) {
        uint32_t left = segment->row_count - at;
        uint32_t *words = p->tiles + (size_t)p->plan->tile_count++ * SPI_VK_TILE_WORDS;
        words[0] = segment->row_first + at;
        words[1] = left < p->program->tile_rows ? left : p->program->tile_rows;
    }
}

static sp_status add_kv(const planner *p, spi_vk_span span) {
    spi_vk_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->kv, plan->kv_count, plan->kv_capacity)) {
        return no_memory(p->error);
    }
    plan->kv[plan->kv_count++] = span;
    return SP_OK;
}

/* The window as kernels reach blocks. */
static spi_vk_span kv_span(const spi_vk_window *window) {
    spi_vk_span span = {.binding = window->binding};
    if (window->mirror) {
        span.binding.buffer = window->mirror;
        span.host = window->binding.buffer;
    }
    return span;
}

/* A session that no window holds: spans of whole blocks. */
static sp_status plan_long(const planner *p, const spi_segment *segment) {
    uint64_t block_bytes = p->program->tape->kv.block_bytes;
    uint32_t needed = spi_shader_block_count(segment);
    spi_shader_write_rows(p->run, segment, 0, p->rows);
    for (uint32_t block = 0; block < needed;) {
        spi_vk_window window;
        uint64_t held, at = segment->kv_offset + block * block_bytes;
        if (!spi_vk_link_window(p->vk, segment->link, at, block_bytes, &window, &held)) {
            return not_in_one_window(p, "a KV block", at);
        }
        uint32_t count = (uint32_t)(held / block_bytes);
        spi_vk_span span = kv_span(&window);
        span.first = segment->row_first;
        span.count = segment->row_count;
        span.block_first = block;
        span.block_end = block + count;
        span.base_word = (uint32_t)((at - window.first_byte) / sizeof(uint32_t));
        span.flags = (block ? 0 : SPI_SHADER_SPAN_FIRST) | (block + count >= needed ? SPI_SHADER_SPAN_LAST : 0);
        sp_status status = add_kv(p, span);
        if (status) {
            return status;
        }
        block += count;
    }
    return SP_OK;
}

/* Takes in the segment at *index and as many behind it as one window holds. */
static sp_status plan_kv(planner *p, uint32_t *index) {
    const spi_segment *first = &p->run->segments[*index];
    uint32_t rows = 0, tile_first = p->plan->tile_count;
    uint32_t end = spi_shader_reach_segments(p->run, p->program->tape->kv.block_bytes, *index, reaches, p);
    if (end == *index) {
        (*index)++;
        return plan_long(p, first);
    }
    for (; *index < end; (*index)++) {
        const spi_segment *segment = &p->run->segments[*index];
        uint32_t base_word = (uint32_t)((segment->kv_offset - p->window.first_byte) / sizeof(uint32_t));
        spi_shader_write_rows(p->run, segment, base_word, p->rows);
        add_tiles(p, segment);
        rows += segment->row_count;
    }
    spi_vk_span span = kv_span(&p->window);
    span.tile_first = tile_first;
    span.tile_count = p->plan->tile_count - tile_first;
    span.first = first->row_first;
    span.count = rows;
    span.block_end = UINT32_MAX;
    span.flags = SPI_SHADER_SPAN_FIRST | SPI_SHADER_SPAN_LAST;
    return add_kv(p, span);
}

/* Takes in the output at *index and as many behind it as one window holds. */
static sp_status plan_outs(planner *p, uint32_t *index) {
    const spi_shader_out *places = p->program->out_places;
    uint32_t first = *index;
    uint32_t end = spi_shader_reach_outs(places, p->run->out_count, p->program->tape->vocab, first, reaches, p);
    if (end == first) {
        return not_in_one_window(p, "a row of logits", places[first].offset);
    }
    for (; *index < end; (*index)++) {
        p->outs[(size_t)*index * SPI_SHADER_OUT_WORDS + 1] =
            (uint32_t)((places[*index].offset - p->window.first_byte) / sizeof(uint32_t));
    }
    spi_vk_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->outs, plan->out_span_count, plan->out_capacity)) {
        return no_memory(p->error);
    }
    plan->outs[plan->out_span_count++] =
        (spi_vk_span){.binding = p->window.binding, .first = first, .count = end - first};
    return SP_OK;
}

/* The mirrors of all blocks that the run reads or writes. */
static sp_status cover(const planner *p) {
    uint64_t block_bytes = p->program->tape->kv.block_bytes;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < p->run->segment_count && !status; i++) {
        const spi_segment *segment = &p->run->segments[i];
        uint64_t filled = (segment->position_first + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
        status =
            spi_vk_mirror_cover(p->vk, segment->link, segment->kv_offset, segment->kv_offset + filled * block_bytes,
                                segment->kv_offset + spi_shader_block_count(segment) * block_bytes, p->error);
    }
    return status;
}

/* Of a session's tokens, where sessions have up to so many blocks. A group takes RANGE_BLOCKS in less time than merging
 * takes, and more groups than a large device has room for would wait for each other; steps of two keep recordings
 * few. */
static uint32_t choose_ranges(const planner *p, uint32_t blocks) {
    if (p->vk->limits.ranges) {
        return p->vk->limits.ranges;
    }
    uint64_t groups = (uint64_t)spi_shader_heads_max(p->program->tape) * p->run->row_count;
    uint32_t ranges = 1;
    while (ranges < SPI_VK_RANGES_MAX && p->run->row_count * ranges * 2 <= SPI_VK_RANGES_MAX &&
           groups * ranges * 2 <= RANGE_GROUPS && ranges * RANGE_BLOCKS < blocks) {
        ranges *= 2;
    }
    return ranges;
}

static void choose_kernels(const planner *p) {
    uint32_t blocks = 1;
    p->plan->decode = 1;
    for (uint32_t i = 0; i < p->run->segment_count; i++) {
        const spi_segment *segment = &p->run->segments[i];
        p->plan->decode &= segment->row_count == 1;
        blocks = spi_shader_block_count(segment) > blocks ? spi_shader_block_count(segment) : blocks;
    }
    p->plan->ranges = p->plan->decode ? choose_ranges(p, blocks) : 1;
}

sp_status spi_vk_plan_run(spi_vk *vk, spi_program *program, const spi_run *run, sp_error *error) {
    uint32_t *words = program->parameters.mapped;
    planner p = {.vk = vk,
                 .program = program,
                 .run = run,
                 .plan = &program->plan,
                 .rows = words + program->rows_word,
                 .outs = words + program->outs_word,
                 .tiles = words + program->tiles_word,
                 .error = error};
    p.plan->generation = vk->generation;
    p.plan->row_count = run->row_count;
    p.plan->out_count = run->out_count;
    p.plan->kv_count = p.plan->out_span_count = 0;
    p.plan->tile_count = 0;
    choose_kernels(&p);
    sp_status status = cover(&p);
    for (uint32_t i = 0; i < run->segment_count && !status;) {
        status = plan_kv(&p, &i);
    }
    spi_shader_find_outs(run, program->tape->vocab, p.outs, program->out_places);
    for (uint32_t i = 0; i < run->out_count && !status;) {
        status = plan_outs(&p, &i);
    }
    return status;
}

bool spi_vk_plan_equal(const spi_vk_plan *a, const spi_vk_plan *b) {
    return a->generation == b->generation && a->row_count == b->row_count && a->out_count == b->out_count &&
           a->decode == b->decode && a->ranges == b->ranges && a->kv_count == b->kv_count &&
           a->out_span_count == b->out_span_count && !memcmp(a->kv, b->kv, a->kv_count * sizeof *a->kv) &&
           (!a->out_span_count || !memcmp(a->outs, b->outs, a->out_span_count * sizeof *a->outs));
}
