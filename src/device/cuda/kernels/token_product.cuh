/* device/cuda/kernels/token_product.cuh - a phase of products, for the kernel that computes a token in one launch.
 *
 * All warps of a block put the phase's input vector into shared memory, from which each takes its part into registers:
 * long rows are shared by a set of two to sixteen warps. A set goes through the ring's stages, multiplies with its rows
 * and adds four of them up over lanes. The sums are left in shared memory, where a thread for each unit of rows sees to
 * what becomes of them; but for logits, which are many: those go where they belong at once. May include: likeliest.cuh,
 * ring.cuh, token_input.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_TOKEN_PRODUCT_CUH
#define SPI_DEVICE_CUDA_KERNELS_TOKEN_PRODUCT_CUH

#include "device/cuda/kernels/likeliest.cuh"
#include "device/cuda/kernels/ring.cuh"
#include "device/cuda/kernels/token_input.cuh"

#define ROWS       4u /* that a warp adds up at once */
#define WARPS_LOG2 4u

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void all_sync() { /* of the warps that multiply */
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

/* Sums of four values over the warp's lanes: of value i in lanes with bits 4 and 3 equal to i. */
__device__ __forceinline__ float fold(const float *v, uint32_t lane) {
    bool high = lane & 16, middle = lane & 8;
    float a = (high ? v[2] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[2], 16);
    float b = (high ? v[3] : v[1]) + __shfl_xor_sync(0xffffffffu, high ? v[1] : v[3], 16);
    float sum = (middle ? b : a) + __shfl_xor_sync(0xffffffffu, middle ? a : b, 8);
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 1);
}

/* A warp's part of the input vector, and of each row: in registers, whole for any row. */
template <int type, int pieces> struct slice {
    typedef chunks<type> kind;
    uint32_t chunk[pieces], planes[SPI_CU_PLANES];
    typename kind::taken x[pieces];

    __device__ __forceinline__ slice(const spi_cu_phase &phase, uint32_t index, uint32_t lane) {
        uint32_t count = phase.groups * 32 / kind::elements;
#pragma unroll
        for (uint32_t i = 0; i < SPI_CU_PLANES; i++) {
            planes[i] = phase.plane_bytes[i];
        }
#pragma unroll
        for (int j = 0; j < pieces; j++) {
            chunk[j] = min((index * pieces + j) * 32 + lane, count - 1);
        }
    }

    __device__ __forceinline__ void take(const spi_cu_phase &phase, const shared_vector &vector, uint32_t index,
                                         uint32_t lane) {
        uint32_t count = phase.groups * 32 / kind::elements;
#pragma unroll
        for (int j = 0; j < pieces; j++) {
            x[j] = kind::take(vector, chunk[j]);
        }
        if ((index + 1) * pieces * 32 > count) { /* what is behind a row's end is its last piece times nothing */
#pragma unroll
            for (int j = 0; j < pieces; j++) {
                if ((index * pieces + j) * 32 + lane >= count) {
                    x[j].clear();
                }
            }
        }
    }

    __device__ __forceinline__ float dot(const uint8_t *row) const {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < pieces; j++) {
            sum += kind::dot(row, planes, chunk[j], x[j]);
        }
        return sum;
    }

    /* Of two rows: one's instructions fill the gaps between the other's. */
    __device__ __forceinline__ void dot_both(const uint8_t *row, const uint8_t *other, float &sum,
                                             float &second) const {
        sum = second = 0;
#pragma unroll
        for (int j = 0; j < pieces; j++) {
            sum += kind::dot(row, planes, chunk[j], x[j]);
            second += kind::dot(other, planes, chunk[j], x[j]);
        }
    }
};

__device__ __forceinline__ float capped(float value, float scale, float cap) {
    value *= scale;
    return cap != 0 ? cap * tanhf(value / cap) : value;
}

__device__ __forceinline__ float activated(float x, bool silu) {
    float u = silu ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return __fdividef(x, 1 + e_to(-u));
}

__device__ __forceinline__ float biased(float sum, const spi_cu_part &part, uint32_t row) {
    return part.bias ? sum + __ldg((const float *)part.bias + row) : sum;
}

/* A unit's sums go where they belong. */
__device__ __forceinline__ void finish(const token_step &step, const spi_cu_phase &phase, float sum, float second,
                                       uint32_t unit, float before) {
    if (phase.output == SPI_CU_OUTPUT_GATE) {
        sum = activated(biased(sum, phase.parts[0], unit), phase.silu) * biased(second, phase.parts[1], unit);
        publish((float *)phase.parts[0].dst + unit, sum, step.tag_of(phase.parts[0].tag));
        return;
    }
    uint32_t part = 0;
    while (part + 1 < phase.part_count && unit >= phase.parts[part].rows) {
        unit -= phase.parts[part++].rows;
    }
    publish((float *)phase.parts[part].dst + unit, biased(sum, phase.parts[part], unit) + before,
            step.tag_of(phase.parts[part].tag));
}

__device__ __forceinline__ void finish_logit(const spi_cu_token &token, const token_step &step,
                                             const spi_cu_phase &phase, float sum, uint32_t row, likeliest &best) {
    float logit = capped(biased(sum, phase.parts[0], row), phase.scale, phase.softcap);
    (step.last ? (float *)token.logits : token.row)[row] = logit;
    best.consider(cleaned(logit), row);
}

/* Where warps that share rows put their sums: of a batch of rows, and of the one before. */
typedef float exchange[2][WARPS][ROWS];

/* One of the warps that share rows gets all their sums, as fold() leaves them. */
__device__ __forceinline__ float gather(exchange &room, uint32_t batch, uint32_t slices_log2, float sum,
                                        uint32_t lane) {
    uint32_t warp = threadIdx.x / 32, slices = 1u << slices_log2, set = warp >> slices_log2;
    float(*at)[ROWS] = room[batch & 1] + (set << slices_log2);
    if (lane % 8 == 0) {
        at[warp & (slices - 1)][lane / 8] = sum;
    }
    asm volatile("bar.sync %0, %1;" ::"r"(2 + set), "r"(32u << slices_log2) : "memory");
    if (warp & (slices - 1)) {
        return 0;
    }
    uint32_t from = lane % 8;
    float all = from < slices ? at[from][lane / 8] : 0;
    all += from + 8 < slices ? at[from + 8][lane / 8] : 0;
    all += __shfl_xor_sync(0xffffffffu, all, 4);
    all += __shfl_xor_sync(0xffffffffu, all, 2);
    return all + __shfl_xor_sync(0xffffffffu, all, 1);
}

/* Which units of a phase a warp multiplies with, and which of their sums a lane finishes. Warps are dealt out in sets
 * that share rows; sets take units in turn, and add up four rows at once: of a batch, the last row is in lanes 24 and
 * up. */
struct placement {
    uint32_t first, count; /* the block's units */
    uint32_t set, sets_log2, index, lane, per_unit_log2;

    __device__ __forceinline__ explicit placement(const spi_cu_phase &phase) {
        const share mine(phase);
        uint32_t warp = threadIdx.x / 32, slices_log2 = phase.slices_log2;
        first = mine.first, count = mine.count;
        index = warp & ((1u << slices_log2) - 1);
        set = warp >> slices_log2, sets_log2 = WARPS_LOG2 - slices_log2;
        lane = threadIdx.x % 32;
        per_unit_log2 = phase.unit_rows - 1;
    }

    /* How many units behind the batch's first this lane's is, of a batch with so many. Negative: none. */
    __device__ __forceinline__ int own(uint32_t units) const {
        return (int)(lane / 8 >> per_unit_log2) + (int)units - (int)(4 >> per_unit_log2);
    }

    /* Sets take neighbouring units where there are many, so that results are written side by side: logits go over a
     * bus. */
    __device__ __forceinline__ uint32_t pitch() const {
        return count >= 32u << sets_log2 ? 1 : 1u << sets_log2;
    }

    __device__ __forceinline__ uint32_t start() const {
        return pitch() == 1 ? set * (4u >> per_unit_log2) : set;
    }

    __device__ __forceinline__ bool finishes() const {
        return !index && lane % (8u << per_unit_log2) == 0;
    }
};

/* What the input's norm still wants. By whole warps. */
__device__ __forceinline__ float norm_factor(const spi_cu_phase &phase, const float *squares) {
    uint32_t lane = threadIdx.x % 32;
    if (!phase.normed) {
        return 1;
    }
    float sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < THREADS / 128; i++) {
        const float4 some = ((const float4 *)squares)[lane + i * 32];
        sum += (some.x + some.y) + (some.z + some.w);
    }
    return rsqrtf(warp_sum(sum) * phase.inverse_cols + phase.eps);
}

/* What the sum of a unit is added to: it was input before, so it is there. */
__device__ __forceinline__ float residual(const spi_cu_phase &phase, const placement &place, uint32_t unit) {
    bool adds = phase.output == SPI_CU_OUTPUT_ADD && unit < place.count;
    return adds ? cleared(ask((const float *)phase.residual + place.first + unit)) : 0;
}

/* The block's share of a phase of logits, which are many: they go where they belong at once. */
template <int type, int pieces>
__device__ __forceinline__ void multiply_head(const spi_cu_token &token, const token_step &step,
                                              const spi_cu_phase &phase, const placement &place,
                                              const slice<type, pieces> &input, const float *squares, ring_reader &ring,
                                              exchange &room, likeliest *bests) {
    likeliest best = {-INFINITY, 0};
    const uint32_t stride = phase.stride, stage_units = phase.stage_units, sets = 1u << place.sets_log2;
    const uint32_t pitch = place.pitch();
    const float factor = norm_factor(phase, squares);
    uint32_t unit = place.start(), from = unit, units = 0, batch = 0; /* of the batch: its first unit, how many */
    float v[ROWS] = {0, 0, 0, 0};
#pragma unroll 1
    for (uint32_t first = 0; first < place.count; first += stage_units) {
        const uint32_t end = min(first + stage_units, place.count);
        const uint8_t *stage = ring.open();
#pragma unroll 1
        while (unit < end) {
            const uint8_t *row = stage + (unit - first) * stride;
            if (unit + pitch < end && units + 2 <= ROWS) {
                v[0] = v[2], v[1] = v[3];
                input.dot_both(row, row + pitch * stride, v[2], v[3]);
                unit += 2 * pitch;
                units += 2;
            } else {
                v[0] = v[1], v[1] = v[2], v[2] = v[3];
                v[3] = input.dot(row);
                unit += pitch, units++;
            }
            if (units == ROWS || unit >= place.count) {
                float sum = fold(v, place.lane);
                int own = place.own(units);
                uint32_t of = from + (uint32_t)own * pitch;
                sum = place.sets_log2 < WARPS_LOG2 ? gather(room, batch, WARPS_LOG2 - place.sets_log2, sum, place.lane)
                                                   : sum;
                if (place.finishes() && own >= 0) {
                    finish_logit(token, step, phase, sum * factor, place.first + of, best);
                }
                unit = from += ROWS * sets;
                units = 0, batch++;
            }
        }
        ring.close();
    }
    ring.leave();
    best.over_warp();
    if (place.lane == 0) {
        bests[threadIdx.x / 32] = best;
    }
}

/* How a warp goes through its rows of a phase: places are kept in bytes and go on with the rows. All of it is known
 * before the input is, and is asked to be there by then. */
struct walk {
    uint32_t at, left, most,
        step; /* in the ring's stages, where a set's next row begins; bytes of the phase; of a stage; to the next */
    uint32_t to, units,
        last; /* in shared memory, where the sum of this lane's row goes, of four that are added up at once */
    bool paired;

    __device__ __forceinline__ walk(const spi_cu_phase &phase, const placement &place, const float *sums) {
        const uint32_t row = place.lane / 8, per_unit_log2 = place.per_unit_log2;
        paired = per_unit_log2;
        at = place.set * phase.stride, left = place.count * phase.stride;
        most = phase.stage_units * phase.stride, step = phase.stride << place.sets_log2;
        units = 4u << (place.sets_log2 + per_unit_log2);
        const uint32_t back = paired ? (row < 2 ? units : 0) + 4 - (row & 1) * 4 : (3 - row) * units;
        to = address_of(sums + ((place.index * place.count + place.set) << per_unit_log2) + per_unit_log2) - back -
             units;
        last = place.lane % 8 ? 0 : row + 1; /* with so many rows left at the end it has none of them */
        asm volatile("" : "+r"(at), "+r"(left), "+r"(most), "+r"(step), "+r"(to), "+r"(units), "+r"(last));
    }

    __device__ __forceinline__ void leave(float sum) const {
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(sum) : "memory");
    }
};

/* The block's share of another phase: rows' sums go to `sums`, [slices][rows]. A phase is short, so what is done for
 * each row beside multiplying counts. */
template <int type, int pieces>
__device__ __forceinline__ void multiply(walk &way, const slice<type, pieces> &input, ring_reader &ring) {
    uint32_t rows = 0;
    float v[ROWS] = {0, 0, 0, 0};
#pragma unroll 1
    while (way.left) {
        const uint32_t bytes = min(way.most, way.left);
        const uint8_t *stage = ring.open();
#pragma unroll 1
        for (; way.at < bytes; way.at += way.step) {
            way.to += way.units;
            if (way.paired) {
                v[0] = v[2], v[1] = v[3];
                input.dot_both(stage + way.at, stage + way.at + bytes, v[2], v[3]);
                rows += 2;
            } else {
                v[0] = v[1], v[1] = v[2], v[2] = v[3];
                v[3] = input.dot(stage + way.at);
                rows++;
            }
            if (rows == ROWS) {
                const float sum = fold(v, threadIdx.x % 32);
                if (way.last) {
                    way.leave(sum);
                }
                rows = 0;
            }
        }
        way.at -= bytes, way.left -= bytes;
        ring.close();
    }
    ring.leave();
    if (rows) {
        const float sum = fold(v, threadIdx.x % 32);
        if (way.last + rows > ROWS) {
            way.leave(sum);
        }
    }
}

/* Units' sums go where they belong, once all warps have left theirs: a thread has a unit. */
__device__ __forceinline__ void finish_units(const token_step &step, const spi_cu_phase &phase, const placement &place,
                                             float factor, const float *sums, float before) {
    const uint32_t rows = place.count << place.per_unit_log2, slices = 1u << (WARPS_LOG2 - place.sets_log2);
#pragma unroll 1
    for (uint32_t own = threadIdx.x; (own & ~31u) < place.count; own += THREADS) { /* whole warps */
        const uint32_t unit = min(own, place.count - 1);
        const bool there = own == unit;
        float sum = 0, second = 0;
#pragma unroll 4
        for (uint32_t i = 0; i < slices; i++) {
            const float *from = sums + i * rows + (unit << place.per_unit_log2);
            sum += from[0];
            second += from[place.per_unit_log2];
        }
        if (phase.packs) { /* whole warps */
            sum = activated(biased(sum * factor, phase.parts[0], place.first + unit), phase.silu) *
                  biased(second * factor, phase.parts[1], place.first + unit);
            publish_packed((uint4 *)phase.parts[0].dst + (place.first + unit) / 32 * PACKED_PARTS, sum,
                           step.tag_of(phase.parts[0].tag));
            continue;
        }
        before = own == threadIdx.x ? before : residual(phase, place, unit);
        if (phase.narrow) { /* whole fours */
            sum = cleared(biased(sum * factor, phase.parts[0], place.first + unit) + before);
            if (there) {
                ((float *)phase.parts[0].dst)[place.first + unit] = sum;
            }
            const uint2 words = gather_narrow(sum * (1.0f / SPI_CU_NARROWED));
            if (threadIdx.x % 4 == 0 && there) {
                publish_narrow((uint2 *)phase.left_narrow + (place.first + unit) / 4, words,
                               step.tag_of(phase.parts[0].tag));
            }
            continue;
        }
        if (there) {
            finish(step, phase, sum * factor, second * factor, place.first + unit, before);
        }
    }
}

__device__ __forceinline__ uint64_t time_ns() {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/* Marks are for measuring, and are compiled in when they are wanted only (SAMEPAGE_CUDA_MARKS): asking whether they are
 * costs registers that products lack. */
#ifdef SPI_CU_MARKS
#define MARKS(token) ((token).clocks != NULL)
#else
#define MARKS(token) false
#endif

/* Where all blocks stand in one of the phases. */
__device__ __forceinline__ void mark_block(const spi_cu_token &token, uint32_t phase, uint32_t index) {
    if (MARKS(token) && phase == token.marked && threadIdx.x == 0) {
        token.clocks[3 * token.phase_count + 1 + 2 * blockIdx.x + index] = (long long)time_ns();
    }
}

/* When the first block began and ended. */
__device__ __forceinline__ void mark_time(const spi_cu_token &token, uint32_t index) {
    if (MARKS(token) && blockIdx.x == 0 && threadIdx.x == 0) {
        token.clocks[3 * token.phase_count + 1 + 2 * gridDim.x + index] = (long long)time_ns();
    }
}

/* When the first block's first thread got somewhere. */
__device__ __forceinline__ void mark(const spi_cu_token &token, uint32_t index) {
    if (MARKS(token) && blockIdx.x == 0 && threadIdx.x == 0) {
        token.clocks[index] = clock64();
    }
}

template <int type>
__device__ __forceinline__ void product(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                        float *squares, uint8_t *room, ring_state &stages, const uint8_t *bytes,
                                        exchange &sums, likeliest *bests, uint32_t mark_index) {
    constexpr bool quantised = is_quantised(type);
    shared_vector vector = make_vector(room, phase.groups * 32, quantised);
    const placement place(phase);
    float before = residual(phase, place, threadIdx.x), factor = 1;
    /* All that can be known before the input is: who waits for it has time. */
    constexpr int pieces = SPI_CU_SLICE_ELEMENTS(type) / 32 / chunks<type>::elements;
    slice<type, pieces> input(phase, place.index, place.lane);
    walk way(phase, place, (const float *)(room + token.sums_byte));
    ring_reader ring(stages, bytes, token);
    if (phase.input != SPI_CU_INPUT_SAME) {
        float sum = 0;
        if (phase.joins && step.joins) {
            fill_joined<quantised>(token, step, phase, vector);
        } else if (quantised && phase.unpacks) {
            fill_packed(step, phase, vector);
        } else {
            sum = quantised ? fill_rounded(step, phase, vector) : fill_vector(step, phase, vector);
        }
        if (phase.normed) {
            squares[threadIdx.x] = sum;
        }
        all_sync();
    }
    mark(token, mark_index);
    input.take(phase, vector, place.index, place.lane);
    float *left = (float *)(room + token.sums_byte);
    if (phase.output == SPI_CU_OUTPUT_LOGITS) {
        multiply_head<type, pieces>(token, step, phase, place, input, squares, ring, sums, bests);
    } else {
        const bool finishes = threadIdx.x / 32 * 32 < place.count; /* its warp finishes units */
        if (quantised && finishes) { /* in time that it has: plain types lack registers meanwhile */
            factor = norm_factor(phase, squares);
        }
        multiply<type, pieces>(way, input, ring);
        if (!quantised && finishes) {
            factor = norm_factor(phase, squares);
        }
        all_sync();
        finish_units(step, phase, place, factor, left, before);
    }
}
#endif

#endif
