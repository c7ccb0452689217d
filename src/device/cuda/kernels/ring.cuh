/* device/cuda/kernels/ring.cuh - weights on their way through shared memory, for the kernel that computes a token in
 * one launch (decode.cu).
 *
 * The ring has stages of one size, each with a pair of barriers: as many rows of a matrix as fit, or K and V of some
 * positions. All warps that multiply pass through all stages and take what is theirs. The streaming warp waits for room
 * and, so that not too many bytes are on their way at once, for older stages to land: with the whole ring in flight
 * every other load of the card queues behind it for microseconds. Only where the warps have little left may more be on
 * their way.
 *
 * Needs bulk copies (compute capability 9.0). May include: decode_args.h, common.cuh, tagged.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_RING_CUH
#define SPI_DEVICE_CUDA_KERNELS_RING_CUH

#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/decode_args.h"
#include "device/cuda/kernels/kv.cuh"
#include "device/cuda/kernels/tagged.cuh"

#define WARPS   SPI_CU_DECODE_WARPS
#define THREADS (WARPS * 32) /* that multiply */

/* Behind a context whose runs blocks put together all rings are empty at once, and what they would have on their way
 * keeps these blocks waiting: so many stages come one by one. */
#define CALM_STAGES 6u

struct ring_state { /* in shared memory */
    uint64_t full[SPI_CU_STAGES_MAX], empty[SPI_CU_STAGES_MAX];
    uint32_t begun;         /* tokens of this launch that the block has begun with, but for the first */
    uint32_t ended;         /* not 0: no more stages are wanted */
    uint32_t places[WARPS]; /* of the warps that multiply: the next stage, and above it the parity of its barrier */
};

__device__ __forceinline__ void shared_store(uint32_t *to, uint32_t value) {
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "r"(value)
                 : "memory");
}

__device__ __forceinline__ uint32_t shared_load(const uint32_t *from) {
    uint32_t value;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];"
                 : "=r"(value)
                 : "r"((uint32_t)__cvta_generic_to_shared(from))
                 : "memory");
    return value;
}

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

__device__ __forceinline__ bool barrier_passed(uint64_t *barrier, uint32_t parity) {
    uint32_t passed;
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, done;\n"
                 "}\n"
                 : "=r"(passed)
                 : "r"(address_of(barrier)), "r"(parity)
                 : "memory");
    return passed;
}

__device__ __forceinline__ bool barrier_is_passed(uint64_t *barrier, uint32_t parity) {
    uint32_t passed;
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, done;\n"
                 "}\n"
                 : "=r"(passed)
                 : "r"(address_of(barrier)), "r"(parity)
                 : "memory");
    return passed;
}

/* Policies of the second-level cache, as createpolicy.fractional makes them: what is read once for each token makes
 * room before what blocks hand to each other does; a short context stays from token to token. */
#define EVICT_FIRST  0x12f0000000000000ull
#define EVICT_NORMAL 0x1000000000000000ull

__device__ __forceinline__ void bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *barrier,
                                          uint64_t policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(address_of(to)),
        "l"(from), "r"(bytes), "r"(address_of(barrier)), "l"(policy)
        : "memory");
}

__device__ __forceinline__ void ring_init(ring_state &ring, uint32_t stages) {
    for (uint32_t i = 0; i < stages; i++) {
        barrier_init(&ring.full[i], 1);
        barrier_init(&ring.empty[i], WARPS);
    }
    for (uint32_t i = 0; i < WARPS; i++) {
        ring.places[i] = 0;
    }
    ring.begun = ring.ended = 0;
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* The block's units of a phase. */
struct share {
    uint32_t first, count;

    __device__ __forceinline__ explicit share(const spi_cu_phase &phase) {
        uint32_t block = blockIdx.x + phase.shift;
        block -= block >= gridDim.x ? gridDim.x : 0;
        first = phase.units_each * block + min(block, phase.units_extra) << phase.deal_log2;
        count = phase.units_each + (block < phase.units_extra) << phase.deal_log2;
    }
};

/* The ring as the warps that multiply see it, for a phase: all of them pass through all stages. */
struct ring_reader {
    ring_state &state;
    const uint8_t *bytes;
    const spi_cu_token &token;
    uint32_t slot, parity;

    __device__ __forceinline__ ring_reader(ring_state &ring, const uint8_t *ring_bytes, const spi_cu_token &all)
        : state(ring), bytes(ring_bytes), token(all) {
        uint32_t place = ring.places[threadIdx.x / 32];
        slot = place & 0xffff, parity = place >> 16;
    }

    __device__ __forceinline__ const uint8_t *open() const {
        barrier_wait(&state.full[slot], parity);
        return bytes + slot * token.stage_bytes;
    }

    __device__ __forceinline__ void close() {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            barrier_arrive(&state.empty[slot]);
        }
        advance();
    }

    /* Of so many stages that the warp reads nothing of as many as it may pass at once, each by a lane; how many they
     * were. When the last of them is there all were asked for, so that the others' places were free before. And before
     * the warp comes to one of these places again it waits for a stage that is asked for when these are there, as no
     * more are on their way: so it does not take them for the next ones. */
    __device__ __forceinline__ uint32_t pass(uint32_t stages) {
        const uint32_t count = token.stage_count, on_way = min(max(token.flight_most, token.kv_flight), count - 1);
        stages = min(min(stages, max(count / 2, 1u)), min(count - on_way, 32u));
        const uint32_t last = slot + stages - 1, mine = slot + threadIdx.x % 32;
        barrier_wait(&state.full[last < count ? last : last - count], last < count ? parity : parity ^ 1);
        if (threadIdx.x % 32 < stages) {
            barrier_arrive(&state.empty[mine < count ? mine : mine - count]);
        }
        slot += stages;
        if (slot >= count) {
            slot -= count;
            parity ^= 1;
        }
        return stages;
    }

    __device__ __forceinline__ void advance() {
        slot++;
        if (slot == token.stage_count) {
            slot = 0;
            parity ^= 1;
        }
    }

    /* At the phase's end. */
    __device__ __forceinline__ void leave() {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            state.places[threadIdx.x / 32] = slot | parity << 16;
        }
        __syncwarp();
    }
};

/* The streaming warp's view of the ring, the same in all its lanes. */
struct ring_writer {
    uint32_t stage_count, flight, flight_most, slot, parity;
    uint32_t landing, landing_parity, on_way; /* the oldest stage that is on its way, and how many are */
    uint32_t calm;                            /* of so many stages no more than `flight` are on their way */
    bool measures;
    long long waited_for_room, waited_for_landing;

    __device__ __forceinline__ explicit ring_writer(const spi_cu_token &token)
        : stage_count(token.stage_count), flight(token.flight), flight_most(token.flight_most), slot(0), parity(1),
          landing(0), landing_parity(0), on_way(0), calm(0), measures(token.clocks), waited_for_room(0),
          waited_for_landing(0) {
    }

    __device__ __forceinline__ void land(ring_state &ring) {
        barrier_wait(&ring.full[landing], landing_parity);
        landing++, on_way--;
        if (landing == stage_count) {
            landing = 0;
            landing_parity ^= 1;
        }
    }

    /* For the next stage to be free. False: it is not wanted any more. */
    __device__ __forceinline__ bool wait(ring_state &ring) {
        long long start = measures ? clock64() : 0;
        while (!barrier_passed(&ring.empty[slot], parity)) {
            if (shared_load(&ring.ended)) {
                return false;
            }
        }
        long long middle = measures ? clock64() : 0;
        uint32_t half = slot + stage_count / 2;
        bool hungry = barrier_is_passed(&ring.empty[half < stage_count ? half : half - stage_count],
                                        half < stage_count ? parity : parity ^ 1);
        while (on_way >= (hungry && !calm ? flight_most : flight)) {
            land(ring);
        }
        if (measures) {
            waited_for_room += middle - start, waited_for_landing += clock64() - middle;
        }
        return true;
    }

    __device__ __forceinline__ void next() {
        on_way++, slot++;
        calm -= calm > 0;
        if (slot == stage_count) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* What a lane of the streaming warp copies of each stage: the rows that are of one part. */
struct source {
    const uint8_t *data;
    uint32_t begin, end, stride, behind; /* behind: rows of the first part precede it in a stage */

    __device__ __forceinline__ source(const spi_cu_phase &phase, uint32_t lane)
        : data(NULL), begin(0), end(0), stride(phase.stride), behind(0) {
        uint32_t at = 0;
        for (uint32_t i = 0; i < phase.part_count && i <= lane; i++) {
            data = (const uint8_t *)phase.parts[i].data;
            begin = at;
            at += phase.parts[i].rows;
            end = at;
        }
        if (phase.unit_rows == 2) {
            end = lane < 2 ? phase.unit_count : 0;
            begin = 0;
            behind = lane;
        } else if (lane >= phase.part_count) {
            end = 0;
        }
    }

    __device__ __forceinline__ void copy(uint32_t first, uint32_t count, uint8_t *to, uint64_t *full) const {
        uint32_t low = max(first, begin), high = min(first + count, end);
        if (low < high) {
            bulk_copy(to + (low - first + behind * count) * stride, data + (uint64_t)(low - begin) * stride,
                      (high - low) * stride, full, EVICT_FIRST);
        }
    }
};

/* All of the block's weights of a phase, by one warp, of which some lanes copy a part each. */
__device__ __forceinline__ bool stream_phase(const spi_cu_phase &phase, ring_state &ring, uint8_t *bytes,
                                             uint32_t stage_bytes, ring_writer &writer, uint32_t lane) {
    const share mine(phase);
    const source from(phase, lane);
    uint32_t unit_bytes = phase.unit_rows * phase.stride, each = phase.stage_units;
    for (uint32_t done = 0; done < mine.count; done += each) {
        uint32_t count = min(each, mine.count - done);
        if (!writer.wait(ring)) {
            return false;
        }
        if (lane == 0) {
            barrier_expect(&ring.full[writer.slot], count * unit_bytes);
        }
        if (lane < SPI_CU_PARTS_MAX) {
            from.copy(mine.first + done, count, bytes + writer.slot * stage_bytes, &ring.full[writer.slot]);
        }
        writer.next();
    }
    return true;
}

/* The positions before the token that a block attends to: they come through the ring from `first` on. */
struct kv_run {
    uint32_t begin, first, end;

    __device__ __forceinline__ kv_run(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase) {
        const uint32_t positions = step.split_positions;
        begin = step.split * positions;
        end = step.split < step.splits ? min(step.position, begin + positions) : 0;
        if (phase.window && step.position + 1 > phase.window) {
            begin = max(begin, step.position + 1 - phase.window);
        }
        first = begin & ~((1u << token.kv_group_log2) - 1);
    }
};

/* For the rows of this launch's tokens before this one: their blocks have said that they are written before this block
 * began with the token. False: no more are wanted. */
__device__ __forceinline__ bool wait_for_rows(const token_step &step, ring_state &ring) {
    while (shared_load(&ring.begun) < step.index) {
        if (shared_load(&ring.ended)) {
            return false;
        }
    }
    asm volatile("fence.acq_rel.gpu;\nfence.proxy.async;" ::: "memory");
    return true;
}

/* In a stage K's rows come first, then V's, both in four groups of as many positions that lie a quarter of shared
 * memory's banks further on each, for tiles of positions out of all four (token_attention.cuh). Where a position is in
 * its part, and how long a part is: */
#define KV_SHIFT_BYTES 32u

__device__ __forceinline__ uint32_t kv_byte(uint32_t position, uint32_t row_bytes, uint32_t group_log2) {
    return position * row_bytes + (position >> group_log2) * KV_SHIFT_BYTES;
}

template <bool q8> __device__ __forceinline__ uint32_t kv_part_bytes(const spi_cu_token &token) {
    return token.kv_stage * kv_row_bytes<q8>(token.kv.head_dim) + 4 * KV_SHIFT_BYTES;
}

/* Of so many rows' scales, which lie behind both parts, K's and then V's. */
__device__ __forceinline__ uint32_t kv_scale_bytes(uint32_t dim, uint32_t rows) {
    return rows * (dim / 16);
}

/* Rows of K and V, as many positions in a stage as fit, which divide a block's. */
template <bool q8>
__device__ __forceinline__ bool stream_kv(const spi_cu_token &token, const token_step &step, const spi_cu_phase &phase,
                                          ring_state &ring, uint8_t *bytes, ring_writer &writer, uint32_t lane) {
    const kv_run run(token, step, phase);
    const uint32_t dim = token.kv.head_dim, row_bytes = kv_row_bytes<q8>(dim), each = token.kv_stage;
    uint32_t part = lane / 4, group_first = lane % 4 << token.kv_group_log2; /* a lane copies a group of K or V */
    if (q8) {                                                                /* or its scales */
        part &= 1;
    }
    uint64_t head = step.head + (part ? token.kv.kv_heads : 0);
    const uint8_t *from = (const uint8_t *)token.blocks + phase.layer_bytes + head * kv_head_bytes<q8>(dim);
    const bool many = step.splits > 1 && !step.joins;
    const uint64_t policy = many ? EVICT_FIRST : EVICT_NORMAL;
    const uint32_t flight = writer.flight;
    writer.flight = token.kv_flight;
    for (uint32_t at = run.first; at < run.end; at += each) {
        uint32_t count = min(each, run.end - at);
        if (!writer.wait(ring) || (at + count > token.position && !wait_for_rows(step, ring))) {
            return false;
        }
        const uint32_t scale_bytes = q8 ? (kv_scale_bytes(dim, count) + 15) & ~15u : 0;
        uint8_t *stage = bytes + writer.slot * token.stage_bytes;
        const uint8_t *block = from + (at + group_first) / 64 * token.kv.block_bytes;
        const uint32_t in_block = (at + group_first) % 64, rows = min(count - group_first, 1u << token.kv_group_log2);
        if (lane == 0) {
            barrier_expect(&ring.full[writer.slot], 2 * (count * row_bytes + scale_bytes));
        }
        if (lane < 8 && group_first < count) {
            bulk_copy(stage + part * kv_part_bytes<q8>(token) + kv_byte(group_first, row_bytes, token.kv_group_log2),
                      block + in_block * row_bytes, rows * row_bytes, &ring.full[writer.slot], policy);
        }
        if (q8 && lane / 8 == 1 && group_first < count) {
            bulk_copy(stage + 2 * kv_part_bytes<q8>(token) + part * kv_scale_bytes(dim, each) +
                          kv_scale_bytes(dim, group_first),
                      block + 64 * dim + kv_scale_bytes(dim, in_block), (kv_scale_bytes(dim, rows) + 15) & ~15u,
                      &ring.full[writer.slot], policy);
        }
        writer.next();
    }
    writer.flight = flight;
    writer.calm = many && run.end ? CALM_STAGES : 0;
    return true;
}

/* All that the block reads for a token, phase by phase, by the streaming warp. */
template <bool q8>
__device__ __forceinline__ bool stream_token(const spi_cu_token &token, const token_step &step, ring_state &ring,
                                             spi_cu_phase &current, uint8_t *bytes, ring_writer &writer,
                                             uint32_t lane) {
    uint32_t words = sizeof(spi_cu_phase) / 16;
    const uint4 *from = (const uint4 *)token.phases + lane;
    uint4 word = lane < words ? ask_now(from) : make_uint4(0, 0, 0, 0);
    bool wanted = true;
    for (uint32_t p = 0; p < token.phase_count && wanted; p++) {
        if (lane < words) {
            ((uint4 *)&current)[lane] = word;
        }
        __syncwarp();
        if (lane < words && p + 1 < token.phase_count) { /* on its way while this one's weights are asked for */
            word = ask_now(from + (p + 1) * words);
        }
        wanted = current.kind == SPI_CU_PHASE_PRODUCT
                     ? stream_phase(current, ring, bytes, token.stage_bytes, writer, lane)
                     : stream_kv<q8>(token, step, current, ring, bytes, writer, lane);
        __syncwarp();
    }
    return wanted;
}

/* The streaming warp. What is on its way when no more is wanted must land before the block ends. */
template <bool q8>
__device__ __forceinline__ void stream(const spi_cu_token &token, ring_state &ring, spi_cu_phase &current,
                                       uint8_t *bytes) {
    ring_writer writer(token);
    uint32_t lane = threadIdx.x % 32;
    token_step step(token);
    while (stream_token<q8>(token, step, ring, current, bytes, writer, lane) && !step.last) {
        step.next(token, 0);
    }
    while (writer.on_way) {
        writer.land(ring);
    }
    if (token.clocks && blockIdx.x == 0 && lane == 0) {
        long long *to = token.clocks + 3 * token.phase_count + 1 + 2 * gridDim.x;
        to[0] = writer.waited_for_room, to[1] = writer.waited_for_landing;
    }
}
#endif

#endif
