/* device/vulkan/loader.c - opening libvulkan and filling the tables of entry points. */
#include "device/vulkan/loader.h"

#include <dlfcn.h>
#include <string.h>

#include "base/error.h"

static const char *result_text(VkResult result) {
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED: return "initialization failed";
    case VK_ERROR_DEVICE_LOST: return "device lost";
    case VK_ERROR_MEMORY_MAP_FAILED: return "memory map failed";
    case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_OUT_OF_POOL_MEMORY: return "out of pool memory";
    case VK_ERROR_INVALID_EXTERNAL_HANDLE: return "the driver refused the memory";
    default: return "an error of the driver";
    }
}

sp_status spi_vk_fail(sp_error *error, VkResult result, const char *what) {
    sp_status status = SP_DEVICE_LOST;
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
        result == VK_ERROR_TOO_MANY_OBJECTS || result == VK_ERROR_OUT_OF_POOL_MEMORY) {
        status = SP_NO_MEMORY;
    }
    return spi_fail(error, status, "vulkan: %s: %s (%d)", what, result_text(result), (int)result);
}

/* POSIX lets dlsym's object pointer become a function pointer; ISO C needs the detour. */
static PFN_vkGetInstanceProcAddr find_entry(void *library) {
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");
    PFN_vkGetInstanceProcAddr entry;
    memcpy(&entry, &symbol, sizeof entry);
    return entry;
}

static sp_status load_global(spi_vk_functions *call, sp_error *error) {
#define GLOBAL(name)                                                                                                   \
    call->name = (PFN_vk##name)(void (*)(void))call->GetInstanceProcAddr(NULL, "vk" #name);                            \
    if (!call->name) {                                                                                                 \
        return spi_fail(error, SP_UNSUPPORTED,                                                                         \
                        "the Vulkan loader is older than 1.1, it lacks vk" #name ": update it");                       \
    }
#include "device/vulkan/functions.def"
    return SP_OK;
}

static sp_status load_instance(spi_vk_instance *instance, sp_error *error) {
    spi_vk_functions *call = &instance->call;
#define INSTANCE(name)                                                                                                 \
    call->name = (PFN_vk##name)(void (*)(void))call->GetInstanceProcAddr(instance->handle, "vk" #name);                \
    if (!call->name) {                                                                                                 \
        return spi_fail(error, SP_UNSUPPORTED, "the Vulkan loader lacks vk" #name ": update it");                      \
    }
#include "device/vulkan/functions.def"
    return SP_OK;
}

sp_status spi_vk_load_device(spi_vk_functions *call, VkDevice device, sp_error *error) {
#define DEVICE(name)                                                                                                   \
    call->name = (PFN_vk##name)(void (*)(void))call->GetDeviceProcAddr(device, "vk" #name);                            \
    if (!call->name) {                                                                                                 \
        return spi_fail(error, SP_UNSUPPORTED, "the Vulkan driver lacks vk" #name ": update it");                      \
    }
#include "device/vulkan/functions.def"
    return SP_OK;
}

static sp_status create_instance(spi_vk_instance *instance, sp_error *error) {
    sp_status status = load_global(&instance->call, error);
    if (status) {
        return status;
    }
    uint32_t version = 0;
    if (instance->call.EnumerateInstanceVersion(&version) || version < VK_API_VERSION_1_2) {
        return spi_fail(error, SP_UNSUPPORTED, "the Vulkan loader is older than 1.2: update it");
    }
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .pApplicationName = "samepage",
                                     .pEngineName = "samepage",
                                     .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkResult result = instance->call.CreateInstance(&create, NULL, &instance->handle);
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY) {
        return spi_vk_fail(error, result, "creating an instance");
    }
    if (result) {
        instance->handle = VK_NULL_HANDLE;
        return spi_fail(error, SP_NO_DEVICE, "there is no Vulkan driver that can be used");
    }
    return load_instance(instance, error);
}

sp_status spi_vk_instance_open(spi_vk_instance *instance, sp_error *error) {
    memset(instance, 0, sizeof *instance);
    instance->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!instance->library) {
        return spi_fail(error, SP_NO_DEVICE, "there is no Vulkan loader here: install libvulkan1");
    }
    instance->call.GetInstanceProcAddr = find_entry(instance->library);
    sp_status status = instance->call.GetInstanceProcAddr
                           ? create_instance(instance, error)
                           : spi_fail(error, SP_UNSUPPORTED, "libvulkan.so.1 is not a Vulkan loader");
    if (status) {
        spi_vk_instance_close(instance);
    }
    return status;
}

void spi_vk_instance_close(spi_vk_instance *instance) {
    if (instance->handle && instance->call.DestroyInstance) {
        instance->call.DestroyInstance(instance->handle, NULL);
    }
    if (instance->library) {
        dlclose(instance->library);
    }
    memset(instance, 0, sizeof *instance);
}
