/* device/vulkan/encode.c - one dispatch at a time into a command buffer, with the checks that forgiving drivers
 * skip. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#define POOL_SETS 256u

uint32_t spi_vk_float_word(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

static sp_status add_pool(spi_vk *vk, spi_vk_sets *sets, sp_error *error) {
    if (!SPI_RESERVE(sets->pools, sets->count, sets->capacity)) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory for descriptors");
    }
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                 .descriptorCount = POOL_SETS * SPI_VK_BINDINGS};
    VkDescriptorPoolCreateInfo create = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                         .maxSets = POOL_SETS,
                                         .poolSizeCount = 1,
                                         .pPoolSizes = &size};
    VkResult result = vk->call->CreateDescriptorPool(vk->device, &create, NULL, &sets->pools[sets->count]);
    if (result) {
        return spi_vk_fail(error, result, "creating a pool of descriptors");
    }
    sets->count++;
    return SP_OK;
}

static sp_status next_set(spi_vk *vk, spi_vk_sets *sets, VkDescriptorSet *set, sp_error *error) {
    if (sets->used == sets->count * POOL_SETS) {
        sp_status status = add_pool(vk, sets, error);
        if (status) {
            return status;
        }
    }
    VkDescriptorSetAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                            .descriptorPool = sets->pools[sets->used / POOL_SETS],
                                            .descriptorSetCount = 1,
                                            .pSetLayouts = &vk->set_layout};
    VkResult result = vk->call->AllocateDescriptorSets(vk->device, &allocate, set);
    if (result) {
        return spi_vk_fail(error, result, "allocating descriptors");
    }
    sets->used++;
    return SP_OK;
}

sp_status spi_vk_sets_reset(spi_vk *vk, spi_vk_sets *sets, sp_error *error) {
    for (size_t i = 0; i < sets->count; i++) {
        VkResult result = vk->call->ResetDescriptorPool(vk->device, sets->pools[i], 0);
        if (result) {
            return spi_vk_fail(error, result, "resetting descriptors");
        }
    }
    sets->used = 0;
    return SP_OK;
}

void spi_vk_sets_destroy(spi_vk *vk, spi_vk_sets *sets) {
    for (size_t i = 0; i < sets->count; i++) {
        vk->call->DestroyDescriptorPool(vk->device, sets->pools[i], NULL);
    }
    spi_free(sets->pools);
    memset(sets, 0, sizeof *sets);
}

/* Mesa's software driver takes what is refused, or worse not refused, elsewhere. */
static sp_status check(const spi_vk *vk, const spi_vk_dispatch *dispatch, sp_error *error) {
    if (!dispatch->groups_x || !dispatch->groups_y || dispatch->groups_x > vk->limits.groups_x_max ||
        dispatch->groups_y > vk->limits.groups_y_max || dispatch->groups_z > SPI_VK_RANGES_MAX) {
        return spi_fail(error, SP_UNSUPPORTED, "vulkan: %u x %u work groups are not what this device takes (%u x %u)",
                        dispatch->groups_x, dispatch->groups_y, vk->limits.groups_x_max, vk->limits.groups_y_max);
    }
    for (uint32_t i = 1; i < SPI_VK_BINDINGS; i++) {
        const spi_vk_binding *binding = &dispatch->bindings[i];
        if (binding->buffer && (!binding->range || binding->range > vk->limits.range_bytes_max ||
                                binding->offset % vk->limits.offset_align_bytes)) {
            return spi_fail(error, SP_UNSUPPORTED,
                            "vulkan: %llu bytes at %llu cannot be bound: this device takes %llu at multiples of %llu",
                            (unsigned long long)binding->range, (unsigned long long)binding->offset,
                            (unsigned long long)vk->limits.range_bytes_max,
                            (unsigned long long)vk->limits.offset_align_bytes);
        }
    }
    return SP_OK;
}

sp_status spi_vk_encode(spi_vk *vk, VkCommandBuffer commands, spi_vk_sets *sets, const spi_vk_dispatch *dispatch,
                        sp_error *error) {
    VkDescriptorSet set;
    VkPipeline pipeline;
    sp_status status = check(vk, dispatch, error);
    status = status ? status : spi_vk_pipeline_need(vk, dispatch->shader, dispatch->variant, &pipeline, error);
    status = status ? status : next_set(vk, sets, &set, error);
    if (status) {
        return status;
    }
    VkDescriptorBufferInfo infos[SPI_VK_BINDINGS];
    VkWriteDescriptorSet writes[SPI_VK_BINDINGS];
    uint32_t count = 0;
    for (uint32_t i = 1; i < SPI_VK_BINDINGS; i++) {
        const spi_vk_binding *binding = &dispatch->bindings[i];
        if (binding->buffer) {
            infos[count] = (VkDescriptorBufferInfo){binding->buffer, binding->offset, binding->range};
            writes[count] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                                   .dstSet = set,
                                                   .dstBinding = i,
                                                   .descriptorCount = 1,
                                                   .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                   .pBufferInfo = &infos[count]};
            count++;
        }
    }
    vk->call->UpdateDescriptorSets(vk->device, count, writes, 0, NULL);
    vk->call->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vk->call->CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, vk->layout, 0, 1, &set, 0, NULL);
    vk->call->CmdPushConstants(commands, vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof dispatch->push,
                               dispatch->push);
    vk->call->CmdDispatch(commands, dispatch->groups_x, dispatch->groups_y,
                          dispatch->groups_z ? dispatch->groups_z : 1);
    return SP_OK;
}

void spi_vk_encode_barrier(spi_vk *vk, VkCommandBuffer commands) {
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
    vk->call->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                                 0, 1, &barrier, 0, NULL, 0, NULL);
}

void spi_vk_encode_zero(spi_vk *vk, VkCommandBuffer commands, const spi_vk_buffer *buffer) {
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
    vk->call->CmdFillBuffer(commands, buffer->handle, 0, VK_WHOLE_SIZE, 0);
    vk->call->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1,
                                 &barrier, 0, NULL, 0, NULL);
}

void spi_vk_encode_host_barrier(spi_vk *vk, VkCommandBuffer commands) {
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vk->call->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1,
                                 &barrier, 0, NULL, 0, NULL);
}
