/* device/link.c - linking regions to devices, and the checks that every link passes first.
 *
 * The rules are those of the strictest drivers that were measured (docs/links.md), applied on every device: Mesa's
 * software driver takes misaligned pointers, pages that nobody committed and overlapping imports without a word, and a
 * program that got away with it there would fail on the first real card. Growth is told to linked devices here, too.
 */
#include "device/device.h"

#include <assert.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/vm.h"

static spi_linked *find(const sp_device *device, const sp_region *region) {
    spi_linked *linked = device->links;
    while (linked && linked->region != region) {
        linked = linked->next;
    }
    return linked;
}

spi_link *spi_device_find_link(sp_device *device, const sp_region *region) {
    spi_linked *linked = find(device, region);
    return linked ? linked->link : NULL;
}

/* A device that was lost takes nothing. */
static void get_rules(const sp_device *device, spi_link_rules *rules) {
    if (device->context) {
        device->backend->rules(device->context, rules);
    }
}

bool spi_linked_offer(sp_device *device, const sp_region *region) {
    spi_linked *linked = find(device, region);
    spi_link_rules rules = {0};
    sp_error ignored = {0};
    get_rules(device, &rules);
    bool is_own = linked->references == 1 && !linked->watcher.next && spi_region_can_change_hands(region);
    bool is_whole = linked->link && linked->link->linked_bytes == sp_region_committed_bytes(region);
    linked->is_spare = rules.pins && device->backend->forget && is_own && is_whole &&
                       !device->backend->forget(device->context, linked->link, &ignored);
    return linked->is_spare;
}

void spi_linked_claim(sp_device *device, const sp_region *region) {
    find(device, region)->is_spare = false;
}

bool spi_device_takes(const sp_device *device, sp_backing backing) {
    spi_link_rules rules = {0};
    get_rules(device, &rules);
    return rules.backings >> backing & 1;
}

bool spi_device_shares_files(const sp_device *device) {
    spi_link_rules rules = {0};
    get_rules(device, &rules);
    return rules.backings >> SP_BACKING_SHAREABLE & 1 && !rules.pins;
}

sp_status spi_device_host_wrote(sp_device *device, const sp_region *region, uint64_t offset, uint64_t bytes,
                                sp_error *error) {
    spi_linked *linked = find(device, region);
    sp_error local = {0};
    assert(linked);
    if (!bytes || !device->backend->host_wrote) {
        return SP_OK;
    }
    if (!linked->link) {
        return spi_fail(error, SP_DEVICE_LOST, "%s has lost its link to the region", device->backend->name);
    }
    assert(offset <= linked->link->linked_bytes && bytes <= linked->link->linked_bytes - offset);
    return device->backend->host_wrote(device->context, linked->link, offset, bytes, error ? error : &local);
}

void spi_device_ahead(sp_device *device, const sp_region *region, uint64_t offset, uint64_t bytes) {
    spi_link *link = spi_device_find_link(device, region);
    if (bytes && link && device->backend->ahead) {
        assert(offset <= link->linked_bytes && bytes <= link->linked_bytes - offset);
        device->backend->ahead(device->context, link, offset, bytes);
    }
}

/* True if the two ranges share a byte. */
static bool overlap(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* Called with the region's tail open, so that committed means accessible. */
static sp_status check_rules(const sp_device *device, const sp_region *region, sp_error *error) {
    spi_link_rules rules = {0};
    if (!device->context) {
        return spi_fail(error, SP_DEVICE_LOST, "%s was lost and cannot be opened again", device->lost_info.name);
    }
    get_rules(device, &rules);
    const uint8_t *base = sp_region_base(region);
    size_t bytes = sp_region_committed_bytes(region), align = rules.align_bytes ? rules.align_bytes : 1;
    const char *name = device->backend->name;
    if (!bytes) {
        return spi_fail(error, SP_LINK_REFUSED, "%s cannot link an empty region: grow it first", name);
    }
    if (!(rules.backings >> sp_region_backing(region) & 1)) {
        return spi_fail(error, SP_LINK_REFUSED, "%s does not take %s memory: create the region as anonymous", name,
                        sp_backing_name(sp_region_backing(region)));
    }
    if ((uintptr_t)base % align || bytes % align) {
        return spi_fail(error, SP_LINK_REFUSED, "%s links ranges aligned to %zu bytes, not %zu bytes at %p", name,
                        align, bytes, (const void *)base);
    }
    if (!spi_vm_has_access(base, bytes, true)) {
        return spi_fail(error, SP_LINK_REFUSED,
                        "%s links memory that can be read and written, and a part of %zu bytes "
                        "at %p cannot: something changed the protection of the region's pages",
                        name, bytes, (const void *)base);
    }
    for (const spi_linked *other = device->links; other; other = other->next) {
        if (other->region != region && other->link &&
            overlap(base, bytes, sp_region_base(other->region), (size_t)other->link->linked_bytes)) {
            return spi_fail(error, SP_LINK_REFUSED, "%s has linked a range that overlaps %zu bytes at %p", name, bytes,
                            (const void *)base);
        }
    }
    return SP_OK;
}

void spi_linked_let_go(spi_linked *linked) {
    if (linked->link) {
        linked->device->backend->unlink(linked->device->context, linked->link);
        linked->link = NULL;
    }
}

/* The region is about to change pages: the device waits for what it does and lets go of all of it. */
static void on_changing(void *env, sp_region *region) {
    (void)region;
    spi_linked_let_go(env);
}

/* Drivers can hold so much memory and no more. */
static bool can_make_room(sp_device *device, sp_status status) {
    return (status == SP_NO_MEMORY || status == SP_LINK_REFUSED) && spi_spares_give_back(device);
}

static sp_status link_with_room(sp_device *device, sp_region *region, spi_link **link, sp_error *error) {
    sp_status status = device->backend->link(device->context, region, link, error);
    return can_make_room(device, status) ? device->backend->link(device->context, region, link, error) : status;
}

/* Links what was let go of. That a device takes back memory of a backing that it takes is refused only where there is
 * no memory for the link itself; the region then is one that it has lost, until it is linked or grown again. */
static sp_status take_again(spi_linked *linked, sp_error *error) {
    sp_device *device = linked->device;
    sp_status status = check_rules(device, linked->region, error);
    if (!status) {
        status = link_with_room(device, linked->region, &linked->link, error);
    }
    if (status) {
        linked->link = NULL;
        return status;
    }
    linked->link->region = linked->region;
    linked->link->linked_bytes = sp_region_committed_bytes(linked->region);
    return SP_OK;
}

static bool is_taken(void *env, sp_backing backing) {
    const spi_linked *linked = env;
    return spi_device_takes(linked->device, backing);
}

/* The region's own word that it has grown, or has changed its pages. Its tail is open while this runs. */
static sp_status on_committed(void *env, sp_region *region, sp_error *error) {
    spi_linked *linked = env;
    sp_device *device = linked->device;
    sp_error local = {0};
    error = error ? error : &local;
    if (!linked->link) {
        return take_again(linked, error);
    }
    if (linked->link->linked_bytes >= sp_region_committed_bytes(region)) {
        return SP_OK;
    }
    sp_status status = check_rules(device, region, error);
    if (!status) {
        status = device->backend->extend(device->context, linked->link, error);
        if (can_make_room(device, status)) {
            status = device->backend->extend(device->context, linked->link, error);
        }
    }
    if (!status) {
        linked->link->linked_bytes = sp_region_committed_bytes(region);
    }
    return status;
}

static sp_status link_new(sp_device *device, sp_region *region, sp_error *error) {
    spi_linked *linked = spi_alloc(1, sizeof *linked);
    if (!linked) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to link a region");
    }
    sp_status status = spi_region_open_tail(region);
    if (status) {
        spi_fail(error, status, "the system cannot protect more ranges of memory");
    } else {
        status = check_rules(device, region, error);
    }
    if (!status) {
        status = link_with_room(device, region, &linked->link, error);
    }
    sp_status closed = spi_region_close_tail(region);
    if (status) {
        spi_free(linked);
        return status;
    }
    linked->device = device;
    linked->region = region;
    linked->references = 1;
    linked->link->region = region;
    linked->link->linked_bytes = sp_region_committed_bytes(region);
    linked->watcher =
        (spi_region_watcher){.committed = on_committed, .changing = on_changing, .takes = is_taken, .env = linked};
    linked->next = device->links;
    device->links = linked;
    spi_region_watch(region, &linked->watcher);
    if (closed) {
        sp_device_unlink(device, region);
        return spi_fail(error, closed, "the system cannot protect more ranges of memory");
    }
    return SP_OK;
}

/* A link that was lost when the region changed pages, or with the device, and that is asked for again. */
sp_status spi_linked_take_again(spi_linked *linked, sp_error *error) {
    sp_status status = spi_region_open_tail(linked->region);
    if (status) {
        spi_fail(error, status, "the system cannot protect more ranges of memory");
    } else {
        status = take_again(linked, error);
    }
    sp_status closed = spi_region_close_tail(linked->region);
    return status || !closed ? status : spi_fail(error, closed, "the system cannot protect more ranges of memory");
}

sp_status sp_device_link(sp_device *device, sp_region *region, sp_error *error) {
    sp_error local = {0};
    error = error ? error : &local;
    if (spi_device_is_lost(device) && spi_device_revive(device, error)) {
        return SP_DEVICE_LOST;
    }
    spi_linked *linked = find(device, region);
    if (!linked) {
        return link_new(device, region, error);
    }
    sp_status status = linked->link ? SP_OK : spi_linked_take_again(linked, error);
    linked->references += !status;
    return status;
}

void sp_device_unlink(sp_device *device, sp_region *region) {
    spi_linked **place = &device->links;
    while (*place && (*place)->region != region) {
        place = &(*place)->next;
    }
    spi_linked *linked = *place;
    assert(linked && "this region is not linked to this device");
    if (--linked->references) {
        return;
    }
    *place = linked->next;
    spi_region_unwatch(region, &linked->watcher);
    if (linked->link) {
        device->backend->unlink(device->context, linked->link);
    }
    spi_free(linked);
}

/* Bytes of a matrix; 0 if it does not fit into 63 bits or is empty. */
static uint64_t matrix_bytes(uint32_t rows, uint32_t columns, uint32_t element_bytes) {
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)rows * columns, element_bytes, &bytes) || bytes >> 63) {
        return 0;
    }
    return bytes;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t size) {
    return bytes && offset % 16 == 0 && offset <= size && bytes <= size - offset;
}

sp_status sp_device_matmul(sp_device *device, sp_region *region, const sp_matmul *args, sp_error *error) {
    sp_error local = {0};
    error = error ? error : &local;
    spi_link *link = spi_device_find_link(device, region);
    if (!link) {
        return spi_fail(error, SP_INVALID, "the region is not linked to %s: call sp_device_link first",
                        device->backend->name);
    }
    if (args->type != SP_F32 && args->type != SP_F16) {
        return spi_fail(error, SP_INVALID, "matmul takes F32 or F16 matrices, not type %d", (int)args->type);
    }
    uint32_t element = args->type == SP_F32 ? 4 : 2;
    uint64_t size = sp_region_size_bytes(region);
    uint64_t a = matrix_bytes(args->m, args->k, element), b = matrix_bytes(args->k, args->n, element);
    uint64_t c = matrix_bytes(args->m, args->n, 4);
    if (!inside(args->a_offset, a, size) || !inside(args->b_offset, b, size) || !inside(args->c_offset, c, size)) {
        return spi_fail(error, SP_BAD_POINTER,
                        "matmul %ux%ux%u: a matrix is empty, not aligned to 16 bytes, or not "
                        "inside of the region's %llu bytes",
                        args->m, args->n, args->k, (unsigned long long)size);
    }
    const uint8_t *base = sp_region_base(region);
    if (overlap(base + args->c_offset, c, base + args->a_offset, a) ||
        overlap(base + args->c_offset, c, base + args->b_offset, b)) {
        return spi_fail(error, SP_INVALID, "matmul: the product would overwrite a factor");
    }
    return device->backend->matmul(device->context, link, args, error);
}
