/* tests/support/pinning.c - see pinning.h. */
#include "support/pinning.h"

#include "base/error.h"
#include "device/backends.h"

test_pinning test_pinned;

static sp_status refuse(sp_error *error) {
    test_pinned.refusals--;
    return spi_fail(error, SP_NO_MEMORY, "no more memory can be pinned");
}

static void get_rules(void *context, spi_link_rules *rules) {
    spi_backend_cpu.rules(context, rules);
    rules->pins = true;
}

static sp_status link_region(void *context, sp_region *region, spi_link **link, sp_error *error) {
    *link = NULL;
    if (test_pinned.refusals > 0) {
        return refuse(error);
    }
    test_pinned.links++;
    return spi_backend_cpu.link(context, region, link, error);
}

static sp_status extend(void *context, spi_link *link, sp_error *error) {
    return test_pinned.refusals > 0 ? refuse(error) : spi_backend_cpu.extend(context, link, error);
}

static void unlink_region(void *context, spi_link *link) {
    test_pinned.unlinks++;
    spi_backend_cpu.unlink(context, link);
}

static sp_status forget(void *context, spi_link *link, sp_error *error) {
    (void)context, (void)link;
    test_pinned.forgotten++;
    return test_pinned.cannot_forget ? spi_fail(error, SP_DEVICE_LOST, "the card is gone") : SP_OK;
}

static spi_backend pinning;

void test_pin_device(sp_device *device, bool has_thread) {
    pinning = spi_backend_cpu;
    pinning.rules = get_rules;
    pinning.link = link_region;
    pinning.extend = extend;
    pinning.unlink = unlink_region;
    pinning.forget = forget;
    device->backend = &pinning;
    device->spares.has_thread = !has_thread; /* then nobody starts it */
    test_pinned = (test_pinning){0};
}

void test_unpin_device(sp_device *device) {
    sp_device_trim(device);
    if (!device->spares.thread.id) {
        device->spares.has_thread = false;
    }
}
