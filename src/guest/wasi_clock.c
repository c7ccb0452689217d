/* guest/wasi_clock.c - the three functions of WASI preview 1 that are ours: time, sleep and exit.
 *
 * Wasmtime's poll_oneoff would put the whole thread to sleep, and with it every other guest; ours suspends the fiber.
 * Its clocks must then be ours too, because deadlines are times of these clocks. Its proc_exit takes codes below 126
 * only. Streams count as ready at once: a read of stdin blocks the thread, as any other would.
 *
 * Layouts and numbers: WASI preview 1 (github.com/WebAssembly/WASI, legacy/preview1/docs.md). May include: os, base.
 */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "guest/guest.h"
#include "os/clock.h"

#define SUBSCRIPTION_BYTES     48u
#define EVENT_BYTES            32u
#define SUBSCRIPTION_COUNT_MAX 1024u
#define SLEEP_NS_MAX           ((int64_t)1 << 61)
#define NEARLY_NS              1000000 /* what is due in less is due: two clocks are read at slightly different times */

enum { ERRNO_SUCCESS = 0, ERRNO_FAULT = 21, ERRNO_INTR = 27, ERRNO_INVAL = 28 };
enum { CLOCK_OF_DAY = 0, CLOCK_OF_MONOTONIC = 1, CLOCK_OF_PROCESS = 2, CLOCK_OF_THREAD = 3 };
enum { TAG_CLOCK = 0, TAG_READ = 1, TAG_WRITE = 2 };
enum { FLAG_ABSOLUTE = 1 };

static uint8_t *bytes_at(const sp_guest *guest, uint64_t offset) {
    return sp_region_base(guest->region) + offset;
}

static bool read_clock(uint32_t id, int64_t *now_ns) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                                       CLOCK_THREAD_CPUTIME_ID};
    struct timespec now;
    if (id > CLOCK_OF_THREAD || clock_gettime(clocks[id], &now)) {
        return false;
    }
    *now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return true;
}

static wasm_trap_t *clock_time_get(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *words, size_t count) {
    sp_guest *guest = wasmtime_context_get_data(wasmtime_caller_context(caller));
    uint64_t offset = (uint32_t)words[2].i32;
    int64_t now_ns;
    (void)env;
    (void)count;
    if (!read_clock((uint32_t)words[0].i32, &now_ns)) {
        words[0].i32 = ERRNO_INVAL;
    } else if (!spi_memory_contains(guest, offset, sizeof now_ns)) {
        words[0].i32 = ERRNO_FAULT;
    } else {
        memcpy(bytes_at(guest, offset), &now_ns, sizeof now_ns);
        words[0].i32 = ERRNO_SUCCESS;
    }
    return NULL;
}

static wasm_trap_t *proc_exit(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *words, size_t count) {
    sp_guest *guest = wasmtime_context_get_data(wasmtime_caller_context(caller));
    (void)env;
    (void)count;
    guest->exit_code = words[0].i32 & 0xff;
    guest->is_exiting = true;
    return wasmtime_trap_new("exit", 4); /* unwinds the guest's stack; call.c knows it by is_exiting */
}

/* One of the things to wait for, copied out of the guest's memory. */
typedef struct subscription {
    uint64_t user_data;
    uint8_t tag;
    uint32_t clock;
    uint64_t timeout;
    uint16_t flags;
} subscription;

static subscription read_subscription(const sp_guest *guest, uint32_t index) {
    const uint8_t *from = bytes_at(guest, guest->sleep.subscriptions_offset + (uint64_t)index * SUBSCRIPTION_BYTES);
    subscription wanted = {.tag = from[8]};
    memcpy(&wanted.user_data, from, 8);
    memcpy(&wanted.clock, from + 16, 4);
    memcpy(&wanted.timeout, from + 24, 8);
    memcpy(&wanted.flags, from + 40, 2);
    return wanted;
}

/* When a clock's subscription is due, by spi_clock_ns. False: it is of no clock that there is. */
static bool due_ns(const subscription *wanted, int64_t now_ns, int64_t *due) {
    int64_t base = 0;
    uint64_t limit = (uint64_t)SLEEP_NS_MAX;
    if (wanted->clock > CLOCK_OF_MONOTONIC || !read_clock(wanted->clock, &base)) {
        return false;
    }
    uint64_t timeout = wanted->timeout;
    if (wanted->flags & FLAG_ABSOLUTE) {
        timeout = timeout > (uint64_t)base ? timeout - (uint64_t)base : 0;
    }
    *due = now_ns + (int64_t)(timeout < limit ? timeout : limit);
    return true;
}

static void write_event(sp_guest *guest, uint32_t index, const subscription *wanted) {
    uint8_t event[EVENT_BYTES] = {0};
    uint64_t one = 1;
    memcpy(event, &wanted->user_data, 8);
    event[10] = wanted->tag;
    if (wanted->tag != TAG_CLOCK) {
        memcpy(event + 16, &one, 8); /* at least one byte can be read or written */
    }
    memcpy(bytes_at(guest, guest->sleep.events_offset + (uint64_t)index * EVENT_BYTES), event, EVENT_BYTES);
}

/* Answers with everything that is ready by now. The subscriptions may have changed since they were first looked at,
 * because they lie in the guest's memory; that can only spoil the answer. */
static int32_t answer(sp_guest *guest, int64_t now_ns) {
    uint32_t event_count = 0;
    for (uint32_t i = 0; i < guest->sleep.subscription_count; i++) {
        subscription wanted = read_subscription(guest, i);
        int64_t from_ns = wanted.flags & FLAG_ABSOLUTE ? now_ns : guest->sleep.begin_ns, due;
        if (wanted.tag != TAG_CLOCK || (due_ns(&wanted, from_ns, &due) && due <= now_ns + NEARLY_NS)) {
            write_event(guest, event_count++, &wanted);
        }
    }
    memcpy(bytes_at(guest, guest->sleep.count_offset), &event_count, sizeof event_count);
    return ERRNO_SUCCESS;
}

void spi_wasi_sleep_done(sp_guest *guest) {
    spi_call_resume(guest, guest->sleep.is_interrupted ? ERRNO_INTR : answer(guest, spi_clock_ns()));
}

/* Looks at all subscriptions. Nonzero errno: they are not valid. *must_wait: until_ns has the time of the nearest. */
static int32_t begin_poll(sp_guest *guest, const wasmtime_val_t *arguments, bool *must_wait) {
    spi_sleep *sleep = &guest->sleep;
    *sleep = (spi_sleep){
        .until_ns = INT64_MAX,
        .begin_ns = spi_clock_ns(),
        .subscriptions_offset = (uint32_t)arguments[0].of.i32,
        .events_offset = (uint32_t)arguments[1].of.i32,
        .subscription_count = (uint32_t)arguments[2].of.i32,
        .count_offset = (uint32_t)arguments[3].of.i32,
    };
    uint32_t count = sleep->subscription_count;
    *must_wait = false;
    if (!count || count > SUBSCRIPTION_COUNT_MAX) {
        return ERRNO_INVAL;
    }
    if (!spi_memory_contains(guest, sleep->subscriptions_offset, (uint64_t)count * SUBSCRIPTION_BYTES) ||
        !spi_memory_contains(guest, sleep->events_offset, (uint64_t)count * EVENT_BYTES) ||
        !spi_memory_contains(guest, sleep->count_offset, 4)) {
        return ERRNO_FAULT;
    }
    bool has_stream = false;
    for (uint32_t i = 0; i < count; i++) {
        subscription wanted = read_subscription(guest, i);
        int64_t due;
        if (wanted.tag > TAG_WRITE || (wanted.tag == TAG_CLOCK && !due_ns(&wanted, sleep->begin_ns, &due))) {
            return ERRNO_INVAL;
        }
        has_stream = has_stream || wanted.tag != TAG_CLOCK;
        if (wanted.tag == TAG_CLOCK && due < sleep->until_ns) {
            sleep->until_ns = due;
        }
    }
    *must_wait = !has_stream && sleep->until_ns > sleep->begin_ns;
    return ERRNO_SUCCESS;
}

static void poll_oneoff(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *arguments, size_t argument_count,
                        wasmtime_val_t *results, size_t result_count, wasm_trap_t **trap,
                        wasmtime_async_continuation_t *continuation) {
    sp_guest *guest = wasmtime_context_get_data(wasmtime_caller_context(caller));
    bool must_wait;
    (void)env;
    (void)argument_count;
    (void)result_count;
    (void)trap;
    guest->wait_slot = results;
    guest->wait_result = begin_poll(guest, arguments, &must_wait);
    if (guest->wait_result == ERRNO_SUCCESS && !must_wait) {
        guest->wait_result = answer(guest, guest->sleep.begin_ns);
    }
    guest->wait_done = !must_wait;
    guest->wait = must_wait ? SPI_WAIT_SLEEP : SPI_WAIT_NONE;
    *continuation = (wasmtime_async_continuation_t){.callback = spi_call_is_resumed, .env = guest};
}

sp_status spi_wasi_define_clock(wasmtime_linker_t *linker, sp_error *error) {
    static const char module[] = "wasi_snapshot_preview1";
    wasm_functype_t *time_type = spi_functype_new("iIi", "i"), *exit_type = spi_functype_new("i", ""),
                    *poll_type = spi_functype_new("iiii", "i");
    wasmtime_linker_allow_shadowing(linker, true);
    wasmtime_error_t *failure = wasmtime_linker_define_func_unchecked(
        linker, module, sizeof module - 1, "clock_time_get", 14, time_type, clock_time_get, NULL, NULL);
    if (!failure) {
        failure = wasmtime_linker_define_func_unchecked(linker, module, sizeof module - 1, "proc_exit", 9, exit_type,
                                                        proc_exit, NULL, NULL);
    }
    if (!failure) {
        failure = wasmtime_linker_define_async_func(linker, module, sizeof module - 1, "poll_oneoff", 11, poll_type,
                                                    poll_oneoff, NULL, NULL);
    }
    wasmtime_linker_allow_shadowing(linker, false);
    wasm_functype_delete(time_type);
    wasm_functype_delete(exit_type);
    wasm_functype_delete(poll_type);
    return failure ? spi_wasmtime_fail(error, SP_INTERNAL, "cannot define the clocks of WASI", failure) : SP_OK;
}
