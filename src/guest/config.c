/* guest/config.c - how Wasmtime is set up, and which Wasmtime it is.
 *
 * Decisions, and why: - Two engines: one that counts fuel and one that does not, because counting costs every loop.
 * Epochs are in both: they
 *   are what ends time slices.
 * - Linear memory comes from our creator (memory.c). Copy-on-write images of it must be off then, garbage-collected
 *   heaps must be off (they would come from the creator too, and first), memory never moves, and reservation and guard
 *   are such that compiled code needs no bounds checks.
 * - One memory of 32-bit addresses, no threads: a second memory, 64-bit addresses and shared memory would each need
 *   another kind of region. Proposals that need garbage collection are off with it.
 * - SIMD is on; relaxed SIMD in its deterministic form, so that a module computes the same everywhere. NaNs are not
 *   canonicalised: that costs every float operation, and what reaches a model is tokens, not NaN payloads.
 * - A fiber has 2 MiB of stack, of which a guest's own frames may take 1 MiB; the rest is for the host functions that
 * it
 *   calls. It is address space: pages are used when they are touched.
 *
 * May include: os, base.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/hash.h"
#include "guest/guest.h"
#include "os/cpu.h"
#include "os/file.h"
#include "samepage/version.h"

#define FIBER_STACK_BYTES ((size_t)2 << 20)
#define WASM_STACK_BYTES  ((size_t)1 << 20)

const char *sp_wasmtime_version(void) {
    return SPI_WASMTIME_VERSION;
}

const char *spi_config_version_symbol = "resolve_vmctx_memory_ptr_48_0_0";

wasm_engine_t *spi_config_engine(spi_variant variant) {
    wasm_config_t *config = wasm_config_new();
    if (!config) {
        return NULL;
    }
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_consume_fuel_set(config, variant == SPI_METERED);
    wasmtime_config_max_wasm_stack_set(config, WASM_STACK_BYTES);
    wasmtime_config_async_stack_size_set(config, FIBER_STACK_BYTES);
    wasmtime_config_gc_support_set(config, false);
    wasmtime_config_memory_init_cow_set(config, false);
    wasmtime_config_memory_may_move_set(config, false);
#if defined(__APPLE__)
    /* Faults come as signals: os/dirty_protect.c has to see those of watched pages first. */
    wasmtime_config_macos_use_mach_ports_set(config, false);
#endif
    wasmtime_config_memory_reservation_set(config, SPI_MEMORY_RESERVE_BYTES);
    wasmtime_config_memory_guard_size_set(config, SPI_MEMORY_GUARD_BYTES);
    spi_memory_configure(config);
    wasmtime_config_wasm_threads_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_wasm_stack_switching_set(config, false);
    wasmtime_config_wasm_wide_arithmetic_set(config, false);
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(config, true);
    return wasm_engine_new_with_config(config);
}

/* Compiles a module of nothing and gives what Wasmtime serialises of it. */
static wasmtime_error_t *probe(wasm_byte_vec_t *artifact) {
    static const uint8_t empty[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    wasm_engine_t *engine = spi_config_engine(SPI_PLAIN);
    if (!engine) {
        return wasmtime_error_new("it refuses the configuration");
    }
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *failure = wasmtime_module_new(engine, empty, sizeof empty, &module);
    if (!failure) {
        failure = wasmtime_module_serialize(module, artifact);
        wasmtime_module_delete(module);
    }
    wasm_engine_delete(engine);
    return failure;
}

static bool read_at(const wasm_byte_vec_t *from, uint64_t offset, void *to, size_t bytes) {
    if (offset > from->size || bytes > from->size - offset) {
        return false;
    }
    memcpy(to, from->data + offset, bytes);
    return true;
}

/* An artifact is an ELF file whose section .wasmtime.engine holds a format byte, the length of the version, the
 * version, and then every setting of the compiler. */
static bool find_engine_section(const wasm_byte_vec_t *artifact, uint64_t *offset, uint64_t *bytes) {
    static const char wanted[] = ".wasmtime.engine";
    uint64_t sections, names_offset;
    uint16_t entry_bytes, count, names_index;
    if (artifact->size < 64 || memcmp(artifact->data, "\177ELF\2", 5) != 0 || !read_at(artifact, 40, &sections, 8) ||
        !read_at(artifact, 58, &entry_bytes, 2) || !read_at(artifact, 60, &count, 2) ||
        !read_at(artifact, 62, &names_index, 2) || sections > artifact->size) {
        return false;
    }
    if (!read_at(artifact, sections + (uint64_t)names_index * entry_bytes + 24, &names_offset, 8) ||
        names_offset > artifact->size) {
        return false;
    }
    for (uint16_t i = 0; i < count; i++) {
        uint64_t header = sections + (uint64_t)i * entry_bytes;
        uint32_t name;
        char text[sizeof wanted];
        if (read_at(artifact, header, &name, 4) && read_at(artifact, names_offset + name, text, sizeof text) &&
            memcmp(text, wanted, sizeof wanted) == 0) {
            return read_at(artifact, header + 24, offset, 8) && read_at(artifact, header + 32, bytes, 8) &&
                   *offset <= artifact->size && *bytes <= artifact->size - *offset;
        }
    }
    return false;
}

static void copy_version(const wasm_byte_vec_t *artifact, uint64_t offset, uint64_t bytes, char *text,
                         size_t capacity) {
    const uint8_t *section = (const uint8_t *)artifact->data + offset;
    size_t length = bytes >= 2 && section[1] <= bytes - 2 ? section[1] : 0;
    length = length < capacity ? length : capacity - 1;
    memcpy(text, section + 2, length);
    text[length] = 0;
}

/* The library's file, and what tells it from another build. */
static const char *library_path(uint64_t *identity) {
    Dl_info info;
    struct stat file;
    *identity = 0;
    if (!dladdr((const void *)(uintptr_t)wasm_engine_new_with_config, &info) || !info.dli_fname) {
        return "that was loaded";
    }
    if (!stat(info.dli_fname, &file)) {
        uint64_t facts[2] = {(uint64_t)file.st_size, (uint64_t)spi_file_changed_ns(&file)};
        *identity = spi_hash64(facts, sizeof facts);
    }
    return info.dli_fname;
}

/* Has the library compile something and reads the version off what it made: milliseconds. */
static sp_status check_artifact(sp_error *error) {
    wasm_byte_vec_t artifact = {0};
    wasmtime_error_t *failure = probe(&artifact);
    if (failure) {
        return spi_wasmtime_fail(error, SP_UNSUPPORTED, "the Wasmtime library does not work here", failure);
    }
    uint64_t offset = 0, bytes = 0, identity;
    char version[32] = "unknown";
    if (find_engine_section(&artifact, &offset, &bytes)) {
        copy_version(&artifact, offset, bytes, version, sizeof version);
    }
    wasm_byte_vec_delete(&artifact);
    size_t major = sizeof SPI_WASMTIME_MAJOR - 1;
    if (strncmp(version, SPI_WASMTIME_MAJOR, major) == 0 && (!version[major] || version[major] == '.')) {
        return SP_OK;
    }
    return spi_fail(error, SP_UNSUPPORTED,
                    "the Wasmtime library %s is of version %s, and samepage was built for %s: run tools/bootstrap.sh, "
                    "or put the right one first on the library path",
                    library_path(&identity), version, SPI_WASMTIME_VERSION);
}

/* The library does not tell its version, but a symbol that it exports has it in its name. Where that is missing it is
 * another patch release, which is as good, or one that does not fit. */
sp_status spi_config_check_library(sp_error *error) {
    return dlsym(RTLD_DEFAULT, spi_config_version_symbol) ? SP_OK : check_artifact(error);
}

/* Wasmtime itself refuses code of other settings or for other processors; the key keeps such code apart, so that two
 * machines or builds that share a folder do not overwrite each other's. The library's file is in it because a patch
 * release repairs compiled code and calls itself by the same first number. */
uint64_t spi_config_key(spi_variant variant) {
    uint64_t identity;
    (void)library_path(&identity);
    const spi_cpu_features *features = spi_cpu_get_features();
    uint64_t parts[] = {identity, (uint64_t)variant, spi_hash64(features, sizeof *features)};
    return spi_hash64(parts, sizeof parts);
}
