/* device/vulkan/relay.c - dispatches that come behind others: by a barrier, or by waiting for them themselves.
 *
 * A barrier leaves a device idle for microseconds, because nothing behind it begins before all in front of it has
 * ended. So the kernels of a token count: each adds to its step's counter when its results are written, and waits for
 * the counter of the step before when it has asked for what depends on nobody, weights and older keys and values. All
 * dispatches of a step wait, so that one step is behind all that came before the last one.
 *
 * This needs a device that begins work groups in the order of their dispatches. Vulkan promises no such thing, though
 * hardware does it: so kernels do not wait for ever. One that waited in vain says so (`late`), nobody waits for its
 * step or a later one any more, and the run is made again with barriers, as are all that follow.
 *
 * May include: device/vulkan/vulkan.h.
 */
#include <string.h>

#include "device/vulkan/vulkan.h"

void spi_vk_relay_order(const spi_vk_recorder *r) {
    r->relay->wanted = true;
}

/* A step whose dispatches wait by themselves. */
static void step_by_waiting(spi_vk_relay *relay, uint32_t excess) {
    relay->wait_at = relay->step++;
    relay->wait_for = relay->signals + excess;
    relay->signals = 0;
}

static void step_by_barrier(const spi_vk_recorder *r) {
    spi_vk_relay *relay = r->relay;
    if (!r->dry) {
        spi_vk_encode_barrier(r->vk, r->commands);
        spi_vk_profile_stamp(r->vk, r->commands, r->op);
    }
    relay->step++;
    relay->wait_for = relay->signals = 0;
    relay->broken = false;
}

void spi_vk_relay_dispatch(const spi_vk_recorder *r, spi_vk_dispatch *dispatch) {
    spi_vk_relay *relay = r->relay;
    bool able = relay->on && dispatch->signals && relay->step + 1 < SPI_VK_RELAY_COUNTERS;
    if (relay->wanted && able && !relay->broken) {
        step_by_waiting(relay, r->vk->limits.relay_excess);
    } else if (relay->wanted || (relay->wait_for && !able)) {
        step_by_barrier(r);
    }
    relay->wanted = false;
    relay->broken |= !able;
    relay->signals += able ? dispatch->signals : 0;
    uint32_t words[] = {relay->wait_at, able ? relay->wait_for : 0, able ? relay->step : SPI_NONE};
    memcpy(dispatch->push + SPI_VK_RELAY_WORD, words, sizeof words);
    dispatch->bindings[10] = spi_vk_bind(&r->program->counters);
    dispatch->bindings[11] = spi_vk_bind(&r->program->late);
}
