/* samepage/quantise.h - a model file written anew with its matrices in another weight type.
 *
 * Which tensor gets which type, and the bits of each block, are those of llama.cpp's llama_model_quantize without an
 * importance matrix (github.com/ggml-org/llama.cpp): docs/models.md lists the mixes. Metadata are carried over as they
 * are but for general.file_type and general.quantization_version. Memory does not grow with the model.
 */
#ifndef SAMEPAGE_QUANTISE_H
#define SAMEPAGE_QUANTISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/dtype.h"
#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_quantise_options {
    const char *type;      /* "Q8_0", "Q4_K_M", ...; upper or lower case */
    bool pure;             /* every matrix in the type itself, as far as its rows allow */
    bool requantise;       /* take matrices that are quantised already, which costs quality */
    bool dry_run;          /* plan and count; write nothing (out may be NULL) */
    uint32_t thread_count; /* 0: as many as are worth it */

    /* Both may be NULL and are called by the calling thread: for each tensor before it is converted, and now and then
     * with what was read of all that there is. False ends the work as SP_CANCELLED. */
    void (*tensor)(void *env, const char *name, sp_dtype from, sp_dtype to, uint64_t elements);
    bool (*progress)(void *env, uint64_t done_bytes, uint64_t total_bytes);
    void *env;
} sp_quantise_options;

typedef struct sp_quantise_result {
    uint64_t tensor_count, converted_count;
    uint64_t element_count;
    uint64_t in_bytes, out_bytes; /* of all tensors */
} sp_quantise_result;

/* Reads the GGUF file `in` and writes `out`, which appears when it is whole; what was there under that name is
 * replaced. out being the file in itself is SP_INVALID. SP_BAD_FILE, also for values that are not finite (names the
 * tensor); SP_UNSUPPORTED (names the type, or the tensor that is quantised already); SP_IO; SP_CANCELLED. result may be
 * NULL. */
SP_EXPORT sp_status sp_quantise_file(const char *in, const char *out, const sp_quantise_options *options,
                                     sp_quantise_result *result, sp_error *error);

/* The names that options.type may have; NULL behind the last. */
SP_EXPORT const char *sp_quantise_type_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
