/* bench/bench_peaks.c - see bench_peaks.h. Twelve independent chains of each instruction, which no compiler touches. */
#include "bench_peaks.h"

#include <pthread.h>
#include <string.h>

#include "os/clock.h"
#include "os/cpu.h"

#define THREADS_MAX 256u
#define STEPS       (1u << 18)
#define CHAINS      12.0

#if defined(__x86_64__)

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define YMM                                                                                                            \
    "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12",         \
        "ymm13", "ymm14", "ymm15"

#define FMA_YMM(n)   "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #n "\n\t"
#define FMA_ZMM(n)   "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #n "\n\t"
#define BYTES_YMM(n) "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n\tvpaddw %%ymm14, %%ymm" #n ", %%ymm" #n "\n\t"
#define BYTES_ZMM(n) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #n "\n\t"

#define KERNEL(name, isa, zero, STEP)                                                                                  \
    __attribute__((target(isa))) static void name(void) {                                                              \
        __asm__ volatile(zero : : : YMM);                                                                              \
        for (uint32_t i = 0; i < STEPS; i++) {                                                                         \
            __asm__ volatile(TWELVE(STEP) : : : YMM);                                                                  \
        }                                                                                                              \
        __asm__ volatile("vzeroupper" : : : YMM);                                                                      \
    }

#define ZERO(n) "vxorps %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define CLEAR   TWELVE(ZERO) ZERO(12) ZERO(13)

KERNEL(fma_ymm, "avx2,fma", CLEAR, FMA_YMM)
KERNEL(fma_zmm, "avx512f", CLEAR, FMA_ZMM)
KERNEL(bytes_ymm, "avx2", CLEAR, BYTES_YMM)
KERNEL(bytes_zmm, "avx512vnni", CLEAR, BYTES_ZMM)

/* Four tiles of sums, of 16 rows and columns; a step is 16 x 16 x 32 products. */
static void tiles_bf16(void) {
    struct {
        uint8_t palette, start, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (uint32_t i = 0; i < 8; i++) {
        shape.row_bytes[i] = 64;
        shape.rows[i] = 16;
    }
    __asm__ volatile("ldtilecfg %0\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\ttilezero %%tmm7"
                     :
                     : "m"(shape));
    for (uint32_t i = 0; i < STEPS / 16; i++) {
        __asm__ volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
                         "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3"
                         :
                         :
                         : "memory");
    }
    __asm__ volatile("tilerelease");
}

static void *run(void *kernel) {
    void (*function)(void);
    memcpy(&function, &kernel, sizeof function);
    function();
    return NULL;
}

/* Seconds for which all threads together take, the best of three. */
static double seconds(void (*function)(void), uint32_t threads) {
    double best = 1e9;
    void *kernel;
    memcpy(&kernel, &function, sizeof kernel);
    for (uint32_t repeat = 0; repeat < 3; repeat++) {
        pthread_t others[THREADS_MAX];
        uint32_t started = 0;
        int64_t start_ns = spi_clock_ns();
        while (started + 1 < threads && started < THREADS_MAX && !pthread_create(&others[started], NULL, run, kernel)) {
            started++;
        }
        run(kernel);
        for (uint32_t i = 0; i < started; i++) {
            pthread_join(others[i], NULL);
        }
        double took = (double)(spi_clock_ns() - start_ns) / 1e9;
        best = took < best ? took : best;
    }
    return best;
}

bench_peaks bench_measure_peaks(const char *isa, uint32_t threads) {
    bench_peaks peaks = {0};
    bool wide = strcmp(isa, "avx2") != 0;
    if (!spi_cpu_get_features()->avx2_fma_f16c || !strcmp(isa, "reference")) {
        return peaks;
    }
    double steps = CHAINS * STEPS * threads / 1e9, lanes = wide ? 16 : 8;
    peaks.fma_gflops = steps * lanes * 2 / seconds(wide ? fma_zmm : fma_ymm, threads);
    peaks.int8_gops = steps * lanes * 8 / seconds(wide ? bytes_zmm : bytes_ymm, threads);
    if (!strcmp(isa, "amx")) {
        double tiles = 4.0 * (STEPS / 16.0) * threads / 1e9;
        peaks.amx_bf16_gflops = tiles * 16 * 16 * 32 * 2 / seconds(tiles_bf16, threads);
    }
    return peaks;
}

#else

bench_peaks bench_measure_peaks(const char *isa, uint32_t threads) {
    (void)isa;
    (void)threads;
    return (bench_peaks){0};
}

#endif
