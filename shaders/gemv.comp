// gemv.comp - y[r][o] = sum_k w[o][k] * x[r][k] for ROWS rows at once, for hardware: what MATMUL and HEAD add to it, an
// RMS norm of x before it, and (GATED) two weights whose products are joined by the feed-forward's gate.
//
// A work group has eight rows of the weight and SLICES slices of their units. Neighbouring invocations have neighbouring
// rows, so that eight of them read 128 bytes side by side; a subgroup adds up its slices by shuffles, the group by shared
// memory. The factor of the norm is the same for a whole row of x: it is found on the way and multiplied in at the end,
// so that nothing has to wait for it.
// fast types: gemv_1=-DROWS=1,-DGATED=0 gemv_4=-DROWS=4,-DGATED=0 gemv_8=-DROWS=8,-DGATED=0 gemv_gated=-DROWS=1,-DGATED=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
layout(constant_id = 0) const uint SLICES = 32;
layout(constant_id = 1) const uint SUBGROUP = 32; // subgroups are this wide, and invocations lie in them in order
layout(constant_id = 3) const uint NORM = 0;
layout(local_size_x_id = 2) in; // 8 * SLICES
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(std430, binding = 7) readonly buffer Norm { vec4 norm[]; };
#if GATED
layout(std430, binding = 8) readonly buffer Units2 { uvec4 units2[]; };
layout(std430, binding = 9) readonly buffer Scales2 { uint scales2[]; };
bool second;
#define SCALE_WORD(at) (second ? scales2[at] : scales[at])
#endif
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint row_units;
    uint columns;  // of x, for the norm's mean
    uint x_stride; // in fours
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head, 8 the gate is GELU
    uint outs_word;
    float scale, softcap; // head
    float eps;            // norm
} p;
#include "weights.glsl"

const uint AHEAD = 4u; // units of a weight that an invocation asks for at once
const uint COLUMNS = uint(ROWS) + uint(GATED) + 1u;
const uint SUBGROUPS_MAX = 32u;
shared float partial[SUBGROUPS_MAX * COLUMNS * 8u];

uint x_at[ROWS];
float sums[COLUMNS]; // of the rows, of the second weight, and of x's squares

void take(uvec4 unit, uint tile, uint lane, uint unit_index, uint sum_first) {
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
            if (NORM != 0u) {
                w *= norm[at];
            }
            [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
                vec4 v = x[x_at[r] + at];
                part_sums[r] = fma(w.w, v.w, fma(w.z, v.z, fma(w.y, v.y, fma(w.x, v.x, part_sums[r]))));
                if (NORM != 0u && sum_first == 0u) {
                    sums[COLUMNS - 1u] += dot(v, v);
                }
            }
        }
        [[unroll]] for (uint r = 0u; r < uint(ROWS); r++) {
#if SCALED == 1
            sums[sum_first + r] = fma(scale.x, part_sums[r], sums[sum_first + r]);
#else
            sums[sum_first + r] += part_sums[r];
#endif
        }
    }
}

float logistic(float value, float t) { // value / (1 + e^-t): see gate.comp
    return t < -88.0 ? 0.0 : value / (1.0 + exp(-min(t, 88.0)));
}

void store(uint row, uint o, float value) {
    if ((p.flags & 2u) != 0u) {
        value += bias[o];
    }
    if ((p.flags & 4u) != 0u) {
        value *= p.scale;
        if (p.softcap > 0.0) {
            float t = clamp(value / p.softcap, -20.0, 20.0);
            value = p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
        }
        y[parameters[p.outs_word + row * 2u + 1u] + o] = value;
    } else {
        uint index = row * p.y_stride + o;
        y[index] = (p.flags & 1u) != 0u ? y[index] + value : value;
    }
}

float total(uint column, uint row) {
    float sum = 0.0;
    for (uint s = 0u; s < SLICES * 8u / SUBGROUP; s++) {
        sum += partial[(s * COLUMNS + column) * 8u + row];
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
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
        sums[c] = 0.0;
    }
    uvec4 now[AHEAD], next[AHEAD]; // what is worked on, and what is on its way
#if GATED
    uvec4 now2[AHEAD], next2[AHEAD];
#endif
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        uint at = base + min(slice + i * SLICES, p.row_units - 1u) * 32u;
        next[i] = units[at];
#if GATED
        next2[i] = units2[at];
#endif
    }
    for (uint first = slice; first < p.row_units; first += SLICES * AHEAD) {
        now = next;
#if GATED
        now2 = next2;
#endif
        [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
            uint at = base + min(first + (AHEAD + i) * SLICES, p.row_units - 1u) * 32u;
            next[i] = units[at];
#if GATED
            next2[i] = units2[at];
#endif
        }
        [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
            uint unit_index = first + i * SLICES;
            if (unit_index < p.row_units) {
#if GATED
                second = false;
#endif
                take(now[i], tile, lane, unit_index, 0u);
#if GATED
                second = true;
                take(now2[i], tile, lane, unit_index, uint(ROWS));
#endif
            }
        }
    }
    for (uint apart = 8u; apart < SUBGROUP; apart *= 2u) {
        [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
            sums[c] += subgroupShuffleXor(sums[c], apart);
        }
    }
    if (thread % SUBGROUP < 8u) {
        [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
            partial[(thread / SUBGROUP * COLUMNS + c) * 8u + row] = sums[c];
        }
    }
    barrier();
    uint r = thread / 8u;
    if (r >= uint(ROWS) || row_first + r >= p.row_end || o >= p.weight_count) {
        return;
    }
    float value = total(r, row);
    float factor = 1.0;
    if (NORM != 0u) {
        factor = 1.0 / sqrt(total(COLUMNS - 1u, row) / float(p.columns) + p.eps);
    }
    value *= factor;
#if GATED
    float t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    value = logistic(value, t) * (total(uint(ROWS), row) * factor);
#endif
    store(row_first + r, p.weight_first + o, value);
}
