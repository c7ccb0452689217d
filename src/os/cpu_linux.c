/* os/cpu_linux.c - processor features and thread counts on Linux. See cpu.h. */
#include "os/cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/quota.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Linux hands out AMX's tile registers on request only (Documentation/arch/x86/xstate.rst). */
static bool ask_for_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* The instructions themselves, with one row of zeros. */
static void use_tiles(void) {
    static const struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1, .row_bytes = {4, 4, 4}, .rows = {1, 1, 1}};
    static const uint32_t zero;
    __asm__ volatile("ldtilecfg %0\n\ttileloadd (%1, %2, 1), %%tmm0\n\ttdpbf16ps %%tmm2, %%tmm1, %%tmm0\n\t"
                     "tilerelease"
                     :
                     : "m"(shape), "r"(&zero), "r"((size_t)4)
                     : "memory");
}

/* Some virtual machines show AMX, grant it, and stop a process with SIGILL at its first instruction: a child tries.
 * What it has to say comes through a pipe, since the process may have its own ideas about the states of children. */
static bool tiles_run(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        signal(SIGILL, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        use_tiles();
        _exit(write(ends[1], "1", 1) == 1 ? 0 : 1);
    }
    close(ends[1]);
    char answer = 0;
    ssize_t count = 0;
    while (child > 0 && (count = read(ends[0], &answer, 1)) < 0 && errno == EINTR) {}
    close(ends[0]);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    return count == 1;
}

static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Bits as in Intel's Software Developer's Manual, volume 2A, CPUID, leaves 1 and 7. */
static void detect(spi_cpu_features *features) {
    uint32_t a, b, c, d, c1;
    if (!__get_cpuid(0, &a, &b, &c, &d)) {
        return;
    }
    features->intel = b == signature_INTEL_ebx;
    const bool amd = b == signature_AMD_ebx;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 >> 27 & 1)) {
        return;
    }
    features->amd_family = amd ? (a >> 8 & 15) + (a >> 20 & 255) : 0;
    uint64_t state = enabled_state();
    bool avx_state = (state & 0x6) == 0x6, avx512_state = (state & 0xe6) == 0xe6,
         tile_state = (state & 0x60000) == 0x60000;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return;
    }
    features->avx2_fma_f16c = avx_state && (b >> 5 & 1) && (c1 >> 12 & 1) && (c1 >> 29 & 1);
    features->avx512 =
        features->avx2_fma_f16c && avx512_state && (b >> 16 & 1) && (b >> 30 & 1) && (b >> 17 & 1) && (b >> 31 & 1);
    features->avx512_vnni = features->avx512 && (c >> 11 & 1);
    bool tiles = tile_state && (d >> 24 & 1) && ask_for_tiles() && tiles_run();
    features->amx_bf16 = tiles && (d >> 22 & 1);
    features->amx_int8 = tiles && (d >> 25 & 1);
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        features->avx512_bf16 = features->avx512 && (a >> 5 & 1);
    }
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* Bits as in Linux's Documentation/arch/arm64/elf_hwcaps.rst. */
static void detect(spi_cpu_features *features) {
    unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    features->neon = first >> 1 & 1;
    features->dotprod = first >> 20 & 1;
    features->fp16 = first >> 23 & 1;
    features->i8mm = second >> 13 & 1;
    features->bf16 = second >> 14 & 1;
}
#else
static void detect(spi_cpu_features *features) {
    (void)features;
}
#endif

static spi_cpu_features found;

static void detect_once(void) {
    detect(&found);
}

const spi_cpu_features *spi_cpu_get_features(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect_once);
    return &found;
}

void spi_cpu_name(char *name, size_t capacity) {
    snprintf(name, capacity, "unknown processor");
    FILE *info = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (info && fgets(line, sizeof line, info)) {
        char *colon = strchr(line, ':');
        if (colon && !strncmp(line, "model name", 10)) {
            colon[strcspn(colon, "\n")] = 0;
            snprintf(name, capacity, "%s", colon + 1 + strspn(colon + 1, " "));
            break;
        }
    }
    if (info) {
        fclose(info);
    }
}

/* True if no processor with a lower number in the mask shares this one's core. */
static bool first_of_core(int processor, const cpu_set_t *mask) {
    char path[96], list[64] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", processor);
    FILE *file = fopen(path, "r");
    if (!file) {
        return true;
    }
    char *text = fgets(list, sizeof list, file);
    fclose(file);
    while (text && *text) { /* "0,64" or "0-1" */
        long from = strtol(text, &text, 10), to = *text == '-' ? strtol(text + 1, &text, 10) : from;
        for (long other = from; other <= to && other < processor; other++) {
            if (CPU_ISSET((size_t)other, mask)) {
                return false;
            }
        }
        if (*text != ',') {
            break;
        }
        text++;
    }
    return true;
}

uint32_t spi_cpu_thread_count(void) {
    cpu_set_t mask;
    uint32_t count = 0, limit = spi_quota_read("/proc/self/cgroup", "/proc/self/mountinfo");
    if (sched_getaffinity(0, sizeof mask, &mask)) {
        return 1;
    }
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        count += CPU_ISSET((size_t)processor, &mask) && first_of_core(processor, &mask);
    }
    if (limit && limit < count) {
        count = limit;
    }
    return count ? count : 1;
}
