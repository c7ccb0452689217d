/* guest/guest.c - a guest's life, and what it is asked from outside and by the imports.
 *
 * Owns: the store with the instance, the region under its memory, the imports' state. May include: device, region,
 * os, base.
 */
#include "guest/guest.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/backend.h"
#include "os/clock.h"
#include "session/session.h"

#define HANDLE_COUNT_DEFAULT 64u
#define TABLE_ELEMENTS_MAX   (1 << 20) /* 8 MiB of the host's memory for each table */
#define TABLE_COUNT_MAX      4

static sp_status copy_texts(const char *const *from, uint32_t count, char ***to, uint32_t *to_count, sp_error *error) {
    *to = spi_alloc(count, sizeof **to);
    for (uint32_t i = 0; i < count && *to; i++) {
        (*to)[i] = spi_copy_string(from[i], strlen(from[i]));
        if (!(*to)[i]) {
            break;
        }
        *to_count = i + 1;
    }
    return *to_count == count && *to ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for a guest");
}

static void free_texts(char **texts, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        spi_free(texts[i]);
    }
    spi_free(texts);
}

static sp_status copy_options(sp_guest *guest, const sp_guest_options *options, sp_error *error) {
    uint64_t page = SPI_WASM_PAGE_BYTES, max = options->memory_bytes_max;
    guest->memory_bytes_max = max && max < SPI_MEMORY_RESERVE_BYTES ? max / page * page : SPI_MEMORY_RESERVE_BYTES;
    guest->device = options->device;
    guest->kv_type = options->kv_type;
    guest->mail = options->mail;
    guest->mail_env = options->mail_env;
    guest->deadline_ms = options->deadline_ms;
    guest->handle_count_max = options->handle_count_max ? options->handle_count_max : HANDLE_COUNT_DEFAULT;
    guest->models = spi_alloc(options->model_count, sizeof *guest->models);
    if (!guest->models) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a guest");
    }
    for (uint32_t i = 0; i < options->model_count; i++) {
        const sp_guest_model *from = &options->models[i];
        guest->models[i] =
            (sp_guest_model){.name = spi_copy_string(from->name, strlen(from->name)), .model = from->model};
        guest->model_count++;
        if (!guest->models[i].name) {
            return spi_fail(error, SP_NO_MEMORY, "no memory for a guest");
        }
    }
    sp_status status = options->device ? spi_device_check_kv(options->device, options->kv_type, error) : SP_OK;
    if (status) {
        return status;
    }
    status = copy_texts(options->arguments, options->argument_count, &guest->arguments, &guest->argument_count, error);
    return status ? status
                  : copy_texts(options->environment, options->environment_count, &guest->environment,
                               &guest->environment_count, error);
}

static sp_status create_store(sp_guest *guest, const sp_guest_options *options, sp_error *error) {
    guest->store = wasmtime_store_new(guest->engine->wasm[guest->variant], guest, NULL);
    guest->context = wasmtime_store_context(guest->store);
    wasmtime_store_limiter(guest->store, -1, TABLE_ELEMENTS_MAX, 1, TABLE_COUNT_MAX,
                           1); /* memory is limited where it is made */
    if (options->fuel) {
        wasmtime_error_t *failure = wasmtime_context_set_fuel(guest->context, options->fuel);
        if (failure) {
            return spi_wasmtime_fail(error, SP_INTERNAL, "cannot set a guest's fuel", failure);
        }
    }
    return spi_wasi_create(guest, options, error);
}

static void find_memory(sp_guest *guest) {
    wasmtime_extern_t item;
    if (wasmtime_instance_export_get(guest->context, &guest->instance, "memory", 6, &item)) {
        assert(item.kind == WASMTIME_EXTERN_MEMORY);
        guest->memory = item.of.memory;
        guest->has_memory = true;
    }
}

sp_status sp_guest_create(sp_module *module, const sp_guest_options *options, sp_guest **out, sp_error *error) {
    return spi_guest_create(module, options, NULL, out, error);
}

sp_status spi_guest_create(sp_module *module, const sp_guest_options *options, spi_guest_first *first, sp_guest **out,
                           sp_error *error) {
    static const sp_guest_options defaults;
    *out = NULL;
    options = options ? options : &defaults;
    spi_variant variant = options->fuel ? SPI_METERED : SPI_PLAIN;
    sp_status status = spi_module_want(module, variant, error);
    if (status) {
        return status;
    }
    sp_guest *guest = spi_alloc(1, sizeof *guest);
    if (!guest) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for a guest");
    }
    guest->engine = module->engine;
    guest->module = module;
    guest->variant = variant;
    module->guest_count++;
    spi_list_append(&guest->engine->guests, &guest->node);
    status = copy_options(guest, options, error);
    status = status ? status : spi_memory_create(guest, first, error);
    status = status ? status : create_store(guest, options, error);
    status = status ? status : spi_host_create(guest, &guest->host, error);
    status = status ? status : spi_call_instantiate(guest, error);
    if (status) {
        sp_guest_destroy(guest);
        return status;
    }
    find_memory(guest);
    *out = guest;
    return SP_OK;
}

void sp_guest_destroy(sp_guest *guest) {
    if (!guest) {
        return;
    }
    spi_guest_drop_kept(guest);
    spi_call_end(guest, SP_GUEST_IDLE);
    spi_host_destroy(guest->host);
    if (guest->store) {
        wasmtime_store_delete(guest->store);
    }
    spi_wasi_destroy(guest);
    spi_memory_destroy(guest);
    for (uint32_t i = 0; i < guest->model_count; i++) {
        spi_free((void *)(uintptr_t)guest->models[i].name);
    }
    spi_free(guest->models);
    free_texts(guest->arguments, guest->argument_count);
    free_texts(guest->environment, guest->environment_count);
    spi_list_remove(&guest->node);
    guest->module->guest_count--;
    spi_free(guest);
}

sp_guest_state sp_guest_get_state(const sp_guest *guest) {
    return guest->state;
}

int sp_guest_exit_code(const sp_guest *guest) {
    return guest->exit_code;
}

int64_t sp_guest_result(const sp_guest *guest) {
    return guest->result;
}

const sp_error *sp_guest_error(const sp_guest *guest) {
    return &guest->error;
}

sp_region *sp_guest_region(const sp_guest *guest) {
    return guest->region;
}

void sp_guest_get_counters(const sp_guest *guest, sp_guest_counters *counters) {
    const sp_engine *engine = guest->engine;
    double ns = (double)(spi_clock_ns() - engine->begin_ns), ticks = (double)(spi_clock_ticks() - engine->begin_ticks);
    *counters = guest->counters;
    counters->host_ns = ticks > 0 ? (uint64_t)((double)guest->host_ticks * ns / ticks) : 0;
}

void sp_guest_terminate(sp_guest *guest) {
    atomic_store(&guest->terminate, 1);
    sp_engine_wake(guest->engine);
}

void sp_guest_interrupt(sp_guest *guest) {
    atomic_store(&guest->interrupt, SPI_INTERRUPT_NEW);
    sp_engine_wake(guest->engine);
}

bool sp_guest_is_computing(const sp_guest *guest) {
    return atomic_load(&guest->is_computing);
}

bool sp_guest_has_interrupt(const sp_guest *guest) {
    return atomic_load(&guest->interrupt) != SPI_INTERRUPT_NONE;
}

bool spi_guest_take_interrupt(sp_guest *guest) {
    return atomic_exchange(&guest->interrupt, SPI_INTERRUPT_NONE) != SPI_INTERRUPT_NONE;
}

sp_kv_type spi_guest_kv_type(const sp_guest *guest) {
    return guest->kv_type;
}

sp_device *spi_guest_device(sp_guest *guest) {
    return guest->device;
}

void spi_guest_device_may_revive(sp_guest *guest, bool may) {
    spi_device_may_revive(guest->device, may);
}

sp_model *spi_guest_model(sp_guest *guest, const char *name, uint32_t name_bytes) {
    for (uint32_t i = 0; i < guest->model_count; i++) {
        const char *own = guest->models[i].name;
        if (!name_bytes || (strlen(own) == name_bytes && memcmp(own, name, name_bytes) == 0)) {
            return guest->models[i].model;
        }
    }
    return NULL;
}

const char *spi_guest_model_name(sp_guest *guest, uint32_t index) {
    return index < guest->model_count ? guest->models[index].name : NULL;
}

const sp_guest_mail *spi_guest_mail(sp_guest *guest, void **env) {
    *env = guest->mail_env;
    return guest->mail;
}

uint32_t spi_guest_handle_count_max(const sp_guest *guest) {
    return guest->handle_count_max;
}

sp_status spi_guest_session_opened(sp_guest *guest, sp_session *session, sp_error *error) {
    return guest->cache ? guest->cache->join(guest->cache->env, session, error) : SP_OK;
}

spi_host *spi_guest_host(sp_guest *guest) {
    return guest->host;
}
