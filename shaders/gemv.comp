// gemv.comp - y[r][o] = sum_k w[o][k] * x[r][k] for ROWS rows at once, for hardware, and what MATMUL and HEAD add to
// it.
//
// A work group has eight rows of the weight and SLICES slices of their units. Neighbouring invocations have
// neighbouring rows, so that eight of them read 128 bytes side by side; a subgroup adds up its slices by shuffles, the
// group by shared memory.
// fast types: gemv=-DROWS=8
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
layout(constant_id = 0) const uint SLICES = 32;
layout(constant_id = 1) const uint SUBGROUP = 32; // subgroups are this wide, and invocations lie in them in order
layout(local_size_x_id = 2) in; // 8 * SLICES
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint row_units;
    uint x_stride; // in fours
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
} p;
#include "weights.glsl"
#include "store.glsl"

const uint AHEAD = 4u; // units of a weight that an invocation asks for at once
const uint SUBGROUPS_MAX = 32u;
shared float partial[SUBGROUPS_MAX * uint(ROWS) * 8u];

uint x_at[ROWS];
float sums[ROWS];

void take(uvec4 unit, uint tile, uint lane, uint unit_index) {
    uint step = unit_index / STEP_UNITS, u = unit_index % STEP_UNITS;
    uint words_at = (tile * (p.row_units / STEP_UNITS) + step) * WORDS * 32u + lane;
    begin_step(words_at, 32u);
    begin_unit(words_at, 32u, u);
    [[unroll]] for (uint sub = 0u; sub < UNIT_SUBS; sub++) {
        float part_sums[ROWS];
        [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
            part_sums[r] = 0.0;
        }
#if SCALED > 0
        vec2 scale = sub_scale(u, sub);
#endif
        [[unroll]] for (uint part = sub * SUB_PARTS; part < (sub + 1u) * SUB_PARTS; part++) {
            vec4 w = unit_part(unit, part);
            uint at = unit_index * UNIT_PARTS + part;
#if SCALED > 1
            w = fma(w, vec4(scale.x), vec4(scale.y));
#endif
            [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
                vec4 v = x[x_at[r] + at];
                part_sums[r] = fma(w.w, v.w, fma(w.z, v.z, fma(w.y, v.y, fma(w.x, v.x, part_sums[r]))));
            }
        }
        [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
#if SCALED == 1
            sums[r] = fma(scale.x, part_sums[r], sums[r]);
#else
            sums[r] += part_sums[r];
#endif
        }
    }
}

float total(uint column, uint row) {
    float sum = 0.0;
    for (uint s = 0u; s < SLICES * 8u / SUBGROUP; s++) {
        sum += partial[(s * uint(ROWS) + column) * 8u + row];
    }
    return sum;
}

void main() {
    uint thread = gl_LocalInvocationIndex, row = thread % 8u, slice = thread / 8u;
    uint o = gl_WorkGroupID.x * 8u + row, row_first = p.row_first + gl_WorkGroupID.y * uint(ROWS);
    uint tile = o / 32u, lane = o % 32u, base = tile * p.row_units * 32u + lane;
    [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
        x_at[r] = min(row_first + r, p.row_end - 1u) * p.x_stride;
    }
    [[unroll]] for (uint c = 0u; c < uint(ROWS); c++) {
        sums[c] = 0.0;
    }
    uvec4 now[AHEAD], next[AHEAD]; // what is worked on, and what is on its way
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        uint at = base + min(slice + i * SLICES, p.row_units - 1u) * 32u;
        next[i] = units[at];
    }
    for (uint first = slice; first < p.row_units; first += SLICES * AHEAD) {
        now = next;
        [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
            uint at = base + min(first + (AHEAD + i) * SLICES, p.row_units - 1u) * 32u;
            next[i] = units[at];
        }
        [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
            uint unit_index = first + i * SLICES;
            if (unit_index < p.row_units) {
                take(now[i], tile, lane, unit_index);
            }
        }
    }
    for (uint apart = 8u; apart < SUBGROUP; apart *= 2u) {
        [[unroll]] for (uint c = 0u; c < uint(ROWS); c++) {
            sums[c] += subgroupShuffleXor(sums[c], apart);
        }
    }
    if (thread % SUBGROUP < 8u) {
        [[unroll]] for (uint c = 0u; c < uint(ROWS); c++) {
            partial[(thread / SUBGROUP * uint(ROWS) + c) * 8u + row] = sums[c];
        }
    }
    barrier();
    uint r = thread / 8u;
    if (r >= uint(ROWS) || row_first + r >= p.row_end || o >= p.weight_count) {
        return;
    }
    store(row_first + r, p.weight_first + o, total(r, row));
}
