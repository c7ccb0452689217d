/* guest/imports.h - what the imports keep for a guest: its handles and its latest error.
 *
 * A handle is a positive number of 31 bits: a slot, what kind of thing it names, and the slot's generation, which
 * begins at random and changes whenever the slot is freed. A handle that was closed, made up, or of another guest or
 * kind is therefore found out; and since every guest has a table of its own, the worst that a lucky guess can reach is
 * the guest's own things.
 *
 *     bit 30 .. 15 generation | 14 .. 12 kind | 11 .. 0 slot
 *
 * Owns: sessions and samplers behind open handles. May include: what guest/host.h may.
 */
#ifndef SPI_GUEST_IMPORTS_H
#define SPI_GUEST_IMPORTS_H

#include "guest/host.h"

typedef enum spi_handle_kind {
    SPI_HANDLE_FREE = 0,
    SPI_HANDLE_MODEL,
    SPI_HANDLE_SESSION,
    SPI_HANDLE_SAMPLER,
} spi_handle_kind;

typedef struct spi_slot {
    union {
        sp_model *model; /* the host's */
        sp_session *session;
        sp_sampler *sampler;
    };
    uint64_t offset, bytes; /* SESSION: what was reserved of linear memory */
    uint16_t generation;
    uint8_t kind;
} spi_slot;

#define SPI_HANDLE_COUNT_MAX 4096u

struct spi_host {
    sp_error error; /* of the latest failure; SP_OK: none so far */
    spi_slot *slots;
    uint32_t slot_count; /* that there is room for at present */
    uint32_t open_count, open_count_max;
};

/* Where a failing import writes its message. */
sp_error *spi_host_error(sp_guest *guest);

/* A slot for a new thing and its handle; the caller fills it in, or frees it if the thing cannot be made. SP_LIMIT,
 * SP_NO_MEMORY. */
sp_status spi_handle_open(sp_guest *guest, spi_handle_kind kind, spi_slot **slot, int32_t *handle);

/* The slot behind a handle; NULL, and SP_BAD_HANDLE as the guest's error, if it is not an open one of this kind. The
 * import's name is for the message. The pointer is good until the next open. */
spi_slot *spi_handle_find(sp_guest *guest, const char *import, spi_handle_kind kind, int32_t handle);

/* Frees the slot; what it held is the caller's to destroy. */
void spi_handle_close(sp_guest *guest, spi_slot *slot);

#endif
