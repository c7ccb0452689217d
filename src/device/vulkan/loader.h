/* device/vulkan/loader.h - the Vulkan loader, opened at run time, and its adapters.
 *
 * Nothing here is linked against: a machine without a loader or a driver has zero adapters, which is not an error.
 * May include: base, the public headers, vulkan.h without prototypes.
 */
#ifndef SPI_DEVICE_VULKAN_LOADER_H
#define SPI_DEVICE_VULKAN_LOADER_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

/* Newer than Debian 12's headers. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME                          "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR               ((VkStructureType)1000506001)
#define VK_COMPONENT_TYPE_FLOAT16_KHR                                     0
#define VK_COMPONENT_TYPE_FLOAT32_KHR                                     1
#define VK_SCOPE_SUBGROUP_KHR                                             3
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    int32_t AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    int32_t scope;
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(VkPhysicalDevice, uint32_t *,
                                                                                   VkCooperativeMatrixPropertiesKHR *);
#endif

#include "samepage/device.h"

/* vk->CreateBuffer(...) and so on; the device's entries are NULL until spi_vk_load_device. */
typedef struct spi_vk_functions {
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define GLOBAL(name)   PFN_vk##name name;
#define INSTANCE(name) PFN_vk##name name;
#define DEVICE(name)   PFN_vk##name name;
#include "device/vulkan/functions.def"
} spi_vk_functions;

typedef struct spi_vk_instance {
    void *library;
    VkInstance handle;
    spi_vk_functions call;
} spi_vk_instance;

/* SP_NO_DEVICE: there is no loader, no driver, or none of Vulkan 1.2. SP_NO_MEMORY. Nothing is left behind then. */
sp_status spi_vk_instance_open(spi_vk_instance *instance, sp_error *error);
void spi_vk_instance_close(spi_vk_instance *instance);

/* Fills in the device level. SP_UNSUPPORTED names an entry point that the driver lacks. */
sp_status spi_vk_load_device(spi_vk_functions *call, VkDevice device, sp_error *error);

/* What was found out about a physical device. */
typedef struct spi_vk_adapter {
    VkPhysicalDevice handle;
    uint32_t queue_family;
    VkPhysicalDeviceType type;
    VkDriverId driver;
    VkPhysicalDeviceLimits limits;
    uint32_t vendor, product;
    uint8_t cache_id[VK_UUID_SIZE]; /* of what a cache of pipelines is good for */
    uint64_t allocation_bytes_max;
    uint64_t import_align_bytes;
    uint64_t local_bytes; /* of the largest device-local heap */
    uint32_t subgroup;    /* invocations; 0: none with the operations that the fast kernels need */
    bool int_dot;         /* products of four signed bytes, ... */
    bool int_dot_fast;    /* ... and the hardware has them */
    bool cooperative;     /* matrices of 16 x 16, f16 to f32, by subgroups of 32 */
    char description[160];
    const char *refusal; /* NULL: usable; else why not, a constant */
} spi_vk_adapter;

#define SPI_VK_ADAPTERS_MAX 16

/* Lists adapters, usable ones first and among them real hardware before software. */
sp_status spi_vk_adapters(const spi_vk_instance *instance, spi_vk_adapter adapters[SPI_VK_ADAPTERS_MAX],
                          uint32_t *usable_count, uint32_t *count, sp_error *error);

void spi_vk_adapter_info(const spi_vk_adapter *adapter, uint32_t index, sp_device_info *info);

/* spi_backend.enumerate */
sp_status spi_vk_enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error);

/* Fills error for a failed Vulkan call: out of memory, device lost, or the device's fault. */
sp_status spi_vk_fail(sp_error *error, VkResult result, const char *what);

#endif
