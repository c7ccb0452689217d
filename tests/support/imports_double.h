/* tests/support/imports_double.h - a stand-in for all that lies below the imports, so that they can be tested alone: a
 * guest over a real region, a model with three rules for a tokenizer, sessions that only count, samplers that take the
 * largest logit.
 *
 * It is linked into test_imports only, in the place of the layers that it stands for.
 */
#ifndef SPI_TESTS_IMPORTS_DOUBLE_H
#define SPI_TESTS_IMPORTS_DOUBLE_H

#include <stdbool.h>

#include "guest/host.h"

#define DOUBLE_VOCAB 256u

struct sp_model {
    bool has_tokenizer;
    uint32_t context_max;
};

struct sp_device {
    sp_device_info info;
};

typedef struct double_range {
    uint64_t offset, bytes;
} double_range;

struct sp_guest {
    sp_region *region;
    spi_host *host;
    sp_device *device; /* NULL: none */
    sp_model *model;   /* NULL: none; its name is "toy" */
    uint32_t handle_count_max;
    bool interrupted, is_alone; /* alone: sessions may be appended to at once */
    uint32_t pick_count;        /* of tokens that were picked where they were computed */
    const sp_guest_mail *mail;
    void *mail_env;
    sp_guest_counters counters;
    double_range ranges[16]; /* reserved at present; bytes 0: free */
    uint32_t range_count;    /* of them, not free */
};

/* Alive at present, of all guests. */
extern uint32_t double_session_count, double_sampler_count;

/* The next sp_session_create fails with this; SP_OK: it does not. */
extern sp_status double_session_failure;

/* As the scheduler would: appends the job's tokens and frees them. */
void double_finish(spi_job *job);

sp_guest *double_guest_create(uint64_t memory_bytes);
void double_guest_destroy(sp_guest *guest);

#endif
