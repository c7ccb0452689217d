/* guest/state.c - all of a guest between two calls, out and in: see state.h.
 *
 * A function in a table or global is told by its raw pointer, which is the same for one function of an instance; the
 * exports that the rewriting added give the pointer of every function that can be there.
 */
#include "guest/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"
#include "guest/imports.h"

_Static_assert((int)SPI_SLOT_SAMPLER == (int)SPI_HANDLE_SAMPLER && (int)SPI_SLOT_MODEL == (int)SPI_HANDLE_MODEL &&
                   (int)SPI_SLOT_SESSION == (int)SPI_HANDLE_SESSION,
               "handles keep their kinds");

typedef struct known {
    const void *raw;
    uint32_t function; /* index + 1 */
} known;

static sp_status no_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "no memory for the state of a guest");
}

static bool get_export(sp_guest *guest, char kind, uint32_t index, wasmtime_extern_kind_t wanted,
                       wasmtime_extern_t *item) {
    char name[24];
    size_t length = spi_rewrite_name(kind, index, name);
    return wasmtime_instance_export_get(guest->context, &guest->instance, name, length, item) && item->kind == wanted;
}

/* ---- saving ---- */

static int by_raw(const void *a, const void *b) {
    const known *x = a, *y = b;
    return x->raw < y->raw ? -1 : x->raw > y->raw;
}

static known *list_functions(sp_guest *guest) {
    const spi_rewrite *rewrite = &guest->module->rewrite;
    known *list = spi_alloc(rewrite->function_count, sizeof *list);
    for (uint32_t i = 0; list && i < rewrite->function_count; i++) {
        wasmtime_extern_t item;
        if (get_export(guest, 'f', rewrite->functions[i], WASMTIME_EXTERN_FUNC, &item)) {
            list[i] = (known){wasmtime_func_to_raw(guest->context, &item.of.func), rewrite->functions[i] + 1};
        }
    }
    if (list) {
        qsort(list, rewrite->function_count, sizeof *list, by_raw);
    }
    return list;
}

/* The number of a function value; false: it is none of the module's. */
static bool function_number(sp_guest *guest, const known *list, const wasmtime_func_t *value, uint32_t *number) {
    *number = 0;
    if (!value->store_id) {
        return true;
    }
    known wanted = {.raw = wasmtime_func_to_raw(guest->context, value)};
    const known *found = bsearch(&wanted, list, guest->module->rewrite.function_count, sizeof *list, by_raw);
    *number = found ? found->function : 0;
    return found != NULL;
}

static sp_status foreign(const sp_guest *guest, sp_error *error) {
    return spi_fail(error, SP_UNSUPPORTED, "%s cannot be saved: it holds a reference to a function that is not its own",
                    guest->module->name);
}

static sp_status save_globals(sp_guest *guest, const known *list, spi_state *state, sp_error *error) {
    const spi_rewrite *rewrite = &guest->module->rewrite;
    state->globals = spi_alloc(rewrite->global_count, sizeof *state->globals);
    if (!state->globals) {
        return no_memory(error);
    }
    state->global_count = rewrite->global_count;
    for (uint32_t i = 0; i < rewrite->global_count; i++) {
        spi_state_global *to = &state->globals[i];
        wasmtime_extern_t item;
        wasmtime_val_t value = {0};
        if (!get_export(guest, 'g', rewrite->globals[i], WASMTIME_EXTERN_GLOBAL, &item)) {
            return spi_fail(error, SP_INTERNAL, "global %u is not exported", rewrite->globals[i]);
        }
        wasmtime_global_get(guest->context, &item.of.global, &value);
        to->kind = value.kind;
        if (value.kind == WASMTIME_FUNCREF) {
            if (!function_number(guest, list, &value.of.funcref, &to->function)) {
                return foreign(guest, error);
            }
        } else {
            static const uint8_t sizes[] = {4, 8, 4, 8, 16};
            memcpy(to->bits, &value.of, sizes[value.kind]);
        }
    }
    return SP_OK;
}

static sp_status save_table(sp_guest *guest, const known *list, uint32_t index, spi_state_table *to, sp_error *error) {
    wasmtime_extern_t item;
    if (!get_export(guest, 't', index, WASMTIME_EXTERN_TABLE, &item)) {
        return spi_fail(error, SP_INTERNAL, "table %u is not exported", index);
    }
    uint64_t count = wasmtime_table_size(guest->context, &item.of.table);
    uint32_t *functions = spi_alloc(count, sizeof *functions);
    to->functions = functions;
    to->count = functions ? count : 0;
    if (!functions) {
        return no_memory(error);
    }
    for (uint64_t i = 0; i < count; i++) {
        wasmtime_val_t value = {0};
        if (!wasmtime_table_get(guest->context, &item.of.table, i, &value) ||
            !function_number(guest, list, &value.of.funcref, &functions[i])) {
            return foreign(guest, error);
        }
    }
    return SP_OK;
}

static sp_status save_tables(sp_guest *guest, const known *list, spi_state *state, sp_error *error) {
    const spi_rewrite *rewrite = &guest->module->rewrite;
    state->tables = spi_alloc(rewrite->table_count, sizeof *state->tables);
    sp_status status = state->tables ? SP_OK : no_memory(error);
    for (uint32_t i = 0; i < rewrite->table_count && !status; i++) {
        state->table_count = i + 1;
        status = save_table(guest, list, rewrite->tables[i], &state->tables[i], error);
    }
    return status;
}

static uint32_t model_number(const sp_guest *guest, const sp_model *model) {
    uint32_t i = 0;
    while (i + 1 < guest->model_count && guest->models[i].model != model) {
        i++;
    }
    return i;
}

static sp_status save_slot(const sp_guest *guest, const spi_slot *from, spi_state_slot *to, sp_error *error) {
    *to = (spi_state_slot){.kind = from->kind, .generation = from->generation};
    if (from->kind == SPI_HANDLE_MODEL) {
        to->model = model_number(guest, from->model);
    } else if (from->kind == SPI_HANDLE_SESSION) {
        const sp_session *session = from->session;
        to->model = model_number(guest, session->model);
        to->offset = from->offset;
        to->bytes = from->bytes;
        to->context_max = session->context_max;
        to->logits_rows_max = session->logits_rows_max;
        to->logits_rows = session->logits_rows;
        to->kv_type = session->kv->type;
        to->tokens = session->tokens;
        to->token_count = session->token_count;
        to->session = from->session;
    } else if (from->kind == SPI_HANDLE_SAMPLER) {
        spi_sampler_save(from->sampler, &to->sampler);
        int32_t *window = spi_alloc(to->sampler.window_count, sizeof *window);
        if (!window) {
            return no_memory(error);
        }
        spi_sampler_save_window(from->sampler, window);
        to->window = window;
    }
    return SP_OK;
}

static sp_status save_host(sp_guest *guest, spi_state *state, sp_error *error) {
    const spi_host *host = guest->host;
    state->error = host->error;
    state->models = spi_alloc(guest->model_count, sizeof *state->models);
    state->slots = spi_alloc(host->slot_count, sizeof *state->slots);
    if (!state->models || !state->slots) {
        return no_memory(error);
    }
    for (uint32_t i = 0; i < guest->model_count; i++) {
        state->models[i] = (spi_state_model){guest->models[i].name, guest->models[i].model};
    }
    state->model_count = guest->model_count;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < host->slot_count && !status; i++) {
        status = save_slot(guest, &host->slots[i], &state->slots[i], error);
        state->slot_count = i + 1;
    }
    return status;
}

sp_status spi_state_save(sp_guest *guest, spi_state *state, sp_error *error) {
    *state = (spi_state){
        .memory_bytes = sp_region_size_bytes(guest->region),
        .is_initialized = guest->is_initialized,
        .has_fuel = guest->variant == SPI_METERED,
        .ranges = guest->ranges.items,
        .range_count = (uint32_t)guest->ranges.count,
        .arguments = (const char **)(uintptr_t)guest->arguments,
        .argument_count = guest->argument_count,
        .environment = (const char **)(uintptr_t)guest->environment,
        .environment_count = guest->environment_count,
    };
    sp_status status = sp_module_check_durable(guest->module, error);
    if (status) {
        return status;
    }
    if (guest->state != SP_GUEST_IDLE) {
        bool runs = guest->state == SP_GUEST_RUNNING;
        return spi_fail(error, runs ? SP_BUSY : SP_INVALID, "%s cannot be saved: %s", guest->module->name,
                        runs ? "a call is in flight" : "it has ended");
    }
    if (state->has_fuel) {
        wasmtime_error_t *failure = wasmtime_context_get_fuel(guest->context, &state->fuel);
        if (failure) {
            return spi_wasmtime_fail(error, SP_INTERNAL, "cannot read a guest's fuel", failure);
        }
    }
    known *list = list_functions(guest);
    status = list ? save_globals(guest, list, state, error) : no_memory(error);
    status = status ? status : save_tables(guest, list, state, error);
    status = status ? status : save_host(guest, state, error);
    spi_free(list);
    if (status) {
        spi_state_free(state);
    }
    return status;
}

void spi_state_free(spi_state *state) {
    for (uint32_t i = 0; i < state->table_count; i++) {
        spi_free((void *)(uintptr_t)state->tables[i].functions);
    }
    for (uint32_t i = 0; i < state->slot_count; i++) {
        if (state->slots[i].kind == SPI_HANDLE_SAMPLER) {
            spi_free((void *)(uintptr_t)state->slots[i].window);
        }
    }
    spi_free(state->globals);
    spi_free(state->tables);
    spi_free(state->models);
    spi_free(state->slots);
    *state = (spi_state){0};
}

/* ---- restoring ---- */

static sp_status set_globals(sp_guest *guest, const spi_state *state, sp_error *error) {
    const spi_rewrite *rewrite = &guest->module->rewrite;
    if (state->global_count != rewrite->global_count) {
        return spi_fail(error, SP_BAD_FILE, "%u globals are saved, and the module has %u", state->global_count,
                        rewrite->global_count);
    }
    for (uint32_t i = 0; i < state->global_count; i++) {
        const spi_state_global *from = &state->globals[i];
        wasmtime_extern_t item, function;
        wasmtime_val_t value = {.kind = (wasmtime_valkind_t)from->kind};
        if (!get_export(guest, 'g', rewrite->globals[i], WASMTIME_EXTERN_GLOBAL, &item)) {
            return spi_fail(error, SP_INTERNAL, "global %u is not exported", rewrite->globals[i]);
        }
        if (from->kind != WASMTIME_FUNCREF) {
            memcpy(&value.of, from->bits, sizeof from->bits);
        } else if (from->function) {
            if (!get_export(guest, 'f', from->function - 1, WASMTIME_EXTERN_FUNC, &function)) {
                return spi_fail(error, SP_BAD_FILE, "global %u refers to a function that it cannot",
                                rewrite->globals[i]);
            }
            value.of.funcref = function.of.func;
        }
        wasmtime_error_t *failure = wasmtime_global_set(guest->context, &item.of.global, &value);
        if (failure) {
            return spi_wasmtime_fail(error, SP_BAD_FILE, "a saved global is not of its type", failure);
        }
    }
    return SP_OK;
}

static sp_status grow_table(sp_guest *guest, const wasmtime_table_t *table, uint64_t count, sp_error *error) {
    uint64_t now = wasmtime_table_size(guest->context, table), previous;
    const wasmtime_val_t null = {.kind = WASMTIME_FUNCREF};
    if (count < now) {
        return spi_fail(error, SP_BAD_FILE, "a saved table is smaller than the module has it");
    }
    wasmtime_error_t *failure =
        count > now ? wasmtime_table_grow(guest->context, table, count - now, &null, &previous) : NULL;
    return failure ? spi_wasmtime_fail(error, SP_BAD_FILE, "a saved table is too large", failure) : SP_OK;
}

/* What the module's own segments have put there already is not put again: for a C program that is all of it. */
static sp_status set_table(sp_guest *guest, uint32_t index, const spi_state_table *from, sp_error *error) {
    wasmtime_extern_t item, function;
    if (!get_export(guest, 't', index, WASMTIME_EXTERN_TABLE, &item)) {
        return spi_fail(error, SP_INTERNAL, "table %u is not exported", index);
    }
    sp_status status = grow_table(guest, &item.of.table, from->count, error);
    for (uint64_t i = 0; i < from->count && !status; i++) {
        wasmtime_val_t value = {.kind = WASMTIME_FUNCREF}, now = {0};
        if (from->functions[i]) {
            if (!get_export(guest, 'f', from->functions[i] - 1, WASMTIME_EXTERN_FUNC, &function)) {
                return spi_fail(error, SP_BAD_FILE, "table %u refers to a function that it cannot", index);
            }
            value.of.funcref = function.of.func;
        }
        wasmtime_error_t *failure = NULL;
        if (!wasmtime_table_get(guest->context, &item.of.table, i, &now) ||
            (now.of.funcref.store_id != 0) != (value.of.funcref.store_id != 0) ||
            (value.of.funcref.store_id && wasmtime_func_to_raw(guest->context, &now.of.funcref) !=
                                              wasmtime_func_to_raw(guest->context, &value.of.funcref))) {
            failure = wasmtime_table_set(guest->context, &item.of.table, i, &value);
        }
        status = failure ? spi_wasmtime_fail(error, SP_BAD_FILE, "a saved table does not fit", failure) : SP_OK;
    }
    return status;
}

static sp_status set_tables(sp_guest *guest, const spi_state *state, sp_error *error) {
    const spi_rewrite *rewrite = &guest->module->rewrite;
    if (state->table_count != rewrite->table_count) {
        return spi_fail(error, SP_BAD_FILE, "%u tables are saved, and the module has %u", state->table_count,
                        rewrite->table_count);
    }
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < state->table_count && !status; i++) {
        status = set_table(guest, rewrite->tables[i], &state->tables[i], error);
    }
    return status;
}

static int by_range(const void *a, const void *b) {
    const spi_region_range *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The guest, in memory of which sessions' unwritten bytes need not be zeros. */
static sp_status create_guest(sp_module *module, const sp_guest_options *options, spi_state *state, sp_guest **out,
                              sp_error *error) {
    spi_region_range *unwritten = spi_alloc(state->slot_count, sizeof *unwritten);
    spi_guest_first first = {.memory_bytes = state->memory_bytes, .unwritten = unwritten};
    if (!unwritten) {
        return no_memory(error);
    }
    for (uint32_t i = 0; i < state->slot_count; i++) {
        const spi_state_slot *slot = &state->slots[i];
        if (slot->unwritten_bytes) {
            unwritten[first.unwritten_count++] = (spi_region_range){slot->offset, slot->unwritten_bytes};
        }
    }
    if (first.unwritten_count) {
        qsort(unwritten, first.unwritten_count, sizeof *unwritten, by_range);
    }
    sp_status status = spi_guest_create(module, options, &first, out, error);
    for (uint32_t i = 0; i < state->slot_count && !first.left_bytes; i++) {
        state->slots[i].unwritten_bytes = 0;
    }
    spi_free(unwritten);
    return status;
}

sp_status spi_state_create_guest(sp_module *module, const sp_guest_options *options, spi_state *state, sp_guest **out,
                                 sp_error *error) {
    sp_guest_options chosen = {0};
    if (options) {
        chosen = *options;
    }
    if (!chosen.argument_count) {
        chosen.arguments = state->arguments;
        chosen.argument_count = state->argument_count;
    }
    if (!chosen.environment_count) {
        chosen.environment = state->environment;
        chosen.environment_count = state->environment_count;
    }
    if (state->has_fuel && !chosen.fuel) {
        chosen.fuel = state->fuel ? state->fuel : 1;
    }
    *out = NULL;
    sp_status status = sp_module_check_durable(module, error);
    status = status ? status : create_guest(module, &chosen, state, out, error);
    status = status ? status : set_globals(*out, state, error);
    status = status ? status : set_tables(*out, state, error);
    if (!status && state->has_fuel && (!options || !options->fuel)) {
        /* Making the instance used a little of it. */
        wasmtime_error_t *failure = wasmtime_context_set_fuel((*out)->context, state->fuel);
        status = failure ? spi_wasmtime_fail(error, SP_INTERNAL, "cannot set a guest's fuel", failure) : SP_OK;
    }
    if (!status) {
        sp_guest *guest = *out;
        guest->is_initialized = state->is_initialized;
        guest->host->error = state->error;
        for (uint32_t i = 0; i < state->range_count; i++) {
            spi_ranges_add(&guest->ranges, state->ranges[i].offset, state->ranges[i].bytes);
        }
    } else {
        sp_guest_destroy(*out);
        *out = NULL;
    }
    return status;
}

static sp_status open_session(sp_guest *guest, spi_state_slot *from, sp_model *model, spi_slot *to, sp_error *error) {
    sp_session_layout layout;
    sp_session_options options = {.context_max = from->context_max,
                                  .logits_rows_max = from->logits_rows_max,
                                  .region = guest->region,
                                  .kv_type = from->kv_type,
                                  .region_offset = from->offset};
    if (!guest->device) {
        return spi_fail(error, SP_NO_DEVICE, "the guest has sessions and was given no device");
    }
    sp_status status = sp_session_plan(model, from->context_max, from->logits_rows_max, from->kv_type, &layout, error);
    if (!status && layout.total_bytes > from->bytes) {
        status = spi_fail(error, SP_UNSUPPORTED,
                          "a session of the other model takes %llu bytes, and the guest's memory has %llu for it",
                          (unsigned long long)layout.total_bytes, (unsigned long long)from->bytes);
    }
    status = status ? status : sp_session_create(model, guest->device, &options, &to->session, error);
    if (!status && (status = spi_guest_session_opened(guest, to->session, error))) {
        sp_session_destroy(to->session);
        to->session = NULL;
    }
    to->offset = from->offset;
    to->bytes = from->bytes;
    from->session = to->session;
    return status;
}

sp_status spi_state_open_handles(sp_guest *guest, spi_state *state, sp_error *error) {
    spi_host *host = guest->host;
    host->slots = spi_alloc(state->slot_count, sizeof *host->slots);
    if (!host->slots) {
        return no_memory(error);
    }
    host->slot_count = state->slot_count;
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < state->slot_count && !status; i++) {
        spi_state_slot *from = &state->slots[i];
        spi_slot *to = &host->slots[i];
        sp_model *model = from->model < state->model_count ? state->models[from->model].model : NULL;
        to->generation = (uint16_t)from->generation;
        if (from->kind == SPI_HANDLE_MODEL) {
            to->model = model;
        } else if (from->kind == SPI_HANDLE_SESSION) {
            status = open_session(guest, from, model, to, error);
        } else if (from->kind == SPI_HANDLE_SAMPLER) {
            status = spi_sampler_restore(&from->sampler, from->window, &to->sampler, error);
        }
        if (!status) {
            to->kind = (uint8_t)from->kind;
            host->open_count += from->kind != SPI_HANDLE_FREE;
        }
    }
    return status;
}
