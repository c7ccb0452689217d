/* guest/engine.c - an engine's life: Wasmtime's engines, the imports, the tick thread, and the lists of all.
 *
 * May include: session, device, os, base.
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"

#define SLICE_MS_DEFAULT 2u
#define SLICE_MS_MAX     1000u

/* The folder given, or the user's own; none if there is none. */
static sp_status set_cache(sp_engine *engine, const char *folder, sp_error *error) {
    char path[4096];
    if (!folder) {
        char base[4000];
        if (spi_folder_cache(base, sizeof base)) {
            return SP_OK;
        }
        size_t length = strlen(base);
        memcpy(path, base, length);
        memcpy(path + length, "/modules", 9);
        folder = path;
    }
    if (!folder[0]) {
        return SP_OK;
    }
    engine->cache_folder = spi_copy_string(folder, strlen(folder));
    return engine->cache_folder ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for an engine");
}

/* The program given, or this one if it is samepage itself. */
static sp_status set_compiler(sp_engine *engine, const char *program, sp_error *error) {
    char self[4096];
    if (!program) {
        if (spi_process_self(self, sizeof self)) {
            return SP_OK;
        }
        const char *slash = strrchr(self, '/');
        if (strcmp(slash ? slash + 1 : self, "samepage") != 0) {
            return SP_OK;
        }
        program = self;
    }
    if (!program[0]) {
        return SP_OK;
    }
    engine->compiler = spi_copy_string(program, strlen(program));
    return engine->compiler ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for an engine");
}

sp_status spi_engine_want(sp_engine *engine, spi_variant variant, sp_error *error) {
    if (engine->wasm[variant]) {
        return SP_OK;
    }
    wasm_engine_t *wasm = spi_config_engine(variant);
    if (!wasm) {
        return spi_fail(error, SP_UNSUPPORTED, "Wasmtime refuses its configuration on this machine");
    }
    engine->wasm[variant] = wasm;
    sp_status status = spi_linker_create(engine, variant, &engine->linkers[variant], error);
    if (status) {
        engine->wasm[variant] = NULL;
        wasm_engine_delete(wasm);
        return status;
    }
    atomic_store(&engine->ticks.engines[variant], wasm);
    return SP_OK;
}

sp_status spi_engine_create(const sp_engine_options *options, const spi_engine_hooks *hooks, sp_engine **out,
                            sp_error *error) {
    *out = NULL;
    uint32_t slice_ms = options->slice_ms ? options->slice_ms : SLICE_MS_DEFAULT;
    if (slice_ms > SLICE_MS_MAX) {
        return spi_fail(error, SP_INVALID, "a time slice of %u ms is longer than %u ms", slice_ms, SLICE_MS_MAX);
    }
    sp_status status = spi_config_check_library(error);
    if (status) {
        return status;
    }
    sp_engine *engine = spi_alloc(1, sizeof *engine);
    if (!engine) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for an engine");
    }
    engine->hooks = *hooks;
    engine->begin_ns = spi_clock_ns();
    engine->begin_ticks = spi_clock_ticks();
    status = set_cache(engine, options->cache_folder, error);
    status = status ? status : set_compiler(engine, options->compiler, error);
    status = status ? status : spi_engine_want(engine, SPI_PLAIN, error);
    status = status ? status : spi_ticks_start(&engine->ticks, (int64_t)slice_ms * 1000000, error);
    if (status) {
        sp_engine_destroy(engine);
        return status;
    }
    *out = engine;
    return SP_OK;
}

sp_status sp_engine_create(const sp_engine_options *options, sp_engine **engine, sp_error *error) {
    static const sp_engine_options defaults;
    const spi_engine_hooks hooks = {
        .imports = spi_imports,
        .import_count = spi_import_count,
        .append = sp_session_append_batch,
        .matmul = sp_device_matmul,
    };
    return spi_engine_create(options ? options : &defaults, &hooks, engine, error);
}

void sp_engine_destroy(sp_engine *engine) {
    if (!engine) {
        return;
    }
    assert(!engine->guests.count && "an engine's guests must be destroyed before it");
    spi_ticks_stop(&engine->ticks);
    while (engine->modules.first) {
        sp_module *module = SPI_LIST_ITEM(engine->modules.first, sp_module, node);
        module->open_count = 1;
        sp_module_close(module);
    }
    for (int i = 0; i < SPI_VARIANT_COUNT; i++) {
        if (engine->linkers[i]) {
            wasmtime_linker_delete(engine->linkers[i]);
        }
        if (engine->wasm[i]) {
            wasm_engine_delete(engine->wasm[i]);
        }
    }
    spi_free(engine->compiler);
    spi_free(engine->cache_folder);
    spi_free(engine);
}

void sp_engine_wake(sp_engine *engine) {
    atomic_fetch_add(&engine->wake, 1);
    spi_wake_word(&engine->wake, 1);
}
