/* guest/imports_memory.h - the one place where a guest's pointers and lengths are checked.
 *
 * The generated glue calls these before an import runs, with the element size and the length that the table gives, so
 * that no import sees an address. A range that has passed stays good for the whole of a synchronous import: memory
 * never shrinks or moves, and the guest is suspended. Its bytes stay the same for that long, too: a guest has one
 * thread, and it waits for a device's work before it goes on. What is checked and then used is copied out all the same
 * (decision 9 of the design), because nothing but this file should have to be read again when guests get threads.
 *
 * May include: what guest/host.h may.
 */
#ifndef SPI_GUEST_IMPORTS_MEMORY_H
#define SPI_GUEST_IMPORTS_MEMORY_H

#include "guest/host.h"

/* Checked ranges of linear memory. count is of elements; with 0 of them any address passes and bytes is NULL. */
typedef struct spi_input {
    const void *bytes;
    uint32_t count;
} spi_input;

typedef struct spi_output {
    void *bytes;
    uint32_t count;
} spi_output;

/* Elements of 4 bytes must be aligned to 4. import and parameter are for the message. SP_BAD_POINTER. */
sp_status spi_memory_input(sp_guest *guest, const char *import, const char *parameter, uint32_t address, uint32_t count,
                           uint32_t element_bytes, spi_input *input);
sp_status spi_memory_output(sp_guest *guest, const char *import, const char *parameter, uint32_t address,
                            uint32_t count, uint32_t element_bytes, spi_output *output);

/* The same check for a range that a device gets: its length is worked out by the import. */
sp_status spi_memory_range(sp_guest *guest, const char *import, const char *parameter, uint64_t address, uint64_t bytes,
                           uint32_t align_bytes);

/* ---- copying in and out ---- */

/* A copy of all elements from spi_alloc. SP_LIMIT: more than count_max. SP_NO_MEMORY. */
sp_status spi_input_copy(sp_guest *guest, const char *import, spi_input input, uint32_t element_bytes,
                         uint32_t count_max, void **copy);

/* A name as a string. SP_LIMIT: longer than 255 bytes. SP_INVALID: a zero byte in it. */
#define SPI_NAME_BYTES 256
sp_status spi_input_name(sp_guest *guest, const char *import, spi_input input, char name[SPI_NAME_BYTES]);

/* As much of the text or struct as there is room for; for texts the whole length. */
int32_t spi_output_text(spi_output output, const char *text, size_t length);
void spi_output_struct(spi_output output, const void *value, size_t bytes);

#endif
