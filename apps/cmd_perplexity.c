/* apps/cmd_perplexity.c - samepage perplexity: how well a model predicts a text, as llama.cpp's llama-perplexity says
 * it.
 *
 * The text's tokens are cut into chunks of a context's length, without overlap; the first of each is replaced by the
 * beginning-of-text token where the model wants one. The model predicts the second half of each chunk, all but its
 * first token, from what is before. The perplexity is e to the mean of -log p over all predicted tokens. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"
#include "os/file.h"

enum { CONTEXT_DEFAULT = 512, CONTEXT_LEAST = 4, ROWS_MAX = 512 };
#define TEXT_BYTES_MAX   ((size_t)256 << 20) /* what the tokenizer takes at once */
#define LOGITS_BYTES_MAX ((size_t)64 << 20)

typedef struct settings {
    spi_common common;
    const char *file;
    uint32_t context, chunks;
} settings;

typedef struct sums {
    double loss, squares; /* of -log p and its square */
    uint64_t count;
} sums;

static double perplexity_of(const sums *of) {
    return exp(of->loss / (double)of->count);
}

/* The standard error of the mean, carried through e^x. */
static double deviation_of(const sums *of) {
    double mean = of->loss / (double)of->count, variance = of->squares / (double)of->count - mean * mean;
    return of->count > 1 && variance > 0 ? sqrt(variance / (double)(of->count - 1)) * exp(mean) : 0;
}

static double log_probability(const float *logits, uint32_t vocab, int32_t token) {
    float largest = logits[0];
    for (uint32_t i = 1; i < vocab; i++) {
        largest = logits[i] > largest ? logits[i] : largest;
    }
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        sum += (double)expf(logits[i] - largest);
    }
    return (double)(logits[token] - largest) - log(sum);
}

static sp_status add_row(const float *logits, uint32_t vocab, int32_t token, sums *of, sp_error *error) {
    double loss = -log_probability(logits, vocab, token);
    if (!isfinite(loss)) {
        return spi_fail(error, SP_BAD_FILE, "the model gives logits that are not finite: its weights are damaged");
    }
    of->loss += loss;
    of->squares += loss * loss;
    of->count++;
    return SP_OK;
}

/* One chunk: what is only context first, then the predicting tokens, a few rows of logits at a time. */
static sp_status add_chunk(sp_session *session, const int32_t *tokens, int32_t bos, uint32_t context, sums *of,
                           sp_error *error) {
    sp_session_view view;
    sp_session_get_view(session, &view);
    uint32_t first = context / 2;
    int32_t begin = bos >= 0 ? bos : tokens[0];
    sp_status status = sp_session_truncate(session, 0, error);
    status = status ? status : sp_session_append(session, &begin, 1, SP_LOGITS_NONE, error);
    status = status ? status : sp_session_append(session, tokens + 1, first - 1, SP_LOGITS_NONE, error);
    for (uint32_t at = first; at < context - 1 && !status;) {
        uint32_t left = context - 1 - at, rows = left < view.logits_rows_max ? left : view.logits_rows_max;
        status = sp_session_append(session, tokens + at, rows, SP_LOGITS_ALL, error);
        for (uint32_t i = 0; i < rows && !status; i++) {
            status = add_row(sp_session_logits(session, i), view.vocab, tokens[at + i + 1], of, error);
        }
        at += rows;
    }
    return status;
}

static int report(const settings *set, const sp_model *model, const sums *of, uint32_t chunks, double seconds) {
    sp_model_info info;
    sp_model_get_info(model, &info);
    char words[96];
    spi_model_words(&info, words, sizeof words);
    double speed = (double)chunks * set->context / seconds;
    if (set->common.json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "model_type", words);
        cJSON_AddNumberToObject(json, "perplexity", perplexity_of(of));
        cJSON_AddNumberToObject(json, "deviation", deviation_of(of));
        cJSON_AddNumberToObject(json, "context", set->context);
        cJSON_AddNumberToObject(json, "chunks", chunks);
        cJSON_AddNumberToObject(json, "predicted_tokens", (double)of->count);
        cJSON_AddNumberToObject(json, "seconds", seconds);
        cJSON_AddNumberToObject(json, "tokens_per_s", speed);
        return spi_json_print(json);
    }
    printf("perplexity %.4f +/- %.5f (%s, %" PRIu32 " chunks of %" PRIu32 " tokens, %" PRIu64
           " predicted, %.1f tokens/s)\n",
           perplexity_of(of), deviation_of(of), words, chunks, set->context, of->count, speed);
    return SPI_EXIT_OK;
}

static sp_status read_text(const char *path, void **text, size_t *bytes, sp_error *error) {
    if (strcmp(path, "-") != 0) {
        return spi_file_read(path, TEXT_BYTES_MAX, text, bytes, error);
    }
    char *read;
    spi_invite("the text");
    sp_status status = spi_read_input(TEXT_BYTES_MAX, &read, bytes, error);
    *text = read;
    return status;
}

static sp_status read_tokens(const settings *set, const sp_model *model, int32_t **tokens, size_t *count, int32_t *bos,
                             sp_error *error) {
    void *text = NULL;
    size_t bytes;
    const sp_tokenizer *tokenizer;
    sp_status status = spi_open_tokenizer(model, &tokenizer, error);
    status = status ? status : read_text(set->file, &text, &bytes, error);
    if (status) {
        return status;
    }
    bytes -= bytes && ((const char *)text)[bytes - 1] == '\n'; /* llama.cpp takes one away */
    status = spi_encode(tokenizer, text, bytes, SP_ENCODE_SPECIAL, tokens, count, error);
    spi_free(text);
    *bos = -1;
    if (!status && *count && (*tokens)[0] == sp_tokenizer_bos(tokenizer)) {
        *bos = (*tokens)[0]; /* text has no special tokens of its own, so this one was put there */
    }
    return status;
}

static sp_status check_lengths(settings *set, const sp_model *model, size_t count, uint32_t *chunks, sp_error *error) {
    sp_model_info info;
    sp_model_get_info(model, &info);
    if (!set->context) {
        set->context = info.context_max < CONTEXT_DEFAULT ? info.context_max : CONTEXT_DEFAULT;
    }
    if (set->context > info.context_max) {
        return spi_fail(error, SP_INVALID,
                        "-c %" PRIu32 " is more than the %" PRIu32 " tokens that the model was made for", set->context,
                        info.context_max);
    }
    if (set->context < CONTEXT_LEAST) {
        return spi_fail(error, SP_INVALID, "-c %" PRIu32 " leaves nothing to predict: give at least %d", set->context,
                        CONTEXT_LEAST);
    }
    if (count < 2 * (uint64_t)set->context) {
        return spi_fail(error, SP_INVALID,
                        "%s has %zu tokens, and two chunks of %" PRIu32
                        " are needed: give a longer text or a smaller -c",
                        set->file, count, set->context);
    }
    uint64_t all = count / set->context;
    *chunks = set->chunks && set->chunks < all ? set->chunks : (uint32_t)(all < UINT32_MAX ? all : UINT32_MAX);
    return SP_OK;
}

static void show(uint32_t done, uint32_t chunks, const sums *of, int64_t begun_ns) {
    double seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
    fprintf(stderr, "\r\033[K[%" PRIu32 "/%" PRIu32 "] %.4f, %.0f s left", done, chunks, perplexity_of(of),
            seconds / done * (chunks - done));
    fflush(stderr);
}

static sp_status compute(const settings *set, const spi_opened *opened, const int32_t *tokens, int32_t bos,
                         uint32_t chunks, sums *of, sp_error *error) {
    sp_model_info info;
    sp_model_get_info(opened->model, &info);
    size_t fit = LOGITS_BYTES_MAX / ((size_t)info.vocab * sizeof(float));
    uint32_t most = set->context < ROWS_MAX ? set->context : ROWS_MAX;
    sp_session_options options = {.context_max = set->context,
                                  .kv_type = set->common.kv_type,
                                  .logits_rows_max = fit > most ? most
                                                     : fit      ? (uint32_t)fit
                                                                : 1};
    sp_session *session;
    sp_status status = sp_session_create(opened->model, opened->device, &options, &session, error);
    bool is_shown = !set->common.quiet && isatty(STDERR_FILENO);
    int64_t begun_ns = spi_clock_ns();
    for (uint32_t i = 0; i < chunks && !status; i++) {
        status = add_chunk(session, tokens + (size_t)i * set->context, bos, set->context, of, error);
        if (is_shown && !status) {
            show(i + 1, chunks, of, begun_ns);
        }
    }
    if (is_shown) {
        fputs("\r\033[K", stderr);
    }
    sp_session_destroy(session);
    return status;
}

static int perplexity(settings *set) {
    sp_error error = {0};
    spi_opened opened;
    int32_t *tokens = NULL, bos = -1;
    size_t count = 0;
    uint32_t chunks = 0;
    sums of = {0};
    sp_status status = spi_open_both(&set->common, &opened, &error);
    status = status ? status : read_tokens(set, opened.model, &tokens, &count, &bos, &error);
    status = status ? status : check_lengths(set, opened.model, count, &chunks, &error);
    int64_t begun_ns = spi_clock_ns();
    status = status ? status : compute(set, &opened, tokens, bos, chunks, &of, &error);
    double seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
    int result = status ? spi_complain_error(&error) : report(set, opened.model, &of, chunks, seconds);
    spi_free(tokens);
    spi_close_both(&opened);
    return result;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {0};
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        {"file", 'f', SPI_OPTION_TEXT, "FILE", "the text; - is standard input", &set.file},
        {"context", 'c', SPI_OPTION_COUNT, "N", "tokens of a chunk (512, or what the model was made for)",
         &set.context},
        {"chunks", 0, SPI_OPTION_COUNT, "N", "stop after so many", &set.chunks},
        SPI_OPTIONS_DEVICE(set.common),
        SPI_OPTION_KV(set.common),
        SPI_OPTION_JSON(set.common),
        SPI_OPTION_QUIET(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common, "; the model goes behind -m");
    if (result >= 0) {
        return result;
    }
    if (!set.file) {
        return spi_usage_error(command, "which text? give -f FILE");
    }
    return perplexity(&set);
}

const spi_command spi_command_perplexity = {
    .name = "perplexity",
    .summary = "how well a model predicts a text",
    .usage = "-m FILE -f TEXT [OPTIONS]",
    .text =
        "e to the mean of -log p of the tokens of a text: smaller is better, and what a quantised file loses shows\n"
        "against its original. Computed as llama.cpp's llama-perplexity does, so that figures can be compared: chunks\n"
        "of --context tokens without overlap, begin of text first where the model wants it, the second half of each\n"
        "predicted. Figures of models with different vocabularies cannot be compared.",
    .examples = "perplexity -m model.gguf -f wiki.test.raw\n"
                "perplexity -m model.gguf -f book.txt -c 2048 --chunks 20 --json",
    .run = run,
};
