/* device/vulkan/device.c - opening and closing an adapter, its limits, and the backend's table. */
#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define OFFSET_ALIGN_MIN 16u /* kernels read 16 bytes at once */
#define SLICES_HARDWARE  4u
/* Weights that are expanded for a product of many rows: what is written stays in the cache of a large card. */
#define EXPANDED_BYTES ((uint64_t)32 << 20)
/* A card with cooperative matrices and memory to spare: narrow products of fewer rows leave half of it without
 * tiles. */
#define LARGE_BYTES    ((uint64_t)16 << 30)
#define LARGE_ROWS_MAX 2048u
/* On an H100 16 rows take 4.8 ms by gemv (BF16) and 5.9 by tiles (Q8_0), 64 rows 7.6 by tiles (BF16). */
#define MATRIX_ROWS_MIN 33u
#define FEW_ROWS_MIN    5u
#define FEW_ROWS_MAX    64u
#define COPIED_ROWS_MIN 65u
#define SHARE_STEPS_MIN 4u

static spi_vk_limits test_limits;

void spi_vk_test_limits(const spi_vk_limits *limits) {
    test_limits = limits ? *limits : (spi_vk_limits){0};
}

static void lower(uint64_t *limit, uint64_t most) {
    *limit = most && most < *limit ? most : *limit;
}

static void choose_limits(spi_vk *vk) {
    const VkPhysicalDeviceLimits *from = &vk->adapter.limits;
    spi_vk_limits *limits = &vk->limits;
    limits->offset_align_bytes = from->minStorageBufferOffsetAlignment > OFFSET_ALIGN_MIN
                                     ? from->minStorageBufferOffsetAlignment
                                     : OFFSET_ALIGN_MIN;
    limits->allocation_bytes_max = vk->adapter.allocation_bytes_max;
    limits->range_bytes_max = from->maxStorageBufferRange;
    limits->groups_x_max = from->maxComputeWorkGroupCount[0];
    limits->piece_tiles_max = test_limits.piece_tiles_max ? test_limits.piece_tiles_max : UINT32_MAX;
    limits->groups_y_max = from->maxComputeWorkGroupCount[1];
    lower(&limits->allocation_bytes_max, test_limits.allocation_bytes_max);
    lower(&limits->range_bytes_max, test_limits.range_bytes_max);
    limits->range_bytes_max -= limits->range_bytes_max % limits->offset_align_bytes;
    limits->window_bytes_max = limits->range_bytes_max;
    lower(&limits->window_bytes_max, test_limits.window_bytes_max);
    limits->expanded_bytes_max = EXPANDED_BYTES;
    lower(&limits->expanded_bytes_max, test_limits.expanded_bytes_max);
    /* A software driver turns barriers into switches between stacks: there each invocation sums a whole row. */
    limits->slices = vk->info.is_software ? 1 : SLICES_HARDWARE;
    limits->slices = test_limits.slices ? test_limits.slices : limits->slices;
    limits->kernels = test_limits.kernels    ? test_limits.kernels
                      : vk->info.is_software ? SPI_VK_KERNELS_PLAIN
                                             : SPI_VK_KERNELS_FAST;
    limits->kernels = vk->adapter.subgroup ? limits->kernels : SPI_VK_KERNELS_PLAIN;
    limits->ranges = test_limits.ranges;
    limits->matrix_rows_min = test_limits.matrix_rows_min ? test_limits.matrix_rows_min : MATRIX_ROWS_MIN;
    limits->few_rows_min = test_limits.few_rows_min ? test_limits.few_rows_min : FEW_ROWS_MIN;
    limits->few_rows_max = test_limits.few_rows_max ? test_limits.few_rows_max : FEW_ROWS_MAX;
    bool fast = limits->kernels == SPI_VK_KERNELS_FAST, forced = test_limits.kernels == SPI_VK_KERNELS_FAST;
    limits->bytes = fast && vk->adapter.int_dot && (vk->adapter.int_dot_fast || forced) && !test_limits.no_bytes;
    limits->cooperative = fast && vk->adapter.cooperative && !test_limits.no_cooperative;
    limits->relay = fast && !test_limits.no_relay;
    limits->relay_excess = test_limits.relay_excess;
    limits->share_steps_min = test_limits.share_steps_min ? test_limits.share_steps_min : SHARE_STEPS_MIN;
    limits->copied_rows_min = test_limits.copied_rows_min ? test_limits.copied_rows_min : COPIED_ROWS_MIN;
    /* On a discrete card memory that is local and visible, too, is a window of some size, or slow to fill: leave it. */
    limits->unmapped = vk->info.link != SP_LINK_SHARED || test_limits.unmapped;
}

static sp_status create_device(spi_vk *vk, sp_error *error) {
    float priority = 1;
    const char *extensions[3] = {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME};
    uint32_t count = 1;
    VkPhysicalDeviceVulkan12Features common = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, .cooperativeMatrix = VK_TRUE};
    void *next = NULL;
    if (vk->adapter.int_dot) {
        extensions[count++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
        next = &dot;
    }
    if (vk->adapter.cooperative) {
        extensions[count++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
        common.shaderFloat16 = common.vulkanMemoryModel = VK_TRUE;
        matrix.pNext = next;
        common.pNext = &matrix;
        next = &common;
    }
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = vk->adapter.queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                 .pNext = next,
                                 .queueCreateInfoCount = 1,
                                 .pQueueCreateInfos = &queue,
                                 .enabledExtensionCount = count,
                                 .ppEnabledExtensionNames = extensions};
    VkResult result = vk->call->CreateDevice(vk->adapter.handle, &create, NULL, &vk->device);
    if (result) {
        vk->device = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, "opening the device");
    }
    sp_status status = spi_vk_load_device(&vk->instance.call, vk->device, error);
    if (status) {
        return status;
    }
    vk->call->GetDeviceQueue(vk->device, vk->adapter.queue_family, 0, &vk->queue);
    vk->call->GetPhysicalDeviceMemoryProperties(vk->adapter.handle, &vk->memory);
    return SP_OK;
}

static sp_status create_commands(spi_vk *vk, sp_error *error) {
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = vk->adapter.queue_family};
    VkResult result = vk->call->CreateCommandPool(vk->device, &pool, NULL, &vk->commands);
    if (result) {
        return spi_vk_fail(error, result, "creating a command pool");
    }
    VkCommandBufferAllocateInfo buffer = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                          .commandPool = vk->commands,
                                          .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                          .commandBufferCount = 1};
    result = vk->call->AllocateCommandBuffers(vk->device, &buffer, &vk->once);
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    result = result ? result : vk->call->CreateFence(vk->device, &fence, NULL, &vk->fence);
    return result ? spi_vk_fail(error, result, "creating a command buffer") : SP_OK;
}

static sp_status choose_adapter(spi_vk *vk, uint32_t index, sp_error *error) {
    spi_vk_adapter adapters[SPI_VK_ADAPTERS_MAX];
    uint32_t usable, count;
    sp_status status = spi_vk_adapters(&vk->instance, adapters, &usable, &count, error);
    if (status) {
        return status;
    }
    if (index >= count) {
        return spi_fail(error, SP_NO_DEVICE, "there is no Vulkan device %u", index);
    }
    if (index >= usable) {
        return spi_fail(error, SP_UNSUPPORTED, "%s cannot be used: %s", adapters[index].description,
                        adapters[index].refusal);
    }
    vk->adapter = adapters[index];
    spi_vk_adapter_info(&vk->adapter, index, &vk->info);
    return SP_OK;
}

static void close_device(void *context) {
    spi_vk *vk = context;
    if (vk->device && vk->call->QueueSubmit) { /* the last entry of the table: all of it was found */
        vk->call->DeviceWaitIdle(vk->device);
        spi_vk_sets_destroy(vk, &vk->once_sets);
        spi_vk_layouts_destroy(vk);
        vk->call->DestroyFence(vk->device, vk->fence, NULL);
        vk->call->DestroyCommandPool(vk->device, vk->commands, NULL);
    }
    if (vk->device && vk->call->DestroyDevice) {
        vk->call->DestroyDevice(vk->device, NULL);
    }
    spi_vk_instance_close(&vk->instance);
    spi_free(vk);
}

static sp_status open_device(uint32_t index, const sp_device_options *options, void **context, sp_error *error) {
    (void)options;
    *context = NULL;
    spi_vk *vk = spi_alloc(1, sizeof *vk);
    if (!vk) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to open a device");
    }
    vk->call = &vk->instance.call;
    sp_status status = spi_vk_instance_open(&vk->instance, error);
    status = status ? status : choose_adapter(vk, index, error);
    status = status ? status : create_device(vk, error);
    if (!status) {
        choose_limits(vk);
        status = create_commands(vk, error);
    }
    status = status ? status : spi_vk_layouts_create(vk, error);
    if (status) {
        close_device(vk);
        return status;
    }
    *context = vk;
    return SP_OK;
}

static bool is_lost(void *context) {
    const spi_vk *vk = context;
    return vk->lost;
}

static void get_info(void *context, sp_device_info *info) {
    const spi_vk *vk = context;
    *info = vk->info;
}

static uint32_t rows_max(void *context) {
    const spi_vk *vk = context;
    return vk->limits.cooperative && vk->adapter.local_bytes >= LARGE_BYTES ? LARGE_ROWS_MAX : 0;
}

/* docs/links.md has the measurements. Memory that a file stands behind, an unnamed one too, is refused by some drivers,
 * and on one a refusal breaks later imports: it is offered only to those that were seen to take it. */
static void get_rules(void *context, spi_link_rules *rules) {
    const spi_vk *vk = context;
    bool takes_files = vk->info.is_software || vk->adapter.driver == VK_DRIVER_ID_NVIDIA_PROPRIETARY;
    rules->align_bytes = vk->adapter.import_align_bytes;
    rules->range_bytes_max = vk->limits.allocation_bytes_max;
    rules->backings = 1u << SP_BACKING_ANONYMOUS | (takes_files ? 1u << SP_BACKING_SHAREABLE : 0);
    rules->pins = !vk->info.is_software;
    rules->best = vk->info.link;
}

static void get_counters(void *context, sp_device_counters *counters) {
    const spi_vk *vk = context;
    counters->runs += vk->runs;
    counters->copied_bytes += vk->copied_bytes;
}

const spi_backend spi_backend_vulkan = {
    .name = "vulkan",
    .has_q8_kv = true,
    .enumerate = spi_vk_enumerate,
    .open = open_device,
    .close = close_device,
    .is_lost = is_lost,
    .info = get_info,
    .rows_max = rows_max,
    .rules = get_rules,
    .link = spi_vk_link_region,
    .extend = spi_vk_link_extend,
    .unlink = spi_vk_link_remove,
    .host_wrote = spi_vk_mirror_host_wrote,
    .forget = spi_vk_link_forget,
    .load = spi_vk_load,
    .unload = spi_vk_unload,
    .prepare = spi_vk_prepare,
    .discard = spi_vk_discard,
    .run = spi_vk_run,
    .matmul = spi_vk_product,
    .write_buffer = spi_vk_write_buffer,
    .read_buffer = spi_vk_read_buffer,
    .counters = get_counters,
};
