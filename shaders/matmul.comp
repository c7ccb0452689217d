// matmul.comp - y[r][o] = sum_k w[o][k] * x[r][k] for ROWS rows at once, and what MATMUL and HEAD add to it.
//
// An invocation has one row of weights: neighbours read neighbouring 16 bytes, all read the same x, and nobody has to
// reduce anything. Where the hardware wants more invocations, SLICES of a row's steps are summed apart and then
// together.
// types: matmul_1=-DROWS=1 matmul_4=-DROWS=4 matmul_8=-DROWS=8
#version 450
#extension GL_GOOGLE_include_directive : require
layout(constant_id = 0) const uint SLICES = 1;
layout(local_size_x = 32, local_size_y_id = 0) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint steps, tile_rows;
    uint x_stride; // in fours
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
    uint step_words, affine; // of affine types: weights_affine.glsl
} p;
#include "weights.glsl"

const uint SLICES_MAX = 4u;
shared float slice_sums[SLICES_MAX * ROWS * 32u];

float dot_by_fma(vec4 a, vec4 b, float sum) {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

#include "store.glsl"

void main() {
    uint lane = gl_LocalInvocationID.x, slice = SLICES > 1u ? gl_LocalInvocationID.y : 0u;
    uint tile = gl_WorkGroupID.x, row_first = p.row_first + gl_WorkGroupID.y * uint(ROWS);
    uint tile_lane = min(lane, p.tile_rows - 1u);
    uint x_at[ROWS];
    float sums[ROWS];
    for (uint r = 0u; r < uint(ROWS); r++) {
        x_at[r] = min(row_first + r, p.row_end - 1u) * p.x_stride;
        sums[r] = 0.0;
    }
    for (uint step = slice; step < p.steps; step += SLICES) {
        uint words_at = (tile * p.steps + step) * WORDS * p.tile_rows + tile_lane;
        begin_step(words_at, p.tile_rows);
        for (uint u = 0u; u < STEP_UNITS; u++) {
            uint unit_index = step * STEP_UNITS + u;
            begin_unit(words_at, p.tile_rows, u);
            uvec4 unit = units[(tile * p.steps * STEP_UNITS + unit_index) * p.tile_rows + tile_lane];
            for (uint sub = 0u; sub < UNIT_SUBS; sub++) {
                float part_sums[ROWS];
                for (uint r = 0u; r < uint(ROWS); r++) {
                    part_sums[r] = 0.0;
                }
#if SCALED > 0
                vec2 scale = sub_scale(u, sub);
#endif
                for (uint part = sub * SUB_PARTS; part < (sub + 1u) * SUB_PARTS; part++) {
                    vec4 w = unit_part(unit, part);
#if SCALED > 1
                    w = fma(w, vec4(scale.x), vec4(scale.y));
#endif
                    for (uint r = 0u; r < uint(ROWS); r++) {
                        part_sums[r] = dot_by_fma(w, x[x_at[r] + unit_index * UNIT_PARTS + part], part_sums[r]);
                    }
                }
                for (uint r = 0u; r < uint(ROWS); r++) {
#if SCALED == 1
                    sums[r] = fma(scale.x, part_sums[r], sums[r]);
#else
                    sums[r] += part_sums[r];
#endif
                }
            }
        }
    }
    if (SLICES > 1u) {
        for (uint r = 0u; r < uint(ROWS); r++) {
            slice_sums[(slice * uint(ROWS) + r) * 32u + lane] = sums[r];
        }
        barrier();
        if (slice > 0u) {
            return;
        }
        for (uint s = 1u; s < SLICES; s++) {
            for (uint r = 0u; r < uint(ROWS); r++) {
                sums[r] += slice_sums[(s * uint(ROWS) + r) * 32u + lane];
            }
        }
    }
    uint o = tile * p.tile_rows + lane;
    if (lane < p.tile_rows && o < p.weight_count) {
        for (uint r = 0u; r < uint(ROWS); r++) {
            if (row_first + r < p.row_end) {
                store(row_first + r, p.weight_first + o, sums[r]);
            }
        }
    }
}
