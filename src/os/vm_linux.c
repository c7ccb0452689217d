/* os/vm_linux.c - what of vm.h is Linux's own: huge pages, unnamed files of memory, and what /proc says of mappings. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/vm.h"

/* Only advice: a kernel without huge pages says no, and small ones do. */
void spi_vm_advise_huge(void *address, size_t bytes) {
    madvise(address, bytes, MADV_HUGEPAGE);
}

sp_status spi_vm_file_create(size_t bytes, int *file) {
    *file = memfd_create("samepage", MFD_CLOEXEC);
    if (*file < 0) {
        return errno == ENOSYS ? SP_UNSUPPORTED : SP_NO_MEMORY;
    }
    if (ftruncate(*file, (off_t)bytes)) {
        close(*file);
        *file = -1;
        return SP_NO_MEMORY;
    }
    return SP_OK;
}

/* struct procmap_query of linux/fs.h, which is newer than the headers of the distributions that we build on. */
typedef struct map_query {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
} map_query;
#define MAP_QUERY          _IOWR('f', 17, map_query)
#define MAP_QUERY_READABLE 1u
#define MAP_QUERY_WRITABLE 2u

/* Asks the kernel for one mapping after the other. False: it cannot tell, or something is in the way; *asked says
 * which. */
static bool query_access(int maps, uintptr_t next, uintptr_t end, uint64_t access, bool *asked) {
    *asked = false;
    while (next < end) {
        map_query query = {.size = sizeof query, .query_addr = next};
        if (ioctl(maps, MAP_QUERY, &query)) {
            *asked = errno == ENOENT; /* nothing is mapped there */
            return false;
        }
        *asked = true;
        if ((query.vma_flags & access) != access) {
            return false;
        }
        next = (uintptr_t)query.vma_end;
    }
    return true;
}

bool spi_vm_has_access(const void *address, size_t bytes, bool writable) {
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) {
        return true;
    }
    bool asked, can = query_access(fileno(maps), (uintptr_t)address, (uintptr_t)address + bytes,
                                   MAP_QUERY_READABLE | (writable ? MAP_QUERY_WRITABLE : 0), &asked);
    if (asked) {
        fclose(maps);
        return can;
    }
    uintptr_t next = (uintptr_t)address, end = next + bytes;
    char line[512];
    while (next < end && fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        char access[5];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, access) != 3 || to <= next) {
            continue;
        }
        if (from > next || access[0] != 'r' || (writable && access[1] != 'w')) {
            break;
        }
        next = to;
    }
    fclose(maps);
    return next >= end;
}

size_t spi_vm_resident_bytes(void) {
    /* The first two numbers of statm are pages: all, resident. */
    FILE *statm = fopen("/proc/self/statm", "r");
    size_t all = 0, resident = 0;
    if (statm) {
        if (fscanf(statm, "%zu %zu", &all, &resident) != 2) {
            resident = 0;
        }
        fclose(statm);
    }
    return resident * spi_vm_page_bytes();
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

void spi_vm_populate(void *address, size_t bytes, bool huge) {
    if (huge) {
        madvise(address, bytes, MADV_HUGEPAGE);
    }
    madvise(address, bytes, MADV_POPULATE_WRITE);
}
