/* region/region.c - reserved, committed, usable: see samepage/region.h for the picture. */
#include "region/region.h"

#include <assert.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/crew.h"
#include "os/dirty.h"
#include "os/vm.h"

#define DEFAULT_RESERVE_BYTES ((size_t)4 << 30)

struct sp_region {
    uint8_t *base;
    size_t size_bytes, committed_bytes, reserved_bytes;
    size_t announced_bytes; /* committed, and every watcher took it */
    size_t guard_bytes;
    size_t stale_first, stale_end; /* what an earlier user left, none of it usable; empty: the two are the same */
    sp_backing backing;
    bool small_pages;
    bool has_file_pages; /* pieces of it are views of other files */
    int file;            /* SP_BACKING_SHAREABLE */
    void *mapping;
    size_t mapping_bytes;
    spi_region_watcher *watchers;
};

static size_t round_up(size_t bytes, size_t step) {
    return (bytes + step - 1) / step * step;
}

/* Large steps: at least a quarter more than there is, so that a region that grows page by page is linked a handful of
 * times and not thousands. */
static size_t next_commitment(const sp_region *region, size_t size_bytes) {
    size_t wanted = region->committed_bytes + region->committed_bytes / 4;
    if (wanted < size_bytes || !region->committed_bytes) {
        wanted = size_bytes;
    }
    wanted = round_up(wanted, SP_REGION_ALIGN_BYTES);
    return wanted < region->reserved_bytes ? wanted : region->reserved_bytes;
}

static sp_status commit(sp_region *region, size_t committed_bytes) {
    size_t from = region->committed_bytes, more = committed_bytes - from;
    if (region->backing == SP_BACKING_ANONYMOUS) {
        return spi_vm_commit(region->base + from, more, !region->small_pages);
    }
    sp_status status = spi_vm_file_resize(region->file, committed_bytes);
    return status ? status : spi_vm_map_file(region->base + from, more, region->file, from);
}

sp_status spi_region_open_tail(sp_region *region) {
    spi_dirty_open(region->base, region->size_bytes);
    size_t tail = region->committed_bytes - region->size_bytes;
    return tail ? spi_vm_protect(region->base + region->size_bytes, tail, true, true) : SP_OK;
}

sp_status spi_region_close_tail(sp_region *region) {
    spi_dirty_close(region->base, region->size_bytes);
    size_t tail = region->committed_bytes - region->size_bytes;
    return tail ? spi_vm_protect(region->base + region->size_bytes, tail, false, false) : SP_OK;
}

/* Zeros in the place of what is stale in [first, end), which is accessible and about to become usable. */
static void clear_stale(sp_region *region, size_t first, size_t end) {
    size_t from = first > region->stale_first ? first : region->stale_first;
    size_t to = end < region->stale_end ? end : region->stale_end;
    if (from < to) {
        spi_crew_zero(region->base + from, to - from);
    }
}

/* All below end has been dealt with. */
static void forget_stale(sp_region *region, size_t end) {
    region->stale_first = end > region->stale_first ? end : region->stale_first;
    if (region->stale_first >= region->stale_end) {
        region->stale_first = region->stale_end = 0;
    }
}

/* Commits at least size_bytes. */
static sp_status extend(sp_region *region, size_t size_bytes, sp_error *error) {
    size_t target = next_commitment(region, size_bytes);
    if (commit(region, target)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to grow a region from %zu to %zu bytes",
                        region->committed_bytes, target);
    }
    region->committed_bytes = target;
    return SP_OK;
}

/* Tells every watcher of what is committed, with all of it accessible. A refusal is remembered: what was not announced
 * is announced again before it may be used. */
static sp_status announce(sp_region *region, sp_error *error) {
    sp_status status = region->watchers ? spi_region_open_tail(region) : SP_OK;
    if (status) {
        return spi_fail(error, status, "the system cannot protect more ranges of memory");
    }
    for (spi_region_watcher *watcher = region->watchers; watcher && !status; watcher = watcher->next) {
        status = watcher->committed(watcher->env, region, error);
    }
    region->announced_bytes = status ? region->announced_bytes : region->committed_bytes;
    return status;
}

sp_status sp_region_grow(sp_region *region, size_t size_bytes, sp_error *error) {
    if (size_bytes <= region->size_bytes) {
        return SP_OK;
    }
    if (size_bytes > region->reserved_bytes) {
        return spi_fail(error, SP_LIMIT, "a region of %zu bytes cannot grow to %zu", region->reserved_bytes,
                        size_bytes);
    }
    size_t target = round_up(size_bytes, spi_vm_page_bytes());
    sp_status status = SP_OK;
    if (target > region->committed_bytes) {
        status = extend(region, target, error);
    }
    if (!status && target > region->announced_bytes) {
        status = announce(region, error);
    }
    if (!status) {
        status = spi_vm_protect(region->base + region->size_bytes, target - region->size_bytes, true, true);
    }
    if (!status) {
        clear_stale(region, region->size_bytes, target);
        forget_stale(region, target);
        region->size_bytes = target;
    }
    /* On the way out of a failure too: what lies behind size must fault. */
    sp_status closed = spi_region_close_tail(region);
    if (!status && closed) {
        status = spi_fail(error, SP_NO_MEMORY, "the system cannot protect more ranges of memory");
    }
    return status;
}

static sp_status set_up(sp_region *region, const sp_region_options *options, sp_error *error) {
    size_t guard = round_up(options->guard_bytes, spi_vm_page_bytes());
    void *base = NULL;
    if (options->backing == SP_BACKING_SHAREABLE) {
        sp_status status = spi_vm_file_create(0, &region->file);
        if (status) {
            return spi_fail(error, status, "shareable regions are not to be had on this system");
        }
    }
    size_t whole;
    if (__builtin_add_overflow(region->reserved_bytes, guard, &whole) ||
        spi_vm_reserve(whole, SP_REGION_ALIGN_BYTES, &base, &region->mapping, &region->mapping_bytes)) {
        return spi_fail(error, SP_NO_ADDRESS_SPACE, "no %zu bytes of address space for a region: see ulimit -v",
                        region->reserved_bytes);
    }
    region->base = base;
    region->guard_bytes = guard;
    return sp_region_grow(region, options->size_bytes, error);
}

sp_status sp_region_create(const sp_region_options *options, sp_region **out, sp_error *error) {
    *out = NULL;
    size_t reserve = options->reserve_bytes ? options->reserve_bytes : DEFAULT_RESERVE_BYTES;
    if (options->size_bytes > reserve || reserve > SIZE_MAX / 4 || options->guard_bytes > SIZE_MAX / 4) {
        return spi_fail(error, SP_INVALID, "a region of %zu bytes does not fit into its reservation of %zu bytes",
                        options->size_bytes, reserve);
    }
    sp_region *region = spi_alloc(1, sizeof *region);
    if (!region) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a region");
    }
    region->reserved_bytes = round_up(reserve, SP_REGION_ALIGN_BYTES);
    region->backing = options->backing;
    region->small_pages = options->small_pages;
    region->file = -1;
    sp_status status = set_up(region, options, error);
    if (status) {
        sp_region_destroy(region);
        return status;
    }
    *out = region;
    return SP_OK;
}

void sp_region_destroy(sp_region *region) {
    if (!region) {
        return;
    }
    assert(!region->watchers && "a device is still linked to this region");
    if (region->mapping) {
        spi_vm_release(region->mapping, region->mapping_bytes);
    }
    spi_vm_close(region->file);
    spi_free(region);
}

void spi_region_watch(sp_region *region, spi_region_watcher *watcher) {
    watcher->next = region->watchers;
    region->watchers = watcher;
}

void spi_region_unwatch(sp_region *region, spi_region_watcher *watcher) {
    spi_region_watcher **place = &region->watchers;
    while (*place && *place != watcher) {
        place = &(*place)->next;
    }
    assert(*place && "this watcher does not watch this region");
    *place = watcher->next;
}

bool spi_region_is_watched(const sp_region *region) {
    return region->watchers != NULL;
}

static sp_status check_pieces(const sp_region *region, const spi_region_piece *pieces, uint32_t count,
                              sp_error *error) {
    size_t page = spi_vm_page_bytes();
    bool has_files = false;
    for (uint32_t i = 0; i < count; i++) {
        const spi_region_piece *piece = &pieces[i];
        assert(piece->bytes && piece->offset % page == 0 && piece->bytes % page == 0 && piece->file_offset % page == 0);
        assert(piece->offset <= region->size_bytes && piece->bytes <= region->size_bytes - piece->offset);
        (void)piece, (void)page;
        has_files = has_files || piece->file >= 0;
    }
    for (const spi_region_watcher *watcher = region->watchers; watcher && has_files; watcher = watcher->next) {
        if (!watcher->takes || !watcher->takes(watcher->env, SP_BACKING_SHAREABLE)) {
            return spi_fail(error, SP_LINK_REFUSED, "a device that is linked to the region takes no pages of files");
        }
    }
    return SP_OK;
}

sp_status spi_region_remap(sp_region *region, const spi_region_piece *pieces, uint32_t piece_count, sp_error *error) {
    sp_status status = check_pieces(region, pieces, piece_count, error);
    if (status) {
        return status;
    }
    for (spi_region_watcher *watcher = region->watchers; watcher; watcher = watcher->next) {
        watcher->changing(watcher->env, region);
    }
    for (uint32_t i = 0; i < piece_count && !status; i++) {
        const spi_region_piece *piece = &pieces[i];
        uint8_t *at = region->base + piece->offset;
        status = piece->file < 0 ? spi_vm_map_zeros(at, piece->bytes, !region->small_pages)
                                 : spi_vm_map_file(at, piece->bytes, piece->file, piece->file_offset);
        region->has_file_pages = region->has_file_pages || piece->file >= 0;
    }
    if (status) {
        spi_fail(error, status, "the system has no room for more mappings: see vm.max_map_count");
    }
    sp_status taken = announce(region, error);
    sp_status closed = region->watchers ? spi_region_close_tail(region) : SP_OK;
    if (!taken && closed) {
        taken = spi_fail(error, closed, "the system cannot protect more ranges of memory");
    }
    return status ? status : taken;
}

sp_status spi_region_retire(sp_region *region) {
    sp_status status = spi_region_open_tail(region);
    if (status) {
        return status;
    }
    region->stale_first = 0;
    region->stale_end = region->size_bytes > region->stale_end ? region->size_bytes : region->stale_end;
    region->size_bytes = region->committed_bytes;
    return SP_OK;
}

size_t spi_region_stale_bytes(const sp_region *region) {
    return region->stale_end - region->stale_first;
}

size_t spi_region_clear(sp_region *region, size_t bytes_max) {
    size_t stale = spi_region_stale_bytes(region), bytes = stale < bytes_max ? stale : bytes_max;
    size_t end = region->stale_first + bytes;
    clear_stale(region, region->stale_first, end);
    forget_stale(region, end);
    return stale - bytes;
}

sp_status spi_region_renew(sp_region *region, size_t size_bytes, const spi_region_range *unwritten, uint32_t count,
                           uint64_t *left_bytes) {
    size_t size = round_up(size_bytes, spi_vm_page_bytes()), at = 0;
    assert(region->size_bytes == region->committed_bytes && size <= region->committed_bytes);
    *left_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert(unwritten[i].offset >= at && unwritten[i].offset + unwritten[i].bytes <= size);
        clear_stale(region, at, unwritten[i].offset);
        at = unwritten[i].offset + unwritten[i].bytes;
        size_t from = unwritten[i].offset > region->stale_first ? unwritten[i].offset : region->stale_first;
        size_t to = at < region->stale_end ? at : region->stale_end;
        *left_bytes += from < to ? to - from : 0;
    }
    clear_stale(region, at, size);
    forget_stale(region, size);
    region->size_bytes = size;
    return spi_region_close_tail(region);
}

bool spi_region_can_change_hands(const sp_region *region) {
    return region->backing == SP_BACKING_ANONYMOUS && !region->has_file_pages && !region->small_pages &&
           region->announced_bytes == region->committed_bytes;
}

bool spi_region_fits(const sp_region *region, const sp_region_options *options) {
    size_t reserve = options->reserve_bytes ? options->reserve_bytes : DEFAULT_RESERVE_BYTES;
    return options->backing == SP_BACKING_ANONYMOUS && !options->small_pages &&
           region->reserved_bytes == round_up(reserve, SP_REGION_ALIGN_BYTES) &&
           region->guard_bytes == round_up(options->guard_bytes, spi_vm_page_bytes());
}

uint8_t *sp_region_base(const sp_region *region) {
    return region->base;
}

size_t sp_region_size_bytes(const sp_region *region) {
    return region->size_bytes;
}

size_t sp_region_committed_bytes(const sp_region *region) {
    return region->committed_bytes;
}

size_t sp_region_reserved_bytes(const sp_region *region) {
    return region->reserved_bytes;
}

sp_backing sp_region_backing(const sp_region *region) {
    return region->has_file_pages ? SP_BACKING_SHAREABLE : region->backing;
}

const char *sp_backing_name(sp_backing backing) {
    return backing == SP_BACKING_SHAREABLE ? "shareable" : "anonymous";
}
