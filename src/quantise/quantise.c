/* quantise/quantise.c - reads a model file a piece at a time, converts the pieces on all threads, writes the new file.
 *
 * A tensor is a run of blocks, whatever its shape, since rows are whole blocks of both types: threads take pieces of it
 * from a counter. May include: base, dtype, os, gguf. */
#include "samepage/quantise.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "dtype/dequant.h"
#include "dtype/names.h"
#include "dtype/quant.h"
#include "gguf/writer.h"
#include "os/cpu.h"
#include "os/crew.h"
#include "os/file.h"
#include "os/vm.h"
#include "quantise/plan.h"

#define PIECE_ELEMENTS       4096u               /* that a thread takes at once: whole blocks of every type */
#define SLAB_ELEMENTS        ((uint64_t)1 << 22) /* that are converted before they are written */
#define SLAB_BYTES           (SLAB_ELEMENTS * sizeof(float)) /* the most that those take */
#define DEFAULT_ALIGNMENT    32u
#define QUANTISATION_VERSION 2u /* general.quantization_version of the formats in samepage/dtype.h */

typedef struct slab {
    sp_dtype from, to;
    const uint8_t *source;
    uint8_t *out;
    uint64_t elements;
    atomic_ullong bad;    /* the lowest piece with a value that is not finite; UINT64_MAX: none */
    atomic_bool overflow; /* values too large for the type */
} slab;

static bool are_finite(const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

static void convert_piece(void *env, uint32_t index) {
    slab *of = env;
    float values[PIECE_ELEMENTS];
    uint64_t from_bytes = PIECE_ELEMENTS / sp_dtype_block_elements(of->from) * sp_dtype_block_bytes(of->from);
    uint64_t to_bytes = PIECE_ELEMENTS / sp_dtype_block_elements(of->to) * sp_dtype_block_bytes(of->to);
    uint64_t piece = index, begin = piece * PIECE_ELEMENTS;
    uint32_t count = of->elements - begin < PIECE_ELEMENTS ? (uint32_t)(of->elements - begin) : PIECE_ELEMENTS;
    spi_dequantise(of->from, of->source + piece * from_bytes, 0, count, values);
    if (!are_finite(values, count)) {
        unsigned long long lowest = atomic_load(&of->bad);
        while (piece < lowest && !atomic_compare_exchange_weak(&of->bad, &lowest, piece)) {}
    } else if (!spi_quantise(of->to, values, count, of->out + piece * to_bytes)) {
        atomic_store(&of->overflow, true);
    }
}

typedef struct work {
    const sp_quantise_options *options;
    const spi_source *gguf;
    spi_plan plan;
    spi_source_tensor *tensors; /* as they are to be */
    spi_gguf_entry *entries;
    uint64_t entry_count;
    uint32_t alignment, thread_count;
    uint8_t *buffer; /* [SLAB_BYTES] */
    spi_gguf_writer *writer;
    sp_quantise_result result;
    uint64_t done_bytes;
    sp_error *error;
} work;

static sp_status tell(work *of) {
    const sp_quantise_options *options = of->options;
    bool goes_on = !options->progress || options->progress(options->env, of->done_bytes, of->result.in_bytes);
    return goes_on ? SP_OK : spi_fail(of->error, SP_CANCELLED, "stopped before the file was whole: nothing was kept");
}

static uint64_t element_count(const spi_source_tensor *tensor) {
    return tensor->dimensions[0] * tensor->dimensions[1] * tensor->dimensions[2] * tensor->dimensions[3];
}

static uint64_t bytes_of(sp_dtype type, uint64_t elements) {
    return elements / sp_dtype_block_elements(type) * sp_dtype_block_bytes(type);
}

static sp_status convert(work *of, const spi_source_tensor *from, const spi_source_tensor *to, const char *name) {
    sp_dtype old = (sp_dtype)from->type, new = (sp_dtype)to->type;
    uint64_t elements = element_count(from);
    sp_status status = SP_OK;
    for (uint64_t first = 0; first < elements && !status; first += SLAB_ELEMENTS) {
        uint64_t count = elements - first < SLAB_ELEMENTS ? elements - first : SLAB_ELEMENTS;
        slab job = {.from = old,
                    .to = new,
                    .source = (const uint8_t *)from->data + bytes_of(old, first),
                    .out = of->buffer,
                    .elements = count};
        atomic_init(&job.bad, UINT64_MAX);
        spi_crew_run((uint32_t)((count - 1) / PIECE_ELEMENTS + 1), of->thread_count, convert_piece, &job);
        unsigned long long bad = atomic_load(&job.bad);
        if (bad != UINT64_MAX) {
            return spi_fail(of->error, SP_BAD_FILE,
                            "the tensor %s has values that are not finite, behind element %llu: the file is damaged",
                            name, (unsigned long long)(first + bad * PIECE_ELEMENTS));
        }
        if (atomic_load(&job.overflow)) {
            return spi_fail(of->error, SP_UNSUPPORTED, "the tensor %s has values too large for the scales of %s", name,
                            sp_dtype_name(new));
        }
        status = spi_gguf_writer_put(of->writer, of->buffer, (size_t)bytes_of(new, count), of->error);
        spi_vm_drop(job.source, (size_t)bytes_of(old, count));
        of->done_bytes += bytes_of(old, count);
        status = status ? status : tell(of);
    }
    return status;
}

static sp_status copy(work *of, const spi_source_tensor *tensor) {
    sp_status status = SP_OK;
    for (uint64_t first = 0; first < tensor->bytes && !status; first += SLAB_BYTES) {
        uint64_t bytes = tensor->bytes - first < SLAB_BYTES ? tensor->bytes - first : SLAB_BYTES;
        const uint8_t *source = (const uint8_t *)tensor->data + first;
        status = spi_gguf_writer_put(of->writer, source, (size_t)bytes, of->error);
        spi_vm_drop(source, (size_t)bytes);
        of->done_bytes += bytes;
        status = status ? status : tell(of);
    }
    return status;
}

static sp_status plan_tensor(work *of, uint64_t index) {
    const spi_source_tensor *from = spi_source_tensor_at(of->gguf, index);
    spi_source_tensor *to = &of->tensors[index];
    char name[80];
    spi_string_printable(from->name, name, sizeof name);
    *to = *from;
    if (!from->data) {
        return spi_fail(of->error, SP_UNSUPPORTED, "the tensor %s has the weight type %s, which is not supported", name,
                        spi_dtype_text(from->type));
    }
    to->type = spi_plan_type(&of->plan, from);
    to->bytes = bytes_of((sp_dtype)to->type, element_count(to));
    bool changes = to->type != from->type;
    if (changes && sp_dtype_block_elements((sp_dtype)from->type) > 1 && !of->options->requantise) {
        return spi_fail(of->error, SP_UNSUPPORTED,
                        "the tensor %s is quantised already (%s): start from an F32, F16 or BF16 file, or "
                        "allow it (--requantize), which costs quality",
                        name, spi_dtype_text(from->type));
    }
    of->result.tensor_count++;
    of->result.converted_count += changes;
    of->result.element_count += element_count(from);
    of->result.in_bytes += from->bytes;
    of->result.out_bytes += to->bytes;
    return SP_OK;
}

static bool is_key(const spi_value *value, const char *key) {
    return value->key.bytes == strlen(key) && !memcmp(value->key.text, key, value->key.bytes);
}

/* All values in their order; the two that change keep their place, or come last. */
static void list_entries(work *of) {
    static const char *const keys[] = {"general.file_type", "general.quantization_version"};
    const uint32_t numbers[] = {of->plan.mix->file_type, QUANTISATION_VERSION};
    bool there[2] = {false, false};
    for (uint64_t i = 0; i < spi_source_value_count(of->gguf); i++) {
        const spi_value *value = spi_source_value_at(of->gguf, i);
        spi_gguf_entry *entry = &of->entries[of->entry_count++];
        *entry = (spi_gguf_entry){.copy = value};
        for (uint32_t k = 0; k < 2; k++) {
            if (is_key(value, keys[k])) {
                *entry = (spi_gguf_entry){.key = keys[k], .number = numbers[k]};
                there[k] = true;
            }
        }
    }
    for (uint32_t k = 0; k < 2; k++) {
        if (!there[k]) {
            of->entries[of->entry_count++] = (spi_gguf_entry){.key = keys[k], .number = numbers[k]};
        }
    }
    uint64_t alignment = DEFAULT_ALIGNMENT;
    const spi_value *value = spi_source_find(of->gguf, "general.alignment");
    if (value) {
        spi_value_as_u64(value, &alignment); /* the reader has checked it */
    }
    of->alignment = (uint32_t)alignment;
}

static sp_status plan_all(work *of) {
    uint64_t tensors = spi_source_tensor_count(of->gguf), values = spi_source_value_count(of->gguf);
    sp_status status = spi_plan_make(of->gguf, of->options->type, of->options->pure, &of->plan, of->error);
    if (status) {
        return status;
    }
    of->tensors = spi_alloc((size_t)tensors, sizeof *of->tensors);
    of->entries = spi_alloc((size_t)values + 2, sizeof *of->entries);
    of->buffer = of->options->dry_run ? NULL : spi_alloc_aligned(SLAB_BYTES, 64);
    if (!of->tensors || !of->entries || (!of->buffer && !of->options->dry_run)) {
        return spi_fail(of->error, SP_NO_MEMORY, "no memory to quantise a model");
    }
    for (uint64_t i = 0; i < tensors && !status; i++) {
        status = plan_tensor(of, i);
    }
    list_entries(of);
    return status;
}

static sp_status write_tensors(work *of) {
    sp_status status = SP_OK;
    for (uint64_t i = 0; i < spi_source_tensor_count(of->gguf) && !status; i++) {
        const spi_source_tensor *from = spi_source_tensor_at(of->gguf, i), *to = &of->tensors[i];
        char name[80];
        spi_string_printable(from->name, name, sizeof name);
        if (of->options->tensor) {
            of->options->tensor(of->options->env, name, (sp_dtype)from->type, (sp_dtype)to->type, element_count(from));
        }
        if (!of->options->dry_run) {
            status = from->type == to->type ? copy(of, from) : convert(of, from, to, name);
        }
    }
    return status;
}

static sp_status write_file(work *of, const char *out) {
    if (of->options->dry_run) {
        return write_tensors(of);
    }
    sp_status status = spi_gguf_writer_open(out, of->entries, of->entry_count, of->tensors,
                                            spi_source_tensor_count(of->gguf), of->alignment, &of->writer, of->error);
    status = status ? status : write_tensors(of);
    if (status) {
        spi_gguf_writer_abort(of->writer);
        return status;
    }
    return spi_gguf_writer_commit(of->writer, of->error);
}

sp_status sp_quantise_file(const char *in, const char *out, const sp_quantise_options *options,
                           sp_quantise_result *result, sp_error *error) {
    sp_error local = {0};
    error = error ? error : &local;
    if (out && spi_file_same(in, out)) {
        return spi_fail(error, SP_INVALID, "%s is the model itself: give the quantised file another name", out);
    }
    spi_source *gguf;
    sp_status status = spi_gguf_open(in, &gguf, error);
    if (status) {
        return status;
    }
    uint32_t threads = options->thread_count ? options->thread_count : spi_cpu_thread_count();
    work of = {.options = options, .gguf = gguf, .thread_count = threads, .error = error};
    status = plan_all(&of);
    if (status) {
        spi_fail_within(error, "%s", in);
    }
    status = status ? status : write_file(&of, out);
    if (!status && result) {
        *result = of.result;
    }
    spi_free(of.tensors);
    spi_free(of.entries);
    spi_free_aligned(of.buffer);
    spi_source_close(gguf);
    return status;
}

const char *sp_quantise_type_name(size_t index) {
    const spi_mix *mix = index < UINT32_MAX ? spi_mix_at((uint32_t)index) : NULL;
    return mix ? mix->name : NULL;
}
