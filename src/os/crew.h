/* os/crew.h - work of which threads take pieces, for as long as it lasts.
 *
 * For what is long enough to be worth starting threads (some 30 us each) and rare enough not to keep them: memory that
 * is made ready or copied by hundreds of megabytes, a tensor that is quantised. What runs for every token has a pool of
 * its own (device/cpu). May include: base.
 */
#ifndef SPI_OS_CREW_H
#define SPI_OS_CREW_H

#include <stddef.h>
#include <stdint.h>

/* Runs do_piece(env, 0 .. piece_count) on this thread and others: thread_count in all, at most 64. A thread that cannot
 * be had is work for the others. Pieces are taken in their order; returns when all are done. */
void spi_crew_run(uint32_t piece_count, uint32_t thread_count, void (*do_piece)(void *env, uint32_t piece), void *env);

/* The same; `look` is called on this thread after each piece that it did, and when all are done. */
void spi_crew_run_watched(uint32_t piece_count, uint32_t thread_count, void (*do_piece)(void *env, uint32_t piece),
                          void (*look)(void *env), void *env);

/* How many threads are worth it for touching so many bytes: at most 16, and one per processor that this process may
 * use. */
uint32_t spi_crew_size(uint64_t bytes);

/* memcpy, shared out where it is long. */
void spi_crew_copy(void *to, const void *from, size_t bytes);

/* memset to zero, shared out where it is long: past the caches there, which it would only empty. */
void spi_crew_zero(void *address, size_t bytes);

/* spi_vm_populate (vm.h) without new advice, shared out where it is long. Address and bytes: whole pages. */
void spi_crew_populate(void *address, size_t bytes);

#endif
