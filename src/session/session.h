/* session/session.h - the inside of a session, for session.c and batch.c.
 *
 * Owns: the tokens, and the region if nobody gave one. May include: model, device, region, os, base.
 */
#ifndef SPI_SESSION_SESSION_H
#define SPI_SESSION_SESSION_H

#include "device/backend.h"
#include "samepage/session.h"

struct sp_session {
    sp_model *model;
    sp_device *device;
    sp_region *region;
    bool owns_region, linked, retained;
    uint64_t offset; /* of its layout in the region */
    sp_session_layout layout;
    uint32_t context_max, logits_rows_max, vocab;
    int32_t *tokens; /* [context_max] */
    uint32_t token_count;
    uint32_t logits_rows; /* valid rows, from row 0 */
};

#endif
