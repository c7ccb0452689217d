/* tests/support/durable_rig.h - an engine, a device with a model and tests/guests/durable.c, for tests of snapshots. */
#ifndef SPI_TESTS_DURABLE_RIG_H
#define SPI_TESTS_DURABLE_RIG_H

#include "samepage/snapshot.h"
#include "support/guests.h"

typedef struct durable_rig {
    sp_engine *engine;
    sp_device *device;
    sp_model *model;
    sp_module *module;
    sp_guest_model models[1]; /* under the name "m" */
    sp_guest_options options;
} durable_rig;

void test_durable_open(durable_rig *rig, bool demo); /* the model of the tree, or the tiny one */
void test_durable_close(durable_rig *rig);

sp_guest *test_durable_guest(durable_rig *rig, uint32_t context, bool sampled); /* begun */
int64_t test_durable_call(sp_guest *guest, const char *function, int64_t a, int64_t b, uint32_t count);
sp_snapshot *test_durable_capture(sp_guest *guest, sp_store *store);
sp_guest *test_durable_restore(durable_rig *rig, const sp_snapshot *snapshot, const sp_restore_options *options);

/* The next tokens of a guest, and what it knows then: two guests that are the same say the same. */
void test_durable_same(sp_guest *a, sp_guest *b, int tokens);

#endif
