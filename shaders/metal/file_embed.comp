// file_embed.comp - dst[r][:] = weight[token of r][:] * scale over weights as the file has them. An invocation takes 32
// columns of a row; rows whose token is in another piece of the weight are left to that piece's dispatch.
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 6) writeonly buffer Dst { vec4 dst[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint columns;
    uint row_bytes, byte_first; // of the weight; of the piece, in its binding
    uint dst_stride;            // in fours
    uint rows_word;
    float scale;
    uint affine, scales_first, biases_first; // bytes in their bindings
} p;
#define TWO_ROUNDINGS // an affine value is what MLX says to the bit; products take one, which compilers make faster
#include "file_weights.glsl"

void main() {
    uint group = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    uint weight_row = parameters[p.rows_word + row * 4u] - p.weight_first;
    if (32u * group >= p.columns || weight_row >= p.weight_count) {
        return;
    }
    vec4 weights[PARTS];
    take_weights(weight_row, group, p.columns, weights);
    for (uint i = 0u; i < PARTS; i++) {
        dst[row * p.dst_stride + group * PARTS + i] = weights[i] * p.scale;
    }
}
