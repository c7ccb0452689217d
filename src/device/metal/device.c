/* device/metal/device.c - finding and opening the device, its limits, and the backend's table.
 *
 * Macs with Apple's own chips have one device, whose memory is the processor's. Others (an Intel Mac with a card, a
 * virtual machine whose device has no SIMD sums) are not listed, and opening them says why.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

#define BUFFER_BYTES_MAX ((uint64_t)8 << 30) /* kernels count words of a binding in 32 bits */
#define PIECE_BYTES_MAX  ((uint64_t)2 << 30) /* and bytes of a weight */
#define SLAB_BYTES       ((uint64_t)256 << 20)
#define MAP_STEP         (2 * (uint64_t)SPI_MT_PAGE_BYTES)

static spi_mt_limits test_limits;

void spi_mt_test_limits(const spi_mt_limits *limits) {
    test_limits = limits ? *limits : (spi_mt_limits){0};
}

static void lower(uint64_t *limit, uint64_t most) {
    *limit = most && most < *limit ? most : *limit;
}

static void choose_limits(spi_mt *mt) {
    spi_mt_limits *limits = &mt->limits;
    uint64_t longest = spi_mt_max_buffer_length(&mt->objc, mt->device);
    *limits = (spi_mt_limits){BUFFER_BYTES_MAX, longest, PIECE_BYTES_MAX, SLAB_BYTES};
    lower(&limits->buffer_bytes_max, longest);
    lower(&limits->own_bytes_max, BUFFER_BYTES_MAX);
    lower(&limits->buffer_bytes_max, test_limits.buffer_bytes_max);
    limits->buffer_bytes_max -= limits->buffer_bytes_max % MAP_STEP;
    lower(&limits->piece_bytes_max, test_limits.piece_bytes_max);
    lower(&limits->slab_bytes, test_limits.slab_bytes);
    lower(&limits->slab_bytes, limits->own_bytes_max);
}

/* NULL: it can be used. */
static const char *find_refusal(const spi_mt *mt) {
    if (!spi_mt_has_unified_memory(&mt->objc, mt->device)) {
        return "its memory is not the processor's: Macs with Apple's own chips have such a device";
    }
    if (!spi_mt_supports_family(&mt->objc, mt->device, SPI_MT_FAMILY_APPLE7)) {
        return "it is older than the family Apple7 (M1), or a virtual machine's";
    }
    return NULL;
}

static void describe(const spi_mt *mt, sp_device_info *info) {
    const spi_mt_runtime *objc = &mt->objc;
    int64_t family = SPI_MT_FAMILY_APPLE7;
    for (int64_t i = family; i <= SPI_MT_FAMILY_APPLE_LAST; i++) {
        family = spi_mt_supports_family(objc, mt->device, i) ? i : family;
    }
    const char *name = spi_mt_utf8(objc, spi_mt_name(objc, mt->device));
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "metal");
    snprintf(info->description, sizeof info->description, "%.80s, family Apple%d%s, working set up to %.1f GiB",
             name ? name : "unnamed", (int)(family - SPI_MT_FAMILY_APPLE7 + 7),
             spi_mt_supports_family(objc, mt->device, SPI_MT_FAMILY_METAL3) ? ", Metal 3" : "",
             (double)spi_mt_recommended_working_set(objc, mt->device) / (1u << 30));
#if !defined(__APPLE__)
    info->is_software = true; /* nothing but the tests' stand-in */
#endif
    info->link = SP_LINK_SHARED;
}

/* Opens the runtime and the device, and says who it is. */
static sp_status find_device(spi_mt *mt, sp_error *error) {
    sp_status status = spi_mt_runtime_open(&mt->objc, error);
    if (status) {
        return status;
    }
    void *pool = mt->objc.push_pool();
    mt->device = mt->objc.create_device();
    const char *refusal = mt->device ? find_refusal(mt) : NULL;
    if (!mt->device) {
        status = spi_fail(error, SP_NO_DEVICE, "Metal has no device here");
    } else if (refusal) {
        status = spi_fail(error, SP_UNSUPPORTED, "the Metal device cannot be used: %s", refusal);
    } else {
        describe(mt, &mt->info);
    }
    mt->objc.pop_pool(pool);
    return status;
}

static void close_device(void *context) {
    spi_mt *mt = context;
    if (mt->objc.send) {
        void *pool = mt->objc.push_pool();
        spi_mt_archive_close(mt);
        spi_mt_pipelines_destroy(mt);
        spi_mt_release(&mt->objc, mt->residency);
        spi_mt_release(&mt->objc, mt->event);
        spi_mt_release(&mt->objc, mt->queue);
        spi_mt_release(&mt->objc, mt->device);
        mt->objc.pop_pool(pool);
        spi_mt_runtime_close(&mt->objc);
    }
    spi_free(mt);
}

static sp_status enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    *count = 0;
    spi_mt *mt = spi_alloc(1, sizeof *mt);
    if (!mt) {
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to look for a device");
    }
    sp_error why = {0};
    if (!find_device(mt, &why)) {
        *count = 1;
        if (capacity) {
            infos[0] = mt->info;
        }
    }
    close_device(mt);
    return SP_OK;
}

static sp_status open_device(uint32_t index, const sp_device_options *options, void **context, sp_error *error) {
    (void)options;
    *context = NULL;
    if (index) {
        return spi_fail(error, SP_NO_DEVICE, "there is no Metal device %u", index);
    }
    spi_mt *mt = spi_alloc(1, sizeof *mt);
    if (!mt) {
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to open a device");
    }
    sp_status status = find_device(mt, error);
    if (!status) {
        void *pool = mt->objc.push_pool();
        choose_limits(mt);
        mt->queue = spi_mt_new_queue(&mt->objc, mt->device);
        mt->event = mt->queue ? spi_mt_new_shared_event(&mt->objc, mt->device) : NULL;
        if (!mt->event) {
            status = spi_fail(error, SP_NO_MEMORY, "metal: the device gives no command queue");
        } else {
            spi_mt_residency_create(mt);
            spi_mt_archive_open(mt);
        }
        mt->objc.pop_pool(pool);
    }
    if (status) {
        close_device(mt);
        return status;
    }
    *context = mt;
    return SP_OK;
}

static bool is_lost(void *context) {
    const spi_mt *mt = context;
    return mt->lost;
}

static void get_info(void *context, sp_device_info *info) {
    const spi_mt *mt = context;
    *info = mt->info;
}

/* Memory that a file stands behind, an unnamed one too, is left out: the driver of virtual machines was seen to read
 * old pages of it, and nobody has looked at a private view whose pages change. */
static void get_rules(void *context, spi_link_rules *rules) {
    const spi_mt *mt = context;
    rules->align_bytes = SPI_MT_PAGE_BYTES;
    rules->range_bytes_max = mt->limits.buffer_bytes_max;
    rules->backings = 1u << SP_BACKING_ANONYMOUS;
    rules->best = SP_LINK_SHARED;
}

static void get_counters(void *context, sp_device_counters *counters) {
    const spi_mt *mt = context;
    counters->runs += mt->runs;
    counters->weights_in_place_bytes += mt->in_place_bytes;
    counters->weights_own_bytes += mt->own_bytes;
}

const spi_backend spi_backend_metal = {
    .name = "metal",
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .is_lost = is_lost,
    .info = get_info,
    .rules = get_rules,
    .link = spi_mt_link_region,
    .extend = spi_mt_link_extend,
    .unlink = spi_mt_link_remove,
    .load = spi_mt_load,
    .unload = spi_mt_unload,
    .prepare = spi_mt_prepare,
    .discard = spi_mt_discard,
    .run = spi_mt_run,
    .matmul = spi_mt_product,
    .write_buffer = spi_mt_write_buffer,
    .read_buffer = spi_mt_read_buffer,
    .counters = get_counters,
};
