/* tests/device/ordered_copy.cu - the ring of kernels/ring.cuh at its smallest: what compute-sanitizer's racecheck says
 * of bulk copies that mbarriers keep apart from the reads before and behind them. One warp copies, one adds up; nothing
 * here is unordered (PTX ISA, "mbarrier" and "cp.async.bulk": the copy completes on `full`, whose wait is before the
 * reads; the arrival on `empty` is behind the reads, and its wait before the next copy). Prints whether the sum is
 * right.
 *
 *     nvcc -arch=sm_90a -o ordered_copy tests/device/ordered_copy.cu && compute-sanitizer --tool racecheck ./ordered_copy
 *
 * Compiled by nobody but run.sh, where nvcc is. May include: the CUDA runtime.
 */
#include <cstdint>
#include <cstdio>

#define STAGES 2
#define WORDS  128
#define ROUNDS 64

__device__ uint32_t at(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

__device__ void wait(uint64_t *barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra out;\nbra again;\nout:\n}\n" ::"r"(at(barrier)),
                 "r"(parity)
                 : "memory");
}

__global__ void add_up(const uint32_t *from, uint32_t *sum) {
    __shared__ alignas(128) uint32_t stage[STAGES][WORDS];
    __shared__ uint64_t full[STAGES], empty[STAGES];
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(&full[i])));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(&empty[i])));
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    uint32_t lane = threadIdx.x % 32, total = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t slot = i % STAGES, parity = i / STAGES & 1;
        if (threadIdx.x < 32) {
            wait(&full[slot], parity);
            for (uint32_t k = lane; k < WORDS; k += 32) {
                total += stage[slot][k];
            }
            __syncwarp();
            if (lane == 0) {
                asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at(&empty[slot])) : "memory");
            }
        } else if (lane == 0) {
            wait(&empty[slot], parity ^ 1);
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at(&full[slot])), "r"(WORDS * 4)
                         : "memory");
            asm volatile(
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                    at(stage[slot])),
                "l"(from + i * WORDS), "r"(WORDS * 4), "r"(at(&full[slot]))
                : "memory");
        }
    }
    for (int offset = 16; offset && threadIdx.x < 32; offset >>= 1) {
        total += __shfl_xor_sync(0xffffffffu, total, offset);
    }
    if (threadIdx.x == 0) {
        *sum = total;
    }
}

int main() {
    uint32_t *from, *sum, expected = 0;
    if (cudaMallocManaged(&from, ROUNDS * WORDS * 4) || cudaMallocManaged(&sum, 4)) {
        printf("no card\n");
        return 2;
    }
    for (uint32_t i = 0; i < ROUNDS * WORDS; i++) {
        from[i] = i * 2654435761u;
        expected += from[i];
    }
    add_up<<<1, 64>>>(from, sum);
    cudaError_t error = cudaDeviceSynchronize();
    printf("%s: the sum is %s\n", cudaGetErrorString(error), *sum == expected ? "right" : "wrong");
    return error != cudaSuccess || *sum != expected;
}
