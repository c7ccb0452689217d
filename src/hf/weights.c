/* hf/weights.c - the shards' tensors under GGUF's names: plain ones as they are, quantised ones with their planes.
 *
 * MLX's layout: github.com/ml-explore/mlx, python/mlx/nn/layers/quantized.py: X.weight in U32 holds the codes, X.scales
 * and X.biases what belongs to groups of them; config.json's "quantization" says how many bits and which group, for all
 * and for some by name.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/folder.h"

typedef struct place { /* a tensor of a shard */
    const spi_safetensor *tensor;
    const char *file;
    bool used;
} place;

typedef struct weights {
    spi_hf_reader *read;
    place *all; /* sorted by name */
    size_t count;
    const cJSON *quantization; /* NULL: nothing is quantised */
    uint32_t bits, group;
} weights;

/* ---- finding ---- */

static int by_name(const void *a, const void *b) {
    const place *left = a, *right = b;
    return spi_string_compare(left->tensor->name, right->tensor->name);
}

static place *find(const weights *w, const char *name) {
    spi_string wanted = {name, strlen(name)};
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = spi_string_compare(w->all[middle].tensor->name, wanted);
        if (order == 0) {
            return &w->all[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static sp_status collect(weights *w) {
    spi_hf *hf = w->read->hf;
    size_t count = 0;
    for (size_t i = 0; i < hf->shard_count; i++) {
        count += (size_t)hf->shards[i].file.count;
    }
    w->all = spi_alloc(count, sizeof *w->all);
    if (!w->all) {
        return spi_fail(w->read->error, SP_NO_MEMORY, "no memory for %zu tensors", count);
    }
    for (size_t i = 0; i < hf->shard_count; i++) {
        for (uint64_t k = 0; k < hf->shards[i].file.count; k++) {
            w->all[w->count++] = (place){.tensor = &hf->shards[i].file.tensors[k], .file = hf->shards[i].name};
        }
    }
    qsort(w->all, w->count, sizeof *w->all, by_name);
    for (size_t i = 1; i < w->count; i++) {
        if (!by_name(&w->all[i - 1], &w->all[i])) {
            char shown[80];
            spi_string_printable(w->all[i].tensor->name, shown, sizeof shown);
            return spi_fail(w->read->error, SP_BAD_FILE, "tensor \"%s\" is in two files, %s and %s", shown,
                            w->all[i - 1].file, w->all[i].file);
        }
    }
    return SP_OK;
}

/* ---- tensors ---- */

static spi_source_tensor *add(spi_hf_reader *read, const char *name) {
    spi_source *source = read->source;
    char *copy = spi_hf_keep(read, strlen(name) + 1);
    if (!copy) {
        return NULL;
    }
    size_t capacity = read->tensor_capacity;
    if (!spi_reserve((void **)&source->tensors, &capacity, (size_t)source->tensor_count + 1, sizeof *source->tensors)) {
        spi_fail(read->error, SP_NO_MEMORY, "no memory for the list of tensors");
        return NULL;
    }
    read->tensor_capacity = capacity;
    memcpy(copy, name, strlen(name) + 1);
    spi_source_tensor *tensor = &source->tensors[source->tensor_count++];
    *tensor = (spi_source_tensor){.name = {copy, strlen(name)}, .dimensions = {1, 1, 1, 1}};
    return tensor;
}

sp_status spi_hf_add_vector(spi_hf_reader *read, const char *name, const float *values, uint32_t count) {
    float *copy = spi_hf_keep(read, count * sizeof *copy);
    spi_source_tensor *tensor = copy ? add(read, name) : NULL;
    if (!tensor) {
        return SP_NO_MEMORY;
    }
    memcpy(copy, values, count * sizeof *copy);
    tensor->type = SP_F32;
    tensor->dimension_count = 1;
    tensor->dimensions[0] = count;
    tensor->data = copy;
    tensor->bytes = count * sizeof *copy;
    tensor->copied = true;
    return SP_OK;
}

static sp_status bad(const weights *w, const place *at, const char *what) {
    char shown[80];
    spi_string_printable(at->tensor->name, shown, sizeof shown);
    return spi_fail(w->read->error, SP_BAD_FILE, "%s: tensor \"%s\": %s", at->file, shown, what);
}

static bool plain_type(const char *dtype, sp_dtype *type) {
    *type = !strcmp(dtype, "F32") ? SP_F32 : !strcmp(dtype, "F16") ? SP_F16 : SP_BF16;
    return *type != SP_BF16 || !strcmp(dtype, "BF16");
}

static sp_status add_plain(weights *w, const place *at, const char *name) {
    const spi_safetensor *from = at->tensor;
    sp_dtype type;
    if (!plain_type(from->dtype, &type)) {
        char shown[80];
        spi_string_printable(from->name, shown, sizeof shown);
        return spi_fail(w->read->error, SP_UNSUPPORTED, "%s: tensor \"%s\": dtype is %s, which is not supported here",
                        at->file, shown, from->dtype);
    }
    if (from->dimension_count < 1 || from->dimension_count > 2) {
        return bad(w, at, "shape has neither one dimension nor two");
    }
    const void *data = from->data;
    if ((uintptr_t)data % from->element_bytes) {
        void *copy = spi_hf_keep(w->read, (size_t)from->bytes);
        if (!copy) {
            return SP_NO_MEMORY;
        }
        memcpy(copy, data, (size_t)from->bytes);
        data = copy;
    }
    spi_source_tensor *tensor = add(w->read, name);
    if (!tensor) {
        return SP_NO_MEMORY;
    }
    tensor->type = type;
    tensor->dimension_count = from->dimension_count;
    for (uint32_t i = 0; i < from->dimension_count; i++) {
        tensor->dimensions[i] = from->dimensions[from->dimension_count - 1 - i];
    }
    tensor->data = data;
    tensor->bytes = from->bytes;
    tensor->copied = data != from->data;
    tensor->plus_one = w->read->family->norm_plus_one && from->dimension_count == 1 && strstr(name, "norm.weight");
    return SP_OK;
}

/* How a module is quantised: its own entry, or what holds for all. */
static sp_status find_how(const weights *w, const char *module, uint32_t *bits, uint32_t *group) {
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(w->quantization, module);
    *bits = w->bits;
    *group = w->group;
    if (!cJSON_IsObject(own)) {
        return SP_OK;
    }
    char file[SPI_HF_NAME_BYTES + 32];
    spi_config config;
    const char *mode;
    snprintf(file, sizeof file, "config.json: quantization.%s", module);
    sp_status status = spi_config_open(&config, own, file, w->read->error);
    status = status ? status : spi_config_count(&config, "bits", w->bits, 64, bits);
    status = status ? status : spi_config_count(&config, "group_size", w->group, 1u << 20, group);
    status = status ? status : spi_config_text(&config, "mode", "affine", &mode);
    if (!status && strcmp(mode, "affine") != 0) {
        status = spi_fail(w->read->error, SP_UNSUPPORTED, "%s: mode is not affine", file);
    }
    spi_config_close(&config);
    return status;
}

static bool is_plane(const spi_safetensor *plane, const spi_safetensor *codes, const spi_safetensor *like) {
    return plane->dimension_count == 2 && plane->dimensions[0] == codes->dimensions[0] &&
           plane->dimensions[1] == like->dimensions[1] && !strcmp(plane->dtype, like->dtype);
}

static sp_status add_quantised(weights *w, const place *at, const char *module, const char *name) {
    spi_hf_reader *read = w->read;
    const spi_safetensor *codes = at->tensor;
    char other[SPI_HF_NAME_BYTES + 16];
    uint32_t bits, group;
    sp_dtype type, plane_type;
    snprintf(other, sizeof other, "%s.scales", module);
    place *scales = find(w, other);
    snprintf(other, sizeof other, "%s.biases", module);
    place *biases = find(w, other);
    if (!w->quantization) {
        return bad(w, at, "it is quantised, but config.json has no quantization");
    }
    sp_status status = find_how(w, module, &bits, &group);
    if (status) {
        return status;
    }
    if (!scales || !biases) {
        return bad(w, at, scales ? "its .biases are missing" : "its .scales are missing");
    }
    if (!spi_affine_type(bits, &type) || (group != 32 && group != 64 && group != 128)) {
        return spi_fail(
            read->error, SP_UNSUPPORTED,
            "config.json: quantization of %s: %u bits in groups of %u are not supported (2, 3, 4, 5, 6 or 8 "
            "bits; groups of 32, 64 or 128)",
            module, bits, group);
    }
    if (strcmp(codes->dtype, "U32") != 0 || codes->dimension_count != 2) {
        return bad(w, at, "it has scales, but is no matrix of U32");
    }
    if (!plain_type(scales->tensor->dtype, &plane_type) || !is_plane(scales->tensor, codes, scales->tensor) ||
        !is_plane(biases->tensor, codes, scales->tensor)) {
        return bad(w, at, "its .scales and .biases are not matrices of F32, F16 or BF16 with its rows");
    }
    uint64_t cols = scales->tensor->dimensions[1] * group;
    if (codes->dimensions[1] * 32 != cols * bits) {
        char shown[80];
        spi_string_printable(codes->name, shown, sizeof shown);
        return spi_fail(read->error, SP_BAD_FILE,
                        "%s: tensor \"%s\": rows of %" PRIu64 " words with %" PRIu64
                        " scales are not %u bits in groups of %u, as config.json has them",
                        at->file, shown, codes->dimensions[1], scales->tensor->dimensions[1], bits, group);
    }
    spi_source_tensor *tensor = add(read, name);
    if (!tensor) {
        return SP_NO_MEMORY;
    }
    scales->used = biases->used = true;
    tensor->type = type;
    tensor->dimension_count = 2;
    tensor->dimensions[0] = cols;
    tensor->dimensions[1] = codes->dimensions[0];
    tensor->data = codes->data;
    tensor->bytes = codes->bytes;
    tensor->affine = (spi_affine){
        .scales = scales->tensor->data, .biases = biases->tensor->data, .type = plane_type, .group = group};
    return SP_OK;
}

static bool ends(const char *name, const char *with) {
    size_t bytes = strlen(name), tail = strlen(with);
    return bytes >= tail && !strcmp(name + bytes - tail, with);
}

static sp_status add_one(weights *w, place *at) {
    char name[SPI_HF_NAME_BYTES], module[SPI_HF_NAME_BYTES], out[SPI_HF_NAME_BYTES], scales[SPI_HF_NAME_BYTES + 16];
    if (at->tensor->name.bytes >= SPI_HF_NAME_BYTES - 16) {
        return bad(w, at, "its name is too long");
    }
    snprintf(name, sizeof name, "%s", at->tensor->name.text); /* cJSON's: with a zero byte */
    bool known = spi_hf_translate(w->read, name, out);
    bool head = !strncmp(out, "output.", 7);
    if (spi_hf_is_foreign(name) || ends(name, ".rotary_emb.inv_freq") || (head && w->read->tied)) {
        return SP_OK; /* computed from the configuration; a tied head is the embedding */
    }
    snprintf(module, sizeof module, "%.*s", (int)(strrchr(name, '.') ? strrchr(name, '.') - name : 0), name);
    snprintf(scales, sizeof scales, "%s.scales", module);
    if (known && ends(name, ".weight") && (find(w, scales) || !strcmp(at->tensor->dtype, "U32"))) {
        return add_quantised(w, at, module, out);
    }
    return add_plain(w, at, out);
}

/* Planes are taken with their codes; what is left of them belongs to nothing. */
static sp_status add_all(weights *w) {
    sp_status status = SP_OK;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < w->count && !status; i++) {
            place *at = &w->all[i];
            const char *name = at->tensor->name.text;
            bool plane = ends(name, ".scales") || ends(name, ".biases");
            bool tied = w->read->tied && !strncmp(spi_hf_behind_prefix(name), "lm_head.", 8);
            if (plane == (pass == 1) && !at->used && !(plane && (spi_hf_is_foreign(name) || tied))) {
                status = add_one(w, at);
            }
        }
    }
    return status;
}

/* ---- what config.json and the index say ---- */

/* A tensor that the index names has to be where it says. */
static sp_status check_index(const weights *w, const cJSON *index) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(index, "weight_map")) {
        const place *at = find(w, item->string);
        if (!at || strcmp(at->file, item->valuestring) != 0) {
            char shown[80], file[80];
            spi_string_printable(spi_json_string(item->string), shown, sizeof shown);
            spi_string_printable(spi_json_string(item->valuestring), file, sizeof file);
            return spi_fail(w->read->error, SP_BAD_FILE,
                            "model.safetensors.index.json: tensor \"%s\" is not in %s, where weight_map has it", shown,
                            file);
        }
    }
    return SP_OK;
}

static sp_status read_quantization(weights *w) {
    const cJSON *whole = w->read->whole_config;
    const cJSON *how = cJSON_GetObjectItemCaseSensitive(whole, "quantization");
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(whole, "quantization_config");
    how = cJSON_IsObject(how) ? how : NULL;
    if (!how && cJSON_IsObject(other)) {
        const cJSON *method = cJSON_GetObjectItemCaseSensitive(other, "quant_method");
        if (cJSON_IsString(method)) {
            char shown[32];
            spi_string_printable(spi_json_string(method->valuestring), shown, sizeof shown);
            return spi_fail(w->read->error, SP_UNSUPPORTED,
                            "config.json: quantization_config.quant_method is %s, which is not supported: convert the "
                            "model with mlx_lm.convert",
                            shown);
        }
        how = other;
    }
    if (!how) {
        return SP_OK;
    }
    spi_config config;
    const char *mode = "affine";
    sp_status status = spi_config_open(&config, how, "config.json: quantization", w->read->error);
    status = status ? status : spi_config_count(&config, "bits", 4, 64, &w->bits);
    status = status ? status : spi_config_count(&config, "group_size", 64, 1u << 20, &w->group);
    status = status ? status : spi_config_text(&config, "mode", "affine", &mode);
    if (!status && strcmp(mode, "affine") != 0) {
        char shown[32];
        spi_string_printable(spi_json_string(mode), shown, sizeof shown);
        status = spi_fail(w->read->error, SP_UNSUPPORTED,
                          "config.json: quantization.mode is %s, and only affine is "
                          "supported",
                          shown);
    }
    spi_config_close(&config);
    w->quantization = how;
    return status;
}

static sp_status check_ends(const weights *w) {
    const spi_source *source = w->read->source;
    const spi_source_tensor *embedding = spi_source_find_tensor(source, "token_embd.weight");
    if (embedding && embedding->dimensions[1] != w->read->vocab) {
        return spi_fail(w->read->error, SP_BAD_FILE,
                        "config.json: vocab_size is %u, but embed_tokens has %" PRIu64 " rows", w->read->vocab,
                        embedding->dimensions[1]);
    }
    if (w->read->untied && !spi_source_find_tensor(source, "output.weight")) {
        return spi_fail(w->read->error, SP_BAD_FILE,
                        "the tensor lm_head.weight is missing, and config.json: tie_word_embeddings is false");
    }
    return SP_OK;
}

static sp_status index_tensors(const weights *w) {
    spi_source *source = w->read->source;
    const spi_source_tensor *twice;
    source->tensors_sorted = spi_alloc((size_t)source->tensor_count, sizeof *source->tensors_sorted);
    if (!source->tensors_sorted) {
        return spi_fail(w->read->error, SP_NO_MEMORY, "no memory for the list of tensors");
    }
    spi_source_sort_tensors(source, &twice);
    if (twice) {
        char shown[80];
        spi_string_printable(twice->name, shown, sizeof shown);
        return spi_fail(w->read->error, SP_BAD_FILE, "two tensors of the files are %s", shown);
    }
    return check_ends(w);
}

sp_status spi_hf_read_weights(spi_hf_reader *read) {
    weights w = {.read = read};
    cJSON *index;
    sp_status status = spi_hf_json(read, "model.safetensors.index.json", true, &index);
    if (status) {
        return status;
    }
    status = spi_hf_open_shards(read, index);
    status = status ? status : collect(&w);
    status = status || !index ? status : check_index(&w, index);
    status = status ? status : read_quantization(&w);
    status = status ? status : add_all(&w);
    status = status ? status : index_tensors(&w);
    spi_free(w.all);
    cJSON_Delete(index);
    return status;
}
