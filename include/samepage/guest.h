/* samepage/guest.h - WebAssembly guests over regions, many on one thread.
 *
 *     engine ── module (compiled once, cached on disk) ── guest (an instance over its own region)
 *
 * An engine belongs to one thread and is its scheduler: every guest's call is a fiber, which is suspended when it asks
 * for computing and when its time slice ends, so one that loops for ever costs its share and nothing else. What guests
 * ask for at the same time is computed together, in one pass over the weights where they share a model.
 *
 * A guest's fault (a trap, access out of bounds, stack overflow, fuel or time used up) ends that guest and is told by
 * sp_guest_error; nothing else notices.
 *
 * Threads: an engine and all that it owns are used by the thread that created it, except sp_guest_terminate,
 * sp_guest_interrupt, sp_guest_is_computing, sp_guest_has_interrupt and sp_engine_wake, which any thread and any signal
 * handler may call while the guest or engine exists.
 */
#ifndef SAMEPAGE_GUEST_H
#define SAMEPAGE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/device.h"
#include "samepage/dtype.h"
#include "samepage/model.h"
#include "samepage/region.h"
#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_engine sp_engine;
typedef struct sp_module sp_module;
typedef struct sp_guest sp_guest;

typedef struct sp_engine_options {
    const char *cache_folder; /* compiled modules; NULL: the user's cache folder; "": no cache on disk */
    const char *compiler;     /* program that compiles modules in a child process: the path of the samepage program,
                                   called as "PATH compile-module IN.wasm OUT", with "metered" behind it for guests with
                                   a fuel limit; NULL: this program if it is samepage, else compile in this process, as
                                   "" does, which costs it about 110 MB that it never gives back */
    uint32_t slice_ms;        /* a guest's time slice; 0: 2 ms */
} sp_engine_options;

/* options may be NULL. SP_UNSUPPORTED: the Wasmtime library found at run time is not the one this was built for. */
SP_EXPORT sp_status sp_engine_create(const sp_engine_options *options, sp_engine **engine, sp_error *error);

/* Guests must be gone. NULL is allowed. */
SP_EXPORT void sp_engine_destroy(sp_engine *engine);

/* Modules are shared by the guests made of them and freed with the engine or by sp_module_close, whichever is first.
 * SP_NOT_FOUND, SP_BAD_FILE (not WebAssembly, does not validate), SP_UNSUPPORTED (imports that no one provides:
 * named). */
SP_EXPORT sp_status sp_module_open(sp_engine *engine, const char *path, sp_module **module, sp_error *error);
SP_EXPORT sp_status sp_module_open_bytes(sp_engine *engine, const char *name, const void *wasm, size_t wasm_bytes,
                                         sp_module **module, sp_error *error);
SP_EXPORT void sp_module_close(sp_module *module); /* guests made of it must be gone */

/* What the `compile-module IN OUT [metered]` command of a compiler program does (sp_engine_options.compiler). The
 * program prints the message to stderr and exits with the negated status, 0 for SP_OK. */
SP_EXPORT sp_status sp_module_compile_file(const char *in_path, const char *out_path, bool metered, sp_error *error);

/* How the module came to be usable: for bench and `run --verbose`. */
typedef enum sp_module_origin { SP_MODULE_COMPILED, SP_MODULE_CACHED } sp_module_origin;
SP_EXPORT sp_module_origin sp_module_get_origin(const sp_module *module);

/* SP_OK if all state of the module's instances can be saved (snapshot.h); else SP_UNSUPPORTED and the reason: it has a
 * start function, passive segments, or references that a snapshot cannot reach. Its guests run all the same. */
SP_EXPORT sp_status sp_module_check_durable(const sp_module *module, sp_error *error);

/* BLAKE2b-256 (RFC 7693) of the module's bytes, as they were opened. */
#define SP_MODULE_HASH_BYTES 32
SP_EXPORT void sp_module_get_hash(const sp_module *module, uint8_t hash[SP_MODULE_HASH_BYTES]);

typedef struct sp_guest_folder {
    const char *host_path, *guest_path;
    bool writable;
} sp_guest_folder;

/* What a guest that is an actor asks whoever keeps it (actor.h), through the imports of sdk/imports.def's group
 * "Actors". Functions run on the engine's thread and must not call functions of the engine. Texts are the guest's: any
 * bytes. */
typedef struct sp_guest_message {
    uint64_t id, reply_to;
    uint64_t time_ms;
    uint32_t kind, attempt;
    const char *text, *sender; /* sender: zero-terminated, "" for none */
    uint32_t text_bytes;
} sp_guest_message;

typedef struct sp_guest_mail {
    const char *(*self)(void *env);
    const sp_guest_message *(*current)(void *env); /* NULL: none is being handled */
    sp_status (*reply)(void *env, const char *text, uint32_t text_bytes, sp_error *error);
    sp_status (*send)(void *env, const char *name, const char *text, uint32_t text_bytes, uint64_t *id,
                      sp_error *error);
    sp_status (*sleep_until)(void *env, int64_t time_ms, const char *note, uint32_t note_bytes, sp_error *error);
    int64_t (*time_ms)(void *env);
} sp_guest_mail;

/* A model that the guest may open under this name. Names are the guest's whole view of the file system of models. */
typedef struct sp_guest_model {
    const char *name;
    sp_model *model; /* loaded on the guest's device */
} sp_guest_model;

/* Gets what a guest writes to its stdout or stderr. It is called on another thread than the engine's, one call at a
 * time for each guest, and not any more once sp_guest_destroy has returned. While it runs the engine's thread waits for
 * it, but a guest can make its streams non-blocking, and then it does not: what it shares with the engine's thread
 * needs a lock or atomics. It must not call functions of the engine. */
typedef void (*sp_guest_output)(void *env, const void *bytes, size_t byte_count);

typedef struct sp_guest_options {
    const char *const *arguments; /* [argument_count], the first is the program's name; none: the module's name */
    uint32_t argument_count;
    const char *const *environment; /* "KEY=VALUE" [environment_count] */
    uint32_t environment_count;
    const sp_guest_folder *folders;
    uint32_t folder_count;
    bool inherit_stdin;       /* else stdin is empty */
    sp_guest_output out, err; /* NULL: the process's own stdout and stderr */
    void *output_env;

    sp_device *device; /* on which its sessions and matmuls run; NULL: it has none, and such calls fail */
    const sp_guest_model *models;
    uint32_t model_count;

    sp_kv_type kv_type; /* of sessions for which the guest asks for no type of its own; DEFAULT: F16 */

    const sp_guest_mail *mail; /* NULL: it is no actor; else it and what mail_env points to outlive the guest */
    void *mail_env;

    uint64_t memory_bytes_max; /* 0: 4 GiB */
    uint64_t fuel;             /* instructions, roughly; 0: no limit */
    uint32_t deadline_ms;      /* from the start of each call; computing counts; 0: no limit */
    uint32_t handle_count_max; /* models, sessions and samplers at once; 0: 64 */
} sp_guest_options;

/* Makes an instance over a fresh region; runs nothing of it but a start function. Strings and arrays are copied.
 * SP_NO_MEMORY, SP_TRAPPED (in a start function), SP_UNSUPPORTED (the module exports no memory), SP_LIMIT (its memory
 * is larger than memory_bytes_max from the start), SP_NOT_FOUND (a folder), SP_TIMEOUT (a start function that runs for
 * longer than deadline_ms, or 10 s), SP_UNSUPPORTED (the device does not have the kv_type). */
SP_EXPORT sp_status sp_guest_create(sp_module *module, const sp_guest_options *options, sp_guest **guest,
                                    sp_error *error);

/* Ends a call that is in flight. NULL is allowed. */
SP_EXPORT void sp_guest_destroy(sp_guest *guest);

typedef enum sp_guest_state {
    SP_GUEST_IDLE,    /* no call in flight: it may be called */
    SP_GUEST_RUNNING, /* a call is in flight: running, waiting for its turn or for computing */
    SP_GUEST_EXITED,  /* it called exit, or _start returned */
    SP_GUEST_FAILED,  /* it trapped or overran a limit */
} sp_guest_state;

/* Begins a call of an exported function; up to 8 integer arguments (i32 or i64 as the function has them, else
 * SP_INVALID). It runs when the engine does. A module that exports _initialize has it called once, before the first
 * other function. SP_NOT_FOUND names the exports that there are; SP_BUSY: a call is in flight; SP_TRAPPED: it has
 * FAILED and can only be destroyed; SP_UNSUPPORTED: the function returns something that is not one integer. */
SP_EXPORT sp_status sp_guest_start(sp_guest *guest, const char *function, const int64_t *arguments,
                                   uint32_t argument_count, sp_error *error);

SP_EXPORT sp_guest_state sp_guest_get_state(const sp_guest *guest);
SP_EXPORT int sp_guest_exit_code(const sp_guest *guest);  /* after EXITED: 0..255 */
SP_EXPORT int64_t sp_guest_result(const sp_guest *guest); /* of the last call that returned; 0 if it returns none */
SP_EXPORT const sp_error *sp_guest_error(
    const sp_guest *guest); /* after FAILED: what happened, with the call's place */

/* Runs guests until `until` (may be NULL) is no longer RUNNING, or no guest is, or timeout_ms passed (negative: no
 * limit). SP_TIMEOUT, SP_OK. */
SP_EXPORT sp_status sp_engine_run(sp_engine *engine, const sp_guest *until, int64_t timeout_ms);

/* Ends a guest within 50 ms of its next time slice, whatever it does: FAILED with SP_CANCELLED. */
SP_EXPORT void sp_guest_terminate(sp_guest *guest);

/* Asks a guest to stop what it is doing: its `interrupted` import answers 1, once. (Ctrl-C.) */
SP_EXPORT void sp_guest_interrupt(sp_guest *guest);

/* Both may be called like the above, to decide what an interrupt shall mean: whether the guest waits for computing that
 * it asked for, and whether it has yet to hear of an interrupt. */
SP_EXPORT bool sp_guest_is_computing(const sp_guest *guest);
SP_EXPORT bool sp_guest_has_interrupt(const sp_guest *guest);

/* Makes a sleeping sp_engine_run look again. */
SP_EXPORT void sp_engine_wake(sp_engine *engine);

SP_EXPORT sp_region *sp_guest_region(const sp_guest *guest); /* its linear memory */

/* What the boundary costs and what was computed: for bench, `run --verbose` and the guests' `counters` import. */
typedef struct sp_guest_counters {
    uint64_t host_calls;    /* imports of samepage called */
    uint64_t host_ns;       /* spent in them, computing excluded */
    uint64_t compute_ns;    /* from asking for computing to having it */
    uint64_t prompt_tokens; /* appended two or more at a time */
    uint64_t prompt_ns;
    uint64_t generated_tokens; /* appended one at a time */
    uint64_t generated_ns;
    uint64_t slices; /* times it was preempted */
    uint64_t run_ns; /* of compute_ns, what the batches that it was in took; the rest is the way there and back */
} sp_guest_counters;
SP_EXPORT void sp_guest_get_counters(const sp_guest *guest, sp_guest_counters *counters);

#ifdef __cplusplus
}
#endif
#endif
