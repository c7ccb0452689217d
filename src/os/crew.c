/* os/crew.c - see crew.h. */
#include "os/crew.h"

#include <stdatomic.h>

#include "os/cpu.h"
#include "os/thread.h"
#include "os/vm.h"

enum { THREADS_MAX = 64, TOUCHING_MAX = 16 };

#define PIECE_BYTES ((size_t)4 << 20) /* a thread's start is a tenth of what copying so much takes */
/* Making pages goes through locks of the whole address space: with four threads it was three times as fast as with one,
 * with eight no faster than with two. */
#define POPULATE_THREADS 4

typedef struct crew {
    void (*do_piece)(void *env, uint32_t piece);
    void *env;
    uint32_t piece_count;
    atomic_uint taken;
} crew;

static void take_pieces(void *env) {
    crew *all = env;
    for (uint32_t piece; (piece = atomic_fetch_add(&all->taken, 1)) < all->piece_count;) {
        all->do_piece(all->env, piece);
    }
}

static void ignore(void *env) {
    (void)env;
}

void spi_crew_run_watched(uint32_t piece_count, uint32_t thread_count, void (*do_piece)(void *env, uint32_t piece),
                          void (*look)(void *env), void *env) {
    crew all = {.do_piece = do_piece, .env = env, .piece_count = piece_count};
    spi_thread threads[THREADS_MAX];
    uint32_t wanted = piece_count < thread_count ? piece_count : thread_count, started = 0;
    wanted = wanted < THREADS_MAX ? wanted : THREADS_MAX;
    while (started + 1 < wanted && !spi_thread_start(&threads[started], "samepage-crew", take_pieces, &all)) {
        started++;
    }
    for (uint32_t piece; (piece = atomic_fetch_add(&all.taken, 1)) < piece_count;) {
        do_piece(env, piece);
        look(env);
    }
    while (started) {
        spi_thread_join(&threads[--started]);
    }
    look(env);
}

void spi_crew_run(uint32_t piece_count, uint32_t thread_count, void (*do_piece)(void *env, uint32_t piece), void *env) {
    spi_crew_run_watched(piece_count, thread_count, do_piece, ignore, env);
}

uint32_t spi_crew_size(uint64_t bytes) {
    uint64_t worth = bytes / PIECE_BYTES + 1;
    if (worth == 1) {
        return 1;
    }
    uint32_t processors = spi_cpu_thread_count(), most = processors < TOUCHING_MAX ? processors : TOUCHING_MAX;
    return worth < most ? (uint32_t)worth : most;
}

typedef struct stretch {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
} stretch;

static size_t piece_of(const stretch *all, uint32_t piece, size_t *offset) {
    *offset = piece * PIECE_BYTES;
    return all->bytes - *offset < PIECE_BYTES ? all->bytes - *offset : PIECE_BYTES;
}

static uint32_t pieces_in(size_t bytes) {
    return (uint32_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES);
}

static void copy_piece(void *env, uint32_t piece) {
    const stretch *all = env;
    size_t offset, bytes = piece_of(all, piece, &offset);
    spi_vm_copy(all->to + offset, all->from + offset, bytes);
}

void spi_crew_copy(void *to, const void *from, size_t bytes) {
    stretch all = {.to = to, .from = from, .bytes = bytes};
    spi_crew_run(pieces_in(bytes), spi_crew_size(bytes), copy_piece, &all);
}

static void zero_piece(void *env, uint32_t piece) {
    const stretch *all = env;
    size_t offset, bytes = piece_of(all, piece, &offset);
    spi_vm_zero(all->to + offset, bytes);
}

void spi_crew_zero(void *address, size_t bytes) {
    stretch all = {.to = address, .bytes = bytes};
    spi_crew_run(pieces_in(bytes), spi_crew_size(bytes), zero_piece, &all);
}

static void populate_piece(void *env, uint32_t piece) {
    const stretch *all = env;
    size_t offset, bytes = piece_of(all, piece, &offset);
    spi_vm_populate(all->to + offset, bytes, false);
}

void spi_crew_populate(void *address, size_t bytes) {
    stretch all = {.to = address, .bytes = bytes};
    uint32_t threads = spi_crew_size(bytes);
    spi_crew_run(pieces_in(bytes), threads < POPULATE_THREADS ? threads : POPULATE_THREADS, populate_piece, &all);
}
