/* os/dirty_kernel.c - written pages by the kernel's record: see dirty.h. The structures are those of
 * linux/userfaultfd.h and linux/fs.h, declared here because the headers of the distributions that we build on are older
 * than the kernels that we run on. */
#include "os/dirty_ways.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"

#define USER_MODE_ONLY 1 /* allowed without privileges; who settles faults here is the kernel anyway */

typedef struct uffd_api {
    uint64_t api, features, ioctls;
} uffd_api;

typedef struct uffd_range {
    uint64_t start, bytes;
} uffd_range;

typedef struct uffd_register {
    uffd_range range;
    uint64_t mode, ioctls;
} uffd_register;

typedef struct uffd_protect {
    uffd_range range;
    uint64_t mode;
} uffd_protect;

#define UFFD_API                0xaaull
#define UFFD_WP_HUGETLBFS_SHMEM (1ull << 12)
#define UFFD_WP_UNPOPULATED     (1ull << 13)
#define UFFD_WP_ASYNC           (1ull << 15)
#define UFFD_MODE_WP            2ull
#define UFFD_PROTECT_WP         1ull
#define UFFDIO_API_IO           _IOWR(0xaa, 0x3f, uffd_api)
#define UFFDIO_REGISTER_IO      _IOWR(0xaa, 0x00, uffd_register)
#define UFFDIO_PROTECT_IO       _IOWR(0xaa, 0x06, uffd_protect)

typedef struct page_region {
    uint64_t start, end, categories;
} page_region;

typedef struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, regions, region_count, pages_max;
    uint64_t inverted, mask, any_of, returned;
} scan_arguments;

#define SCAN_PROTECT_MATCHING 1ull
#define SCAN_CHECK_ASYNC      2ull
#define PAGE_IS_WRITTEN       (1ull << 1)
#define PAGEMAP_SCAN_IO       _IOWR('f', 16, scan_arguments)
#define REGION_COUNT          256

typedef struct kernel_record {
    spi_dirty base;
    int faults, pagemap;
    page_region regions[REGION_COUNT];
} kernel_record;

static void destroy(spi_dirty *base) {
    kernel_record *dirty = (kernel_record *)base;
    if (dirty->faults >= 0) {
        close(dirty->faults);
    }
    if (dirty->pagemap >= 0) {
        close(dirty->pagemap);
    }
    spi_free(dirty);
}
static sp_status watch(spi_dirty *base, void *address, size_t bytes) {
    const kernel_record *dirty = (const kernel_record *)base;
    uffd_register range = {.range = {(uint64_t)(uintptr_t)address, bytes}, .mode = UFFD_MODE_WP};
    uffd_protect protect = {.range = range.range, .mode = UFFD_PROTECT_WP};
    if (ioctl(dirty->faults, UFFDIO_REGISTER_IO, &range) || ioctl(dirty->faults, UFFDIO_PROTECT_IO, &protect)) {
        return errno == ENOMEM ? SP_NO_MEMORY : SP_UNSUPPORTED;
    }
    return SP_OK;
}

static sp_status take(spi_dirty *base, void *address, size_t bytes,
                      void (*written)(void *env, uint8_t *from, size_t bytes), void *env) {
    kernel_record *dirty = (kernel_record *)base;
    uint64_t at = (uint64_t)(uintptr_t)address, end = at + bytes;
    while (at < end) {
        scan_arguments scan = {.size = sizeof scan,
                               .flags = SCAN_PROTECT_MATCHING | SCAN_CHECK_ASYNC,
                               .start = at,
                               .end = end,
                               .regions = (uint64_t)(uintptr_t)dirty->regions,
                               .region_count = REGION_COUNT,
                               .mask = PAGE_IS_WRITTEN,
                               .returned = PAGE_IS_WRITTEN};
        int count = ioctl(dirty->pagemap, PAGEMAP_SCAN_IO, &scan);
        if (count < 0) {
            return errno == ENOMEM ? SP_NO_MEMORY : SP_UNSUPPORTED;
        }
        for (int i = 0; i < count; i++) {
            const page_region *region = &dirty->regions[i];
            written(env, (uint8_t *)(uintptr_t)region->start, (size_t)(region->end - region->start));
        }
        if (scan.walk_end <= at) {
            return SP_UNSUPPORTED;
        }
        at = scan.walk_end;
    }
    return SP_OK;
}

sp_status spi_dirty_kernel_create(spi_dirty **out) {
    static const spi_dirty_ways ways = {destroy, watch, take};
    *out = NULL;
    kernel_record *dirty = spi_alloc(1, sizeof *dirty);
    if (!dirty) {
        return SP_NO_MEMORY;
    }
    dirty->base.ways = &ways;
    uffd_api api = {.api = UFFD_API, .features = UFFD_WP_ASYNC | UFFD_WP_UNPOPULATED | UFFD_WP_HUGETLBFS_SHMEM};
    scan_arguments probe = {.size = sizeof probe};
    dirty->faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    dirty->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (dirty->faults < 0 || dirty->pagemap < 0 || ioctl(dirty->faults, UFFDIO_API_IO, &api) ||
        !(api.features & UFFD_WP_ASYNC) || ioctl(dirty->pagemap, PAGEMAP_SCAN_IO, &probe) < 0) {
        destroy(&dirty->base);
        return SP_UNSUPPORTED;
    }
    *out = &dirty->base;
    return SP_OK;
}

#else

sp_status spi_dirty_kernel_create(spi_dirty **dirty) {
    *dirty = NULL;
    return SP_UNSUPPORTED;
}

#endif
