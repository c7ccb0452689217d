/* device/cuda/link.c - regions as the card reaches them: registered memory, and a mirror of KV blocks on the card.
 *
 * Registered memory has the same address for kernels as for the host (asked for when the card was chosen), so logits
 * and new KV rows are written straight to the guest. Reading over the bus is 80 times slower than from the card's
 * memory, so blocks are read from a mirror: as many addresses of the card as the region has, at the same offsets,
 * backed with memory only where blocks are. Kernels write each row to both. What the host writes into blocks is taken
 * over when it says so (host_wrote), or when the blocks are first used.
 *
 * Each growth is registered by itself, side by side with what was registered before: kernels run across such seams,
 * the driver's copies do not, and are split there.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"
#include "os/crew.h"

/* What a page of a mirror is, in bits: it has memory; what lies there is what it should be; the host wrote to the
 * region's page while that was not so. Memory without the second is left from an earlier user of the region. */
enum { PAGE_MEMORY = 1, PAGE_VALID = 2, PAGE_WRITTEN = 4 };

static uint64_t registered_bytes(const spi_cu_link *link) {
    const spi_cu_range *last = link->range_count ? &link->ranges[link->range_count - 1] : NULL;
    return last ? last->first + last->bytes : 0;
}

/* Registers what was committed since. */
static sp_status register_more(spi_cu *cu, spi_cu_link *link, sp_error *error) {
    uint64_t first = registered_bytes(link), end = sp_region_committed_bytes(link->base.region);
    if (first >= end) {
        return SP_OK;
    }
    if (!SPI_RESERVE(link->ranges, link->range_count, link->range_capacity)) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to link a region");
    }
    uint8_t *address = sp_region_base(link->base.region) + first;
    /* The driver makes the pages that are missing, one by one and on one processor. */
    spi_crew_populate(address, end - first);
    spi_cu_result result = cu->call->MemHostRegister(address, end - first, SPI_CU_HOST_PORTABLE | SPI_CU_HOST_MAPPED);
    if (result) {
        spi_cu_fail(error, result, "registering a region's memory");
        return spi_fail_within(error, "linking bytes %llu to %llu of a region", (unsigned long long)first,
                               (unsigned long long)end) == SP_NO_MEMORY
                   ? SP_NO_MEMORY
                   : (error->status = SP_LINK_REFUSED);
    }
    spi_cu_pointer seen = 0;
    result = cu->call->MemHostGetDevicePointer(&seen, address, 0);
    if (result || seen != (uintptr_t)address) {
        cu->call->MemHostUnregister(address);
        return spi_fail(error, SP_LINK_REFUSED, "cuda: the card sees a region's memory at another address (%d)",
                        result);
    }
    link->ranges[link->range_count++] = (spi_cu_range){first, end - first};
    return SP_OK;
}

static sp_status reserve_mirror(spi_cu *cu, spi_cu_link *link, sp_error *error) {
    uint64_t reserved = sp_region_reserved_bytes(link->base.region);
    if (cu->choices.in_place) {
        link->mirror = (uintptr_t)sp_region_base(link->base.region);
        return SP_OK;
    }
    uint64_t pages = (reserved + cu->page_bytes - 1) / cu->page_bytes;
    link->pages = spi_alloc(pages, sizeof *link->pages);
    if (!link->pages) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to link a region");
    }
    spi_cu_result result = cu->call->MemAddressReserve(&link->mirror, pages * cu->page_bytes, 0, 0, 0);
    if (result) {
        link->mirror = 0;
        return spi_cu_check(cu, result, "reserving the card's addresses for a region", error);
    }
    link->mirror_bytes = pages * cu->page_bytes;
    return SP_OK;
}

static void unlink_all(spi_cu *cu, spi_cu_link *link) {
    for (spi_cu_link **place = &cu->links; *place; place = &(*place)->next) {
        if (*place == link) {
            *place = link->next;
            break;
        }
    }
    for (size_t i = 0; i < link->backing_count; i++) {
        cu->call->MemUnmap(link->mirror + link->backings[i].first, link->backings[i].bytes);
        cu->call->MemRelease(link->backings[i].handle);
    }
    if (link->mirror_bytes) {
        cu->call->MemAddressFree(link->mirror, link->mirror_bytes);
    }
    for (size_t i = link->range_count; i-- > 0;) {
        cu->call->MemHostUnregister(sp_region_base(link->base.region) + link->ranges[i].first);
    }
    spi_free(link->backings);
    spi_free(link->pages);
    spi_free(link->ranges);
    spi_free(link);
}

sp_status spi_cu_link_region(void *context, sp_region *region, spi_link **out, sp_error *error) {
    spi_cu *cu = context;
    *out = NULL;
    sp_status status = spi_cu_enter(cu, error);
    if (status) {
        return status;
    }
    spi_cu_link *link = spi_alloc(1, sizeof *link);
    if (!link) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to link a region");
    }
    link->base.region = region;
    link->base.kind = cu->info.link;
    status = register_more(cu, link, error);
    status = status ? status : reserve_mirror(cu, link, error);
    if (status) {
        unlink_all(cu, link);
        return status;
    }
    link->next = cu->links;
    cu->links = link;
    *out = &link->base;
    return SP_OK;
}

sp_status spi_cu_link_extend(void *context, spi_link *base, sp_error *error) {
    spi_cu *cu = context;
    sp_status status = spi_cu_enter(cu, error);
    return status ? status : register_more(cu, (spi_cu_link *)base, error);
}

void spi_cu_link_remove(void *context, spi_link *base) {
    spi_cu *cu = context;
    cu->call->CtxSetCurrent(cu->context);
    cu->call->StreamSynchronize(cu->stream);
    unlink_all(cu, (spi_cu_link *)base);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Copies bytes [first, end) of the region, if there are any, to the mirror, which is backed there. Behind the region's
 * size nothing was written, and the driver may not read it: small copies it makes with the processor. */
static sp_status take_over(spi_cu *cu, const spi_cu_link *link, uint64_t first, uint64_t end, sp_error *error) {
    sp_status status = SP_OK;
    end = least(end, sp_region_size_bytes(link->base.region));
    for (size_t i = 0; i < link->range_count && !status; i++) {
        const spi_cu_range *range = &link->ranges[i];
        uint64_t low = range->first > first ? range->first : first;
        uint64_t high = range->first + range->bytes < end ? range->first + range->bytes : end;
        if (low < high) {
            spi_cu_result result = cu->call->MemcpyHtoDAsync(
                link->mirror + low, sp_region_base(link->base.region) + low, high - low, cu->stream);
            status = spi_cu_check(cu, result, "copying blocks to the card", error);
            cu->copied_bytes += high - low;
        }
    }
    return status;
}

static bool has_valid_page(const spi_cu *cu, const spi_cu_link *link, const spi_cu_backing *backing) {
    uint64_t first = backing->first / cu->page_bytes, end = (backing->first + backing->bytes) / cu->page_bytes;
    for (uint64_t page = first; page < end; page++) {
        if (link->pages[page] & PAGE_VALID) {
            return true;
        }
    }
    return false;
}

static void unback(spi_cu *cu, spi_cu_link *link, size_t index) {
    spi_cu_backing backing = link->backings[index];
    cu->call->MemUnmap(link->mirror + backing.first, backing.bytes);
    cu->call->MemRelease(backing.handle);
    for (uint64_t page = backing.first / cu->page_bytes; page * cu->page_bytes < backing.first + backing.bytes;
         page++) {
        link->pages[page] &= (uint8_t)~PAGE_MEMORY;
    }
    link->backings[index] = link->backings[--link->backing_count];
}

/* Takes away memory that waits behind regions for their next user, but for this one's. False: there is none. */
static bool make_room(spi_cu *cu, const spi_cu_link *beside) {
    bool any = false;
    for (spi_cu_link *link = cu->links; link; link = link->next) {
        for (size_t i = link == beside ? 0 : link->backing_count; i-- > 0;) {
            if (!has_valid_page(cu, link, &link->backings[i])) {
                if (!any) {
                    cu->call->StreamSynchronize(cu->stream);
                }
                unback(cu, link, i);
                any = true;
            }
        }
    }
    return any;
}

static sp_status allocate(spi_cu *cu, const spi_cu_link *link, spi_cu_backing *backing, sp_error *error) {
    const spi_cu_allocation allocation = {.type = SPI_CU_PINNED, .location = {SPI_CU_LOCATION_DEVICE, cu->card.device}};
    spi_cu_result result = cu->call->MemCreate(&backing->handle, backing->bytes, &allocation, 0);
    if (result == SPI_CU_OUT_OF_MEMORY && make_room(cu, link)) {
        result = cu->call->MemCreate(&backing->handle, backing->bytes, &allocation, 0);
    }
    if (result == SPI_CU_OUT_OF_MEMORY) {
        return spi_fail(error, SP_NO_MEMORY,
                        "cuda: no memory left on the card for %llu bytes of a session's blocks: close a session, or "
                        "make contexts shorter",
                        (unsigned long long)backing->bytes);
    }
    return spi_cu_check(cu, result, "allocating blocks", error);
}

/* Puts memory behind whole pages [first, end), none of which has any. */
static sp_status back(spi_cu *cu, spi_cu_link *link, uint64_t first, uint64_t end, sp_error *error) {
    if (!SPI_RESERVE(link->backings, link->backing_count, link->backing_capacity)) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to back a session's blocks");
    }
    const spi_cu_access access = {{SPI_CU_LOCATION_DEVICE, cu->card.device}, SPI_CU_ACCESS_READ_WRITE};
    spi_cu_backing backing = {first, end - first, 0};
    sp_status status = allocate(cu, link, &backing, error);
    if (status) {
        return status;
    }
    bool mapped = false;
    spi_cu_result result = cu->call->MemMap(link->mirror + first, end - first, 0, backing.handle, 0);
    if (!result) {
        mapped = true;
        result = cu->call->MemSetAccess(link->mirror + first, end - first, &access, 1);
    }
    if (result) {
        if (mapped) {
            cu->call->MemUnmap(link->mirror + first, end - first);
        }
        cu->call->MemRelease(backing.handle);
        return spi_cu_check(cu, result, "mapping blocks", error);
    }
    link->backings[link->backing_count++] = backing;
    return SP_OK;
}

/* Memory behind pages [at, stop): new where there is none, and cleared where there is some, for nobody reads what an
 * earlier user left. */
static sp_status give_memory(spi_cu *cu, spi_cu_link *link, uint64_t at, uint64_t stop, sp_error *error) {
    uint64_t page_bytes = cu->page_bytes;
    sp_status status = SP_OK;
    while (at < stop && !status) {
        uint8_t has = link->pages[at] & PAGE_MEMORY;
        uint64_t end = at + 1;
        while (end < stop && (link->pages[end] & PAGE_MEMORY) == has) {
            end++;
        }
        if (has) {
            spi_cu_result result =
                cu->call->MemsetD8Async(link->mirror + at * page_bytes, 0, (end - at) * page_bytes, cu->stream);
            status = spi_cu_check(cu, result, "clearing blocks", error);
        } else {
            status = back(cu, link, at * page_bytes, end * page_bytes, error);
        }
        at = end;
    }
    return status;
}

/* Puts into pages [at, stop), which have memory now, all but what the session is about to write, bytes [valid_end,
 * end): a page may hold blocks of its neighbours, too. */
static sp_status fill(spi_cu *cu, const spi_cu_link *link, uint64_t at, uint64_t stop, uint64_t valid_end, uint64_t end,
                      sp_error *error) {
    uint64_t page_bytes = cu->page_bytes;
    sp_status status = take_over(cu, link, at * page_bytes, least(stop * page_bytes, valid_end), error);
    status = status ? status : take_over(cu, link, end, stop * page_bytes, error);
    for (uint64_t page = at; page < stop && !status; page++) {
        if (link->pages[page] & PAGE_WRITTEN) { /* by the host, there too */
            uint64_t from = page * page_bytes > valid_end ? page * page_bytes : valid_end;
            status = take_over(cu, link, from, least((page + 1) * page_bytes, end), error);
        }
    }
    return status;
}

/* Takes away what was backed since there were so many: pages have memory and all that lies in them, or none that was
 * new. */
static void unback_new(spi_cu *cu, spi_cu_link *link, size_t count) {
    cu->call->StreamSynchronize(cu->stream); /* copies into it may be on their way */
    while (link->backing_count > count) {
        unback(cu, link, link->backing_count - 1);
    }
}

sp_status spi_cu_link_cover(spi_cu *cu, spi_link *base, uint64_t first, uint64_t end, uint64_t valid_end,
                            sp_error *error) {
    spi_cu_link *link = (spi_cu_link *)base;
    if (!link->mirror_bytes) {
        return SP_OK;
    }
    sp_status status = SP_OK;
    uint64_t page_bytes = cu->page_bytes;
    for (uint64_t at = first / page_bytes; at * page_bytes < end && !status;) {
        uint64_t stop = at;
        while (stop * page_bytes < end && !(link->pages[stop] & PAGE_VALID)) {
            stop++;
        }
        if (stop == at) {
            at++;
            continue;
        }
        size_t before = link->backing_count;
        status = give_memory(cu, link, at, stop, error);
        status = status ? status : fill(cu, link, at, stop, valid_end, end, error);
        if (status) {
            unback_new(cu, link, before);
            break;
        }
        memset(link->pages + at, PAGE_MEMORY | PAGE_VALID, stop - at);
        at = stop;
    }
    return status;
}

void spi_cu_link_ahead(void *context, spi_link *base, uint64_t offset, uint64_t bytes) {
    spi_cu *cu = context;
    sp_error ignored = {0};
    if (!spi_cu_enter(cu, &ignored)) {
        (void)spi_cu_link_cover(cu, base, offset, offset + bytes, offset + bytes, &ignored);
    }
}

sp_status spi_cu_link_forget(void *context, spi_link *base, sp_error *error) {
    spi_cu *cu = context;
    spi_cu_link *link = (spi_cu_link *)base;
    sp_status status = spi_cu_enter(cu, error);
    status = status ? status : spi_cu_wait(cu, "letting go of a region", error);
    for (uint64_t page = 0; page < link->mirror_bytes / cu->page_bytes && !status; page++) {
        link->pages[page] &= PAGE_MEMORY;
    }
    return status;
}

sp_status spi_cu_link_host_wrote(void *context, spi_link *base, uint64_t offset, uint64_t bytes, sp_error *error) {
    spi_cu *cu = context;
    spi_cu_link *link = (spi_cu_link *)base;
    sp_status status = spi_cu_enter(cu, error);
    if (status || !link->mirror_bytes) {
        return status;
    }
    uint64_t page_bytes = cu->page_bytes, end = offset + bytes;
    bool sent = false;
    for (uint64_t at = offset / page_bytes; at * page_bytes < end && !status; at++) {
        if (!(link->pages[at] & PAGE_VALID)) {
            link->pages[at] |= PAGE_WRITTEN;
        } else {
            uint64_t from = at * page_bytes > offset ? at * page_bytes : offset;
            status = take_over(cu, link, from, least((at + 1) * page_bytes, end), error);
            sent = true;
        }
    }
    return status || !sent ? status : spi_cu_wait(cu, "copying blocks to the card", error);
}
