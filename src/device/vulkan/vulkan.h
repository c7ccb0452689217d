/* device/vulkan/vulkan.h - what the files of the Vulkan backend share.
 *
 * The way of a run: plan.c turns a spi_run into parameters (a small buffer that the host writes) and a plan (which
 * parts of the linked regions are bound where); record.c turns tape and plan into a command buffer, which stays good as
 * long as the plan does not change, so that a token of a session costs one submission and nothing else.
 *
 * Owns: everything that a context of the backend consists of. May include: region, os, base, device/backend.h,
 * device/shader_run.h.
 */
#ifndef SPI_DEVICE_VULKAN_VULKAN_H
#define SPI_DEVICE_VULKAN_VULKAN_H

#include "device/backend.h"
#include "device/shader_run.h"
#include "device/vulkan/loader.h"

typedef enum spi_vk_shader {
#define SHADER(name) SPI_VK_##name,
#include "device/vulkan/shaders.def"
#undef SHADER
    SPI_VK_SHADER_COUNT
} spi_vk_shader;

/* Bindings 1..11 of the one set that every kernel has; 0 is left to push constants, as Metal counts buffers. */
#define SPI_VK_BINDINGS   12u
#define SPI_VK_PUSH_WORDS 23u

/* Which kernels are used: plain ones, with hardly a barrier, for a software driver; or those that want subgroups. */
typedef enum spi_vk_kernels { SPI_VK_KERNELS_OWN_CHOICE, SPI_VK_KERNELS_PLAIN, SPI_VK_KERNELS_FAST } spi_vk_kernels;

/* What the adapter takes, in the form in which it is used. Tests make them smaller. */
typedef struct spi_vk_limits {
    uint64_t allocation_bytes_max; /* of one import or allocation */
    uint64_t range_bytes_max;      /* of one binding; a multiple of offset_align_bytes */
    uint64_t window_bytes_max;     /* of what is bound of a region or a weight: the same, but where a test wants less */
    uint64_t offset_align_bytes;   /* of a binding in its buffer; at least 16 */
    uint64_t expanded_bytes_max;   /* of what is expanded of weights at a time, but for the fewest rows that can be */
    uint32_t groups_x_max, groups_y_max;
    uint32_t piece_tiles_max; /* of a weight's piece; unlimited but in tests */
    uint32_t slices;          /* of a plain matmul's columns in a work group */
    spi_vk_kernels kernels;
    bool bytes;                          /* products of one row round activations to bytes */
    bool cooperative;                    /* matrices are cooperative */
    bool no_bytes, no_cooperative;       /* for tests */
    uint32_t matrix_rows_min;            /* of a product, from which on it takes tiles */
    uint32_t few_rows_min, few_rows_max; /* of a product whose weight is read as it lies, by cooperative matrices */
    uint32_t share_steps_min;            /* of a product's columns, for a work group */
    uint32_t ranges;                     /* of a session's tokens in a decode's attention; 0: by the number of rows */
    uint32_t copied_rows_min;            /* of k and v, that go over the bus later */
    bool relay, no_relay;                /* kernels of a token wait for each other by themselves: relay.c; for tests */
    uint32_t relay_excess;               /* for tests: kernels wait for so many more than there are */
    bool unmapped; /* the host does not reach the device's own memory: it is filled through a window */
} spi_vk_limits;

typedef struct spi_vk_buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t bytes;
    void *mapped; /* NULL if the host cannot reach it */
} spi_vk_buffer;

typedef struct spi_vk_sets {
    VkDescriptorPool *pools;
    size_t count, capacity;
    size_t used; /* sets handed out */
} spi_vk_sets;

/* A kernel's constants for one pipeline of it; 0: it does not use them, or a choice for all of them. */
typedef struct spi_vk_variant {
    uint32_t rows;        /* of a weight, side by side in a subgroup of `row`; slices of a row in the others' groups */
    uint32_t invocations; /* of a work group */
    uint32_t norm;        /* 1: one of x is done on the way */
    uint32_t fours;       /* of x in shared memory */
    uint32_t batch;       /* rows of x */
    uint32_t partials;    /* sums in shared memory */
} spi_vk_variant;

typedef struct spi_vk_pipelines { /* of one kernel, as they were needed */
    struct {
        spi_vk_variant variant;
        VkPipeline pipeline;
    } * items;
    size_t count, capacity;
} spi_vk_pipelines;

/* profile.c: stamps of a run that is recorded while there is a pool. */
#define SPI_VK_STAMPS 1024u
typedef struct spi_vk_profile {
    VkQueryPool pool; /* NULL: nobody wants any */
    uint32_t count;
    uint32_t ops[SPI_VK_STAMPS]; /* the op behind each stamp */
} spi_vk_profile;

typedef struct spi_vk {
    spi_vk_instance instance;
    const spi_vk_functions *call; /* &instance.call */
    spi_vk_adapter adapter;
    sp_device_info info;
    spi_vk_limits limits;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue;
    VkCommandPool commands;
    VkCommandBuffer once; /* for copies and guests' products */
    spi_vk_sets once_sets;
    VkFence fence;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    size_t cache_bytes; /* that came from disk */
    bool cache_grew;    /* pipelines were made since it was read or written */
    spi_vk_pipelines pipelines[SPI_VK_SHADER_COUNT];
    uint64_t generation; /* counts imports: a recording made before the last one is stale */
    uint64_t runs, copied_bytes;
    spi_vk_profile profile;
    bool lost; /* after VK_ERROR_DEVICE_LOST nothing is submitted any more */
} spi_vk;

/* memory.c: where a buffer of the device's own lies. */
typedef enum spi_vk_place {
    SPI_VK_LOCAL,     /* fast for the device; mapped only where that costs nothing (software, integrated) */
    SPI_VK_STAGING,   /* the host's, coherent and mapped: copies */
    SPI_VK_PARAMETERS /* coherent and mapped, near the device where there is such memory: written by the host, not read */
} spi_vk_place;

sp_status spi_vk_buffer_create(spi_vk *vk, uint64_t bytes, spi_vk_place place, const char *what, spi_vk_buffer *buffer,
                               sp_error *error);
sp_status spi_vk_buffer_import(spi_vk *vk, void *address, uint64_t bytes, spi_vk_buffer *buffer, sp_error *error);
void spi_vk_buffer_destroy(spi_vk *vk, spi_vk_buffer *buffer); /* a zeroed one is allowed */

/* submit.c: one command buffer at a time; returns when the device is done. */
sp_status spi_vk_begin(spi_vk *vk, VkCommandBuffer commands, sp_error *error);
void spi_vk_abandon(spi_vk *vk, VkCommandBuffer commands);                      /* so that it can be begun again */
sp_status spi_vk_submit(spi_vk *vk, VkCommandBuffer commands, sp_error *error); /* ends, submits, waits */
/* took_ns: what it took before and what it took now, or NULL; 0: not known. */
sp_status spi_vk_submit_again(spi_vk *vk, VkCommandBuffer commands, int64_t *took_ns, sp_error *error);
sp_status spi_vk_copy(spi_vk *vk, VkBuffer from, VkBuffer to, const VkBufferCopy *copies, uint32_t count,
                      sp_error *error);
sp_status spi_vk_zero(spi_vk *vk, const spi_vk_buffer *buffers, uint32_t count, sp_error *error);

sp_status spi_vk_profile_start(spi_vk *vk, sp_error *error);
void spi_vk_profile_stop(spi_vk *vk);
void spi_vk_profile_begin(spi_vk *vk, VkCommandBuffer commands);
void spi_vk_profile_stamp(spi_vk *vk, VkCommandBuffer commands, uint32_t op_index);
sp_status spi_vk_profile_read(spi_vk *vk, double *us, sp_error *error); /* since the first; [profile.count] */

/* encode.c: dispatches. */
typedef struct spi_vk_binding {
    VkBuffer buffer; /* VK_NULL_HANDLE: the kernel does not use it */
    uint64_t offset, range;
} spi_vk_binding;

#define SPI_VK_Q8_COLUMNS 64u /* of keys and values in Q8_0: a word has the scales of so many */

typedef struct spi_vk_dispatch {
    spi_vk_shader shader;
    spi_vk_variant variant;
    uint32_t groups_x, groups_y, groups_z; /* groups_z: 0 is 1 */
    uint32_t signals; /* what it adds to its counter when all is written; 0: it takes no part in a relay */
    uint32_t push[SPI_VK_PUSH_WORDS];
    spi_vk_binding bindings[SPI_VK_BINDINGS];
} spi_vk_dispatch;

sp_status spi_vk_encode(spi_vk *vk, VkCommandBuffer commands, spi_vk_sets *sets, const spi_vk_dispatch *dispatch,
                        sp_error *error);
void spi_vk_encode_barrier(spi_vk *vk, VkCommandBuffer commands);                           /* between dispatches */
void spi_vk_encode_zero(spi_vk *vk, VkCommandBuffer commands, const spi_vk_buffer *buffer); /* and a barrier */
void spi_vk_encode_host_barrier(spi_vk *vk, VkCommandBuffer commands);                      /* behind the last one */
sp_status spi_vk_sets_reset(spi_vk *vk, spi_vk_sets *sets, sp_error *error);
void spi_vk_sets_destroy(spi_vk *vk, spi_vk_sets *sets);
uint32_t spi_vk_float_word(float value); /* the bits, for push words */
static inline spi_vk_binding spi_vk_bind(const spi_vk_buffer *buffer) {
    return (spi_vk_binding){buffer->handle, 0, buffer->bytes};
}

/* cache.c */
sp_status spi_vk_cache_open(spi_vk *vk, sp_error *error);
void spi_vk_cache_save(spi_vk *vk); /* if there is something new; never an error */

/* pipeline.c */
sp_status spi_vk_layouts_create(spi_vk *vk, sp_error *error);
void spi_vk_layouts_destroy(spi_vk *vk); /* and all pipelines */
sp_status spi_vk_pipeline_need(spi_vk *vk, spi_vk_shader shader, spi_vk_variant variant, VkPipeline *pipeline,
                               sp_error *error);

/* Bytes [first, end), and a set of them: sorted, apart. */
typedef struct spi_vk_range {
    uint64_t first, end;
} spi_vk_range;

typedef struct spi_vk_range_set {
    spi_vk_range *ranges;
    size_t count, capacity;
} spi_vk_range_set;

/* link.c. A region is one import as long as the driver's limits allow that, else several of chunk_bytes. On a device
 * with memory of its own kernels read KV blocks there: see mirror.c. */
typedef struct spi_vk_link {
    spi_link base;
    spi_vk_buffer *chunks, *mirrors; /* mirrors: as many, as large; NULL as long as no KV was used, or for good */
    spi_vk_range_set valid;          /* what the mirrors hold */
    spi_vk_range_set written;        /* what the host wrote since, as far as it said so */
    uint32_t chunk_count; /* 0: an import failed when the region grew, and the old one could not be restored */
    uint64_t chunk_bytes, bytes;
} spi_vk_link;

/* A part of a region as it can be bound. */
typedef struct spi_vk_window {
    spi_vk_binding binding;
    VkBuffer mirror;     /* of binding.buffer, at the same offsets; or NULL */
    uint64_t first_byte; /* of the region, at the binding's start */
} spi_vk_window;

/* The widest window that starts at `offset` (a little before it, where the driver aligns) and holds at least `bytes`.
 * *bytes_held says how many there are behind offset. False if they are not in one window. */
bool spi_vk_link_window(const spi_vk *vk, const spi_link *link, uint64_t offset, uint64_t bytes, spi_vk_window *window,
                        uint64_t *bytes_held);

sp_status spi_vk_link_region(void *context, sp_region *region, spi_link **link, sp_error *error);
sp_status spi_vk_link_extend(void *context, spi_link *link, sp_error *error);
void spi_vk_link_remove(void *context, spi_link *link);
sp_status spi_vk_link_forget(void *context, spi_link *link, sp_error *error);

/* mirror.c */
/* Makes a link's mirrors if need be, copies to them what of [first, valid_end) they lack, and what the host said it
 * wrote up to end; and counts all of [first, end) as theirs from now on: kernels write the rest behind valid_end. No
 * effect where the device reads the region itself. */
sp_status spi_vk_mirror_cover(spi_vk *vk, spi_link *link, uint64_t first, uint64_t valid_end, uint64_t end,
                              sp_error *error);
sp_status spi_vk_mirror_host_wrote(void *context, spi_link *link, uint64_t offset, uint64_t bytes, sp_error *error);
void spi_vk_mirror_drop(spi_vk *vk, spi_vk_link *link);

/* product.c: the guests' matmul. */
sp_status spi_vk_product(void *context, spi_link *link, const sp_matmul *args, sp_error *error);

/* repack.c: weights in the order in which kernels read them. Rows stand in tiles of 32 (1 for a single row); a tile is
 * [unit][row][16 bytes], so that neighbouring invocations read neighbouring bytes, and the scales and high bits of the
 * quantised types lie apart as [step][word][row][4 bytes]. A step is what a kernel takes at once: one unit of a plain
 * type, 32 to 256 elements of the others. What lies behind the last column or row is zero. The numbers are TYPE in
 * shaders/weights.glsl, which says what a step's words are, and the order is that of cmake/generated/shaders.cmake. */
typedef enum spi_vk_type {
    SPI_VK_F32,
    SPI_VK_F16,
    SPI_VK_BF16,
    SPI_VK_Q8_0,
    SPI_VK_Q4_0,
    SPI_VK_Q4_1,
    SPI_VK_Q5_0,
    SPI_VK_Q5_1,
    SPI_VK_IQ4_NL,
    SPI_VK_MXFP4,
    SPI_VK_Q2_K,
    SPI_VK_Q3_K,
    SPI_VK_Q4_K,
    SPI_VK_Q5_K,
    SPI_VK_Q6_K,
    SPI_VK_IQ4_XS,
    SPI_VK_AFFINE2,
    SPI_VK_AFFINE3,
    SPI_VK_AFFINE4,
    SPI_VK_AFFINE5,
    SPI_VK_AFFINE6,
    SPI_VK_AFFINE8
} spi_vk_type;

typedef struct spi_vk_packing {
    spi_vk_type type;
    uint32_t tile_rows;
    uint32_t steps; /* of a row */
    uint32_t units; /* of a row */
    uint64_t tile_bytes, tile_scale_bytes;
    uint32_t step_words; /* of a step: scales and high bits */
    uint32_t affine;     /* how scales stand in them: shaders/weights_affine.glsl */
} spi_vk_packing;

#define SPI_VK_TILE_ROWS 32u

bool spi_vk_packing_of(const spi_tensor *tensor, spi_vk_packing *packing);
void spi_vk_repack(const spi_vk_packing *packing, const spi_tensor *tensor, uint32_t tile, void *units, void *scales);

/* repack_steps.c: one step of a quantised type taken apart. */
#define SPI_VK_STEP_ELEMENTS_MAX 256u
#define SPI_VK_SCALE_WORDS_MAX   5u

typedef struct spi_vk_step {
    uint8_t
        quants[SPI_VK_STEP_ELEMENTS_MAX]; /* in the order of the row, without the offset that the kernel subtracts */
    uint32_t words[SPI_VK_SCALE_WORDS_MAX];
} spi_vk_step;

/* How each quantised type is taken: `low` bits of an element stand in units, `high` bits in words behind the scales. */
typedef struct spi_vk_format {
    sp_dtype dtype;
    uint32_t step_elements, low, high;
    uint32_t scale_words;                                /* of a step, before the high bits; affine types: 0 */
    void (*read)(const void *blocks, spi_vk_step *step); /* a step's blocks; NULL for plain and affine types */
} spi_vk_format;
extern const spi_vk_format spi_vk_formats[]; /* by spi_vk_type */
#define SPI_VK_TYPE_COUNT (SPI_VK_AFFINE8 + 1)

/* weights.c: a tensor is cut into pieces of whole tiles that can be bound. */
typedef struct spi_vk_piece {
    spi_vk_binding units, scales;
    uint32_t row_first, row_count;
} spi_vk_piece;

typedef struct spi_vk_tensor {
    spi_vk_packing packing;
    spi_vk_piece *pieces;
    uint32_t piece_count;
} spi_vk_tensor;

struct spi_store {
    spi_tensor *sources; /* a copy of the array; names and bytes are borrowed */
    spi_weights weights;
    spi_vk_tensor *tensors;
    spi_vk_buffer *slabs;
    uint32_t slab_count;
};

sp_status spi_vk_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **store, sp_error *error);
void spi_vk_unload(void *context, spi_store *store);

/* What the parameters have between outputs and tables. */
#define SPI_VK_TILE_WORDS 2u /* first row, how many: rows of one session that attention takes together */

/* Rows (or outputs) that are next to each other and whose memory is bound by one window. A session longer than a window
 * has several spans, each with some of its blocks. */
typedef struct spi_vk_span {
    spi_vk_binding binding; /* what kernels read: the mirror, where there is one */
    VkBuffer host;          /* KV only: the region, if it is another buffer; at the same offset */
    uint32_t first, count;
    uint32_t block_first, block_end; /* KV only */
    uint32_t tile_first, tile_count; /* KV only: of its rows' tiles */
    uint32_t base_word;              /* KV only: added to the row's own */
    uint32_t flags;                  /* KV only: SPI_SHADER_SPAN_* */
} spi_vk_span;

typedef struct spi_vk_plan {
    uint64_t generation;
    uint32_t row_count, out_count;
    uint32_t decode; /* every segment has one row */
    uint32_t ranges; /* of a session's tokens, for attention_decode */
    uint32_t tile_count;
    spi_vk_span *kv, *outs;
    size_t kv_count, kv_capacity, out_span_count, out_capacity;
} spi_vk_plan;

/* A command buffer and what it is good for. */
typedef struct spi_vk_recording {
    VkCommandBuffer commands;
    spi_vk_sets sets;
    spi_vk_plan plan; /* row_count is 0: nothing is recorded */
    uint64_t used;    /* the run that used it last */
    int64_t took_ns;  /* that run */
} spi_vk_recording;
#define SPI_VK_RECORDINGS 8u

struct spi_program {
    const spi_store *store;
    const spi_tape *tape;
    spi_vk_buffer *buffers; /* the tape's, f32 [rows_max][stride of width] */
    spi_vk_buffer parameters;
    spi_vk_buffer state; /* attention's running maximum, sum and output between the spans of one session */
    uint32_t rows_word, outs_word, tiles_word;
    uint32_t tile_rows;         /* of a tile of attention; 0: the tape's heads have no kernel for that */
    spi_rotations rotations;    /* their places: words in the parameters */
    uint32_t *turned;           /* of each row of their tables: the position that it is for, and one; 0: none yet */
    spi_vk_buffer halves;       /* x of a product of many rows as f16 */
    spi_vk_buffer factors;      /* each row's factor of that; then those of the gate's rows */
    spi_vk_buffer expanded[2];  /* parts of such a product's weight as f16 */
    spi_vk_buffer gated;        /* what the gate's two products leave for the next, as f16 */
    spi_vk_buffer tops;         /* bounds of weights' rows for that, by op */
    spi_vk_buffer parts;        /* what ranges of attention leave to be merged, and shares of products */
    spi_vk_buffer counters;     /* of a relay's steps */
    spi_vk_buffer late;         /* not zero: a kernel waited in vain */
    spi_shader_out *out_places; /* of the run's outputs */
    spi_vk_plan plan;           /* of this run */
    spi_vk_recording recordings[SPI_VK_RECORDINGS];
    uint64_t runs;
};

/* program.c */
sp_status spi_vk_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **program, sp_error *error);
void spi_vk_discard(void *context, spi_program *program);
sp_status spi_vk_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                              sp_error *error);
sp_status spi_vk_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                             sp_error *error);

/* plan.c, record.c */
sp_status spi_vk_plan_run(spi_vk *vk, spi_program *program, const spi_run *run, sp_error *error);
bool spi_vk_plan_equal(const spi_vk_plan *a, const spi_vk_plan *b);
/* Compiles the kernels that runs of the tape will want, so that no run has to wait for a compiler. */
sp_status spi_vk_record_dry(spi_vk *vk, spi_program *program, sp_error *error);
sp_status spi_vk_run(void *context, spi_program *program, const spi_run *run, sp_error *error);

/* What dispatches read and write, a bit each: scratch buffers (the rare 57th shares a bit with the first), KV,
 * logits. */
typedef struct spi_vk_access {
    uint64_t reads, writes;
} spi_vk_access;
#define SPI_VK_BUFFER_BITS  56u
#define SPI_VK_GATED_BIT    ((uint64_t)1 << 56)
#define SPI_VK_EXPANDED_BIT ((uint64_t)1 << 57) /* and the next one */
#define SPI_VK_HALVES_BIT   ((uint64_t)1 << 59)
#define SPI_VK_KV_BIT       ((uint64_t)1 << 60)
#define SPI_VK_LOGITS_BIT   ((uint64_t)1 << 61)
#define SPI_VK_STATE_BIT    ((uint64_t)1 << 62)
#define SPI_VK_PARTS_BIT    ((uint64_t)1 << 63)
static inline uint64_t spi_vk_bit(uint32_t buffer) {
    return buffer == SPI_NONE ? 0 : (uint64_t)1 << buffer % SPI_VK_BUFFER_BITS;
}

/* relay.c: how a dispatch comes behind those that it depends on. */
#define SPI_VK_RELAY_COUNTERS 1024u
#define SPI_VK_RELAY_WORD     20u /* of the push words: where to wait, for how many, where to add */
typedef struct spi_vk_relay {
    bool on;
    bool wanted;                /* the next dispatch has to come behind those since the last step */
    bool broken;                /* one of those does not signal */
    uint32_t step, signals;     /* the counter of dispatches since the last step, and what they add to it */
    uint32_t wait_at, wait_for; /* what all dispatches of this step wait for; wait_for is 0: there was a barrier */
} spi_vk_relay;

/* A product whose groups share its columns: shares.c. */
typedef struct spi_vk_shared {
    const spi_op *op; /* NULL: none */
    uint32_t shares, factors_first;
    uint32_t stride, rows; /* of a share's sums */
} spi_vk_shared;

/* ops.c: the dispatches of each op. */
typedef struct spi_vk_recorder {
    spi_vk *vk;
    spi_program *program;
    const spi_vk_plan *plan;
    VkCommandBuffer commands;
    spi_vk_sets *sets;
    spi_vk_access since; /* the last barrier */
    spi_vk_relay *relay;
    uint32_t op;          /* being recorded */
    uint32_t expanded;    /* the one that parts are expanded to next */
    const spi_op *stored; /* a KV_STORE whose rows have still to be copied to the region; or NULL */
    spi_vk_shared shared; /* a product whose groups' sums have still to be added up, if there is one */
    bool dry;             /* only pipelines are made */
    uint32_t rows;        /* of the ops from here on: the run's, behind GATHER the outputs */
    sp_error *error;
} spi_vk_recorder;
void spi_vk_order(spi_vk_recorder *recorder, spi_vk_access next); /* a barrier, if what follows needs one */
spi_vk_access spi_vk_op_access(const spi_op *op);
sp_status spi_vk_op_record(spi_vk_recorder *recorder, uint32_t op_index);
/* Two ROPE and the KV_STORE behind them as one, if no row goes to a region by itself. */
bool spi_vk_turns(const spi_vk_recorder *recorder, uint32_t index);
sp_status spi_vk_turned_record(const spi_vk_recorder *recorder, uint32_t index);
/* An ATTENTION; to_halves: for the products behind, which only some kernels can. */
bool spi_vk_attends_to_halves(const spi_vk_recorder *recorder);
sp_status spi_vk_attention_record(spi_vk_recorder *recorder, const spi_op *op, bool to_halves);
uint32_t spi_vk_tile_rows(const spi_vk *vk, const spi_tape *tape);
sp_status spi_vk_copies_record(spi_vk_recorder *recorder); /* of `stored`, if there is one */

/* One MATMUL or HEAD with what is fused to it; norm, second (the gate's other product) and gate may be NULL. */
typedef struct spi_vk_product_ops {
    const spi_op *op, *norm, *second, *gate;
} spi_vk_product_ops;
sp_status spi_vk_products_record(spi_vk_recorder *recorder, const spi_vk_product_ops *ops);

/* matrices.c: products of many rows, ops [begin, end) of the tape, all of one x. */
typedef struct spi_vk_x {
    uint32_t src;     /* a buffer */
    const spi_op *by; /* a NORM or GATE of it that is done on the way, or NULL */
    bool is_halves;   /* attention has left it as f16 */
    bool is_gated;    /* gated.c has, in a place of its own */
} spi_vk_x;
bool spi_vk_takes_halves(const spi_vk_recorder *recorder, const spi_op *product);
bool spi_vk_takes_few(const spi_vk *vk, uint32_t rows); /* x side by side, the weight as it lies: few.comp */
sp_status spi_vk_matrices_record(spi_vk_recorder *recorder, uint32_t begin, uint32_t end, const spi_vk_x *x);
uint64_t spi_vk_expanded_bytes(const spi_vk *vk, uint32_t rows, uint32_t columns, uint32_t weights); /* of a buffer */

uint64_t spi_vk_shares_bytes(const spi_vk *vk); /* shares.c: of sums that are not yet added up */

/* gated.c: the gate's two products of many rows, op `begin` and the next, behind a norm. */
bool spi_vk_takes_gated(const spi_vk_recorder *recorder, uint32_t begin);
sp_status spi_vk_gated_record(spi_vk_recorder *recorder, uint32_t begin, const spi_op *norm);
sp_status spi_vk_bounds_find(spi_vk *vk, spi_program *program, sp_error *error);
sp_status spi_vk_dispatch_record(const spi_vk_recorder *recorder, const spi_vk_dispatch *dispatch);
void spi_vk_relay_order(const spi_vk_recorder *recorder); /* the next dispatch comes behind all before it */
void spi_vk_relay_dispatch(const spi_vk_recorder *recorder, spi_vk_dispatch *dispatch); /* it is next */
bool spi_vk_is_fast(const spi_vk *vk);
static inline uint32_t spi_vk_group_max(const spi_vk *vk) { /* invocations side by side */
    const VkPhysicalDeviceLimits *limits = &vk->adapter.limits;
    return limits->maxComputeWorkGroupInvocations < limits->maxComputeWorkGroupSize[0]
               ? limits->maxComputeWorkGroupInvocations
               : limits->maxComputeWorkGroupSize[0];
}

/* products.c: runs of so few rows have kernels that take them at once, and what is fused to a product of one row. */
#define SPI_VK_BATCH_MAX 5u

/* fuse.c: ops `index` and the next are the gate's two products, and the gate is behind them. */
bool spi_vk_is_gated(const spi_program *program, uint32_t index);
/* Op `index` is a norm whose products are of many rows: halves.comp has each of its rows whole. */
bool spi_vk_norm_makes_halves(const spi_vk_recorder *recorder, uint32_t index);
/* Several ops from op_index on as one step. *taken: how many; 0 if nothing can be fused here. */
sp_status spi_vk_fused_record(spi_vk_recorder *recorder, uint32_t op_index, uint32_t *taken);
#define SPI_VK_RANGES_MAX 32u
#define SPI_VK_TILE_MAX   128u /* rows of x in a tile of a product */

/* Rows of a panel of x as f16: tiles reach behind the last row. */
static inline uint32_t spi_vk_panel_rows(const spi_program *program) {
    return program->tape->rows_max + SPI_VK_TILE_MAX;
}

/* Test hook: limits of contexts that are opened from now on, where they are smaller than the device's own; slices and
 * unmapped replace its choice. Zero fields change nothing, NULL turns it off. */
void spi_vk_test_limits(const spi_vk_limits *limits);

#endif
