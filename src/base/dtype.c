/* base/dtype.c - what is known of each type, from the lists in samepage/dtype.h. */
#include "samepage/dtype.h"

const char *sp_dtype_name(sp_dtype type) {
    switch (type) {
#define X(name, value, text, elements, bytes)                                                                          \
    case name: return text;
        SP_DTYPE_LIST(X)
        SP_AFFINE_LIST(X)
#undef X
    }
    return NULL;
}

const char *sp_kv_type_name(sp_kv_type type) {
    return type == SP_KV_DEFAULT || type == SP_KV_F16 ? "f16" : type == SP_KV_Q8_0 ? "q8_0" : NULL;
}

uint32_t sp_dtype_block_elements(sp_dtype type) {
    switch (type) {
#define X(name, value, text, elements, bytes)                                                                          \
    case name: return elements;
        SP_DTYPE_LIST(X)
        SP_AFFINE_LIST(X)
#undef X
    }
    return 0;
}

uint32_t sp_dtype_block_bytes(sp_dtype type) {
    switch (type) {
#define X(name, value, text, elements, bytes)                                                                          \
    case name: return bytes;
        SP_DTYPE_LIST(X)
        SP_AFFINE_LIST(X)
#undef X
    }
    return 0;
}
