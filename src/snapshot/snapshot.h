/* snapshot/snapshot.h - the inside of a snapshot, and what the files of this layer share.
 *
 *     format.h       the file          build.c   sections into an image        open.c   a file's checks
 *     state_out.c    the state, written         state_in.c  and read
 *     pages.c        runs of a memory  capture.c a guest into an image         kv.c     tails of blocks
 *     restore.c      an image into a guest       session.c   and one session   file.c   writing and encryption
 *     tracker.c      what changed      apply.c   deltas onto a base            info.c   looking inside, diff.c comparing
 *     store*.c       blocks            pack.c    the files that they lie in
 *
 * A snapshot is the bytes of its file, mapped or in memory, and an index of them that was checked. May include: guest,
 * session, sampler, model, device, region, os, base.
 */
#ifndef SPI_SNAPSHOT_SNAPSHOT_H
#define SPI_SNAPSHOT_SNAPSHOT_H

#include "base/digest.h"
#include "guest/state.h"
#include "samepage/snapshot.h"
#include "snapshot/format.h"

/* A model as a snapshot names it. */
typedef struct spi_saved_model {
    sp_fingerprint fingerprint;
    uint64_t kv_formats[2]; /* of its sessions' blocks: F16, Q8_0; version 1 had no other than the first */
} spi_saved_model;

/* A session beyond what its slot says. */
typedef struct spi_saved_session {
    uint32_t slot;
    uint32_t token_first; /* of a delta: so many are kept from before */
    bool is_foreign;      /* its blocks came from elsewhere: no store takes them in */
    const int32_t *tokens;
    uint32_t token_count; /* from token_first on */
    uint32_t block_count; /* full ones */
    const spi_digest *names;
    const uint8_t *blocks, *tail; /* NULL: not inside */
    const float *logits;
    uint64_t blocks_offset, tail_offset, logits_offset; /* in the file */
    uint64_t blocks_bytes, tail_bytes, logits_bytes;
    uint32_t inside_count; /* full blocks that `blocks` has, or fewer if deltas were applied before it was written */
} spi_saved_session;

struct sp_snapshot {
    const uint8_t *data;
    size_t bytes;
    int file;    /* data is a mapping of it; < 0: data is from spi_alloc */
    bool is_own; /* captured in this process: nobody else ever had it */
    const spi_snapshot_header *header;
    const spi_snapshot_section *sections;
    uint32_t section_count;

    spi_state state;             /* arrays of its own, all else points into data */
    spi_saved_model *models;     /* [state.model_count] */
    spi_saved_session *sessions; /* ascending by slot */
    uint32_t session_count;
    uint8_t module_hash[SP_MODULE_HASH_BYTES];
    char module_name[96], made_by[32];
    const spi_page_run *runs;
    uint32_t run_count;
    const uint8_t *pages;
    uint64_t pages_offset, pages_bytes; /* in the file */
};

/* ---- build.c: an image out of sections ---- */

/* The section's bytes in parts: the i-th, in order; from NULL: so many zeros. They stay as they are until the image is
 * made. */
typedef struct spi_part {
    const void *from;
    uint64_t bytes;
} spi_part;
typedef spi_part (*spi_parts)(const void *env, uint32_t i);

typedef struct spi_built_section {
    spi_snapshot_section section;
    const void *from; /* or: */
    spi_parts parts;
    const void *env;
} spi_built_section;

typedef struct spi_builder {
    spi_built_section *sections;
    size_t count, capacity;
    bool no_memory;
    bool unhashed;  /* the image never leaves this process: no checksums */
    bool is_plain;  /* one that is small is copied out of, and not mapped */
    uint32_t align; /* of sections that can be mapped: a page, but in a delta */
} spi_builder;

void spi_build_add(spi_builder *builder, spi_section_kind kind, uint32_t index, const void *from, uint64_t bytes);
void spi_build_parts(spi_builder *builder, spi_section_kind kind, uint32_t index, spi_parts parts, const void *env,
                     uint64_t bytes);

/* Lays out, copies and hashes. parent: NULL, or a delta's; id: NULL, or the one that is known. Frees the builder's
 * list, whatever happens. The snapshot is indexed like one from a file. */
sp_status spi_build_finish(spi_builder *builder, const uint8_t *parent, const uint8_t *id, sp_snapshot **snapshot,
                           sp_error *error);

/* Whether that is what the sections would make: everything is compared. And the end of a list that nothing is made
 * of. */
bool spi_build_is(const spi_builder *builder, const sp_snapshot *snapshot);
void spi_build_drop(spi_builder *builder);

/* ---- state_out.c, state_in.c ---- */

typedef struct spi_writer {
    uint8_t *data;
    size_t count, capacity;
    bool no_memory;
} spi_writer;

typedef struct spi_saving {
    const spi_state *state;
    const spi_saved_model *models;
    const spi_saved_session *sessions; /* [session_count], ascending by slot: token_first, is_foreign, block_count */
    uint32_t session_count;
    const uint8_t *module_hash;
    const char *module_name;
} spi_saving;

void spi_state_write(const spi_saving *saving, spi_writer *writer);

/* Fills in state, models, sessions and names of a snapshot whose sections are known. SP_BAD_FILE names the field. */
sp_status spi_state_read(sp_snapshot *snapshot, const uint8_t *bytes, size_t count, sp_error *error);

/* ---- open.c ---- */

/* Takes data (and the file that it is a mapping of), whatever happens; checks all of it. verify: checksums of sections,
 * which whoever has just computed them need not check. */
sp_status spi_snapshot_take(const uint8_t *data, size_t bytes, int file, const char *name, bool verify,
                            sp_snapshot **snapshot, sp_error *error);
spi_hash spi_snapshot_header_hash(const spi_snapshot_header *header, const void *table, size_t table_bytes);
const char *spi_section_name(uint32_t kind);
const spi_snapshot_section *spi_snapshot_find(const sp_snapshot *snapshot, spi_section_kind kind, uint32_t index);

/* Zeroed memory for an image. mappable: into guests, file >= 0, where the system has that. */
sp_status spi_image_create(size_t bytes, bool mappable, uint8_t **data, int *file, sp_error *error);
void spi_image_free(const uint8_t *data, size_t bytes, int file);

/* ---- pages.c ---- */

typedef struct spi_runs {
    spi_page_run *items;
    size_t count, capacity;
    uint64_t bytes;
} spi_runs;

/* The guest's memory but for its sessions and free ranges, as ranges of whole pages, ascending. */
sp_status spi_pages_heap(const spi_state *state, spi_runs *heap, sp_error *error);

/* Of those ranges, runs of pages that are not all zeros. SP_NO_MEMORY. */
sp_status spi_pages_not_zero(const uint8_t *memory, const spi_runs *heap, spi_runs *runs, sp_error *error);
bool spi_page_is_zero(const uint8_t *page);
bool spi_runs_add(spi_runs *runs, uint64_t offset, uint64_t bytes); /* joins the last if it touches; false: no memory */
void spi_runs_free(spi_runs *runs);

/* ---- kv.c ---- */

uint64_t spi_kv_format(const sp_model *model, sp_kv_type type);
uint64_t spi_kv_format_of(const sp_session *session);
uint64_t spi_kv_saved_format(const spi_saved_model *model, sp_kv_type type);
uint64_t spi_kv_block_bytes_of(const sp_session *session);

/* A block with its first rows only: env of spi_kv_tail_part, whose parts are a block's bytes in order. */
typedef struct spi_tail {
    const sp_session *session;
    uint32_t block, rows;
} spi_tail;
spi_part spi_kv_tail_part(const void *tail, uint32_t i);
uint64_t spi_kv_row_bytes(const spi_tail *tail); /* of one token, in all heads */

/* ---- store.c ---- */

void spi_store_get_notice(const sp_store *store, sp_notice *notice, void **env);

/* ---- session.c ---- */

typedef struct spi_restoring {
    const sp_snapshot *snapshot;
    sp_guest *live; /* of a fork from a bare image: the guest that has what is behind full blocks; else NULL */
    const sp_restore_options *options;
    sp_notice notice;
    void *notice_env;
    sp_restore_report report;
    spi_region_piece pieces[3]; /* of the session that is being restored: blocks, tail, logits, still to be mapped */
    uint64_t piece_bytes[3];    /* those of them that matter */
    uint32_t piece_count;
} spi_restoring;

/* Into the session of the restored guest's slot. */
sp_status spi_session_restore(spi_restoring *all, const spi_saved_session *saved, const spi_state_slot *slot,
                              const spi_saved_model *model, sp_error *error);
__attribute__((format(printf, 3, 4))) void spi_tell(sp_notice notice, void *env, const char *format, ...);

#endif
