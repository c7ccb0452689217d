/* guest/state.h - all of a guest between two calls as plain data, but for its memory and its sessions' blocks.
 *
 * Saving fills in what lies in the guest (borrowed) and arrays that are the state's own; restoring takes a state that
 * came from anywhere, a hostile file too: everything in it is checked, here and nowhere else.
 *
 * A function is its index in the module plus 1, and 0 is the null reference. May include: session, sampler, model,
 * device, region, os, base.
 */
#ifndef SPI_GUEST_STATE_H
#define SPI_GUEST_STATE_H

#include "guest/host.h"
#include "guest/kept.h"
#include "guest/ranges.h"
#include "sampler/state.h"
#include "session/session.h"

typedef struct spi_state_global {
    uint32_t kind;     /* as Wasmtime numbers them: i32 i64 f32 f64 v128 funcref */
    uint32_t function; /* of a funcref */
    uint8_t bits[16];  /* of the others, little-endian */
} spi_state_global;

typedef struct spi_state_table {
    const uint32_t *functions; /* [count] */
    uint64_t count;
} spi_state_table;

typedef struct spi_state_model {
    const char *name;
    sp_model *model; /* saved: the guest's; restored: what the caller finds under the name */
} spi_state_model;

/* The numbers are those of spi_handle_kind, and a part of the snapshots' format. */
enum { SPI_SLOT_FREE, SPI_SLOT_MODEL, SPI_SLOT_SESSION, SPI_SLOT_SAMPLER };

typedef struct spi_state_slot {
    uint32_t kind, generation;
    uint32_t model;         /* MODEL, SESSION: in models */
    uint64_t offset, bytes; /* SESSION: its range of linear memory */
    uint32_t context_max, logits_rows_max, logits_rows;
    sp_kv_type kv_type;
    const int32_t *tokens;
    uint32_t token_count;
    spi_sampler_state sampler; /* SAMPLER */
    const int32_t *window;     /* [sampler.window_count] */
    sp_session *session;       /* SESSION: set by saving, and by restoring for who fills it */

    /* SESSION: so many bytes from its offset on are written, or made zeros, by who restores it, before anybody reads
     * them. spi_state_create_guest leaves the number if they are not zeros now, and else makes it 0. */
    uint64_t unwritten_bytes;
} spi_state_slot;

typedef struct spi_state {
    uint64_t memory_bytes;
    bool is_initialized, has_fuel;
    uint64_t fuel;
    spi_state_global *globals;
    spi_state_table *tables;
    const spi_range *ranges; /* free ones, ascending, none touching another */
    spi_state_model *models;
    spi_state_slot *slots;
    const char **arguments, **environment;
    uint32_t global_count, table_count, range_count, model_count, slot_count, argument_count, environment_count;
    sp_error error; /* of the latest import that failed */
} spi_state;

/* The guest is IDLE and its module durable. What is borrowed is so until the guest runs again. SP_NO_MEMORY. */
sp_status spi_state_save(sp_guest *guest, spi_state *state, sp_error *error);
void spi_state_free(spi_state *state); /* what saving made */

/* Checks everything that does not need a module: ranges and sessions lie in the memory and apart from each other,
 * counts and kinds are possible. SP_BAD_FILE names what is wrong. */
sp_status spi_state_check(const spi_state *state, sp_error *error);

/* A guest with these globals, tables and ranges, whose memory is as large as it was and holds what its module puts
 * there. Nothing of it has run. options as of sp_guest_create; arguments and environment are the state's where it has
 * none. */
sp_status spi_state_create_guest(sp_module *module, const sp_guest_options *options, spi_state *state, sp_guest **guest,
                                 sp_error *error);

/* Opens its handles: after it every slot of a session has one, without tokens. Models must be set. */
sp_status spi_state_open_handles(sp_guest *guest, spi_state *state, sp_error *error);

/* ---- state_facts.c ---- */

/* A device wrote here, which the kernel does not see. The list is taken over by who asks for it; *all: the whole memory
 * must be taken as written. */
void spi_state_note_written(sp_guest *guest, uint64_t offset, uint64_t bytes);
spi_ranges spi_state_take_written(sp_guest *guest, bool *all);

/* Whether the module has the system write into its memory: then protecting pages would make reads of files fail. */
bool spi_module_reads_files(const sp_module *module);

uint64_t spi_module_data_end(const sp_module *module); /* of the memory that is not zero when an instance begins */
const sp_guest_model *spi_guest_models(const sp_guest *guest, uint32_t *count);
const char *spi_module_name(const sp_module *module);
const void *spi_module_wasm(const sp_module *module, size_t *bytes);
sp_module *spi_guest_module(const sp_guest *guest);

/* The session that a slot of handles holds; NULL: none. */
sp_session *spi_guest_session(sp_guest *guest, uint32_t slot);

/* The guest's sessions one after the other: *slot is 0 at first. False: there are no more. */
bool spi_guest_next_session(sp_guest *guest, uint32_t *slot, sp_session **session);

/* The cache that all sessions of a guest are attached to from now on; see session/session.h. */
sp_status spi_guest_set_cache(sp_guest *guest, const spi_session_cache *cache, sp_error *error);

#endif
