/* device/vulkan/memory.c - buffers with memory of their own, or with a region's. */
#include <string.h>

#include "base/error.h"
#include "device/vulkan/vulkan.h"

#define USAGE   (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT)
#define NO_TYPE UINT32_MAX

/* The first allowed memory type with all the wanted flags, preferring those that have the liked ones too. */
static uint32_t find_type(const spi_vk *vk, uint32_t allowed, VkMemoryPropertyFlags wanted,
                          VkMemoryPropertyFlags liked) {
    uint32_t best = NO_TYPE;
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = vk->memory.memoryTypes[i].propertyFlags;
        if (!(allowed >> i & 1) || (flags & wanted) != wanted) {
            continue;
        }
        if ((flags & liked) == liked) {
            return i;
        }
        best = best == NO_TYPE ? i : best;
    }
    return best;
}

static sp_status create(spi_vk *vk, uint64_t bytes, const void *next, const char *what, spi_vk_buffer *buffer,
                        sp_error *error) {
    memset(buffer, 0, sizeof *buffer);
    VkBufferCreateInfo create = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                 .pNext = next,
                                 .size = bytes,
                                 .usage = USAGE,
                                 .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    VkResult result = vk->call->CreateBuffer(vk->device, &create, NULL, &buffer->handle);
    if (result) {
        buffer->handle = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, what);
    }
    buffer->bytes = bytes;
    return SP_OK;
}

static sp_status allocate(spi_vk *vk, const VkMemoryAllocateInfo *allocate_info, const char *what,
                          spi_vk_buffer *buffer, sp_error *error) {
    VkResult result = vk->call->AllocateMemory(vk->device, allocate_info, NULL, &buffer->memory);
    if (result) {
        buffer->memory = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, what);
    }
    result = vk->call->BindBufferMemory(vk->device, buffer->handle, buffer->memory, 0);
    return result ? spi_vk_fail(error, result, what) : SP_OK;
}

static sp_status give_memory(spi_vk *vk, spi_vk_place place, const char *what, spi_vk_buffer *buffer, sp_error *error) {
    VkMemoryRequirements needs;
    vk->call->GetBufferMemoryRequirements(vk->device, buffer->handle, &needs);
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    bool mapped = place != SPI_VK_LOCAL || !vk->limits.unmapped;
    uint32_t type = place == SPI_VK_LOCAL ? find_type(vk, needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                                      mapped ? host : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)
                                          : find_type(vk, needs.memoryTypeBits, host,
                                                      place == SPI_VK_STAGING ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT
                                                                              : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    if (type == NO_TYPE) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: %s: the driver has no memory of a kind that fits", what);
    }
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
    sp_status status = allocate(vk, &info, what, buffer, error);
    if (!status && (vk->memory.memoryTypes[type].propertyFlags & host) == host && mapped) {
        VkResult result = vk->call->MapMemory(vk->device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &buffer->mapped);
        if (result) {
            buffer->mapped = NULL;
            status = spi_vk_fail(error, result, what);
        }
    }
    return status;
}

sp_status spi_vk_buffer_create(spi_vk *vk, uint64_t bytes, spi_vk_place place, const char *what, spi_vk_buffer *buffer,
                               sp_error *error) {
    if (bytes > vk->limits.allocation_bytes_max) {
        memset(buffer, 0, sizeof *buffer);
        return spi_fail(error, SP_NO_MEMORY, "vulkan: %s: %llu bytes are more than the driver gives at once (%llu)",
                        what, (unsigned long long)bytes, (unsigned long long)vk->limits.allocation_bytes_max);
    }
    sp_status status = create(vk, bytes, NULL, what, buffer, error);
    if (!status) {
        status = give_memory(vk, place, what, buffer, error);
    }
    if (status) {
        spi_vk_buffer_destroy(vk, buffer);
    }
    return status;
}

static sp_status import_memory(spi_vk *vk, void *address, spi_vk_buffer *buffer, sp_error *error) {
    const VkExternalMemoryHandleTypeFlagBits host = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    VkMemoryHostPointerPropertiesEXT pointer = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkResult result = vk->call->GetMemoryHostPointerPropertiesEXT(vk->device, host, address, &pointer);
    if (result) {
        return spi_vk_fail(error, result, "asking how a region can be imported");
    }
    VkMemoryRequirements needs;
    vk->call->GetBufferMemoryRequirements(vk->device, buffer->handle, &needs);
    uint32_t type = find_type(vk, needs.memoryTypeBits & pointer.memoryTypeBits,
                              VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                              VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    if (type == NO_TYPE || needs.size > buffer->bytes || (uintptr_t)address % needs.alignment) {
        return spi_fail(error, SP_LINK_REFUSED, "vulkan: the driver has no coherent view of a region's memory");
    }
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT, .handleType = host, .pHostPointer = address};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &import,
                                 .allocationSize = buffer->bytes,
                                 .memoryTypeIndex = type};
    return allocate(vk, &info, "importing a region", buffer, error);
}

sp_status spi_vk_buffer_import(spi_vk *vk, void *address, uint64_t bytes, spi_vk_buffer *buffer, sp_error *error) {
    VkExternalMemoryBufferCreateInfo external = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
                                                 .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    sp_status status = create(vk, bytes, &external, "importing a region", buffer, error);
    if (!status) {
        status = import_memory(vk, address, buffer, error);
    }
    if (status) {
        spi_vk_buffer_destroy(vk, buffer);
    }
    return status;
}

void spi_vk_buffer_destroy(spi_vk *vk, spi_vk_buffer *buffer) {
    vk->call->DestroyBuffer(vk->device, buffer->handle, NULL);
    vk->call->FreeMemory(vk->device, buffer->memory, NULL); /* unmaps, too */
    memset(buffer, 0, sizeof *buffer);
}
