/* device/cuda/kernels/decode.cu - a token in one launch: a cooperative kernel with one block on each multiprocessor.
 *
 * One warp of a block streams the block's share of all weights, in the order in which they are used, through a ring of
 * stages in shared memory by bulk copies. It waits for nothing but free stages, so weights flow on while the other warps
 * stand at a barrier or attend. Those multiply in groups of four: a stage belongs to one group, whose warps share its
 * columns. Few stages are let on their way at once: with the whole ring in flight every other load of the card queues
 * behind it for microseconds.
 *
 * The number of stages is a multiple of the number of groups, so that a stage always belongs to the same group: else a
 * group that is a round ahead would see the parity of an older phase of the stage's barrier and take what has not landed.
 *
 * Needs bulk copies (compute capability 9.0); empty on older cards, for which the host does not ask for it.
 */
#include "device/cuda/kernels/decode_args.h"
#include "device/cuda/kernels/vector.cuh"

#define WARPS   SPI_CU_DECODE_WARPS
#define THREADS (WARPS * 32) /* that multiply */
#define GROUPS  (WARPS / 4)

/* The pieces of a phase that every thread reads often; the rest stays in global memory. */
struct shared_state {
    spi_cu_phase phases[2]; /* this one's and the next one's */
    spi_cu_phase streamed;  /* the one whose weights are on their way */
    float2 turns[SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX];
    float slots[2][GROUPS][SPI_CU_TILE_ROWS_MAX][4]; /* sums of columns' parts, before they are put together */
    float room[WARPS];
    uint64_t full[32], empty[32];
};

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ uint32_t address_of(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

__device__ __forceinline__ void barrier_init(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address_of(barrier)), "r"(arrivals));
}

__device__ __forceinline__ void barrier_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address_of(barrier)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address_of(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra out;\n"
                 "bra again;\n"
                 "out:\n"
                 "}\n" ::"r"(address_of(barrier)),
                 "r"(parity)
                 : "memory");
}

/* Weights are read once: the cache is better used for everything else. */
__device__ __forceinline__ void bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address_of(to)),
        "l"(from), "r"(bytes), "r"(address_of(barrier))
        : "memory");
}

__device__ __forceinline__ void all_sync() { /* of the warps that multiply */
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

__device__ __forceinline__ void group_sync(uint32_t group) {
    asm volatile("bar.sync %0, 128;" ::"r"(2 + group) : "memory");
}

/* All blocks have arrived, and what they wrote is seen. */
__device__ __forceinline__ void grid_sync(const spi_cu_token &token, uint32_t &target) {
    all_sync();
    target += gridDim.x;
    if (threadIdx.x == 0) {
        uint32_t value;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(token.barrier) : "memory");
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(token.barrier) : "memory");
        } while ((int32_t)(value - target) < 0);
    }
    all_sync();
}

/* For measuring: when the first block's first thread got somewhere. */
__device__ __forceinline__ void mark(const spi_cu_token &token, uint32_t index) {
    if (token.clocks && blockIdx.x == 0 && threadIdx.x == 0) {
        token.clocks[index] = clock64();
    }
}

/* The block's units of a phase. */
__device__ __forceinline__ void share(const spi_cu_phase &phase, uint32_t &first, uint32_t &end) {
    first = phase.unit_count * blockIdx.x / gridDim.x; /* the host saw to it that this fits into 32 bits */
    end = phase.unit_count * (blockIdx.x + 1) / gridDim.x;
}

/* Units in a stage: as many as fit, but no fewer stages than groups where that is possible. */
__device__ __forceinline__ uint32_t tile_units(const spi_cu_phase &phase, uint32_t units) {
    return max(1u, min(phase.tile_units, (units + GROUPS - 1) / GROUPS));
}

struct ring {
    uint8_t *stages;
    uint32_t stage, round; /* of the next tile */

    __device__ __forceinline__ void step(const spi_cu_token &token) {
        if (++stage == token.stage_count) {
            stage = 0;
            round++;
        }
    }
};

/* Rows of a phase's parts put end to end, as the streaming thread holds them in registers. */
struct source {
    const uint8_t *data[SPI_CU_PARTS_MAX];
    uint32_t begin[SPI_CU_PARTS_MAX], end[SPI_CU_PARTS_MAX], stride;

    __device__ __forceinline__ explicit source(const spi_cu_phase &phase) : stride(phase.stride) {
        uint32_t at = 0;
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_PARTS_MAX; i++) {
            data[i] = (const uint8_t *)phase.parts[i].data;
            begin[i] = at;
            at += i < phase.part_count ? phase.parts[i].rows : 0;
            end[i] = at;
        }
    }

    /* Rows [first, first + count) to a stage. */
    __device__ __forceinline__ void copy(uint32_t first, uint32_t count, uint8_t *to, uint64_t *full) const {
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_PARTS_MAX; i++) {
            uint32_t low = max(first, begin[i]), high = min(first + count, end[i]);
            if (low < high) {
                bulk_copy(to + (low - first) * stride, data[i] + (uint64_t)(low - begin[i]) * stride,
                          (high - low) * stride, full);
            }
        }
    }
};

__device__ __forceinline__ void to_cache(const void *address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/* What else a phase will read from memory: its norm, or the rows of K and V that this block attends to. */
__device__ void prefetch(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t lane) {
    if (phase.kind == SPI_CU_PHASE_PRODUCT) {
        for (uint32_t i = lane * 32; phase.norm_weight && i < phase.cols; i += 32 * 32) {
            to_cache((const float *)phase.norm_weight + i);
        }
        return;
    }
    uint32_t head = blockIdx.x % token.kv.kv_heads, split = blockIdx.x / token.kv.kv_heads, dim = token.kv.head_dim;
    uint32_t end = min(token.position, (split + 1) * token.split_blocks * 64);
    uint64_t head_bytes = (uint64_t)64 * dim * 2;
    for (uint32_t position = split * token.split_blocks * 64 + lane; position < end; position += 32) {
        uint64_t at =
            position / 64 * token.kv.block_bytes + phase.layer_bytes + head * head_bytes + position % 64 * dim * 2;
        for (uint32_t i = 0; i < dim * 2; i += 128) {
            to_cache((const uint8_t *)token.blocks + at + i);
            to_cache((const uint8_t *)token.blocks + at + token.kv.kv_heads * head_bytes + i);
        }
    }
}

/* The streaming warp; its first lane does the work. */
__device__ void stream(const spi_cu_token &token, shared_state &shared, ring r) {
    uint32_t behind = 0, behind_round = 0, ahead = 0; /* the oldest stage that may not have landed */
    uint32_t lane = threadIdx.x % 32;
    for (uint32_t p = 0; p < token.phase_count; p++) {
        if (lane < sizeof(spi_cu_phase) / 16) {
            ((uint4 *)&shared.streamed)[lane] = __ldg((const uint4 *)(token.phases + p) + lane);
        }
        __syncwarp();
        const spi_cu_phase &phase = shared.streamed;
        uint32_t first = 0, end = 0;
        if (phase.kind == SPI_CU_PHASE_PRODUCT) {
            share(phase, first, end);
        }
        prefetch(token, phase, lane);
        const source from(phase);
        uint32_t step = tile_units(phase, end - first), unit_rows = phase.unit_rows;
        for (uint32_t unit = first; unit < end && lane == 0; unit += step) {
            uint32_t count = min(step, end - unit);
            if (ahead == token.stages_ahead) {
                barrier_wait(&shared.full[behind], behind_round & 1);
                behind = behind + 1 == token.stage_count ? 0 : behind + 1;
                behind_round += behind == 0;
                ahead--;
            }
            uint64_t *full = &shared.full[r.stage];
            uint8_t *to = r.stages + r.stage * token.stage_bytes;
            barrier_wait(&shared.empty[r.stage], (r.round & 1) ^ 1);
            barrier_expect(full, count * unit_rows * from.stride);
            from.copy(unit, count, to, full);
            if (unit_rows == 2) { /* the other part's same rows */
                from.copy(from.end[0] + unit, count, to + count * from.stride, full);
            }
            ahead++;
            r.step(token);
        }
        __syncwarp();
    }
}

/* Sums of `rows` values over the warp's lanes: of row i in lanes with bits 4 and 3 equal to i where there are four, bit
 * 4 where there are two. */
template <int rows> __device__ __forceinline__ float fold(float *v, uint32_t lane) {
    float sum = v[0];
    if (rows == 4) {
        bool high = lane & 16, middle = lane & 8;
        float a = (high ? v[2] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[2], 16);
        float b = (high ? v[3] : v[1]) + __shfl_xor_sync(0xffffffffu, high ? v[1] : v[3], 16);
        sum = (middle ? b : a) + __shfl_xor_sync(0xffffffffu, middle ? a : b, 8);
    } else if (rows == 2) {
        bool high = lane & 16;
        sum = (high ? v[1] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[1], 16);
        sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    } else {
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 1);
}

/* Rows first, first + step, ... of a tile (those behind its end are computed like its last and dropped), over the
 * columns that are this warp's. */
template <int type, int rows>
__device__ __forceinline__ void multiply_rows(const spi_cu_phase &phase, const shared_vector &vector,
                                              const uint8_t *tile, uint32_t first, uint32_t step, uint32_t count,
                                              uint32_t column_part, float (*slots)[4], uint32_t lane) {
    const uint8_t *row[rows];
    float sums[rows];
#pragma unroll
    for (int i = 0; i < rows; i++) {
        row[i] = tile + min(first + i * step, count - 1) * phase.stride;
        sums[i] = 0;
    }
    uint32_t chunk_count = phase.groups * 32 / chunks<type>::elements, pace = 32 * phase.column_split;
#pragma unroll(chunks <type>::elements == 8 ? 2 : 1)
    for (uint32_t chunk = column_part * 32 + lane; chunk < chunk_count; chunk += pace) {
        typename chunks<type>::taken x = chunks<type>::take(vector, chunk);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            sums[i] += chunks<type>::dot(row[i], phase.plane_bytes, chunk, x);
        }
    }
    float sum = fold<rows>(sums, lane);
    uint32_t mine = first + (rows == 4 ? lane / 8 : rows == 2 ? lane / 16 : 0) * step;
    if (lane % (32 / rows) == 0 && mine < count) {
        slots[mine][column_part] = sum;
    }
}

template <int type>
__device__ __forceinline__ void multiply_tile(const spi_cu_phase &phase, const shared_vector &vector,
                                              const uint8_t *tile, uint32_t count, uint32_t warp, float (*slots)[4],
                                              uint32_t lane) {
    uint32_t split = phase.column_split, sets = 4 / split, column_part = warp % split, set = warp / split;
    for (uint32_t first = set; first < count; first += 4 * sets) {
        uint32_t left = (count - first + sets - 1) / sets;
        if (left > 2) {
            multiply_rows<type, 4>(phase, vector, tile, first, sets, count, column_part, slots, lane);
        } else if (left == 2) {
            multiply_rows<type, 2>(phase, vector, tile, first, sets, count, column_part, slots, lane);
        } else {
            multiply_rows<type, 1>(phase, vector, tile, first, sets, count, column_part, slots, lane);
        }
    }
}

__device__ __forceinline__ float capped(float value, float scale, float cap) {
    value *= scale;
    return cap != 0 ? cap * tanhf(value / cap) : value;
}

__device__ __forceinline__ float activated(float x, bool silu) {
    float u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1 + __expf(-u));
}

/* The residual of the units that this lane will finish: asked for before the weights are there. */
__device__ __forceinline__ float residual(const spi_cu_phase &phase, uint32_t unit, bool wanted) {
    return wanted && phase.output == SPI_CU_OUTPUT_ADD ? __ldcg((const float *)phase.parts[0].dst + unit) : 0;
}

/* One lane's unit: its sums are put together and go where they belong. `factor` is that of the input's norm. */
__device__ __forceinline__ void finish(const spi_cu_token &token, const spi_cu_phase &phase, float (*slots)[4],
                                       uint32_t index, uint32_t count, uint32_t unit, float factor, float before) {
    float sum = 0, second = 0;
    for (uint32_t i = 0; i < phase.column_split; i++) {
        sum += slots[index][i];
        second += phase.unit_rows == 2 ? slots[count + index][i] : 0;
    }
    sum *= factor;
    second *= factor;
    if (phase.output == SPI_CU_OUTPUT_GATE) {
        const spi_cu_part &gate = phase.parts[0], &up = phase.parts[1];
        sum += gate.bias ? __ldg((const float *)gate.bias + unit) : 0;
        second += up.bias ? __ldg((const float *)up.bias + unit) : 0;
        ((float *)gate.dst)[unit] = activated(sum, phase.silu) * second;
        return;
    }
    uint32_t part = 0;
    while (part + 1 < phase.part_count && unit >= phase.parts[part].rows) {
        unit -= phase.parts[part++].rows;
    }
    sum += phase.parts[part].bias ? __ldg((const float *)phase.parts[part].bias + unit) : 0;
    if (phase.output == SPI_CU_OUTPUT_LOGITS) {
        ((float *)token.logits)[unit] = capped(sum, phase.scale, phase.softcap);
    } else {
        ((float *)phase.parts[part].dst)[unit] = sum + before;
    }
}

/* All of the block's tiles of a phase. `norm` gives the factor of the input's norm: it may not be known before the first
 * sums are. */
template <int type, class norm_factor>
__device__ void multiply(const spi_cu_token &token, const spi_cu_phase &phase, shared_state &shared,
                         const shared_vector &vector, ring &r, uint32_t &tile, norm_factor norm) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4, first, end;
    share(phase, first, end);
    uint32_t step = tile_units(phase, end - first);
    for (uint32_t unit = first; unit < end; unit += step, tile++) {
        if (tile % GROUPS == group) {
            uint32_t count = min(step, end - unit);
            float(*slots)[4] = shared.slots[tile / GROUPS & 1][group];
            bool finishes = warp % 4 == 0 && lane < count;
            float before = residual(phase, unit + lane, finishes);
            barrier_wait(&shared.full[r.stage], r.round & 1);
            multiply_tile<type>(phase, vector, r.stages + r.stage * token.stage_bytes, count * phase.unit_rows,
                                warp % 4, slots, lane);
            __syncwarp();
            if (lane == 0) {
                barrier_arrive(&shared.empty[r.stage]);
            }
            group_sync(group);
            if (finishes) {
                finish(token, phase, slots, lane, count, unit + lane, norm(), before);
            }
        }
        r.step(token);
    }
}

/* The input vector of a phase. Returns this thread's part of the sum of squares. */
__device__ float fill_vector(const spi_cu_token &token, const spi_cu_phase &phase, const shared_vector &vector,
                             bool quantised) {
    float squares = 0;
    uint32_t count = phase.groups * 8, real = phase.cols / 4;
    bool normed = phase.input == SPI_CU_INPUT_NORM;
    const float4 *from = (const float4 *)phase.src, *norm = (const float4 *)phase.norm_weight;
    for (uint32_t first = threadIdx.x; first < count;
         first += 4 * THREADS) { /* all that is asked for is on its way at once */
        float4 x[4], w[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t i = first + k * THREADS;
            x[k] = w[k] = make_float4(0, 0, 0, 0);
            if (i < real) {
                x[k] = __ldcg(from + i);
                if (normed) {
                    w[k] = __ldg(norm + i);
                }
            }
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t i = first + k * THREADS;
            if (i < count) { /* whole warps: groups are padded to 8 */
                if (normed) {
                    squares += x[k].x * x[k].x + x[k].y * x[k].y + x[k].z * x[k].z + x[k].w * x[k].w;
                    x[k] = make_float4(x[k].x * w[k].x, x[k].y * w[k].y, x[k].z * w[k].z, x[k].w * w[k].w);
                }
                put4(vector, quantised, i, x[k]);
            }
        }
    }
    return squares;
}

/* e^(from - to) of running maxima, of which the first is -infinity where nothing was seen. */
__device__ __forceinline__ float growth(float from, float to) {
    return from == -INFINITY ? 0 : __expf(from - to);
}

/* Puts the runs of each head's context together. */
__device__ void fill_attended(const spi_cu_token &token, const spi_cu_phase &phase, const shared_vector &vector,
                              bool quantised) {
    uint32_t shift = token.dim_shift, dim = 1u << shift, pitch = dim + 4, heads = phase.cols >> shift;
    for (uint32_t i = threadIdx.x; i < phase.groups * 8; i += THREADS) {
        float4 sum = make_float4(0, 0, 0, 0);
        if (4 * i < phase.cols) {
            const float *at = token.attended + (4 * i >> shift) * pitch;
            float largest = -INFINITY, total = 0;
            for (uint32_t first = 0; first < token.splits; first += 8) { /* nearly always once */
                float4 part[8];
                float2 seen[8]; /* a run's largest score, and its sum of weights */
                float now = largest;
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    seen[k] = make_float2(-INFINITY, 0);
                    part[k] = make_float4(0, 0, 0, 0);
                    if (first + k < token.splits) {
                        const float *run = at + (first + k) * heads * pitch;
                        seen[k] = __ldcg((const float2 *)(run + dim));
                        part[k] = __ldcg((const float4 *)(run + (4 * i & (dim - 1))));
                    }
                }
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    now = fmaxf(now, seen[k].x);
                }
                float old = growth(largest, now);
                total *= old, sum.x *= old, sum.y *= old, sum.z *= old, sum.w *= old;
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    float c = growth(seen[k].x, now);
                    total += c * seen[k].y;
                    sum.x += c * part[k].x, sum.y += c * part[k].y, sum.z += c * part[k].z, sum.w += c * part[k].w;
                }
                largest = now;
            }
            float inverse = 1 / total;
            sum = make_float4(sum.x * inverse, sum.y * inverse, sum.z * inverse, sum.w * inverse);
        }
        put4(vector, quantised, i, sum);
    }
}

__device__ void product(const spi_cu_token &token, const spi_cu_phase &phase, shared_state &shared, uint8_t *room,
                        ring &r, uint32_t &tile, uint32_t mark_index) {
    bool quantised = is_quantised(phase.type);
    shared_vector vector = make_vector(room, phase.groups * 32, quantised);
    if (phase.input != SPI_CU_INPUT_SAME) {
        if (phase.input == SPI_CU_INPUT_ATTENDED) {
            fill_attended(token, phase, vector, quantised);
        } else {
            float squares = warp_sum(fill_vector(token, phase, vector, quantised));
            if (threadIdx.x % 32 == 0) {
                shared.room[threadIdx.x / 32] = squares;
            }
        }
        all_sync();
    }
    mark(token, mark_index);
    float factor = 0; /* not known yet; afterwards it is positive */
    auto norm = [&] {
        if (factor == 0) {
            float squares = 0;
#pragma unroll
            for (int i = 0; i < WARPS; i++) {
                squares += shared.room[i];
            }
            factor = phase.normed ? rsqrtf(squares / phase.cols + phase.eps) : 1;
        }
        return factor;
    };
    switch (phase.type) {
    case SP_F16: multiply<SP_F16>(token, phase, shared, vector, r, tile, norm); break;
    case SP_BF16: multiply<SP_BF16>(token, phase, shared, vector, r, tile, norm); break;
#define MULTIPLY(type)                                                                                                 \
    case type: multiply<type>(token, phase, shared, vector, r, tile, norm); break;
        SPI_CU_QUANTISED(MULTIPLY)
#undef MULTIPLY
    }
}

__device__ __forceinline__ const uint8_t *kv_head(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t which,
                                                  uint32_t head) {
    uint64_t head_bytes = (uint64_t)64 * token.kv.head_dim * 2;
    return (const uint8_t *)token.blocks + phase.layer_bytes + (which * token.kv.kv_heads + head) * head_bytes;
}

/* A head's columns, one warp: normalised where the model does that, rotated, scaled. */
__device__ void prepare_head(const spi_cu_phase &phase, const float2 *turns, const float *from, const float *norm,
                             float eps, uint32_t dim, float scale, float *to, uint32_t lane) {
    float squares = 0;
    for (uint32_t i = lane; i < dim; i += 32) {
        float x = __ldcg(from + i);
        squares += x * x;
        to[i] = norm ? x * __ldg(norm + i) : x;
    }
    float factor = norm ? rsqrtf(warp_sum(squares) / dim + eps) : 1;
    __syncwarp();
    for (uint32_t i = lane; i < phase.pairs; i += 32) {
        uint32_t a = phase.halves ? i : 2 * i, b = phase.halves ? i + phase.pairs : 2 * i + 1;
        float2 turn = turns[i];
        float x = to[a] * factor, y = to[b] * factor;
        to[a] = (x * turn.x - y * turn.y) * scale;
        to[b] = (x * turn.y + y * turn.x) * scale;
    }
    for (uint32_t i = 2 * phase.pairs + lane; i < dim; i += 32) {
        to[i] *= factor * scale;
    }
}

/* The token's own K and V, rounded as blocks hold them, to the card's block and the guest's. */
__device__ void store_kv(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t head, float *k, float *v) {
    uint32_t dim = token.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < 2 * dim; i += THREADS) {
        uint32_t which = i / dim, column = i % dim;
        float *from = which ? v + column : k + column;
        __half value = __float2half_rn(*from);
        *from = __half2float(value);
        uint64_t at = token.position / 64 * token.kv.block_bytes + phase.layer_bytes +
                      (which * token.kv.kv_heads + head) * (uint64_t)64 * dim * 2 +
                      (token.position % 64 * dim + column) * 2;
        *(__half *)(token.blocks + at) = value;
        if (token.host_blocks) {
            *(__half *)(token.host_blocks + at) = value;
        }
    }
}

struct attended_part { /* eight columns of a head over some positions */
    float sums[8], largest, total;

    __device__ __forceinline__ void clear() {
        largest = -INFINITY;
        total = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] = 0;
        }
    }

    __device__ __forceinline__ void rescale(float now) {
        float old = growth(largest, now);
        total *= old;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] *= old;
        }
        largest = now;
    }

    __device__ __forceinline__ void merge_lane(int offset) {
        float other_largest = __shfl_xor_sync(0xffffffffu, largest, offset);
        float other_total = __shfl_xor_sync(0xffffffffu, total, offset), now = fmaxf(largest, other_largest);
        float mine = growth(largest, now), others = growth(other_largest, now);
        total = total * mine + other_total * others;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] = sums[j] * mine + __shfl_xor_sync(0xffffffffu, sums[j], offset) * others;
        }
        largest = now;
    }
};

/* A block attends with the query heads of one KV head over one run of blocks. Lanes in bunches of dim / 8 hold a
 * position; each warp has one query head. */
template <int dim>
__device__ void attend(const spi_cu_token &token, const spi_cu_phase &phase, shared_state &shared, uint8_t *room) {
    constexpr uint32_t bunch = dim / 8, at_once = 32 / bunch, unroll = 4;
    uint32_t group = phase.heads / token.kv.kv_heads, head = blockIdx.x % token.kv.kv_heads;
    uint32_t split = blockIdx.x / token.kv.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (split >= token.splits) {
        return;
    }
    float *q = (float *)room, *k = q + group * dim, *v = k + dim, *parts = v + dim;
    const float2 *turns = shared.turns[phase.turn];
    uint32_t begin = split * token.split_blocks * 64, end = min(token.position, (split + 1) * token.split_blocks * 64);
    bool last = split + 1 == token.splits;
    if (phase.window && token.position + 1 > phase.window) {
        begin = max(begin, token.position + 1 - phase.window);
    }
    for (uint32_t i = warp; i < group + 2; i += WARPS) {
        if (i < group) {
            prepare_head(phase, turns, (const float *)phase.src + (head * group + i) * dim, (const float *)phase.q_norm,
                         phase.eps, dim, phase.scale, q + i * dim, lane);
        } else if (i == group) {
            prepare_head(phase, turns, (const float *)phase.k + head * dim, (const float *)phase.k_norm, phase.k_eps,
                         dim, 1, k, lane);
        } else {
            for (uint32_t c = lane; c < dim; c += 32) {
                v[c] = __ldcg((const float *)phase.v + head * dim + c);
            }
        }
    }
    all_sync();
    if (last) {
        store_kv(token, phase, head, k, v);
        all_sync();
    }
    const uint8_t *keys = kv_head(token, phase, 0, head), *values = kv_head(token, phase, 1, head);
    uint32_t together = group >= 4 ? 4 : group >= 2 ? 2 : 1, warps_a_head = WARPS / together;
    uint32_t bunch_index = lane / bunch, column = lane % bunch * 8, pitch = dim + 4;
    for (uint32_t first_head = 0; first_head < group; first_head += together) {
        uint32_t h = first_head + warp / warps_a_head, part = warp % warps_a_head;
        attended_part mine;
        mine.clear();
        if (h < group) {
            float query[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                query[j] = q[h * dim + column + j];
            }
            uint32_t pace = warps_a_head * at_once;
            for (uint32_t base = begin + part * at_once; base < end; base += pace * unroll) {
                uint4 key[unroll], value[unroll];
#pragma unroll
                for (int i = 0; i < unroll; i++) {
                    uint32_t position = min(base + i * pace + bunch_index, end - 1);
                    uint64_t at = position / 64 * token.kv.block_bytes + (position % 64 * dim + column) * 2;
                    key[i] = __ldcg((const uint4 *)(keys + at));
                    value[i] = __ldcg((const uint4 *)(values + at));
                }
                float scores[unroll], now = mine.largest;
#pragma unroll
                for (int i = 0; i < unroll; i++) {
                    const __half2 *pairs = (const __half2 *)&key[i];
                    float sum = 0;
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        float2 pair = __half22float2(pairs[j]);
                        sum += query[2 * j] * pair.x + query[2 * j + 1] * pair.y;
                    }
#pragma unroll
                    for (int offset = 1; offset < bunch; offset <<= 1) {
                        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
                    }
                    sum = phase.softcap != 0 ? phase.softcap * tanhf(sum / phase.softcap) : sum;
                    scores[i] = base + i * pace + bunch_index < end ? sum : -INFINITY;
                    now = fmaxf(now, scores[i]);
                }
                if (now != -INFINITY) {
                    mine.rescale(now);
#pragma unroll
                    for (int i = 0; i < unroll; i++) {
                        const __half2 *pairs = (const __half2 *)&value[i];
                        float weight = __expf(scores[i] - now);
                        mine.total += weight;
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            float2 pair = __half22float2(pairs[j]);
                            mine.sums[2 * j] += weight * pair.x;
                            mine.sums[2 * j + 1] += weight * pair.y;
                        }
                    }
                }
            }
            if (last && part == 0) { /* the token itself, out of shared memory */
                float sum = 0;
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sum += query[j] * k[column + j];
                }
#pragma unroll
                for (int offset = 1; offset < bunch; offset <<= 1) {
                    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
                }
                sum = phase.softcap != 0 ? phase.softcap * tanhf(sum / phase.softcap) : sum;
                if (bunch_index == 0) {
                    float now = fmaxf(mine.largest, sum);
                    mine.rescale(now);
                    float weight = __expf(sum - now);
                    mine.total += weight;
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        mine.sums[j] += weight * v[column + j];
                    }
                }
                __syncwarp();
            }
#pragma unroll
            for (int offset = bunch; offset < 32; offset <<= 1) {
                mine.merge_lane(offset);
            }
            if (bunch_index == 0) {
                float *to = parts + warp * pitch;
                *(float4 *)(to + column) = make_float4(mine.sums[0], mine.sums[1], mine.sums[2], mine.sums[3]);
                *(float4 *)(to + column + 4) = make_float4(mine.sums[4], mine.sums[5], mine.sums[6], mine.sums[7]);
                if (column == 0) {
                    to[dim] = mine.largest;
                    to[dim + 1] = mine.total;
                }
            }
        }
        all_sync();
        for (uint32_t i = threadIdx.x; i < together * dim; i += THREADS) {
            uint32_t local = i / dim, c = i % dim;
            if (first_head + local < group) {
                const float *from = parts + local * warps_a_head * pitch;
                float largest = -INFINITY, total = 0, sum = 0;
                for (uint32_t w = 0; w < warps_a_head; w++) {
                    largest = fmaxf(largest, from[w * pitch + dim]);
                }
                for (uint32_t w = 0; w < warps_a_head; w++) {
                    float weight = growth(from[w * pitch + dim], largest);
                    total += weight * from[w * pitch + dim + 1];
                    sum += weight * from[w * pitch + c];
                }
                float *to =
                    token.attended + ((uint64_t)split * phase.heads + head * group + first_head + local) * pitch;
                to[c] = sum;
                if (c == 0) {
                    to[dim] = largest;
                    to[dim + 1] = total;
                }
            }
        }
        all_sync();
    }
}

/* The token's row of the embedding: each block puts it where the first phase looks for its input; they write the same. */
template <int type> __device__ void embed(const spi_cu_token &token) {
    const spi_cu_matrix &m = token.embedding;
    const uint8_t *row = (const uint8_t *)m.data + (uint64_t)token.token * m.stride;
    for (uint32_t group = threadIdx.x; group * 32 < m.cols; group += THREADS) {
        float w[32];
        weights<type>::load32(row, m, group, w);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            ((float4 *)token.x)[group * 8 + i] =
                make_float4(w[4 * i] * token.embedding_scale, w[4 * i + 1] * token.embedding_scale,
                            w[4 * i + 2] * token.embedding_scale, w[4 * i + 3] * token.embedding_scale);
        }
    }
}

__device__ void embed_any(const spi_cu_token &token) {
    switch (token.embedding.type) {
#define EMBED(type)                                                                                                    \
    case type: embed<type>(token); break;
        SPI_CU_TYPES(EMBED)
#undef EMBED
    }
}

/* The next phase's description is asked for at a phase's start and put down at its end, by the last warp. */
struct phase_fetch {
    static constexpr uint32_t words = sizeof(spi_cu_phase) / 16;
    uint4 word;

    __device__ __forceinline__ void ask(const spi_cu_token &token, uint32_t index) {
        static_assert(words <= 32, "one warp copies a phase");
        uint32_t i = threadIdx.x - (THREADS - 32);
        if (i < words && index < token.phase_count) {
            word = __ldg((const uint4 *)(token.phases + index) + i);
        }
    }

    __device__ __forceinline__ void put(shared_state &shared, uint32_t index) {
        uint32_t i = threadIdx.x - (THREADS - 32);
        if (i < words) {
            ((uint4 *)&shared.phases[index & 1])[i] = word;
        }
    }
};
#endif

KERNEL __launch_bounds__(THREADS + 32, 1) decode(const __grid_constant__ spi_cu_token token) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(128) uint8_t memory[];
    __shared__ shared_state shared;
    uint8_t *room = memory;
    ring r = {memory + token.vector_bytes, 0, 0};
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < token.stage_count; i++) {
            barrier_init(&shared.full[i], 1);
            barrier_init(&shared.empty[i], 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x / 32 == WARPS) {
        stream(token, shared, r);
        return;
    }
    phase_fetch fetch;
    fetch.ask(token, 0);
    fetch.put(shared, 0);
    for (uint32_t i = threadIdx.x; i < SPI_CU_TURNS_MAX * SPI_CU_PAIRS_MAX; i += THREADS) {
        (&shared.turns[0][0])[i] = ((const float2 *)token.turns)[i];
    }
    uint32_t target = token.barrier_start, tile = 0;
    embed_any(token);
    __threadfence();
    all_sync();
    for (uint32_t p = 0; p < token.phase_count; p++) {
        const spi_cu_phase &phase = shared.phases[p & 1];
        fetch.ask(token, p + 1);
        mark(token, 3 * p);
        if (phase.kind == SPI_CU_PHASE_PRODUCT) {
            product(token, phase, shared, room, r, tile, 3 * p + 1);
        } else if (token.kv.head_dim == 64) {
            attend<64>(token, phase, shared, room);
        } else if (token.kv.head_dim == 128) {
            attend<128>(token, phase, shared, room);
        } else {
            attend<256>(token, phase, shared, room);
        }
        mark(token, 3 * p + 2);
        fetch.put(shared, p + 1);
        if (phase.barrier) {
            grid_sync(token, target);
        } else {
            all_sync();
        }
    }
    mark(token, 3 * token.phase_count);
#endif
}
