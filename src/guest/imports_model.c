/* guest/imports_model.c - the imports about models, and about text, which belongs to a model's tokenizer. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"
#include "samepage/tokenizer.h"

/* A tokenizer's work cannot be interrupted, and other guests wait for it: so much takes some tenths of a second. */
#define TEXT_BYTES_MAX  (1u << 20)
#define TOKEN_COUNT_MAX (1u << 20)
#define ENCODE_FLAGS    (SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL)
#define DECODE_FLAGS    SP_DECODE_SPECIAL

int32_t spi_host_model_count(sp_guest *guest) {
    int32_t count = 0;
    while (spi_guest_model_name(guest, (uint32_t)count)) {
        count++;
    }
    return count;
}

int32_t spi_host_model_name(sp_guest *guest, uint32_t index, spi_output text) {
    const char *name = spi_guest_model_name(guest, index);
    if (!name) {
        return spi_fail(spi_host_error(guest), SP_NOT_FOUND, "model_name: there is no model %u", index);
    }
    return spi_output_text(text, name, strlen(name));
}

int32_t spi_host_model_open(sp_guest *guest, spi_input name) {
    char text[SPI_NAME_BYTES];
    sp_status status = spi_input_name(guest, "model_open", name, text);
    if (status) {
        return status;
    }
    sp_model *model = spi_guest_model(guest, text, name.count);
    if (!model) {
        return spi_fail(spi_host_error(guest), SP_NOT_FOUND,
                        name.count ? "model_open: this guest was given no model \"%s\""
                                   : "model_open: this guest was given no model%s",
                        text);
    }
    spi_slot *slot;
    int32_t handle;
    status = spi_handle_open(guest, SPI_HANDLE_MODEL, &slot, &handle);
    if (status) {
        return status;
    }
    slot->model = model;
    return handle;
}

int32_t spi_host_model_close(sp_guest *guest, int32_t model) {
    spi_slot *slot = spi_handle_find(guest, "model_close", SPI_HANDLE_MODEL, model);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    spi_handle_close(guest, slot);
    return SP_OK;
}

int32_t spi_host_model_info(sp_guest *guest, int32_t model, spi_output info) {
    spi_slot *slot = spi_handle_find(guest, "model_info", SPI_HANDLE_MODEL, model);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_model_info now;
    sp_model_get_info(slot->model, &now);
    spi_abi_model_info abi = {
        .parameter_count = now.parameter_count,
        .file_bytes = now.file_bytes,
        .weight_bytes = now.weight_bytes,
        .layers = now.layers,
        .embedding = now.embedding,
        .feed_forward = now.feed_forward,
        .heads = now.heads,
        .kv_heads = now.kv_heads,
        .head_dim = now.head_dim,
        .vocab = now.vocab,
        .context_max = now.context_max,
        .block_tokens = now.block_tokens,
        .block_bytes = now.block_bytes,
    };
    _Static_assert(sizeof abi.architecture == sizeof now.architecture && sizeof abi.name == sizeof now.name &&
                       sizeof abi.type == sizeof now.type,
                   "the texts are as long");
    memcpy(abi.architecture, now.architecture, sizeof abi.architecture);
    memcpy(abi.name, now.name, sizeof abi.name);
    memcpy(abi.type, now.type, sizeof abi.type);
    spi_output_struct(info, &abi, sizeof abi);
    return SP_OK;
}

int32_t spi_host_model_metadata(sp_guest *guest, int32_t model, spi_input key, spi_output text) {
    char name[SPI_NAME_BYTES];
    spi_slot *slot = spi_handle_find(guest, "model_metadata", SPI_HANDLE_MODEL, model);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_status status = spi_input_name(guest, "model_metadata", key, name);
    if (status) {
        return status;
    }
    sp_error error = {0};
    size_t bytes = 0;
    status = sp_model_metadata(slot->model, name, text.bytes, text.count, &bytes, &error);
    if ((!status || status == SP_BUFFER_TOO_SMALL) && bytes <= INT32_MAX) {
        return (int32_t)bytes;
    }
    *spi_host_error(guest) = error;
    return status ? (int32_t)status : (int32_t)SP_LIMIT;
}

/* ---- text ---- */

/* The tokenizer of a model's handle; on failure NULL, and *status. */
static const sp_tokenizer *tokenizer_of(sp_guest *guest, const char *import, int32_t model, sp_status *status) {
    spi_slot *slot = spi_handle_find(guest, import, SPI_HANDLE_MODEL, model);
    if (!slot) {
        *status = SP_BAD_HANDLE;
        return NULL;
    }
    sp_error error = {0};
    const sp_tokenizer *tokenizer = sp_model_tokenizer(slot->model, &error);
    if (!tokenizer) {
        *status = error.status ? error.status : SP_UNSUPPORTED;
        spi_fail(spi_host_error(guest), *status, "%s: %s", import,
                 error.status ? error.message : "the model has no tokenizer");
    }
    return tokenizer;
}

static sp_status check_flags(sp_guest *guest, const char *import, uint32_t flags, uint32_t known) {
    return flags & ~known
               ? spi_fail(spi_host_error(guest), SP_INVALID, "%s: 0x%x has flags that are not known", import, flags)
               : SP_OK;
}

/* A count, or a failing status; that it is more than the capacity is for the guest to see. */
static int32_t counted(sp_guest *guest, const char *import, sp_status status, size_t count, const sp_error *error) {
    if (!status || (status == SP_BUFFER_TOO_SMALL && count <= INT32_MAX)) {
        return (int32_t)count;
    }
    return spi_fail(spi_host_error(guest), status, "%s: %s", import, error->message);
}

int32_t spi_host_tokenize(sp_guest *guest, int32_t model, spi_input text, uint32_t flags, spi_output tokens) {
    sp_status status;
    const sp_tokenizer *tokenizer = tokenizer_of(guest, "tokenize", model, &status);
    if (!tokenizer) {
        return status;
    }
    void *copy;
    status = check_flags(guest, "tokenize", flags, ENCODE_FLAGS);
    status = status ? status : spi_input_copy(guest, "tokenize", text, 1, TEXT_BYTES_MAX, &copy);
    if (status) {
        return status;
    }
    sp_error error = {0};
    size_t count = 0;
    status = sp_tokenizer_encode(tokenizer, copy, text.count, flags, tokens.bytes, tokens.count, &count, &error);
    spi_free(copy);
    return counted(guest, "tokenize", status, count, &error);
}

int32_t spi_host_detokenize(sp_guest *guest, int32_t model, spi_input tokens, uint32_t flags, spi_output text) {
    sp_status status;
    const sp_tokenizer *tokenizer = tokenizer_of(guest, "detokenize", model, &status);
    if (!tokenizer) {
        return status;
    }
    void *copy;
    status = check_flags(guest, "detokenize", flags, DECODE_FLAGS);
    status = status ? status : spi_input_copy(guest, "detokenize", tokens, sizeof(int32_t), TOKEN_COUNT_MAX, &copy);
    if (status) {
        return status;
    }
    sp_error error = {0};
    size_t bytes = 0;
    status = sp_tokenizer_decode(tokenizer, copy, tokens.count, flags, text.bytes, text.count, &bytes, &error);
    spi_free(copy);
    return counted(guest, "detokenize", status, bytes, &error);
}

int32_t spi_host_token_is_end(sp_guest *guest, int32_t model, int32_t token) {
    sp_status status;
    const sp_tokenizer *tokenizer = tokenizer_of(guest, "token_is_end", model, &status);
    return tokenizer ? sp_tokenizer_is_end(tokenizer, token) : (int32_t)status;
}

int32_t spi_host_token_find(sp_guest *guest, int32_t model, spi_input text) {
    sp_status status;
    char name[SPI_NAME_BYTES];
    const sp_tokenizer *tokenizer = tokenizer_of(guest, "token_find", model, &status);
    if (!tokenizer) {
        return status;
    }
    status = spi_input_name(guest, "token_find", text, name);
    if (status) {
        return status;
    }
    int32_t token = sp_tokenizer_find(tokenizer, name, text.count);
    return token >= 0 ? token
                      : (int32_t)spi_fail(spi_host_error(guest), SP_NOT_FOUND, "token_find: no token is \"%s\"", name);
}

static int32_t named_token(sp_guest *guest, const char *import, int32_t model,
                           int32_t (*which)(const sp_tokenizer *tokenizer)) {
    sp_status status;
    const sp_tokenizer *tokenizer = tokenizer_of(guest, import, model, &status);
    if (!tokenizer) {
        return status;
    }
    int32_t token = which(tokenizer);
    return token >= 0
               ? token
               : (int32_t)spi_fail(spi_host_error(guest), SP_NOT_FOUND, "%s: the model has no such token", import);
}

int32_t spi_host_token_bos(sp_guest *guest, int32_t model) {
    return named_token(guest, "token_bos", model, sp_tokenizer_bos);
}

int32_t spi_host_token_eos(sp_guest *guest, int32_t model) {
    return named_token(guest, "token_eos", model, sp_tokenizer_eos);
}
