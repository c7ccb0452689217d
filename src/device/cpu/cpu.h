/* device/cpu/cpu.h - what the files of the CPU backend share: the opened device, loaded weights, a prepared tape.
 *
 * cpu.c opens, links and multiplies; store.c packs weights; program.c turns a tape into phases of steps; run.c executes
 * them, with product.c, attention.c and forms.c. Arithmetic is behind kernels.h. May include: device/backend.h, os,
 * base.
 */
#ifndef SPI_DEVICE_CPU_CPU_H
#define SPI_DEVICE_CPU_CPU_H

#include <stdatomic.h>

#include "device/backend.h"
#include "device/cpu/kernels.h"
#include "device/cpu/pool.h"

#define SPI_CPU_CACHE_LINE_BYTES 64u

typedef struct spi_cpu {
    const spi_cpu_kernels *kernels;
    spi_pool *pool;
    uint64_t runs;
} spi_cpu;

/* A weight as the product kernels take it. */
typedef struct spi_cpu_matrix {
    const spi_cpu_type *type;
    const void *data; /* in the arena, or where the file has it */
} spi_cpu_matrix;

struct spi_store {
    spi_tensor *tensors; /* a copy of the caller's list; data still points into the file */
    spi_cpu_matrix *matrices;
    uint32_t count;
    void *arena_mapping; /* packed weights, in huge pages where the system grants them; NULL: nothing is packed */
    size_t arena_mapping_bytes;
};

typedef enum spi_step_kind {
    SPI_STEP_OP,     /* the op as it is */
    SPI_STEP_ANGLES, /* cosines and sines of the run's positions */
    SPI_STEP_PREPARE /* the op's src into a form, for the products that follow */
} spi_step_kind;

typedef struct spi_step {
    spi_step_kind kind;
    const spi_op *op;
    uint32_t buffer;   /* PREPARE: which; MATMUL, HEAD: src */
    spi_cpu_form form; /* PREPARE: into which; only in runs of rows_min <= rows < rows_end */
    uint32_t rows_min, rows_end;
    uint32_t angles; /* ROPE: which table */
    uint32_t phase;  /* steps of one phase do not depend on each other */
    bool outputs;    /* behind GATHER: rows are outputs */
    bool within;     /* PREPARE: the step that computes the buffer does it at once, a few rows at a time */
    const struct spi_step *prepares[SPI_FORM_COUNT]; /* OP: those; NULL where there is none */
    const struct spi_step *next; /* MATMUL, HEAD: the product behind it; the last one's is the first */
    /* Two MATMULs and the GATE of what they give: see join.c. All three name the second MATMUL; only that one says the
     * rest. */
    const struct spi_step *joint, *gated, *gate;
    /* NORM, GATE: in runs of so many rows its prepares are all that is read of what it gives. */
    uint32_t forms_rows_min;
} spi_step;

/* Cosines and sines of a run's positions, times the op's scale: [rows_max][pairs] each, filled when a run begins. ROPE
 * ops of all layers with the same numbers share one. */
typedef struct spi_angles {
    const spi_op *op;    /* the first that uses it */
    double *frequencies; /* [pairs] */
    float *cosines, *sines;
    uint32_t pairs;
} spi_angles;

typedef struct spi_cpu_row {
    uint8_t *blocks; /* of the row's session */
    uint32_t segment, position;
} spi_cpu_row;

/* Neighbouring rows of one session that attention takes together. */
typedef struct spi_cpu_group {
    uint32_t row, row_count;
    uint32_t chunks; /* that its last row sees without a window */
    uint32_t heads;  /* KV heads of a unit, but for the last one */
    uint32_t units;
    size_t records; /* where those of its first KV head lie in spi_cpu_shared.records */
} spi_cpu_group;

/* What threads need to share the chunks of long contexts. */
typedef struct spi_cpu_shared {
    float *records;
    size_t record_floats; /* room */
    atomic_uint *done;    /* [units_max]: of a unit, chunks that are done */
    uint32_t units_max;   /* with so many units there is work enough without sharing */
    bool in_use;          /* by the run in progress */
} spi_cpu_shared;

struct spi_program {
    spi_cpu *cpu;
    const spi_store *store;
    const spi_tape *tape;
    spi_step *steps; /* sorted by phase */
    uint32_t step_count, phase_count;
    uint32_t *phase_first;          /* [phase_count + 1]: the phase's first step */
    float **buffers;                /* [buffer_count], each [rows_max][width] */
    uint8_t **acts[SPI_FORM_COUNT]; /* [form][buffer_count], NULL unless a product takes the buffer in the form */
    spi_angles *angles;
    uint32_t angles_count;
    uint8_t *scratch; /* scratch_bytes for each thread */
    size_t scratch_bytes;
    uint32_t group_rows; /* of a spi_cpu_group, at most */

    /* Of the run in progress; filled before the threads start and only read by them. */
    const spi_run *run;
    bool alone;            /* each row is computed to the bits that it would have in a run of its own */
    spi_cpu_row *rows;     /* [rows_max] */
    uint32_t *gathered;    /* [rows_max]: the row of each output */
    float **logits;        /* [rows_max]: where each output goes */
    spi_cpu_group *groups; /* [rows_max], the longest context first */
    uint32_t group_count, unit_count;
    spi_cpu_shared shared;
};

/* store.c */
sp_status spi_cpu_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                       spi_store **store, sp_error *error);
void spi_cpu_unload(void *context, spi_store *store);

/* program.c */
sp_status spi_cpu_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **program,
                          sp_error *error);
void spi_cpu_discard(void *context, spi_program *program);
sp_status spi_cpu_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                               sp_error *error);
sp_status spi_cpu_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                              sp_error *error);

/* join.c: finds what nobody reads in f32, and the products whose rows are gated at once. */
void spi_cpu_join(spi_program *program);

/* run.c */
sp_status spi_cpu_run(void *context, spi_program *program, const spi_run *run, sp_error *error);
/* Bytes of scratch that a thread needs for a step's products. product.c */
size_t spi_cpu_product_scratch_bytes(const spi_program *program, const spi_op *op);
/* Whether the step, a part of a joint product, is done in this run by that product. product.c */
bool spi_cpu_product_joins(const spi_program *program, const spi_step *step);
/* Parts that an owner's share of a MATMUL or HEAD over `rows` rows is best taken in. product.c */
uint32_t spi_cpu_product_parts(const spi_program *program, const spi_step *step, uint32_t rows, uint32_t owner_count);
/* About where the weights of an owner's share begin, and how many bytes they are. product.c */
size_t spi_cpu_product_weights(const spi_program *program, const spi_op *op, uint32_t owner, uint32_t owner_count,
                               const uint8_t **weights);
/* Part `part` of part_count of a MATMUL or HEAD over `rows` rows, with the scratch of `thread`. product.c */
void spi_cpu_product_share(const spi_program *program, const spi_step *step, uint32_t rows, uint32_t part,
                           uint32_t part_count, uint32_t thread);

/* forms.c: rows that a step has in this run, if it has any; whether this run's products take what a PREPARE makes;
 * whether any such is made within the step. */
uint32_t spi_cpu_rows(const spi_program *program, const spi_step *step);
bool spi_cpu_in_form(const spi_program *program, const spi_step *prepare);
bool spi_cpu_makes_forms(const spi_program *program, const spi_step *step);
/* Whether they are all that is read of the step in this run: see forms_rows_min. */
bool spi_cpu_only_forms(const spi_program *program, const spi_step *step);
/* A part of a buffer; columns begin with a multiple of SPI_BF16_UNIT, and end with one or the buffer. */
typedef struct spi_cpu_patch {
    uint32_t row_first, row_end, first, end;
    const float *values; /* of the first row and column, if they are not in the buffer; else NULL */
    size_t stride;       /* floats, from one row of values to the next */
} spi_cpu_patch;
/* Does so much of a PREPARE; does all that is made within the step, of what it has just computed. */
void spi_cpu_make_form(const spi_program *program, const spi_step *prepare, const spi_cpu_patch *of);
void spi_cpu_make_forms(const spi_program *program, const spi_step *step, const spi_cpu_patch *of);

/* attention.c: what a run's attention is made of, found when it begins; an owner's items of a step; one of them. */
void spi_cpu_attention_plan(spi_program *program);
uint32_t spi_cpu_attention_items(const spi_program *program, const spi_step *step, uint32_t owner,
                                 uint32_t owner_count);
void spi_cpu_attention_item(spi_program *program, const spi_step *step, uint32_t owner, uint32_t owner_count,
                            uint32_t item, uint32_t thread);

#endif
