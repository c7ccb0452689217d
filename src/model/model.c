/* model/model.c - opening a model file, and loading it on devices. */
#include "model/model.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "gguf/gguf.h"
#include "hf/hf.h"
#include "model/fingerprint.h"
#include "model/hparams.h"
#include "model/recorder.h"
#include "os/file.h"
#include "source/source.h"
#include "tokenizer/tokenizer.h"

/* A tape as it runs on a device. Which one a session takes depends on its context and on the type of its keys and
 * values; all but the first are made for the first session that takes them. */
typedef struct variant {
    spi_tape tape; /* the model's, with rows for the device */
    spi_program *program;
    bool is_wanted; /* it has a program, but while the device is lost */
} variant;

/* The model on one device. */
typedef struct loaded {
    const sp_model *model;
    sp_device *device;
    spi_device_user user;   /* of the device */
    spi_store *store;       /* NULL: the device was lost */
    variant variants[2][2]; /* [long context][Q8_0] */
    uint32_t sessions;
    int64_t row_ns; /* of long runs, of late; 0: there was none */
    struct loaded *next;
} loaded;

struct sp_model {
    spi_source *source;
    spi_recorder recorder;
    spi_weights weights;
    spi_tape tape;
    spi_op *long_ops; /* the tape's in long contexts; NULL: the model has one tape for every context */
    spi_kv_shape q8_kv;
    sp_model_info info;
    sp_tokenizer *tokenizer;
    sp_error tokenizer_error; /* why there is none */
    loaded *loads;
    pthread_mutex_t fingerprint_lock; /* readers may be many */
    sp_fingerprint fingerprint;
    bool has_fingerprint;
};

static void fill_text(const spi_source *source, const char *key, const char *fallback, char *out, size_t capacity) {
    const spi_value *value = spi_source_find(source, key);
    spi_string text;
    if (value && spi_value_as_string(value, &text) && text.bytes) {
        spi_string_printable(text, out, capacity);
    } else {
        snprintf(out, capacity, "%s", fallback);
    }
}

/* What decoding reads of a matrix: an affine one's planes, too. */
static uint64_t bytes_of(const spi_tensor *tensor) {
    uint64_t bytes = tensor->bytes;
    if (spi_affine_bits(tensor->type)) {
        uint64_t groups = (uint64_t)tensor->rows * (tensor->cols / tensor->affine.group);
        bytes += 2 * groups * sp_dtype_block_bytes(tensor->affine.type);
    }
    return bytes;
}

/* The type that most of the counted bytes have. */
static sp_dtype main_type(const spi_weights *weights, const bool *counted) {
    static const sp_dtype types[] = {
#define X(name, value, text, elements, bytes) name,
        SP_DTYPE_LIST(X) SP_AFFINE_LIST(X)
#undef X
    };
    uint64_t most = 0;
    sp_dtype type = SP_F32;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        uint64_t bytes = 0;
        for (uint32_t k = 0; k < weights->count; k++) {
            bytes += counted[k] && weights->tensors[k].type == types[i] ? weights->tensors[k].bytes : 0;
        }
        type = bytes > most ? types[i] : type;
        most = bytes > most ? bytes : most;
    }
    return type;
}

/* Parameters, and the bytes that decoding one token reads: every matrix that is multiplied with, so a tied embedding
 * counts as the head and an untied one not at all. */
static sp_status count_weights(sp_model *model, sp_error *error) {
    const spi_weights *weights = &model->weights;
    for (uint64_t i = 0; i < spi_source_tensor_count(model->source); i++) {
        const spi_source_tensor *tensor = spi_source_tensor_at(model->source, i);
        uint64_t elements = 1;
        for (int k = 0; k < 4; k++) {
            elements *= tensor->dimensions[k];
        }
        model->info.parameter_count += elements;
    }
    bool *counted = spi_alloc(weights->count, sizeof *counted);
    if (!counted) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to count the weights");
    }
    for (uint32_t i = 0; i < model->tape.op_count; i++) {
        const spi_op *op = &model->tape.ops[i];
        if ((op->kind == SPI_OP_MATMUL || op->kind == SPI_OP_HEAD) && !counted[op->weight]) {
            counted[op->weight] = true;
            model->info.weight_bytes += bytes_of(&weights->tensors[op->weight]);
        }
    }
    snprintf(model->info.type, sizeof model->info.type, "%s", sp_dtype_name(main_type(weights, counted)));
    spi_free(counted);
    return SP_OK;
}

static sp_status fill_info(sp_model *model, const char *path, sp_error *error) {
    const spi_hparams *hp = &model->recorder.hparams;
    sp_model_info *info = &model->info;
    const char *slash = strrchr(path, '/');
    snprintf(info->architecture, sizeof info->architecture, "%s", hp->family->architecture);
    fill_text(model->source, "general.name", slash ? slash + 1 : path, info->name, sizeof info->name);
    info->file_bytes = spi_source_bytes(model->source);
    info->layers = hp->layers;
    info->embedding = hp->embedding;
    info->feed_forward = hp->feed_forward;
    info->heads = hp->heads;
    info->kv_heads = hp->kv_heads;
    info->head_dim = hp->head_dim;
    info->vocab = hp->vocab;
    info->context_max = hp->context_max;
    info->block_tokens = SPI_BLOCK_TOKENS;
    info->block_bytes = model->tape.kv.block_bytes;
    return count_weights(model, error);
}

static void fill_tape(sp_model *model) {
    const spi_recorder *recorder = &model->recorder;
    const spi_hparams *hp = &recorder->hparams;
    /* But for copies: a backend that has packed weights can give their pages back. */
    model->weights =
        (spi_weights){.tensors = recorder->tensors, .count = (uint32_t)recorder->tensor_count, .droppable = true};
    model->tape = (spi_tape){
        .ops = recorder->ops,
        .op_count = (uint32_t)recorder->op_count,
        .buffers = recorder->buffers,
        .buffer_count = (uint32_t)recorder->buffer_count,
        .kv = {.type = SP_KV_F16,
               .layers = hp->layers,
               .kv_heads = hp->kv_heads,
               .head_dim = hp->head_dim,
               .block_bytes = spi_kv_block_bytes(SP_KV_F16, hp->layers, hp->kv_heads, hp->head_dim)},
        .rows_max = SPI_ROWS_MAX,
        .vocab = hp->vocab,
    };
    model->q8_kv = model->tape.kv;
    model->q8_kv.type = SP_KV_Q8_0;
    model->q8_kv.block_bytes = spi_kv_block_bytes(SP_KV_Q8_0, hp->layers, hp->kv_heads, hp->head_dim);
}

/* The same pass with the other list of factors. */
static sp_status fill_long_tape(sp_model *model, sp_error *error) {
    const spi_recorder *recorder = &model->recorder;
    if (recorder->factors_long == SPI_NONE) {
        return SP_OK;
    }
    model->long_ops = spi_alloc(recorder->op_count, sizeof *model->long_ops);
    if (!model->long_ops) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the model's index");
    }
    for (size_t i = 0; i < recorder->op_count; i++) {
        spi_op *op = &model->long_ops[i];
        *op = recorder->ops[i];
        if (op->kind == SPI_OP_ROPE && op->weight == recorder->factors_short) {
            op->weight = recorder->factors_long;
        }
    }
    spi_tape tape = model->tape;
    tape.ops = model->long_ops;
    return spi_tape_check(&tape, &model->weights, error);
}

/* A model without a usable tokenizer still computes logits of token ids, so that is not a reason to refuse it; but one
 * whose tokenizer makes ids that the model does not have is damaged. */
static sp_status open_tokenizer(sp_model *model, sp_error *error) {
    sp_status status = spi_tokenizer_create(model->source, &model->tokenizer, &model->tokenizer_error);
    if (status == SP_BAD_FILE || status == SP_NO_MEMORY) {
        *error = model->tokenizer_error;
        return status;
    }
    if (!status && sp_tokenizer_vocab(model->tokenizer) > model->info.vocab) {
        return spi_fail(error, SP_BAD_FILE, "the tokenizer has %u tokens and the model only %u",
                        sp_tokenizer_vocab(model->tokenizer), model->info.vocab);
    }
    return SP_OK;
}

/* A folder is Hugging Face's and MLX's, a file GGUF. */
static sp_status open_source(const char *path, spi_source **source, sp_error *error) {
    static const char part[] = ".safetensors";
    size_t bytes = strlen(path), end = sizeof part - 1;
    if (spi_folder_is(path)) {
        return spi_hf_open(path, source, error);
    }
    sp_status status = spi_gguf_open(path, source, error);
    if (status == SP_BAD_FILE && bytes > end && !strcmp(path + bytes - end, part)) {
        return spi_fail(error, status, "%s: this is a part of a model: give the folder that it is in", path);
    }
    return status;
}

sp_status sp_model_open(const char *path, sp_model **out, sp_error *error) {
    *out = NULL;
    sp_error local = {0};
    error = error ? error : &local;
    sp_model *model = spi_alloc(1, sizeof *model);
    if (!model) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to open %s", path);
    }
    pthread_mutex_init(&model->fingerprint_lock, NULL);
    spi_hparams hparams;
    sp_status status = open_source(path, &model->source, error);
    bool named = status && !spi_folder_is(path); /* the reader of a file names the path in its messages */
    status = status ? status : spi_hparams_read(model->source, &hparams, error);
    status = status ? status : spi_recorder_run(&model->recorder, model->source, &hparams, error);
    if (!status) {
        fill_tape(model);
        status = spi_tape_check(&model->tape, &model->weights, error);
        status = status ? status : fill_long_tape(model, error);
    }
    if (!status) {
        status = fill_info(model, path, error);
        status = status ? status : open_tokenizer(model, error);
    }
    if (status) {
        if (!named) {
            spi_fail_within(error, "%s", path);
        }
        sp_model_close(model);
        return status;
    }
    *out = model;
    return SP_OK;
}

void sp_model_close(sp_model *model) {
    if (!model) {
        return;
    }
    while (model->loads) {
        sp_model_unload(model, model->loads->device);
    }
    spi_tokenizer_destroy(model->tokenizer);
    spi_free(model->long_ops);
    spi_recorder_free(&model->recorder);
    spi_source_close(model->source);
    pthread_mutex_destroy(&model->fingerprint_lock);
    spi_free(model);
}

uint32_t spi_model_rows_max(const sp_device *device) {
    void *context;
    const spi_backend *backend = spi_device_backend(device, &context);
    uint32_t rows = context && backend->rows_max ? backend->rows_max(context) : 0;
    return rows ? rows : SPI_ROWS_MAX;
}

static loaded *find_load(const sp_model *model, const sp_device *device) {
    loaded *load = model->loads;
    while (load && load->device != device) {
        load = load->next;
    }
    return load;
}

static variant *find_variant(loaded *load, bool is_long, sp_kv_type type) {
    return &load->variants[is_long][type == SP_KV_Q8_0];
}

static sp_status prepare(const sp_model *model, loaded *load, bool is_long, sp_kv_type type, sp_error *error) {
    void *context;
    const spi_backend *backend = spi_device_backend(load->device, &context);
    variant *wanted = find_variant(load, is_long, type);
    if (wanted->program) {
        return SP_OK;
    }
    sp_status status = spi_device_check_kv(load->device, type, error);
    if (status) {
        return status;
    }
    wanted->tape = model->tape;
    wanted->tape.ops = is_long ? model->long_ops : model->tape.ops;
    wanted->tape.kv = *spi_model_kv(model, type);
    wanted->tape.rows_max = spi_model_rows_max(load->device);
    status = backend->prepare(context, load->store, &wanted->tape, &wanted->program, error);
    wanted->is_wanted = !status;
    return status;
}

/* What is on the device; what is wanted there stays wanted. */
static void let_go(void *env) {
    loaded *load = env;
    void *context;
    const spi_backend *backend = spi_device_backend(load->device, &context);
    if (!load->store) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        variant *each = &load->variants[i / 2][i % 2];
        if (each->program) {
            backend->discard(context, each->program);
            each->program = NULL;
        }
    }
    backend->unload(context, load->store);
    load->store = NULL;
}

static sp_status load_weights(loaded *load, sp_progress progress, void *progress_env, sp_error *error) {
    void *context;
    const spi_backend *backend = spi_device_backend(load->device, &context);
    sp_status status = backend->load(context, &load->model->weights, progress, progress_env, &load->store, error);
    for (int i = 0; i < 4 && !status; i++) {
        if (load->variants[i / 2][i % 2].is_wanted) {
            status = prepare(load->model, load, i / 2, i % 2 ? SP_KV_Q8_0 : SP_KV_F16, error);
        }
    }
    if (status) {
        let_go(load);
    }
    return status;
}

static sp_status take_again(void *env, sp_error *error) {
    return load_weights(env, NULL, NULL, error);
}

sp_status sp_model_load(sp_model *model, sp_device *device, sp_progress progress, void *progress_env, sp_error *error) {
    sp_error local = {0};
    error = error ? error : &local;
    if (find_load(model, device)) {
        return SP_OK;
    }
    if (spi_device_is_lost(device) && spi_device_revive(device, error)) {
        return SP_DEVICE_LOST;
    }
    loaded *load = spi_alloc(1, sizeof *load);
    if (!load) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to load %s", model->info.name);
    }
    load->model = model;
    load->device = device;
    load->user = (spi_device_user){.let_go = let_go, .take_again = take_again, .env = load};
    find_variant(load, false, SP_KV_F16)->is_wanted = true;
    sp_status status = load_weights(load, progress, progress_env, error);
    if (status) {
        spi_free(load);
        return status;
    }
    spi_device_add_user(device, &load->user);
    load->next = model->loads;
    model->loads = load;
    return SP_OK;
}

void sp_model_unload(sp_model *model, sp_device *device) {
    loaded **place = &model->loads;
    while (*place && (*place)->device != device) {
        place = &(*place)->next;
    }
    loaded *load = *place;
    if (!load) {
        return;
    }
    assert(!load->sessions && "sessions of this model are still open on this device");
    *place = load->next;
    spi_device_remove_user(device, &load->user);
    let_go(load);
    spi_free(load);
}

void sp_model_get_info(const sp_model *model, sp_model_info *info) {
    *info = model->info;
}

void sp_model_get_fingerprint(const sp_model *model, sp_fingerprint *fingerprint) {
    sp_model *own = (sp_model *)(uintptr_t)model; /* what is kept does not change what it is */
    pthread_mutex_lock(&own->fingerprint_lock);
    if (!own->has_fingerprint) {
        spi_fingerprint_quick(own->source, &own->info, &own->fingerprint);
        own->has_fingerprint = true;
    }
    *fingerprint = own->fingerprint;
    pthread_mutex_unlock(&own->fingerprint_lock);
}

void sp_model_get_full_fingerprint(const sp_model *model, uint8_t fingerprint[16]) {
    spi_fingerprint_full(model->source, fingerprint);
}

const sp_tokenizer *sp_model_tokenizer(const sp_model *model, sp_error *error) {
    if (!model->tokenizer && error) {
        *error = model->tokenizer_error;
    }
    return model->tokenizer;
}

bool spi_model_is_end(const sp_model *model, int32_t token) {
    return model->tokenizer && sp_tokenizer_is_end(model->tokenizer, token);
}

const spi_tape *spi_model_tape(const sp_model *model) {
    return &model->tape;
}

const spi_kv_shape *spi_model_kv(const sp_model *model, sp_kv_type type) {
    return type == SP_KV_Q8_0 ? &model->q8_kv : &model->tape.kv;
}

const spi_weights *spi_model_weights(const sp_model *model) {
    return &model->weights;
}

bool spi_model_is_long(const sp_model *model, uint32_t context_max) {
    return model->long_ops && context_max > model->recorder.hparams.original_context;
}

spi_program *spi_model_program(const sp_model *model, const sp_device *device, uint32_t context_max, sp_kv_type type) {
    loaded *load = find_load(model, device);
    return load ? find_variant(load, spi_model_is_long(model, context_max), type)->program : NULL;
}

sp_status spi_model_prepare(sp_model *model, const sp_device *device, uint32_t context_max, sp_kv_type type,
                            sp_error *error) {
    return prepare(model, find_load(model, device), spi_model_is_long(model, context_max), type, error);
}

int64_t spi_model_row_ns(const sp_model *model, const sp_device *device) {
    return find_load(model, device)->row_ns;
}

/* One run that something else held up must not make all that follow short: each counts for a quarter. */
void spi_model_note_run(sp_model *model, const sp_device *device, uint32_t row_count, int64_t ns) {
    loaded *load = find_load(model, device);
    int64_t now_ns = ns / row_count;
    load->row_ns = load->row_ns ? load->row_ns + (now_ns - load->row_ns) / 4 : now_ns;
}

void spi_model_retain(sp_model *model, const sp_device *device) {
    find_load(model, device)->sessions++;
}

void spi_model_release(sp_model *model, const sp_device *device) {
    find_load(model, device)->sessions--;
}

uint64_t sp_model_metadata_count(const sp_model *model) {
    return spi_source_value_count(model->source);
}

const char *sp_model_metadata_key(const sp_model *model, uint64_t index, size_t *bytes) {
    const spi_value *value =
        index < spi_source_value_count(model->source) ? spi_source_value_at(model->source, index) : NULL;
    *bytes = value ? value->key.bytes : 0;
    return value ? value->key.text : NULL;
}

/* Prints anything but a string; returns the length. */
static int print_value(const spi_value *value, char *out, size_t capacity) {
    bool boolean;
    uint64_t natural;
    int64_t whole;
    double number;
    if (value->type == SPI_VALUE_ARRAY) {
        return snprintf(out, capacity, "[%" PRIu64 " values]", value->count);
    }
    if (value->type == SPI_VALUE_BOOL && spi_value_as_bool(value, &boolean)) {
        return snprintf(out, capacity, "%s", boolean ? "true" : "false");
    }
    if (spi_value_as_u64(value, &natural)) {
        return snprintf(out, capacity, "%" PRIu64, natural);
    }
    if (spi_value_as_i64(value, &whole)) {
        return snprintf(out, capacity, "%" PRId64, whole);
    }
    return spi_value_as_f64(value, &number) ? snprintf(out, capacity, "%g", number) : 0;
}

sp_status sp_model_metadata(const sp_model *model, const char *key, char *text, size_t capacity, size_t *bytes,
                            sp_error *error) {
    *bytes = 0;
    const spi_value *value = spi_source_find(model->source, key);
    if (!value) {
        return spi_fail(error, SP_NOT_FOUND, "the model has no metadata %s", key);
    }
    spi_string string;
    char printed[64];
    if (!spi_value_as_string(value, &string)) {
        int length = print_value(value, printed, sizeof printed);
        string = (spi_string){.text = printed, .bytes = length > 0 ? (size_t)length : 0};
    }
    *bytes = string.bytes;
    if (string.bytes > capacity) {
        return spi_fail(error, SP_BUFFER_TOO_SMALL, "the metadata %s has %zu bytes", key, string.bytes);
    }
    if (string.bytes) {
        memcpy(text, string.text, string.bytes);
    }
    return SP_OK;
}
