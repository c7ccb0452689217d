/* guest/imports_handles.c - a guest's table of handles, and the life of what the imports keep. */
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "guest/imports.h"
#include "os/clock.h"

#define SLOT_COUNT_FIRST 8u

static const char *const kind_names[] = {
    [SPI_HANDLE_FREE] = "nothing",
    [SPI_HANDLE_MODEL] = "a model",
    [SPI_HANDLE_SESSION] = "a session",
    [SPI_HANDLE_SAMPLER] = "a sampler",
};

sp_error *spi_host_error(sp_guest *guest) {
    return &spi_guest_host(guest)->error;
}

/* Where a slot's generation begins. It need not be a secret: it keeps a guest that was restarted, or that mixes up two
 * of its runs, from hitting a live handle by habit. */
static uint16_t first_generation(const spi_host *host, uint32_t slot) {
    struct {
        const void *host;
        int64_t now_ns;
        uint64_t slot;
    } seed = {host, spi_clock_ns(), slot};
    return (uint16_t)spi_hash64(&seed, sizeof seed);
}

sp_status spi_host_create(sp_guest *guest, spi_host **out, sp_error *error) {
    spi_host *host = spi_alloc(1, sizeof *host);
    *out = host;
    if (!host) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a guest's handles");
    }
    uint32_t max = spi_guest_handle_count_max(guest);
    host->open_count_max = max < SPI_HANDLE_COUNT_MAX ? max : SPI_HANDLE_COUNT_MAX;
    return SP_OK;
}

void spi_host_destroy(spi_host *host) {
    if (!host) {
        return;
    }
    for (uint32_t i = 0; i < host->slot_count; i++) {
        if (host->slots[i].kind == SPI_HANDLE_SESSION) {
            sp_session_destroy(host->slots[i].session);
        } else if (host->slots[i].kind == SPI_HANDLE_SAMPLER) {
            sp_sampler_destroy(host->slots[i].sampler);
        }
    }
    spi_free(host->slots);
    spi_free(host);
}

static sp_status add_slots(spi_host *host) {
    uint32_t count = host->slot_count ? host->slot_count * 2 : SLOT_COUNT_FIRST;
    count = count < SPI_HANDLE_COUNT_MAX ? count : SPI_HANDLE_COUNT_MAX;
    spi_slot *slots = spi_resize(host->slots, host->slot_count, count, sizeof *slots);
    if (!slots) {
        return spi_fail(&host->error, SP_NO_MEMORY, "the host has no memory for more handles");
    }
    for (uint32_t i = host->slot_count; i < count; i++) {
        slots[i].generation = first_generation(host, i);
    }
    host->slots = slots;
    host->slot_count = count;
    return SP_OK;
}

sp_status spi_handle_open(sp_guest *guest, spi_handle_kind kind, spi_slot **slot, int32_t *handle) {
    spi_host *host = spi_guest_host(guest);
    *slot = NULL;
    *handle = 0;
    if (host->open_count >= host->open_count_max) {
        return spi_fail(&host->error, SP_LIMIT, "%u handles are open, and that is the limit: close one",
                        host->open_count);
    }
    if (host->open_count == host->slot_count) {
        sp_status status = add_slots(host);
        if (status) {
            return status;
        }
    }
    uint32_t i = 0;
    while (host->slots[i].kind != SPI_HANDLE_FREE) {
        i++;
    }
    host->slots[i].kind = (uint8_t)kind;
    host->open_count++;
    *slot = &host->slots[i];
    *handle = (int32_t)((uint32_t)host->slots[i].generation << 15 | (uint32_t)kind << 12 | i);
    return SP_OK;
}

spi_slot *spi_handle_find(sp_guest *guest, const char *import, spi_handle_kind kind, int32_t handle) {
    spi_host *host = spi_guest_host(guest);
    uint32_t bits = (uint32_t)handle, i = bits & 0xfff, tag = bits >> 12 & 7, generation = bits >> 15;
    bool open = handle > 0 && i < host->slot_count && host->slots[i].kind == tag && tag != SPI_HANDLE_FREE &&
                host->slots[i].generation == generation;
    if (open && tag == (uint32_t)kind) {
        return &host->slots[i];
    }
    if (open) {
        spi_fail(&host->error, SP_BAD_HANDLE, "%s: %d is %s, not %s", import, handle, kind_names[tag],
                 kind_names[kind]);
    } else if (handle < 0) {
        spi_fail(&host->error, SP_BAD_HANDLE, "%s: %d is not a handle but the status of a call that failed", import,
                 handle);
    } else {
        spi_fail(&host->error, SP_BAD_HANDLE, "%s: %d is not an open handle of this guest", import, handle);
    }
    return NULL;
}

void spi_handle_close(sp_guest *guest, spi_slot *slot) {
    *slot = (spi_slot){.generation = (uint16_t)(slot->generation + 1)};
    spi_guest_host(guest)->open_count--;
}
