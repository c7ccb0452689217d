/* bench/bench_actor.c - what durable actors cost: sleeping by the thousand, woken, sent to, put to sleep; commits with
 * and without the disk's sync. Medians, with the 95th percentile where that says more.
 *
 *     bench_actor [--json] [--actors N] [--folder FOLDER] MODEL.gguf AGENT.wasm
 *     bench_actor [--json] --turns TOKENS [--folder FOLDER] MODEL.gguf build/guests/test_actor.wasm
 *
 * The actors are forks of one that was told a fact, so each has a conversation of some 50 tokens behind it; each is
 * sent a question and answers it. FOLDER decides what a sync costs: bench-actors.tmp is made in it (by default the
 * present one) and removed at the end.
 *
 * With --turns it is one actor with so many tokens behind it: turns of 50 tokens that write to 100 pages, and wakes.
 * Bytes are those of all calls that write, from /proc/self/io; blocks that became full and the tail are told apart.
 * "first" is the wake after the folder was opened anew, which looks at the checksum of each block once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/file.h"
#include "os/vm.h"
#include "samepage/actor.h"

#define SAMPLES_MAX 100000

typedef struct samples {
    double values[SAMPLES_MAX];
    uint32_t count;
} samples;

static bool as_json, is_first = true;
static samples wakes, guests, captures, writes, states, handles, blocks_found, computed;
static uint32_t answered;

static void add(samples *s, double value) {
    if (s->count < SAMPLES_MAX) {
        s->values[s->count++] = value;
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double value, const char *unit) {
    if (as_json) {
        printf("%s\"%s_%s\": %.3f", is_first ? "{" : ", ", name, unit, value);
    } else {
        printf("%-34s %12.2f %s\n", name, value, unit);
    }
    is_first = false;
    fflush(stdout);
}

static void report_samples(const char *name, samples *s, const char *unit) {
    char worst[64];
    if (!s->count) {
        return;
    }
    qsort(s->values, s->count, sizeof *s->values, compare);
    snprintf(worst, sizeof worst, "%s_95", name);
    report(name, s->values[s->count / 2], unit);
    report(worst, s->values[s->count * 95 / 100], unit);
    s->count = 0;
}

static void on_event(void *env, const sp_actor_event *event) {
    (void)env;
    if (event->kind == SP_ACTOR_EVENT_WOKEN && !event->woken->is_fresh) {
        add(&wakes, (double)event->woken->ns / 1e3);
        add(&guests, (double)event->woken->restore.guest_ns / 1e3);
        add(&blocks_found, (double)event->woken->restore.blocks_ns / 1e3);
        add(&computed, event->woken->restore.computed_tokens);
    } else if (event->kind == SP_ACTOR_EVENT_DONE) {
        add(&captures, (double)event->commit->capture_ns / 1e3);
        add(&writes, (double)event->commit->write_ns / 1e3);
        add(&states, (double)event->commit->state_bytes);
        add(&handles, (double)event->commit->handle_ns / 1e3);
        answered++;
    } else if (event->kind == SP_ACTOR_EVENT_HELD || event->kind == SP_ACTOR_EVENT_DEAD) {
        fprintf(stderr, "bench_actor: %s: %s\n", event->actor, event->text);
        exit(1);
    }
}

static sp_error error;

static void must(sp_status status) {
    if (status) {
        fprintf(stderr, "bench_actor: %s\n", error.message);
        exit(1);
    }
}

static sp_actors *open_folder(const char *folder, bool without_sync) {
    const sp_actors_options options = {.folder = folder, .without_sync = without_sync, .listener = on_event};
    sp_actors *actors;
    must(sp_actors_open(&options, &actors, &error));
    return actors;
}

static void settle(sp_actors *actors) {
    uint32_t next_ms;
    while (sp_actors_step(actors, 20, &next_ms) == SP_OK) {}
}

static void send(sp_actors *actors, const char *name, const char *text) {
    uint64_t id;
    must(sp_actor_send(actors, name, text, (uint32_t)strlen(text), NULL, &id, &error));
}

static void create(sp_actors *actors, const char *name, const char *model, const char *path) {
    void *wasm;
    size_t bytes;
    const sp_actor_model models[] = {{"demo", model}};
    must(spi_file_read(path, (size_t)1 << 26, &wasm, &bytes, &error));
    const sp_actor_spec spec = {
        .wasm = wasm, .wasm_bytes = bytes, .module_name = "agent", .models = models, .model_count = 1, .device = "cpu"};
    must(sp_actor_create(actors, name, &spec, &error));
    free(wasm);
}

/* One actor in memory, one message after the other. */
static void commits(const char *folder, const char *model, const char *agent, bool without_sync, const char *label) {
    char name[64];
    sp_actors *actors = open_folder(folder, without_sync);
    snprintf(name, sizeof name, "one-%s", label);
    create(actors, name, model, agent);
    send(actors, name, "Hello! My name is Ada and my boat is green.");
    settle(actors);
    captures.count = writes.count = states.count = handles.count = 0;
    for (int i = 0; i < 40; i++) {
        send(actors, name, i % 2 ? "What colour is my boat?" : "And what is my name?");
        settle(actors);
    }
    snprintf(name, sizeof name, "commit_%s_capture", label);
    report_samples(name, &captures, "us");
    snprintf(name, sizeof name, "commit_%s_write", label);
    report_samples(name, &writes, "us");
    snprintf(name, sizeof name, "commit_%s_state", label);
    report_samples(name, &states, "bytes");
    sp_actors_close(actors);
}

/* ---- one actor of a larger model ---- */

enum { TURNS = 8, TURN_TOKENS = 50, TURN_BYTES = 100 * 4096, WAKES = 21 };

static double written_bytes(void) {
    char line[128];
    double bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    while (file && fgets(line, sizeof line, file)) {
        (void)sscanf(line, "wchar: %lf", &bytes);
    }
    if (file) {
        fclose(file);
    }
    return bytes;
}

static void turns(const char *folder, const char *model, const char *guest, int tokens, bool without_sync,
                  const char *label) {
    static samples databases, tails;
    char text[64], name[64];
    sp_store_stats before, after;
    sp_actors *actors = open_folder(folder, without_sync);
    create(actors, "one", model, guest);
    snprintf(text, sizeof text, "turn %d %d x", tokens, TURN_BYTES);
    send(actors, "one", text);
    settle(actors);
    send(actors, "one", "count"); /* the first commit is of all that it has */
    settle(actors);
    captures.count = writes.count = states.count = 0;
    for (int i = 0; i < TURNS; i++) {
        double written;
        snprintf(text, sizeof text, "turn %d %d x", TURN_TOKENS, TURN_BYTES);
        send(actors, "one", text);
        sp_store_get_stats(sp_actors_store(actors), &before);
        written = written_bytes();
        settle(actors);
        sp_store_get_stats(sp_actors_store(actors), &after);
        double block_bytes = after.blocks ? (double)after.bytes / (double)after.blocks : 0;
        double blocks = (double)(after.taken_blocks - before.taken_blocks) * block_bytes;
        add(&tails, (double)after.tail_bytes);
        add(&databases, written_bytes() - written - blocks - (double)after.tail_bytes);
    }
    snprintf(name, sizeof name, "turn_%s_capture", label);
    report_samples(name, &captures, "us");
    snprintf(name, sizeof name, "turn_%s_write", label);
    report_samples(name, &writes, "us");
    snprintf(name, sizeof name, "turn_%s_state", label);
    report_samples(name, &states, "bytes");
    snprintf(name, sizeof name, "turn_%s_database", label);
    report_samples(name, &databases, "bytes");
    snprintf(name, sizeof name, "turn_%s_tail", label);
    report_samples(name, &tails, "bytes");
    sp_actors_close(actors);
}

static void wake_again(const char *folder, bool is_anew, const char *label) {
    char name[64];
    sp_actors *actors = open_folder(folder, true);
    wakes.count = guests.count = blocks_found.count = computed.count = 0;
    for (int i = 0; i < (is_anew ? 5 : WAKES); i++) {
        send(actors, "one", "count");
        settle(actors);
        must(sp_actor_sleep(actors, "one", &error));
        if (is_anew) {
            sp_actors_close(actors);
            actors = open_folder(folder, true);
        } else if (!i) {
            wakes.count = guests.count = blocks_found.count = computed.count = 0;
        }
    }
    snprintf(name, sizeof name, "wake%s", label);
    report_samples(name, &wakes, "us");
    snprintf(name, sizeof name, "wake%s_guest", label);
    report_samples(name, &guests, "us");
    snprintf(name, sizeof name, "wake%s_blocks", label);
    report_samples(name, &blocks_found, "us");
    snprintf(name, sizeof name, "wake%s_computed", label);
    report_samples(name, &computed, "tokens");
    sp_actors_close(actors);
}

/* ---- ten thousand of a small one ---- */

static void crowd(const char *folder, const char *model, const char *agent, int count) {
    sp_actors *actors = open_folder(folder, true);
    char name[64];
    create(actors, "first", model, agent);
    send(actors, "first", "Hello! My name is Ada and my boat is green.");
    settle(actors);
    must(sp_actor_sleep(actors, "first", &error));
    double before = (double)spi_vm_resident_bytes() / 1e6;
    int64_t begun_ns = spi_clock_ns();
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "a%05d", i);
        must(sp_actor_fork(actors, "first", name, &error));
    }
    report("fork", (double)(spi_clock_ns() - begun_ns) / 1e3 / count, "us");
    report("resident_before", before, "MB");
    report("resident_asleep", (double)spi_vm_resident_bytes() / 1e6, "MB");
    wakes.count = handles.count = guests.count = captures.count = writes.count = 0;
    answered = 0;
    begun_ns = spi_clock_ns();
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "a%05d", i);
        send(actors, name, "What colour is my boat?");
    }
    report("send", (double)(spi_clock_ns() - begun_ns) / 1e3 / count, "us");
    double most = 0;
    begun_ns = spi_clock_ns();
    uint32_t next_ms;
    for (int i = 0; sp_actors_step(actors, 20, &next_ms) == SP_OK; i++) {
        double now = i % 64 ? 0 : (double)spi_vm_resident_bytes() / 1e6;
        most = now > most ? now : most;
    }
    report("answered", answered, "messages");
    report("answered_rate", answered / ((double)(spi_clock_ns() - begun_ns) / 1e9), "per_s");
    report("resident_most", most, "MB");
    report_samples("wake", &wakes, "us");
    report_samples("wake_guest", &guests, "us");
    report_samples("handle", &handles, "us");
    sp_actors_close(actors);
}

int main(int argc, char **argv) {
    const char *folder = ".", *files[2] = {0};
    char path[3][4096], command[4200];
    int count = 10000, tokens = 0, found = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            as_json = true;
        } else if (!strcmp(argv[i], "--actors") && i + 1 < argc) {
            count = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--turns") && i + 1 < argc) {
            tokens = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--folder") && i + 1 < argc) {
            folder = argv[++i];
        } else if (found < 2) {
            files[found++] = argv[i];
        }
    }
    if (found != 2) {
        fprintf(stderr,
                "usage: bench_actor [--json] [--actors N | --turns TOKENS] [--folder FOLDER] MODEL.gguf AGENT.wasm\n");
        return 2;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%.4000s/bench-actors.tmp/%d", folder, i);
    }
    snprintf(command, sizeof command, "rm -rf '%.4000s/bench-actors.tmp'", folder);
    if (system(command)) { /* what a run that was killed left behind */
        return 1;
    }
    if (tokens) {
        turns(path[0], files[0], files[1], tokens, false, "synced");
        turns(path[1], files[0], files[1], tokens, true, "unsynced");
        wake_again(path[1], false, "");
        wake_again(path[1], true, "_first");
    } else {
        commits(path[0], files[0], files[1], false, "synced");
        commits(path[1], files[0], files[1], true, "unsynced");
        crowd(path[2], files[0], files[1], count);
    }
    if (as_json) {
        printf("}\n");
    }
    return system(command) != 0;
}
