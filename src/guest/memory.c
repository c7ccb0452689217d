/* guest/memory.c - linear memory over a region, and ranges of it that the host reserves for a guest.
 *
 * The region is made before the instance and handed over thread-locally: Wasmtime asks its creator for memory in the
 * middle of instantiating and has no way to say for whom. What a guest sees is exactly the region's size, so that one
 * byte behind it faults although more is committed.
 *
 * The host grows memory at its own wish, behind the back of the guest's allocator. Allocators live with that, because
 * memory.grow tells them where their new pages are, with one exception: that of older wasi-libc takes all memory that
 * there is at its first malloc for its own. A command's first malloc is for its arguments, before main, and so in time;
 * a C guest that is called otherwise must call malloc once before it makes the host reserve anything. What is reserved
 * and released again is used again by the host only.
 *
 * May include: device, region, base.
 */
#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "device/backend.h"
#include "device/spare.h"
#include "guest/guest.h"

static _Thread_local sp_guest *next_guest;

static uint8_t *get_memory(void *env, size_t *size_bytes, size_t *capacity_bytes) {
    const sp_guest *guest = env;
    *size_bytes = sp_region_size_bytes(guest->region);
    *capacity_bytes = sp_region_reserved_bytes(guest->region);
    return sp_region_base(guest->region);
}

static sp_status grow_region(sp_guest *guest, size_t size_bytes, sp_error *error) {
    return guest->device ? spi_spare_grow(guest->device, guest->region, size_bytes, error)
                         : sp_region_grow(guest->region, size_bytes, error);
}

/* A refusal is what memory.grow answers -1 for. */
static wasmtime_error_t *grow_memory(void *env, size_t new_size_bytes) {
    sp_guest *guest = env;
    sp_error error;
    if (new_size_bytes > guest->memory_bytes_max) {
        return wasmtime_error_new("the limit of this guest's memory is reached");
    }
    return grow_region(guest, new_size_bytes, &error) ? wasmtime_error_new(error.message) : NULL;
}

static wasmtime_error_t *new_memory(void *env, const wasm_memorytype_t *type, size_t minimum_bytes,
                                    size_t maximum_bytes, size_t reserved_bytes, size_t guard_bytes,
                                    wasmtime_linear_memory_t *memory) {
    sp_guest *guest = next_guest;
    (void)env;
    (void)type;
    (void)maximum_bytes;
    if (!guest) {
        return wasmtime_error_new("only the one memory that a module exports can be made");
    }
    next_guest = NULL;
    if (minimum_bytes > sp_region_size_bytes(guest->region) || reserved_bytes > SPI_MEMORY_RESERVE_BYTES ||
        guard_bytes > SPI_MEMORY_GUARD_BYTES) {
        return wasmtime_error_new("the memory is not of the size that was foreseen");
    }
    *memory = (wasmtime_linear_memory_t){.env = guest, .get_memory = get_memory, .grow_memory = grow_memory};
    return NULL;
}

void spi_memory_configure(wasm_config_t *config) {
    wasmtime_memory_creator_t creator = {.new_memory = new_memory};
    wasmtime_config_host_memory_creator_set(config, &creator);
}

void spi_memory_hand_over(sp_guest *guest) {
    next_guest = guest;
}

/* How large the guest's memory is from the start. */
static sp_status choose_size(const sp_guest *guest, uint64_t first_bytes, uint64_t *size, sp_error *error) {
    const sp_module *module = guest->module;
    uint64_t size_bytes = module->memory_pages_min * SPI_WASM_PAGE_BYTES;
    if (!module->has_memory) {
        return spi_fail(error, SP_UNSUPPORTED, "%s exports no memory: link it so that it exports one as \"memory\"",
                        module->name);
    }
    if (first_bytes) {
        if (first_bytes < size_bytes || first_bytes % SPI_WASM_PAGE_BYTES ||
            first_bytes / SPI_WASM_PAGE_BYTES > module->memory_pages_max) {
            return spi_fail(error, SP_BAD_FILE, "%s cannot have a memory of %llu bytes", module->name,
                            (unsigned long long)first_bytes);
        }
        size_bytes = first_bytes;
    }
    if (size_bytes > guest->memory_bytes_max) {
        return spi_fail(error, SP_LIMIT, "%s needs %llu bytes of memory from the start, and may have %llu",
                        module->name, (unsigned long long)size_bytes, (unsigned long long)guest->memory_bytes_max);
    }
    *size = size_bytes;
    return SP_OK;
}

/* The memory of a guest that has ended, or new. What runs when the instance is made must see zeros everywhere. */
static sp_status take_linked(sp_guest *guest, const sp_region_options *options, spi_guest_first *first,
                             sp_error *error) {
    const sp_module *module = guest->module;
    spi_spare_wish wish = {.options = *options, .likely_bytes = first ? 0 : (size_t)module->memory_bytes_last};
    if (first && !module->has_start) {
        wish.unwritten = first->unwritten;
        wish.unwritten_count = first->unwritten_count;
    }
    uint64_t left_bytes;
    sp_status status = spi_spare_take(guest->device, &wish, &guest->region, &left_bytes, error);
    guest->is_linked = !status;
    if (first) {
        first->left_bytes = left_bytes;
    }
    return status;
}

sp_status spi_memory_create(sp_guest *guest, spi_guest_first *first, sp_error *error) {
    uint64_t size_bytes = 0;
    sp_status status = choose_size(guest, first ? first->memory_bytes : 0, &size_bytes, error);
    if (status) {
        return status;
    }
    /* A guest that is restored gets nearly all of its pages from its snapshot. To clear two megabytes for the few that
     * its module writes would take longer than all the rest. But a device that pins memory has all of it made, and
     * small pages take three times as long. */
    bool by_page = !guest->device || spi_device_shares_files(guest->device);
    sp_region_options options = {.reserve_bytes = SPI_MEMORY_RESERVE_BYTES,
                                 .size_bytes = size_bytes,
                                 .guard_bytes = SPI_MEMORY_GUARD_BYTES,
                                 .small_pages = first && by_page};
    return guest->device ? take_linked(guest, &options, first, error)
                         : sp_region_create(&options, &guest->region, error);
}

void spi_memory_destroy(sp_guest *guest) {
    spi_ranges_free(&guest->written);
    spi_ranges_free(&guest->ranges);
    if (guest->is_linked) {
        guest->module->memory_bytes_last = sp_region_size_bytes(guest->region);
        spi_spare_leave(guest->device, guest->region);
    } else {
        sp_region_destroy(guest->region);
    }
}

bool spi_memory_contains(const sp_guest *guest, uint64_t offset, uint64_t bytes) {
    uint64_t size = sp_region_size_bytes(guest->region);
    return offset <= size && bytes <= size - offset;
}

static sp_status grow_to(sp_guest *guest, uint64_t size_bytes, sp_error *error) {
    uint64_t now = sp_region_size_bytes(guest->region), previous;
    if (size_bytes <= now) {
        return SP_OK;
    }
    const sp_module *module = guest->module;
    uint64_t pages = (size_bytes - now + SPI_WASM_PAGE_BYTES - 1) / SPI_WASM_PAGE_BYTES;
    uint64_t own_max = module->memory_pages_max < SPI_MEMORY_RESERVE_BYTES / SPI_WASM_PAGE_BYTES
                           ? module->memory_pages_max * SPI_WASM_PAGE_BYTES
                           : SPI_MEMORY_RESERVE_BYTES;
    uint64_t max = own_max < guest->memory_bytes_max ? own_max : guest->memory_bytes_max;
    if (now + pages * SPI_WASM_PAGE_BYTES > max) {
        return spi_fail(error, SP_NO_MEMORY,
                        "the guest's memory of %llu bytes would have to grow to %llu, and may have %llu",
                        (unsigned long long)now, (unsigned long long)size_bytes, (unsigned long long)max);
    }
    wasmtime_error_t *failure = wasmtime_memory_grow(guest->context, &guest->memory, pages, &previous);
    return failure ? spi_wasmtime_fail(error, SP_NO_MEMORY, "the guest's memory cannot grow", failure) : SP_OK;
}

sp_status spi_guest_reserve(sp_guest *guest, uint64_t bytes, uint64_t align_bytes, uint64_t *offset, sp_error *error) {
    assert(align_bytes && !(align_bytes & (align_bytes - 1)));
    *offset = 0;
    if (!guest->has_memory) {
        return spi_fail(error, SP_NO_MEMORY, "the guest has no memory yet");
    }
    if (!bytes || bytes > SPI_MEMORY_RESERVE_BYTES || align_bytes > SPI_MEMORY_RESERVE_BYTES) {
        return spi_fail(error, SP_NO_MEMORY, "%llu bytes do not fit into a guest's memory", (unsigned long long)bytes);
    }
    if (spi_ranges_take(&guest->ranges, bytes, align_bytes, offset)) {
        return SP_OK;
    }
    uint64_t end = sp_region_size_bytes(guest->region);
    uint64_t from = spi_ranges_tail(&guest->ranges, end);
    uint64_t start = (from + align_bytes - 1) & ~(align_bytes - 1);
    sp_status status = grow_to(guest, start + bytes, error);
    if (status) {
        return status;
    }
    /* What growth added joins the free ranges, out of which the wanted one is then taken: the gap before an aligned
     * start and the rest of the last page stay there. */
    uint64_t grown = sp_region_size_bytes(guest->region);
    spi_ranges_add(&guest->ranges, end, grown - end);
    if (!spi_ranges_take(&guest->ranges, bytes, align_bytes, offset)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the list of a guest's ranges");
    }
    return SP_OK;
}

void spi_guest_release(sp_guest *guest, uint64_t offset, uint64_t bytes) {
    assert(spi_memory_contains(guest, offset, bytes));
    spi_ranges_add(&guest->ranges, offset, bytes);
}
