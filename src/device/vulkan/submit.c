/* device/vulkan/submit.c - handing command buffers to the device and waiting for them; small copies. */
#include "base/error.h"
#include "device/vulkan/vulkan.h"
#include "os/clock.h"

#define SPIN_NS 3000000

static sp_status failed(spi_vk *vk, VkResult result, const char *what, sp_error *error) {
    vk->lost = vk->lost || result == VK_ERROR_DEVICE_LOST;
    return spi_vk_fail(error, result, what);
}

static sp_status check_lost(const spi_vk *vk, sp_error *error) {
    return vk->lost ? spi_fail(error, SP_DEVICE_LOST, "vulkan: %s was lost: close it and open it again", vk->info.name)
                    : SP_OK;
}

sp_status spi_vk_begin(spi_vk *vk, VkCommandBuffer commands, sp_error *error) {
    sp_status status = check_lost(vk, error);
    if (status) {
        return status;
    }
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkResult result = vk->call->BeginCommandBuffer(commands, &begin);
    if (result) {
        return failed(vk, result, "starting a command buffer", error);
    }
    /* What earlier submissions wrote, copies or kernels, is seen by all that follows. */
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT};
    vk->call->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 1,
                                 &barrier, 0, NULL, 0, NULL);
    return SP_OK;
}

void spi_vk_abandon(spi_vk *vk, VkCommandBuffer commands) {
    vk->call->EndCommandBuffer(commands);
}

/* Asking costs a fraction of a microsecond, being woken up tens of them: a token's time is asked away on hardware, and
 * of what took longer before, the end. A software driver needs the processor itself. */
static VkResult wait_for_fence(spi_vk *vk, int64_t expected_ns) {
    if (!vk->info.is_software) {
        if (expected_ns > SPIN_NS) {
            uint64_t timeout_ns = (uint64_t)(expected_ns - SPIN_NS / 2);
            VkResult result = vk->call->WaitForFences(vk->device, 1, &vk->fence, VK_TRUE, timeout_ns);
            if (result != VK_TIMEOUT) {
                return result;
            }
        }
        int64_t end_ns = spi_clock_ns() + SPIN_NS;
        do {
            VkResult result = vk->call->GetFenceStatus(vk->device, vk->fence);
            if (result != VK_NOT_READY) {
                return result;
            }
        } while (spi_clock_ns() < end_ns);
    }
    return vk->call->WaitForFences(vk->device, 1, &vk->fence, VK_TRUE, UINT64_MAX);
}

sp_status spi_vk_submit_again(spi_vk *vk, VkCommandBuffer commands, int64_t *took_ns, sp_error *error) {
    int64_t begin_ns = spi_clock_ns();
    sp_status status = check_lost(vk, error);
    if (status) {
        return status;
    }
    VkResult result = vk->call->ResetFences(vk->device, 1, &vk->fence);
    if (result) {
        return failed(vk, result, "resetting a fence", error);
    }
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    result = vk->call->QueueSubmit(vk->queue, 1, &submit, vk->fence);
    if (result) {
        return failed(vk, result, "submitting work", error);
    }
    result = wait_for_fence(vk, took_ns ? *took_ns : 0);
    if (result) {
        /* Work may still be on its way and the next submission would find the fence in use. */
        vk->call->DeviceWaitIdle(vk->device);
        return failed(vk, result, "waiting for the device", error);
    }
    if (took_ns) {
        *took_ns = spi_clock_ns() - begin_ns;
    }
    return SP_OK;
}

sp_status spi_vk_submit(spi_vk *vk, VkCommandBuffer commands, sp_error *error) {
    VkResult result = vk->call->EndCommandBuffer(commands);
    return result ? failed(vk, result, "ending a command buffer", error)
                  : spi_vk_submit_again(vk, commands, NULL, error);
}

static void transfer_barrier(spi_vk *vk) {
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vk->call->CmdPipelineBarrier(vk->once, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier,
                                 0, NULL, 0, NULL);
}

sp_status spi_vk_copy(spi_vk *vk, VkBuffer from, VkBuffer to, const VkBufferCopy *copies, uint32_t count,
                      sp_error *error) {
    sp_status status = spi_vk_begin(vk, vk->once, error);
    if (status) {
        return status;
    }
    vk->call->CmdCopyBuffer(vk->once, from, to, count, copies);
    transfer_barrier(vk);
    return spi_vk_submit(vk, vk->once, error);
}

sp_status spi_vk_zero(spi_vk *vk, const spi_vk_buffer *buffers, uint32_t count, sp_error *error) {
    sp_status status = spi_vk_begin(vk, vk->once, error);
    if (status) {
        return status;
    }
    for (uint32_t i = 0; i < count; i++) {
        vk->call->CmdFillBuffer(vk->once, buffers[i].handle, 0, VK_WHOLE_SIZE, 0);
    }
    transfer_barrier(vk);
    return spi_vk_submit(vk, vk->once, error);
}
