/* os/crew.h - work of which threads take pieces, for as long as it lasts.
 *
 * For what is long enough to be worth starting threads (some 30 us each) and rare enough not to keep them: memory that is
 * made ready or copied by hundreds of megabytes. What runs for every token has a pool of its own (device/cpu). May
 * include: base.
 */
#ifndef SPI_OS_CREW_H
#define SPI_OS_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Runs do_piece(env, 0 .. piece_count) on this thread and as many others as help: at most thread_max in all, at most one
 * per processor that this process may use. A thread that cannot be had is work for the others. Pieces are taken in their
 * order; returns when all are done. */
void spi_crew_run(uint32_t piece_count, uint32_t thread_max, void (*do_piece)(void *env, uint32_t piece), void *env);

/* memcpy, shared out where it is long. */
void spi_crew_copy(void *to, const void *from, size_t bytes);

/* spi_vm_populate (vm.h), shared out where it is long. Address and bytes: whole pages. */
void spi_crew_populate(void *address, size_t bytes, bool huge);

#endif
