/* device/revive.c - a device that was lost, opened anew under whoever uses it.
 *
 * A kernel that fails, an error of a card's memory or a driver that is reset take everything on a card with them: what
 * is left is to close it and to open it again. Nothing of a conversation is lost by that, since its tokens are the
 * host's and its keys and values are in its region, which kernels write through to: so links are made again, weights
 * are loaded again, and the run that failed is made again by who asked for it.
 */
#include "base/error.h"
#include "device/device.h"

void spi_device_add_user(sp_device *device, spi_device_user *user) {
    user->next = device->users;
    device->users = user;
}

void spi_device_remove_user(sp_device *device, spi_device_user *user) {
    spi_device_user **place = &device->users;
    while (*place != user) {
        place = &(*place)->next;
    }
    *place = user->next;
}

bool spi_device_is_lost(const sp_device *device) {
    return !device->context || (device->backend->is_lost && device->backend->is_lost(device->context));
}

void spi_device_may_revive(sp_device *device, bool may) {
    device->stays_lost = !may;
}

/* Gives back all that is on the device, and the device. */
static void let_go(sp_device *device) {
    for (spi_device_user *user = device->users; user; user = user->next) {
        user->let_go(user->env);
    }
    for (spi_linked *linked = device->links; linked; linked = linked->next) {
        spi_linked_let_go(linked);
    }
    device->backend->close(device->context);
    device->context = NULL;
}

static sp_status take_again(sp_device *device, sp_error *error) {
    static const sp_device_options defaults; /* of the processor only, which is never lost */
    sp_status status = device->backend->open(device->index, &defaults, &device->context, error);
    if (status) {
        device->context = NULL;
        return status;
    }
    for (spi_linked *linked = device->links; linked && !status; linked = linked->next) {
        status = spi_linked_take_again(linked, error);
    }
    for (spi_device_user *user = device->users; user && !status; user = user->next) {
        status = user->take_again(user->env, error);
    }
    if (status) {
        let_go(device);
    }
    return status;
}

sp_status spi_device_revive(sp_device *device, sp_error *error) {
    sp_error local = {0};
    error = error ? error : &local;
    if (!spi_device_is_lost(device)) {
        return SP_DEVICE_LOST;
    }
    if (device->stays_lost) {
        return spi_fail(error, SP_DEVICE_LOST, "%s was lost: what is computed next opens it anew",
                        device->backend->name);
    }
    if (device->context) {
        sp_device_get_info(device, &device->lost_info);
        spi_spares_give_back(device); /* what makes links dear is gone */
        let_go(device);
    }
    if (take_again(device, error)) {
        spi_fail_within(error, "%s was lost and cannot be opened again", device->lost_info.name);
        return error->status = SP_DEVICE_LOST;
    }
    device->revived_count++;
    return SP_OK;
}
