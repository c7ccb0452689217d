/* bench/bench_peaks.h - what the arithmetic of this processor can do at most, measured beside what kernels do. */
#ifndef SPI_BENCH_PEAKS_H
#define SPI_BENCH_PEAKS_H

#include <stdint.h>

typedef struct bench_peaks {
    double fma_gflops;      /* f32 fused multiply-adds, two operations each */
    double int8_gops;       /* products of bytes, summed in 16 bits with AVX2 and in 32 with AVX-512, as kernels do */
    double amx_bf16_gflops; /* 0: none */
} bench_peaks;

/* With vectors of the named instruction set ("avx2", "avx512", "amx") on so many threads, all at once. */
bench_peaks bench_measure_peaks(const char *isa, uint32_t threads);

#endif
