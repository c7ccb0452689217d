/* os/vm.c - address space as POSIX systems have it. What only one has is in vm_linux.c and vm_macos.c. See vm.h. */
#include "os/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define ZERO_PAST_CACHES_MIN ((size_t)256 << 10)
#define COPY_PAST_CACHES_MIN ((size_t)1 << 20)

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
        spi_vm_advise_huge(address, bytes);
    }
    return SP_OK;
}

sp_status spi_vm_protect(void *address, size_t bytes, bool readable, bool writable) {
    int access = (readable ? PROT_READ : 0) | (writable ? PROT_WRITE : 0);
    return mprotect(address, bytes, access) ? SP_NO_MEMORY : SP_OK;
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
    /* An emulator with larger pages than its host's would let this through. */
    if (((uintptr_t)address | bytes | file_offset) % spi_vm_page_bytes()) {
        return SP_INVALID;
    }
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
    if (((uintptr_t)address | bytes) % spi_vm_page_bytes()) {
        return SP_INVALID;
    }
    void *mapped =
        mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return SP_NO_MEMORY;
    }
    if (huge) {
        spi_vm_advise_huge(address, bytes);
    }
    return SP_OK;
}

#if defined(__SSE2__)
static void zero_past_caches(uint8_t *at, const uint8_t *end) {
    const __m128i zero = _mm_setzero_si128();
    for (; at < end; at += 64) {
        for (int i = 0; i < 4; i++) {
            _mm_stream_si128((__m128i *)(void *)(at + i * 16), zero);
        }
    }
    _mm_sfence();
}

void spi_vm_zero(void *address, size_t bytes) {
    uint8_t *at = address, *end = at + bytes;
    uint8_t *first = (uint8_t *)(((uintptr_t)at + 63) & ~(uintptr_t)63),
            *last = (uint8_t *)((uintptr_t)end & ~(uintptr_t)63);
    if (bytes < ZERO_PAST_CACHES_MIN) {
        memset(address, 0, bytes);
        return;
    }
    memset(at, 0, (size_t)(first - at));
    zero_past_caches(first, last);
    memset(last, 0, (size_t)(end - last));
}

/* Whole lines to an address that is one's. */
static void copy_past_caches(uint8_t *to, const uint8_t *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) {
        __m128i line[4];
        _mm_prefetch((const char *)from + at + 1024, _MM_HINT_T0);
        for (int i = 0; i < 4; i++) {
            line[i] = _mm_loadu_si128((const __m128i *)(const void *)(from + at + i * 16));
        }
        for (int i = 0; i < 4; i++) {
            _mm_stream_si128((__m128i *)(void *)(to + at + i * 16), line[i]);
        }
    }
    _mm_sfence();
}

void spi_vm_copy(void *to, const void *from, size_t bytes) {
    uint8_t *at = to;
    const uint8_t *source = from;
    if (bytes < COPY_PAST_CACHES_MIN) {
        memcpy(to, from, bytes);
        return;
    }
    size_t before = (64 - (uintptr_t)at % 64) % 64, lines = (bytes - before) / 64 * 64;
    memcpy(at, source, before);
    copy_past_caches(at + before, source + before, lines);
    memcpy(at + before + lines, source + before + lines, bytes - before - lines);
}
#else
void spi_vm_zero(void *address, size_t bytes) {
    memset(address, 0, bytes);
}

void spi_vm_copy(void *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
}
#endif

size_t spi_vm_memory_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (size_t)pages * spi_vm_page_bytes() : 0;
}

void spi_vm_drop(const void *address, size_t bytes) {
    size_t page = spi_vm_page_bytes();
    uintptr_t first = ((uintptr_t)address + page - 1) / page * page, end = ((uintptr_t)address + bytes) / page * page;
    if (first < end) {
        madvise((void *)first, end - first, MADV_DONTNEED);
    }
}
