/* guest/module.c - opening modules: compiled once for each engine and variant, checked against what there is to import.
 *
 * May include: os, base.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"
#include "os/file.h"

#define WASM_BYTES_MAX  ((size_t)1 << 30)
#define EXPORT_TEXT_MAX 300
#define NAME_LENGTH_MAX 80

/* An export that the rewriting added. */
static bool is_ours(const wasm_name_t *name) {
    static const char prefix[] = SPI_REWRITE_PREFIX;
    return name->size >= sizeof prefix - 1 && memcmp(name->data, prefix, sizeof prefix - 1) == 0;
}

/* Notes the exports that matter: the memory, and the names of functions for messages. */
static sp_status read_exports(sp_module *module, const wasmtime_module_t *compiled, sp_error *error) {
    wasm_exporttype_vec_t exports;
    char names[EXPORT_TEXT_MAX + 8] = "";
    size_t length = 0;
    bool is_cut = false;
    wasmtime_module_exports(compiled, &exports);
    for (size_t i = 0; i < exports.size; i++) {
        const wasm_name_t *name = wasm_exporttype_name(exports.data[i]);
        const wasm_externtype_t *type = wasm_exporttype_type(exports.data[i]);
        if (wasm_externtype_kind(type) == WASM_EXTERN_MEMORY && name->size == 6 &&
            memcmp(name->data, "memory", 6) == 0) {
            const wasm_memorytype_t *memory = wasm_externtype_as_memorytype_const(type);
            module->has_memory = true;
            module->memory_pages_min = wasmtime_memorytype_minimum(memory);
            if (!wasmtime_memorytype_maximum(memory, &module->memory_pages_max)) {
                module->memory_pages_max = UINT64_MAX;
            }
        } else if (wasm_externtype_kind(type) == WASM_EXTERN_FUNC && !is_cut && !is_ours(name)) {
            is_cut = length + name->size + 2 > EXPORT_TEXT_MAX;
            int written = is_cut ? snprintf(names + length, 6, "%s", length ? ", ..." : "...")
                                 : snprintf(names + length, EXPORT_TEXT_MAX - length, "%s%.*s", length ? ", " : "",
                                            (int)name->size, name->data);
            length += (size_t)written;
        }
    }
    wasm_exporttype_vec_delete(&exports);
    for (char *at = names; *at; at++) {
        *at = (unsigned char)*at < ' ' ? '?' : *at;
    }
    module->exports = spi_copy_string(names, strlen(names));
    return module->exports ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory for a module");
}

/* Walks over the sections of a module that was found valid, looking for that of the start function. */
static bool find_start(const uint8_t *wasm, size_t wasm_bytes) {
    size_t at = 8;
    while (at < wasm_bytes) {
        uint8_t id = wasm[at++];
        uint64_t length = 0;
        for (unsigned shift = 0; at < wasm_bytes && shift < 35; shift += 7) {
            uint8_t byte = wasm[at++];
            length |= (uint64_t)(byte & 0x7f) << shift;
            if (!(byte & 0x80)) {
                break;
            }
        }
        if (id == 8) {
            return true;
        }
        at = length < wasm_bytes - at ? at + (size_t)length : wasm_bytes;
    }
    return false;
}

sp_status spi_module_want(sp_module *module, spi_variant variant, sp_error *error) {
    spi_code *code = &module->code[variant];
    if (code->pre) {
        return SP_OK;
    }
    sp_engine *engine = module->engine;
    sp_status status = spi_engine_want(engine, variant, error);
    sp_module_origin origin = SP_MODULE_COMPILED;
    wasmtime_module_t *compiled = NULL;
    if (!status) {
        const spi_rewrite *rewrite = &module->rewrite;
        status = spi_compile(engine, variant, module->name, rewrite->wasm ? rewrite->wasm : module->wasm,
                             rewrite->wasm ? rewrite->wasm_bytes : module->wasm_bytes, &compiled, &origin, error);
    }
    if (!status) {
        status = spi_linker_check(engine, module->name, compiled, error);
    }
    if (!status && !module->exports) {
        module->reads_files = spi_linker_reads_files(compiled);
        status = read_exports(module, compiled, error);
        module->origin = origin;
        module->has_start = find_start(module->wasm, module->wasm_bytes);
    }
    if (!status) {
        wasmtime_error_t *failure = wasmtime_linker_instantiate_pre(engine->linkers[variant], compiled, &code->pre);
        status = failure ? spi_wasmtime_fail(error, SP_UNSUPPORTED, module->name, failure) : SP_OK;
    }
    if (status) {
        code->pre = NULL;
        if (compiled) {
            wasmtime_module_delete(compiled);
        }
        return status;
    }
    code->module = compiled;
    return SP_OK;
}

static sp_module *find_open(const sp_engine *engine, const void *wasm, size_t wasm_bytes) {
    for (spi_link_node *node = engine->modules.first; node; node = node->next) {
        sp_module *module = SPI_LIST_ITEM(node, sp_module, node);
        if (module->wasm_bytes == wasm_bytes && memcmp(module->wasm, wasm, wasm_bytes) == 0) {
            return module;
        }
    }
    return NULL;
}

static void destroy(sp_module *module) {
    for (int i = 0; i < SPI_VARIANT_COUNT; i++) {
        if (module->code[i].pre) {
            wasmtime_instance_pre_delete(module->code[i].pre);
        }
        if (module->code[i].module) {
            wasmtime_module_delete(module->code[i].module);
        }
    }
    spi_list_remove(&module->node);
    spi_rewrite_free(&module->rewrite);
    spi_free(module->exports);
    spi_free(module->wasm);
    spi_free(module->name);
    spi_free(module);
}

/* A module whose state cannot be reached is as good as any for guests that nobody saves; what is wrong with one that is
 * none is said by Wasmtime. */
static sp_status rewrite(sp_module *module) {
    sp_status status = spi_rewrite_module(module->wasm, module->wasm_bytes, &module->rewrite, &module->not_durable);
    return status == SP_NO_MEMORY ? status : SP_OK;
}

/* Takes wasm, which is from spi_alloc, whatever happens. */
static sp_status open_owned(sp_engine *engine, const char *name, uint8_t *wasm, size_t wasm_bytes, sp_module **out,
                            sp_error *error) {
    sp_module *module = find_open(engine, wasm, wasm_bytes);
    if (module) {
        spi_free(wasm);
        module->open_count++;
        *out = module;
        return SP_OK;
    }
    module = spi_alloc(1, sizeof *module);
    if (!module) {
        spi_free(wasm);
        return spi_fail(error, SP_NO_MEMORY, "no memory for the module %s", name);
    }
    size_t length = strlen(name), keep = length < NAME_LENGTH_MAX ? length : NAME_LENGTH_MAX;
    module->engine = engine;
    module->open_count = 1;
    module->wasm = wasm;
    module->wasm_bytes = wasm_bytes;
    module->hash = spi_digest_bytes(wasm, wasm_bytes);
    module->name = spi_copy_string(name + length - keep, keep);
    sp_status status = module->name ? rewrite(module) : SP_NO_MEMORY;
    if (status) {
        spi_fail(error, status, "no memory for the module %s", name);
    } else {
        status = spi_module_want(module, SPI_PLAIN, error);
    }
    if (status) {
        destroy(module);
        return status;
    }
    spi_list_append(&engine->modules, &module->node);
    *out = module;
    return SP_OK;
}

sp_status sp_module_open(sp_engine *engine, const char *path, sp_module **module, sp_error *error) {
    void *wasm = NULL;
    size_t wasm_bytes = 0;
    *module = NULL;
    sp_status status = spi_file_read(path, WASM_BYTES_MAX, &wasm, &wasm_bytes, error);
    if (status) {
        return status;
    }
    const char *slash = strrchr(path, '/');
    return open_owned(engine, slash ? slash + 1 : path, wasm, wasm_bytes, module, error);
}

sp_status sp_module_open_bytes(sp_engine *engine, const char *name, const void *wasm, size_t wasm_bytes,
                               sp_module **module, sp_error *error) {
    *module = NULL;
    if (wasm_bytes > WASM_BYTES_MAX) {
        return spi_fail(error, SP_LIMIT, "the module %s has %zu bytes, more than the %zu allowed", name, wasm_bytes,
                        WASM_BYTES_MAX);
    }
    sp_module *open = find_open(engine, wasm, wasm_bytes);
    if (open) {
        open->open_count++;
        *module = open;
        return SP_OK;
    }
    uint8_t *copy = (uint8_t *)spi_copy_string(wasm, wasm_bytes);
    if (!copy) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the module %s (%zu bytes)", name, wasm_bytes);
    }
    return open_owned(engine, name, copy, wasm_bytes, module, error);
}

void sp_module_close(sp_module *module) {
    if (!module || --module->open_count) {
        return;
    }
    assert(!module->guest_count && "a module's guests must be destroyed before it is closed");
    destroy(module);
}

sp_module_origin sp_module_get_origin(const sp_module *module) {
    return module->origin;
}

sp_status sp_module_check_durable(const sp_module *module, sp_error *error) {
    if (module->rewrite.wasm) {
        return SP_OK;
    }
    return spi_fail(error, SP_UNSUPPORTED, "guests of %s cannot be saved: %s", module->name,
                    module->not_durable.message);
}

void sp_module_get_hash(const sp_module *module, uint8_t hash[SPI_DIGEST_BYTES]) {
    memcpy(hash, module->hash.bytes, SPI_DIGEST_BYTES);
}
