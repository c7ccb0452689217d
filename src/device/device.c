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

sp_status sp_device_list(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    *count = 0;
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        sp_device_info found[DEVICES_MAX];
        size_t found_count = 0;
        sp_error ignored = {0};
        sp_status status = backends[i]->enumerate(found, DEVICES_MAX, &found_count, error ? error : &ignored);
        if (status) {
            return status;
        }
        for (size_t k = 0; k < found_count && k < DEVICES_MAX; k++, (*count)++) {
            if (*count < capacity) {
                infos[*count] = found[k];
            }
        }
    }
    return SP_OK;
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

/* Fails with SP_NO_DEVICE and the names that would have done. */
static sp_status no_such_device(const char *name, sp_error *error) {
    sp_device_info infos[DEVICES_MAX];
    size_t count = 0, used = 0;
    char names[256] = "";
    sp_device_list(infos, DEVICES_MAX, &count, NULL);
    for (size_t i = 0; i < count && i < DEVICES_MAX; i++) {
        int put = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", infos[i].name);
        if (put < 0 || (size_t)put >= sizeof names - used) {
            break;
        }
        used += (size_t)put;
    }
    return spi_fail(error, SP_NO_DEVICE, "there is no device \"%s\" here: use auto or one of %s%s", name, names,
                    absence(name));
}

/* The best hardware, in the order of backends.def; software drivers of GPU interfaces are for tests. */
static sp_status resolve_auto(char *name, size_t capacity, sp_error *error) {
    sp_device_info infos[DEVICES_MAX];
    size_t count;
    sp_status status = sp_device_list(infos, DEVICES_MAX, &count, error);
    if (status) {
        return status;
    }
    for (size_t i = 0; i < count && i < DEVICES_MAX; i++) {
        if (!infos[i].is_software) {
            snprintf(name, capacity, "%s", infos[i].name);
            return SP_OK;
        }
    }
    return no_such_device("auto", error);
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

sp_status sp_device_open(const char *name, const sp_device_options *options, sp_device **out, sp_error *error) {
    *out = NULL;
    sp_error local = {0};
    error = error ? error : &local;
    char best[32];
    if (!strcmp(name, "auto")) {
        sp_status status = resolve_auto(best, sizeof best, error);
        if (status) {
            return status;
        }
        name = best;
    }
    uint32_t index;
    const spi_backend *backend = parse_name(name, &index);
    if (!backend) {
        return no_such_device(name, error);
    }
    sp_device *device = spi_alloc(1, sizeof *device);
    if (!device) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open the device %s", name);
    }
    static const sp_device_options defaults;
    device->backend = backend;
    sp_status status = backend->open(index, options ? options : &defaults, &device->context, error);
    if (status) {
        spi_free(device);
        return status == SP_NO_DEVICE ? no_such_device(name, error) : status;
    }
    *out = device;
    return SP_OK;
}

void sp_device_close(sp_device *device) {
    if (!device) {
        return;
    }
    assert(!device->links && "a region is still linked to this device");
    device->backend->close(device->context);
    spi_free(device);
}

void sp_device_get_info(const sp_device *device, sp_device_info *info) {
    memset(info, 0, sizeof *info);
    device->backend->info(device->context, info);
}

void sp_device_get_counters(const sp_device *device, sp_device_counters *counters) {
    *counters = (sp_device_counters){0};
    device->backend->counters(device->context, counters);
    for (const spi_linked *linked = device->links; linked; linked = linked->next) {
        counters->linked_bytes += linked->link ? linked->link->linked_bytes : 0; /* NULL: it has lost it */
    }
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
