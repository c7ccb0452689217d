/* guest/guest.h - the inside of engines, modules and guests: what the files below the line (host.h) share.
 *
 *     config.c     how Wasmtime is set up, and which Wasmtime it is
 *     engine.c     an engine's life               ticks.c      the thread that ends time slices
 *     module.c     opening and checking modules   cache.c      compiled modules on disk
 *     compile.c    compiling, in a child process  linker.c     what modules may import
 *     guest.c      a guest's life and what it is asked          call.c  one call, from start to result or trap
 *     memory.c     linear memory over a region    ranges.c     what the host reserved of it and gave back
 *     scheduler.c  whose turn it is               jobs.c       what guests wait for, computed together
 *     wasi.c       arguments, folders, output     wasi_clock.c time, sleep and exit
 *     trap.c       Wasmtime's errors as ours      rewrite.c  exports for all state of a module
 *     state.c      all state of a guest, out and in         state_facts.c  what else those ask who save guests
 *
 * May include: session, model, device, region, os, base.
 */
#ifndef SPI_GUEST_GUEST_H
#define SPI_GUEST_GUEST_H

#include <stdatomic.h>

#include "base/digest.h"
#include "guest/host.h"
#include "guest/kept.h"
#include "guest/list.h"
#include "guest/ranges.h"
#include "guest/rewrite.h"
#include "guest/wasmtime.h"
#include "os/thread.h"
#include "region/region.h"
#include "samepage/guest.h"

/* Linear memory as Wasmtime's code counts on it: addresses for all that 32 bits can name, and a guard behind. */
#define SPI_MEMORY_RESERVE_BYTES ((uint64_t)4 << 30)
#define SPI_MEMORY_GUARD_BYTES   ((uint64_t)32 << 20)
#define SPI_WASM_PAGE_BYTES      ((uint64_t)64 << 10)

/* Counting fuel makes code slower, so that modules are compiled for it only when a guest with a limit wants them. */
typedef enum spi_variant { SPI_PLAIN, SPI_METERED, SPI_VARIANT_COUNT } spi_variant;

/* What tests put in the place of the imports and of computing. */
typedef struct spi_engine_hooks {
    const spi_import *imports;
    uint32_t import_count;
    sp_status (*append)(sp_append *parts, uint32_t part_count, sp_cancelled cancelled, void *cancelled_env,
                        sp_error *error);
    sp_status (*matmul)(sp_device *device, sp_region *region, const sp_matmul *args, sp_error *error);
} spi_engine_hooks;

typedef struct spi_ticks {
    spi_thread thread;
    bool started;
    int64_t slice_ns;
    atomic_uint state; /* spi_ticks_state; the thread sleeps on it while nothing runs */
    atomic_uint count; /* slices that have begun */
    _Atomic(wasm_engine_t *) engines[SPI_VARIANT_COUNT];
} spi_ticks;

struct sp_engine {
    spi_engine_hooks hooks;
    char *cache_folder;                     /* NULL: none */
    char *compiler;                         /* NULL: in this process */
    wasm_engine_t *wasm[SPI_VARIANT_COUNT]; /* METERED is made when it is first wanted */
    wasmtime_linker_t *linkers[SPI_VARIANT_COUNT];
    spi_ticks ticks;
    int64_t begin_ns; /* when it was created, by two clocks: what the ticks of host_ticks are worth */
    uint64_t begin_ticks;
    atomic_uint wake; /* changed by sp_engine_wake; a sleeping run waits on it */
    spi_list modules, guests;
    spi_list ready;    /* guests whose turn comes, the next one first */
    spi_list waiting;  /* for computing */
    spi_list sleeping; /* for time to pass */
    uint32_t running_count;
    bool in_run;
    int64_t run_until_ns; /* when sp_engine_run is to return */
};

typedef struct spi_code {
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre;
} spi_code;

struct sp_module {
    spi_link_node node; /* in the engine's list */
    sp_engine *engine;
    char *name;
    uint8_t *wasm; /* kept to be compared with, and to be compiled again for fuel */
    size_t wasm_bytes;
    spi_rewrite rewrite;  /* what is compiled, with all state exported; empty: not durable, and wasm is compiled */
    sp_error not_durable; /* why */
    spi_digest hash;      /* of wasm */
    uint32_t open_count, guest_count;
    sp_module_origin origin;
    spi_code code[SPI_VARIANT_COUNT];
    bool has_memory;  /* exported as "memory" */
    bool has_start;   /* a function that runs when an instance is made */
    bool reads_files; /* it imports what makes the system write into its memory */
    uint64_t memory_pages_min, memory_pages_max;
    uint64_t memory_bytes_last; /* of the guest that ended last, 0: none did */
    char *exports;              /* names of functions, ", " between them, for messages */
};

/* Why a fiber is suspended. */
typedef enum spi_wait { SPI_WAIT_NONE, SPI_WAIT_JOB, SPI_WAIT_SLEEP } spi_wait;

/* A time that a guest sleeps for, with what poll_oneoff is to answer: wasi_clock.c. */
typedef struct spi_sleep {
    int64_t begin_ns, until_ns;
    uint64_t subscriptions_offset, events_offset, count_offset;
    uint32_t subscription_count;
    bool is_interrupted;
} spi_sleep;

typedef struct spi_output spi_output; /* where custom streams go: wasi.c */

/* A call in flight. Wasmtime holds pointers into it until the future is deleted. */
typedef struct spi_call {
    wasmtime_call_future_t *future;
    wasmtime_func_t function, next; /* next: what was asked for, while _initialize runs before it */
    bool has_next, is_start, has_result;
    wasmtime_val_t arguments[8];
    uint32_t argument_count;
    wasmtime_val_t result;
    wasm_trap_t *trap;
    wasmtime_error_t *error;
    int64_t deadline_ns; /* 0: none */
    char name[64];       /* for messages */
} spi_call;

struct sp_guest {
    spi_link_node node;  /* in the engine's list of all */
    spi_link_node queue; /* in one of ready, waiting, sleeping, or none */
    sp_engine *engine;
    sp_module *module;
    spi_variant variant;
    sp_guest_state state;

    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
    wasmtime_memory_t memory;
    bool has_memory; /* memory may be used: once the instance exists or its start function called */
    sp_region *region;
    bool is_linked;
    uint64_t memory_bytes_max;
    spi_ranges ranges;
    spi_host *host;

    spi_call call;
    bool is_initialized, is_exiting;
    atomic_uint terminate; /* set by sp_guest_terminate */
    atomic_uint interrupt; /* spi_interrupt */
    atomic_bool is_computing;

    spi_wait wait;
    bool wait_done;
    int32_t wait_result;
    wasmtime_val_t *wait_slot; /* where Wasmtime wants the result of the import that waits */
    spi_job job;
    uint32_t job_start_count, job_done_count; /* tokens of the session before the job; of the job that are appended */
    bool job_is_tried, job_is_interrupted;
    int64_t job_begin_ns;
    spi_sleep sleep;

    sp_device *device;
    sp_kv_type kv_type;     /* of its new sessions, where it asks for none */
    sp_guest_model *models; /* names are copies */
    uint32_t model_count, handle_count_max, deadline_ms;
    char **arguments, **environment; /* as they were given, for snapshots */
    uint32_t argument_count, environment_count;
    const struct spi_session_cache *cache; /* of every session; NULL: none */
    spi_ranges written;                    /* ranges that a device wrote to outside of sessions, since asked last */
    bool is_written_all;                   /* there was no memory for the list */
    spi_kept kept;                         /* what the snapshot layer keeps of it */
    spi_output *output;                    /* NULL: the process's own streams */
    const sp_guest_mail *mail;
    void *mail_env;

    int exit_code;
    int64_t result;
    sp_error error;
    sp_guest_counters counters; /* host_ns is made of host_ticks when it is asked for */
    uint64_t host_ticks;
    unsigned slice_count; /* of the engine's ticks, as of the slice that this guest has */
};

/* An interrupt stops one computation at most; the guest hears of it once. */
typedef enum spi_interrupt { SPI_INTERRUPT_NONE, SPI_INTERRUPT_NEW, SPI_INTERRUPT_USED } spi_interrupt;

/* The memory of a guest that is restored. */
typedef struct spi_guest_first {
    uint64_t memory_bytes;             /* as large from the start */
    const spi_region_range *unwritten; /* see region/region.h */
    uint32_t unwritten_count;
    uint64_t left_bytes; /* told: of those ranges, what are not zeros */
} spi_guest_first;

/* guest.c: first is NULL for a guest whose memory is as its module has it. */
sp_status spi_guest_create(sp_module *module, const sp_guest_options *options, spi_guest_first *first, sp_guest **guest,
                           sp_error *error);

/* engine.c */
sp_status spi_engine_create(const sp_engine_options *options, const spi_engine_hooks *hooks, sp_engine **engine,
                            sp_error *error);
sp_status spi_engine_want(sp_engine *engine, spi_variant variant, sp_error *error);

/* config.c. The key names everything that decides whether compiled code fits: version, settings, processor. */
wasm_engine_t *spi_config_engine(spi_variant variant);
sp_status spi_config_check_library(sp_error *error);
extern const char *spi_config_version_symbol; /* for tests */
uint64_t spi_config_key(spi_variant variant);

/* linker.c */
sp_status spi_linker_create(sp_engine *engine, spi_variant variant, wasmtime_linker_t **linker, sp_error *error);
sp_status spi_linker_check(const sp_engine *engine, const char *name, const wasmtime_module_t *module, sp_error *error);
bool spi_linker_reads_files(const wasmtime_module_t *module);
wasm_functype_t *spi_functype_new(const char *parameters, const char *results);

/* module.c */
sp_status spi_module_want(sp_module *module, spi_variant variant, sp_error *error);

/* compile.c: from WebAssembly to a module of this engine, by way of the cache. */
sp_status spi_compile(sp_engine *engine, spi_variant variant, const char *name, const void *wasm, size_t wasm_bytes,
                      wasmtime_module_t **module, sp_module_origin *origin, sp_error *error);

/* memory.c */
void spi_memory_configure(wasm_config_t *config);
sp_status spi_memory_create(sp_guest *guest, spi_guest_first *first, sp_error *error);
void spi_memory_destroy(sp_guest *guest);
void spi_memory_hand_over(sp_guest *guest); /* whose memory this thread's next instance gets; NULL: nobody's */
bool spi_memory_contains(const sp_guest *guest, uint64_t offset, uint64_t bytes);

/* wasi.c, wasi_clock.c */
sp_status spi_wasi_create(sp_guest *guest, const sp_guest_options *options, sp_error *error);
/* At a call's start and end: the output callbacks see what came before the one, and who sees the other sees what they
 * did, without anybody's having to know how Wasmtime's threads wait for each other. */
void spi_wasi_settle(sp_guest *guest);
void spi_wasi_destroy(sp_guest *guest); /* after it nothing is written any more */
sp_status spi_wasi_define_clock(wasmtime_linker_t *linker, sp_error *error);
void spi_wasi_sleep_done(sp_guest *guest);

/* trap.c. Both take what they are given and delete it; spi_wasmtime_fail is for errors where nothing of a guest ran. */
sp_status spi_wasmtime_fail(sp_error *error, sp_status status, const char *what, wasmtime_error_t *failure);
void spi_trap_tell(sp_guest *guest, wasm_trap_t *trap, wasmtime_error_t *failure);

/* call.c */
sp_status spi_call_instantiate(sp_guest *guest, sp_error *error);
void spi_call_slice(sp_guest *guest); /* one turn; moves the guest to the queue that it belongs to afterwards */
void spi_call_drop(sp_guest *guest);  /* deletes what is in flight */
void spi_call_end(sp_guest *guest, sp_guest_state state); /* the same, and the call is over */
bool spi_call_should_stop(const sp_guest *guest, int64_t now_ns);
bool spi_call_stop_if_due(sp_guest *guest, int64_t now_ns); /* true: it has FAILED now */
void spi_call_resume(sp_guest *guest, int32_t result);      /* what it waited for is done: it is ready */
bool spi_call_is_resumed(void *guest);                      /* the continuation of every import that waits */

/* jobs.c */
void spi_jobs_begin(sp_guest *guest, int64_t now_ns);
void spi_jobs_run(sp_engine *engine, int64_t until_ns); /* long ones pause at until_ns and go on with the next run */
void spi_jobs_drop(sp_guest *guest);

/* scheduler.c */
bool spi_scheduler_is_alone(const sp_guest *guest, int64_t now_ns); /* nobody else can do anything at this moment */
void spi_scheduler_wake_sleepers(sp_engine *engine, int64_t now_ns);
int64_t spi_scheduler_next_wake_ns(const sp_engine *engine); /* INT64_MAX: nobody sleeps */

/* ticks.c */
sp_status spi_ticks_start(spi_ticks *ticks, int64_t slice_ns, sp_error *error);
void spi_ticks_run(spi_ticks *ticks, bool on);
void spi_ticks_stop(spi_ticks *ticks);

#endif
