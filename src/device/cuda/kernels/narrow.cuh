/* device/cuda/kernels/narrow.cuh - wide.cuh's products for a tile of few rows, such as the next tokens of some
 * sessions, where latencies are what there is to save.
 *
 * Weights are asked for before the kernel that precedes this one has ended, but no more at a time than memory delivers
 * by and by: what is asked for behind them, such as that kernel's input, waits for them. A thread each has the card
 * fetch weights and rows. A tile whose columns are shared takes no more than half of a multiprocessor, and what is
 * behind its last step no room, so that the next kernels' weights can be on their way while this one's are multiplied.
 *
 * Where blocks of a cluster share a tile's columns each finishes some rows of the tile. The others send it their sums,
 * each to a place of its own, and it counts what has come. May include: wide.cuh.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_NARROW_CUH
#define SPI_DEVICE_CUDA_KERNELS_NARROW_CUH

#include "device/cuda/kernels/wide.cuh"

#ifdef HOPPER
namespace narrow {

/* Places of a ring, in the order in which they are used, and the phase of their barriers. */
struct ring_place {
    uint32_t slot, parity;

    __device__ __forceinline__ void next(uint32_t slots) {
        slot++;
        if (slot == slots) {
            slot = 0, parity ^= 1;
        }
    }
};

/* What a block's threads agree on by: weights and rows are there, and their places are free. Rows' places of plain
 * weights have the weights' number. */
struct tile_barriers {
    uint64_t weights_full[SPI_CU_WIDE_SLABS_MAX], weights_empty[SPI_CU_WIDE_SLABS_MAX];
    uint64_t rows_full[SPI_CU_WIDE_STEPS_MAX], rows_empty[SPI_CU_WIDE_STEPS_MAX];
    uint64_t received;
};

/* Weights that are asked for before they can be used hold up what is asked for behind them, such as the rows that the
 * kernel before multiplies: no more than `flight` are on their way by then. Returns at once when the first round of the
 * ring is over. */
__device__ __forceinline__ void wait_for_flight(const spi_cu_wide &args, uint32_t index, uint32_t full) {
    if (index >= args.flight) {
        box_barrier_wait(full + (index - args.flight) * 8, 0);
    }
}

/* The thread that fetches plain weights: for each step two halves of a tile. */
__device__ __forceinline__ void fetch_plain(const spi_cu_wide &args, uint32_t base, uint32_t stage_bytes, uint32_t full,
                                            uint32_t empty, share steps) {
    const tile_halves halves(args);
    ring_place place = {0, 1};
    for (uint32_t step = 0; step < steps.count; step++) {
        if (step < args.slots) {
            wait_for_flight(args, step, full);
        } else {
            box_barrier_wait(empty + place.slot * 8, place.parity);
        }
        uint32_t stage = base + place.slot * stage_bytes, column = (steps.first + step) * STEP;
        box_barrier_expect(full + place.slot * 8, OUTS * 128);
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            copy_box(stage + i * SPI_CU_WIDE_BOX * 128, &args.weights[halves.part[i]][0], column, halves.row[i],
                     full + place.slot * 8);
        }
        place.next(args.slots);
    }
}

/* The thread that fetches rows, 64 columns at a time, when the kernel that leaves them has ended. */
template <int rows>
__device__ __forceinline__ void fetch_rows(const spi_cu_wide &args, uint32_t to, uint32_t step_bytes, uint32_t slots,
                                           uint32_t full, uint32_t empty, uint32_t first, uint32_t count) {
    ring_place place = {0, 1};
    ask_map(&args.x);
    wait_for_the_last();
    mark(args.clocks, 1);
    for (uint32_t step = 0; step < count; step++) {
        box_barrier_wait(empty + place.slot * 8, place.parity);
        box_barrier_expect(full + place.slot * 8, rows * 128);
        copy_box(to + place.slot * step_bytes, &args.x, (first + step) * STEP, blockIdx.x * rows,
                 full + place.slot * 8);
        place.next(slots);
    }
}

/* The thread that fetches quantised weights. */
__device__ __forceinline__ void fetch_packed(const spi_cu_wide &args, uint32_t slabs_at, uint32_t full, uint32_t empty,
                                             share slabs) {
    const tile_halves halves(args);
    ring_place place = {0, 1};
    uint32_t bytes = slab_bytes(args);
    for (uint32_t slab = 0; slab < slabs.count; slab++) {
        if (slab < args.slots) {
            wait_for_flight(args, slab, full);
        } else {
            box_barrier_wait(empty + place.slot * 8, place.parity);
        }
        uint32_t to = slabs_at + place.slot * bytes, barrier = full + place.slot * 8;
        box_barrier_expect(barrier, bytes);
        for (uint32_t plane = 0; plane < args.plane_count; plane++) {
            uint32_t half = SPI_CU_WIDE_BOX * args.plane_pitch[plane],
                     at = (slabs.first + slab) * args.plane_step[plane] & ~7u;
            copy_box(to, &args.weights[halves.part[0]][plane], at, halves.row[0], barrier);
            copy_box(to + half, &args.weights[halves.part[1]][plane], at, halves.row[1], barrier);
            to += 2 * half;
        }
        place.next(args.slots);
    }
}

/* Four numbers to the same place in another block of the cluster, counted by a barrier there. */
__device__ __forceinline__ void send_four(const float *here, const uint64_t *barrier, uint32_t block, float4 x) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                     place_in_block(here, block)),
                 "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w), "r"(place_in_block(barrier, block))
                 : "memory");
}

/* Where blocks share a tile's columns each finishes some of its rows, a warp one at a time. Their sums are sent to it,
 * each block's to a place of its own, as soon as they are there. */
template <int rows>
__device__ __forceinline__ void put_shares(const spi_cu_wide &args, const float *sums, float *tile, float *received,
                                           const uint64_t *barrier) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, split = gridDim.z, mine = rows / split;
    bool gated = args.output == SPI_CU_OUTPUT_GATE;
    leave_sums<rows>(sums, tile);
    multipliers_sync();
    cluster_wait(); /* all blocks have begun */
#pragma unroll
    for (uint32_t row = warp; row < rows; row += WIDE / 32) {
        float4 x = *(const float4 *)(tile + row * PITCH + lane * 4);
        send_four(received + (blockIdx.z * mine + row % mine) * OUTS + lane * 4, barrier, row / mine, x);
    }
    wait_for_the_last(); /* it has ended, but this thread has not asked yet */
    for (uint32_t i = warp; i < mine; i += WIDE / 32) {
        uint32_t index = blockIdx.x * rows + blockIdx.z * mine + i, column = lane * 4;
        if (index >= args.row_count) {
            break;
        }
        before_adding before(args, index, blockIdx.y * OUTS + column);
        float wanted = args.norm.records ? factor_of<32>(args.norm, index, true) : 1;
        float known = args.next.records ? factor_of<32>(args.known, index, false) : 1;
        box_barrier_wait(shared_address(barrier), 0);
        float4 sum = make_float4(0, 0, 0, 0), second = sum;
        for (uint32_t k = 0; k < split; k++) {
            const float *from = received + (k * mine + i) * OUTS;
            float4 x = *(const float4 *)(from + column);
            sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
            if (gated && lane < 16) {
                x = *(const float4 *)(from + OUTS / 2 + column);
                second.x += x.x, second.y += x.y, second.z += x.z, second.w += x.w;
            }
        }
        sum = times(sum, wanted);
        if (gated) {
            if (lane < 16) {
                put_gated(args, index, blockIdx.y * (OUTS / 2) + column, sum, times(second, wanted));
            }
            continue;
        }
        float squares = put_sums(args, index, blockIdx.y * OUTS + column, sum, before, known);
        note_squares(args, index, squares, known);
    }
    clear_behind_tile<rows>(args);
    box_barrier_wait(shared_address(barrier), 0); /* nobody leaves while others send */
}

/* Both factors lie in shared memory. */
template <int rows, bool brain>
__device__ __forceinline__ void multiply_plain(const spi_cu_wide &args, float *sums, uint32_t base,
                                               const tile_barriers &barriers, uint32_t steps) {
    constexpr uint32_t stage_bytes = (OUTS + rows) * 128;
    uint32_t weights_full = shared_address(barriers.weights_full), rows_full = shared_address(barriers.rows_full),
             last = shared_address(barriers.rows_empty);
    ring_place place = {0, 0};
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t stage = base + place.slot * stage_bytes;
        box_barrier_wait(weights_full + place.slot * 8, place.parity);
        box_barrier_wait(rows_full + place.slot * 8, place.parity);
        mark(step || threadIdx.x ? 0 : args.clocks, 2);
        multiply_step<rows, brain>(sums, stage);
        if (step && threadIdx.x % 128 == 0) {
            box_barrier_arrive(last);
        }
        last = shared_address(barriers.rows_empty) + place.slot * 8;
        place.next(args.slots);
    }
    group_wait<0>();
}

template <int rows> __device__ __forceinline__ void make_barriers(tile_barriers &barriers) {
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < SPI_CU_WIDE_SLABS_MAX; i++) {
            box_barrier_init(shared_address(&barriers.weights_full[i]), 1);
            box_barrier_init(shared_address(&barriers.weights_empty[i]), WIDE / 32);
        }
        for (uint32_t i = 0; i < SPI_CU_WIDE_STEPS_MAX; i++) {
            box_barrier_init(shared_address(&barriers.rows_full[i]), 1);
            box_barrier_init(shared_address(&barriers.rows_empty[i]), 2);
        }
        box_barrier_init(shared_address(&barriers.received), 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        box_barrier_expect(shared_address(&barriers.received), rows * OUTS * 4);
    }
    __syncthreads();
    if (gridDim.z > 1) {
        cluster_arrive();
    }
}

template <int type, int rows> __device__ __forceinline__ void multiply(const spi_cu_wide &args) {
    constexpr bool brain = type == SP_BF16, plain = !is_quantised(type);
    extern __shared__ __align__(1024) uint8_t memory[];
    __shared__ tile_barriers barriers;
    __shared__ float wanted[rows], known[rows];
    start_the_next();
    mark(threadIdx.x ? 0 : args.clocks, 0);
    make_barriers<rows>(barriers);
    uint32_t base = shared_address(memory), steps_at = plain ? base + OUTS * 128 : base + args.slots * slab_bytes(args);
    uint32_t step_bytes = plain ? (OUTS + rows) * 128 : rows * 128;
    share mine(args.cols, plain ? STEP : SPI_CU_WIDE_SLAB);
    if (threadIdx.x >= WIDE) {
        uint32_t weights_full = shared_address(barriers.weights_full), rows_full = shared_address(barriers.rows_full),
                 rows_empty = shared_address(barriers.rows_empty);
        if (threadIdx.x == WIDE) {
            if constexpr (plain) {
                fetch_plain(args, base, step_bytes, weights_full, rows_empty, mine);
            } else {
                fetch_packed(args, base, weights_full, shared_address(barriers.weights_empty), mine);
            }
        } else if (threadIdx.x == WIDE + 32) {
            constexpr uint32_t steps = plain ? 1 : SPI_CU_WIDE_SLAB / STEP;
            fetch_rows<rows>(args, steps_at, step_bytes, args.row_slots, rows_full, rows_empty, mine.first * steps,
                             mine.count * steps);
        }
        __syncwarp();
        if (gridDim.z > 1) { /* as the others */
            cluster_wait();
        }
    } else {
        float sums[rows / 2] = {};
        ask_for_arguments(args, offsetof(spi_cu_wide, parts)); /* the maps before are read by the card */
        if (gridDim.z == 1) {
            wait_for_the_last();
            find_factors<rows, WIDE / rows, WIDE>(args, threadIdx.x, wanted, known);
        }
        if constexpr (plain) {
            multiply_plain<rows, brain>(args, sums, base, barriers, mine.count);
        } else {
            multiply_packed<type, rows, 2>(args, sums, memory, steps_at, args.row_slots,
                                           {shared_address(barriers.rows_full), shared_address(barriers.rows_empty),
                                            shared_address(barriers.weights_full),
                                            shared_address(barriers.weights_empty)},
                                           mine);
        }
        mark(threadIdx.x ? 0 : args.clocks, 3);
        if (gridDim.z > 1) {
            put_shares<rows>(args, sums, (float *)memory, (float *)(memory + args.received_at), &barriers.received);
        } else {
            put_tile<rows>(args, sums, (float *)memory, wanted, known, 1);
        }
        mark(threadIdx.x ? 0 : args.clocks, 4);
    }
}
} // namespace narrow
#endif

#endif
