/* device/vulkan/adapter.c - which adapters there are, what they say of themselves, and which of them can be used.
 *
 * An adapter without a compute queue or without VK_EXT_external_memory_host cannot reach a region in place, and this
 * backend copies no regions: it is not listed, and opening it by number says why.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/loader.h"
#include "os/vm.h"

#define QUEUE_FAMILIES_MAX 16
/* What the shaders count on: the most that any of them uses. */
#define SHARED_BYTES      (16u << 10) /* of the plain ones */
#define FAST_SHARED_BYTES (32u << 10)
#define GROUP_INVOCATIONS 128u
#define STORAGE_BUFFERS   11u
/* What the fast kernels count on; lanes lie in subgroups in order on all drivers that were seen. */
#define COOPERATIVE_SHARED_BYTES (46u << 10)
#define FAST_INVOCATIONS         256u
#define FAST_OPERATIONS          (VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT)

static bool find_queue(const spi_vk_functions *call, spi_vk_adapter *adapter) {
    VkQueueFamilyProperties families[QUEUE_FAMILIES_MAX];
    uint32_t count = QUEUE_FAMILIES_MAX;
    call->GetPhysicalDeviceQueueFamilyProperties(adapter->handle, &count, families);
    for (uint32_t i = 0; i < count; i++) {
        if (families[i].queueCount && families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            adapter->queue_family = i;
            return true;
        }
    }
    return false;
}

static sp_status has_extension(const spi_vk_functions *call, VkPhysicalDevice handle, const char *name, bool *found,
                               sp_error *error) {
    uint32_t count = 0;
    *found = false;
    VkResult result = call->EnumerateDeviceExtensionProperties(handle, NULL, &count, NULL);
    VkExtensionProperties *list = result ? NULL : spi_alloc(count, sizeof *list);
    if (!result && !list) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to list extensions");
    }
    if (!result) {
        result = call->EnumerateDeviceExtensionProperties(handle, NULL, &count, list);
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++) {
        *found = *found || !strcmp(list[i].extensionName, name);
    }
    spi_free(list);
    return result < 0 ? spi_vk_fail(error, result, "listing extensions") : SP_OK;
}

static bool has_matrices(const spi_vk_instance *instance, VkPhysicalDevice handle) {
    enum { SHAPES_MAX = 64 };
    VkCooperativeMatrixPropertiesKHR shapes[SHAPES_MAX];
    uint32_t count = SHAPES_MAX;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void (*)(void))instance->call.GetInstanceProcAddr(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    memset(shapes, 0, sizeof shapes);
    for (uint32_t i = 0; i < SHAPES_MAX; i++) {
        shapes[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    }
    if (!list || list(handle, &count, shapes) < 0) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const VkCooperativeMatrixPropertiesKHR *shape = &shapes[i];
        if (shape->MSize == 16 && shape->NSize == 16 && shape->KSize == 16 &&
            shape->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && shape->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
            shape->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && shape->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            shape->scope == VK_SCOPE_SUBGROUP_KHR) {
            return true;
        }
    }
    return false;
}

/* Instructions beyond the common ones, for the fast kernels. */
static sp_status find_instructions(const spi_vk_instance *instance, spi_vk_adapter *adapter, sp_error *error) {
    const spi_vk_functions *call = &instance->call;
    bool dots, matrices;
    sp_status status =
        has_extension(call, adapter->handle, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME, &dots, error);
    status = status ? status
                    : has_extension(call, adapter->handle, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, &matrices, error);
    if (status) {
        return status;
    }
    VkPhysicalDeviceVulkan12Features common = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &common};
    dot.pNext = matrices ? &matrix : NULL;
    common.pNext = dots ? (void *)&dot : dot.pNext;
    call->GetPhysicalDeviceFeatures2(adapter->handle, &features);
    VkPhysicalDeviceShaderIntegerDotProductProperties fast = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                              .pNext = dots ? &fast : NULL};
    call->GetPhysicalDeviceProperties2(adapter->handle, &properties);
    adapter->int_dot = dot.shaderIntegerDotProduct;
    adapter->int_dot_fast = adapter->int_dot && fast.integerDotProduct4x8BitPackedSignedAccelerated;
    adapter->cooperative = matrix.cooperativeMatrix && common.vulkanMemoryModel && common.shaderFloat16 &&
                           adapter->subgroup == 32 &&
                           adapter->limits.maxComputeSharedMemorySize >= COOPERATIVE_SHARED_BYTES &&
                           has_matrices(instance, adapter->handle);
    return SP_OK;
}

static void describe(spi_vk_adapter *adapter, const char *device, const char *driver, const char *detail) {
    snprintf(adapter->description, sizeof adapter->description, "%.90s, %.30s%s%.30s", device, driver,
             *detail ? " " : "", detail);
}

static const char *missing_limit(const VkPhysicalDeviceLimits *limits) {
    if (limits->maxComputeSharedMemorySize < SHARED_BYTES) {
        return "less than 16 KiB of shared memory";
    }
    if (limits->maxComputeWorkGroupInvocations < GROUP_INVOCATIONS) {
        return "work groups of less than 128 invocations";
    }
    return limits->maxPerStageDescriptorStorageBuffers < STORAGE_BUFFERS ? "less than 11 storage buffers a shader"
                                                                         : NULL;
}

static bool runs_fast_kernels(const VkPhysicalDeviceSubgroupProperties *subgroup,
                              const VkPhysicalDeviceLimits *limits) {
    return subgroup->supportedStages & VK_SHADER_STAGE_COMPUTE_BIT &&
           (subgroup->supportedOperations & FAST_OPERATIONS) == FAST_OPERATIONS && subgroup->subgroupSize >= 8 &&
           subgroup->subgroupSize <= 64 && limits->maxComputeWorkGroupInvocations >= FAST_INVOCATIONS &&
           limits->maxComputeWorkGroupSize[0] >= FAST_INVOCATIONS &&
           limits->maxComputeSharedMemorySize >= FAST_SHARED_BYTES;
}

static uint64_t largest_local_heap(const spi_vk_functions *call, VkPhysicalDevice handle) {
    VkPhysicalDeviceMemoryProperties memory;
    uint64_t largest = 0;
    call->GetPhysicalDeviceMemoryProperties(handle, &memory);
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &memory.memoryHeaps[i];
        largest = heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT && heap->size > largest ? heap->size : largest;
    }
    return largest;
}

/* Why it cannot be used, or NULL; finds the queue on the way. */
static const char *find_refusal(const spi_vk_functions *call, spi_vk_adapter *adapter, bool imports) {
    if (!find_queue(call, adapter)) {
        return "no queue that computes";
    }
    if (!imports) {
        return "its driver cannot import host memory (VK_EXT_external_memory_host)";
    }
    if (SP_REGION_ALIGN_BYTES % adapter->import_align_bytes) {
        return "it imports host memory only in steps larger than a region's";
    }
    return missing_limit(&adapter->limits);
}

static sp_status examine(const spi_vk_instance *instance, spi_vk_adapter *adapter, sp_error *error) {
    const spi_vk_functions *call = &instance->call;
    VkPhysicalDeviceProperties first;
    call->GetPhysicalDeviceProperties(adapter->handle, &first);
    adapter->type = first.deviceType;
    adapter->limits = first.limits;
    adapter->vendor = first.vendorID;
    adapter->product = first.deviceID;
    memcpy(adapter->cache_id, first.pipelineCacheUUID, VK_UUID_SIZE);
    describe(adapter, first.deviceName, "Vulkan driver", "");
    if (first.apiVersion < VK_API_VERSION_1_2) {
        adapter->refusal = "its driver is older than Vulkan 1.2";
        return SP_OK;
    }
    bool imports;
    sp_status status =
        has_extension(call, adapter->handle, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, &imports, error);
    if (status) {
        return status;
    }
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
                                                   .pNext = &driver};
    VkPhysicalDeviceMaintenance3Properties sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
                                                    .pNext = &subgroup};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &sizes};
    driver.pNext = imports ? &host : NULL;
    call->GetPhysicalDeviceProperties2(adapter->handle, &all);
    describe(adapter, first.deviceName, driver.driverName, driver.driverInfo);
    adapter->driver = driver.driverID;
    adapter->allocation_bytes_max = sizes.maxMemoryAllocationSize;
    adapter->subgroup = runs_fast_kernels(&subgroup, &adapter->limits) ? subgroup.subgroupSize : 0;
    size_t page = spi_vm_page_bytes();
    adapter->import_align_bytes =
        host.minImportedHostPointerAlignment > page ? host.minImportedHostPointerAlignment : page;
    adapter->local_bytes = largest_local_heap(call, adapter->handle);
    adapter->refusal = find_refusal(call, adapter, imports);
    return adapter->subgroup ? find_instructions(instance, adapter, error) : SP_OK;
}

static int rank(const spi_vk_adapter *adapter) {
    int rank = adapter->refusal ? 10 : 0;
    switch (adapter->type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return rank;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return rank + 1;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return rank + 3;
    default: return rank + 2;
    }
}

sp_status spi_vk_adapters(const spi_vk_instance *instance, spi_vk_adapter adapters[SPI_VK_ADAPTERS_MAX],
                          uint32_t *usable_count, uint32_t *count, sp_error *error) {
    VkPhysicalDevice handles[SPI_VK_ADAPTERS_MAX];
    *usable_count = 0;
    *count = SPI_VK_ADAPTERS_MAX;
    VkResult result = instance->call.EnumeratePhysicalDevices(instance->handle, count, handles);
    if (result == VK_ERROR_INITIALIZATION_FAILED) {
        *count = 0; /* a driver is installed and its hardware is not there */
        return SP_OK;
    }
    if (result < 0) {
        return spi_vk_fail(error, result, "listing adapters");
    }
    for (uint32_t i = 0; i < *count; i++) {
        spi_vk_adapter adapter = {.handle = handles[i]};
        sp_error why = {0};
        sp_status status = examine(instance, &adapter, &why);
        if (status == SP_NO_MEMORY) {
            *error = why;
            return status;
        }
        adapter.refusal = status ? "its driver fails when it is asked what it can do" : adapter.refusal;
        uint32_t place = i;
        while (place && rank(&adapters[place - 1]) > rank(&adapter)) {
            adapters[place] = adapters[place - 1];
            place--;
        }
        adapters[place] = adapter;
        *usable_count += !adapter.refusal;
    }
    return SP_OK;
}

void spi_vk_adapter_info(const spi_vk_adapter *adapter, uint32_t index, sp_device_info *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, index ? "vulkan:%u" : "vulkan", index);
    memcpy(info->description, adapter->description, sizeof info->description);
    info->is_software = adapter->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    bool same_memory = info->is_software || adapter->type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    info->link = same_memory ? SP_LINK_SHARED : SP_LINK_MIRRORED;
    info->memory_bytes = same_memory ? 0 : adapter->local_bytes;
}

sp_status spi_vk_enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    *count = 0;
    spi_vk_instance instance;
    sp_error why = {0};
    sp_status status = spi_vk_instance_open(&instance, &why);
    if (status == SP_NO_DEVICE) {
        return SP_OK;
    }
    if (status) {
        *error = why;
        return status;
    }
    spi_vk_adapter adapters[SPI_VK_ADAPTERS_MAX];
    uint32_t usable, all;
    status = spi_vk_adapters(&instance, adapters, &usable, &all, error);
    for (uint32_t i = 0; !status && i < usable; i++, (*count)++) {
        if (i < capacity) {
            spi_vk_adapter_info(&adapters[i], i, &infos[i]);
        }
    }
    if (!status && all && !usable) {
        status = spi_fail(error, SP_UNSUPPORTED, "%s cannot be used: %s", adapters[0].description, adapters[0].refusal);
    }
    spi_vk_instance_close(&instance);
    return status;
}
