/* bench/bench_state.c - what it costs to save, restore, fork and commit a guest with its conversation. Medians.
 *
 *     bench_state MODEL.gguf [--json] [--lengths 24,128,...] [--device NAME] [--folder DIR] [--forks N] [--isa ISA]
 *                 [--rest MS] [--spare BYTES]
 *
 * For each length: prefill is the guest's append of so many tokens, once for long ones. "warm" is a restore out of this
 * process's image and store; "file" opens the snapshot's file and its store's folder anew, page cache warm, checksums
 * included; "cold" is the same after the kernel was told to forget the files' pages. first: until a token is chosen;
 * second: until the one after it is computed, which reads the whole cache. Each restore and fork begins when the guest
 * before it has just ended, or --rest later: a device that keeps memory of ended guests clears it meanwhile.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/file.h"
#include "os/vm.h"
#include "samepage/samepage.h"

enum { RUNS = 21, PAGES = 100, TURN_TOKENS = 50 };

typedef struct bench {
    sp_engine *engine;
    sp_device *device;
    sp_model *model;
    sp_module *module;
    sp_guest_model models[1];
    sp_guest_options options;
    char folder[512], snapshot[600];
    bool json, is_first;
    uint32_t forks, rest_ms;
    int64_t second; /* token, of every guest of a length: < 0: not known yet */
} bench;

static void rest(const bench *all) {
    const struct timespec time = {.tv_sec = all->rest_ms / 1000, .tv_nsec = (long)(all->rest_ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void check(sp_status status, const sp_error *error, const char *what) {
    if (status) {
        fprintf(stderr, "bench_state: %s: %s\n", what, error->message);
        exit(1);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static double since_ms(int64_t begin_ns) {
    return (double)(spi_clock_ns() - begin_ns) / 1e6;
}

static void report(bench *all, uint32_t length, const char *name, double value, const char *unit) {
    if (all->json) {
        printf("%s{\"length\": %u, \"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}", all->is_first ? "[" : ",\n ",
               length, name, value, unit);
    } else {
        printf("%6u  %-34s %12.4f %s\n", length, name, value, unit);
    }
    all->is_first = false;
    fflush(stdout);
}

static int64_t call(bench *all, sp_guest *guest, const char *function, int64_t a, int64_t b, uint32_t count) {
    const int64_t arguments[2] = {a, b};
    sp_error error = {0};
    check(sp_guest_start(guest, function, arguments, count, &error), &error, function);
    sp_engine_run(all->engine, guest, -1);
    if (sp_guest_get_state(guest) != SP_GUEST_IDLE || sp_guest_result(guest) < 0) {
        fprintf(stderr, "bench_state: %s: %s (%lld)\n", function, sp_guest_error(guest)->message,
                (long long)sp_guest_result(guest));
        exit(1);
    }
    return sp_guest_result(guest);
}

static sp_guest *make_guest(bench *all, uint32_t length) {
    sp_guest *guest;
    sp_error error = {0};
    check(sp_guest_create(all->module, &all->options, &guest, &error), &error, "a guest");
    call(all, guest, "begin", length + 192, 0, 2);
    return guest;
}

static sp_store *open_store(const char *folder) {
    const sp_store_options options = {.folder = folder, .bytes_max = (uint64_t)64 << 30};
    sp_store *store;
    sp_error error = {0};
    check(sp_store_open(&options, &store, &error), &error, "a store");
    return store;
}

/* Restores once: total, and until the first and second token. */
typedef struct times {
    double restore, guest, blocks, first, second;
    bool is_spare; /* into memory of a guest that had ended */
} times;

static uint64_t spares_taken(const bench *all) {
    sp_device_counters counters;
    sp_device_get_counters(all->device, &counters);
    return counters.spares_taken;
}

/* The token after the first is the same for the guest and whatever was restored or forked from it. */
static void check_second(bench *all, sp_guest *guest) {
    int64_t token = call(all, guest, "pick", 0, 0, 0);
    if (all->second >= 0 && token != all->second) {
        fprintf(stderr, "bench_state: the second token is another\n");
        exit(1);
    }
    all->second = token;
}

static times restore_once(bench *all, const sp_snapshot *snapshot, sp_store *store, int64_t begin_ns, int64_t token) {
    sp_restore_report told;
    const sp_restore_options options = {.store = store, .report = &told};
    sp_guest *guest;
    sp_error error = {0};
    times took = {0};
    uint64_t taken = spares_taken(all);
    check(sp_guest_restore(snapshot, all->module, &all->options, &options, &guest, &error), &error, "restoring");
    took.restore = since_ms(begin_ns);
    took.is_spare = spares_taken(all) > taken;
    took.guest = (double)told.guest_ns / 1e6;
    took.blocks = (double)told.blocks_ns / 1e6;
    if (told.computed_tokens) {
        fprintf(stderr, "bench_state: %u tokens were computed again\n", told.computed_tokens);
    }
    if (call(all, guest, "pick", 0, 0, 0) != token) {
        fprintf(stderr, "bench_state: the first token is another\n");
        exit(1);
    }
    took.first = since_ms(begin_ns);
    call(all, guest, "next", 0, 0, 0);
    took.second = since_ms(begin_ns);
    check_second(all, guest);
    sp_guest_destroy(guest);
    return took;
}

static void report_times(bench *all, uint32_t length, const char *kind, times *took, int runs) {
    double values[5][RUNS];
    const char *const names[5] = {"restore", "of it the guest", "of it blocks", "to first token", "to second token"};
    for (int i = 0; i < runs; i++) {
        const double now[5] = {took[i].restore, took[i].guest, took[i].blocks, took[i].first, took[i].second};
        for (int k = 0; k < 5; k++) {
            values[k][i] = now[k];
        }
    }
    for (int k = 0; k < 5; k++) {
        char name[80];
        snprintf(name, sizeof name, "%s: %s", kind, names[k]);
        report(all, length, name, median(values[k], runs), "ms");
    }
    int spare = 0;
    for (int i = 0; i < runs; i++) {
        spare += took[i].is_spare;
    }
    char name[80];
    snprintf(name, sizeof name, "%s: in spare memory, of %d", kind, runs);
    report(all, length, name, spare, "times");
}

/* Tells the kernel to forget the pages of all files of the folder. */
static void make_cold(const char *path) {
    DIR *folder = opendir(path);
    sync();
    for (const struct dirent *item; folder && (item = readdir(folder));) {
        char name[1024];
        snprintf(name, sizeof name, "%s/%s", path, item->d_name);
        int file = open(name, O_RDONLY);
        if (file >= 0) {
#if defined(POSIX_FADV_DONTNEED) /* elsewhere files stay warm */
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
#endif
            close(file);
        }
    }
    closedir(folder);
}

static void bench_files(bench *all, uint32_t length, int64_t token) {
    times took[RUNS];
    for (int cold = 0; cold < 2; cold++) {
        int runs = length > 4000 ? 5 : cold ? 7 : RUNS;
        for (int i = 0; i < runs; i++) {
            sp_error error = {0};
            if (cold) {
                make_cold(all->folder);
            }
            rest(all);
            int64_t begin_ns = spi_clock_ns();
            sp_snapshot *snapshot;
            sp_store *store = open_store(all->folder);
            check(sp_snapshot_open(all->snapshot, NULL, &snapshot, &error), &error, "the file");
            took[i] = restore_once(all, snapshot, store, begin_ns, token);
            sp_snapshot_close(snapshot);
            sp_store_close(store);
        }
        report_times(all, length, cold ? "cold" : "file", took, runs);
    }
}

static void bench_commit(bench *all, uint32_t length, sp_guest *guest, sp_store *store) {
    const sp_capture_options capture = {.store = store};
    for (int way = SP_TRACK_FAULTS; way <= SP_TRACK_PROTECTION; way++) {
        const sp_tracker_options options = {.tracking = (sp_tracking)way};
        sp_snapshot *base, *delta;
        sp_tracker *tracker;
        sp_error error = {0};
        double deltas[RUNS], writes[RUNS], syncs[RUNS], bytes = 0, changed = 0;
        check(sp_guest_capture(guest, &capture, &base, &error), &error, "capturing");
        if (sp_tracker_create(guest, base, &options, &tracker, &error)) {
            sp_snapshot_close(base);
            continue;
        }
        for (int i = 0; i < RUNS; i++) {
            for (int k = 0; k < PAGES; k++) {
                call(all, guest, "touch", k * 3, i + 1, 2);
            }
            int64_t begin_ns = spi_clock_ns();
            check(sp_tracker_delta(tracker, NULL, &delta, &error), &error, "a delta");
            deltas[i] = since_ms(begin_ns);
            const sp_write_options plain = {.sync = false}, sync = {.sync = true};
            check(sp_snapshot_write(delta, all->snapshot, &plain, &error), &error, "writing");
            writes[i] = since_ms(begin_ns);
            begin_ns = spi_clock_ns();
            check(sp_snapshot_write(delta, all->snapshot, &sync, &error), &error, "writing");
            syncs[i] = since_ms(begin_ns);
            sp_snapshot_info info;
            sp_snapshot_get_info(delta, &info);
            bytes = (double)info.byte_count;
            changed = (double)info.page_bytes;
            sp_tracker_accept(tracker);
            sp_snapshot_close(delta);
        }
        static const char *const kinds[] = {"", "faults", "hashes", "protection"};
        const char *kind = kinds[way];
        char name[64];
        snprintf(name, sizeof name, "commit by %s: delta", kind);
        report(all, length, name, median(deltas, RUNS), "ms");
        snprintf(name, sizeof name, "commit by %s: delta and write", kind);
        report(all, length, name, median(writes, RUNS), "ms");
        snprintf(name, sizeof name, "commit by %s: write with sync", kind);
        report(all, length, name, median(syncs, RUNS), "ms");
        snprintf(name, sizeof name, "commit by %s: bytes per changed", kind);
        report(all, length, name, bytes / changed, "ratio");
        sp_tracker_destroy(tracker);
        sp_snapshot_close(base);
    }
}

/* first: of a guest that has run since it was forked last; again: of one that has not, twice and more. */
static void bench_forks(bench *all, uint32_t length, sp_guest *guest, sp_store *store) {
    static const char *const names[3] = {"fork, first", "fork, second", "fork, again"};
    double took[3][RUNS];
    sp_error error = {0};
    for (int i = 0; i < RUNS; i++) {
        sp_guest *forks[3];
        call(all, guest, "peek", 1, 0, 1);
        for (int k = 0; k < 3; k++) {
            rest(all);
            int64_t begin_ns = spi_clock_ns();
            check(sp_guest_fork(guest, store, NULL, &forks[k], &error), &error, "forking");
            took[k][i] = since_ms(begin_ns);
        }
        for (int k = 0; k < 3; k++) {
            sp_guest_destroy(forks[k]);
        }
    }
    for (int k = 0; k < 3; k++) {
        report(all, length, names[k], median(took[k], RUNS), "ms");
    }
    if (!all->forks) {
        return;
    }
    sp_guest **forks = calloc(all->forks, sizeof *forks);
    size_t before = spi_vm_resident_bytes();
    int64_t begin_ns = spi_clock_ns();
    for (uint32_t i = 0; forks && i < all->forks; i++) {
        check(sp_guest_fork(guest, store, NULL, &forks[i], &error), &error, "a fork");
    }
    report(all, length, "each of many forks", since_ms(begin_ns) / all->forks, "ms");
    report(all, length, "resident for each of many forks",
           ((double)spi_vm_resident_bytes() - (double)before) / all->forks / 1048576, "MiB");
    call(all, forks[0], "next", 0, 0, 0);
    for (uint32_t i = 0; i < all->forks; i++) {
        sp_guest_destroy(forks[i]);
    }
    free(forks);
}

static void bench_length(bench *all, uint32_t length) {
    sp_error error = {0};
    double prefills[3], captures[RUNS];
    int runs = length < 200 ? 3 : 1;
    sp_store *store = open_store(NULL), *disk = open_store(all->folder);
    sp_guest *guest = NULL;
    for (int i = 0; i < runs; i++) {
        sp_guest_destroy(guest);
        guest = make_guest(all, length);
        int64_t begin_ns = spi_clock_ns();
        call(all, guest, "tell", 5, length, 2);
        prefills[i] = since_ms(begin_ns);
    }
    report(all, length, "prefill", median(prefills, runs), "ms");
    int64_t token = call(all, guest, "pick", 0, 0, 0);
    all->second = -1;
    const sp_capture_options capture = {.store = store}, to_disk = {.store = disk};
    sp_snapshot *snapshot, *file;
    /* A session is of one store: the folder's blocks come from a guest that was restored into it. */
    int64_t begin_ns = spi_clock_ns();
    check(sp_guest_capture(guest, &capture, &snapshot, &error), &error, "capturing");
    report(all, length, "capture, blocks taken in", since_ms(begin_ns), "ms");
    for (int i = 0; i < RUNS; i++) {
        sp_snapshot *again;
        begin_ns = spi_clock_ns();
        check(sp_guest_capture(guest, &capture, &again, &error), &error, "capturing");
        captures[i] = since_ms(begin_ns);
        sp_snapshot_close(again);
    }
    report(all, length, "capture, blocks in the store", median(captures, RUNS), "ms");
    const sp_capture_options inside = {.inside = true};
    check(sp_guest_capture(guest, &inside, &file, &error), &error, "capturing");
    sp_guest *copy;
    const sp_restore_options into = {.store = disk};
    check(sp_guest_restore(file, all->module, &all->options, &into, &copy, &error), &error, "restoring");
    sp_snapshot_close(file);
    check(sp_guest_capture(copy, &to_disk, &file, &error), &error, "capturing");
    sp_guest_destroy(copy);
    const sp_write_options sync = {.sync = true};
    check(sp_snapshot_write(file, all->snapshot, &sync, &error), &error, "writing");
    check(sp_store_sync(disk, &error), &error, "syncing");
    sp_snapshot_close(file);
    sp_store_close(disk);
    times took[RUNS];
    for (int i = 0; i < RUNS; i++) {
        rest(all);
        took[i] = restore_once(all, snapshot, store, spi_clock_ns(), token);
    }
    report_times(all, length, "warm", took, RUNS);
    double decodes[5];
    for (int i = 0; i < 5; i++) {
        begin_ns = spi_clock_ns();
        call(all, guest, "next", 0, 0, 0);
        decodes[i] = since_ms(begin_ns);
        if (!i) {
            check_second(all, guest);
        }
    }
    report(all, length, "a token, undisturbed", median(decodes, 5), "ms");
    bench_forks(all, length, guest, store);
    bench_files(all, length, token);
    bench_commit(all, length, guest, store);
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    sp_store_close(store);
}

int main(int argc, char **argv) {
    bench all = {.is_first = true};
    const char *model = NULL, *lengths = "24,128,512,2048", *device = "cpu", *folder = "/tmp";
    const char *wasm = NULL;
    sp_device_options device_options = {0};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--json") == 0) {
            all.json = true;
        } else if (strcmp(argv[i], "--lengths") == 0 && has_value) {
            lengths = argv[++i];
        } else if (strcmp(argv[i], "--device") == 0 && has_value) {
            device = argv[++i];
        } else if (strcmp(argv[i], "--folder") == 0 && has_value) {
            folder = argv[++i];
        } else if (strcmp(argv[i], "--forks") == 0 && has_value) {
            all.forks = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--rest") == 0 && has_value) {
            all.rest_ms = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--spare") == 0 && has_value) {
            device_options.spare_bytes_max = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--isa") == 0 && has_value) {
            device_options.isa = argv[++i];
        } else if (strcmp(argv[i], "--guest") == 0 && has_value) {
            wasm = argv[++i];
        } else {
            model = argv[i];
        }
    }
    if (!model) {
        fprintf(stderr,
                "usage: bench_state MODEL.gguf [--json] [--lengths 24,128,...] [--device NAME] [--folder DIR] "
                "[--forks N] [--isa ISA] [--rest MS] [--spare BYTES] [--guest build/guests/test_durable.wasm]\n");
        return 2;
    }
    sp_error error = {0};
    const sp_engine_options engine_options = {.compiler = ""};
    check(sp_engine_create(&engine_options, &all.engine, &error), &error, "the engine");
    check(sp_device_open(device, &device_options, &all.device, &error), &error, "the device");
    check(sp_model_open(model, &all.model, &error), &error, "the model");
    check(sp_model_load(all.model, all.device, NULL, NULL, &error), &error, "the model");
    check(sp_module_open(all.engine, wasm ? wasm : "build/guests/test_durable.wasm", &all.module, &error), &error,
          "the guest");
    all.models[0] = (sp_guest_model){.name = "m", .model = all.model};
    all.options = (sp_guest_options){.device = all.device, .models = all.models, .model_count = 1};
    int64_t begin_ns = spi_clock_ns();
    sp_fingerprint fingerprint;
    sp_model_get_fingerprint(all.model, &fingerprint);
    report(&all, 0, "fingerprint", since_ms(begin_ns), "ms");
    char *list = strdup(lengths);
    for (char *at = strtok(list, ","); at; at = strtok(NULL, ",")) {
        snprintf(all.folder, sizeof all.folder, "%s/samepage-bench-XXXXXX", folder);
        if (!mkdtemp(all.folder)) {
            perror(all.folder);
            return 1;
        }
        snprintf(all.snapshot, sizeof all.snapshot, "%s/a.snap", all.folder);
        bench_length(&all, (uint32_t)strtoul(at, NULL, 10));
        char command[600];
        snprintf(command, sizeof command, "rm -rf '%s'", all.folder);
        if (system(command)) {
            return 1;
        }
    }
    if (all.json) {
        printf("]\n");
    }
    free(list);
    sp_module_close(all.module);
    sp_engine_destroy(all.engine);
    sp_model_close(all.model);
    sp_device_close(all.device);
    return 0;
}
