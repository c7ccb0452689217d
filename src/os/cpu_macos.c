/* os/cpu_macos.c - processor features and thread counts on macOS. See cpu.h. */
#include <pthread.h>
#include <stdio.h>
#include <sys/sysctl.h>

#include "os/cpu.h"

static int number(const char *name) {
    int value = 0;
    size_t bytes = sizeof value;
    return sysctlbyname(name, &value, &bytes, NULL, 0) ? 0 : value;
}

static spi_cpu_features found;

/* Names as Apple documents them in "Determining instruction set characteristics". */
static void detect_once(void) {
    found.neon = true;
    found.dotprod = number("hw.optional.arm.FEAT_DotProd") == 1;
    found.i8mm = number("hw.optional.arm.FEAT_I8MM") == 1;
    found.bf16 = number("hw.optional.arm.FEAT_BF16") == 1;
    found.fp16 = number("hw.optional.arm.FEAT_FHM") == 1;
}

const spi_cpu_features *spi_cpu_get_features(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect_once);
    return &found;
}

void spi_cpu_name(char *name, size_t capacity) {
    size_t bytes = capacity;
    if (sysctlbyname("machdep.cpu.brand_string", name, &bytes, NULL, 0)) {
        snprintf(name, capacity, "unknown processor");
    }
}

/* The fast cores alone: work is shared out evenly, and a slow core would be waited for. */
uint32_t spi_cpu_thread_count(void) {
    int count = number("hw.perflevel0.physicalcpu");
    count = count > 0 ? count : number("hw.physicalcpu");
    return count > 0 ? (uint32_t)count : 1;
}
