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
    uint32_t *words; /* the parameter buffer */
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

static uint32_t block_count(const spi_segment *segment) {
    return (segment->position_first + segment->row_count + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS;
}

static void write_rows(const planner *p, const spi_segment *segment, uint32_t base_word) {
    for (uint32_t i = 0; i < segment->row_count; i++) {
        uint32_t row = segment->row_first + i;
        uint32_t *words = p->words + p->program->rows_word + (size_t)row * SPI_VK_ROW_WORDS;
        words[0] = (uint32_t)p->run->tokens[row];
        words[1] = segment->position_first + i;
        words[2] = base_word;
        words[3] = 0;
    }
}

/* The rows of a segment in tiles, for attention. */
static void add_tiles(const planner *p, const spi_segment *segment) {
    for (uint32_t at = 0; p->program->tile_rows && at < segment->row_count; at += p->program->tile_rows) {
        uint32_t left = segment->row_count - at;
        uint32_t *words = p->words + p->program->tiles_word + (size_t)p->plan->tile_count++ * SPI_VK_TILE_WORDS;
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
    uint32_t needed = block_count(segment);
    write_rows(p, segment, 0);
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
        span.flags = (block ? 0 : SPI_VK_SPAN_FIRST) | (block + count >= needed ? SPI_VK_SPAN_LAST : 0);
        sp_status status = add_kv(p, span);
        if (status) {
            return status;
        }
        block += count;
    }
    return SP_OK;
}

/* Takes in the segment at *index and as many behind it as one window holds. */
static sp_status plan_kv(const planner *p, uint32_t *index) {
    const spi_segment *first = &p->run->segments[*index];
    uint64_t block_bytes = p->program->tape->kv.block_bytes, held, low = first->kv_offset, high = low;
    spi_vk_window window = {0};
    uint32_t end = *index, rows = 0, tile_first = p->plan->tile_count;
    for (; end < p->run->segment_count; end++) {
        const spi_segment *segment = &p->run->segments[end];
        uint64_t segment_high = segment->kv_offset + block_count(segment) * block_bytes;
        uint64_t new_low = low < segment->kv_offset ? low : segment->kv_offset;
        uint64_t new_high = high > segment_high ? high : segment_high;
        spi_vk_window wider;
        if (segment->link != first->link ||
            !spi_vk_link_window(p->vk, segment->link, new_low, new_high - new_low, &wider, &held)) {
            break;
        }
        window = wider;
        low = new_low;
        high = new_high;
        rows += segment->row_count;
    }
    if (end == *index) {
        (*index)++;
        return plan_long(p, first);
    }
    for (; *index < end; (*index)++) {
        const spi_segment *segment = &p->run->segments[*index];
        write_rows(p, segment, (uint32_t)((segment->kv_offset - window.first_byte) / sizeof(uint32_t)));
        add_tiles(p, segment);
    }
    spi_vk_span span = kv_span(&window);
    span.tile_first = tile_first;
    span.tile_count = p->plan->tile_count - tile_first;
    span.first = first->row_first;
    span.count = rows;
    span.block_end = UINT32_MAX;
    span.flags = SPI_VK_SPAN_FIRST | SPI_VK_SPAN_LAST;
    return add_kv(p, span);
}

static void find_outs(const planner *p) {
    uint64_t row_bytes = (uint64_t)p->program->tape->vocab * sizeof(float);
    for (uint32_t s = 0; s < p->run->segment_count; s++) {
        const spi_segment *segment = &p->run->segments[s];
        for (uint32_t i = 0; i < segment->out_count; i++) {
            uint32_t out = segment->out_first + i;
            uint32_t *words = p->words + p->program->outs_word + (size_t)out * SPI_VK_OUT_WORDS;
            words[0] = segment->row_first + segment->row_count - segment->out_count + i;
            p->program->out_offsets[out] = segment->logits_offset + i * row_bytes;
            p->program->out_links[out] = segment->link;
        }
    }
}

/* Takes in the output at *index and as many behind it as one window holds. */
static sp_status plan_outs(const planner *p, uint32_t *index) {
    const uint64_t *offsets = p->program->out_offsets;
    const spi_link *link = p->program->out_links[*index];
    uint64_t row_bytes = (uint64_t)p->program->tape->vocab * sizeof(float), held;
    uint64_t low = offsets[*index], high = low;
    spi_vk_window window = {0};
    uint32_t first = *index, end = first;
    for (; end < p->run->out_count && p->program->out_links[end] == link; end++) {
        uint64_t new_low = low < offsets[end] ? low : offsets[end];
        uint64_t new_high = high > offsets[end] + row_bytes ? high : offsets[end] + row_bytes;
        spi_vk_window wider;
        if (!spi_vk_link_window(p->vk, link, new_low, new_high - new_low, &wider, &held)) {
            break;
        }
        window = wider;
        low = new_low;
        high = new_high;
    }
    if (end == first) {
        return not_in_one_window(p, "a row of logits", low);
    }
    for (; *index < end; (*index)++) {
        uint32_t *words = p->words + p->program->outs_word + (size_t)*index * SPI_VK_OUT_WORDS;
        words[1] = (uint32_t)((offsets[*index] - window.first_byte) / sizeof(uint32_t));
    }
    spi_vk_plan *plan = p->plan;
    if (!SPI_RESERVE(plan->outs, plan->out_span_count, plan->out_capacity)) {
        return no_memory(p->error);
    }
    plan->outs[plan->out_span_count++] = (spi_vk_span){.binding = window.binding, .first = first, .count = end - first};
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
                                segment->kv_offset + block_count(segment) * block_bytes, p->error);
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
    const spi_tape *tape = p->program->tape;
    uint32_t heads = 1, ranges = 1;
    for (uint32_t i = 0; i < tape->op_count; i++) {
        heads = tape->ops[i].kind == SPI_OP_ATTENTION && tape->ops[i].heads > heads ? tape->ops[i].heads : heads;
    }
    uint64_t groups = (uint64_t)heads * p->run->row_count;
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
        blocks = block_count(segment) > blocks ? block_count(segment) : blocks;
    }
    p->plan->ranges = p->plan->decode ? choose_ranges(p, blocks) : 1;
}

sp_status spi_vk_plan_run(spi_vk *vk, spi_program *program, const spi_run *run, sp_error *error) {
    planner p = {vk, program, run, &program->plan, program->parameters.mapped, error};
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
    find_outs(&p);
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
