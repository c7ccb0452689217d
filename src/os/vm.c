/* os/vm.c - address space on Linux. See vm.h. */
#include "os/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

size_t spi_vm_page_bytes(void) {
    static size_t page_bytes;
    if (!page_bytes) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    }
    return page_bytes;
}

sp_status spi_vm_reserve(size_t bytes, size_t alignment, void **base, void **mapping, size_t *mapping_bytes) {
    size_t whole;
    if (__builtin_add_overflow(bytes, alignment, &whole)) {
        return SP_NO_ADDRESS_SPACE;
    }
    char *start = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return SP_NO_ADDRESS_SPACE;
    }
    *base = (void *)(((uintptr_t)start + alignment - 1) & ~(uintptr_t)(alignment - 1));
    *mapping = start;
    *mapping_bytes = whole;
    return SP_OK;
}

void spi_vm_release(void *mapping, size_t mapping_bytes) {
    munmap(mapping, mapping_bytes);
}

sp_status spi_vm_commit(void *address, size_t bytes, bool huge) {
    if (mprotect(address, bytes, PROT_READ | PROT_WRITE)) {
        return SP_NO_MEMORY;
    }
    if (huge) {
        /* Only advice: a kernel without huge pages says no, and small ones do. */
        madvise(address, bytes, MADV_HUGEPAGE);
    }
    return SP_OK;
}

sp_status spi_vm_protect(void *address, size_t bytes, bool readable, bool writable) {
    int access = (readable ? PROT_READ : 0) | (writable ? PROT_WRITE : 0);
    return mprotect(address, bytes, access) ? SP_NO_MEMORY : SP_OK;
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

sp_status spi_vm_file_resize(int file, size_t bytes) {
    return ftruncate(file, (off_t)bytes) ? SP_NO_MEMORY : SP_OK;
}

sp_status spi_vm_file_write(int file, const void *bytes, size_t count, uint64_t offset) {
    for (size_t done = 0; done < count;) {
        ssize_t put = pwrite(file, (const char *)bytes + done, count - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return SP_NO_MEMORY;
        }
        done += (size_t)put;
    }
    return SP_OK;
}

sp_status spi_vm_file_gather(int file, const struct iovec *parts, uint32_t count, uint64_t bytes, uint64_t offset) {
    ssize_t put = pwritev(file, parts, (int)count, (off_t)offset);
    if (put >= 0 && (uint64_t)put == bytes) {
        return SP_OK;
    }
    /* Interrupted, or at the limit of one call: one by one. */
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < count && !status; i++) {
        status = spi_vm_file_write(file, parts[i].iov_base, parts[i].iov_len, offset);
        offset += parts[i].iov_len;
    }
    return status;
}

void spi_vm_close(int file) {
    if (file >= 0) {
        close(file);
    }
}

sp_status spi_vm_map_file(void *address, size_t bytes, int file, size_t file_offset) {
    void *mapped = mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, (off_t)file_offset);
    return mapped == MAP_FAILED ? SP_NO_MEMORY : SP_OK;
}

void *spi_vm_map_shared(int file, size_t bytes) {
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return mapped == MAP_FAILED ? NULL : mapped;
}

void spi_vm_unmap(void *address, size_t bytes) {
    if (bytes) {
        munmap(address, bytes);
    }
}

sp_status spi_vm_map_zeros(void *address, size_t bytes, bool huge) {
    void *mapped =
        mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return SP_NO_MEMORY;
    }
    if (huge) {
        madvise(address, bytes, MADV_HUGEPAGE);
    }
    return SP_OK;
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

/* Asks the kernel for one mapping after the other. False: it cannot tell, or something is in the way; *asked says which. */
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
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    bool asked = false,
         can = file >= 0 && query_access(file, (uintptr_t)address, (uintptr_t)address + bytes,
                                         MAP_QUERY_READABLE | (writable ? MAP_QUERY_WRITABLE : 0), &asked);
    FILE *maps = asked || file < 0 ? NULL : fdopen(file, "r");
    if (!maps) {
        spi_vm_close(file);
        return asked ? can : true;
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

void spi_vm_drop(const void *address, size_t bytes) {
    size_t page = spi_vm_page_bytes();
    uintptr_t first = ((uintptr_t)address + page - 1) / page * page, end = ((uintptr_t)address + bytes) / page * page;
    if (first < end) {
        madvise((void *)first, end - first, MADV_DONTNEED);
    }
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
