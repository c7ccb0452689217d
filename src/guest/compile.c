/* guest/compile.c - from WebAssembly to machine code: out of the cache, by a child process, or here.
 *
 * The compiler leaves about 110 MB behind in the process that it ran in, and a hostile module may well crash it; a
 * child process is rid of both. Its result comes by way of a file, which is then mapped like any of the cache.
 *
 * May include: os, base.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/cache.h"
#include "os/file.h"
#include "os/process.h"

#define PATH_BYTES 4096
#define MAGIC      "\0asm"

/* What is to be compiled, and where its file belongs. */
typedef struct job {
    sp_engine *engine;
    spi_variant variant;
    const char *name;
    const void *wasm;
    size_t wasm_bytes;
    uint64_t key;
    char path[PATH_BYTES]; /* in the cache; empty: there is none */
} job;

static sp_status compile_here(wasm_engine_t *engine, const char *name, const void *wasm, size_t wasm_bytes,
                              wasmtime_module_t **module, sp_error *error) {
    char what[120];
    *module = NULL;
    if (wasm_bytes < sizeof MAGIC - 1 || memcmp(wasm, MAGIC, sizeof MAGIC - 1) != 0) {
        return spi_fail(error, SP_BAD_FILE, "%.50s is not a valid WebAssembly module: it does not begin like one",
                        name);
    }
    wasmtime_error_t *failure = wasmtime_module_new(engine, wasm, wasm_bytes, module);
    if (!failure) {
        return SP_OK;
    }
    snprintf(what, sizeof what, "%.50s is not a valid WebAssembly module", name);
    *module = NULL;
    return spi_wasmtime_fail(error, SP_BAD_FILE, what, failure);
}

/* Compiles in this process and keeps the result; that it cannot be kept is no reason to fail. */
static sp_status compile_and_store(const job *wanted, wasmtime_module_t **module, sp_error *error) {
    wasm_engine_t *engine = wanted->engine->wasm[wanted->variant];
    sp_status status = compile_here(engine, wanted->name, wanted->wasm, wanted->wasm_bytes, module, error);
    wasm_byte_vec_t artifact;
    if (status || !wanted->path[0]) {
        return status;
    }
    wasmtime_error_t *failure = wasmtime_module_serialize(*module, &artifact);
    if (failure) {
        wasmtime_error_delete(failure);
        return SP_OK;
    }
    (void)spi_cache_store(wanted->path, wanted->key, wanted->wasm, wanted->wasm_bytes, &artifact, NULL);
    wasm_byte_vec_delete(&artifact);
    return SP_OK;
}

/* Statuses that say something of the module; anything else that a child ends with says that the child does not work. */
static sp_status verdict(const job *wanted, int exit_code, char *output, sp_error *error) {
    if (exit_code > 128) {
        return spi_fail(error, SP_BAD_FILE, "%s cannot be compiled: the compiler ended with signal %d", wanted->name,
                        exit_code - 128);
    }
    sp_status status = (sp_status)-exit_code;
    if (status != SP_BAD_FILE && status != SP_UNSUPPORTED && status != SP_LIMIT) {
        return SP_OK;
    }
    char *end = strchr(output, '\n');
    if (end) {
        *end = 0;
    }
    /* The child knows the module by the name of a temporary file. */
    const char *told = strstr(output, "in.wasm");
    return spi_fail(error, status, "%s%.400s", wanted->name, told ? told + 7 : " cannot be compiled");
}

/* Has a child compile it. SP_OK with no module: the child could not be run, or is no compiler for this process. */
static sp_status compile_in_folder(const job *wanted, const char *folder, wasmtime_module_t **module, sp_error *error) {
    char in[PATH_BYTES + 16], out[PATH_BYTES + 16], output[1024] = "";
    snprintf(in, sizeof in, "%s/in.wasm", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    sp_status status = spi_file_write(in, wanted->wasm, wanted->wasm_bytes, false, error);
    if (status) {
        return SP_OK; /* compiling here needs no disk */
    }
    const char *argv[] = {
        wanted->engine->compiler, "compile-module", in, out, wanted->variant == SPI_METERED ? "metered" : NULL, NULL};
    int exit_code = 0;
    status = spi_process_run(argv, SPI_COMPILE_MS_MAX, &exit_code, output, sizeof output, error);
    if (status == SP_TIMEOUT) {
        status =
            spi_fail(error, SP_LIMIT, "%s took longer than %d s to compile", wanted->name, SPI_COMPILE_MS_MAX / 1000);
    } else if (status) {
        status = SP_OK;
    } else if (exit_code) {
        status = verdict(wanted, exit_code, output, error);
    } else {
        const char *path = out;
        if (wanted->path[0] && !rename(out, wanted->path)) {
            path = wanted->path;
        }
        *module =
            spi_cache_load(wanted->engine->wasm[wanted->variant], path, wanted->key, wanted->wasm, wanted->wasm_bytes);
    }
    unlink(in);
    unlink(out);
    return status;
}

static sp_status compile_in_child(const job *wanted, wasmtime_module_t **module, sp_error *error) {
    char folder[PATH_BYTES];
    const char *parent = wanted->path[0] ? wanted->engine->cache_folder : getenv("TMPDIR");
    int length = snprintf(folder, sizeof folder, "%s/" SPI_COMPILE_FOLDER, parent ? parent : "/tmp");
    if (length < 0 || (size_t)length >= sizeof folder || !mkdtemp(folder)) {
        return SP_OK;
    }
    sp_status status = compile_in_folder(wanted, folder, module, error);
    rmdir(folder);
    return status;
}

sp_status spi_compile(sp_engine *engine, spi_variant variant, const char *name, const void *wasm, size_t wasm_bytes,
                      wasmtime_module_t **module, sp_module_origin *origin, sp_error *error) {
    job *wanted = spi_alloc(1, sizeof *wanted);
    *module = NULL;
    if (!wanted) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to compile %s", name);
    }
    *wanted = (job){.engine = engine, .variant = variant, .name = name, .wasm = wasm, .wasm_bytes = wasm_bytes};
    wanted->key = spi_config_key(variant);
    bool has_folder = engine->cache_folder && spi_cache_folder_is_safe(engine->cache_folder) &&
                      spi_cache_path(engine->cache_folder, wanted->key, wasm, wasm_bytes, wanted->path, PATH_BYTES);
    if (!has_folder) {
        wanted->path[0] = 0;
    }
    *origin = SP_MODULE_CACHED;
    if (has_folder) {
        *module = spi_cache_load(engine->wasm[variant], wanted->path, wanted->key, wasm, wasm_bytes);
    }
    sp_status status = SP_OK;
    if (!*module) {
        *origin = SP_MODULE_COMPILED;
        if (has_folder) {
            spi_cache_sweep(engine->cache_folder); /* here, where it is small beside what follows */
        }
        status = engine->compiler ? compile_in_child(wanted, module, error) : SP_OK;
    }
    if (!status && !*module) {
        status = compile_and_store(wanted, module, error);
    }
    spi_free(wanted);
    return status;
}

sp_status sp_module_compile_file(const char *in_path, const char *out_path, bool metered, sp_error *error) {
    spi_variant variant = metered ? SPI_METERED : SPI_PLAIN;
    void *wasm = NULL;
    size_t wasm_bytes = 0;
    wasm_byte_vec_t artifact;
    wasmtime_module_t *module = NULL;
    sp_status status = spi_config_check_library(error);
    status = status ? status : spi_file_read(in_path, (size_t)1 << 30, &wasm, &wasm_bytes, error);
    if (status) {
        return status;
    }
    wasm_engine_t *engine = spi_config_engine(variant);
    const char *slash = strrchr(in_path, '/');
    status = engine ? compile_here(engine, slash ? slash + 1 : in_path, wasm, wasm_bytes, &module, error)
                    : spi_fail(error, SP_UNSUPPORTED, "Wasmtime refuses its configuration on this machine");
    if (!status) {
        wasmtime_error_t *failure = wasmtime_module_serialize(module, &artifact);
        status = failure ? spi_wasmtime_fail(error, SP_INTERNAL, "cannot serialise a module", failure) : SP_OK;
    }
    if (!status) {
        status = spi_cache_store(out_path, spi_config_key(variant), wasm, wasm_bytes, &artifact, error);
        wasm_byte_vec_delete(&artifact);
    }
    if (module) {
        wasmtime_module_delete(module);
    }
    if (engine) {
        wasm_engine_delete(engine);
    }
    spi_free(wasm);
    return status;
}
