/* device/cuda/cuda.h - what the files of the CUDA backend share.
 *
 * The way of a run: run.c writes a run's parameters (places of KV rows and logits, rotations) into pinned memory, from
 * which the first kernel fetches them; then one kernel for each op of the tape goes into a stream, and the host waits
 * for the last. KV blocks lie in the card's own memory and kernels write each new row to the guest's memory as well
 * (link.c); logits are written to the guest's memory only.
 *
 * Owns: everything that a context of the backend consists of. May include: region, os, base, device/backend.h.
 */
#ifndef SPI_DEVICE_CUDA_CUDA_H
#define SPI_DEVICE_CUDA_CUDA_H

#include "device/backend.h"
#include "device/cuda/driver.h"
#include "device/cuda/kernels/args.h"
#include "device/cuda/kernels/decode_args.h"
#include "device/cuda/kernels/wide_args.h"
#include "device/rotation.h"

typedef enum spi_cu_module_name {
#define MODULE(name) SPI_CU_MODULE_##name,
#define KERNEL(module, name)
#include "device/cuda/kernels.def"
    SPI_CU_MODULE_COUNT
} spi_cu_module_name;

typedef enum spi_cu_kernel {
#define MODULE(name)
#define KERNEL(module, name) SPI_CU_##name,
#include "device/cuda/kernels.def"
    SPI_CU_KERNEL_COUNT
} spi_cu_kernel;

/* Tests change what a card would choose. */
typedef struct spi_cu_choices {
    bool in_place;         /* kernels read KV in the guest's memory, as on a card that shares it */
    uint64_t window_bytes; /* of pinned memory through which weights go */
    uint64_t page_bytes;   /* at least so much of a mirror is backed at once */
    bool unmirrored;       /* for measuring: new rows are not written to the guest */
    bool apart;            /* a token's blocks are started like any kernel's */
    bool op_by_op;         /* no kernel that does more than an op */
    uint32_t flight_bytes, flight_most_bytes, stage_bytes, split_blocks; /* decode*.c */
} spi_cu_choices;

typedef struct spi_cu {
    spi_cu_driver driver;
    const spi_cu_driver *call; /* &driver */
    spi_cu_card card;
    sp_device_info info;
    spi_cu_choices choices;
    spi_cu_context context;
    spi_cu_stream stream;
    spi_cu_event done;
    spi_cu_module modules[SPI_CU_MODULE_COUNT];
    spi_cu_function kernels[SPI_CU_KERNEL_COUNT];
    uint64_t page_bytes; /* of mirrors */
    uint64_t runs, copied_bytes;
    struct spi_cu_link *links; /* all */
    bool overlaps;             /* while a run by wide.c is being sent: submit.c */
    bool lost;                 /* after a failure of the card nothing is sent to it any more */
} spi_cu;

/* submit.c. Every entry of the backend begins with enter: the device may be used by another thread than before. */
sp_status spi_cu_enter(spi_cu *cu, sp_error *error);
sp_status spi_cu_check(spi_cu *cu, spi_cu_result result, const char *what, sp_error *error);
sp_status spi_cu_launch(spi_cu *cu, spi_cu_kernel kernel, uint32_t grid_x, uint32_t grid_y, uint32_t threads,
                        void **arguments, sp_error *error);
sp_status spi_cu_wait(spi_cu *cu, const char *what, sp_error *error); /* for all that was sent */
/* For a kernel of the stream to write the number; if that takes long or the number is 0, for all that was sent. */
sp_status spi_cu_wait_for(spi_cu *cu, const void *place, uint32_t number, const char *what, sp_error *error);
sp_status spi_cu_launch_together(spi_cu *cu, spi_cu_kernel kernel, uint32_t blocks, uint32_t threads,
                                 uint32_t shared_bytes, void **arguments, sp_error *error);
/* Blocks next to each other in z share a cluster, and with it their shared memory. */
sp_status spi_cu_launch_cluster(spi_cu *cu, spi_cu_kernel kernel, uint32_t grid_x, uint32_t grid_y, uint32_t cluster,
                                uint32_t threads, uint32_t shared_bytes, void **arguments, sp_error *error);
uint32_t spi_cu_ceil(uint64_t count, uint32_t unit);

/* memory.c */
typedef struct spi_cu_buffer {
    spi_cu_pointer address;
    uint64_t bytes;
} spi_cu_buffer;
sp_status spi_cu_buffer_create(spi_cu *cu, uint64_t bytes, const char *what, spi_cu_buffer *buffer, sp_error *error);
sp_status spi_cu_buffer_zero(spi_cu *cu, const spi_cu_buffer *buffer, sp_error *error);
void spi_cu_buffer_destroy(spi_cu *cu, spi_cu_buffer *buffer); /* a zeroed one is allowed */

typedef struct spi_cu_pinned_memory { /* the host's, at the same address for the card */
    void *address;
    uint64_t bytes;
} spi_cu_pinned_memory;
sp_status spi_cu_pinned_create(spi_cu *cu, uint64_t bytes, const char *what, spi_cu_pinned_memory *memory,
                               sp_error *error);
void spi_cu_pinned_destroy(spi_cu *cu, spi_cu_pinned_memory *memory);

/* link.c */
typedef struct spi_cu_range { /* in bytes from the region's base */
    uint64_t first, bytes;
} spi_cu_range;

typedef struct spi_cu_backing { /* pages of the mirror that memory stands behind */
    uint64_t first, bytes;
    spi_cu_handle handle;
} spi_cu_backing;

typedef struct spi_cu_link {
    spi_link base;
    spi_cu_range *ranges; /* registered, side by side from the base on */
    size_t range_count, range_capacity;
    spi_cu_pointer mirror; /* as many addresses as the region has; the region itself where kernels work in place */
    uint64_t mirror_bytes; /* 0: in place */
    spi_cu_backing *backings;
    size_t backing_count, backing_capacity;
    uint8_t *pages; /* what each page of the mirror is: link.c */
    struct spi_cu_link *next;
} spi_cu_link;

/* Backs the mirror of KV blocks at [first, end), of which the bytes before `valid_end` were computed before and are
 * taken over from the region where the mirror does not have them yet. */
sp_status spi_cu_link_cover(spi_cu *cu, spi_link *link, uint64_t first, uint64_t end, uint64_t valid_end,
                            sp_error *error);

sp_status spi_cu_link_region(void *context, sp_region *region, spi_link **link, sp_error *error);
sp_status spi_cu_link_extend(void *context, spi_link *link, sp_error *error);
void spi_cu_link_remove(void *context, spi_link *link);
void spi_cu_link_ahead(void *context, spi_link *link, uint64_t offset, uint64_t bytes);
sp_status spi_cu_link_forget(void *context, spi_link *link, sp_error *error);
sp_status spi_cu_link_host_wrote(void *context, spi_link *link, uint64_t offset, uint64_t bytes, sp_error *error);

/* formats.c */
const spi_cu_format *spi_cu_format_of(sp_dtype type); /* NULL: there are no kernels for it */
void spi_cu_matrix_lay_out(const spi_cu_format *format, const spi_tensor *tensor, spi_cu_matrix *matrix);

/* weights.c */
struct spi_store {
    spi_tensor *sources; /* a copy of the array; names and bytes are borrowed */
    spi_weights weights;
    spi_cu_matrix *matrices;
    spi_cu_buffer slab;
};
sp_status spi_cu_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **store, sp_error *error);
void spi_cu_unload(void *context, spi_store *store);

/* A row of scratch is padded to so many floats; the padding is zero and stays so. */
#define SPI_CU_COLUMN_PAD SPI_CU_ROW_ELEMENTS
static inline uint32_t spi_cu_stride(uint32_t width) {
    return (width + SPI_CU_COLUMN_PAD - 1) / SPI_CU_COLUMN_PAD * SPI_CU_COLUMN_PAD;
}

static inline bool spi_cu_is_quantised(uint32_t type) {
    return sp_dtype_block_elements((sp_dtype)type) > 1;
}

/* phases.c: a tape as kernels see it that do more than an op. */
typedef struct spi_cu_phases {
    spi_cu_phase *items;
    uint32_t count, capacity;
    uint32_t hidden_count; /* of the phases that are wanted where no logits are */
    uint32_t turn_rotations[SPI_CU_TURNS_MAX], turn_count;
    uint32_t heads_max;
    spi_cu_matrix embedding;
    float embedding_scale;
    spi_cu_pointer x; /* where its rows go */
} spi_cu_phases;

/* Not found where the tape has something else in it, or the card is older than the kernels. `many`: for runs of any
 * number of rows, with GATHER as phases. */
sp_status spi_cu_phases_find(const spi_cu *cu, const spi_program *program, bool many, spi_cu_phases *phases,
                             bool *found, sp_error *error);
void spi_cu_phases_free(spi_cu_phases *phases);

/* decode*.c: a run of one row as one launch, for tapes that are made of what its kernel does. */
typedef struct spi_cu_decode {
    spi_cu_kernel kernel;
    spi_cu_phases phases;
    uint32_t block_count;
    uint32_t sequence, pick_count; /* launches; picks in all */
    uint64_t uses[2];     /* two bits for each tagged buffer: how often a token writes it, without logits and with */
    spi_cu_buffer memory; /* phases, tagged buffers, counters */
    spi_cu_token token;   /* what does not change from run to run */
} spi_cu_decode;

/* *decode is NULL where the tape has something else in it, or the card cannot. */
sp_status spi_cu_decode_create(spi_cu *cu, const spi_program *program, spi_cu_decode **decode, sp_error *error);
void spi_cu_decode_destroy(spi_cu *cu, spi_cu_decode *decode);
sp_status spi_cu_decode_run(spi_cu *cu, const spi_program *program, const spi_run *run, sp_error *error);
/* How many tokens a run of one row may compute, for picks. */
uint32_t spi_cu_decode_steps(const spi_program *program, const spi_run *run);

/* wide.c, wide_run.c: a run of several rows, for such tapes. */
typedef struct spi_cu_wide_plan spi_cu_wide_plan;

/* *plan is NULL where the tape has something else in it, or the card cannot. */
sp_status spi_cu_wide_create(spi_cu *cu, const spi_program *program, spi_cu_wide_plan **plan, sp_error *error);
void spi_cu_wide_destroy(spi_cu *cu, spi_cu_wide_plan *plan);
uint32_t spi_cu_wide_spans(const spi_program *program, const spi_run *run, spi_cu_span *spans); /* how many */
sp_status spi_cu_wide_run(spi_cu *cu, const spi_program *program, const spi_run *run, uint32_t span_count,
                          sp_error *error);
/* What a run that the card picks for notes of each output: the likeliest token of so many pieces of its logits. */
const spi_cu_buffer *spi_cu_wide_noted(const spi_program *program, uint32_t *pieces);

/* program.c */
#define SPI_CU_PICKS_BYTE 64u
#define SPI_CU_PICKS_MAX  64u /* of a run */
struct spi_program {
    spi_store *store;
    const spi_tape *tape;
    spi_cu_buffer packed;   /* a product's input as 16-bit numbers */
    spi_cu_buffer scratch;  /* all of the tape's buffers, f32 [rows_max][stride] */
    uint64_t *buffer_bytes; /* where each begins in it */
    spi_cu_pinned_memory
        done; /* a number that the last kernel of a run leaves there; from SPI_CU_PICKS_BYTE on picks */
    spi_cu_pinned_memory parameters;
    spi_cu_buffer fetched; /* the card's copy of them */
    spi_cu_buffer logits;  /* that nobody but the card reads, f32 [SPI_CU_PICKS_MAX][vocab]; made when first wanted */
    uint64_t outs_byte, spans_byte, parameter_bytes;
    spi_rotations rotations; /* their places: bytes in the parameters */
    spi_cu_decode *decode;   /* NULL: a row by itself is computed op by op, too */
    spi_cu_wide_plan *wide;  /* NULL: all runs are */
};

sp_status spi_cu_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **program, sp_error *error);
void spi_cu_discard(void *context, spi_program *program);
sp_status spi_cu_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                              sp_error *error);
sp_status spi_cu_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                             sp_error *error);

void spi_cu_rotations_fill(const spi_program *program, const spi_run *run);

/* run.c, ops.c */
bool spi_cu_picks(const spi_run *run);       /* the card, by itself */
bool spi_cu_logits_stay(const spi_run *run); /* no output's are left in the guest's memory */
sp_status spi_cu_run(void *context, spi_program *program, const spi_run *run, sp_error *error);
spi_cu_kernel spi_cu_embed_kernel(uint32_t type);
sp_status spi_cu_op(spi_cu *cu, const spi_program *program, uint32_t op_index, uint32_t rows, sp_error *error);

/* product.c: the guests' matmul. */
sp_status spi_cu_product_run(void *context, spi_link *link, const sp_matmul *args, sp_error *error);

/* bandwidth.c: of the card's own memory. Takes some milliseconds and 4 GiB. */
sp_status spi_cu_read_bandwidth(spi_cu *cu, double *gb_per_s, sp_error *error);

/* Test hook: for contexts that are opened from now on. Zero fields change nothing, NULL turns it off. */
void spi_cu_test_choices(const spi_cu_choices *choices);

#endif
