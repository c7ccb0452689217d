/* device/cuda/kernels/ring.cuh - weights on their way through shared memory, for the kernel that computes a token in one
 * launch (decode.cu).
 *
 * A tile is some rows of a matrix, consumed by one warp. Tiles lie one behind the other in a ring of bytes, each in one
 * piece; where one begins stands beside its barriers, of which there are RING_TILES pairs, used in turn. The streaming
 * warp waits for room and, so that not too many bytes are on their way at once, for older tiles to land: with the whole
 * ring in flight every other load of the card queues behind it for microseconds.
 *
 * Needs bulk copies (compute capability 9.0). May include: decode_args.h, common.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_RING_CUH
#define SPI_DEVICE_CUDA_KERNELS_RING_CUH

#include "device/cuda/kernels/common.cuh"
#include "device/cuda/kernels/decode_args.h"

#define RING_TILES 64u
#define WARPS      SPI_CU_DECODE_WARPS
#define THREADS    (WARPS * 32) /* that multiply */

struct ring_state { /* in shared memory */
    uint64_t full[RING_TILES], empty[RING_TILES];
    uint32_t begins[RING_TILES]; /* bytes from the ring's first */
    uint32_t ends[RING_TILES];   /* for the streaming thread: counted from the token's first byte */
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

__device__ __forceinline__ void bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address_of(to)),
        "l"(from), "r"(bytes), "r"(address_of(barrier))
        : "memory");
}

__device__ __forceinline__ void ring_init(ring_state &ring) {
    for (uint32_t i = 0; i < RING_TILES; i++) {
        barrier_init(&ring.full[i], 1);
        barrier_init(&ring.empty[i], 1);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* The block's units of a phase, and how many of them are a tile: no fewer tiles than warps where that is possible. */
struct share {
    uint32_t first, end, step, tiles;

    __device__ __forceinline__ explicit share(const spi_cu_phase &phase) {
        first = phase.unit_count * blockIdx.x / gridDim.x; /* the host saw to it that this fits into 32 bits */
        end = phase.unit_count * (blockIdx.x + 1) / gridDim.x;
        uint32_t units = end - first;
        step = max(1u, min(phase.tile_units, (units + WARPS - 1) / WARPS));
        tiles = (units + step - 1) / step;
    }
};

/* The streaming warp's view of the ring; all but `tile` are its first lane's. */
struct ring_writer {
    uint32_t capacity, flight;       /* bytes; how many may be on their way */
    uint32_t at, head, tail, landed; /* head, tail, landed: bytes since the token's beginning */
    uint32_t tile, tail_tile, landed_tile;
    long long waited_for_room, waited_for_landing; /* for measuring */

    __device__ __forceinline__ ring_writer(uint32_t capacity_bytes, uint32_t flight_bytes)
        : capacity(capacity_bytes), flight(flight_bytes), at(0), head(0), tail(0), landed(0), tile(0), tail_tile(0),
          landed_tile(0), waited_for_room(0), waited_for_landing(0) {
    }

    /* Waits for room for a tile of at most half the ring. Returns its place. */
    __device__ __forceinline__ uint32_t room(ring_state &ring, uint32_t bytes) {
        if (at + bytes > capacity) { /* in one piece: what is left at the end stays empty */
            head += capacity - at;
            at = 0;
        }
        long long start = clock64();
        while (head + bytes - tail > capacity || tile - tail_tile == RING_TILES) {
            uint32_t i = tail_tile % RING_TILES;
            barrier_wait(&ring.empty[i], tail_tile / RING_TILES & 1);
            tail = ring.ends[i];
            tail_tile++;
        }
        if ((int32_t)(tail_tile - landed_tile) > 0) {
            landed_tile = tail_tile;
            landed = tail;
        }
        long long middle = clock64();
        while (landed_tile != tile && head + bytes - landed > flight) {
            uint32_t i = landed_tile % RING_TILES;
            barrier_wait(&ring.full[i], landed_tile / RING_TILES & 1);
            landed = ring.ends[i];
            landed_tile++;
        }
        waited_for_room += middle - start, waited_for_landing += clock64() - middle;
        uint32_t i = tile % RING_TILES, place = at;
        ring.begins[i] = place;
        head += bytes;
        at += bytes;
        ring.ends[i] = head;
        barrier_expect(&ring.full[i], bytes);
        return place;
    }
};

/* What a lane of the streaming warp copies of each tile: the rows that are of one part. */
struct source {
    const uint8_t *data;
    uint32_t begin, end, stride, behind; /* behind: rows of the first part precede it in a tile */

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
                      (high - low) * stride, full);
        }
    }
};

/* All of the block's tiles of a phase, by one warp: its first lane sees to the ring, some copy a part each. */
__device__ __forceinline__ void stream_phase(const spi_cu_phase &phase, ring_state &ring, uint8_t *bytes,
                                             ring_writer &writer, uint32_t lane) {
    const share mine(phase);
    const source from(phase, lane);
    uint32_t unit_bytes = phase.unit_rows * phase.stride;
    for (uint32_t unit = mine.first; unit < mine.end; unit += mine.step) {
        uint32_t count = min(mine.step, mine.end - unit), place = 0;
        if (lane == 0) {
            place = writer.room(ring, count * unit_bytes);
        }
        place = __shfl_sync(0xffffffffu, place, 0);
        if (lane < SPI_CU_PARTS_MAX) {
            from.copy(unit, count, bytes + place, &ring.full[writer.tile % RING_TILES]);
        }
        writer.tile++;
    }
}

__device__ __forceinline__ void to_cache(const void *address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/* What else a phase will read from memory: its norm, or the rows of K and V that this block attends to. */
__device__ __forceinline__ void prefetch(const spi_cu_token &token, const spi_cu_phase &phase, uint32_t lane) {
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
__device__ __forceinline__ void stream(const spi_cu_token &token, ring_state &ring, spi_cu_phase &current,
                                       uint8_t *bytes) {
    ring_writer writer(token.ring_bytes, token.flight_bytes);
    uint32_t lane = threadIdx.x % 32, words = sizeof(spi_cu_phase) / 16;
    const uint4 *from = (const uint4 *)token.phases + lane;
    uint4 word = lane < words ? __ldg(from) : make_uint4(0, 0, 0, 0);
    for (uint32_t p = 0; p < token.phase_count; p++) {
        if (lane < words) {
            ((uint4 *)&current)[lane] = word;
        }
        __syncwarp();
        if (lane < words && p + 1 < token.phase_count) { /* on its way while this one's weights are asked for */
            word = __ldg(from + (p + 1) * words);
        }
        prefetch(token, current, lane);
        if (current.kind == SPI_CU_PHASE_PRODUCT) {
            stream_phase(current, ring, bytes, writer, lane);
        }
        __syncwarp();
    }
    if (token.clocks && blockIdx.x == 0 && lane == 0) {
        long long *to = token.clocks + 3 * token.phase_count + 1 + 2 * gridDim.x;
        to[0] = writer.waited_for_room, to[1] = writer.waited_for_landing;
    }
}
#endif

#endif
