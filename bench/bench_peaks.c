/* bench/bench_peaks.c - what this machine can do at best: reads of memory, and multiplications with all threads.
 *
 *     bench_peaks [--isa avx2|avx512|amx] [--threads N]
 *
 * Prints one line of JSON: read_gb_per_s; fma_gflops (f32); int8_gops (products of 8 bits summed exactly in 32, as the
 * instruction set does it best: maddubs + maddwd + paddd, vpdpbusd, or AMX tiles); bf16_gflops (0: no instruction for
 * it). Each is the best of some short rounds. A product and a sum are two operations.
 */
#include <immintrin.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/bandwidth.h"
#include "device/cpu/pool.h"
#include "os/clock.h"
#include "os/cpu.h"

#define ROUNDS 3
#define TURNS  400000L

typedef void (*loop)(long turns);

typedef struct race {
    loop run;
    long turns;
} race;

/* Ten independent chains in one statement, so that no compiler spills or merges them; a latency of four and two pipes
 * want eight. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define OPERANDS                                                                                                       \
    "+x"(a[0]), "+x"(a[1]), "+x"(a[2]), "+x"(a[3]), "+x"(a[4]), "+x"(a[5]), "+x"(a[6]), "+x"(a[7]), "+x"(a[8]),        \
        "+x"(a[9])

#define LOOP(NAME, TARGET, TYPE, CLOBBER, BODY)                                                                        \
    __attribute__((target(TARGET))) static void NAME(long turns) {                                                     \
        TYPE a[10] = {0}, u = {0}, v = {0};                                                                            \
        for (long i = 0; i < turns; i++) {                                                                             \
            __asm__ volatile(CHAINS(BODY) : OPERANDS : "x"(u), "x"(v) : CLOBBER);                                      \
        }                                                                                                              \
    }

#define FMA(k)  "vfmadd231ps %11, %10, %" #k "\n\t"
#define MADD(k) "vpmaddubsw %11, %10, %%ymm15\n\tvpmaddwd %10, %%ymm15, %%ymm15\n\tvpaddd %%ymm15, %" #k ", %" #k "\n\t"
#define DOT(k)  "vpdpbusd %11, %10, %" #k "\n\t"
#define BF16(k) "vdpbf16ps %11, %10, %" #k "\n\t"
LOOP(fma_avx2, "avx2,fma", __m256, "memory", FMA)
LOOP(fma_avx512, "avx512f", __m512, "memory", FMA)
LOOP(int8_avx2, "avx2", __m256i, "ymm15", MADD)
LOOP(int8_vnni, "avx512f,avx512vnni", __m512i, "memory", DOT)
LOOP(bf16_avx512, "avx512f,avx512bf16", __m512i, "memory", BF16)

/* Four accumulating tiles of 16 x 16 from two and two, as a matrix kernel has them. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#define TILE_LOOP(NAME, INSTRUCTION)                                                                                   \
    static void NAME(long turns) {                                                                                     \
        static const uint8_t zeros[1024];                                                                              \
        tile_config config = {.palette = 1};                                                                           \
        for (int i = 0; i < 8; i++) {                                                                                  \
            config.row_bytes[i] = 64;                                                                                  \
            config.rows[i] = 16;                                                                                       \
        }                                                                                                              \
        __asm__ volatile("ldtilecfg %0\n\t"                                                                            \
                         "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"                \
                         "tileloadd (%1, %2, 1), %%tmm4\n\ttileloadd (%1, %2, 1), %%tmm5\n\t"                          \
                         "tileloadd (%1, %2, 1), %%tmm6\n\ttileloadd (%1, %2, 1), %%tmm7\n\t"                          \
                         :                                                                                             \
                         : "m"(config), "r"(zeros), "r"(64L)                                                           \
                         : "memory");                                                                                  \
        for (long i = 0; i < turns; i++) {                                                                             \
            __asm__ volatile(INSTRUCTION " %%tmm6, %%tmm4, %%tmm0\n\t" INSTRUCTION                                     \
                                         " %%tmm7, %%tmm4, %%tmm1\n\t" INSTRUCTION                                     \
                                         " %%tmm6, %%tmm5, %%tmm2\n\t" INSTRUCTION " %%tmm7, %%tmm5, %%tmm3\n\t" ::    \
                                             : "memory");                                                              \
        }                                                                                                              \
        __asm__ volatile("tilerelease");                                                                               \
    }
TILE_LOOP(int8_amx, "tdpbssd")
TILE_LOOP(bf16_amx, "tdpbf16ps")

static void enter(void *env, uint32_t thread, uint32_t thread_count) {
    (void)thread;
    (void)thread_count;
    const race *of = env;
    of->run(of->turns);
}

/* 10^9 operations a second of all threads; a turn makes `operations` of them on each. */
static double best_of(spi_pool *pool, loop run, long turns, double operations) {
    race of = {run, turns};
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start_ns = spi_clock_ns();
        spi_pool_run_parts(pool, enter, &of);
        double ns = (double)(spi_clock_ns() - start_ns);
        double rate = operations * (double)turns * spi_pool_thread_count(pool) / ns;
        best = rate > best ? rate : best;
    }
    return best;
}

static void report(spi_pool *pool, const char *isa, uint32_t threads) {
    const spi_cpu_features *has = spi_cpu_get_features();
    bool any = !*isa, amx = (any || !strcmp(isa, "amx")) && has->amx_int8;
    bool wide = amx || ((any || !strcmp(isa, "avx512") || !strcmp(isa, "amx")) && has->avx512);
    double read = spi_cpu_read_bandwidth(threads), fma, int8, bf16 = 0;
    fma = wide ? best_of(pool, fma_avx512, TURNS, 10 * 32) : best_of(pool, fma_avx2, TURNS, 10 * 16);
    int8 = amx                        ? best_of(pool, int8_amx, TURNS / 10, 4 * 2.0 * 16 * 16 * 64)
           : wide && has->avx512_vnni ? best_of(pool, int8_vnni, TURNS, 10 * 128)
                                      : best_of(pool, int8_avx2, TURNS, 10 * 64);
    if (amx && has->amx_bf16) {
        bf16 = best_of(pool, bf16_amx, TURNS / 10, 4 * 2.0 * 16 * 16 * 32);
    } else if (wide && has->avx512_bf16) {
        bf16 = best_of(pool, bf16_avx512, TURNS, 10 * 64);
    }
    printf("{\"isa\": \"%s\", \"threads\": %u, \"read_gb_per_s\": %.2f, \"fma_gflops\": %.1f, \"int8_gops\": %.1f, "
           "\"bf16_gflops\": %.1f}\n",
           amx    ? "amx"
           : wide ? "avx512"
                  : "avx2",
           threads, read, fma, int8, bf16);
}

int main(int count, char **words) {
    const char *isa = "";
    uint32_t threads = spi_cpu_thread_count();
    for (int i = 1; i + 1 < count; i += 2) {
        if (!strcmp(words[i], "--isa")) {
            isa = words[i + 1];
        } else if (!strcmp(words[i], "--threads")) {
            threads = (uint32_t)strtoul(words[i + 1], NULL, 10);
        }
    }
    sp_error error = {0};
    spi_pool *pool;
    if (!threads || !spi_cpu_get_features()->avx2_fma_f16c) {
        fprintf(stderr, "bench_peaks: it needs AVX2 and a thread\n");
        return 1;
    }
    if (spi_pool_create(threads, &pool, &error)) {
        fprintf(stderr, "bench_peaks: %s\n", error.message);
        return 1;
    }
    report(pool, isa, threads);
    spi_pool_destroy(pool);
    return 0;
}
