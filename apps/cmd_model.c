/* apps/cmd_model.c - samepage model info: what a model file holds, without loading it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apps/commands.h"
#include "apps/common.h"
#include "base/error.h"
#include "base/memory.h"

/* A value as text, zero-terminated, to be freed with spi_free. */
static sp_status get_value(const sp_model *model, const char *key, char **text, size_t *bytes, sp_error *error) {
    *text = NULL;
    sp_status status = sp_model_metadata(model, key, NULL, 0, bytes, error);
    if (status && status != SP_BUFFER_TOO_SMALL) {
        return status;
    }
    if (!(*text = spi_alloc(*bytes + 1, 1))) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the value of %s", key);
    }
    return sp_model_metadata(model, key, *text, *bytes, bytes, error);
}

/* Long texts (a chat template) are cut for people and whole for scripts. Control characters are shown as a space. */
static void print_value(const char *key, const char *text, size_t bytes) {
    enum { SHOWN_BYTES = 100 };
    printf("  %-42s ", key);
    for (size_t i = 0; i < bytes && i < SHOWN_BYTES; i++) {
        putchar((unsigned char)text[i] < ' ' || text[i] == 127 ? ' ' : text[i]);
    }
    printf("%s\n", bytes > SHOWN_BYTES ? " ..." : "");
}

static sp_status metadata(const sp_model *model, cJSON *json, sp_error *error) {
    cJSON *object = json ? cJSON_AddObjectToObject(json, "metadata") : NULL;
    if (!json) {
        printf("metadata:\n");
    }
    for (uint64_t i = 0; i < sp_model_metadata_count(model); i++) {
        size_t key_bytes, bytes;
        const char *name = sp_model_metadata_key(model, i, &key_bytes);
        char *text = NULL, *key = spi_copy_string(name, key_bytes);
        sp_status status = key ? get_value(model, key, &text, &bytes, error)
                               : spi_fail(error, SP_NO_MEMORY, "not enough memory for the metadata");
        if (!status && json) {
            spi_json_add_text(object, key, text, bytes);
        } else if (!status) {
            print_value(key, text, bytes);
        }
        spi_free(text);
        spi_free(key);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

static cJSON *info_json(const sp_model_info *info, const char *words) {
    cJSON *json = cJSON_CreateObject();
    spi_json_add_text(json, "name", info->name, strlen(info->name));
    spi_json_add_text(json, "architecture", info->architecture, strlen(info->architecture));
    cJSON_AddStringToObject(json, "model_type", words);
    cJSON_AddStringToObject(json, "weight_type", info->type);
    cJSON_AddNumberToObject(json, "parameters", (double)info->parameter_count);
    cJSON_AddNumberToObject(json, "file_bytes", (double)info->file_bytes);
    cJSON_AddNumberToObject(json, "weight_bytes", (double)info->weight_bytes);
    cJSON_AddNumberToObject(json, "layers", info->layers);
    cJSON_AddNumberToObject(json, "embedding", info->embedding);
    cJSON_AddNumberToObject(json, "feed_forward", info->feed_forward);
    cJSON_AddNumberToObject(json, "heads", info->heads);
    cJSON_AddNumberToObject(json, "kv_heads", info->kv_heads);
    cJSON_AddNumberToObject(json, "head_dim", info->head_dim);
    cJSON_AddNumberToObject(json, "vocab", info->vocab);
    cJSON_AddNumberToObject(json, "context_max", info->context_max);
    cJSON_AddNumberToObject(json, "block_tokens", info->block_tokens);
    cJSON_AddNumberToObject(json, "block_bytes", (double)info->block_bytes);
    return json;
}

static void print_info(const sp_model_info *info, const char *words) {
    char count[32], file[32], weights[32], block[32];
    spi_words_count(info->parameter_count, count, sizeof count);
    spi_words_bytes(info->file_bytes, file, sizeof file);
    spi_words_bytes(info->weight_bytes, weights, sizeof weights);
    spi_words_bytes(info->block_bytes, block, sizeof block);
    printf("name          %s\n", info->name);
    printf("type          %s\n", words);
    printf("parameters    %s\n", count);
    printf("file          %s\n", file);
    printf("read a token  %s of weights\n", weights);
    printf("layers        %" PRIu32 "\n", info->layers);
    printf("embedding     %" PRIu32 "\n", info->embedding);
    printf("feed-forward  %" PRIu32 "\n", info->feed_forward);
    printf("heads         %" PRIu32 " of width %" PRIu32 ", %" PRIu32 " of keys and values\n", info->heads,
           info->head_dim, info->kv_heads);
    printf("vocabulary    %" PRIu32 " tokens\n", info->vocab);
    printf("context       %" PRIu32 " tokens\n", info->context_max);
    printf("KV block      %s for %" PRIu32 " tokens\n", block, info->block_tokens);
}

static int show(const char *path, bool as_json, bool with_metadata) {
    sp_error error = {0};
    sp_model *model;
    sp_model_info info;
    char words[96];
    if (sp_model_open(path, &model, &error)) {
        return spi_complain_error(&error);
    }
    sp_model_get_info(model, &info);
    spi_model_words(&info, words, sizeof words);

    sp_error why = {0};
    const sp_tokenizer *tokenizer = sp_model_tokenizer(model, &why);
    cJSON *json = as_json ? info_json(&info, words) : NULL;
    if (json && !tokenizer) {
        cJSON_AddStringToObject(json, "tokenizer_missing", why.message);
    } else if (!json) {
        print_info(&info, words);
        printf("tokenizer     %s\n", tokenizer ? "supported" : why.message);
    }
    sp_status status = with_metadata ? metadata(model, json, &error) : SP_OK;
    sp_model_close(model);
    if (status) {
        cJSON_Delete(json);
        return spi_complain_error(&error);
    }
    return json ? spi_json_print(json) : SPI_EXIT_OK;
}

static int run(const spi_command *command, int argc, char **argv) {
    bool as_json = false, with_metadata = false;
    spi_operands operands;
    const spi_option options[] = {
        {"json", 0, SPI_OPTION_FLAG, NULL, "print JSON", &as_json},
        {"metadata", 0, SPI_OPTION_FLAG, NULL, "list all that the file says of itself", &with_metadata},
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse(command, options, argc, argv, &operands);
    if (result >= 0) {
        return result;
    }
    if (operands.count != 2 || operands.rest_count || strcmp(operands.items[0], "info")) {
        return spi_usage_error(command, "expected 'model info FILE'");
    }
    return show(operands.items[1], as_json, with_metadata);
}

const spi_command spi_command_model = {
    .name = "model",
    .summary = "show what a model file holds",
    .usage = "info FILE [--json] [--metadata]",
    .text = "Opens and checks a GGUF file, or a folder as Hugging Face and MLX have them, and shows its shape:\n"
            "parameters, layers, heads, vocabulary, how many bytes each generated token reads, and how large one KV\n"
            "block is. Nothing is loaded.",
    .examples = "model info model.gguf\nmodel info model.gguf --json --metadata",
    .run = run,
};
