/* apps/cmd_logits.c - samepage logits: the numbers that a model gives, for comparing with other engines. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"

/* Rows computed and written at a time, so that memory does not grow with the text. */
enum { CHUNK_ROWS = 512 };

typedef struct settings {
    spi_common common;
    const char *tokens, *text, *output;
    bool step, special;
} settings;

static sp_status get_tokens(const settings *set, const sp_model *model, int32_t **tokens, uint32_t *count,
                            sp_error *error) {
    if (set->tokens) {
        *tokens = spi_parse_ids(set->tokens, count);
        return *tokens ? SP_OK
                       : spi_fail(error, SP_INVALID, "--tokens: '%.60s' is not a list of token ids like 1,2,3",
                                  set->tokens);
    }
    const sp_tokenizer *tokenizer;
    size_t total = 0;
    uint32_t flags = set->special ? SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL : 0;
    sp_status status = spi_open_tokenizer(model, &tokenizer, error);
    if (!status) {
        status = spi_encode(tokenizer, set->text, strlen(set->text), flags, tokens, &total, error);
    }
    if (!status && (!total || total > UINT32_MAX)) {
        return spi_fail(error, SP_INVALID, total ? "--text is too long" : "--text is no token at all: give it a word");
    }
    *count = (uint32_t)total;
    return status;
}

/* Where rows go: a file that is there when it is whole, or what is no file (standard output, /dev/full). */
typedef struct sink {
    const char *path;
    spi_file_writer *writer;
    FILE *stream;
} sink;

static sp_status fail_writing(const sink *to, sp_error *error) {
    return spi_fail(error, SP_IO, "cannot write '%s': %s", to->path, strerror(errno));
}

static sp_status open_sink(const char *path, sink *to, sp_error *error) {
    struct stat found;
    *to = (sink){.path = path};
    if (!strcmp(path, "-")) {
        to->stream = stdout;
    } else if (stat(path, &found) || S_ISREG(found.st_mode)) {
        return spi_file_writer_open(path, false, &to->writer, error);
    } else if (!(to->stream = fopen(path, "wb"))) {
        return fail_writing(to, error);
    }
    return SP_OK;
}

static sp_status put(const sink *to, const void *data, size_t bytes, sp_error *error) {
    if (to->writer) {
        return spi_file_writer_put(to->writer, data, bytes, error);
    }
    return fwrite(data, 1, bytes, to->stream) == bytes ? SP_OK : fail_writing(to, error);
}

/* With status: all that was to be written is there. */
static sp_status close_sink(sink *to, sp_status status, sp_error *error) {
    if (to->writer && status) {
        spi_file_writer_abort(to->writer);
    } else if (to->writer) {
        status = spi_file_writer_commit(to->writer, false, error);
    } else if (to->stream != stdout && fclose(to->stream) && !status) {
        status = fail_writing(to, error);
    }
    return status;
}

/* Appends and writes chunk by chunk; with --step a chunk is one token. The file is little-endian, as all our
 * machines. */
static sp_status compute(const settings *set, const spi_opened *opened, const int32_t *tokens, uint32_t count,
                         const sink *to, sp_error *error) {
    uint32_t chunk = set->step ? 1 : count < CHUNK_ROWS ? count : CHUNK_ROWS;
    sp_session_options options = {.context_max = count, .logits_rows_max = chunk, .kv_type = set->common.kv_type};
    sp_session *session;
    sp_session_view view;
    sp_status status = sp_session_create(opened->model, opened->device, &options, &session, error);
    if (status) {
        return status;
    }
    sp_session_get_view(session, &view);
    for (uint32_t done = 0; done < count && !status; done += chunk) {
        uint32_t rows = count - done < chunk ? count - done : chunk;
        status = sp_session_append(session, tokens + done, rows, SP_LOGITS_ALL, error);
        size_t bytes = (size_t)view.vocab * sizeof(float) * rows;
        status = status ? status : put(to, sp_session_logits(session, 0), bytes, error);
    }
    sp_session_destroy(session);
    return status;
}

static int summary(const settings *set, const sp_model *model, uint32_t count) {
    sp_model_info info;
    sp_model_get_info(model, &info);
    if (set->common.json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "file", set->output);
        cJSON_AddNumberToObject(json, "tokens", count);
        cJSON_AddNumberToObject(json, "vocab", info.vocab);
        cJSON_AddStringToObject(json, "type", "float32");
        return spi_json_print(json);
    }
    if (set->common.verbose) {
        fprintf(stderr, "%" PRIu32 " x %" PRIu32 " float32 in %s\n", count, info.vocab, set->output);
    }
    return SPI_EXIT_OK;
}

static int logits(const settings *set) {
    sp_error error = {0};
    spi_opened opened;
    sink to = {0};
    int32_t *tokens = NULL;
    uint32_t count;
    int result = SPI_EXIT_FAILURE;

    if (spi_open_both(&set->common, &opened, &error) || get_tokens(set, opened.model, &tokens, &count, &error) ||
        open_sink(set->output, &to, &error)) {
        goto end;
    }
    sp_status status = compute(set, &opened, tokens, count, &to, &error);
    if (!close_sink(&to, status, &error)) {
        result = summary(set, opened.model, count);
    }
end:
    if (error.status && !(to.stream == stdout && ferror(stdout))) { /* of which main tells for every command */
        spi_complain_error(&error);
    }
    spi_free(tokens);
    spi_close_both(&opened);
    return result;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {0};
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        {"tokens", 0, SPI_OPTION_TEXT, "IDS", "token ids: 1,2,3", &set.tokens},
        {"text", 0, SPI_OPTION_TEXT, "TEXT", "a text instead of token ids", &set.text},
        {"special", 0, SPI_OPTION_FLAG, NULL, "with --text: begin of text and special tokens count", &set.special},
        {"output", 'o', SPI_OPTION_TEXT, "FILE", "where to; - is standard output", &set.output},
        {"step", 0, SPI_OPTION_FLAG, NULL, "one token at a time: must give the same", &set.step},
        SPI_OPTIONS_COMPUTE(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common, "; the model goes behind -m");
    if (result >= 0) {
        return result;
    }
    if (!set.tokens == !set.text) {
        return spi_usage_error(command, "give either --tokens or --text");
    }
    if (!set.output) {
        return spi_usage_error(command, "where to? give -o FILE, or -o - for standard output");
    }
    if (set.common.json && !strcmp(set.output, "-")) {
        return spi_usage_error(command, "--json and -o - would both go to standard output");
    }
    return logits(&set);
}

const spi_command spi_command_logits = {
    .name = "logits",
    .summary = "write a model's logits to a file, to compare with other engines",
    .usage = "-m FILE (--tokens IDS | --text TEXT) -o FILE [OPTIONS]",
    .text = "Writes one row for each token: as many little-endian float32 as the vocabulary has tokens, no header.\n"
            "In Python: numpy.fromfile(FILE, '<f4').reshape(tokens, vocab).",
    .examples = "logits -m model.gguf --tokens 1,15043,29892 -o logits.f32\n"
                "logits -m model.gguf --text \"Hello\" --step -d cpu -o - | sha256sum",
    .run = run,
};
