/* device/spare.c - see spare.h. */
#include "device/spare.h"

#include "base/error.h"
#include "base/memory.h"
#include "device/device.h"
#include "os/vm.h"

#define BYTES_MAX_MOST ((uint64_t)4 << 30)
#define MEMORY_SHARE   16u                 /* of the host's memory and of the card's own */
#define CLEAR_BYTES    ((size_t)256 << 10) /* whoever takes a region waits for one such piece at most */

/* One of fewer bytes must not hold the memory of one of many. */
#define LARGE_TIMES 4u
#define LARGE_BYTES ((size_t)64 << 20)

/* ---- clearing ---- */

static spi_spare *find_stale(const spi_spares *spares) {
    spi_spare *spare = spares->first;
    while (spare && !spi_region_stale_bytes(spare->region)) {
        spare = spare->next;
    }
    return spare;
}

static void clear_all(void *env) {
    spi_spares *spares = env;
    pthread_mutex_lock(&spares->lock);
    while (!spares->is_ending) {
        spi_spare *spare = spares->is_held ? NULL : find_stale(spares);
        if (!spare) {
            pthread_cond_wait(&spares->changed, &spares->lock);
            continue;
        }
        spares->is_clearing = true;
        pthread_mutex_unlock(&spares->lock);
        spi_region_clear(spare->region, CLEAR_BYTES);
        pthread_mutex_lock(&spares->lock);
        spares->is_clearing = false;
        pthread_cond_broadcast(&spares->changed);
    }
    pthread_mutex_unlock(&spares->lock);
}

/* Without the thread a region is cleared by whoever takes it. */
static void want_thread(spi_spares *spares) {
    if (!spares->has_thread) {
        spares->has_thread = !spi_thread_start(&spares->thread, "samepage-clear", clear_all, spares);
    }
}

/* ---- the list ---- */

/* From here to release only the caller's thread touches the list and what is in it. */
static void hold(spi_spares *spares) {
    pthread_mutex_lock(&spares->lock);
    spares->is_held = true;
    while (spares->is_clearing) {
        pthread_cond_wait(&spares->changed, &spares->lock);
    }
    pthread_mutex_unlock(&spares->lock);
}

static void release(spi_spares *spares) {
    pthread_mutex_lock(&spares->lock);
    spares->is_held = false;
    pthread_cond_broadcast(&spares->changed);
    pthread_mutex_unlock(&spares->lock);
}

static sp_region *remove_spare(spi_spares *spares, spi_spare *spare) {
    spi_spare **place = &spares->first;
    while (*place != spare) {
        place = &(*place)->next;
    }
    sp_region *region = spare->region;
    *place = spare->next;
    spares->bytes -= sp_region_committed_bytes(region);
    spi_free(spare);
    return region;
}

static void destroy(sp_device *device, sp_region *region) {
    sp_device_unlink(device, region);
    sp_region_destroy(region);
}

/* Destroys those that were used longest ago, until the rest has at most so many bytes. The list is held. */
static void shrink(sp_device *device, uint64_t bytes_max) {
    spi_spares *spares = &device->spares;
    while (spares->first && spares->bytes > bytes_max) {
        spi_spare *last = spares->first;
        while (last->next) {
            last = last->next;
        }
        destroy(device, remove_spare(spares, last));
    }
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void spi_spares_begin(sp_device *device, uint64_t bytes_max) {
    spi_spares *spares = &device->spares;
    sp_device_info info;
    sp_device_get_info(device, &info);
    uint64_t standard = least(BYTES_MAX_MOST, spi_vm_memory_bytes() / MEMORY_SHARE);
    standard = info.memory_bytes ? least(standard, info.memory_bytes / MEMORY_SHARE) : standard;
    pthread_mutex_init(&spares->lock, NULL);
    pthread_cond_init(&spares->changed, NULL);
    spares->bytes_max = bytes_max == UINT64_MAX ? 0 : bytes_max ? bytes_max : standard;
}

void spi_spares_end(sp_device *device) {
    spi_spares *spares = &device->spares;
    spi_spares_give_back(device);
    if (spares->has_thread) {
        pthread_mutex_lock(&spares->lock);
        spares->is_ending = true;
        pthread_cond_broadcast(&spares->changed);
        pthread_mutex_unlock(&spares->lock);
        spi_thread_join(&spares->thread);
    }
    pthread_cond_destroy(&spares->changed);
    pthread_mutex_destroy(&spares->lock);
}

bool spi_spares_give_back(sp_device *device) {
    bool any = device->spares.first != NULL;
    if (any) {
        hold(&device->spares);
        shrink(device, 0);
        release(&device->spares);
    }
    return any;
}

/* ---- taking ---- */

static bool is_better(const sp_region *a, const sp_region *b, size_t wanted) {
    size_t a_bytes = sp_region_committed_bytes(a), b_bytes = sp_region_committed_bytes(b);
    if ((a_bytes >= wanted) != (b_bytes >= wanted)) {
        return a_bytes >= wanted;
    }
    if (a_bytes < wanted) {
        return a_bytes > b_bytes;
    }
    size_t a_stale = spi_region_stale_bytes(a), b_stale = spi_region_stale_bytes(b);
    return a_stale != b_stale ? a_stale < b_stale : a_bytes < b_bytes;
}

/* NULL: none. What is there grows by what it lacks, but no region becomes that of a guest for which it is far too
 * large. */
static sp_region *find_spare(spi_spares *spares, const spi_spare_wish *wish) {
    size_t size = wish->options.size_bytes, wanted = size > wish->likely_bytes ? size : wish->likely_bytes;
    spi_spare *best = NULL;
    if (!spares->first) {
        return NULL;
    }
    hold(spares);
    for (spi_spare *spare = spares->first; spare; spare = spare->next) {
        bool fits = spi_region_fits(spare->region, &wish->options) &&
                    sp_region_committed_bytes(spare->region) <= wanted * LARGE_TIMES + LARGE_BYTES;
        best = fits && (!best || is_better(spare->region, best->region, wanted)) ? spare : best;
    }
    sp_region *region = best ? remove_spare(spares, best) : NULL;
    release(spares);
    return region;
}

static sp_status make_new(sp_device *device, const sp_region_options *options, sp_region **region, sp_error *error) {
    sp_status status = sp_region_create(options, region, error);
    if (!status && (status = sp_device_link(device, *region, error))) {
        sp_region_destroy(*region);
        *region = NULL;
    }
    return status;
}

sp_status spi_spare_take(sp_device *device, const spi_spare_wish *wish, sp_region **out, uint64_t *left_bytes,
                         sp_error *error) {
    const sp_region_options *options = &wish->options;
    *left_bytes = 0;
    sp_region *region = *out = find_spare(&device->spares, wish);
    if (!region) {
        sp_status status = make_new(device, options, out, error);
        return status && spi_spares_give_back(device) ? make_new(device, options, out, error) : status;
    }
    size_t there = sp_region_committed_bytes(region), size = options->size_bytes;
    bool grows = size > there;
    sp_status status = grows ? spi_region_renew(region, there, NULL, 0, left_bytes)
                             : spi_region_renew(region, size, wish->unwritten, wish->unwritten_count, left_bytes);
    spi_linked_claim(device, region);
    status = status || !grows ? status : spi_spare_grow(device, region, size, error);
    if (status) {
        destroy(device, region);
        return make_new(device, options, out, error);
    }
    device->spares.taken_count++;
    return SP_OK;
}

sp_status spi_spare_grow(sp_device *device, sp_region *region, size_t size_bytes, sp_error *error) {
    sp_status status = sp_region_grow(region, size_bytes, error);
    bool is_short = status == SP_NO_MEMORY || status == SP_LINK_REFUSED;
    return is_short && spi_spares_give_back(device) ? sp_region_grow(region, size_bytes, error) : status;
}

/* ---- leaving ---- */

/* True: the list has it. */
static bool keep(sp_device *device, sp_region *region) {
    spi_spares *spares = &device->spares;
    uint64_t bytes = sp_region_committed_bytes(region);
    if (bytes > spares->bytes_max || !spi_linked_offer(device, region)) {
        return false;
    }
    spi_spare *spare = spi_alloc(1, sizeof *spare);
    if (!spare || spi_region_retire(region)) {
        spi_free(spare);
        return false;
    }
    hold(spares);
    shrink(device, spares->bytes_max - bytes);
    *spare = (spi_spare){.region = region, .next = spares->first};
    spares->first = spare;
    spares->bytes += bytes;
    want_thread(spares);
    release(spares);
    return true;
}

void spi_spare_leave(sp_device *device, sp_region *region) {
    if (!keep(device, region)) {
        destroy(device, region);
    }
}
