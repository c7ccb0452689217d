// embed.comp - dst[r][:] = weight[token of r][:] * scale. An invocation takes one unit of a row; rows whose token is in
// another piece of the weight are left to that piece's dispatch.
// variants: embed_f32=-DTYPE=0 embed_f16=-DTYPE=1 embed_bf16=-DTYPE=2 embed_q8_0=-DTYPE=3 embed_q4_0=-DTYPE=4
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 6) writeonly buffer Dst { vec4 dst[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint row_units, tile_rows;
    uint dst_stride;
    uint rows_word;
    float scale;
} p;
#include "weights.glsl"

void main() {
    uint unit_index = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    uint weight_row = parameters[p.rows_word + row * 4u] - p.weight_first;
    if (unit_index >= p.row_units || weight_row >= p.weight_count) {
        return;
    }
    uint tile = weight_row / p.tile_rows, lane = weight_row % p.tile_rows;
    uvec4 unit = units[(tile * p.row_units + unit_index) * p.tile_rows + lane];
    float scale = p.scale;
#if SCALED
    uint block = unit_index / BLOCK_UNITS, steps = p.row_units / (BLOCK_UNITS * STEP_BLOCKS);
    vec2 pair = unpackHalf2x16(scales[(tile * steps + block / 2u) * p.tile_rows + lane]);
    float block_scale = (block & 1u) == 0u ? pair.x : pair.y;
#else
    float block_scale = 1.0;
#endif
    for (uint part = 0u; part < UNIT_PARTS; part++) {
        dst[row * p.dst_stride / 4u + unit_index * UNIT_PARTS + part] = unit_part(unit, part) * block_scale * scale;
    }
}
