/* guest/call.c - one call of a guest: a fiber, from its start to its result, exit or trap.
 *
 * A fiber is suspended for one of two reasons: its time slice ended, or it waits for what it asked for. A guest is in
 * the ready queue in the first case and in the waiting or sleeping one in the second.
 *
 * May include: os, base.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "guest/guest.h"
#include "os/clock.h"

#define START_FUNCTION_MS_MAX 10000 /* of a start function, for guests without a deadline of their own */
#define STALE_POLLS_MAX       2

bool spi_call_is_resumed(void *env) {
    sp_guest *guest = env;
    if (!guest->wait_done) {
        return false;
    }
    guest->wait_slot->kind = WASMTIME_I32;
    guest->wait_slot->of.i32 = guest->wait_result;
    guest->wait = SPI_WAIT_NONE;
    return true;
}

void spi_call_resume(sp_guest *guest, int32_t result) {
    guest->wait_result = result;
    guest->wait_done = true;
    spi_list_append(&guest->engine->ready, &guest->queue);
}

void spi_call_drop(sp_guest *guest) {
    spi_call *call = &guest->call;
    spi_list_remove(&guest->queue);
    spi_jobs_drop(guest);
    guest->wait = SPI_WAIT_NONE;
    if (call->future) {
        wasmtime_call_future_delete(call->future); /* unwinds the fiber; nothing of the guest runs any more */
        call->future = NULL;
    }
    if (call->trap) {
        wasm_trap_delete(call->trap);
        call->trap = NULL;
    }
    if (call->error) {
        wasmtime_error_delete(call->error);
        call->error = NULL;
    }
}

static void set_state(sp_guest *guest, sp_guest_state state) {
    guest->engine->running_count += (state == SP_GUEST_RUNNING);
    guest->engine->running_count -= (guest->state == SP_GUEST_RUNNING);
    guest->state = state;
}

void spi_call_end(sp_guest *guest, sp_guest_state state) {
    spi_call_drop(guest);
    spi_wasi_settle(guest);
    set_state(guest, state);
}

bool spi_call_should_stop(const sp_guest *guest, int64_t now_ns) {
    return atomic_load(&guest->terminate) || (guest->call.deadline_ns && now_ns >= guest->call.deadline_ns);
}

bool spi_call_stop_if_due(sp_guest *guest, int64_t now_ns) {
    if (!spi_call_should_stop(guest, now_ns)) {
        return false;
    }
    if (atomic_load(&guest->terminate)) {
        spi_fail(&guest->error, SP_CANCELLED, "%s was terminated in %s", guest->module->name, guest->call.name);
    } else {
        spi_fail(&guest->error, SP_TIMEOUT, "%s ran in %s for longer than its limit of %u ms", guest->module->name,
                 guest->call.name, guest->deadline_ms ? guest->deadline_ms : START_FUNCTION_MS_MAX);
    }
    spi_call_end(guest, SP_GUEST_FAILED);
    return true;
}

/* Makes the future of a call whose function and arguments are set. Its time slice is the one that comes. */
static void begin(sp_guest *guest, bool with_arguments) {
    spi_call *call = &guest->call;
    bool has_result = with_arguments && call->has_result;
    spi_wasi_settle(guest);
    wasmtime_context_set_epoch_deadline(guest->context, 1);
    call->future = wasmtime_func_call_async(guest->context, &call->function, call->arguments,
                                            with_arguments ? call->argument_count : 0, &call->result, has_result,
                                            &call->trap, &call->error);
    spi_list_append(&guest->engine->ready, &guest->queue);
}

static int64_t result_of(const spi_call *call) {
    if (!call->has_result) {
        return 0;
    }
    return call->result.kind == WASMTIME_I32 ? call->result.of.i32 : call->result.of.i64;
}

/* The future is done: what came of it. */
static void finish(sp_guest *guest) {
    spi_call *call = &guest->call;
    if (call->trap || call->error) {
        wasm_trap_t *trap = call->trap;
        wasmtime_error_t *failure = call->error;
        if (guest->is_exiting) {
            spi_call_end(guest, SP_GUEST_EXITED);
            return;
        }
        call->trap = NULL;
        call->error = NULL;
        spi_trap_tell(guest, trap, failure);
        spi_call_end(guest, SP_GUEST_FAILED);
        return;
    }
    wasmtime_call_future_delete(call->future);
    call->future = NULL;
    guest->is_initialized = true;
    if (call->has_next) {
        call->has_next = false;
        call->function = call->next;
        begin(guest, true);
        return;
    }
    guest->result = result_of(call);
    spi_call_end(guest, call->is_start ? SP_GUEST_EXITED : SP_GUEST_IDLE);
}

/* Runs the fiber until it is done, waits or its slice ends. A guest that waited comes back with an epoch that is long
 * over and yields at once, without a slice having ended: it is owed the one that it did not get. */
static bool poll(sp_guest *guest) {
    spi_ticks *ticks = &guest->engine->ticks;
    for (int i = 0; i < STALE_POLLS_MAX; i++) {
        unsigned before = atomic_load(&ticks->count);
        guest->slice_count = before;
        if (wasmtime_call_future_poll(guest->call.future)) {
            return true;
        }
        if (guest->wait != SPI_WAIT_NONE || atomic_load(&ticks->count) != before) {
            break;
        }
    }
    return false;
}

/* Puts a suspended guest where it belongs. */
static void enqueue(sp_guest *guest) {
    sp_engine *engine = guest->engine;
    if (guest->wait == SPI_WAIT_NONE) {
        guest->counters.slices++;
    }
    spi_list *queue = guest->wait == SPI_WAIT_JOB     ? &engine->waiting
                      : guest->wait == SPI_WAIT_SLEEP ? &engine->sleeping
                                                      : &engine->ready;
    spi_list_append(queue, &guest->queue);
}

void spi_call_slice(sp_guest *guest) {
    assert(guest->call.future);
    if (spi_call_stop_if_due(guest, spi_clock_ns())) {
        return;
    }
    if (poll(guest)) {
        finish(guest);
    } else {
        enqueue(guest);
    }
}

/* What a start function waits for is done right here: the engine may not be running, and its other guests need not. */
static void drive(sp_guest *guest) {
    sp_engine *engine = guest->engine;
    while (!poll(guest)) {
        enqueue(guest);
        if (guest->wait == SPI_WAIT_JOB) {
            spi_jobs_run(engine, INT64_MAX);
        } else if (guest->wait == SPI_WAIT_SLEEP) {
            int64_t left_ns = guest->sleep.until_ns - spi_clock_ns(), limit_ns = 10000000;
            spi_sleep_ns(left_ns < 0 ? 0 : left_ns < limit_ns ? left_ns : limit_ns);
            spi_scheduler_wake_sleepers(engine, spi_clock_ns());
        }
        if (spi_call_stop_if_due(guest, spi_clock_ns())) {
            return;
        }
    }
}

sp_status spi_call_instantiate(sp_guest *guest, sp_error *error) {
    spi_call *call = &guest->call;
    sp_engine *engine = guest->engine;
    bool has_start = guest->module->has_start;
    uint32_t limit_ms = guest->deadline_ms ? guest->deadline_ms : START_FUNCTION_MS_MAX;
    snprintf(call->name, sizeof call->name, "its start function");
    call->deadline_ns = spi_clock_ns() + (int64_t)limit_ms * 1000000;
    wasmtime_context_set_epoch_deadline(guest->context, 1);
    wasmtime_context_epoch_deadline_async_yield_and_update(guest->context, 1);
    call->future = wasmtime_instance_pre_instantiate_async(guest->module->code[guest->variant].pre, guest->context,
                                                           &guest->instance, &call->trap, &call->error);
    spi_memory_hand_over(guest);
    if (has_start && !engine->in_run) {
        spi_ticks_run(&engine->ticks, true);
    }
    drive(guest);
    if (has_start && !engine->in_run) {
        spi_ticks_run(&engine->ticks, false);
    }
    spi_memory_hand_over(NULL);
    if (guest->is_exiting) {
        spi_fail(&guest->error, SP_TRAPPED, "%s called exit in its start function", guest->module->name);
    } else if (call->trap || call->error) {
        spi_trap_tell(guest, call->trap, call->error);
        call->trap = NULL;
        call->error = NULL;
    }
    spi_call_drop(guest);
    if (guest->error.status) {
        return spi_fail(error, guest->error.status, "%s", guest->error.message);
    }
    return SP_OK;
}

/* Checks the function's type and fills in the arguments. */
static sp_status set_arguments(sp_guest *guest, const wasmtime_func_t *function, const int64_t *arguments,
                               uint32_t argument_count, sp_error *error) {
    spi_call *call = &guest->call;
    wasm_functype_t *type = wasmtime_func_type(guest->context, function);
    const wasm_valtype_vec_t *parameters = wasm_functype_params(type), *results = wasm_functype_results(type);
    sp_status status = SP_OK;
    if (parameters->size != argument_count) {
        status = spi_fail(error, SP_INVALID, "the guest's function %s takes %zu arguments, and %u are given",
                          call->name, parameters->size, argument_count);
    } else if (results->size > 1 || (results->size && wasm_valtype_kind(results->data[0]) > WASM_I64)) {
        status = spi_fail(error, SP_UNSUPPORTED, "the guest's function %s returns what is not one integer", call->name);
    }
    for (uint32_t i = 0; i < argument_count && !status; i++) {
        wasm_valkind_t kind = wasm_valtype_kind(parameters->data[i]);
        if (kind == WASM_I64) {
            call->arguments[i] = (wasmtime_val_t){.kind = WASMTIME_I64, .of = {.i64 = arguments[i]}};
        } else if (kind == WASM_I32 && arguments[i] >= INT32_MIN && arguments[i] <= UINT32_MAX) {
            call->arguments[i] = (wasmtime_val_t){.kind = WASMTIME_I32, .of = {.i32 = (int32_t)arguments[i]}};
        } else {
            status = spi_fail(error, SP_INVALID, "argument %u of the guest's function %s is %s", i + 1, call->name,
                              kind == WASM_I32 ? "too large for an i32" : "no integer");
        }
    }
    call->argument_count = argument_count;
    call->has_result = results->size == 1;
    wasm_functype_delete(type);
    return status;
}

static bool find_function(sp_guest *guest, const char *name, wasmtime_func_t *function) {
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(guest->context, &guest->instance, name, strlen(name), &item) ||
        item.kind != WASMTIME_EXTERN_FUNC) {
        return false;
    }
    *function = item.of.func;
    return true;
}

static sp_status check_startable(const sp_guest *guest, const char *function, uint32_t argument_count,
                                 sp_error *error) {
    switch (guest->state) {
    case SP_GUEST_IDLE: break;
    case SP_GUEST_RUNNING: return spi_fail(error, SP_BUSY, "%s runs already", guest->module->name);
    case SP_GUEST_EXITED:
        return spi_fail(error, SP_INVALID, "%s has exited: make a new guest to run it again", guest->module->name);
    case SP_GUEST_FAILED:
        return spi_fail(error, SP_TRAPPED, "%s cannot be called any more: make a new guest", guest->module->name);
    }
    if (argument_count > sizeof guest->call.arguments / sizeof guest->call.arguments[0]) {
        return spi_fail(error, SP_INVALID, "%u arguments for %s are more than the 8 allowed", argument_count, function);
    }
    return SP_OK;
}

sp_status sp_guest_start(sp_guest *guest, const char *function, const int64_t *arguments, uint32_t argument_count,
                         sp_error *error) {
    spi_call *call = &guest->call;
    wasmtime_func_t wanted;
    sp_status status = check_startable(guest, function, argument_count, error);
    if (status) {
        return status;
    }
    if (!find_function(guest, function, &wanted)) {
        return spi_fail(error, SP_NOT_FOUND, "%s exports no function %.60s: there is %s", guest->module->name, function,
                        guest->module->exports[0] ? guest->module->exports : "none");
    }
    *call = (spi_call){.is_start = strcmp(function, "_start") == 0};
    snprintf(call->name, sizeof call->name, "%s", function);
    status = set_arguments(guest, &wanted, arguments, argument_count, error);
    if (status) {
        return status;
    }
    spi_guest_drop_kept(guest);
    call->function = wanted;
    if (!guest->is_initialized && !call->is_start && strcmp(function, "_initialize") != 0 &&
        find_function(guest, "_initialize", &call->function)) {
        call->next = wanted;
        call->has_next = true;
    }
    call->deadline_ns = guest->deadline_ms ? spi_clock_ns() + (int64_t)guest->deadline_ms * 1000000 : 0;
    set_state(guest, SP_GUEST_RUNNING);
    begin(guest, !call->has_next);
    return SP_OK;
}
