/* guest/rewrite.h - makes all state of a module's instances reachable, or says why it cannot be.
 *
 * A pass over a WebAssembly module (core specification 2.0, the binary format) that adds exports: "samepage.gN" for
 * each mutable global, "samepage.tN" for each table and "samepage.fN" for each function that can be in a table or a
 * global. With the one memory that a guest exports anyway this is all that an instance has between two calls, but for
 * what makes it refuse: whether a passive segment was dropped, references of other kinds, a start function (it would
 * run again). A function can only be referred to if an element segment, an export or a global's initial value names it:
 * the format has that rule so that compilers need not look into code, and neither does this pass.
 *
 * The module is hostile input and was not validated yet. May include: base.
 */
#ifndef SPI_GUEST_REWRITE_H
#define SPI_GUEST_REWRITE_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#define SPI_REWRITE_PREFIX "samepage."

typedef struct spi_rewrite {
    uint8_t *wasm; /* the module with its exports, from spi_alloc */
    size_t wasm_bytes;
    uint32_t *globals, *tables, *functions; /* their indices, ascending: what the exports are named after */
    uint32_t global_count, table_count, function_count;
    uint64_t data_end; /* of the memory that data segments write; UINT64_MAX: not known before it runs */
} spi_rewrite;

/* SP_UNSUPPORTED: the module is not durable, and the message is the reason, without the module's name. SP_BAD_FILE: it
 * is no module at all. SP_NO_MEMORY. On failure *rewrite is empty. */
sp_status spi_rewrite_module(const void *wasm, size_t wasm_bytes, spi_rewrite *rewrite, sp_error *error);
void spi_rewrite_free(spi_rewrite *rewrite);

/* "samepage.g12": kind is 'g', 't' or 'f'. Returns the length. */
size_t spi_rewrite_name(char kind, uint32_t index, char out[24]);

#endif
