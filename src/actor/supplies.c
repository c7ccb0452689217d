/* actor/supplies.c - devices, models and modules: opened when first wanted, shared by all actors. */
#include <string.h>

#include "actor/house.h"
#include "base/error.h"
#include "base/memory.h"

#define MODULES_UNUSED_MAX 32u

/* ---- modules ---- */

static spi_module *find_module(sp_actors *actors, uint64_t id) {
    for (size_t i = 0; i < actors->module_count; i++) {
        if (actors->modules[i]->id == id) {
            return actors->modules[i];
        }
    }
    return NULL;
}

static void drop_module(sp_actors *actors, size_t index) {
    spi_module *module = actors->modules[index];
    sp_module_close(module->module);
    spi_free(module->name);
    spi_free(module->wasm);
    spi_free(module);
    actors->modules[index] = actors->modules[--actors->module_count];
}

static void drop_unused(sp_actors *actors) {
    for (size_t i = 0; i < actors->module_count && actors->module_count > MODULES_UNUSED_MAX;) {
        if (actors->modules[i]->users) {
            i++;
        } else {
            drop_module(actors, i);
        }
    }
}

/* Takes name and wasm over. */
static sp_status open_module(sp_actors *actors, uint64_t id, char *name, void *wasm, size_t wasm_bytes,
                             spi_module **out, sp_error *error) {
    sp_status status = SP_NO_MEMORY;
    drop_unused(actors);
    spi_module *module = spi_alloc(1, sizeof *module);
    if (!module || !SPI_RESERVE(actors->modules, actors->module_count, actors->module_capacity)) {
        spi_fail(error, SP_NO_MEMORY, "no memory for the module %s", name);
        goto fail;
    }
    *module = (spi_module){.id = id, .name = name, .wasm = wasm, .wasm_bytes = wasm_bytes};
    status = sp_module_open_bytes(actors->engine, name, wasm, wasm_bytes, &module->module, error);
    if (status) {
        goto fail;
    }
    actors->modules[actors->module_count++] = module;
    *out = module;
    return SP_OK;
fail:
    spi_free(module);
    spi_free(name);
    spi_free(wasm);
    return status;
}

sp_status spi_supplies_module(sp_actors *actors, uint64_t id, spi_module **module, sp_error *error) {
    char *name;
    void *wasm;
    size_t wasm_bytes;
    *module = find_module(actors, id);
    if (*module) {
        return SP_OK;
    }
    sp_status status = spi_keeper_get_module(actors->keeper, id, &name, &wasm, &wasm_bytes, error);
    return status ? status : open_module(actors, id, name, wasm, wasm_bytes, module, error);
}

sp_status spi_supplies_add_module(sp_actors *actors, const char *name, const void *wasm, size_t wasm_bytes,
                                  spi_module **out, sp_error *error) {
    uint8_t hash[SP_MODULE_HASH_BYTES];
    uint64_t id = 0;
    sp_module *trial;
    *out = NULL;
    sp_status status = sp_module_open_bytes(actors->engine, name, wasm, wasm_bytes, &trial, error);
    if (status) {
        return status;
    }
    status = sp_module_check_durable(trial, error);
    sp_module_get_hash(trial, hash);
    status = status ? status : spi_keeper_put_module(actors->keeper, hash, name, wasm, wasm_bytes, &id, error);
    status = status ? status : spi_supplies_module(actors, id, out, error); /* the engine shares the trial's code */
    sp_module_close(trial);
    return status;
}

void spi_supplies_forget_module(sp_actors *actors, const void *wasm, size_t wasm_bytes) {
    for (size_t i = 0; i < actors->module_count; i++) {
        spi_module *module = actors->modules[i];
        if (!module->users && module->wasm_bytes == wasm_bytes && memcmp(module->wasm, wasm, wasm_bytes) == 0) {
            drop_module(actors, i);
            return;
        }
    }
}

/* ---- devices and models ---- */

sp_status spi_supplies_device(sp_actors *actors, const char *name, sp_device **device, sp_error *error) {
    *device = NULL;
    if (!strcmp(name, "none")) {
        return SP_OK;
    }
    for (size_t i = 0; i < actors->device_count; i++) {
        if (!strcmp(actors->devices[i].name, name)) {
            *device = actors->devices[i].device;
            return SP_OK;
        }
    }
    char *copy = spi_copy_string(name, strlen(name));
    if (!copy || !SPI_RESERVE(actors->devices, actors->device_count, actors->device_capacity)) {
        spi_free(copy);
        return spi_fail(error, SP_NO_MEMORY, "no memory for the device %s", name);
    }
    sp_device_options options = {
        .thread_count = actors->thread_count, .isa = actors->isa, .spare_bytes_max = actors->spare_bytes_max};
    sp_status status = sp_device_open(name, &options, device, error);
    if (status) {
        spi_free(copy);
        return status;
    }
    actors->devices[actors->device_count++] = (spi_device){.name = copy, .device = *device};
    return SP_OK;
}

sp_status spi_supplies_model(sp_actors *actors, const char *path, sp_device *device, sp_model **model,
                             sp_error *error) {
    *model = NULL;
    for (size_t i = 0; i < actors->model_count; i++) {
        if (actors->models[i].device == device && !strcmp(actors->models[i].path, path)) {
            *model = actors->models[i].model;
            return SP_OK;
        }
    }
    char *copy = spi_copy_string(path, strlen(path));
    if (!copy || !SPI_RESERVE(actors->models, actors->model_count, actors->model_capacity)) {
        spi_free(copy);
        return spi_fail(error, SP_NO_MEMORY, "no memory for the model %s", path);
    }
    sp_status status = sp_model_open(path, model, error);
    status = status ? status : sp_model_load(*model, device, NULL, NULL, error);
    if (status) {
        sp_model_close(*model);
        *model = NULL;
        spi_free(copy);
        return status;
    }
    actors->models[actors->model_count++] =
        (spi_model){.path = copy, .device = device, .model = *model, .used = actors->step_count};
    return SP_OK;
}

/* On whatever device: one too many that stays for a while does no harm. */
static bool has_model(const spi_resident *resident, const char *path) {
    for (uint32_t i = 0; i < resident->record.model_count; i++) {
        if (!strcmp(resident->record.models[i].path, path)) {
            return true;
        }
    }
    return false;
}

static bool is_model_used(const sp_actors *actors, const char *path) {
    for (spi_link_node *node = actors->residents.first; node; node = node->next) {
        if (has_model(SPI_LIST_ITEM(node, spi_resident, node), path)) {
            return true;
        }
    }
    return false;
}

static void drop_model(sp_actors *actors, size_t index) {
    sp_model_close(actors->models[index].model);
    spi_free(actors->models[index].path);
    actors->models[index] = actors->models[--actors->model_count];
}

void spi_supplies_trim(sp_actors *actors) {
    actors->step_count++;
    size_t idle_count = 0;
    for (size_t i = 0; i < actors->model_count; i++) {
        spi_model *model = &actors->models[i];
        if (is_model_used(actors, model->path)) {
            model->used = actors->step_count;
        } else {
            idle_count++;
        }
    }
    for (; idle_count > SPI_MODELS_IDLE_MAX; idle_count--) {
        size_t oldest = 0; /* which is idle, since those in use are as young as can be */
        for (size_t i = 1; i < actors->model_count; i++) {
            oldest = actors->models[i].used < actors->models[oldest].used ? i : oldest;
        }
        drop_model(actors, oldest);
    }
}

void spi_supplies_close(sp_actors *actors) {
    while (actors->module_count) {
        drop_module(actors, actors->module_count - 1);
    }
    while (actors->model_count) {
        drop_model(actors, actors->model_count - 1);
    }
    for (size_t i = 0; i < actors->device_count; i++) {
        sp_device_close(actors->devices[i].device);
        spi_free(actors->devices[i].name);
    }
    spi_free(actors->modules);
    spi_free(actors->models);
    spi_free(actors->devices);
}
