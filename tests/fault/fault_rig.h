/* tests/fault/fault_rig.h - what the fault suites share: a folder with a model, tests/fault/actor_worker.c to run in
 * it, and what an undisturbed run ends in. */
#ifndef SPI_TESTS_FAULT_RIG_H
#define SPI_TESTS_FAULT_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "support/support.h"

typedef struct fault_rig {
    char root[64], folder[128], model[128], other[128], cache[128], out[128], *expected;
    int runs; /* how many places are tried of each kind; 0: all */
} fault_rig;

typedef struct fault_outcome {
    int status; /* of waitpid */
    int acknowledged;
    char *text;
} fault_outcome;

int fault_setup(void **state);
int fault_teardown(void **state);

/* Empties the folder. */
void fault_start_anew(const fault_rig *rig);

/* Variables of the worker's environment: pairs of name and value, NULL at the end; NULL: none. The file of its output
 * is empty before it runs: one that is killed before it has opened it said nothing. */
pid_t fault_spawn(const fault_rig *rig, const char *mode, int acknowledged, const char *const *environment,
                  bool is_traced);
fault_outcome fault_collect(const fault_rig *rig, int status);
fault_outcome fault_run(const fault_rig *rig, const char *mode, int acknowledged, const char *const *environment);
const char *fault_dump(const fault_outcome *outcome);

/* Goes on after a disturbance; the end must be that of the undisturbed run. may_compute: blocks may be lost. */
void fault_must_recover(const fault_rig *rig, int acknowledged, bool may_compute, const char *what, long at);

/* The i-th of the places that are tried, of so many: evenly spread, with a random shift. */
long fault_place(const fault_rig *rig, long total, int i, test_random *random);

#endif
