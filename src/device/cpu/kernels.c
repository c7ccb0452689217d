/* device/cpu/kernels.c - choosing a table. May include: device, os, base. */
#include "device/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* Best first. */
static const spi_cpu_kernels *const tables[] = {
#if defined(__x86_64__)
    &spi_cpu_kernels_amx,       &spi_cpu_kernels_avx512bf16, &spi_cpu_kernels_avx512, &spi_cpu_kernels_avx2,
#elif defined(__aarch64__)
    &spi_cpu_kernels_bf16,      &spi_cpu_kernels_i8mm, &spi_cpu_kernels_dotprod, &spi_cpu_kernels_neon,
#endif
    &spi_cpu_kernels_reference,
};
#define TABLE_COUNT (sizeof tables / sizeof tables[0])

sp_status spi_cpu_pick_kernels(const char *isa, const spi_cpu_kernels **kernels, sp_error *error) {
    const spi_cpu_features *features = spi_cpu_get_features();
    char names[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!tables[i]->available(features)) {
            continue;
        }
        if (!isa || !strcmp(isa, tables[i]->name)) {
            *kernels = tables[i];
            return SP_OK;
        }
        int put = snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", tables[i]->name);
        used += put > 0 ? (size_t)put : 0;
    }
    return spi_fail(error, SP_UNSUPPORTED, "the cpu device has no \"%s\" kernels that run here: use one of %s", isa,
                    names);
}

const spi_cpu_type *spi_cpu_find_type(const spi_cpu_kernels *kernels, sp_dtype type) {
    for (uint32_t i = 0; i < kernels->type_count; i++) {
        if (kernels->types[i].type == type) {
            return &kernels->types[i];
        }
    }
    return kernels == &spi_cpu_kernels_reference ? NULL : spi_cpu_find_type(&spi_cpu_kernels_reference, type);
}
