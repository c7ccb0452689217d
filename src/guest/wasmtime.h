/* guest/wasmtime.h - the part of the Wasmtime 48 C API that samepage uses.
 *
 * The library comes without its headers, so what is used of them is declared here: names, types and layouts are those
 * of the official headers (wasmtime.h, wasi.h and wasmtime/async.h of the crate wasmtime-c-api-impl 48.0.0), the words
 * are ours. Compiled with -DSPI_WASMTIME_CHECK and the official headers on the include path, the compiler holds every
 * prototype below against the official one, and the assertions at the end hold the layouts: tests/headers does that
 * where `tools/bootstrap.sh --headers` was run.
 *
 * Ownership, in short: a function whose name ends in _new or that writes through a pointer to a pointer gives an object
 * to be deleted with the matching _delete; vectors are deleted with theirs; an error or trap that is returned belongs
 * to the caller. wasm_engine_new_with_config takes the config, wasmtime_context_set_wasi takes the WASI config,
 * wasm_functype_new takes both vectors.
 *
 * Included by the files of guest/ that are below the line (host.h) and by nothing else. May include: nothing.
 */
#ifndef SPI_GUEST_WASMTIME_H
#define SPI_GUEST_WASMTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the declarations are of. The library says only the first number of itself. */
#define SPI_WASMTIME_VERSION "48.0.0"
#define SPI_WASMTIME_MAJOR   "48"

#ifdef SPI_WASMTIME_CHECK
#include <wasi.h>
#include <wasmtime.h>
#include <wasmtime/async.h>
#else

typedef struct wasm_config_t wasm_config_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_frame_t wasm_frame_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_memorytype_t wasm_memorytype_t;
typedef struct wasm_externtype_t wasm_externtype_t;
typedef struct wasm_importtype_t wasm_importtype_t;
typedef struct wasm_exporttype_t wasm_exporttype_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_instance_pre wasmtime_instance_pre_t;
typedef struct wasmtime_call_future wasmtime_call_future_t;
typedef struct wasi_config_t wasi_config_t;

/* Texts among these are not zero-terminated. */
typedef struct wasm_byte_vec_t {
    size_t size;
    char *data;
} wasm_byte_vec_t;
typedef wasm_byte_vec_t wasm_name_t;
typedef wasm_name_t wasm_message_t;

#define SPI_WASM_VECTOR(name)                                                                                          \
    typedef struct wasm_##name##_vec_t {                                                                               \
        size_t size;                                                                                                   \
        wasm_##name##_t **data;                                                                                        \
    } wasm_##name##_vec_t;
SPI_WASM_VECTOR(valtype)
SPI_WASM_VECTOR(importtype)
SPI_WASM_VECTOR(exporttype)
SPI_WASM_VECTOR(frame)
#undef SPI_WASM_VECTOR

typedef uint8_t wasm_valkind_t;
typedef uint8_t wasm_externkind_t;
enum { WASM_I32 = 0, WASM_I64 = 1, WASM_F32 = 2, WASM_F64 = 3 };
enum { WASM_EXTERN_FUNC = 0, WASM_EXTERN_GLOBAL = 1, WASM_EXTERN_TABLE = 2, WASM_EXTERN_MEMORY = 3 };

typedef uint8_t wasmtime_valkind_t;
typedef uint8_t wasmtime_extern_kind_t;
typedef uint8_t wasmtime_trap_code_t;
enum {
    WASMTIME_I32 = 0,
    WASMTIME_I64 = 1,
    WASMTIME_F32 = 2,
    WASMTIME_F64 = 3,
    WASMTIME_V128 = 4,
    WASMTIME_FUNCREF = 5
};
enum { WASMTIME_EXTERN_FUNC = 0, WASMTIME_EXTERN_GLOBAL = 1, WASMTIME_EXTERN_TABLE = 2, WASMTIME_EXTERN_MEMORY = 3 };
enum wasmtime_trap_code_enum {
    WASMTIME_TRAP_CODE_STACK_OVERFLOW = 0,
    WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS = 1,
    WASMTIME_TRAP_CODE_HEAP_MISALIGNED = 2,
    WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS = 3,
    WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL = 4,
    WASMTIME_TRAP_CODE_BAD_SIGNATURE = 5,
    WASMTIME_TRAP_CODE_INTEGER_OVERFLOW = 6,
    WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO = 7,
    WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER = 8,
    WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED = 9,
    WASMTIME_TRAP_CODE_INTERRUPT = 10,
    WASMTIME_TRAP_CODE_OUT_OF_FUEL = 11,
};

/* Handles into a store: plain values that need no deletion. Their insides are Wasmtime's. */
typedef struct wasmtime_func {
    uint64_t store_id;
    void *inner;
} wasmtime_func_t;

typedef struct wasmtime_memory {
    struct {
        uint64_t store_id;
        uint32_t inner_a;
    } outer;
    uint32_t inner_b;
} wasmtime_memory_t;

typedef struct wasmtime_table {
    struct {
        uint64_t store_id;
        uint32_t inner_a;
    } outer;
    uint32_t inner_b;
} wasmtime_table_t;

typedef struct wasmtime_global {
    uint64_t store_id;
    uint32_t inner_a, inner_b, inner_c;
} wasmtime_global_t;

typedef struct wasmtime_instance {
    uint64_t store_id;
    size_t inner;
} wasmtime_instance_t;

/* The largest members of the official unions, so that the sizes agree. */
typedef struct spi_wasmtime_reference {
    uint64_t store_id;
    uint32_t inner_a, inner_b;
    void *inner_c;
} spi_wasmtime_reference;

typedef union wasmtime_valunion {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    spi_wasmtime_reference externref;
    wasmtime_func_t funcref;
    uint8_t v128[16];
} wasmtime_valunion_t;

typedef struct wasmtime_val {
    wasmtime_valkind_t kind;
    wasmtime_valunion_t of;
} wasmtime_val_t;

/* A value without its kind: arguments and results of unchecked calls, little-endian. */
typedef union wasmtime_val_raw {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    void *funcref;
} wasmtime_val_raw_t;

typedef union wasmtime_extern_union {
    wasmtime_func_t func;
    wasmtime_global_t global;
    wasmtime_table_t table;
    wasmtime_memory_t memory;
} wasmtime_extern_union_t;

typedef struct wasmtime_extern {
    wasmtime_extern_kind_t kind;
    wasmtime_extern_union_t of;
} wasmtime_extern_t;

/* A host function: takes its arguments from the array and writes its results there; a trap ends the guest's call. */
typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(void *env, wasmtime_caller_t *caller,
                                                           wasmtime_val_raw_t *words, size_t word_count);

/* A host function that may take its time: it fills the continuation, whose callback is asked at every poll of the
 * call's future whether it is done; results stays writable until it answers true. */
typedef bool (*wasmtime_func_async_continuation_callback_t)(void *env);
typedef struct wasmtime_async_continuation_t {
    wasmtime_func_async_continuation_callback_t callback;
    void *env;
    void (*finalizer)(void *env);
} wasmtime_async_continuation_t;
typedef void (*wasmtime_func_async_callback_t)(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *arguments,
                                               size_t argument_count, wasmtime_val_t *results, size_t result_count,
                                               wasm_trap_t **trap, wasmtime_async_continuation_t *continuation);

/* Linear memory that the host provides. Sizes are bytes; a maximum of SIZE_MAX means none. */
typedef uint8_t *(*wasmtime_memory_get_callback_t)(void *env, size_t *size_bytes, size_t *capacity_bytes);
typedef wasmtime_error_t *(*wasmtime_memory_grow_callback_t)(void *env, size_t new_size_bytes);
typedef struct wasmtime_linear_memory {
    void *env;
    wasmtime_memory_get_callback_t get_memory;
    wasmtime_memory_grow_callback_t grow_memory;
    void (*finalizer)(void *env);
} wasmtime_linear_memory_t;
typedef wasmtime_error_t *(*wasmtime_new_memory_callback_t)(void *env, const wasm_memorytype_t *type,
                                                            size_t minimum_bytes, size_t maximum_bytes,
                                                            size_t reserved_bytes, size_t guard_bytes,
                                                            wasmtime_linear_memory_t *memory);
typedef struct wasmtime_memory_creator {
    void *env;
    wasmtime_new_memory_callback_t new_memory;
    void (*finalizer)(void *env);
} wasmtime_memory_creator_t;

#endif /* SPI_WASMTIME_CHECK */

/* Configuration. */
wasm_config_t *wasm_config_new(void);
void wasm_config_delete(wasm_config_t *config);
void wasmtime_config_epoch_interruption_set(wasm_config_t *config, bool on);
void wasmtime_config_consume_fuel_set(wasm_config_t *config, bool on);
void wasmtime_config_max_wasm_stack_set(wasm_config_t *config, size_t bytes);
void wasmtime_config_async_stack_size_set(wasm_config_t *config, size_t bytes);
void wasmtime_config_memory_init_cow_set(wasm_config_t *config, bool on);
void wasmtime_config_memory_may_move_set(wasm_config_t *config, bool on);
void wasmtime_config_memory_reservation_set(wasm_config_t *config, uint64_t bytes);
void wasmtime_config_memory_guard_size_set(wasm_config_t *config, uint64_t bytes);
void wasmtime_config_host_memory_creator_set(wasm_config_t *config, wasmtime_memory_creator_t *creator);
#if defined(__APPLE__)
void wasmtime_config_macos_use_mach_ports_set(wasm_config_t *config, bool on);
#endif
void wasmtime_config_gc_support_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_threads_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_memory64_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_multi_memory_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_custom_page_sizes_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_gc_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_function_references_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_exceptions_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_stack_switching_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_wide_arithmetic_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_simd_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_relaxed_simd_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_relaxed_simd_deterministic_set(wasm_config_t *config, bool on);

/* Engine. increment_epoch may be called from any thread. */
wasm_engine_t *wasm_engine_new_with_config(wasm_config_t *config);
void wasm_engine_delete(wasm_engine_t *engine);
void wasmtime_engine_increment_epoch(const wasm_engine_t *engine);

/* Errors and traps. Messages of both may have many lines. */
wasmtime_error_t *wasmtime_error_new(const char *message);
void wasmtime_error_delete(wasmtime_error_t *error);
void wasmtime_error_message(const wasmtime_error_t *error, wasm_name_t *message);
bool wasmtime_error_exit_status(const wasmtime_error_t *error, int *status);
void wasmtime_error_wasm_trace(const wasmtime_error_t *error, wasm_frame_vec_t *frames);
wasm_trap_t *wasmtime_trap_new(const char *message, size_t message_bytes);
void wasm_trap_delete(wasm_trap_t *trap);
void wasm_trap_message(const wasm_trap_t *trap, wasm_message_t *message);
bool wasmtime_trap_code(const wasm_trap_t *trap, wasmtime_trap_code_t *code);
void wasm_trap_trace(const wasm_trap_t *trap, wasm_frame_vec_t *frames);
uint32_t wasm_frame_func_index(const wasm_frame_t *frame);
size_t wasm_frame_module_offset(const wasm_frame_t *frame);
const wasm_name_t *wasmtime_frame_func_name(const wasm_frame_t *frame);
void wasm_frame_vec_delete(wasm_frame_vec_t *frames);
void wasm_byte_vec_new_uninitialized(wasm_byte_vec_t *bytes, size_t count);
void wasm_byte_vec_delete(wasm_byte_vec_t *bytes);

/* Types. */
wasm_valtype_t *wasm_valtype_new(wasm_valkind_t kind);
wasm_valkind_t wasm_valtype_kind(const wasm_valtype_t *type);
void wasm_valtype_vec_new(wasm_valtype_vec_t *types, size_t count, wasm_valtype_t *const values[]);
wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *parameters, wasm_valtype_vec_t *results);
void wasm_functype_delete(wasm_functype_t *type);
const wasm_valtype_vec_t *wasm_functype_params(const wasm_functype_t *type);
const wasm_valtype_vec_t *wasm_functype_results(const wasm_functype_t *type);
wasm_externkind_t wasm_externtype_kind(const wasm_externtype_t *type);
const wasm_functype_t *wasm_externtype_as_functype_const(const wasm_externtype_t *type);
const wasm_memorytype_t *wasm_externtype_as_memorytype_const(const wasm_externtype_t *type);
uint64_t wasmtime_memorytype_minimum(const wasm_memorytype_t *type);
bool wasmtime_memorytype_maximum(const wasm_memorytype_t *type, uint64_t *pages);
const wasm_name_t *wasm_importtype_module(const wasm_importtype_t *import);
const wasm_name_t *wasm_importtype_name(const wasm_importtype_t *import);
const wasm_externtype_t *wasm_importtype_type(const wasm_importtype_t *import);
const wasm_name_t *wasm_exporttype_name(const wasm_exporttype_t *exported);
const wasm_externtype_t *wasm_exporttype_type(const wasm_exporttype_t *exported);
void wasm_importtype_vec_delete(wasm_importtype_vec_t *imports);
void wasm_exporttype_vec_delete(wasm_exporttype_vec_t *exports);

/* Modules. A file to be deserialized must be one that serialize made and that nobody else could write. */
wasmtime_error_t *wasmtime_wat2wasm(const char *text, size_t text_bytes, wasm_byte_vec_t *wasm);
wasmtime_error_t *wasmtime_module_new(wasm_engine_t *engine, const uint8_t *wasm, size_t wasm_bytes,
                                      wasmtime_module_t **module);
void wasmtime_module_delete(wasmtime_module_t *module);
wasmtime_error_t *wasmtime_module_serialize(const wasmtime_module_t *module, wasm_byte_vec_t *artifact);
wasmtime_error_t *wasmtime_module_deserialize_file(wasm_engine_t *engine, const char *path, wasmtime_module_t **module);
void wasmtime_module_imports(const wasmtime_module_t *module, wasm_importtype_vec_t *imports);
void wasmtime_module_exports(const wasmtime_module_t *module, wasm_exporttype_vec_t *exports);

/* Stores. */
wasmtime_store_t *wasmtime_store_new(wasm_engine_t *engine, void *data, void (*finalizer)(void *data));
void wasmtime_store_delete(wasmtime_store_t *store);
wasmtime_context_t *wasmtime_store_context(wasmtime_store_t *store);
void wasmtime_store_limiter(wasmtime_store_t *store, int64_t memory_bytes, int64_t table_elements, int64_t instances,
                            int64_t tables, int64_t memories);
void *wasmtime_context_get_data(const wasmtime_context_t *context);
wasmtime_error_t *wasmtime_context_set_fuel(wasmtime_context_t *context, uint64_t fuel);
wasmtime_error_t *wasmtime_context_get_fuel(const wasmtime_context_t *context, uint64_t *fuel);
void wasmtime_context_set_epoch_deadline(wasmtime_context_t *context, uint64_t ticks_beyond_current);
wasmtime_error_t *wasmtime_context_set_wasi(wasmtime_context_t *context, wasi_config_t *config);
#ifndef SPI_WASMTIME_CHECK
/* The official header gives it a result; the library's source (src/async.rs) returns none, and reading one would read
 * whatever the register holds. */
void wasmtime_context_epoch_deadline_async_yield_and_update(wasmtime_context_t *context, uint64_t delta);
#endif

/* Linking and instances. */
wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *engine);
void wasmtime_linker_delete(wasmtime_linker_t *linker);
void wasmtime_linker_allow_shadowing(wasmtime_linker_t *linker, bool on);
wasmtime_error_t *wasmtime_linker_define_wasi(wasmtime_linker_t *linker);
wasmtime_error_t *wasmtime_linker_define_func_unchecked(wasmtime_linker_t *linker, const char *module,
                                                        size_t module_bytes, const char *name, size_t name_bytes,
                                                        const wasm_functype_t *type,
                                                        wasmtime_func_unchecked_callback_t callback, void *env,
                                                        void (*finalizer)(void *env));
wasmtime_error_t *wasmtime_linker_define_async_func(wasmtime_linker_t *linker, const char *module, size_t module_bytes,
                                                    const char *name, size_t name_bytes, const wasm_functype_t *type,
                                                    wasmtime_func_async_callback_t callback, void *env,
                                                    void (*finalizer)(void *env));
wasmtime_error_t *wasmtime_linker_instantiate_pre(const wasmtime_linker_t *linker, const wasmtime_module_t *module,
                                                  wasmtime_instance_pre_t **pre);
void wasmtime_instance_pre_delete(wasmtime_instance_pre_t *pre);
wasmtime_call_future_t *wasmtime_instance_pre_instantiate_async(const wasmtime_instance_pre_t *pre,
                                                                wasmtime_context_t *context,
                                                                wasmtime_instance_t *instance, wasm_trap_t **trap,
                                                                wasmtime_error_t **error);
bool wasmtime_instance_export_get(wasmtime_context_t *context, const wasmtime_instance_t *instance, const char *name,
                                  size_t name_bytes, wasmtime_extern_t *item);

/* Calls. Everything that a future is given by pointer must stay until the future is deleted, which may be done while it
 * is suspended. */
wasm_functype_t *wasmtime_func_type(const wasmtime_context_t *context, const wasmtime_func_t *function);
wasmtime_call_future_t *wasmtime_func_call_async(wasmtime_context_t *context, const wasmtime_func_t *function,
                                                 const wasmtime_val_t *arguments, size_t argument_count,
                                                 wasmtime_val_t *results, size_t result_count, wasm_trap_t **trap,
                                                 wasmtime_error_t **error);
bool wasmtime_call_future_poll(wasmtime_call_future_t *future);
void wasmtime_call_future_delete(wasmtime_call_future_t *future);
wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *caller);
bool wasmtime_caller_export_get(wasmtime_caller_t *caller, const char *name, size_t name_bytes,
                                wasmtime_extern_t *item);

/* Memories: sizes and growth in pages of 64 KiB. */
uint64_t wasmtime_memory_size(const wasmtime_context_t *context, const wasmtime_memory_t *memory);
wasmtime_error_t *wasmtime_memory_grow(wasmtime_context_t *context, const wasmtime_memory_t *memory, uint64_t pages,
                                       uint64_t *previous_pages);

/* Globals, and tables of functions: a function of no store (store_id 0) is the null reference. What a function is as a
 * raw pointer is the same for the same function of an instance. */
void wasmtime_global_get(wasmtime_context_t *context, const wasmtime_global_t *global, wasmtime_val_t *value);
wasmtime_error_t *wasmtime_global_set(wasmtime_context_t *context, const wasmtime_global_t *global,
                                      const wasmtime_val_t *value);
bool wasmtime_table_get(wasmtime_context_t *context, const wasmtime_table_t *table, uint64_t index,
                        wasmtime_val_t *value);
wasmtime_error_t *wasmtime_table_set(wasmtime_context_t *context, const wasmtime_table_t *table, uint64_t index,
                                     const wasmtime_val_t *value);
uint64_t wasmtime_table_size(const wasmtime_context_t *context, const wasmtime_table_t *table);
wasmtime_error_t *wasmtime_table_grow(wasmtime_context_t *context, const wasmtime_table_t *table, uint64_t elements,
                                      const wasmtime_val_t *value, uint64_t *previous_elements);
void *wasmtime_func_to_raw(wasmtime_context_t *context, const wasmtime_func_t *function);

/* WASI preview 1. The setters copy what they are given; false: not UTF-8, or the folder cannot be opened. */
wasi_config_t *wasi_config_new(void);
void wasi_config_delete(wasi_config_t *config);
bool wasi_config_set_argv(wasi_config_t *config, size_t count, const char *arguments[]);
bool wasi_config_set_env(wasi_config_t *config, size_t count, const char *names[], const char *values[]);
void wasi_config_inherit_stdin(wasi_config_t *config);
void wasi_config_inherit_stdout(wasi_config_t *config);
void wasi_config_inherit_stderr(wasi_config_t *config);
void wasi_config_set_stdout_custom(wasi_config_t *config,
                                   ptrdiff_t (*write)(void *env, const unsigned char *bytes, size_t count), void *env,
                                   void (*finalizer)(void *env));
void wasi_config_set_stderr_custom(wasi_config_t *config,
                                   ptrdiff_t (*write)(void *env, const unsigned char *bytes, size_t count), void *env,
                                   void (*finalizer)(void *env));
bool wasi_config_preopen_dir(wasi_config_t *config, const char *host_path, const char *guest_path, bool writable);

/* The layouts, on the 64-bit systems that samepage runs on; with the official headers these hold of their types. */
_Static_assert(sizeof(wasm_byte_vec_t) == 16 && sizeof(wasm_frame_vec_t) == 16, "vectors");
_Static_assert(sizeof(wasmtime_func_t) == 16 && sizeof(wasmtime_instance_t) == 16, "handles");
_Static_assert(sizeof(wasmtime_memory_t) == 24 && _Alignof(wasmtime_memory_t) == 8, "memory");
_Static_assert(sizeof(wasmtime_table_t) == 24 && sizeof(wasmtime_global_t) == 24, "tables and globals");
_Static_assert(WASMTIME_V128 == 4 && WASMTIME_FUNCREF == 5 && WASMTIME_EXTERN_TABLE == 2, "codes");
_Static_assert(sizeof(wasmtime_val_t) == 32 && offsetof(wasmtime_val_t, of) == 8, "values");
_Static_assert(sizeof(wasmtime_val_raw_t) == 16 && _Alignof(wasmtime_val_raw_t) == 8, "raw values");
_Static_assert(sizeof(wasmtime_extern_t) == 32 && offsetof(wasmtime_extern_t, of) == 8, "exports");
_Static_assert(sizeof(wasmtime_linear_memory_t) == 32 && offsetof(wasmtime_linear_memory_t, finalizer) == 24, "memory");
_Static_assert(sizeof(wasmtime_memory_creator_t) == 24 && offsetof(wasmtime_memory_creator_t, new_memory) == 8,
               "creator");
_Static_assert(sizeof(wasmtime_async_continuation_t) == 24 && offsetof(wasmtime_async_continuation_t, env) == 8,
               "continuation");
_Static_assert(WASMTIME_TRAP_CODE_OUT_OF_FUEL == 11 && WASMTIME_EXTERN_MEMORY == 3 && WASMTIME_F64 == 3, "codes");
_Static_assert(WASM_EXTERN_MEMORY == 3 && WASM_F64 == 3, "codes");

#endif
