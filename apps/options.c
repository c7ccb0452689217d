/* apps/options.c - see options.h. */
#include "apps/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "samepage/session.h"

enum { WORD_MAX = 1 << 20, OPTIONS_MAX = 40, HELP_COLUMN = 28, LONG_BASE = 256, OPTION_HELP = 'h' };
_Static_assert(WORD_MAX == 1048576 && SP_LOOKUP_MAX == 32, "kind_words says so");

static void print_line(const char *format, va_list arguments, const char *end) {
    char line[1024];
    vsnprintf(line, sizeof line, format, arguments);
    for (char *c = line; *c; c++) { /* one line, whatever a file or a guest made the message say */
        if ((unsigned char)*c < ' ' || *c == 127) {
            *c = ' ';
        }
    }
    fflush(stdout);
    fprintf(stderr, "samepage: %s%s\n", line, end);
}

int spi_complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line(format, arguments, "");
    va_end(arguments);
    return SPI_EXIT_FAILURE;
}

int spi_usage_error(const spi_command *command, const char *format, ...) {
    char end[96];
    snprintf(end, sizeof end, "; see 'samepage %s --help'", command->name);
    va_list arguments;
    va_start(arguments, format);
    print_line(format, arguments, end);
    va_end(arguments);
    return SPI_EXIT_USAGE;
}

bool spi_parse_size(const char *text, uint64_t *bytes) {
    static const char units[] = "kmgt";
    char *end;
    double number = strtod(text, &end);
    if (end == text || !(number >= 0) || *text == '-') {
        return false;
    }
    const char *unit = *end ? strchr(units, *end | 32) : NULL;
    for (long power = unit ? unit - units + 1 : 0; power > 0; power--) {
        number *= 1024;
    }
    if (unit) {
        end++;
        end += end[0] == 'i' && (end[1] | 32) == 'b' ? 2 : (end[0] | 32) == 'b';
    }
    if (*end || number > 0x1p62) {
        return false;
    }
    *bytes = (uint64_t)number;
    return true;
}

spi_named_file spi_parse_named_file(const char *text) {
    const char *equals = strchr(text, '='), *slash = strrchr(text, '/');
    struct stat found;
    if (equals && equals > text && equals[1] && !memchr(text, '/', (size_t)(equals - text)) && stat(text, &found)) {
        return (spi_named_file){.name = text, .path = equals + 1, .name_bytes = (size_t)(equals - text)};
    }
    spi_named_file whole = {.name = slash ? slash + 1 : text, .path = text};
    whole.name_bytes = strlen(whole.name);
    bool has_suffix = whole.name_bytes > 5 && !strcmp(whole.name + whole.name_bytes - 5, ".gguf");
    whole.name_bytes -= has_suffix ? 5 : 0;
    return whole;
}

int32_t *spi_parse_ids(const char *text, uint32_t *count) {
    int32_t *ids = NULL;
    size_t used = 0, capacity = 0;
    *count = 0;
    while (*text) {
        char *end;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (end == text || errno || id < INT32_MIN || id > INT32_MAX || !SPI_RESERVE(ids, used, capacity)) {
            goto fail;
        }
        ids[used++] = (int32_t)id;
        end += strspn(end, " \t\n");
        if (*end == ',') {
            end++;
            end += strspn(end, " \t\n");
        } else if (*end && end[-1] != ' ' && end[-1] != '\t' && end[-1] != '\n') {
            goto fail;
        }
        text = end;
    }
    if (used > UINT32_MAX) {
        goto fail;
    }
    *count = (uint32_t)used;
    return ids;
fail:
    spi_free(ids);
    return NULL;
}

/* In tens, as guests read the words that are handed on to them: 010 is ten. */
static bool parse_number(const char *text, uint64_t most, uint64_t *number) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end || errno || strchr(text, '-') || value > most) {
        return false;
    }
    *number = value;
    return true;
}

static bool parse_real(const char *text, float *number) {
    char *end;
    float value = strtof(text, &end);
    if (end == text || *end || !isfinite(value) || value < 0) {
        return false;
    }
    *number = value;
    return true;
}

static bool parse_kv_type(const char *text, sp_kv_type *type) {
    for (*type = SP_KV_F16; sp_kv_type_name(*type); ++*type) {
        if (!strcasecmp(text, sp_kv_type_name(*type))) {
            return true;
        }
    }
    return false;
}

static bool list_append(spi_list *list, const char *text) {
    const char **items = spi_resize(list->items, list->count, list->count + 1u, sizeof *items);
    if (!items) {
        return false;
    }
    items[list->count++] = text;
    list->items = items;
    return true;
}

void spi_list_free(spi_list *list) {
    spi_free(list->items);
    *list = (spi_list){0};
}

static const char *kind_words(spi_option_kind kind) {
    switch (kind) {
    case SPI_OPTION_SIZE: return "a size like 512M or 4G";
    case SPI_OPTION_REAL:
    case SPI_OPTION_REAL_WORD: return "a number that is not negative";
    case SPI_OPTION_COUNT_WORD: return "a whole number up to 1048576";
    case SPI_OPTION_PORTION_WORD: return "a number from 0 to 1";
    case SPI_OPTION_LOOKUP_WORD: return "a whole number up to 32";
    case SPI_OPTION_KV_TYPE: return "f16 or q8_0";
    default: return "a whole number that is not negative";
    }
}

static uint64_t most_of(spi_option_kind kind) {
    switch (kind) {
    case SPI_OPTION_COUNT: return UINT32_MAX;
    case SPI_OPTION_COUNT_WORD: return WORD_MAX;
    case SPI_OPTION_LOOKUP_WORD: return SP_LOOKUP_MAX;
    default: return UINT64_MAX;
    }
}

static int store(const spi_command *command, const spi_option *option, const char *text) {
    uint64_t number = 0;
    float real;
    bool good = true;
    switch (option->kind) {
    case SPI_OPTION_FLAG: *(bool *)option->target = true; break;
    case SPI_OPTION_TEXT: *(const char **)option->target = text; break;
    case SPI_OPTION_LIST:
        if (!list_append(option->target, text)) {
            return spi_complain("not enough memory for the command line");
        }
        break;
    case SPI_OPTION_COUNT:
        good = parse_number(text, most_of(option->kind), &number);
        *(uint32_t *)option->target = (uint32_t)number;
        break;
    case SPI_OPTION_LONG: good = parse_number(text, most_of(option->kind), option->target); break;
    case SPI_OPTION_SIZE: good = spi_parse_size(text, option->target); break;
    case SPI_OPTION_REAL: good = parse_real(text, option->target); break;
    case SPI_OPTION_COUNT_WORD:
    case SPI_OPTION_LONG_WORD:
    case SPI_OPTION_LOOKUP_WORD:
        good = parse_number(text, most_of(option->kind), &number);
        *(const char **)option->target = text;
        break;
    case SPI_OPTION_KV_TYPE: good = parse_kv_type(text, option->target); break;
    case SPI_OPTION_REAL_WORD:
    case SPI_OPTION_PORTION_WORD:
        good = parse_real(text, &real) && (option->kind == SPI_OPTION_REAL_WORD || real <= 1);
        *(const char **)option->target = text;
        break;
    }
    return good ? -1
                : spi_usage_error(command, "--%s takes %s, not '%s'", option->name, kind_words(option->kind), text);
}

/* Paragraphs are broken where the source has them; option texts are short enough for one line. */
static void print_help(const spi_command *command, const spi_option *options) {
    printf("samepage %s - %s\n\nusage: samepage %s %s\n\n%s\n\noptions:\n", command->name, command->summary,
           command->name, command->usage, command->text);
    for (const spi_option *option = options; option->name; option++) {
        char left[64];
        const char *space = option->value ? " " : "", *value = option->value ? option->value : "";
        if (option->letter) {
            snprintf(left, sizeof left, "-%c, --%s%s%s", option->letter, option->name, space, value);
        } else {
            snprintf(left, sizeof left, "    --%s%s%s", option->name, space, value);
        }
        printf("  %-*s  %s%s\n", HELP_COLUMN, left, option->help,
               option->kind == SPI_OPTION_LIST ? " (may be repeated)" : "");
    }
    printf("  %-*s  %s\n\nexamples:\n", HELP_COLUMN, "-h, --help", "print this");
    for (const char *line = command->examples; *line;) {
        size_t bytes = strcspn(line, "\n");
        printf("  samepage %.*s\n", (int)bytes, line);
        line += bytes + (line[bytes] == '\n');
    }
}

/* getopt_long's own tables: every option by a number of its own, letters beside them. */
typedef struct tables {
    struct option longs[OPTIONS_MAX + 2];
    char shorts[2 * OPTIONS_MAX + 8];
    uint32_t count;
} tables;

static void make_tables(const spi_option *options, tables *made) {
    char *letter = made->shorts;
    memset(made, 0, sizeof *made);
    *letter++ = '-'; /* operands come in their order, so that those behind "--" can be told apart */
    *letter++ = ':';
    *letter++ = OPTION_HELP;
    for (; options[made->count].name && made->count < OPTIONS_MAX; made->count++) {
        const spi_option *option = &options[made->count];
        bool takes_value = option->kind != SPI_OPTION_FLAG;
        made->longs[made->count] = (struct option){option->name, takes_value, NULL, LONG_BASE + (int)made->count};
        if (option->letter) {
            *letter++ = option->letter;
            if (takes_value) {
                *letter++ = ':';
            }
        }
    }
    made->longs[made->count] = (struct option){"help", 0, NULL, OPTION_HELP};
}

static const spi_option *find(const spi_option *options, int code) {
    if (code >= LONG_BASE) {
        return &options[code - LONG_BASE];
    }
    for (; options->name && options->letter != code; options++) {}
    return options->name ? options : NULL;
}

/* A word that is no option, or the beginning of several. */
static int unknown(const spi_command *command, const spi_option *options, const char *word) {
    size_t bytes = !strncmp(word, "--", 2) ? strcspn(word + 2, "=") : 0;
    const char *first = NULL;
    for (; bytes && options->name; options++) {
        if (strncmp(options->name, word + 2, bytes) != 0) {
            continue;
        }
        if (first) {
            return spi_usage_error(command, "'%s' may be --%s, --%s or another one", word, first, options->name);
        }
        first = options->name;
    }
    return spi_usage_error(command, "unknown option '%s'", word);
}

int spi_options_parse(const spi_command *command, const spi_option *options, int argc, char **argv,
                      spi_operands *operands) {
    tables made;
    int code, result, at;
    make_tables(options, &made);
    *operands = (spi_operands){.items = argv};
    opterr = 0;
    optind = 1;
    while (at = optind, code = getopt_long(argc, argv, made.shorts, made.longs, NULL), code != -1) {
        const char *word = argv[at];
        if (code == OPTION_HELP) {
            print_help(command, options);
            return SPI_EXIT_OK;
        }
        if (code == 1) {
            argv[operands->count++] = optarg; /* never past what was read */
            continue;
        }
        if (code == ':') {
            return spi_usage_error(command, "%s needs a value", word);
        }
        const spi_option *option = code == '?' ? NULL : find(options, code);
        if (!option && optopt >= LONG_BASE) {
            return spi_usage_error(command, "--%s takes no value", options[optopt - LONG_BASE].name);
        }
        if (!option) {
            return unknown(command, options, word);
        }
        if ((result = store(command, option, optarg)) >= 0) {
            return result;
        }
    }
    operands->rest = argv + optind;
    operands->rest_count = argc - optind;
    return -1;
}

int spi_options_parse_operands(const spi_command *command, const spi_option *options, int argc, char **argv,
                               spi_operands *operands, int least, int most, const char *wanted) {
    int result = spi_options_parse(command, options, argc, argv, operands);
    if (result < 0 && (operands->count < least || operands->count > most || operands->rest_count)) {
        result = spi_usage_error(command, "%s", wanted);
    }
    return result;
}

int spi_options_parse_all(const spi_command *command, const spi_option *options, int argc, char **argv,
                          const spi_common *common, const char *hint) {
    spi_operands operands;
    int result = spi_options_parse(command, options, argc, argv, &operands);
    if (result >= 0) {
        return result;
    }
    if (operands.count || operands.rest_count) {
        return spi_usage_error(command, "'%s' is not an option%s",
                               operands.count ? operands.items[0] : operands.rest[0], hint);
    }
    return !common || common->model ? -1 : spi_usage_error(command, "which model? give -m FILE");
}
