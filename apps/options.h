/* apps/options.h - the program's commands, and one way to read their options and to print their help.
 *
 * A command is a row of text and a function. Its options are a table too, so that what is parsed and what --help says
 * cannot differ. May include: everything to the left of apps.
 */
#ifndef SPI_APPS_OPTIONS_H
#define SPI_APPS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/dtype.h"

/* What the program exits with; `run` passes on what its guest exits with beside these. */
#define SPI_EXIT_OK       0
#define SPI_EXIT_FAILURE  1
#define SPI_EXIT_USAGE    2
#define SPI_EXIT_DEADLINE 124 /* run: --deadline-ms passed; what timeout(1) says */
#define SPI_EXIT_TRAP     134 /* run: the guest trapped; what a shell says of abort() */
#define SPI_EXIT_SIGINT   130 /* ended by Ctrl-C; what a shell says of it */

typedef struct spi_command {
    const char *name;
    const char *summary;  /* one line for the list of commands */
    const char *usage;    /* what follows "samepage NAME " */
    const char *text;     /* paragraphs of --help, above the options */
    const char *examples; /* one command a line */
    int (*run)(const struct spi_command *command, int argc, char **argv);
    bool hidden; /* not in the list: for the program's own use */
} spi_command;

typedef enum spi_option_kind {
    SPI_OPTION_FLAG,       /* bool: becomes true */
    SPI_OPTION_TEXT,       /* const char * */
    SPI_OPTION_LIST,       /* spi_list: may be given several times */
    SPI_OPTION_COUNT,      /* uint32_t */
    SPI_OPTION_LONG,       /* uint64_t */
    SPI_OPTION_SIZE,       /* uint64_t of bytes: 512M, 4G */
    SPI_OPTION_REAL,       /* float, finite, not negative */
    SPI_OPTION_COUNT_WORD, /* const char *: checked, at most 2^20, and kept as it is, to be handed to a guest */
    SPI_OPTION_LONG_WORD,
    SPI_OPTION_REAL_WORD,
    SPI_OPTION_PORTION_WORD, /* likewise, from 0 to 1 */
    SPI_OPTION_LOOKUP_WORD,  /* likewise, at most SP_LOOKUP_MAX */
    SPI_OPTION_KV_TYPE,      /* sp_kv_type: f16, q8_0 */
} spi_option_kind;

typedef struct spi_list {
    const char **items;
    uint32_t count;
} spi_list;

/* Tables end with a row whose name is NULL. */
typedef struct spi_option {
    const char *name;
    char letter; /* 0: none */
    spi_option_kind kind;
    const char *value; /* what --help calls it: "FILE"; NULL for flags */
    const char *help;
    void *target;
} spi_option;

/* What most commands take. */
typedef struct spi_common {
    const char *model, *device, *isa;
    uint32_t threads;
    sp_kv_type kv_type;
    bool json, verbose, quiet;
} spi_common;

#define SPI_OPTIONS_DEVICE(common)                                                                                     \
    {"device",        'd', SPI_OPTION_TEXT, "DEVICE", "auto (the best), cpu, cuda, cuda:N, vulkan, vulkan:N, metal",   \
     &(common).device},                                                                                                \
        {"threads", 't', SPI_OPTION_COUNT, "N", "threads that the cpu device computes with", &(common).threads}, {     \
        "isa", 0, SPI_OPTION_TEXT, "NAME", "instruction set of the cpu device; \"reference\" is plain C",              \
            &(common).isa                                                                                              \
    }
#define SPI_OPTION_KV(common)                                                                                          \
    {                                                                                                                  \
        "kv-type", 0, SPI_OPTION_KV_TYPE, "TYPE", "keys and values in f16, or in half the memory: q8_0",               \
            &(common).kv_type                                                                                          \
    }
#define SPI_OPTION_MODEL(common)                                                                                       \
    { "model", 'm', SPI_OPTION_TEXT, "FILE", "the model: a GGUF file or a folder of safetensors", &(common).model }
#define SPI_OPTION_JSON(common)                                                                                        \
    { "json", 0, SPI_OPTION_FLAG, NULL, "print JSON", &(common).json }
#define SPI_OPTION_QUIET(common)                                                                                       \
    { "quiet", 'q', SPI_OPTION_FLAG, NULL, "no progress line", &(common).quiet }
#define SPI_OPTION_VERBOSE(common)                                                                                     \
    { "verbose", 'v', SPI_OPTION_FLAG, NULL, "say more on stderr", &(common).verbose }
/* What comes last in commands that compute with a model. */
#define SPI_OPTIONS_COMPUTE(common)                                                                                    \
    SPI_OPTIONS_DEVICE(common), SPI_OPTION_KV(common), SPI_OPTION_JSON(common), SPI_OPTION_VERBOSE(common),            \
        SPI_OPTION_QUIET(common)
#define SPI_OPTIONS_END                                                                                                \
    { NULL, 0, SPI_OPTION_FLAG, NULL, NULL, NULL }

typedef struct spi_operands {
    char **items; /* before "--" */
    int count;
    char **rest; /* behind "--" */
    int rest_count;
} spi_operands;

/* Parses argv[1..]. Returns -1 if the command shall go on, else what to exit with: --help was printed, or one line on
 * stderr says what was wrong. Lists that were filled are freed by spi_list_free. operands points into argv. */
int spi_options_parse(const spi_command *command, const spi_option *options, int argc, char **argv,
                      spi_operands *operands);
void spi_list_free(spi_list *list);

/* A usage error of a command: one line that ends in where to look. Returns SPI_EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int spi_usage_error(const spi_command *command, const char *format, ...);

/* Prints one line "samepage: ..." on stderr and returns SPI_EXIT_FAILURE. */
__attribute__((format(printf, 1, 2))) int spi_complain(const char *format, ...);

/* "512", "64K", "4G", "1.5g"... to bytes; false if it is none. */
bool spi_parse_size(const char *text, uint64_t *bytes);

/* "NAME=FILE"; a FILE alone is named like the file, without folder and ".gguf". What has a '/' before its '=', nothing
 * behind it, or is a file as it stands, is not split. Parts of the text, of which the name may have more behind it. */
typedef struct spi_named_file {
    const char *name, *path;
    size_t name_bytes;
} spi_named_file;
spi_named_file spi_parse_named_file(const char *text);

/* "1,2,3" (spaces are allowed) to an array that the caller frees with spi_free; NULL with *count 0 if it is not one. */
int32_t *spi_parse_ids(const char *text, uint32_t *count);

/* The same for a command that takes least to most operands, and nothing behind "--"; wanted says so where it has
 * others. */
int spi_options_parse_operands(const spi_command *command, const spi_option *options, int argc, char **argv,
                               spi_operands *operands, int least, int most, const char *wanted);

/* The same for a command without operands; `hint` goes behind "'WORD' is not an option". `common`: of a command that
 * needs a model; NULL: it needs none. */
int spi_options_parse_all(const spi_command *command, const spi_option *options, int argc, char **argv,
                          const spi_common *common, const char *hint);

#endif
