/* samepage/dtype.h - the number formats of weights, and of keys and values.
 *
 * Values are those of GGUF's ggml_type (github.com/ggml-org/ggml, docs/gguf.md), so that a file's field needs no
 * translation. A type that is not in these lists is refused at load, by name where the name is known.
 */
#ifndef SAMEPAGE_DTYPE_H
#define SAMEPAGE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* name, GGUF value, text, elements a block, bytes a block */
#define SP_DTYPE_LIST(X)                                                                                               \
    X(SP_F32, 0, "F32", 1, 4)                                                                                          \
    X(SP_F16, 1, "F16", 1, 2)                                                                                          \
    X(SP_Q4_0, 2, "Q4_0", 32, 18)                                                                                      \
    X(SP_Q4_1, 3, "Q4_1", 32, 20)                                                                                      \
    X(SP_Q5_0, 6, "Q5_0", 32, 22)                                                                                      \
    X(SP_Q5_1, 7, "Q5_1", 32, 24)                                                                                      \
    X(SP_Q8_0, 8, "Q8_0", 32, 34)                                                                                      \
    X(SP_Q2_K, 10, "Q2_K", 256, 84)                                                                                    \
    X(SP_Q3_K, 11, "Q3_K", 256, 110)                                                                                   \
    X(SP_Q4_K, 12, "Q4_K", 256, 144)                                                                                   \
    X(SP_Q5_K, 13, "Q5_K", 256, 176)                                                                                   \
    X(SP_Q6_K, 14, "Q6_K", 256, 210)                                                                                   \
    X(SP_IQ4_NL, 20, "IQ4_NL", 32, 18)                                                                                 \
    X(SP_IQ4_XS, 23, "IQ4_XS", 256, 136)                                                                               \
    X(SP_BF16, 30, "BF16", 1, 2)                                                                                       \
    X(SP_MXFP4, 39, "MXFP4", 32, 17)

/* MLX's affine quantisation (github.com/ml-explore/mlx, mx.quantize), which GGUF has no numbers for: the value is the
 * code times a scale plus a bias, both shared by a group of 32, 64 or 128 neighbours. Codes are a stream of bits, the
 * first in the lowest ones; scales and biases lie beside them, in F32, F16 or BF16. The bytes are those of the
 * codes. */
#define SP_AFFINE_LIST(X)                                                                                              \
    X(SP_AFFINE2, 1002, "AFFINE2", 32, 8)                                                                              \
    X(SP_AFFINE3, 1003, "AFFINE3", 32, 12)                                                                             \
    X(SP_AFFINE4, 1004, "AFFINE4", 32, 16)                                                                             \
    X(SP_AFFINE5, 1005, "AFFINE5", 32, 20)                                                                             \
    X(SP_AFFINE6, 1006, "AFFINE6", 32, 24)                                                                             \
    X(SP_AFFINE8, 1008, "AFFINE8", 32, 32)

typedef enum sp_dtype {
#define X(name, value, text, elements, bytes) name = value,
    SP_DTYPE_LIST(X) SP_AFFINE_LIST(X)
#undef X
} sp_dtype;

/* What a session keeps keys and values in. Q8_0 takes 17/32 of the memory: int8 with an f16 scale for each 32 of a
 * head. */
typedef enum sp_kv_type {
    SP_KV_DEFAULT = 0, /* F16, or what a guest was given */
    SP_KV_F16 = 1,
    SP_KV_Q8_0 = 2,
} sp_kv_type;
SP_EXPORT const char *sp_kv_type_name(sp_kv_type type); /* "f16", "q8_0"; NULL: there is none */

/* NULL, 0 and 0 for a value that is in neither list. */
SP_EXPORT const char *sp_dtype_name(sp_dtype type);
SP_EXPORT uint32_t sp_dtype_block_elements(sp_dtype type);
SP_EXPORT uint32_t sp_dtype_block_bytes(sp_dtype type);

#ifdef __cplusplus
}
#endif
#endif
