/* device/metal/metal.h - what the files of the Metal backend share.
 *
 * Memory is one here, so nothing is uploaded: regions and mapped model files become buffers where they lie (map.c), and
 * kernels read weights in the blocks that the file has (shaders/metal). A command buffer can be used once on Metal, so
 * a run is encoded each time: plan.c finds where its KV and logits are bound and writes the parameters that kernels
 * read, ops.c encodes, submit.c commits and waits.
 *
 * Owns: everything that a context of the backend consists of.
 * May include: region, os, base, device/backend.h, device/shader_run.h.
 */
#ifndef SPI_DEVICE_METAL_METAL_H
#define SPI_DEVICE_METAL_METAL_H

#include "device/backend.h"
#include "device/metal/objc.h"
#include "device/shader_run.h"

typedef enum spi_mt_kernel {
#define KERNEL(name) SPI_MT_KERNEL_##name,
#include "device/metal/kernels.def"
    SPI_MT_KERNEL_COUNT
} spi_mt_kernel;

/* A kernel's text and its threads in a threadgroup, as cmake/generated/metal.cmake made them. */
typedef struct spi_mt_source {
    const char *name, *text;
    uint32_t threads;
} spi_mt_source;
extern const spi_mt_source spi_mt_sources[SPI_MT_KERNEL_COUNT];

#define SPI_MT_TYPES      49u /* pipelines of a kernel, by spi_mt_type_index; 0 for kernels without weights */
#define SPI_MT_BINDINGS   8u  /* buffers 1..7; 0 holds a kernel's push words */
#define SPI_MT_PUSH_WORDS 16u

/* What the device takes, in the form in which it is used. Tests make them smaller. */
typedef struct spi_mt_limits {
    uint64_t buffer_bytes_max; /* of a buffer over memory, a multiple of 32 KiB */
    uint64_t own_bytes_max;    /* of a buffer of the device's own */
    uint64_t piece_bytes_max;  /* of a weight that a dispatch takes: offsets in it are 32-bit numbers of bytes */
    uint64_t slab_bytes;       /* of a buffer for weights that cannot be used in place */
} spi_mt_limits;

typedef struct spi_mt {
    spi_mt_runtime objc;
    spi_mt_id device, queue, event;
    spi_mt_id residency; /* NULL before macOS 15: then a command buffer makes resident what is bound to it */
    spi_mt_id archive;   /* NULL: none could be opened */
    char *archive_path;
    bool archive_found; /* it was there at the start */
    bool archive_grew;
    sp_device_info info;
    spi_mt_limits limits;
    spi_mt_id libraries[SPI_MT_KERNEL_COUNT];               /* compiled texts */
    spi_mt_id pipelines[SPI_MT_KERNEL_COUNT][SPI_MT_TYPES]; /* made when first needed */
    uint64_t event_value;                                   /* that the last submission signals */
    uint64_t runs, in_place_bytes, own_bytes;               /* the last two: of weights that are loaded */
    bool lost;
} spi_mt;

/* Fails with what Metal says in `error`, an NSError or NULL. */
sp_status spi_mt_fail(const spi_mt *mt, sp_status status, spi_mt_id ns_error, const char *what, sp_error *error);

/* memory.c: buffers of the device's own. They read as zero. */
typedef struct spi_mt_buffer {
    spi_mt_id handle;
    void *contents;
    uint64_t bytes;
} spi_mt_buffer;

sp_status spi_mt_buffer_create(spi_mt *mt, uint64_t bytes, const char *what, spi_mt_buffer *buffer, sp_error *error);
void spi_mt_buffer_destroy(spi_mt *mt, spi_mt_buffer *buffer); /* a zeroed one is allowed */
void spi_mt_buffer_release(spi_mt *mt, spi_mt_id handle);      /* NULL is allowed */
void spi_mt_residency_create(spi_mt *mt);
void spi_mt_residency_add(spi_mt *mt, spi_mt_id buffer);

/* map.c: memory of somebody else's as buffers, without a copy. Where it is longer than a buffer may be, buffers overlap
 * by half, so that whatever is no longer than half a buffer lies in one of them. */
typedef struct spi_mt_map {
    uint8_t *base;
    uint64_t bytes;
    uint64_t buffer_bytes, step_bytes;
    spi_mt_id *buffers;
    uint32_t buffer_count;
} spi_mt_map;

typedef struct spi_mt_binding {
    spi_mt_id buffer; /* NULL: the kernel does not use it */
    uint64_t offset;
} spi_mt_binding;

sp_status spi_mt_map_open(spi_mt *mt, void *base, uint64_t bytes, spi_mt_map *map, sp_error *error);
void spi_mt_map_close(spi_mt *mt, spi_mt_map *map); /* a zeroed one is allowed */

/* Where the bytes from `offset` on are bound, and how many follow in that buffer: at least half a buffer, or what there
 * is. 0: offset lies behind the end. */
uint64_t spi_mt_map_find(const spi_mt_map *map, uint64_t offset, spi_mt_binding *binding);
/* Whether `bytes` from there on are in one buffer. */
bool spi_mt_map_holds(const spi_mt_map *map, uint64_t offset, uint64_t bytes, spi_mt_binding *binding);

/* link.c */
typedef struct spi_mt_link {
    spi_link base;
    spi_mt_map map;
} spi_mt_link;

sp_status spi_mt_link_region(void *context, sp_region *region, spi_link **link, sp_error *error);
sp_status spi_mt_link_extend(void *context, spi_link *link, sp_error *error);
void spi_mt_link_remove(void *context, spi_link *link);

/* pipeline.c, archive.c */
static inline uint32_t spi_mt_type_index(sp_dtype type) { /* GGUF's numbers, then affine types by their bits */
    return spi_affine_bits(type) ? 40u + spi_affine_bits(type) : (uint32_t)type;
}
sp_status spi_mt_pipeline_need(spi_mt *mt, spi_mt_kernel kernel, sp_dtype type, sp_error *error);
void spi_mt_pipelines_destroy(spi_mt *mt);
void spi_mt_archive_open(spi_mt *mt);
void spi_mt_archive_use(spi_mt *mt, spi_mt_id descriptor);
void spi_mt_archive_keep(spi_mt *mt, spi_mt_id descriptor);
void spi_mt_archive_close(spi_mt *mt);

/* submit.c: one command buffer at a time, in a pool of its own. */
typedef struct spi_mt_work {
    spi_mt *mt;
    void *pool;
    spi_mt_id commands, encoder, pipeline;
    sp_error *error;
} spi_mt_work;

sp_status spi_mt_begin(spi_mt *mt, spi_mt_work *work, sp_error *error);
void spi_mt_abandon(spi_mt_work *work);
sp_status spi_mt_submit(spi_mt_work *work); /* returns when the device is done */

typedef struct spi_mt_dispatch {
    spi_mt_kernel kernel;
    sp_dtype type; /* of weights; 0 for kernels without */
    uint32_t groups_x, groups_y;
    uint32_t push[SPI_MT_PUSH_WORDS];
    spi_mt_binding bindings[SPI_MT_BINDINGS];
} spi_mt_dispatch;

/* Dispatches run at once until a barrier stands between them. */
sp_status spi_mt_encode(spi_mt_work *work, const spi_mt_dispatch *dispatch);
void spi_mt_encode_barrier(spi_mt_work *work);
uint32_t spi_mt_float_word(float value);
static inline spi_mt_binding spi_mt_bind(const spi_mt_buffer *buffer) {
    return (spi_mt_binding){buffer->handle, 0};
}

/* product.c: the guests' matmul. */
sp_status spi_mt_product(void *context, spi_link *link, const sp_matmul *args, sp_error *error);

/* weights.c: a tensor in pieces of whole rows that a dispatch can take. */
typedef struct spi_mt_part {
    spi_mt_binding binding;
    uint32_t byte_first; /* in its binding: bindings begin at multiples of 16 */
} spi_mt_part;

typedef struct spi_mt_piece {
    spi_mt_part blocks;
    spi_mt_part scales, biases; /* of affine types */
    uint32_t row_first, row_count;
} spi_mt_piece;

typedef struct spi_mt_tensor {
    spi_mt_piece *pieces;
    uint32_t piece_count, row_bytes;
    uint32_t affine; /* of an affine type: what kernels call so */
} spi_mt_tensor;

struct spi_store {
    spi_tensor *sources; /* a copy of the array; names and bytes are borrowed */
    spi_weights weights;
    spi_mt_tensor *tensors;
    spi_mt_map *maps; /* of the model file */
    size_t map_count, map_capacity;
    spi_mt_buffer *slabs;
    size_t slab_count, slab_capacity;
    uint64_t in_place_bytes, own_bytes;
};

sp_status spi_mt_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **store, sp_error *error);
void spi_mt_unload(void *context, spi_store *store);

/* Rows (or outputs) that are next to each other and whose memory is in one buffer. A session longer than a buffer has
 * several spans, each with some of its blocks. */
typedef struct spi_mt_span {
    spi_mt_binding binding;
    uint32_t first, count;
    uint32_t block_first, block_end; /* KV only */
    uint32_t base_word;              /* KV only: added to the row's own */
    uint32_t flags;                  /* KV only: SPI_SHADER_SPAN_* */
} spi_mt_span;

typedef struct spi_mt_plan {
    uint32_t row_count, out_count;
    spi_mt_span *kv, *outs;
    size_t kv_count, kv_capacity, out_span_count, out_capacity;
} spi_mt_plan;

struct spi_program {
    const spi_store *store;
    const spi_tape *tape;
    spi_mt_buffer *buffers; /* the tape's, f32 [rows_max][stride of width] */
    spi_mt_buffer parameters;
    spi_mt_buffer state; /* attention's running maximum, sum and output between the spans of one session */
    uint32_t rows_word, outs_word;
    spi_rotations rotations;    /* their places: words in the parameters */
    spi_shader_out *out_places; /* of the run's outputs */
    spi_mt_plan plan;
};

/* program.c */
sp_status spi_mt_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **program, sp_error *error);
void spi_mt_discard(void *context, spi_program *program);
sp_status spi_mt_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                              sp_error *error);
sp_status spi_mt_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                             sp_error *error);

/* plan.c, run.c */
sp_status spi_mt_plan_run(spi_program *program, const spi_run *run, sp_error *error);
sp_status spi_mt_run(void *context, spi_program *program, const spi_run *run, sp_error *error);

/* ops.c: which kernel an op needs, and its dispatches. */
typedef struct spi_mt_recorder {
    spi_mt_work *work;
    spi_program *program;
    uint32_t rows; /* of the ops from here on: the run's, behind GATHER the outputs */
} spi_mt_recorder;
spi_mt_kernel spi_mt_op_kernel(const spi_program *program, const spi_op *op, uint32_t rows);
sp_dtype spi_mt_op_type(const spi_program *program, const spi_op *op);
sp_status spi_mt_op_record(spi_mt_recorder *recorder, uint32_t op_index);

/* Test hook: limits of contexts that are opened from now on, where they are smaller than the device's own. Zero fields
 * change nothing, NULL turns it off. */
void spi_mt_test_limits(const spi_mt_limits *limits);

#endif
