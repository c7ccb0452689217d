/* snapshot/capture.h - the steps of a capture, for captures and for deltas. May include: what snapshot.h may. */
#ifndef SPI_SNAPSHOT_CAPTURE_H
#define SPI_SNAPSHOT_CAPTURE_H

#include "snapshot/snapshot.h"

typedef struct spi_capture {
    sp_guest *guest;
    const sp_capture_options *options;
    bool is_private; /* for a fork: the image never leaves this process */
    bool is_bare;    /* for one fork: what is behind full blocks is copied from guest to guest */
    const uint8_t *memory;
    spi_state state;
    spi_saved_model *models;
    spi_saved_session *sessions;
    uint32_t session_count;
    spi_runs heap, runs; /* all pages that are the guest's; those that the image gets */
    spi_writer written;
} spi_capture;

/* Saves the state and lists the heap; on failure nothing is left to be ended. */
sp_status spi_capture_begin(spi_capture *capture, sp_guest *guest, const sp_capture_options *options, sp_error *error);
void spi_capture_end(spi_capture *capture);

/* Has the store, if there is one, take in the sessions' full blocks; sets names and block_count of those that it
 * holds. */
sp_status spi_capture_take_blocks(spi_capture *capture, sp_error *error);

/* A whole capture for this process only, of the guest as it is; bare: see is_bare. kept may be NULL, or an image of
 * before that is given again if nothing differs from it. */
sp_status spi_capture_private(sp_guest *guest, const sp_capture_options *options, bool is_bare, sp_snapshot *kept,
                              sp_snapshot **snapshot, sp_error *error);

/* parent: NULL, or what a delta builds on, which then has neither blocks, tails, logits nor the module. */
sp_status spi_capture_build(spi_capture *capture, const uint8_t *parent, sp_snapshot **snapshot, sp_error *error);

#endif
