/* samepage/model.h - an opened model, a GGUF file or a folder: immutable, shared by everything that uses it.
 *
 * Files are mapped, not read. Before a session can run on a device the model is loaded there, once: weights are used
 * in place, packed or uploaded, whichever that device is best with.
 *
 * Threads: opening and loading are done by one thread; everything that only reads may be called by any number.
 * A file that another program shortens or rewrites while it is open is a programmer's error on the other side: replace
 * model files by renaming.
 */
#ifndef SAMEPAGE_MODEL_H
#define SAMEPAGE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/device.h"
#include "samepage/status.h"
#include "samepage/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_model sp_model;

typedef struct sp_model_info {
    char architecture[32]; /* "llama" */
    char name[96];         /* general.name, or the file's or folder's */
    char type[16];         /* the weight type that most bytes have: "Q8_0", "AFFINE4" */
    uint64_t parameter_count;
    uint64_t file_bytes;
    uint64_t weight_bytes; /* read for each token at decode */
    uint32_t layers, embedding, feed_forward, heads, kv_heads, head_dim;
    uint32_t vocab;
    uint32_t context_max;  /* what the model was made for */
    uint32_t block_tokens; /* tokens in a KV block: 64 */
    uint64_t block_bytes;  /* of one KV block, all layers */
} sp_model_info;

/* Called from the loading thread, now and then and at the end. */
typedef void (*sp_progress)(void *env, uint64_t done_bytes, uint64_t total_bytes);

/* Opens and checks a GGUF file, or a folder as Hugging Face and MLX lay it out (config.json, safetensors,
 * tokenizer.json): docs/models.md lists what is supported. SP_NOT_FOUND, SP_BAD_FILE (says which field), SP_UNSUPPORTED
 * (names the architecture, tensor type, tokenizer or feature). */
SP_EXPORT sp_status sp_model_open(const char *path, sp_model **model, sp_error *error);

/* Sessions on it must be gone; devices that it was loaded on still open. NULL is allowed. */
SP_EXPORT void sp_model_close(sp_model *model);

/* Makes the model usable on a device; does nothing if it is. progress may be NULL. SP_NO_MEMORY, SP_UNSUPPORTED. */
SP_EXPORT sp_status sp_model_load(sp_model *model, sp_device *device, sp_progress progress, void *progress_env,
                                  sp_error *error);

/* Undoes sp_model_load; sessions of this model on this device must be gone. */
SP_EXPORT void sp_model_unload(sp_model *model, sp_device *device);

SP_EXPORT void sp_model_get_info(const sp_model *model, sp_model_info *info);

/* Who a model is. Computed at the first call from the file's header, all metadata and tensor descriptions, its size
 * and, of each tensor, its first, its last and some pages between them: milliseconds, and kept with the model. A file
 * that differs only in weights inside of pages that are not looked at has the same one; what finds that is the full
 * form. */
typedef struct sp_fingerprint {
    uint8_t weights[16]; /* differs between quantisations */
    uint8_t family[16];  /* architecture, name, shape and vocabulary: the same for all quantisations of a model */
} sp_fingerprint;
SP_EXPORT void sp_model_get_fingerprint(const sp_model *model, sp_fingerprint *fingerprint);

/* Of every byte of the file: it takes as long as reading it. */
SP_EXPORT void sp_model_get_full_fingerprint(const sp_model *model, uint8_t fingerprint[16]);

/* Borrowed; NULL if the file has none that can be used, and then *error says why (error may be NULL). */
SP_EXPORT const sp_tokenizer *sp_model_tokenizer(const sp_model *model, sp_error *error);

/* The metadata value of a key as text: strings as they are (not zero-terminated), numbers and booleans printed, arrays
 * as "[N values]". Writes at most capacity bytes; *bytes is the whole length. SP_NOT_FOUND, SP_BUFFER_TOO_SMALL. */
SP_EXPORT sp_status sp_model_metadata(const sp_model *model, const char *key, char *text, size_t capacity,
                                      size_t *bytes, sp_error *error);

/* For listing: the number of keys, and the name of one (borrowed, not zero-terminated). */
SP_EXPORT uint64_t sp_model_metadata_count(const sp_model *model);
SP_EXPORT const char *sp_model_metadata_key(const sp_model *model, uint64_t index, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
