/* tests/support/session_rig.h - what the tests of sessions share: devices with models loaded, sessions, comparisons. */
#ifndef SPI_TESTS_SESSION_RIG_H
#define SPI_TESTS_SESSION_RIG_H

#include "device/tape.h"
#include "samepage/session.h"

typedef struct session_rig {
    sp_device *cpu, *reference; /* the best kernels there are on two threads; the plain C of every op on one */
    sp_model *demo;             /* the model of the tree, in Q8_0: loaded on cpu */
    sp_model *tiny;             /* tests/support/tiny_model.h, in F32: loaded on both */
} session_rig;

/* The one of a test program, and what opens and closes it for a group of cmocka's: 0, or an assertion fails. */
extern session_rig test_rig;
int test_rig_open(void **state);
int test_rig_close(void **state);

/* The model loaded on a device of that name; NULL, and a message, where there is none. The second: "vulkan", which in
 * CI is Mesa's software driver. */
sp_device *test_rig_device(sp_model *model, const char *name);
sp_device *test_rig_vulkan(sp_model *model);

sp_session *test_session_create(sp_model *model, sp_device *device, uint32_t context_max, uint32_t logits_rows_max);
void test_session_append(sp_session *session, const int32_t *tokens, uint32_t count, sp_logits logits);

uint32_t test_model_vocab(const sp_model *model);

/* The K (which = 0) or V (which = 1) row of a position, where tape.h says that it lies. */
const spi_kv_shape *test_kv_shape(const sp_model *model);
const uint8_t *test_kv_row(const sp_session *session, const spi_kv_shape *shape, uint32_t layer, uint32_t which,
                           uint32_t head, uint32_t position);

/* Random ids of the model, always the same for a seed. */
void test_tokens(const sp_model *model, uint64_t seed, int32_t *tokens, uint32_t count);

/* The largest difference of two arrays; infinite where one of them has a number that is not finite. */
double test_distance(const float *a, const float *b, size_t count);

/* The root of the mean square: what a distance is measured against. */
double test_rms(const float *numbers, size_t count);

#endif
