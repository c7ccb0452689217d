/* device/cuda/kernels/hopper.cuh - matrix products of a group of four warps on compute capability 9.0 (wgmma), whose
 * factors lie in shared memory (a may lie in registers): sums[64][columns] += a[64][16] * b[columns][16]^T, both with
 * rows of 128 bytes whose pieces of 16 bytes are xored with the row's number (matrix.cuh: swizzled), from multiples of
 * 1,024 bytes on.
 *
 * A thread holds of the sums, for j = 0 .. columns / 8 - 1: in 4 j and 4 j + 1 row 16 warp + lane / 4, columns
 * 8 j + lane % 4 * 2 and the next; in 4 j + 2 and 4 j + 3 the same of the row 8 further on.
 * May include: nothing.
 */
#ifndef SPI_DEVICE_CUDA_KERNELS_HOPPER_CUH
#define SPI_DEVICE_CUDA_KERNELS_HOPPER_CUH

#include <stdint.h>

#if defined __CUDA_ARCH_FEAT_SM90_ALL
#define HOPPER 1
#endif

#ifdef HOPPER
/* Rows of 128 bytes, swizzled over 128 bytes, eight rows 1,024 bytes behind the last eight. */
__device__ __forceinline__ uint64_t describe(uint32_t shared_address) {
    return (uint64_t)(shared_address >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

__device__ __forceinline__ void group_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void group_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending> __device__ __forceinline__ void group_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* A box of a matrix, swizzled, to shared memory. */
__device__ __forceinline__ void copy_box(uint32_t to, const void *map, uint32_t column, uint32_t row,
                                         uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            to),
        "l"(map), "r"(column), "r"(row), "r"(barrier)
        : "memory");
}

/* The map is read by the card; that takes its time, too. */
__device__ __forceinline__ void ask_map(const void *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void box_barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ __forceinline__ void box_barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void box_barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void box_barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra out;\n"
                 "bra again;\n"
                 "out:\n"
                 "}\n" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

#define F4(d, i)   "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define F16R(d, i) F4(d, i), F4(d, (i) + 4), F4(d, (i) + 8), F4(d, (i) + 12)
#define F64R(d, i) F16R(d, i), F16R(d, (i) + 16), F16R(d, (i) + 32), F16R(d, (i) + 48)

#define R8  "%0, %1, %2, %3, %4, %5, %6, %7"
#define R16 R8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define R32 R16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define R64                                                                                                            \
    R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                           \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define R128                                                                                                           \
    R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                           \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                             \
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "                 \
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/* a in shared memory, and in registers: those of an m16n8k16 for each of the four warps' 16 rows. */
template <int columns, bool brain>
__device__ __forceinline__ void group_multiply(float *sums, uint64_t a_matrix, uint64_t b_matrix);
template <int columns, bool brain>
__device__ __forceinline__ void group_multiply(float *sums, const uint32_t *a, uint64_t b_matrix);

/* For so many columns: the sums' registers, the numbers of the five operands behind them, and the sums. */
#define MULTIPLY(columns, registers, n0, n1, n2, n3, n4, ...)                                                          \
    MULTIPLY_TYPE(columns, true, "bf16", registers, n0, n1, n2, n3, n4, __VA_ARGS__)                                   \
    MULTIPLY_TYPE(columns, false, "f16", registers, n0, n1, n2, n3, n4, __VA_ARGS__)
#define MULTIPLY_TYPE(columns, brain, type, registers, n0, n1, n2, n3, n4, ...)                                        \
    template <>                                                                                                        \
    __device__ __forceinline__ void group_multiply<columns, brain>(float *sums, uint64_t a_matrix,                     \
                                                                   uint64_t b_matrix) {                                \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" registers "}, %" #n0   \
                     ", %" #n1 ", 1, 1, 1, 0, 0;"                                                                      \
                     : __VA_ARGS__                                                                                     \
                     : "l"(a_matrix), "l"(b_matrix));                                                                  \
    }                                                                                                                  \
    template <>                                                                                                        \
    __device__ __forceinline__ void group_multiply<columns, brain>(float *sums, const uint32_t *a,                     \
                                                                   uint64_t b_matrix) {                                \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {" registers "}, {%" #n0  \
                     ", %" #n1 ", %" #n2 ", %" #n3 "}, %" #n4 ", 1, 1, 1, 0;"                                          \
                     : __VA_ARGS__                                                                                     \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix));                                     \
    }

MULTIPLY(16, R8, 8, 9, 10, 11, 12, F4(sums, 0), F4(sums, 4))
MULTIPLY(32, R16, 16, 17, 18, 19, 20, F16R(sums, 0))
MULTIPLY(64, R32, 32, 33, 34, 35, 36, F16R(sums, 0), F16R(sums, 16))
MULTIPLY(256, R128, 128, 129, 130, 131, 132, F64R(sums, 0), F64R(sums, 64))
#undef MULTIPLY
#undef MULTIPLY_TYPE

#undef F4
#undef F16R
#undef F64R
#undef R8
#undef R16
#undef R32
#undef R64
#undef R128
#endif

#endif
