// file_product.glsl - what the products over weights as the file has them share: what is pushed, and what becomes of a
// sum.
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint columns;
    uint row_bytes, byte_first; // of the weight; of the piece, in its binding
    uint x_stride;              // in fours
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
    uint affine, scales_first, biases_first; // bytes in their bindings
} p;
#include "file_weights.glsl"

#include "store.glsl"
