/* guest/trap.c - Wasmtime's errors and traps as ours: one line that says what happened and where.
 *
 * May include: base.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "guest/guest.h"

/* Wasmtime's messages have a paragraph for each cause. One line is made of it: the first line and the last cause. */
static void flatten(const wasm_byte_vec_t *text, char *line, size_t capacity) {
    size_t bytes = text->size, first = 0, last = 0;
    while (bytes && (text->data[bytes - 1] == 0 || text->data[bytes - 1] == '\n' || text->data[bytes - 1] == ' ')) {
        bytes--;
    }
    while (first < bytes && text->data[first] != '\n') {
        first++;
    }
    for (last = bytes; last && text->data[last - 1] != '\n'; last--) {}
    while (last < bytes && strchr(" 0123456789:", text->data[last])) {
        last++; /* "   1: " before a cause */
    }
    if (first == bytes) {
        snprintf(line, capacity, "%.*s", (int)bytes, text->data);
    } else {
        snprintf(line, capacity, "%.*s: %.*s", (int)first, text->data, (int)(bytes - last), text->data + last);
    }
    for (char *at = line; *at; at++) {
        if ((unsigned char)*at < ' ') {
            *at = ' ';
        }
    }
}

sp_status spi_wasmtime_fail(sp_error *error, sp_status status, const char *what, wasmtime_error_t *failure) {
    char line[SP_ERROR_MESSAGE_BYTES - 96];
    wasm_byte_vec_t text;
    wasmtime_error_message(failure, &text);
    flatten(&text, line, sizeof line);
    wasm_byte_vec_delete(&text);
    wasmtime_error_delete(failure);
    return spi_fail(error, status, "%.90s: %s", what, line);
}

static const char *code_text(wasmtime_trap_code_t code) {
    switch (code) {
    case WASMTIME_TRAP_CODE_STACK_OVERFLOW: return "its calls are nested too deep for the stack";
    case WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS: return "access outside of its memory";
    case WASMTIME_TRAP_CODE_HEAP_MISALIGNED: return "misaligned atomic access";
    case WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS: return "access outside of a table";
    case WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL: return "call of a null function pointer";
    case WASMTIME_TRAP_CODE_BAD_SIGNATURE: return "call of a function pointer of another type";
    case WASMTIME_TRAP_CODE_INTEGER_OVERFLOW: return "integer overflow";
    case WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO: return "division by zero";
    case WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER: return "conversion of a number that no integer can hold";
    case WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED: return "abort (unreachable)";
    default: return NULL;
    }
}

/* ", in function `name` at 0x1234 of the module", or nothing where there is no trace. */
static void tell_place(const sp_module *module, const wasm_frame_vec_t *frames, char *place, size_t capacity) {
    place[0] = 0;
    if (!frames->size) {
        return;
    }
    const wasm_frame_t *frame = frames->data[0];
    const wasm_name_t *name = wasmtime_frame_func_name(frame);
    size_t offset = wasm_frame_module_offset(frame);
    if (offset != SIZE_MAX && module->rewrite.wasm) {
        /* Code lies behind the exports, which were made longer: people look into the module that they have. */
        offset -= module->rewrite.wasm_bytes - module->wasm_bytes;
    }
    if (name && name->size) {
        snprintf(place, capacity, ", in %.*s", (int)(name->size < 80 ? name->size : 80), name->data);
    } else {
        snprintf(place, capacity, ", in function %u", wasm_frame_func_index(frame));
    }
    size_t length = strlen(place);
    if (offset != SIZE_MAX) {
        snprintf(place + length, capacity - length, " (at 0x%zx of the module)", offset);
    }
    for (char *at = place; *at; at++) {
        if ((unsigned char)*at < ' ') {
            *at = '?'; /* names are the module's: hostile */
        }
    }
}

static void tell_trap(sp_guest *guest, wasm_trap_t *trap) {
    wasmtime_trap_code_t code = UINT8_MAX;
    wasm_frame_vec_t frames = {0};
    char place[160], line[240];
    bool has_code = wasmtime_trap_code(trap, &code);
    wasm_trap_trace(trap, &frames);
    tell_place(guest->module, &frames, place, sizeof place);
    wasm_frame_vec_delete(&frames);
    const char *text = has_code ? code_text(code) : NULL;
    if (!text) {
        wasm_byte_vec_t message;
        wasm_trap_message(trap, &message);
        flatten(&message, line, sizeof line);
        wasm_byte_vec_delete(&message);
        text = line;
    }
    wasm_trap_delete(trap);
    if (has_code && code == WASMTIME_TRAP_CODE_OUT_OF_FUEL) {
        spi_fail(&guest->error, SP_LIMIT, "%s used up its fuel in %s%s", guest->module->name, guest->call.name, place);
    } else {
        spi_fail(&guest->error, SP_TRAPPED, "%s trapped in %s: %s%s", guest->module->name, guest->call.name, text,
                 place);
    }
}

void spi_trap_tell(sp_guest *guest, wasm_trap_t *trap, wasmtime_error_t *failure) {
    if (trap) {
        tell_trap(guest, trap);
        return;
    }
    char what[120];
    snprintf(what, sizeof what, "%.40s failed in %.40s", guest->module->name, guest->call.name);
    spi_wasmtime_fail(&guest->error, SP_TRAPPED, what, failure);
}
