/* os/vm.h - address space: reserve, commit, protect. The whole memory contract with the system on one page.
 *
 * vm.c is for all systems; vm_linux.c and vm_macos.c are for what differs: 16 KiB pages, no huge ones, no memfd, no
 * /proc. Nothing outside of src/os calls mmap. May include: base.
 */
#ifndef SPI_OS_VM_H
#define SPI_OS_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

size_t spi_vm_page_bytes(void);

/* Sets aside addresses without memory, aligned; *base is the aligned start, *mapping and *mapping_bytes are what
 * spi_vm_release takes. SP_NO_ADDRESS_SPACE. */
sp_status spi_vm_reserve(size_t bytes, size_t alignment, void **base, void **mapping, size_t *mapping_bytes);
void spi_vm_release(void *mapping, size_t mapping_bytes);

/* Makes reserved pages readable and writable; they read as zero until written. huge asks for huge pages where the
 * kernel gives them. SP_NO_MEMORY. */
sp_status spi_vm_commit(void *address, size_t bytes, bool huge);
void spi_vm_advise_huge(void *address, size_t bytes); /* that advice alone; nothing where the system has none */

/* Withholds or gives the CPU's access, keeping the pages and what they hold. SP_NO_MEMORY (the kernel's table of
 * mappings is full). */
sp_status spi_vm_protect(void *address, size_t bytes, bool readable, bool writable);

/* An unnamed file of pages that several mappings can share: memfd, or a temporary file. SP_UNSUPPORTED where the system
 * has none. The file is closed with spi_vm_close. */
sp_status spi_vm_file_create(size_t bytes, int *file);
sp_status spi_vm_file_resize(int file, size_t bytes);
sp_status spi_vm_file_write(int file, const void *bytes, size_t count, uint64_t offset);
struct iovec;
sp_status spi_vm_file_gather(int file, const struct iovec *parts, uint32_t count, uint64_t bytes, uint64_t offset);
void spi_vm_close(int file);

/* Puts a private copy-on-write view of the file over reserved pages. */
sp_status spi_vm_map_file(void *address, size_t bytes, int file, size_t file_offset);

/* A shared view of the whole file somewhere, to write it by; NULL: no room. And the end of any view. */
void *spi_vm_map_shared(int file, size_t bytes);
void spi_vm_unmap(void *address, size_t bytes);

/* Puts fresh pages of zeros in the place of whatever lies there. */
sp_status spi_vm_map_zeros(void *address, size_t bytes, bool huge);

/* Makes pages of a range that will be written to now, all at once, which costs a fraction of faults one by one; huge:
 * as huge pages, if the range is aligned for them. Only advice. */
void spi_vm_populate(void *address, size_t bytes, bool huge);

/* Zeros; long ranges past the caches, which have better things to hold. */
void spi_vm_zero(void *address, size_t bytes);

/* memcpy, long ranges past the caches: for what is not read soon, or not by this processor. */
void spi_vm_copy(void *to, const void *from, size_t bytes);

/* True if every page of the range is mapped with at least this access: Linux asks /proc/self/maps, in one call a
 * mapping where the kernel can (6.11), else by reading all of it; for strict checks before linking and for tests. True
 * where the system cannot tell. */
bool spi_vm_has_access(const void *address, size_t bytes, bool writable);

/* Gives the whole pages inside of a range back to the system. Only for read-only mappings of files: what is read next
 * comes from the file again. Memory that no file backs would be lost. */
void spi_vm_drop(const void *address, size_t bytes);

size_t spi_vm_memory_bytes(void); /* of the machine; 0 if the system does not tell */

/* Resident memory of this process in bytes; 0 if the system does not tell. */
size_t spi_vm_resident_bytes(void);

#endif
