/* device/cpu/attention.c - sharing out attention: which rows go together, and who computes which chunk of a context.
 *
 * A unit is a group of rows with a KV head, or a single row with several: those are read in the order in which they lie
 * in memory, which is what a long context waits for. So units have as many heads as leave work for all threads. A run
 * with many units gives each to one thread. A run with few, which is decoding one session or some, gives the chunks of
 * a unit to several: each leaves its records, and whoever finishes a unit's last chunk merges them, always in the order
 * of the chunks. All of them are the same bits.
 *
 * Owns: the room for records, which grows with the contexts. May include: device, region, os, base.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "device/cpu/cpu.h"

/* More would be no faster, and their sums and weights would leave the first level of the cache. */
#define HEADS_MAX 8u
/* So many for each thread, so that no thread waits long for another's last one. */
#define THREAD_ITEMS 8u
/* Units of several rows have large records: they are shared where there are so many times fewer of them. */
#define ROWS_COST 4u

/* The first chunk that any row of the group sees in the step, and how many there are from there. */
static uint32_t chunks_of(const spi_program *program, const spi_op *op, const spi_cpu_group *group, uint32_t *first) {
    uint32_t position = program->rows[group->row].position;
    *first = op->window && position + 1 > op->window ? (position + 1 - op->window) / SPI_ATTENTION_CHUNK : 0;
    return group->chunks - *first;
}

/* Floats of the records of one group's unit for one chunk. */
static size_t chunk_floats(const spi_program *program, const spi_op *op, const spi_cpu_group *group) {
    uint32_t queries = group->row_count * (op->heads / program->tape->kv.kv_heads);
    queries = (queries + SPI_ATTENTION_QUERIES - 1) / SPI_ATTENTION_QUERIES * SPI_ATTENTION_QUERIES;
    return (size_t)queries * (program->tape->kv.head_dim + SPI_ATTENTION_RECORD_FLOATS);
}

static int compare_groups(const void *a, const void *b) {
    const spi_cpu_group *x = a, *y = b;
    return x->chunks != y->chunks ? (x->chunks < y->chunks) - (x->chunks > y->chunks)
                                  : (x->row > y->row) - (x->row < y->row);
}

/* Gives units so many heads, if kernels take several, that there are as many items as `wanted`. Returns whether chunks
 * are shared. */
static bool plan_heads(spi_program *program, bool several, bool shareable, uint32_t wanted) {
    uint32_t kv_heads = program->tape->kv.kv_heads, heads = !several ? 1 : kv_heads < HEADS_MAX ? kv_heads : HEADS_MAX;
    for (;; heads = (heads + 1) / 2) {
        uint64_t chunks = 0;
        uint32_t shared_max = program->shared.units_max;
        program->unit_count = 0;
        for (uint32_t g = 0; g < program->group_count; g++) {
            spi_cpu_group *group = &program->groups[g];
            group->heads = group->row_count == 1 ? heads : 1;
            group->units = (kv_heads + group->heads - 1) / group->heads;
            program->unit_count += group->units;
            chunks += (uint64_t)group->units * group->chunks;
            shared_max = group->row_count > 1 ? program->shared.units_max / ROWS_COST : shared_max;
        }
        bool shared = shareable && program->unit_count <= shared_max;
        if (heads == 1 || (shared ? chunks : program->unit_count) >= wanted) {
            return shared;
        }
    }
}

/* Shares the chunks if there is anything to share; where there is no room for records, units stay whole. */
static void plan_sharing(spi_program *program) {
    spi_cpu_shared *shared = &program->shared;
    const spi_kv_shape *kv = &program->tape->kv;
    const spi_cpu_kernels *kernels = program->cpu->kernels;
    uint32_t threads = spi_pool_thread_count(program->cpu->pool);
    shared->in_use = false;
    bool parts = kernels->attention_part && kv->head_dim % kernels->attention_columns == 0;
    bool shareable = parts && threads > 1 && program->groups[0].chunks > 1;
    if (!plan_heads(program, parts, shareable, threads == 1 ? 1 : THREAD_ITEMS * threads)) {
        return;
    }
    size_t most = 0;
    for (uint32_t g = 0; g < program->group_count; g++) {
        spi_cpu_group *group = &program->groups[g];
        group->records = most;
        size_t floats = 0;
        for (uint32_t i = 0; i < program->step_count; i++) {
            const spi_op *op = program->steps[i].op;
            if (op->kind == SPI_OP_ATTENTION && chunk_floats(program, op, group) > floats) {
                floats = chunk_floats(program, op, group);
            }
        }
        most += floats * group->chunks * kv->kv_heads;
    }
    if (most > shared->record_floats) {
        /* Some more, so that a context that grows does not ask for room with every token. */
        size_t room = most + most / 2;
        float *records = spi_alloc_aligned(room * sizeof *records, SPI_CPU_CACHE_LINE_BYTES);
        if (!records) {
            return;
        }
        spi_free_aligned(shared->records);
        shared->records = records;
        shared->record_floats = room;
    }
    shared->in_use = true;
}

void spi_cpu_attention_plan(spi_program *program) {
    const spi_run *run = program->run;
    program->group_count = 0;
    for (uint32_t s = 0; s < run->segment_count; s++) {
        const spi_segment *segment = &run->segments[s];
        for (uint32_t i = 0; i < segment->row_count; i += program->group_rows) {
            uint32_t left = segment->row_count - i, count = left < program->group_rows ? left : program->group_rows;
            uint32_t last = segment->position_first + i + count - 1;
            program->groups[program->group_count++] = (spi_cpu_group){
                .row = segment->row_first + i, .row_count = count, .chunks = last / SPI_ATTENTION_CHUNK + 1};
        }
    }
    qsort(program->groups, program->group_count, sizeof *program->groups, compare_groups);
    plan_sharing(program);
}

/* Chunks of all units, where they are shared; else units. */
static uint32_t count_items(const spi_program *program, const spi_step *step) {
    uint32_t first, count = 0;
    if (!program->shared.in_use) {
        return program->unit_count;
    }
    for (uint32_t g = 0; g < program->group_count; g++) {
        count += chunks_of(program, step->op, &program->groups[g], &first) * program->groups[g].units;
    }
    return count;
}

/* Units are dealt out one by one, so that each owner has long and short ones. Chunks are as good as equal: an owner has
 * neighbours, because each asks for the next one's first tokens. */
uint32_t spi_cpu_attention_items(const spi_program *program, const spi_step *step, uint32_t owner,
                                 uint32_t owner_count) {
    uint32_t count = count_items(program, step);
    uint64_t first, end;
    if (!program->shared.in_use) {
        return count > owner ? (count - owner - 1) / owner_count + 1 : 0;
    }
    spi_pool_share(count, 1, owner, owner_count, &first, &end);
    return (uint32_t)(end - first);
}

static spi_cpu_attention arguments(const spi_program *program, const spi_step *step, const spi_cpu_group *group,
                                   uint32_t unit, uint32_t thread) {
    const spi_op *op = step->op;
    const spi_kv_shape *kv = &program->tape->kv;
    uint32_t heads = op->heads / kv->kv_heads, kv_head = unit * group->heads, left = kv->kv_heads - kv_head;
    size_t width = program->tape->buffers[op->dst].width, head = (size_t)kv_head * heads * kv->head_dim;
    return (spi_cpu_attention){.kv = kv,
                               .blocks = program->rows[group->row].blocks,
                               .layer = op->layer,
                               .kv_head = kv_head,
                               .group = heads,
                               .heads = left < group->heads ? left : group->heads,
                               .row_count = group->row_count,
                               .position_first = program->rows[group->row].position,
                               .window = op->window,
                               .alone = program->alone,
                               .scale = op->scale,
                               .softcap = op->softcap,
                               .q = program->buffers[op->src] + group->row * width + head,
                               .dst = program->buffers[op->dst] + group->row * width + head,
                               .row_stride = width,
                               .scratch = program->scratch + thread * program->scratch_bytes};
}

/* Of what a unit gave. */
static void make_forms(const spi_program *program, const spi_step *step, const spi_cpu_group *group,
                       const spi_cpu_attention *args) {
    uint32_t columns = args->group * args->kv->head_dim;
    spi_cpu_make_forms(program, step,
                       &(spi_cpu_patch){.row_first = group->row,
                                        .row_end = group->row + group->row_count,
                                        .first = args->kv_head * columns,
                                        .end = (args->kv_head + args->heads) * columns});
}

/* The chunks of a unit are neighbours. */
static void share_chunk(spi_program *program, const spi_step *step, uint32_t item, uint32_t thread) {
    const spi_cpu_kernels *kernels = program->cpu->kernels;
    const spi_cpu_group *group = program->groups;
    uint32_t units = 0, first, count;
    while (count = chunks_of(program, step->op, group, &first), item >= count * group->units) {
        item -= count * group->units;
        units += group->units;
        group++;
    }
    uint32_t chunk = item % count, unit = item / count;
    size_t floats = chunk_floats(program, step->op, group);
    spi_cpu_attention args = arguments(program, step, group, unit, thread);
    float *records = program->shared.records + group->records + (size_t)args.kv_head * group->chunks * floats;
    args.chunk_first = first + chunk;
    args.chunk_count = 1;
    args.records = records + chunk * floats;
    args.head_records = group->chunks * floats;
    kernels->attention_part(&args);
    atomic_uint *done = &program->shared.done[units + unit];
    if (atomic_fetch_add(done, 1) + 1 == count) {
        atomic_store_explicit(done, 0, memory_order_relaxed);
        args.chunk_first = first;
        args.chunk_count = count;
        args.records = records;
        kernels->attention_combine(&args);
        make_forms(program, step, group, &args);
    }
}

/* A whole unit. */
static void take_unit(spi_program *program, const spi_step *step, uint32_t unit, uint32_t thread) {
    const spi_cpu_group *group = program->groups;
    for (; unit >= group->units; group++) {
        unit -= group->units;
    }
    spi_cpu_attention args = arguments(program, step, group, unit, thread);
    args.chunk_count = chunks_of(program, step->op, group, &args.chunk_first);
    program->cpu->kernels->attention(&args);
    make_forms(program, step, group, &args);
}

void spi_cpu_attention_item(spi_program *program, const spi_step *step, uint32_t owner, uint32_t owner_count,
                            uint32_t item, uint32_t thread) {
    if (program->shared.in_use) {
        uint64_t first, end;
        spi_pool_share(count_items(program, step), 1, owner, owner_count, &first, &end);
        share_chunk(program, step, (uint32_t)first + item, thread);
    } else {
        take_unit(program, step, item * owner_count + owner, thread);
    }
}
