/* actor/manifest.h - what an exported actor carries beside its snapshot: who it is, its unread mail, its timers.
 *
 * The bytes, little-endian: the 8 bytes "SPactor1", then fields {tag u32, length u32, bytes}. A tag below 0x80000000
 * that is not known is skipped; one above means that the file cannot be understood without it. Strings in pairs are
 * separated by a zero byte. Read as hostile: every length is checked, and a failure leaves nothing behind.
 *
 * Owns: what it read. May include: base.
 */
#ifndef SPI_ACTOR_MANIFEST_H
#define SPI_ACTOR_MANIFEST_H

#include "actor/keeper.h"

/* What a file carries, and so what it is read for: more is not written. */
#define SPI_MANIFEST_BYTES_MAX  ((size_t)16 << 20)
#define SPI_MANIFEST_MAIL_MAX   100000u
#define SPI_MANIFEST_TIMERS_MAX 10000u

typedef struct spi_manifest_timer {
    char *note;
    size_t note_bytes;
    uint64_t due_ms;
} spi_manifest_timer;

typedef struct spi_manifest {
    spi_record record; /* name, device, environment, limits, models */
    spi_mail *mail;
    size_t mail_count, mail_capacity;
    spi_manifest_timer *timers;
    size_t timer_count, timer_capacity;
} spi_manifest;

void spi_manifest_free(spi_manifest *manifest);

/* Bytes from spi_alloc. SP_NO_MEMORY, SP_LIMIT (more than is read again). */
sp_status spi_manifest_write(const spi_manifest *manifest, void **bytes, size_t *byte_count, sp_error *error);

/* SP_BAD_FILE, SP_UNSUPPORTED (a newer one), SP_NO_MEMORY. */
sp_status spi_manifest_read(const void *bytes, size_t byte_count, spi_manifest *manifest, sp_error *error);

#endif
