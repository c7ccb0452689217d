/* device/cuda/device.c - opening and closing a card, its kernels, and the backend's table. */
#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/cuda.h"

/* One of each kernels/NAME.cu: machine code for the cards that there are and PTX for those to come
 * (cmake/cuda.cmake). */
#define MODULE(name) extern const uint8_t spi_cuda_image_##name[];
#define KERNEL(module, name)
#include "device/cuda/kernels.def"

static const uint8_t *const images[] = {
#define MODULE(name) spi_cuda_image_##name,
#define KERNEL(module, name)
#include "device/cuda/kernels.def"
};

typedef struct kernel_place {
    spi_cu_module_name module;
    const char *name;
} kernel_place;

static const kernel_place places[] = {
#define MODULE(name)
#define KERNEL(module, name) {SPI_CU_MODULE_##module, #name},
#include "device/cuda/kernels.def"
};

static spi_cu_choices test_choices;

void spi_cu_test_choices(const spi_cu_choices *choices) {
    test_choices = choices ? *choices : (spi_cu_choices){0};
}

static sp_status choose_card(spi_cu *cu, uint32_t index, sp_error *error) {
    spi_cu_card cards[SPI_CU_CARDS_MAX];
    uint32_t usable, count;
    sp_status status = spi_cu_cards(&cu->driver, cards, &usable, &count, error);
    if (status) {
        return status;
    }
    if (index >= count) {
        return spi_fail(error, SP_NO_DEVICE, "there is no CUDA device %u", index);
    }
    if (index >= usable) {
        return spi_fail(error, SP_UNSUPPORTED, "%s cannot be used: %s", cards[index].name, cards[index].refusal);
    }
    cu->card = cards[index];
    spi_cu_card_info(&cu->driver, &cu->card, index, &cu->info);
    return SP_OK;
}

static sp_status create_context(spi_cu *cu, sp_error *error) {
    spi_cu_result result = cu->call->DevicePrimaryCtxRetain(&cu->context, cu->card.device);
    if (result) {
        cu->context = NULL;
        return spi_cu_fail(error, result, "opening the card");
    }
    result = cu->call->CtxSetCurrent(cu->context);
    result = result ? result : cu->call->StreamCreate(&cu->stream, SPI_CU_STREAM_NON_BLOCKING);
    result = result ? result : cu->call->EventCreate(&cu->done, SPI_CU_EVENT_BLOCKING | SPI_CU_EVENT_NO_TIMING);
    return result ? spi_cu_fail(error, result, "opening the card") : SP_OK;
}

static sp_status load_kernels(spi_cu *cu, sp_error *error) {
    spi_cu_result result = 0;
    for (int i = 0; i < SPI_CU_MODULE_COUNT && !result; i++) {
        result = cu->call->ModuleLoadData(&cu->modules[i], images[i]);
        cu->modules[i] = result ? NULL : cu->modules[i];
    }
    for (int i = 0; i < SPI_CU_KERNEL_COUNT && !result; i++) {
        result = cu->call->ModuleGetFunction(&cu->kernels[i], cu->modules[places[i].module], places[i].name);
    }
    return result ? spi_cu_fail(error, result, "loading kernels") : SP_OK;
}

static sp_status choose_pages(spi_cu *cu, sp_error *error) {
    const spi_cu_allocation allocation = {.type = SPI_CU_PINNED, .location = {SPI_CU_LOCATION_DEVICE, cu->card.device}};
    size_t granularity = 0;
    spi_cu_result result = cu->call->MemGetAllocationGranularity(&granularity, &allocation, 0);
    if (result || !granularity) {
        return spi_cu_fail(error, result, "asking for the size of the card's pages");
    }
    cu->page_bytes = granularity;
    while (cu->page_bytes < cu->choices.page_bytes) {
        cu->page_bytes *= 2;
    }
    return SP_OK;
}

static void close_device(void *context) {
    spi_cu *cu = context;
    if (cu->context) {
        cu->call->CtxSetCurrent(cu->context);
        for (int i = 0; i < SPI_CU_MODULE_COUNT; i++) {
            if (cu->modules[i]) {
                cu->call->ModuleUnload(cu->modules[i]);
            }
        }
        if (cu->done) {
            cu->call->EventDestroy(cu->done);
        }
        if (cu->stream) {
            cu->call->StreamDestroy(cu->stream);
        }
        cu->call->CtxSetCurrent(NULL);
        cu->call->DevicePrimaryCtxRelease(cu->card.device);
    }
    spi_cu_driver_close(&cu->driver);
    spi_free(cu);
}

static sp_status open_device(uint32_t index, const sp_device_options *options, void **context, sp_error *error) {
    (void)options;
    *context = NULL;
    spi_cu *cu = spi_alloc(1, sizeof *cu);
    if (!cu) {
        return spi_fail(error, SP_NO_MEMORY, "cuda: no memory to open a device");
    }
    cu->call = &cu->driver;
    cu->choices = test_choices;
    sp_status status = spi_cu_driver_open(&cu->driver, error);
    status = status ? status : choose_card(cu, index, error);
    status = status ? status : create_context(cu, error);
    status = status ? status : load_kernels(cu, error);
    status = status ? status : choose_pages(cu, error);
    if (status) {
        close_device(cu);
        return status;
    }
    if (cu->card.integrated) {
        cu->choices.in_place = true;
    } else if (cu->choices.in_place) {
        cu->info.link = SP_LINK_MAPPED;
    }
    *context = cu;
    return SP_OK;
}

static bool is_lost(void *context) {
    const spi_cu *cu = context;
    return cu->lost;
}

static void get_info(void *context, sp_device_info *info) {
    const spi_cu *cu = context;
    *info = cu->info;
}

/* docs/links.md has the measurements. Both kinds of memory that regions have can be registered; a read-only mapping of
 * a file hangs the call for good, and no region is one. */
static void get_rules(void *context, spi_link_rules *rules) {
    const spi_cu *cu = context;
    rules->align_bytes = SP_REGION_ALIGN_BYTES;
    rules->range_bytes_max = 0;
    rules->backings = 1u << SP_BACKING_ANONYMOUS | 1u << SP_BACKING_SHAREABLE;
    rules->pins = true;
    rules->best = cu->info.link;
}

static void get_counters(void *context, sp_device_counters *counters) {
    const spi_cu *cu = context;
    counters->runs += cu->runs;
    counters->copied_bytes += cu->copied_bytes;
}

/* Fewer leave multiprocessors without tiles in narrow products. */
static uint32_t rows_max(void *context) {
    (void)context;
    return 2048;
}

const spi_backend spi_backend_cuda = {
    .name = "cuda",
    .runs_on_fibers = true, /* tests/unit/test_cuda_decode.c looks at what the driver takes of a stack */
    .has_q8_kv = true,
    .rows_max = rows_max,
    .enumerate = spi_cu_enumerate,
    .open = open_device,
    .close = close_device,
    .is_lost = is_lost,
    .info = get_info,
    .rules = get_rules,
    .link = spi_cu_link_region,
    .extend = spi_cu_link_extend,
    .unlink = spi_cu_link_remove,
    .host_wrote = spi_cu_link_host_wrote,
    .ahead = spi_cu_link_ahead,
    .forget = spi_cu_link_forget,
    .load = spi_cu_load,
    .unload = spi_cu_unload,
    .prepare = spi_cu_prepare,
    .discard = spi_cu_discard,
    .run = spi_cu_run,
    .matmul = spi_cu_product_run,
    .write_buffer = spi_cu_write_buffer,
    .read_buffer = spi_cu_read_buffer,
    .counters = get_counters,
};
