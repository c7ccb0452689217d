/* device/backend.h - what a backend is: one constant table and the functions behind it.
 *
 * A new backend is a folder, a table like this one, a line in src/device/backends.def and the op tests passing; nothing
 * else in the tree learns its name. May include: region, os, base. Included by: src/device and the backends.
 */
#ifndef SPI_DEVICE_BACKEND_H
#define SPI_DEVICE_BACKEND_H

#include <stdbool.h>

#include "device/tape.h"
#include "samepage/device.h"

/* What the hardware and its driver take, written down from measurement and never found out by trial: on one driver a
 * refused import makes later ones fail too, on another the call never returns. src/device/link.c checks them, for every
 * backend, before the backend sees a range. */
typedef struct spi_link_rules {
    size_t align_bytes;     /* base and length of a linked range are multiples of it */
    size_t range_bytes_max; /* a longer region is linked as several ranges; 0 means no limit */
    uint32_t backings;      /* bit set of 1 << sp_backing */
    bool pins;              /* linking makes every page and holds it: what was a view of a file is a copy then */
    sp_link_kind best;      /* what a link will be */
} spi_link_rules;

/* A region linked by a device. Backends embed it as the first member of their own;
 * src/device/link.c counts references and hears of growth. */
struct spi_link {
    sp_region *region;
    sp_link_kind kind;
    uint64_t linked_bytes; /* from the region's base: all of it that was committed when last extended */
};

typedef void (*spi_progress)(void *env, uint64_t done_bytes, uint64_t total_bytes);

typedef struct spi_store spi_store;     /* weights on a device: in place, packed or uploaded */
typedef struct spi_program spi_program; /* a tape made ready for a device */

typedef struct spi_backend {
    const char *name; /* "cpu", "vulkan": the word that users type */

    /* run needs at most 256 KiB of stack with one row, whatever it calls: that may be on a guest's fiber. */
    bool runs_on_fibers;

    bool has_q8_kv; /* it takes tapes whose keys and values are Q8_0, too */

    /* Each gets the context that open returned. A failure leaves nothing behind and fills error (never NULL here) with
     * a sentence that says what to do. */

    /* Lists what can be opened. No driver or no hardware is zero devices, not an error; a failure says why none can be
     * opened though something is there. */
    sp_status (*enumerate)(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error);
    sp_status (*open)(uint32_t index, const sp_device_options *options, void **context, sp_error *error);
    void (*close)(void *context);
    bool (*is_lost)(void *context); /* nothing works any more but to let go of it, and close; NULL: never */
    void (*info)(void *context, sp_device_info *info);
    uint32_t (*rows_max)(void *context); /* of a run that models make; NULL, or 0: SPI_ROWS_MAX (model/model.h) */
    void (*rules)(void *context, spi_link_rules *rules);

    /* Links bytes 0..committed of a region, checked against the rules. extend takes in what was committed since; it may
     * be called with runs prepared but none in flight. */
    sp_status (*link)(void *context, sp_region *region, spi_link **link, sp_error *error);
    sp_status (*extend)(void *context, spi_link *link, sp_error *error);
    void (*unlink)(void *context, spi_link *link); /* waits until the device has let go */

    /* The host wrote bytes of a linked range that kernels will read: blocks that were restored, or that a guest edited.
     * A device that keeps a copy of them takes them over before its next run. NULL where kernels read the region
     * itself. */
    sp_status (*host_wrote)(void *context, spi_link *link, uint64_t offset, uint64_t bytes, sp_error *error);

    /* The region is about to be another user's: waits until the device has let go of it, and drops what the device
     * keeps of its bytes. NULL where regions are not kept (spare.h): links that do not pin memory cost too little. */
    sp_status (*forget)(void *context, spi_link *link, sp_error *error);

    /* These bytes of a linked range are what the next runs read: a device that keeps a copy of them begins to take them
     * over, and does not wait for it. Only advice. NULL as for host_wrote. */
    void (*ahead)(void *context, spi_link *link, uint64_t offset, uint64_t bytes);

    /* Makes weights usable on the device; they stay mapped until unload. progress may be NULL. Types or shapes that the
     * backend lacks are SP_UNSUPPORTED and named. */
    sp_status (*load)(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **store, sp_error *error);
    void (*unload)(void *context, spi_store *store);

    /* An op that the backend lacks is SP_UNSUPPORTED and named. The tape must outlive the program. */
    sp_status (*prepare)(void *context, spi_store *store, const spi_tape *tape, spi_program **program, sp_error *error);
    void (*discard)(void *context, spi_program *program);

    /* Runs the program and returns when KV blocks and logits can be read through the regions. (Asynchronous submission
     * comes with the discrete GPUs; callers already treat a run as something that suspends a guest.) */
    sp_status (*run)(void *context, spi_program *program, const spi_run *run, sp_error *error);

    sp_status (*matmul)(void *context, spi_link *link, const sp_matmul *args, sp_error *error);

    /* Copies rows of a scratch buffer in or out, f32 [rows][width]: for op tests and for taking hidden states out. */
    sp_status (*write_buffer)(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                              sp_error *error);
    sp_status (*read_buffer)(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                             sp_error *error);

    void (*counters)(void *context, sp_device_counters *counters); /* adds its own; linked_bytes is counted above it */
} spi_backend;

/* For src/model and src/session, which run tapes on an opened device without knowing its backend. */
const spi_backend *spi_device_backend(const sp_device *device, void **context);
spi_link *spi_device_find_link(sp_device *device, const sp_region *region); /* NULL: not linked, or lost: see link.c */

/* Whoever has things on a device beside links: a model. */
typedef struct spi_device_user {
    void (*let_go)(void *env);                           /* all of it is to be given back, if there is any */
    sp_status (*take_again)(void *env, sp_error *error); /* and made anew, on a device that was opened anew */
    void *env;
    struct spi_device_user *next;
} spi_device_user;
void spi_device_add_user(sp_device *device, spi_device_user *user);
void spi_device_remove_user(sp_device *device, spi_device_user *user);

/* After a run failed with SP_DEVICE_LOST: SP_OK if the device had been lost and was opened anew, with all that was on
 * it, so that the run can be made again; what sessions have is in their regions. SP_DEVICE_LOST: it was not lost, or
 * cannot be opened, which error says then, or does not revive now. Not to be called on a guest's fiber. */
sp_status spi_device_revive(sp_device *device, sp_error *error);
bool spi_device_is_lost(const sp_device *device);
void spi_device_may_revive(sp_device *device, bool may); /* it may from the start */

/* SP_UNSUPPORTED, with what to do, where the device does not keep keys and values in this type. */
sp_status spi_device_check_kv(const sp_device *device, sp_kv_type type, sp_error *error);

/* True if the device links memory of this backing. */
bool spi_device_takes(const sp_device *device, sp_backing backing);

/* True if pages of files in a linked region stay what they are: shared until they are written. Where a device pins
 * memory, they are copied one by one, which takes ten times as long as copying them at once. */
bool spi_device_shares_files(const sp_device *device);

/* To be called by whoever writes blocks into a region from the host's side, after it did and before the next run. The
 * region is linked and the range lies in what is. link.c */
sp_status spi_device_host_wrote(sp_device *device, const sp_region *region, uint64_t offset, uint64_t bytes,
                                sp_error *error);

/* To be called when blocks are in place that runs will read. link.c */
void spi_device_ahead(sp_device *device, const sp_region *region, uint64_t offset, uint64_t bytes);

#endif
