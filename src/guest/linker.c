/* guest/linker.c - what modules may import: the table of samepage's own functions and WASI preview 1.
 *
 * One trampoline stands for every row of the table; the row is its env. May include: os, base.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "guest/guest.h"
#include "os/clock.h"

#define PARAMETER_COUNT_MAX 16
#define WASI_MODULE         "wasi_snapshot_preview1"

static wasm_valkind_t kind_of(char letter) {
    return letter == 'i' ? WASM_I32 : letter == 'I' ? WASM_I64 : letter == 'f' ? WASM_F32 : WASM_F64;
}

static char letter_of(wasm_valkind_t kind) {
    return kind < 4 ? "iIfF"[kind] : '?';
}

wasm_functype_t *spi_functype_new(const char *parameters, const char *results) {
    wasm_valtype_t *types[PARAMETER_COUNT_MAX];
    wasm_valtype_vec_t in, out;
    size_t count = strlen(parameters), result_count = strlen(results);
    for (size_t i = 0; i < count; i++) {
        types[i] = wasm_valtype_new(kind_of(parameters[i]));
    }
    wasm_valtype_vec_new(&in, count, types);
    for (size_t i = 0; i < result_count; i++) {
        types[i] = wasm_valtype_new(kind_of(results[i]));
    }
    wasm_valtype_vec_new(&out, result_count, types);
    return wasm_functype_new(&in, &out);
}

/* A start function runs before the instance is given to us: its memory is found by way of the caller then. */
static sp_guest *guest_of(wasmtime_caller_t *caller) {
    sp_guest *guest = wasmtime_context_get_data(wasmtime_caller_context(caller));
    if (!guest->has_memory) {
        wasmtime_extern_t item;
        if (wasmtime_caller_export_get(caller, "memory", 6, &item) && item.kind == WASMTIME_EXTERN_MEMORY) {
            guest->memory = item.of.memory;
            guest->has_memory = true;
        }
    }
    return guest;
}

static wasm_trap_t *call_sync(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t count) {
    const spi_import *import = env;
    sp_guest *guest = guest_of(caller);
    int64_t words[PARAMETER_COUNT_MAX];
    (void)count;
    uint64_t begin_ticks = spi_clock_ticks();
    size_t i = 0;
    for (; import->parameters[i]; i++) {
        char letter = import->parameters[i];
        words[i] = letter == 'i' || letter == 'f' ? raw[i].i32 : raw[i].i64;
    }
    import->call(guest, words);
    if (import->results[0] == 'i' || import->results[0] == 'f') {
        raw[0].i32 = (int32_t)words[0];
    } else if (import->results[0]) {
        raw[0].i64 = words[0];
    }
    guest->counters.host_calls++;
    guest->host_ticks += spi_clock_ticks() - begin_ticks;
    return NULL;
}

static void call_async(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *arguments, size_t argument_count,
                       wasmtime_val_t *results, size_t result_count, wasm_trap_t **trap,
                       wasmtime_async_continuation_t *continuation) {
    const spi_import *import = env;
    sp_guest *guest = guest_of(caller);
    int64_t words[PARAMETER_COUNT_MAX];
    (void)result_count;
    (void)trap;
    uint64_t begin_ticks = spi_clock_ticks();
    for (size_t i = 0; i < argument_count; i++) {
        bool narrow = arguments[i].kind == WASMTIME_I32 || arguments[i].kind == WASMTIME_F32;
        words[i] = narrow ? arguments[i].of.i32 : arguments[i].of.i64;
    }
    guest->job = (spi_job){0};
    guest->wait_slot = results;
    guest->wait_result = import->begin(guest, words, &guest->job);
    guest->wait_done = guest->wait_result != SP_OK;
    if (!guest->wait_done) {
        spi_jobs_begin(guest, spi_clock_ns());
    }
    guest->counters.host_calls++;
    guest->host_ticks += spi_clock_ticks() - begin_ticks;
    *continuation = (wasmtime_async_continuation_t){.callback = spi_call_is_resumed, .env = guest};
}

static wasmtime_error_t *define(wasmtime_linker_t *linker, const spi_import *import) {
    static const char module[] = SPI_IMPORT_MODULE;
    wasm_functype_t *type = spi_functype_new(import->parameters, import->results);
    void *env = (void *)(uintptr_t)import;
    wasmtime_error_t *failure =
        import->is_async ? wasmtime_linker_define_async_func(linker, module, sizeof module - 1, import->name,
                                                             strlen(import->name), type, call_async, env, NULL)
                         : wasmtime_linker_define_func_unchecked(linker, module, sizeof module - 1, import->name,
                                                                 strlen(import->name), type, call_sync, env, NULL);
    wasm_functype_delete(type);
    return failure;
}

sp_status spi_linker_create(sp_engine *engine, spi_variant variant, wasmtime_linker_t **out, sp_error *error) {
    wasmtime_linker_t *linker = wasmtime_linker_new(engine->wasm[variant]);
    wasmtime_error_t *failure = wasmtime_linker_define_wasi(linker);
    for (uint32_t i = 0; i < engine->hooks.import_count && !failure; i++) {
        failure = define(linker, &engine->hooks.imports[i]);
    }
    sp_status status = failure ? spi_wasmtime_fail(error, SP_INTERNAL, "cannot define the imports", failure)
                               : spi_wasi_define_clock(linker, error);
    if (status) {
        wasmtime_linker_delete(linker);
        return status;
    }
    *out = linker;
    return SP_OK;
}

static bool is_text(const wasm_name_t *name, const char *text) {
    return name->size == strlen(text) && memcmp(name->data, text, name->size) == 0;
}

static bool fits_kinds(const wasm_valtype_vec_t *types, const char *letters) {
    if (types->size != strlen(letters)) {
        return false;
    }
    for (size_t i = 0; i < types->size; i++) {
        if (letter_of(wasm_valtype_kind(types->data[i])) != letters[i]) {
            return false;
        }
    }
    return true;
}

/* The row that an import means; NULL if there is none, or none of this type. */
static const spi_import *find(const sp_engine *engine, const wasm_importtype_t *wanted, bool *is_known) {
    const wasm_externtype_t *type = wasm_importtype_type(wanted);
    *is_known = false;
    for (uint32_t i = 0; i < engine->hooks.import_count; i++) {
        const spi_import *import = &engine->hooks.imports[i];
        if (!is_text(wasm_importtype_name(wanted), import->name)) {
            continue;
        }
        *is_known = true;
        const wasm_functype_t *function = wasm_externtype_as_functype_const(type);
        if (function && fits_kinds(wasm_functype_params(function), import->parameters) &&
            fits_kinds(wasm_functype_results(function), import->results)) {
            return import;
        }
    }
    return NULL;
}

/* Adds " module.name" to a list for a message, as long as there is room; names are the module's, so they are
 * cleaned. */
static void add_name(char *list, size_t capacity, const wasm_importtype_t *import, const char *remark) {
    const wasm_name_t *module = wasm_importtype_module(import), *name = wasm_importtype_name(import);
    size_t length = strlen(list);
    char text[128];
    snprintf(text, sizeof text, "%s%.*s.%.*s%s", length ? ", " : "", (int)(module->size < 40 ? module->size : 40),
             module->data, (int)(name->size < 60 ? name->size : 60), name->data, remark);
    if (length + strlen(text) + 6 > capacity) {
        if (length + 6 <= capacity && (length < 5 || strcmp(list + length - 5, ", ...") != 0)) {
            memcpy(list + length, ", ...", 6);
        }
        return;
    }
    for (char *at = text; *at; at++) {
        *at = (unsigned char)*at < ' ' ? '?' : *at;
    }
    memcpy(list + length, text, strlen(text) + 1);
}

sp_status spi_linker_check(const sp_engine *engine, const char *name, const wasmtime_module_t *module,
                           sp_error *error) {
    wasm_importtype_vec_t imports;
    char unknown[280] = "";
    wasmtime_module_imports(module, &imports);
    for (size_t i = 0; i < imports.size; i++) {
        const wasm_name_t *from = wasm_importtype_module(imports.data[i]);
        bool is_known = false;
        if (is_text(from, SPI_IMPORT_MODULE) && !find(engine, imports.data[i], &is_known)) {
            add_name(unknown, sizeof unknown, imports.data[i], is_known ? " (of another type)" : "");
        } else if (!is_text(from, SPI_IMPORT_MODULE) && !is_text(from, WASI_MODULE)) {
            add_name(unknown, sizeof unknown, imports.data[i], "");
        }
    }
    wasm_importtype_vec_delete(&imports);
    return unknown[0]
               ? spi_fail(error, SP_UNSUPPORTED,
                          "%s imports what nobody provides: %s. There are the modules %s (the SDK's header lists "
                          "its functions) and %s",
                          name, unknown, SPI_IMPORT_MODULE, WASI_MODULE)
               : SP_OK;
}

/* Wasmtime reads files straight into a guest's memory; all else that WASI gives is copied there by code. */
bool spi_linker_reads_files(const wasmtime_module_t *module) {
    wasm_importtype_vec_t imports;
    bool reads = false;
    wasmtime_module_imports(module, &imports);
    for (size_t i = 0; i < imports.size; i++) {
        const wasm_name_t *name = wasm_importtype_name(imports.data[i]);
        reads = reads || is_text(name, "fd_read") || is_text(name, "fd_pread");
    }
    wasm_importtype_vec_delete(&imports);
    return reads;
}
