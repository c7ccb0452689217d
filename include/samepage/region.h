/* samepage/region.h - one range of memory that a guest, the CPU and a device can all stand on.
 *
 * A region is a reserved range of addresses, committed from its front. Its base never moves and is aligned to
 * SP_REGION_ALIGN_BYTES, so a pointer, an offset or a device's view taken once stays good until the region is
 * destroyed. Two sizes grow in it, and neither ever shrinks:
 *
 *     base            size            committed               reserved       + guard
 *      |--- usable ----|--- no access ---|------ no access ------|-- no access --|
 *
 * `size` is what the CPU and a guest may touch: exactly as large as was asked for, to the page, because Wasmtime leaves
 * bounds checks out and counts on a fault right behind it. `committed` runs ahead of it in large steps, and it is what
 * devices link, because linking a step to a real GPU costs half a millisecond however small it is (docs/links.md).
 * Pages that a device has pinned stay pinned while the CPU's access to them is withheld, so both can be true at once.
 *
 * Threads: the functions that change a region (grow, destroy) need the caller to be its only user at that moment;
 * reading its fields does not.
 */
#ifndef SAMEPAGE_REGION_H
#define SAMEPAGE_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_region sp_region;

/* The base and every step of commitment are multiples of this: it is a huge page on x86-64 and Arm Linux, a multiple
 * of Apple's 16 KiB page, and the length of one KV block of Llama 3.2 1B. */
#define SP_REGION_ALIGN_BYTES ((size_t)2 << 20)

/* How the bytes are backed. It decides what a driver accepts: see the table in docs/links.md. */
typedef enum sp_backing {
    SP_BACKING_ANONYMOUS = 0, /* private anonymous pages, huge where the kernel grants it: every driver takes these */
    SP_BACKING_SHAREABLE,     /* copy-on-write view of an unnamed file, so that two regions can map the same pages; not
                                 on macOS (SP_UNSUPPORTED) */
} sp_backing;

typedef struct sp_region_options {
    size_t reserve_bytes; /* addresses to set aside; 0 means 4 GiB, all that a 32-bit guest can name; rounded up */
    size_t size_bytes;    /* usable from the start, zeroed; rounded up to the page */
    size_t guard_bytes;   /* inaccessible addresses behind the reservation; 0 means none; rounded up to the page */
    sp_backing backing;
    bool small_pages; /* no huge pages: for one that is made in a hurry, of which little will be touched */
} sp_region_options;

/* Reserves and commits. On success *region is the caller's, to be given to sp_region_destroy; on failure it is NULL.
 * SP_NO_ADDRESS_SPACE: the reservation does not fit. SP_NO_MEMORY: the commitment does not.
 * SP_INVALID: size_bytes > reserve_bytes. */
SP_EXPORT sp_status sp_region_create(const sp_region_options *options, sp_region **region, sp_error *error);

/* Releases addresses and pages. Every link to the region must be gone: a live one is a programmer's error.
 * NULL is allowed and does nothing. */
SP_EXPORT void sp_region_destroy(sp_region *region);

/* Makes size_bytes usable (rounded up to the page), new bytes zeroed, base unmoved; asking for less than there is does
 * nothing. Devices that are linked see the new bytes when it returns. SP_NO_MEMORY, SP_LIMIT (past the reservation)
 * and SP_LINK_REFUSED (a linked device cannot take more) leave the region as it was. */
SP_EXPORT sp_status sp_region_grow(sp_region *region, size_t size_bytes, sp_error *error);

/* Borrowed views; good until destroy. */
SP_EXPORT uint8_t *sp_region_base(const sp_region *region);
SP_EXPORT size_t sp_region_size_bytes(const sp_region *region);
SP_EXPORT size_t sp_region_committed_bytes(const sp_region *region);
SP_EXPORT size_t sp_region_reserved_bytes(const sp_region *region);
SP_EXPORT sp_backing sp_region_backing(const sp_region *region);

/* "anonymous" or "shareable": the kind of mapping, as doctor prints it. */
SP_EXPORT const char *sp_backing_name(sp_backing backing);

#ifdef __cplusplus
}
#endif
#endif
