/* tests/fault/test_power_loss.c - actors whose machine loses power: disk.h makes what may be left of their files from
 * what a run did to them. After it every actor must be at its last commit or the next, what was acknowledged must be
 * there, and the script, gone on with, must end as an undisturbed run does; blocks may be computed again. Power goes a
 * second time while a run recovers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "fault/disk.h"
#include "fault/fault_rig.h"

static const char *const losses[DISK_LOSS_COUNT] = {
    [DISK_LOSES_ALL] = "all is lost",         [DISK_LOSES_SOME] = "some is lost",
    [DISK_LOSES_LATE] = "the latest is lost", [DISK_LOSES_EARLY] = "the earliest is lost",
    [DISK_LOSES_PARTS] = "sectors are lost",  [DISK_LOSES_BYTES] = "sizes without bytes",
};

typedef struct recording {
    char start[200], record[200];
} recording;

/* Runs on whatever is in the folder, and writes down what happens to it. */
static disk *run_recorded(const fault_rig *r, recording *where, const char *mode, int acknowledged,
                          const char *log_pages) {
    snprintf(where->start, sizeof where->start, "%s/start-%s", r->root, mode);
    snprintf(where->record, sizeof where->record, "%s/record-%s", r->root, mode);
    disk_note_start(r->folder, where->start);
    const char *const environment[] = {"LD_PRELOAD",
                                       test_build_path("tests/librecord_shim.so"),
                                       "RECORD_FOLDER",
                                       r->folder,
                                       "RECORD_FILE",
                                       where->record,
                                       "LOG_PAGES",
                                       log_pages,
                                       NULL};
    fault_outcome o = fault_run(r, mode, acknowledged, environment);
    if (!WIFEXITED(o.status) || WEXITSTATUS(o.status)) {
        fail_msg("%s was to go through: %x, %s", mode, o.status, o.text);
    }
    free(o.text);
    return disk_open(r->folder, where->start, where->record);
}

static void power_is_lost(fault_rig *r, const char *log_pages, test_random *random, bool twice) {
    recording first, second;
    fault_start_anew(r);
    disk *one = run_recorded(r, &first, "run", -1, log_pages);
    uint32_t moments = disk_moments(one);
    int runs = r->runs ? r->runs * 2 : (int)moments;
    assert_true(moments > 500);
    for (int i = 0; i < runs; i++) {
        uint32_t moment = (uint32_t)fault_place(&(fault_rig){.runs = runs}, moments, i, random);
        disk_loss loss = (disk_loss)test_random_below(random, DISK_LOSS_COUNT);
        char what[96];
        snprintf(what, sizeof what, "power lost, %s, log of %s pages, before", losses[loss], log_pages);
        int told = disk_cut(one, moment, loss, random);
        if (!twice) {
            fault_must_recover(r, told, true, what, moment);
            continue;
        }
        disk *two = run_recorded(r, &second, "recover", told, log_pages);
        uint32_t again = test_random_below(random, disk_moments(two));
        int told_again = disk_cut(two, again, (disk_loss)test_random_below(random, DISK_LOSS_COUNT), random);
        disk_close(two);
        fault_must_recover(r, told_again > told ? told_again : told, true, what, moment);
    }
    print_message("%d of %u moments\n", runs, moments);
    disk_close(one);
}

static void once(void **state) {
    test_random random = test_random_seed(test_seed() + 10);
    power_is_lost(*state, "4000", &random, false);
}

/* The log is folded into the database again and again, and begins anew. */
static void with_a_short_log(void **state) {
    test_random random = test_random_seed(test_seed() + 11);
    power_is_lost(*state, "20", &random, false);
}

static void again_while_recovering(void **state) {
    test_random random = test_random_seed(test_seed() + 12);
    power_is_lost(*state, "60", &random, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(once),
        cmocka_unit_test(with_a_short_log),
        cmocka_unit_test(again_while_recovering),
    };
    return cmocka_run_group_tests(tests, fault_setup, fault_teardown);
}
