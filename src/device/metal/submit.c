/* device/metal/submit.c - command buffers: encoding dispatches, committing, waiting, and what went wrong.
 *
 * What a command buffer uses is not retained by it: everything lives until the run has returned, and a run returns when
 * the device is done. Completion is a shared event that the last command signals; a command buffer that fails never
 * signals, so waiting looks at its status from time to time.
 */
#include <string.h>

#include "base/error.h"
#include "device/metal/metal.h"

#define WAIT_MS              100u
#define ERROR_ACCESS_REVOKED 4  /* MTLCommandBufferErrorAccessRevoked */
#define ERROR_DEVICE_REMOVED 11 /* MTLCommandBufferErrorDeviceRemoved */

uint32_t spi_mt_float_word(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

sp_status spi_mt_fail(const spi_mt *mt, sp_status status, spi_mt_id ns_error, const char *what, sp_error *error) {
    char text[160];
    spi_mt_error_text(&mt->objc, ns_error, text, sizeof text);
    return spi_fail(error, status, "metal: %s: %s", what, text);
}

sp_status spi_mt_begin(spi_mt *mt, spi_mt_work *work, sp_error *error) {
    if (mt->lost) {
        return spi_fail(error, SP_DEVICE_LOST, "metal: the device was lost: close it and open it again");
    }
    *work = (spi_mt_work){.mt = mt, .error = error};
    work->pool = mt->objc.push_pool();
    work->commands = spi_mt_command_buffer(&mt->objc, mt->queue);
    if (work->commands) {
        work->encoder = spi_mt_compute_encoder(&mt->objc, work->commands, SPI_MT_DISPATCH_CONCURRENT);
    }
    if (!work->encoder) {
        mt->objc.pop_pool(work->pool);
        return spi_fail(error, SP_NO_MEMORY, "metal: the device gives no command buffer");
    }
    return SP_OK;
}

void spi_mt_abandon(spi_mt_work *work) {
    spi_mt_end_encoding(&work->mt->objc, work->encoder);
    work->mt->objc.pop_pool(work->pool);
}

static sp_status find_error(spi_mt *mt, spi_mt_id commands, sp_error *error) {
    spi_mt_id why = spi_mt_error(&mt->objc, commands);
    int64_t code = spi_mt_code(&mt->objc, why);
    if (code == SPI_MT_ERROR_OUT_OF_MEMORY) {
        return spi_mt_fail(mt, SP_NO_MEMORY, why, "the device has no memory for this run", error);
    }
    mt->lost = code == ERROR_ACCESS_REVOKED || code == ERROR_DEVICE_REMOVED;
    return spi_mt_fail(mt, SP_DEVICE_LOST, why, "the device did not finish a run", error);
}

sp_status spi_mt_submit(spi_mt_work *work) {
    spi_mt *mt = work->mt;
    const spi_mt_runtime *objc = &mt->objc;
    spi_mt_end_encoding(objc, work->encoder);
    uint64_t value = ++mt->event_value;
    spi_mt_signal_event(objc, work->commands, mt->event, value);
    spi_mt_commit(objc, work->commands);
    sp_status status = SP_OK;
    while (!spi_mt_wait_signaled(objc, mt->event, value, WAIT_MS)) {
        uint64_t state = spi_mt_status(objc, work->commands);
        if (state >= SPI_MT_STATUS_COMPLETED) {
            status = state == SPI_MT_STATUS_ERROR ? find_error(mt, work->commands, work->error) : SP_OK;
            break;
        }
    }
    objc->pop_pool(work->pool);
    return status;
}

sp_status spi_mt_encode(spi_mt_work *work, const spi_mt_dispatch *dispatch) {
    spi_mt *mt = work->mt;
    const spi_mt_runtime *objc = &mt->objc;
    if (!dispatch->groups_x || !dispatch->groups_y) {
        return spi_fail(work->error, SP_INVALID, "metal: %s over nothing", spi_mt_sources[dispatch->kernel].name);
    }
    sp_status status = spi_mt_pipeline_need(mt, dispatch->kernel, dispatch->type, work->error);
    if (status) {
        return status;
    }
    spi_mt_id pipeline = mt->pipelines[dispatch->kernel][spi_mt_type_index(dispatch->type)];
    if (pipeline != work->pipeline) {
        spi_mt_set_pipeline(objc, work->encoder, pipeline);
        work->pipeline = pipeline;
    }
    spi_mt_set_bytes(objc, work->encoder, dispatch->push, sizeof dispatch->push, 0);
    for (uint32_t i = 1; i < SPI_MT_BINDINGS; i++) {
        const spi_mt_binding *binding = &dispatch->bindings[i];
        if (binding->buffer) {
            spi_mt_set_buffer(objc, work->encoder, binding->buffer, binding->offset, i);
        }
    }
    spi_mt_size groups = {dispatch->groups_x, dispatch->groups_y, 1};
    spi_mt_size threads = {spi_mt_sources[dispatch->kernel].threads, 1, 1};
    spi_mt_dispatch_groups(objc, work->encoder, groups, threads);
    return SP_OK;
}

void spi_mt_encode_barrier(spi_mt_work *work) {
    spi_mt_memory_barrier(&work->mt->objc, work->encoder, SPI_MT_BARRIER_BUFFERS);
}
