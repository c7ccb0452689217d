/* guest/rewrite.c - the pass over a module: see rewrite.h.
 *
 * Two walks over the sections. The first collects what there is to export and what speaks against it, the second copies
 * everything and puts the longer export section in its place. May include: base.
 */
#include "guest/rewrite.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define FUNCTION_COUNT_MAX 1000000u /* Wasmtime's own limit */
#define EXPORT_COUNT_MAX   100000u

enum { SECTION_IMPORT = 2, SECTION_FUNCTION, SECTION_TABLE, SECTION_MEMORY, SECTION_GLOBAL, SECTION_EXPORT };
enum { SECTION_START = 8, SECTION_ELEMENT, SECTION_CODE, SECTION_DATA, SECTION_DATA_COUNT };
enum { TYPE_FUNCREF = 0x70, TYPE_V128 = 0x7b, TYPE_I32 = 0x7f };
enum { KIND_FUNCTION, KIND_TABLE, KIND_MEMORY, KIND_GLOBAL };

/* What is left of a section. Reading past its end sets bad, and gives zeros from then on. */
typedef struct reader {
    const uint8_t *at, *end;
    bool bad;
} reader;

typedef struct bytes {
    uint8_t *data;
    size_t count, capacity;
} bytes;

typedef struct list {
    uint32_t *items;
    size_t count, capacity;
} list;

typedef struct pass {
    list globals, tables;
    uint8_t *is_function; /* a bit for each function that may be referred to */
    uint32_t function_count, imported_functions, global_count, table_count;
    const uint8_t *exports, *exports_end; /* of the module's own, behind their number */
    uint32_t export_count;
    uint64_t data_end;
    bool no_memory, is_malformed;
    char reason[160]; /* why it is not durable; empty: it is */
} pass;

static uint8_t take_byte(reader *from) {
    if (from->at >= from->end) {
        from->bad = true;
        return 0;
    }
    return *from->at++;
}

/* LEB128 of at most `bits`; signed ones are only skipped, so that their value does not matter. */
static uint64_t take_leb(reader *from, unsigned bits) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = take_byte(from);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            return value;
        }
    }
    from->bad = true;
    return 0;
}

static uint32_t take_u32(reader *from) {
    uint64_t value = take_leb(from, 35);
    from->bad = from->bad || value > UINT32_MAX;
    return from->bad ? 0 : (uint32_t)value;
}

static const uint8_t *take_bytes(reader *from, uint64_t count) {
    const uint8_t *at = from->at;
    if (count > (uint64_t)(from->end - from->at)) {
        from->bad = true;
        from->at = from->end;
        return at;
    }
    from->at += count;
    return at;
}

/* A number of things, each of which takes a byte at least. */
static uint32_t take_count(reader *from) {
    uint32_t count = take_u32(from);
    from->bad = from->bad || count > (uint64_t)(from->end - from->at);
    return from->bad ? 0 : count;
}

static void add_bytes(pass *all, bytes *to, const void *data, size_t count) {
    if (all->no_memory || !spi_reserve((void **)&to->data, &to->capacity, to->count + count, 1)) {
        all->no_memory = true;
        return;
    }
    if (count) {
        memcpy(to->data + to->count, data, count);
    }
    to->count += count;
}

static void add_u32(pass *all, bytes *to, uint64_t value) {
    uint8_t encoded[10];
    size_t count = 0;
    do {
        encoded[count] = value & 0x7f;
        value >>= 7;
        encoded[count++] |= value ? 0x80 : 0;
    } while (value);
    add_bytes(all, to, encoded, count);
}

static void add_item(pass *all, list *to, uint32_t item) {
    if (all->no_memory || !SPI_RESERVE(to->items, to->count, to->capacity)) {
        all->no_memory = true;
        return;
    }
    to->items[to->count++] = item;
}

__attribute__((format(printf, 2, 3))) static void refuse(pass *all, const char *format, ...) {
    if (!all->reason[0]) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(all->reason, sizeof all->reason, format, arguments);
        va_end(arguments);
    }
}

static void note_function(pass *all, reader *from, uint32_t index) {
    if (index >= all->function_count || !all->is_function) {
        from->bad = true;
        return;
    }
    all->is_function[index / 8] |= (uint8_t)(1u << index % 8);
}

static void skip_limits(reader *from) {
    uint8_t flags = take_byte(from);
    (void)take_leb(from, 70);
    if (flags & 1) {
        (void)take_leb(from, 70);
    }
    if (flags & 8) {
        (void)take_leb(from, 35); /* a page size of one's own */
    }
}

/* A type that is not one byte is of a proposal whose references we cannot save. */
static uint8_t take_type(reader *from) {
    uint8_t type = take_byte(from);
    if (type == 0x63 || type == 0x64) {
        (void)take_leb(from, 35);
    }
    return type;
}

/* A constant expression with its end; functions that it refers to are noted. */
static void take_constant(pass *all, reader *from) {
    while (!from->bad) {
        uint8_t op = take_byte(from);
        switch (op) {
        case 0x0b: return;
        case 0x41: /* i32.const, i64.const */
        case 0x42: (void)take_leb(from, 70); break;
        case 0x23: (void)take_u32(from); break;                     /* global.get */
        case 0xd0: (void)take_leb(from, 35); break;                 /* ref.null */
        case 0xd2: note_function(all, from, take_u32(from)); break; /* ref.func */
        case 0x43: (void)take_bytes(from, 4); break;                /* f32.const, f64.const */
        case 0x44: (void)take_bytes(from, 8); break;
        case 0xfd: /* v128.const */
            from->bad = from->bad || take_u32(from) != 12;
            (void)take_bytes(from, 16);
            break;
        case 0x6a:
        case 0x6b:
        case 0x6c: /* sums and products of integers */
        case 0x7c:
        case 0x7d:
        case 0x7e: break;
        default:
            refuse(all, "an initial value is made by instructions that a snapshot does not know");
            from->bad = true;
        }
    }
}

static void read_imports(pass *all, reader *from) {
    for (uint32_t left = take_count(from); left && !from->bad; left--) {
        (void)take_bytes(from, take_u32(from));
        (void)take_bytes(from, take_u32(from));
        uint8_t kind = take_byte(from);
        if (kind == KIND_FUNCTION) {
            (void)take_u32(from);
            all->imported_functions++;
        } else {
            /* Nobody provides these: opening the module fails with their names. */
            refuse(all, "it imports memory, tables or globals");
            from->at = from->end;
            return;
        }
    }
}

static void read_functions(pass *all, reader *from) {
    uint64_t count = (uint64_t)take_count(from) + all->imported_functions;
    from->at = from->end;
    from->bad = from->bad || count > FUNCTION_COUNT_MAX;
    all->function_count = from->bad ? 0 : (uint32_t)count;
}

static void read_table(pass *all, reader *from) {
    bool has_value = from->at < from->end && *from->at == 0x40;
    if (has_value) {
        (void)take_bytes(from, 2);
    }
    if (take_type(from) != TYPE_FUNCREF) {
        refuse(all, "table %u holds references that are not plain ones to functions", all->table_count);
    }
    skip_limits(from);
    if (has_value) {
        take_constant(all, from);
    }
    add_item(all, &all->tables, all->table_count++);
}

static void read_global(pass *all, reader *from) {
    uint8_t type = take_type(from), is_mutable = take_byte(from);
    take_constant(all, from);
    if (is_mutable & 1) {
        if (type != TYPE_FUNCREF && (type < TYPE_V128 || type > TYPE_I32)) {
            refuse(all, "global %u holds a reference that is not a plain one to a function", all->global_count);
        }
        add_item(all, &all->globals, all->global_count);
    }
    all->global_count++;
}

static void read_exports(pass *all, reader *from) {
    static const char prefix[] = SPI_REWRITE_PREFIX;
    all->export_count = take_count(from);
    all->exports = from->at;
    all->exports_end = from->end;
    for (uint32_t left = all->export_count; left && !from->bad; left--) {
        uint32_t length = take_u32(from);
        const uint8_t *name = take_bytes(from, length);
        uint8_t kind = take_byte(from);
        uint32_t index = take_u32(from);
        if (from->bad) {
            return;
        }
        if (kind == KIND_FUNCTION) {
            note_function(all, from, index);
        }
        if (length >= sizeof prefix - 1 && memcmp(name, prefix, sizeof prefix - 1) == 0) {
            refuse(all, "it exports names that begin with \"%s\"", prefix);
        }
    }
}

/* Flags: 1 passive or declarative, 2 a table or declarative, 4 expressions instead of indices. */
static void read_element(pass *all, reader *from) {
    uint32_t flags = take_u32(from);
    if (flags > 7) {
        from->bad = true;
        return;
    }
    if ((flags & 3) == 1) {
        refuse(all, "it has a passive element segment: whether it was dropped cannot be saved");
    }
    if (!(flags & 1)) {
        if (flags & 2) {
            (void)take_u32(from);
        }
        take_constant(all, from);
    }
    if (flags & 3) {
        (void)(flags & 4 ? take_type(from) : take_byte(from));
    }
    for (uint32_t left = take_count(from); left && !from->bad; left--) {
        if (flags & 4) {
            take_constant(all, from);
        } else {
            note_function(all, from, take_u32(from));
        }
    }
}

/* Where a segment's data go, if that is a number. */
static uint64_t peek_constant(const reader *from) {
    reader copy = *from;
    if (take_byte(&copy) != 0x41) {
        return UINT64_MAX;
    }
    const uint8_t *first = copy.at;
    uint64_t value = take_leb(&copy, 35); /* signed: its low 32 bits are the address */
    size_t bits = 7 * (size_t)(copy.at - first);
    if (!copy.bad && bits < 32 && copy.at[-1] & 0x40) {
        value |= UINT64_MAX << bits;
    }
    return take_byte(&copy) == 0x0b && !copy.bad ? value & UINT32_MAX : UINT64_MAX;
}

static void read_data(pass *all, reader *from) {
    uint32_t flags = take_u32(from);
    uint64_t start = 0;
    if (flags > 2) {
        from->bad = true;
    } else if (flags == 1) {
        refuse(all, "it has a passive data segment: whether it was dropped cannot be saved");
    } else {
        if (flags == 2) {
            (void)take_u32(from);
        }
        start = peek_constant(from);
        take_constant(all, from);
    }
    uint32_t length = take_u32(from);
    (void)take_bytes(from, length);
    uint64_t end = start == UINT64_MAX ? start : start + length;
    all->data_end = end > all->data_end ? end : all->data_end;
}

static void read_each(pass *all, reader *from, void (*read)(pass *all, reader *from)) {
    for (uint32_t left = take_count(from); left && !from->bad && !all->no_memory; left--) {
        read(all, from);
    }
}

/* Functions are noted from the globals on, and by then it is known how many there are. */
static void want_functions(pass *all) {
    if (!all->is_function) {
        all->function_count = all->function_count ? all->function_count : all->imported_functions;
        all->is_function = spi_alloc(all->function_count / 8 + 1, 1);
        all->no_memory = all->no_memory || !all->is_function;
    }
}

static void read_section(pass *all, uint8_t id, reader *from) {
    if (id == SECTION_TABLE || id == SECTION_GLOBAL || id == SECTION_EXPORT || id == SECTION_ELEMENT) {
        want_functions(all);
        if (all->no_memory) {
            return;
        }
    }
    switch (id) {
    case SECTION_IMPORT: read_imports(all, from); break;
    case SECTION_FUNCTION: read_functions(all, from); break;
    case SECTION_TABLE: read_each(all, from, read_table); break;
    case SECTION_GLOBAL: read_each(all, from, read_global); break;
    case SECTION_EXPORT: read_exports(all, from); break;
    case SECTION_START: refuse(all, "it has a start function, which would run again at every restore"); break;
    case SECTION_ELEMENT: read_each(all, from, read_element); break;
    case SECTION_DATA: read_each(all, from, read_data); break;
    default: break;
    }
    bool is_read = id == SECTION_IMPORT || id == SECTION_TABLE || id == SECTION_GLOBAL || id == SECTION_EXPORT ||
                   id == SECTION_ELEMENT || id == SECTION_DATA;
    all->is_malformed = all->is_malformed || from->bad || (is_read && from->at != from->end);
}

/* The next section; false at the end or where the file breaks off. */
static bool next_section(reader *from, uint8_t *id, reader *body) {
    if (from->at >= from->end) {
        return false;
    }
    *id = take_byte(from);
    uint32_t length = take_u32(from);
    const uint8_t *at = take_bytes(from, length);
    *body = (reader){.at = at, .end = from->at};
    return !from->bad;
}

static void scan(pass *all, reader from) {
    uint8_t id, last = 0;
    reader body;
    while (!all->is_malformed && !all->no_memory && next_section(&from, &id, &body)) {
        /* Sections come once and in order; the one that counts data segments was added before the code. */
        uint8_t rank = id == SECTION_DATA_COUNT ? SECTION_ELEMENT : id;
        bool is_late = id && id <= SECTION_DATA_COUNT;
        if (is_late && (rank < last || (rank == last && id != SECTION_DATA_COUNT))) {
            all->is_malformed = true;
            return;
        }
        last = is_late ? rank : last;
        read_section(all, id, &body);
    }
    all->is_malformed = all->is_malformed || from.bad;
}

size_t spi_rewrite_name(char kind, uint32_t index, char out[24]) {
    return (size_t)snprintf(out, 24, SPI_REWRITE_PREFIX "%c%" PRIu32, kind, index);
}

static void add_export(pass *all, bytes *to, char letter, uint8_t kind, uint32_t index) {
    char name[24];
    size_t length = spi_rewrite_name(letter, index, name);
    add_u32(all, to, length);
    add_bytes(all, to, name, length);
    add_bytes(all, to, &kind, 1);
    add_u32(all, to, index);
}

/* The module's own exports, and ours behind them. */
static void make_exports(pass *all, const spi_rewrite *rewrite, bytes *section) {
    uint64_t own = all->export_count, more = (uint64_t)rewrite->global_count + rewrite->table_count;
    add_u32(all, section, own + more + rewrite->function_count);
    add_bytes(all, section, all->exports, own ? (size_t)(all->exports_end - all->exports) : 0);
    for (uint32_t i = 0; i < rewrite->global_count; i++) {
        add_export(all, section, 'g', KIND_GLOBAL, rewrite->globals[i]);
    }
    for (uint32_t i = 0; i < rewrite->table_count; i++) {
        add_export(all, section, 't', KIND_TABLE, rewrite->tables[i]);
    }
    for (uint32_t i = 0; i < rewrite->function_count; i++) {
        add_export(all, section, 'f', KIND_FUNCTION, rewrite->functions[i]);
    }
}

static bool is_behind_exports(uint8_t id) {
    return id >= SECTION_START && id <= SECTION_DATA_COUNT;
}

static void put_exports(pass *all, const spi_rewrite *rewrite, bytes *out) {
    bytes section = {0};
    uint8_t id = SECTION_EXPORT;
    make_exports(all, rewrite, &section);
    add_bytes(all, out, &id, 1);
    add_u32(all, out, section.count);
    add_bytes(all, out, section.data, section.count);
    spi_free(section.data);
}

static void copy(pass *all, const spi_rewrite *rewrite, reader from, bytes *out) {
    bool is_put = false;
    uint8_t id;
    reader body;
    const uint8_t *start = from.at;
    while (next_section(&from, &id, &body)) {
        if (!is_put && (id == SECTION_EXPORT || is_behind_exports(id))) {
            put_exports(all, rewrite, out);
            is_put = true;
        }
        if (id != SECTION_EXPORT) {
            add_bytes(all, out, start, (size_t)(from.at - start));
        }
        start = from.at;
    }
    if (!is_put) {
        put_exports(all, rewrite, out);
    }
}

/* The noted functions as a list. */
static void list_functions(pass *all, list *functions) {
    for (uint32_t i = 0; all->is_function && i < all->function_count && !all->no_memory; i++) {
        if (all->is_function[i / 8] >> i % 8 & 1) {
            add_item(all, functions, i);
        }
    }
    if (functions->count + all->globals.count + all->tables.count > EXPORT_COUNT_MAX) {
        refuse(all, "more than %u functions and globals would have to be saved", EXPORT_COUNT_MAX);
    }
}

void spi_rewrite_free(spi_rewrite *rewrite) {
    spi_free(rewrite->wasm);
    spi_free(rewrite->globals);
    spi_free(rewrite->tables);
    spi_free(rewrite->functions);
    *rewrite = (spi_rewrite){0};
}

sp_status spi_rewrite_module(const void *wasm, size_t wasm_bytes, spi_rewrite *rewrite, sp_error *error) {
    static const uint8_t preamble[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    pass all = {0};
    list functions = {0};
    bytes out = {0};
    *rewrite = (spi_rewrite){0};
    if (wasm_bytes < sizeof preamble || memcmp(wasm, preamble, sizeof preamble) != 0) {
        return spi_fail(error, SP_BAD_FILE, "it is not a WebAssembly module");
    }
    const uint8_t *first = wasm;
    reader sections = {.at = first + sizeof preamble, .end = first + wasm_bytes};
    scan(&all, sections);
    list_functions(&all, &functions);
    *rewrite = (spi_rewrite){.globals = all.globals.items,
                             .global_count = (uint32_t)all.globals.count,
                             .tables = all.tables.items,
                             .table_count = (uint32_t)all.tables.count,
                             .functions = functions.items,
                             .function_count = (uint32_t)functions.count,
                             .data_end = all.data_end};
    if (!all.no_memory && !all.is_malformed && !all.reason[0]) {
        add_bytes(&all, &out, preamble, sizeof preamble);
        copy(&all, rewrite, sections, &out);
    }
    spi_free(all.is_function);
    sp_status status = all.no_memory      ? spi_fail(error, SP_NO_MEMORY, "no memory to look into a module")
                       : all.reason[0]    ? spi_fail(error, SP_UNSUPPORTED, "%s", all.reason)
                       : all.is_malformed ? spi_fail(error, SP_BAD_FILE, "it is not a valid WebAssembly module")
                                          : SP_OK;
    rewrite->wasm = out.data;
    rewrite->wasm_bytes = out.count;
    if (status) {
        spi_rewrite_free(rewrite);
    }
    return status;
}
