// embed.comp - dst[r][:] = weight[token of r][:] * scale. An invocation takes one unit of a row; rows whose token is in
// another piece of the weight are left to that piece's dispatch.
// types: embed=
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
    uint step_words, affine; // of affine types: weights_affine.glsl
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
    uint step = unit_index / STEP_UNITS, u = unit_index % STEP_UNITS;
    uint words_at = (tile * (p.row_units / STEP_UNITS) + step) * WORDS * p.tile_rows + lane;
    begin_step(words_at, p.tile_rows);
    begin_unit(words_at, p.tile_rows, u);
    for (uint part = 0u; part < UNIT_PARTS; part++) {
        vec4 w = unit_part(unit, part);
#if SCALED > 0
        vec2 scale = sub_scale(u, part / SUB_PARTS);
        w = fma(w, vec4(scale.x), vec4(scale.y));
#endif
        dst[row * p.dst_stride / 4u + unit_index * UNIT_PARTS + part] = w * p.scale;
    }
}
