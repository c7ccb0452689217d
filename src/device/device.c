/* device/device.c - the registry: which backends there are, and opening a device by the word that users type. */
#include "device/device.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/backends.h"

static const spi_backend *const backends[] = {
#define BACKEND(name) &spi_backend_##name,
#include "device/backends.def"
#undef BACKEND
};
#define BACKEND_COUNT (sizeof backends / sizeof backends[0])

/* More cards than this in one machine are listed no further. */
#define DEVICES_MAX 16

const char *sp_link_kind_name(sp_link_kind kind) {
    switch (kind) {
    case SP_LINK_SHARED: return "shared";
    case SP_LINK_MAPPED: return "mapped";
    case SP_LINK_MIRRORED: return "mirrored";
    case SP_LINK_COPIED: return "copied";
    }
    return "unknown";
}

/* One backend whose driver fails takes nothing away from the others. */
sp_status sp_device_list(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    (void)error;
    *count = 0;
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        sp_device_info found[DEVICES_MAX];
        size_t found_count = 0;
        sp_error ignored = {0};
        if (backends[i]->enumerate(found, DEVICES_MAX, &found_count, &ignored)) {
            continue;
        }
        for (size_t k = 0; k < found_count && k < DEVICES_MAX; k++, (*count)++) {
            if (*count < capacity) {
                infos[*count] = found[k];
            }
        }
    }
    return SP_OK;
}

size_t sp_device_list_troubles(sp_device_trouble *troubles, size_t capacity) {
    size_t count = 0;
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        sp_device_info found[DEVICES_MAX];
        size_t found_count = 0;
        sp_error why = {0};
        if (backends[i]->enumerate(found, DEVICES_MAX, &found_count, &why) && count++ < capacity) {
            snprintf(troubles[count - 1].name, sizeof troubles->name, "%s", backends[i]->name);
            snprintf(troubles[count - 1].reason, sizeof troubles->reason, "%s", why.message);
        }
    }
    return count;
}

/* Behind the names of a message: why a backend is not here, if this program was built without it. */
static const char *absence(const char *name) {
#define BACKEND(name)
#define ABSENT(backend, hint)                                                                                          \
    if (!strncmp(name, #backend, sizeof #backend - 1)) {                                                               \
        return "; this program was built without " #backend ": " hint;                                                 \
    }
#include "device/backends.def"
#undef BACKEND
#undef ABSENT
    (void)name;
    return "";
}

/* Fails with SP_NO_DEVICE, the backend's own reason (NULL: there is none) and the names that would have done. */
static sp_status no_such_device(const char *name, const char *reason, sp_error *error) {
    sp_device_info infos[DEVICES_MAX];
    size_t count = 0, used = 0;
    char names[256] = "", why[256];
    snprintf(why, sizeof why, "%s%s%s", reason ? " (" : "", reason ? reason : "", reason ? ")" : "");
    sp_device_list(infos, DEVICES_MAX, &count, NULL);
    for (size_t i = 0; i < count && i < DEVICES_MAX; i++) {
        int put = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", infos[i].name);
        if (put < 0 || (size_t)put >= sizeof names - used) {
            break;
        }
        used += (size_t)put;
    }
    return spi_fail(error, SP_NO_DEVICE, "there is no device \"%s\" here%s: use auto or one of %s%s", name, why, names,
                    absence(name));
}

/* Splits "vulkan:1" into a backend and an index. A number has one form, so that a device has few names: whoever keeps
 * devices by name has no more of them than there are. */
static const spi_backend *parse_name(const char *name, uint32_t *index) {
    size_t length = strcspn(name, ":");
    *index = 0;
    if (name[length] == ':') {
        char *end;
        const char *digits = name + length + 1;
        unsigned long value = strtoul(digits, &end, 10);
        bool is_number = end > digits && !*end && *digits >= '0' && *digits <= '9' && (*digits != '0' || !digits[1]);
        if (!is_number || value > DEVICES_MAX) {
            return NULL;
        }
        *index = (uint32_t)value;
    }
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        if (strlen(backends[i]->name) == length && !strncmp(backends[i]->name, name, length)) {
            return backends[i];
        }
    }
    return NULL;
}

static sp_status open_one(const spi_backend *backend, uint32_t index, const sp_device_options *options, sp_device **out,
                          sp_error *error) {
    static const sp_device_options defaults;
    sp_device *device = spi_alloc(1, sizeof *device);
    if (!device) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open the device %s", backend->name);
    }
    device->backend = backend;
    device->index = index;
    sp_status status = backend->open(index, options ? options : &defaults, &device->context, error);
    if (status) {
        spi_free(device);
        return status;
    }
    spi_spares_begin(device, options ? options->spare_bytes_max : 0);
    *out = device;
    return SP_OK;
}

/* The first card of a backend that can be opened; why keeps the first failure. Software drivers of GPU interfaces are
 * for tests. */
static void open_first(const spi_backend *backend, const sp_device_options *options, sp_device **out, sp_error *why) {
    sp_device_info found[DEVICES_MAX];
    size_t count = 0;
    if (backend->enumerate(found, DEVICES_MAX, &count, why)) {
        return;
    }
    for (size_t i = 0; i < count && i < DEVICES_MAX && !*out; i++) {
        sp_error own = {0};
        if (!found[i].is_software && open_one(backend, (uint32_t)i, options, out, &own) && !why->status) {
            *why = own;
        }
    }
}

/* The best hardware that can be opened, in the order of backends.def, and why the best of what was passed over was. */
static sp_status open_auto(const sp_device_options *options, sp_device **out, sp_error *error) {
    sp_error first = {0};
    for (size_t i = 0; i < BACKEND_COUNT && !*out; i++) {
        sp_error why = {0};
        open_first(backends[i], options, out, &why);
        first = first.status ? first : why;
    }
    if (!*out) {
        return spi_fail(error, first.status ? first.status : SP_NO_DEVICE, "no device can be opened here: %s",
                        first.message);
    }
    snprintf((*out)->passed_over, sizeof(*out)->passed_over, "%.*s", (int)sizeof(*out)->passed_over - 1, first.message);
    return SP_OK;
}

sp_status sp_device_open(const char *name, const sp_device_options *options, sp_device **out, sp_error *error) {
    *out = NULL;
    sp_error local = {0};
    error = error ? error : &local;
    if (!strcmp(name, "auto")) {
        return open_auto(options, out, error);
    }
    uint32_t index;
    const spi_backend *backend = parse_name(name, &index);
    if (!backend) {
        return no_such_device(name, NULL, error);
    }
    sp_error why = {0};
    sp_status status = open_one(backend, index, options, out, &why);
    if (status == SP_NO_DEVICE) {
        return no_such_device(name, why.message, error);
    }
    *error = status ? why : *error;
    return status;
}

void sp_device_close(sp_device *device) {
    if (!device) {
        return;
    }
    spi_spares_end(device);
    assert(!device->links && "a region is still linked to this device");
    assert(!device->users && "a model is still loaded on this device");
    if (device->context) {
        device->backend->close(device->context);
    }
    spi_free(device);
}

void sp_device_get_info(const sp_device *device, sp_device_info *info) {
    *info = device->lost_info;
    if (device->context) {
        memset(info, 0, sizeof *info);
        device->backend->info(device->context, info);
    }
    memcpy(info->passed_over, device->passed_over, sizeof info->passed_over);
}

void sp_device_get_counters(const sp_device *device, sp_device_counters *counters) {
    *counters = (sp_device_counters){.revived = device->revived_count};
    if (device->context) {
        device->backend->counters(device->context, counters);
    }
    for (const spi_linked *linked = device->links; linked; linked = linked->next) {
        if (linked->link) { /* NULL: it has lost it */
            *(linked->is_spare ? &counters->spare_bytes : &counters->linked_bytes) += linked->link->linked_bytes;
        }
    }
    counters->spares_taken = device->spares.taken_count;
}

void sp_device_trim(sp_device *device) {
    spi_spares_give_back(device);
}

sp_status spi_device_check_kv(const sp_device *device, sp_kv_type type, sp_error *error) {
    if (type != SP_KV_Q8_0 || device->backend->has_q8_kv) {
        return SP_OK;
    }
    return spi_fail(
        error, SP_UNSUPPORTED,
        "the device %s does not keep keys and values in q8_0: ask for f16, or take the device cpu, cuda or vulkan",
        device->backend->name);
}

const spi_backend *spi_device_backend(const sp_device *device, void **context) {
    *context = device->context;
    return device->backend;
}
