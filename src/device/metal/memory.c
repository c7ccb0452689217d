/* device/metal/memory.c - buffers of the device's own, and the set of all buffers that stay resident.
 *
 * A residency set (macOS 15) keeps pages wired between command buffers. Without one each submission would wire a
 * model's weights anew after a pause.
 */
#include <string.h>

#include "base/error.h"
#include "device/metal/metal.h"

void spi_mt_residency_create(spi_mt *mt) {
    const spi_mt_runtime *objc = &mt->objc;
    if (!spi_mt_knows(objc, mt->device, SPI_MT_new_residency_set) ||
        !spi_mt_knows(objc, mt->queue, SPI_MT_add_residency_set)) {
        return;
    }
    spi_mt_id descriptor = spi_mt_new_of_class(objc, "MTLResidencySetDescriptor"), why = NULL;
    if (descriptor) {
        mt->residency = spi_mt_new_residency_set(objc, mt->device, descriptor, &why);
        spi_mt_release(objc, descriptor);
    }
    if (mt->residency) { /* else the system makes resident what is bound, as before macOS 15 */
        spi_mt_add_residency_set(objc, mt->queue, mt->residency);
    }
}

void spi_mt_residency_add(spi_mt *mt, spi_mt_id buffer) {
    if (mt->residency) {
        spi_mt_add_allocation(&mt->objc, mt->residency, buffer);
        spi_mt_commit(&mt->objc, mt->residency);
        spi_mt_request_residency(&mt->objc, mt->residency);
    }
}

void spi_mt_buffer_release(spi_mt *mt, spi_mt_id handle) {
    if (handle && mt->residency) {
        spi_mt_remove_allocation(&mt->objc, mt->residency, handle);
        spi_mt_commit(&mt->objc, mt->residency);
    }
    spi_mt_release(&mt->objc, handle);
}

sp_status spi_mt_buffer_create(spi_mt *mt, uint64_t bytes, const char *what, spi_mt_buffer *buffer, sp_error *error) {
    memset(buffer, 0, sizeof *buffer);
    void *pool = mt->objc.push_pool();
    if (bytes <= mt->limits.own_bytes_max) {
        buffer->handle = spi_mt_new_buffer(&mt->objc, mt->device, bytes, SPI_MT_STORAGE_SHARED);
    }
    buffer->contents = buffer->handle ? spi_mt_contents(&mt->objc, buffer->handle) : NULL;
    if (!buffer->contents) {
        spi_mt_release(&mt->objc, buffer->handle);
        memset(buffer, 0, sizeof *buffer);
        mt->objc.pop_pool(pool);
        return spi_fail(error, SP_NO_MEMORY, "metal: %s: there are no %llu bytes for it", what,
                        (unsigned long long)bytes);
    }
    buffer->bytes = bytes;
    memset(buffer->contents, 0, (size_t)bytes); /* Metal's documentation does not promise zeros */
    spi_mt_residency_add(mt, buffer->handle);
    mt->objc.pop_pool(pool);
    return SP_OK;
}

void spi_mt_buffer_destroy(spi_mt *mt, spi_mt_buffer *buffer) {
    spi_mt_buffer_release(mt, buffer->handle);
    memset(buffer, 0, sizeof *buffer);
}
