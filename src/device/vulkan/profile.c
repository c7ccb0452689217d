/* device/vulkan/profile.c - when the device came to each barrier of a run: for bench_vulkan.
 *
 * Owns: the pool of queries. May include: device/vulkan/vulkan.h, base.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

sp_status spi_vk_profile_start(spi_vk *vk, sp_error *error) {
    VkQueryPoolCreateInfo create = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                    .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                    .queryCount = SPI_VK_STAMPS};
    VkResult result = vk->call->CreateQueryPool(vk->device, &create, NULL, &vk->profile.pool);
    if (result) {
        vk->profile.pool = VK_NULL_HANDLE;
        return spi_vk_fail(error, result, "creating queries");
    }
    vk->generation++; /* recordings without stamps are of no use */
    return SP_OK;
}

void spi_vk_profile_stop(spi_vk *vk) {
    vk->call->DestroyQueryPool(vk->device, vk->profile.pool, NULL);
    memset(&vk->profile, 0, sizeof vk->profile);
    vk->generation++;
}

void spi_vk_profile_begin(spi_vk *vk, VkCommandBuffer commands) {
    if (vk->profile.pool) {
        vk->profile.count = 0;
        vk->call->CmdResetQueryPool(commands, vk->profile.pool, 0, SPI_VK_STAMPS);
    }
}

void spi_vk_profile_stamp(spi_vk *vk, VkCommandBuffer commands, uint32_t op_index) {
    if (vk->profile.pool && vk->profile.count < SPI_VK_STAMPS) {
        vk->call->CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, vk->profile.pool,
                                    vk->profile.count);
        vk->profile.ops[vk->profile.count++] = op_index;
    }
}

sp_status spi_vk_profile_read(spi_vk *vk, double *us, sp_error *error) {
    uint64_t *ticks = spi_alloc(SPI_VK_STAMPS, sizeof *ticks);
    if (!ticks) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory to read queries");
    }
    VkResult result =
        vk->call->GetQueryPoolResults(vk->device, vk->profile.pool, 0, vk->profile.count, SPI_VK_STAMPS * sizeof *ticks,
                                      ticks, sizeof *ticks, VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    for (uint32_t i = 0; !result && i < vk->profile.count; i++) {
        us[i] = (double)(ticks[i] - ticks[0]) * (double)vk->adapter.limits.timestampPeriod / 1000;
    }
    spi_free(ticks);
    return result ? spi_vk_fail(error, result, "reading queries") : SP_OK;
}
