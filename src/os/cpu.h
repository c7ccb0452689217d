/* os/cpu.h - what processor this is and how many threads may compute on it. May include: base. */
#ifndef SPI_OS_CPU_H
#define SPI_OS_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instruction sets that the processor has and the system has switched on (XCR0; AMX is asked for, and tried). */
typedef struct spi_cpu_features {
    bool avx2_fma_f16c; /* x86-64-v3 as far as kernels need it */
    bool avx512;        /* F, BW, DQ, VL */
    bool avx512_vnni, avx512_bf16;
    bool amx_int8, amx_bf16;
    /* The maker, and AMD's family (0: another's): what is measured to help on one processor may harm on others. */
    bool intel;
    uint32_t amd_family;
    bool neon, dotprod, i8mm, bf16;
    bool fp16; /* products of f16 that are added in f32: FEAT_FHM */
} spi_cpu_features;

const spi_cpu_features *spi_cpu_get_features(void);

/* The marketing name, e.g. from /proc/cpuinfo; "unknown processor" otherwise. */
void spi_cpu_name(char *name, size_t capacity);

/* Threads worth starting: the affinity mask, the control groups' quota (quota.h) and one thread per physical core. At
 * least 1. */
uint32_t spi_cpu_thread_count(void);

#endif
