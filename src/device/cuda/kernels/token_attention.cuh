/* device/cuda/kernels/token_attention.cuh - a phase of attention, for the kernel that computes a token in one launch.
 *
 * The context is shared out in runs of positions. A block of the grid attends over one run with the query heads of one
 * KV head. Few runs are put together by who reads them (token_input.cuh); of many, those that attend for a KV head do
 * some columns each. May include: token_product.cuh, token_tiles.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_ATTENTION_CUH

#include "device/cuda/kernels/token_product.cuh"
#include "device/cuda/kernels/token_tiles.cuh"

#if __CUDA_ARCH__ >= 900

/* Puts the runs of a KV head's context together: each of its blocks does some columns, four by eight lanes, of which
 * each has the runs `lane` and `lane` + 8. */
__device__ __forceinline__ void join_runs(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                          bool narrow, uint32_t head, uint32_t split) {
    uint32_t shift = token.dim_shift, dim = 1u << shift, group = phase.group;
    const uint32_t own = narrow ? dim / 2 : dim, pitch = own + 4;
    uint32_t tag = step.tag_of(phase.run_tag), splits = step.splits, first = threadIdx.x % 8;
    const uint32_t fours = group << (shift - 2);
    for (uint32_t base = split + threadIdx.x / 32 * 4 * splits; base < fours; base += THREADS / 8 * splits) {
        const uint32_t mine = base + threadIdx.x % 32 / 8 * splits, i = mine < fours ? mine : base; /* whole warps */
        uint32_t h = head * group + (4 * i >> shift), column = 4 * i & (dim - 1);
        uint64_t run_floats = (uint64_t)phase.heads * pitch;
        const float *at = token.attended + h * pitch;
        const float *runs[2] = {at + min(first, splits - 1) * run_floats, at + min(first + 8, splits - 1) * run_floats};
        float4 part[2];
        uint2 words[2];
        float2 seen[2]; /* a run's largest score, and its sum of weights */
        uint32_t missing;
        do {
            missing = 0;
#pragma unroll
            for (int k = 0; k < 2; k++) {
                seen[k] = ask2(runs[k] + own);
                if (narrow) {
                    words[k] = ask_narrow((const uint2 *)runs[k] + column / 4);
                } else {
                    part[k] = ask4(runs[k] + column);
                }
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                missing |= wrong(seen[k].x, tag) | wrong(seen[k].y, tag) |
                           (narrow ? wrong_narrow(words[k], tag) : wrong4(part[k], tag));
            }
        } while (warp_misses(missing));
        float one = first < splits ? cleared(seen[0].x) : -INFINITY,
              other = first + 8 < splits ? cleared(seen[1].x) : -INFINITY, largest = fmaxf(one, other);
#pragma unroll
        for (int offset = 1; offset < 8; offset <<= 1) {
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
        }
        float c = growth(one, largest), d = growth(other, largest);
        const float all = c * cleared(seen[0].y) + d * cleared(seen[1].y);
        if (narrow) {
            part[0] = widened(words[0]), part[1] = widened(words[1]);
            c *= cleared(seen[0].y), d *= cleared(seen[1].y);
        }
        float sums[5] = {
            c * cleared(part[0].x) + d * cleared(part[1].x), c * cleared(part[0].y) + d * cleared(part[1].y),
            c * cleared(part[0].z) + d * cleared(part[1].z), c * cleared(part[0].w) + d * cleared(part[1].w), all};
#pragma unroll
        for (int offset = 1; offset < 8; offset <<= 1) {
#pragma unroll
            for (int k = 0; k < 5; k++) {
                sums[k] += __shfl_xor_sync(0xffffffffu, sums[k], offset);
            }
        }
        if (first == 0 && mine < fours) {
            float inverse = 1 / sums[4];
            if (narrow) {
                publish_narrow((uint2 *)phase.out + (h * dim + column) / 4,
                               make_uint2(narrow_pair(sums[0] * inverse, sums[1] * inverse),
                                          narrow_pair(sums[2] * inverse, sums[3] * inverse)),
                               step.tag_of(phase.out_tag));
                continue;
            }
            publish4((float *)phase.out + h * dim + column,
                     make_float4(sums[0] * inverse, sums[1] * inverse, sums[2] * inverse, sums[3] * inverse),
                     step.tag_of(phase.out_tag));
        }
    }
}

/* Every use of a buffer must leave its tag everywhere: also in a run's place when there are fewer runs, and in that of
 * all runs together where nobody puts them there. */
__device__ __forceinline__ void mark_unused(const spi_cu_token &token, const token_step &step,
                                            const spi_cu_phase &phase, bool narrow, uint32_t head, uint32_t split) {
    uint32_t dim = token.kv.head_dim, group = phase.group, tag = step.tag_of(phase.run_tag);
    uint32_t place = split * phase.heads + head * group;
    const uint32_t own = narrow ? dim / 2 : dim, outs = step.tag_of(phase.out_tag);
    for (uint32_t i = threadIdx.x;
         (split >= step.splits || step.splits == 1) && split < SPI_CU_SPLITS_MAX && i < group * (own + 4);
         i += THREADS) {
        const bool halves = narrow && i % (own + 4) < own;
        const uint32_t word = halves ? (i % (own + 4) % 2 ? 0 : narrow_tag(tag)) : tag;
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(token.attended + place * (own + 4) + i), "r"(word)
                     : "memory");
    }
    for (uint32_t i = threadIdx.x; step.joins && split == 0 && i < group * own; i += THREADS) {
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"((float *)phase.out + head * group * own + i),
                     "r"(narrow ? (i % 2 ? 0 : narrow_tag(outs)) : outs)
                     : "memory");
    }
}

/* In Q8_0: scales stand behind the row's codes in shared memory, and behind those of 64 rows in a block. */
__device__ __forceinline__ void keep_codes(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                           uint32_t which, const float *from, uint8_t *row, uint32_t lane) {
    const uint32_t dim = token.kv.head_dim, in_block = step.position % 64;
    const uint64_t head = step.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                          (which * token.kv.kv_heads + step.head) * q8_head_bytes(dim);
    const uint64_t numbers = head + in_block * dim, scales = head + 64 * dim + kv_scale_bytes(dim, in_block);
    for (uint32_t i = lane; i < dim; i += 32) { /* whole warps */
        const q8_code code(from[i]);
        code.put(row, (__half *)(row + dim), i);
        code.put((uint8_t *)(token.blocks + numbers), (__half *)(token.blocks + scales), i);
        if (token.host_blocks) {
            code.put((uint8_t *)(token.host_blocks + numbers), (__half *)(token.host_blocks + scales), i);
        }
    }
}

/* One warp: the token's own row of K or V, rounded as blocks hold it, to shared memory, the card's block and the
 * guest's. */
template <bool q8>
__device__ __forceinline__ void keep_row(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                         uint32_t which, const float *from, __half2 *row, uint32_t lane) {
    uint32_t dim = token.kv.head_dim;
    if (q8) {
        keep_codes(token, step, phase, which, from, (uint8_t *)row, lane);
        return;
    }
    uint64_t at = step.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                  (which * token.kv.kv_heads + step.head) * (uint64_t)64 * dim * 2 + step.position % 64 * dim * 2;
    for (uint32_t i = lane; i < dim / 2; i += 32) {
        __half2 pair = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
        row[i] = pair;
        ((__half2 *)(token.blocks + at))[i] = pair;
        if (token.host_blocks) {
            ((__half2 *)(token.host_blocks + at))[i] = pair;
        }
    }
}

/* Where things lie in shared memory during a phase of attention. */
struct attention_room {
    uint32_t *queries; /* tiles of them: place_query() */
    __half2 *k, *v;    /* the token's own */
    float *rows;       /* f32 [group + 2][dim], while they are prepared */
    float2 *seen;      /* [parts][group]: of each part the largest score and the sum of weights */
    float *parts;      /* [parts][group][dim + 4] */

    __device__ __forceinline__ attention_room(uint8_t *room, uint32_t group, uint32_t dim) {
        queries = (uint32_t *)room;
        k = (__half2 *)(queries + (group + TILE_HEADS - 1) / TILE_HEADS * dim * 4);
        v = k + dim / 2;
        seen = (float2 *)(v + dim / 2);
        parts = rows = (float *)(seen + WARPS * TILE_HEADS);
    }
};

/* Queries, and of the last run the token's own K and V, out of what the products left: a warp has a row. */
template <bool q8>
__device__ __forceinline__ void prepare_rows(const spi_cu_token &token, const token_step &step,
                                             const spi_cu_phase &phase, const float2 *turns, uint8_t *memory) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = step.head, group = phase.group;
    const uint32_t dim = token.kv.head_dim;
    const attention_room room(memory, group, dim);
    uint32_t count = group + (step.split + 1 == step.splits ? 2 : 0);
    if (group + warp < (group + TILE_HEADS - 1) / TILE_HEADS * TILE_HEADS) {
        clear_query(group + warp, dim, room.queries, lane);
    }
    for (uint32_t i = warp; i < count; i += WARPS) {
        float *row = room.rows + i * dim;
        bool is_query = i < group, is_key = i == group;
        const float *from = is_query ? (const float *)phase.src + (head * group + i) * dim
                                     : (const float *)(is_key ? phase.k : phase.v) + head * dim;
        const float *norm = (const float *)(is_query ? phase.q_norm : is_key ? phase.k_norm : 0);
        uint32_t tag = step.tag_of(is_query ? phase.src_tag : is_key ? phase.k_tag : phase.v_tag);
        prepare_head<true>(is_query || is_key ? phase.pairs : 0, phase.halves, turns, from, norm,
                           is_query ? phase.eps : phase.k_eps, dim, is_query ? phase.scale : 1, row, lane, tag);
        __syncwarp();
        if (is_query) {
            place_query(row, i, dim, room.queries, lane);
        } else {
            keep_row<q8>(token, step, phase, !is_key, row, is_key ? room.k : room.v, lane);
        }
    }
}

/* Which of a phase's tiles a warp takes: with four heads each, of a slice of columns each, every so many tiles one. */
struct tile_share {
    uint32_t slice, four, part, parts, kept; /* kept: parts that are left, each of one warp or two */

    __device__ __forceinline__ tile_share(const spi_cu_token &token, uint32_t group) {
        uint32_t warp = threadIdx.x / 32, slices_log2 = token.dim_shift - 6,
                 fours_log2 = group > 2 * TILE_HEADS ? 2 : group > TILE_HEADS;
        slice = warp & ((1u << slices_log2) - 1), four = warp >> slices_log2 & ((1u << fours_log2) - 1);
        part = warp >> (slices_log2 + fours_log2), parts = WARPS >> (slices_log2 + fours_log2);
        kept = fours_log2 ? parts : parts / 2;
    }
};

/* What a warp has seen, to where the others look for it; in the second go with what was left in the first. */
template <bool q8>
__device__ __forceinline__ void leave_part(const spi_cu_token &token, const attended_part &mine, uint32_t group,
                                           const tile_share &share, bool adds, uint8_t *memory) {
    const uint32_t dim = token.kv.head_dim, lane = threadIdx.x % 32;
    const uint32_t local = share.four * TILE_HEADS + lane % 4, place = share.part * group + local;
    const attention_room room(memory, group, dim);
    if (local >= group) {
        return;
    }
    const float2 other = adds ? room.seen[place + share.kept * group] : make_float2(-INFINITY, 0);
    const float largest = fmaxf(mine.largest, other.x), from = largest == -INFINITY ? 0 : largest;
    const float own = e_to(mine.largest - from), others = e_to(other.x - from);
    if (mine.largest != -INFINITY) {
        float *to = room.parts + (share.part % share.kept * group + local) * (dim + 4) + share.slice * TILE_COLS;
        mine.leave<q8>(to, own, others);
    }
    if (share.slice == 0 && lane / 4 == 0) {
        room.seen[place] = make_float2(largest, mine.total * own + other.y * others);
    }
}

/* All tiles of the block's run; the token's own row comes last. */
template <bool q8>
__device__ __forceinline__ void see_run(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                        const kv_run &run, const tile_share &share, const tile_places &places,
                                        ring_reader &ring, uint8_t *memory) {
    const uint32_t dim = token.kv.head_dim, group = phase.group;
    const bool last = step.split + 1 == step.splits;
    const attention_room room(memory, group, dim);
    const uint32_t queries = address_of(room.queries) + share.four * dim * 16 + threadIdx.x % 32 * 16;
    attended_part mine;
    mine.clear();
    uint32_t turn = share.part;
    const uint32_t row_bytes = kv_row_bytes<q8>(dim), group_log2 = token.kv_group_log2;
    const float softcap = phase.softcap;
    const uint32_t stage_tiles = (1u << group_log2) / 4;
#pragma unroll 1
    for (uint32_t first = run.first; first < run.end || last; first += token.kv_stage) {
        while (turn >= stage_tiles && first + token.kv_stage <= run.end) { /* the next tile is of a later stage */
            const uint32_t stages = ring.pass(min(turn / stage_tiles, (run.end - first) / token.kv_stage));
            turn -= stages * stage_tiles;
            first += stages * token.kv_stage;
        }
        bool own = first >= run.end;
        if (own && !last) {
            break;
        }
        uint32_t count = own ? 1 : min(token.kv_stage, run.end - first);
        uint32_t low = own || first >= run.begin ? 0 : run.begin - first;
        kv_place from;
        from.keys = own ? address_of(room.k) : address_of(ring.open());
        from.values = from.keys + (own ? 2 * dim : kv_part_bytes<q8>(token));
        from.key_scales = own ? from.keys + dim : from.values + kv_part_bytes<q8>(token);
        from.value_scales =
            (own ? from.values + dim : from.key_scales + kv_scale_bytes(dim, token.kv_stage)) + share.slice * 4;
        from.values += share.slice * TILE_COLS * (q8 ? 1 : 2);
        from.most = count - 1;
        from.low = kv_byte(low, row_bytes, group_log2), from.last = kv_byte(count - 1, row_bytes, group_log2);
        uint32_t tiles = (min(count, 1u << group_log2) + 3) / 4;
#pragma unroll 1
        for (; turn < tiles; turn += share.parts) {
            mine.see<q8>(queries, from, places, dim, turn, group_log2, softcap);
        }
        turn -= tiles;
        if (own) {
            break;
        }
        ring.close();
    }
    ring.leave();
    mine.add_totals();
    const bool two = share.kept < share.parts;
    if (two) {
        if (share.part >= share.kept) {
            leave_part<q8>(token, mine, group, share, false, memory);
        }
        all_sync();
    }
    if (share.part < share.kept) {
        leave_part<q8>(token, mine, group, share, two, memory);
    }
}

/* Puts together what the block's warps have seen, when all have left it. */
__device__ __forceinline__ void hand_on(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                        bool narrow, uint8_t *memory) {
    const uint32_t dim = token.kv.head_dim, pitch = dim + 4, group = phase.group;
    const uint32_t own = narrow ? dim / 2 : dim;
    const uint32_t parts = tile_share(token, group).kept;
    const attention_room room(memory, group, dim);
    const bool one = step.splits == 1;
    const uint32_t tag = step.tag_of(one ? phase.out_tag : phase.run_tag), row = one ? own : own + 4;
    const uint32_t seen_step = group * (uint32_t)sizeof(float2), part_step = group * pitch * (uint32_t)sizeof(float);
    uint32_t all_seen = address_of(room.seen), all_parts = address_of(room.parts);
    float *out = one ? (float *)phase.out + step.head * group * row
                     : token.attended + ((uint64_t)step.split * phase.heads + step.head * group) * row;
    asm volatile("" : "+r"(all_seen), "+r"(all_parts), "+l"(out)); /* before others are waited for */
    all_sync();
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < group << token.dim_shift; i += THREADS) {
        const uint32_t local = i >> token.dim_shift, column = i & (dim - 1);
        const uint32_t seen = all_seen + local * (uint32_t)sizeof(float2),
                       from = all_parts + (local * pitch + column) * (uint32_t)sizeof(float);
        float2 part[PARTS_MAX];
        float value[PARTS_MAX], largest = -INFINITY, total = 0, sum = 0;
#pragma unroll
        for (int p = 0; p < PARTS_MAX; p++) { /* all are on their way at once */
            part[p] = make_float2(-INFINITY, 0);
            value[p] = 0;
            if (p < parts) {
                const uint2 pair = shared_two(seen + p * seen_step);
                part[p] = make_float2(__uint_as_float(pair.x), __uint_as_float(pair.y));
                value[p] = __uint_as_float(shared_one(from + p * part_step));
            }
        }
#pragma unroll
        for (int p = 0; p < PARTS_MAX; p++) {
            largest = fmaxf(largest, part[p].x);
        }
        largest = cleared(largest); /* as it will be read: any number near the largest does */
        const float reference = largest == -INFINITY ? 0 : largest;
#pragma unroll
        for (int p = 0; p < PARTS_MAX; p++) {
            const float weight = e_to(part[p].x - reference);
            total += weight * part[p].y;
            sum += weight * (part[p].x != -INFINITY ? value[p] : 0); /* else there is nothing */
        }
        float *to = out + local * row;
        if (narrow) {
            const uint2 words = gather_narrow(total > 0 ? __fdividef(sum, total) : 0);
            if (column % 4 == 0) {
                publish_narrow((uint2 *)to + column / 4, words, tag);
            }
        } else {
            publish(to + column, one ? sum / total : sum, tag);
        }
        if (!one && column == 0) {
            publish4(to + own, make_float4(largest, total, 0, 0), tag);
        }
    }
}

/* A block attends with the query heads of one KV head over one run of positions, whose rows come through the ring. A
 * warp takes 16 positions at a time, with up to four heads, and sums up 64 columns. */
template <bool q8>
__device__ __forceinline__ void attend(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                       bool narrow, const float2 *turns, ring_state &stages, const uint8_t *bytes,
                                       uint8_t *memory) {
    if (step.split < step.splits) {
        const kv_run run(token, step, phase);
        const tile_share share(token, phase.group);
        ring_reader ring(stages, bytes, token);
        tile_places places(kv_row_bytes<q8>(token.kv.head_dim), token.kv_group_log2);
        places.settle();
        prepare_rows<q8>(token, step, phase, turns, memory);
        all_sync();
        see_run<q8>(token, step, phase, run, share, places, ring, memory);
        hand_on(token, step, phase, narrow, memory);
    }
    if (step.split < step.splits && step.splits > 1 && !step.joins) {
        join_runs(token, step, phase, narrow, step.head, step.split);
    } else {
        mark_unused(token, step, phase, narrow, step.head, step.split);
    }
}
#endif

#endif
