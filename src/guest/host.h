/* guest/host.h - what an imported function sees of the guest that called it.
 *
 * The line between two halves of this layer. Below it (engine.c, module.c, scheduler.c, memory.c, ...): Wasmtime,
 * fibers, linear memory. Above it (imports_*.c): what guests can ask for. Only files below the line name Wasmtime.
 *
 * How an import is called: sdk/imports.def lists it; the generated glue (guest/imports_glue.inc) unpacks its arguments
 * and calls spi_host_NAME. Two kinds:
 *   sync   int32_t or int64_t spi_host_NAME(sp_guest *guest, ARGUMENTS...)    an unchecked fast call
 *   async  int32_t spi_host_NAME(sp_guest *guest, ARGUMENTS..., spi_job *job) fills the job; SP_OK suspends the fiber
 *          until the scheduler has done it, and its status is the call's result. Anything else is the result at once,
 *          and nothing is suspended.
 * A negative result is an sp_status; its message is kept in the guest for `error_message`.
 *
 * May include: session, model, device, region, os, base.
 */
#ifndef SPI_GUEST_HOST_H
#define SPI_GUEST_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/guest.h"
#include "samepage/session.h"

/* What a suspended fiber waits for. Everything in it was copied out of the guest's memory and checked. */
typedef enum spi_job_kind { SPI_JOB_APPEND, SPI_JOB_MATMUL, SPI_JOB_EDITED } spi_job_kind;

typedef struct spi_job {
    spi_job_kind kind;
    sp_session *session; /* APPEND, EDITED: owned by the guest, alive until the job is done */
    int32_t *tokens;     /* APPEND: from spi_alloc; the scheduler frees it */
    uint32_t token_count;
    sp_logits logits;
    sp_sampler *sampler; /* APPEND: NULL, or the call's result is what it picks; owned by the guest, too */
    sp_matmul matmul;    /* MATMUL: on the guest's own region and device */
    uint64_t edited_offset, edited_bytes; /* EDITED: of the session's keys and values */
} spi_job;

/* ---- provided by what lies below the line ---- */

sp_device *spi_guest_device(sp_guest *guest);                /* NULL: none */
void spi_guest_device_may_revive(sp_guest *guest, bool may); /* if it was lost: not while a fiber lends its stack */
sp_kv_type spi_guest_kv_type(const sp_guest *guest);         /* of sessions for which it asks for none */
sp_model *spi_guest_model(sp_guest *guest, const char *name, uint32_t name_bytes); /* NULL: no such name; an empty name
                                                                          is the first model */
const char *spi_guest_model_name(sp_guest *guest, uint32_t index);                 /* NULL past the end */
uint32_t spi_guest_handle_count_max(const sp_guest *guest);
const sp_guest_mail *spi_guest_mail(sp_guest *guest, void **env); /* NULL: it is no actor */
bool spi_guest_take_interrupt(sp_guest *guest);                   /* true once after sp_guest_interrupt */

/* A range of linear memory that the guest's allocator does not know: found among released ones or got by growing the
 * memory, within its maximum. The bytes are zero if they are fresh. Released ranges are used again. SP_NO_MEMORY. */
sp_status spi_guest_reserve(sp_guest *guest, uint64_t bytes, uint64_t align_bytes, uint64_t *offset, sp_error *error);
void spi_guest_release(sp_guest *guest, uint64_t offset, uint64_t bytes);

/* To be called with every session that an import opens. It joins the guest's cache. SP_NO_MEMORY. */
sp_status spi_guest_session_opened(sp_guest *guest, sp_session *session, sp_error *error);

/* Appends one token with logits of the last, right now, if nobody else waits for anything, and picks the next where
 * `sampler` (NULL: nobody) says. SP_BUSY: nothing was done, and the guest has to wait for its turn like others:
 * session_append. */
sp_status spi_guest_append_now(sp_guest *guest, sp_session *session, int32_t token, sp_sampler *sampler, int32_t *next,
                               sp_error *error);

/* The imports' own state, made by spi_host_create with the guest and destroyed with it, before its region. */
struct spi_host *spi_guest_host(sp_guest *guest);

/* ---- provided by what lies above the line ---- */

typedef struct spi_host spi_host; /* handles and the last error: imports_*.c */
sp_status spi_host_create(sp_guest *guest, spi_host **host, sp_error *error);
void spi_host_destroy(spi_host *host); /* closes every handle that is open: sessions, samplers */

/* A job that an import began has ended. Called before the fiber goes on, with what its result will be; keeps the
 * message. */
void spi_host_job_done(sp_guest *guest, sp_status status, const sp_error *error);

/* The table that registers the imports: one row for each in sdk/imports.def. */
typedef struct spi_import {
    const char *name;
    const char *parameters; /* "iIfF" for i32 i64 f32 f64 */
    const char *results;    /* "", "i" or "I" */
    bool is_async;
    /* Arguments as 64-bit words, sign-extended for i32; writes the result into words[0]. Exactly one of the two is
     * set. */
    void (*call)(sp_guest *guest, int64_t *words);
    int32_t (*begin)(sp_guest *guest, const int64_t *words, spi_job *job);
} spi_import;
extern const spi_import spi_imports[];
extern const uint32_t spi_import_count;

/* The module name that guests import from. */
#define SPI_IMPORT_MODULE "samepage"

#endif
