/* session/session.h - the inside of a session, for session.c and batch.c, and what saves and restores one.
 *
 * Owns: the tokens, and the region if nobody gave one. May include: model, device, region, os, base.
 */
#ifndef SPI_SESSION_SESSION_H
#define SPI_SESSION_SESSION_H

#include "device/backend.h"
#include "region/region.h"
#include "samepage/session.h"

/* Somebody who knows blocks that sessions need not compute: a block store. All functions run on the session's
 * thread. */
typedef struct spi_session_cache {
    /* A session wants to be of this cache: sets its cache and cache_data. SP_NO_MEMORY. */
    sp_status (*join)(void *env, sp_session *session, sp_error *error);

    /* Before the tokens behind the session's own, up to token_count in all, are computed: makes as many blocks valid as
     * it can, from the first on that is not full yet. *found is how many tokens the blocks hold then: the session's own
     * if nothing was found, else a multiple of the block's tokens and at most token_count. A failure of the device
     * only. */
    sp_status (*find)(void *env, sp_session *session, uint32_t token_count, uint32_t *found, sp_error *error);

    /* The rows behind the full blocks, and so many rows of logits, of a session that has its tokens and full blocks and
     * neither of these: puts in place what it has. NULL: it never has any. A failure of the device only. */
    sp_status (*find_tail)(void *env, sp_session *session, uint32_t logits_rows, bool *has_rows, bool *has_logits,
                           sp_error *error);

    /* Tokens from position `from` on were computed, which took so long: blocks may have become full. */
    void (*grown)(void *env, sp_session *session, uint32_t from, uint32_t computed_count, int64_t ns);

    /* The session ends: frees cache_data. */
    void (*gone)(void *env, sp_session *session);
    void *env;
} spi_session_cache;

struct sp_session {
    sp_model *model;
    sp_device *device;
    sp_region *region;
    bool owns_region, linked, retained;
    uint64_t offset; /* of its layout in the region */
    sp_session_layout layout;
    const spi_kv_shape *kv; /* how its keys and values lie */
    uint32_t context_max, logits_rows_max, vocab;
    int32_t *tokens; /* [context_max] */
    uint32_t token_count;
    uint32_t logits_rows;           /* valid rows, from row 0 */
    const spi_session_cache *cache; /* NULL: none */
    void *cache_data;
    bool is_mapped;  /* pages of its range belong to files */
    bool is_foreign; /* its blocks came from a stranger, or were edited: no cache takes them in */
};

/* Makes an empty session's tokens these, whose blocks and logits the caller has put in place or is about to. Tokens and
 * counts are checked, nothing is computed. SP_INVALID, SP_CONTEXT_FULL, SP_LIMIT. */
sp_status spi_session_put(sp_session *session, const int32_t *tokens, uint32_t token_count, uint32_t logits_rows,
                          sp_error *error);

/* A range of the session, from its own start, becomes a private view of a file from an offset on; file < 0: fresh
 * pages, zero. Whole pages. The session's device must take such memory: spi_session_can_map. */
bool spi_session_can_map(const sp_session *session);
sp_status spi_session_map(sp_session *session, uint64_t offset, uint64_t bytes, int file, uint64_t file_offset,
                          sp_error *error);

/* The same for several ranges at once, given in the session's own offsets and changed into the region's: devices let go
 * and link again once for all of them. */
sp_status spi_session_map_all(sp_session *session, spi_region_piece *pieces, uint32_t count, sp_error *error);

/* To be told after the host wrote bytes of the session's range, which are given from its own start. */
sp_status spi_session_host_wrote(sp_session *session, uint64_t offset, uint64_t bytes, sp_error *error);

/* To be told when blocks are in place that the next run reads. */
void spi_session_ahead(sp_session *session, uint32_t first, uint32_t count);

uint8_t *spi_session_block(const sp_session *session, uint32_t block); /* in the region */

#endif
