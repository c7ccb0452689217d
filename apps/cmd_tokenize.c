/* apps/cmd_tokenize.c - samepage tokenize: text to token ids. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "base/error.h"
#include "base/memory.h"

typedef struct settings {
    spi_common common;
    const char *prompt;
    bool special, parse_special, pieces;
} settings;

/* In quotes, with what a terminal cannot show as \xNN. */
static void print_piece(int32_t token, const char *text, size_t bytes) {
    printf("%" PRId32 "\t\"", token);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') {
            fputs("\\n", stdout);
        } else if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < ' ' || c == 127) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
    puts("\"");
}

static sp_status show_pieces(const sp_tokenizer *tokenizer, const int32_t *tokens, size_t count, cJSON *json,
                             sp_error *error) {
    for (size_t i = 0; i < count; i++) {
        char *text;
        size_t bytes;
        sp_status status = spi_piece(tokenizer, tokens[i], &text, &bytes, error);
        if (!status && json) {
            spi_json_add_text(json, NULL, text, bytes);
        } else if (!status) {
            print_piece(tokens[i], text, bytes);
        }
        spi_free(text);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

static sp_status show(const settings *set, const sp_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                      cJSON *json, sp_error *error) {
    cJSON *ids = json ? cJSON_AddArrayToObject(json, "tokens") : NULL;
    for (size_t i = 0; i < count && (json || !set->pieces); i++) {
        if (json) {
            cJSON_AddItemToArray(ids, cJSON_CreateNumber(tokens[i]));
        } else {
            printf("%s%" PRId32, i ? " " : "", tokens[i]);
        }
    }
    if (json) {
        cJSON_AddNumberToObject(json, "count", (double)count);
    } else if (!set->pieces) {
        putchar('\n');
    }
    return set->pieces
               ? show_pieces(tokenizer, tokens, count, json ? cJSON_AddArrayToObject(json, "pieces") : NULL, error)
               : SP_OK;
}

static int tokenize(const settings *set) {
    sp_error error = {0};
    sp_model *model = NULL;
    const sp_tokenizer *tokenizer;
    char *read = NULL;
    int32_t *tokens = NULL;
    cJSON *json = NULL;
    size_t bytes = set->prompt ? strlen(set->prompt) : 0, count;
    uint32_t flags = (set->special ? SP_ENCODE_SPECIAL : 0) | (set->parse_special ? SP_ENCODE_PARSE_SPECIAL : 0);
    int result = SPI_EXIT_FAILURE;

    if (!set->prompt) {
        spi_invite("the text");
    }
    if (sp_model_open(set->common.model, &model, &error) || spi_open_tokenizer(model, &tokenizer, &error) ||
        (!set->prompt && spi_read_input(SIZE_MAX, &read, &bytes, &error)) ||
        spi_encode(tokenizer, set->prompt ? set->prompt : read, bytes, flags, &tokens, &count, &error)) {
        goto end;
    }
    json = set->common.json ? cJSON_CreateObject() : NULL;
    if (!show(set, tokenizer, tokens, count, json, &error)) {
        result = json ? spi_json_print(json) : SPI_EXIT_OK;
        json = NULL;
    }
end:
    if (result && error.status) {
        spi_complain_error(&error);
    }
    cJSON_Delete(json);
    spi_free(tokens);
    spi_free(read);
    sp_model_close(model);
    return result;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {0};
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        {"prompt", 'p', SPI_OPTION_TEXT, "TEXT", "the text; without it, standard input", &set.prompt},
        {"special", 0, SPI_OPTION_FLAG, NULL, "put begin and end of text where the model wants them", &set.special},
        {"parse-special", 0, SPI_OPTION_FLAG, NULL, "\"<|eot_id|>\" is the token of that name", &set.parse_special},
        {"pieces", 0, SPI_OPTION_FLAG, NULL, "show each token's text: a line each", &set.pieces},
        SPI_OPTION_JSON(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common, "; the text goes behind -p");
    if (result >= 0) {
        return result;
    }
    return tokenize(&set);
}

const spi_command spi_command_tokenize = {
    .name = "tokenize",
    .summary = "turn text into token ids",
    .usage = "-m FILE [-p TEXT] [--special] [--parse-special] [--pieces] [--json]",
    .text = "Prints the ids that the model's tokenizer makes of a text, on one line. The text is taken byte for byte:\n"
            "a newline at the end of standard input counts.",
    .examples = "tokenize -m model.gguf -p \"Hello there\"\ntokenize -m model.gguf --pieces < letter.txt",
    .run = run,
};
