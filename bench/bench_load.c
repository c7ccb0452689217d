/* bench/bench_load.c - what the ways of getting weights into memory cost, and what reading them costs then.
 *
 *     bench_load FILE [THREADS]
 *
 * The file (a model) is in the page cache. Three ways, each in its own child process, by turns, five times:
 *   in place   the mapping itself, as a file of packed weights could be mapped and shared by processes
 *   populated  the same, with its pages mapped beforehand
 *   read       copied by read(2) into huge pages by all threads, as a cache of packed weights would be
 * Loading as it is, with packing, is measured by versus.py --tests start.
 * Prints the seconds until the first pass over the bytes is done, and GB/s of the passes behind it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cpu/bandwidth_kernel.h"
#include "device/cpu/pool.h"
#include "os/clock.h"
#include "os/vm.h"

#define ROUNDS 5
#define PASSES 5
#define HUGE   ((size_t)2 << 20)

typedef struct bytes {
    const uint8_t *at;
    uint8_t *to; /* read: where they are copied */
    size_t count;
    int file;
    uint64_t sums[64 * 8];
} bytes;

static void read_part(void *env, uint32_t part, uint32_t part_count) {
    bytes *of = env;
    uint64_t first, end;
    spi_pool_share(of->count, 4096, part, part_count, &first, &end);
    of->sums[part * 8] += spi_bandwidth_read_avx2(of->at + first, end - first);
}

static void copy_part(void *env, uint32_t part, uint32_t part_count) {
    bytes *of = env;
    uint64_t first, end;
    spi_pool_share(of->count, (uint32_t)HUGE, part, part_count, &first, &end);
    while (first < end) {
        ssize_t got = pread(of->file, of->to + first, end - first, (off_t)first);
        if (got <= 0) {
            perror("bench_load");
            _exit(1);
        }
        first += (uint64_t)got;
    }
}

/* In a child, so that nothing of one way is left for the next. */
static void measure(const char *way, int file, size_t count, uint32_t threads, double *result) {
    spi_pool *pool;
    sp_error error = {0};
    if (spi_pool_create(threads, &pool, &error)) {
        fprintf(stderr, "bench_load: %s\n", error.message);
        _exit(1);
    }
    bytes of = {.count = count, .file = file};
    int64_t start_ns = spi_clock_ns();
    if (!strcmp(way, "read")) {
        void *base, *mapping;
        size_t mapping_bytes, room = (count + HUGE - 1) / HUGE * HUGE;
        if (spi_vm_reserve(room, HUGE, &base, &mapping, &mapping_bytes) || spi_vm_commit(base, room, true)) {
            _exit(1);
        }
        of.at = of.to = base;
        spi_pool_run_parts(pool, copy_part, &of);
    } else {
        int populate = !strcmp(way, "populated") ? MAP_POPULATE : 0;
        of.at = mmap(NULL, count, PROT_READ, MAP_SHARED | populate, file, 0);
        if (of.at == MAP_FAILED) {
            _exit(1);
        }
    }
    spi_pool_run_parts(pool, read_part, &of);
    result[0] = (double)(spi_clock_ns() - start_ns) / 1e9;
    result[1] = 0;
    for (int i = 0; i < PASSES; i++) {
        start_ns = spi_clock_ns();
        spi_pool_run_parts(pool, read_part, &of);
        double rate = (double)count / (double)(spi_clock_ns() - start_ns);
        result[1] = rate > result[1] ? rate : result[1];
    }
    _exit(0);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static const char *const ways[] = {"in place", "populated", "read"};
    struct stat info;
    int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (file < 0 || fstat(file, &info)) {
        fprintf(stderr, "usage: bench_load FILE [THREADS]\n");
        return 2;
    }
    uint32_t threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2;
    size_t count = (size_t)info.st_size / 4096 * 4096;
    double *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double seconds[3][ROUNDS], rates[3][ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int w = 0; w < 3; w++) {
            pid_t child = fork();
            if (!child) {
                measure(ways[w], file, count, threads, shared);
            }
            int status;
            if (child < 0 || waitpid(child, &status, 0) < 0 || status) {
                fprintf(stderr, "bench_load: a child failed\n");
                return 1;
            }
            seconds[w][round] = shared[0];
            rates[w][round] = shared[1];
        }
    }
    for (int w = 0; w < 3; w++) {
        qsort(seconds[w], ROUNDS, sizeof(double), compare);
        qsort(rates[w], ROUNDS, sizeof(double), compare);
        printf("%-10s %6.3f s until read once, then %6.2f GB/s\n", ways[w], seconds[w][ROUNDS / 2],
               rates[w][ROUNDS / 2]);
    }
    return 0;
}
