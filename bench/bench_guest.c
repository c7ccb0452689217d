/* bench/bench_guest.c - what guests cost: starting, calling, waiting, sharing and ending them. Medians.
 *
 *     bench_guest [--json] [MODULE.wasm]
 *
 * MODULE is the one whose start is measured; without one it is a guest in C out of the build folder's guests/, as far
 * as it is there. Everything else is measured with small modules made here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/guest.h"
#include "os/clock.h"
#include "os/vm.h"

enum { RUNS = 31, CALLS = 1000000, WAITS = 100000, SPINNERS = 8, MANY = 100 };

static bool as_json, is_first = true;

static void die(const char *what, const sp_error *error) {
    fprintf(stderr, "bench_guest: %s: %s\n", what, error->message);
    exit(1);
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

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[RUNS]) {
    qsort(values, RUNS, sizeof *values, compare);
    return values[RUNS / 2];
}

static double since_us(int64_t begin_ns) {
    return (double)(spi_clock_ns() - begin_ns) / 1e3;
}

/* ---- imports of its own ---- */

static void call_nothing(sp_guest *guest, int64_t *words) {
    (void)guest;
    words[0] += words[1];
}

static int32_t begin_wait(sp_guest *guest, const int64_t *words, spi_job *job) {
    (void)guest;
    (void)words;
    job->kind = SPI_JOB_MATMUL;
    return SP_OK;
}

static sp_status compute_nothing(sp_device *device, sp_region *region, const sp_matmul *args, sp_error *error) {
    (void)device;
    (void)region;
    (void)args;
    (void)error;
    return SP_OK;
}

static const spi_import imports[] = {
    {.name = "nothing", .parameters = "ii", .results = "i", .call = call_nothing},
    {.name = "wait", .parameters = "i", .results = "i", .is_async = true, .begin = begin_wait},
};

static const char program[] =
    "(module"
    " (import \"samepage\" \"nothing\" (func $nothing (param i32 i32) (result i32)))"
    " (import \"samepage\" \"wait\" (func $wait (param i32) (result i32)))"
    " (memory (export \"memory\") 2)"
    " (func (export \"empty\"))"
    " (func (export \"calls\") (param $n i32) (result i32) (local $s i32)"
    "   (loop $l (local.set $s (call $nothing (local.get $s) (local.get $n)))"
    "     (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $s))"
    " (func (export \"waits\") (param $n i32) (result i32)"
    "   (loop $l (drop (call $wait (local.get $n)))"
    "     (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (i32.const 0))"
    " (func (export \"spin\") (loop $l (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1)))"
    "   (br $l))))";

static sp_engine *make_engine(void) {
    const sp_engine_options options = {.cache_folder = "", .compiler = ""};
    const spi_engine_hooks hooks = {.imports = imports, .import_count = 2, .matmul = compute_nothing};
    sp_engine *engine;
    sp_error error = {0};
    if (spi_engine_create(&options, &hooks, &engine, &error)) {
        die("engine", &error);
    }
    return engine;
}

static sp_module *make_module(sp_engine *engine) {
    wasm_byte_vec_t wasm;
    sp_module *module = NULL;
    sp_error error = {0};
    wasmtime_error_t *failure = wasmtime_wat2wasm(program, strlen(program), &wasm);
    if (failure || sp_module_open_bytes(engine, "bench", wasm.data, wasm.size, &module, &error)) {
        die("module", &error);
    }
    wasm_byte_vec_delete(&wasm);
    return module;
}

static sp_guest *make_guest(sp_module *module) {
    sp_guest *guest;
    sp_error error = {0};
    if (sp_guest_create(module, NULL, &guest, &error)) {
        die("guest", &error);
    }
    return guest;
}

static void start(sp_guest *guest, const char *function, int64_t argument, uint32_t count) {
    sp_error error = {0};
    if (sp_guest_start(guest, function, &argument, count, &error)) {
        die(function, &error);
    }
}

static void run(sp_guest *guest, const char *function, int64_t argument, uint32_t count) {
    start(guest, function, argument, count);
    sp_engine_run(guest->engine, guest, -1);
}

/* ---- what is measured ---- */

static void drop_output(void *env, const void *bytes, size_t byte_count) {
    (void)env;
    (void)bytes;
    (void)byte_count;
}

/* From nothing to the end of a C program that exits at once: each part, and the whole. The module is in the cache. */
static void measure_start(const char *path) {
    char folder[] = "/tmp/samepage-bench-XXXXXX", command[100];
    const char *const words[] = {"guest", "exit:0"};
    const sp_guest_options options = {.arguments = words, .argument_count = 2, .out = drop_output, .err = drop_output};
    double engines[RUNS], modules[RUNS], guests[RUNS], calls[RUNS], ends[RUNS], all[RUNS];
    sp_error error = {0};
    if (!mkdtemp(folder)) {
        return;
    }
    for (int i = -1; i < RUNS; i++) { /* the first fills the cache */
        sp_engine_options engine_options = {.cache_folder = folder, .compiler = ""};
        sp_engine *engine;
        sp_module *module;
        sp_guest *guest;
        int64_t t0 = spi_clock_ns();
        if (sp_engine_create(&engine_options, &engine, &error)) {
            die("engine", &error);
        }
        int64_t t1 = spi_clock_ns();
        if (sp_module_open(engine, path, &module, &error)) {
            die("module", &error);
        }
        int64_t t2 = spi_clock_ns();
        if (sp_guest_create(module, &options, &guest, &error)) {
            die("guest", &error);
        }
        int64_t t3 = spi_clock_ns();
        run(guest, "_start", 0, 0);
        int64_t t4 = spi_clock_ns();
        sp_guest_destroy(guest);
        int64_t t5 = spi_clock_ns();
        sp_module_close(module);
        sp_engine_destroy(engine);
        if (i < 0) {
            report("start_engine_first", (double)(t1 - t0) / 1e3, "us"); /* looks at the library, too */
            report("start_module_compiled", (double)(t2 - t1) / 1e3, "us");
        } else {
            engines[i] = (double)(t1 - t0) / 1e3;
            modules[i] = (double)(t2 - t1) / 1e3;
            guests[i] = (double)(t3 - t2) / 1e3;
            calls[i] = (double)(t4 - t3) / 1e3;
            ends[i] = (double)(t5 - t4) / 1e3;
            all[i] = (double)(t4 - t0) / 1e3;
        }
    }
    report("start_engine", median(engines), "us");
    report("start_module_cached", median(modules), "us");
    report("start_guest", median(guests), "us");
    report("start_run_to_exit", median(calls), "us");
    report("start_all", median(all), "us");
    report("guest_destroy", median(ends), "us");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) {
        fprintf(stderr, "bench_guest: cannot remove %s\n", folder);
    }
}

static void measure_calls(sp_module *module) {
    double empty[RUNS], calls[RUNS], waits[RUNS], together[RUNS];
    sp_guest *guest = make_guest(module), *many[MANY];
    for (int i = 0; i < MANY; i++) {
        many[i] = make_guest(module);
    }
    for (int i = 0; i < RUNS; i++) {
        int64_t begin_ns = spi_clock_ns();
        for (int k = 0; k < 1000; k++) {
            run(guest, "empty", 0, 0);
        }
        empty[i] = since_us(begin_ns);
        begin_ns = spi_clock_ns();
        run(guest, "calls", CALLS, 1);
        calls[i] = since_us(begin_ns) * 1000 / CALLS;
        begin_ns = spi_clock_ns();
        run(guest, "waits", WAITS, 1);
        waits[i] = since_us(begin_ns) * 1000 / WAITS;
        begin_ns = spi_clock_ns();
        for (int k = 0; k < MANY; k++) {
            start(many[k], "waits", WAITS / MANY, 1);
        }
        sp_engine_run(guest->engine, NULL, -1);
        together[i] = since_us(begin_ns) * 1000 / WAITS;
    }
    for (int i = 0; i < MANY; i++) {
        sp_guest_destroy(many[i]);
    }
    sp_guest_destroy(guest);
    report("call_of_empty_function", median(empty), "ns"); /* us for a thousand */
    report("host_call_sync", median(calls), "ns");
    report("host_call_suspend_resume", median(waits), "ns");
    report("host_call_suspend_resume_of_100", median(together), "ns");
}

static void measure_instances(sp_module *module) {
    double creates[RUNS], destroys[RUNS];
    static sp_guest *many[500];
    for (int i = 0; i < RUNS; i++) {
        int64_t begin_ns = spi_clock_ns();
        sp_guest *guest = make_guest(module);
        creates[i] = since_us(begin_ns);
        begin_ns = spi_clock_ns();
        sp_guest_destroy(guest);
        destroys[i] = since_us(begin_ns);
    }
    size_t before = spi_vm_resident_bytes();
    for (int i = 0; i < 500; i++) {
        many[i] = make_guest(module);
    }
    size_t after = spi_vm_resident_bytes();
    for (int i = 0; i < 500; i++) {
        sp_guest_destroy(many[i]);
    }
    report("instance_create", median(creates), "us");
    report("instance_destroy", median(destroys), "us");
    report("instance_resident", (double)(after - before) / 500 / 1024, "kib");
}

typedef struct killer {
    sp_guest *guest;
    int64_t at_ns;
} killer;

static void kill_soon(void *env) {
    killer *one = env;
    spi_sleep_ns(7000000);
    one->at_ns = spi_clock_ns();
    sp_guest_terminate(one->guest);
}

static void measure_terminate(sp_module *module, int spinner_count, const char *name) {
    double latencies[RUNS], worst = 0;
    sp_guest *spinners[SPINNERS];
    for (int i = 0; i < spinner_count; i++) {
        spinners[i] = make_guest(module);
        start(spinners[i], "spin", 0, 0);
    }
    for (int i = 0; i < RUNS; i++) {
        killer one = {.guest = make_guest(module)};
        spi_thread thread;
        if (spi_thread_start(&thread, "killer", kill_soon, &one)) {
            exit(1);
        }
        run(one.guest, "spin", 0, 0);
        int64_t end_ns = spi_clock_ns();
        spi_thread_join(&thread);
        latencies[i] = (double)(end_ns - one.at_ns) / 1e6;
        worst = latencies[i] > worst ? latencies[i] : worst;
        sp_guest_destroy(one.guest);
    }
    for (int i = 0; i < spinner_count; i++) {
        sp_guest_destroy(spinners[i]);
    }
    char label[64];
    report(name, median(latencies), "ms");
    snprintf(label, sizeof label, "%s_worst", name);
    report(label, worst, "ms");
}

/* How much of a ninth of the thread the ninth guest gets: 1 is its share. */
static void measure_share(sp_module *module) {
    sp_guest *guests[SPINNERS + 1];
    uint64_t turns[SPINNERS + 1], sum = 0;
    for (int i = 0; i <= SPINNERS; i++) {
        guests[i] = make_guest(module);
        start(guests[i], "spin", 0, 0);
    }
    sp_engine_run(guests[0]->engine, NULL, 2000);
    for (int i = 0; i <= SPINNERS; i++) {
        memcpy(&turns[i], sp_region_base(sp_guest_region(guests[i])), sizeof turns[i]);
        sum += turns[i];
        sp_guest_destroy(guests[i]);
    }
    report("share_of_the_ninth", (double)turns[SPINNERS] * (SPINNERS + 1) / (double)sum, "x");
}

int main(int argc, char **argv) {
    char path[4096] = "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            as_json = true;
        } else {
            snprintf(path, sizeof path, "%s", argv[i]);
        }
    }
    if (!path[0]) {
        const char *slash = strrchr(argv[0], '/');
        snprintf(path, sizeof path, "%.*s/guests/test_wasi.wasm", slash ? (int)(slash - argv[0]) : 1,
                 slash ? argv[0] : ".");
    }
    if (access(path, R_OK) == 0) {
        measure_start(path);
    }
    sp_engine *engine = make_engine();
    sp_module *module = make_module(engine);
    measure_instances(module);
    measure_calls(module);
    measure_terminate(module, 0, "terminate_alone");
    measure_terminate(module, SPINNERS, "terminate_beside_8");
    measure_share(module);
    sp_module_close(module);
    sp_engine_destroy(engine);
    printf(as_json ? "}\n" : "");
    return 0;
}
