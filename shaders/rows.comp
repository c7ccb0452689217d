// rows.comp - row.comp for two to five rows of x at once: a weight is taken apart once for all of them. A kernel of its
// own, since one row by it took a token longer by 3 to 5 %.
// fast types: rows=-DBYTES=0,-DGATED=0 rows_gated=-DBYTES=0,-DGATED=1
// fast types: rowsq=-DBYTES=1,-DGATED=0 rowsq_gated=-DBYTES=1,-DGATED=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#if BYTES
#extension GL_EXT_spirv_intrinsics : require
#endif
layout(constant_id = 0) const uint ROWS = 8;      // that lie side by side: at most a subgroup, 32
layout(constant_id = 1) const uint SUBGROUP = 32; // subgroups are this wide, and invocations lie in them in order
layout(constant_id = 3) const uint NORM = 0;
layout(constant_id = 4) const uint X_FOURS = 1024; // of x, that shared memory holds for all subgroups
#define ONE_ROW 0
layout(constant_id = 5) const uint BATCH = 2;      // rows of x
layout(constant_id = 6) const uint PARTIAL_MAX = 2048;
layout(local_size_x_id = 2) in;
#if BYTES && TYPE < 3
void main() {} // not quantised
#else
#include "row.glsl"

// A unit's share of the sums, if it is `there`; x_at: where its columns begin in x_part, in fours.
void take(inout float sums[BATCH], bool there, uvec4 unit, uint head, uint o, uint unit_index, uint x_at) {
    uint u = unit_index % STEP_UNITS, x_row = p.piece_units * UNIT_PARTS;
    float shares[BATCH];
    [[unroll]] for (uint b = 0u; b < BATCH; b++) {
        shares[b] = 0.0;
    }
#if HEADS_AHEAD
    step_head = head;
#else
    begin_step(words_of(o, unit_index), 32u);
    begin_unit(words_of(o, unit_index), 32u, u);
#endif
    [[unroll]] for (uint sub = 0u; sub < UNIT_SUBS; sub++) {
#if SCALED > 0
        vec2 scale = sub_scale(u, sub);
#endif
#if BYTES
        int dots[BATCH];
        [[unroll]] for (uint b = 0u; b < BATCH; b++) {
            dots[b] = 0;
        }
        [[unroll]] for (uint part = 0u; part < SUB_PARTS; part++) {
            uint own = sub * SUB_PARTS + part, w = signed_bytes(unit, own);
            [[unroll]] for (uint b = 0u; b < BATCH; b++) {
                dots[b] += dot_of_bytes(w, x_bytes[(x_at + b * x_row) / 4u + own / 4u][own % 4u], 0);
            }
        }
        [[unroll]] for (uint b = 0u; b < BATCH; b++) {
            uint first = x_at + b * x_row + sub * SUB_PARTS, block = first / 8u;
            float product = scale.x * float(dots[b]);
#if SCALED > 1
            const bool whole = true;
#else
            const bool whole = LESS != 0;
#endif
            if (whole) {
                uint halves = x_sums[block];
                int low = int(halves << 16) >> 16, high = int(halves) >> 16;
                int all = SUB_PARTS == 8u ? low + high : (first & 4u) == 0u ? low : high;
                product = scale.x * float(dots[b] - LESS * all);
#if SCALED > 1
                product = fma(scale.y, float(all), product);
#endif
            }
            shares[b] = fma(x_scales[block], product, shares[b]);
        }
#else
        float part_sums[BATCH];
        [[unroll]] for (uint b = 0u; b < BATCH; b++) {
            part_sums[b] = 0.0;
        }
        [[unroll]] for (uint part = 0u; part < SUB_PARTS; part++) {
            uint own = sub * SUB_PARTS + part;
            vec4 w = unit_part(unit, own);
#if SCALED > 1
            w = fma(w, vec4(scale.x), vec4(scale.y));
#endif
            [[unroll]] for (uint b = 0u; b < BATCH; b++) {
                vec4 v = x_part[x_at + b * x_row + own];
                part_sums[b] = fma(w.w, v.w, fma(w.z, v.z, fma(w.y, v.y, fma(w.x, v.x, part_sums[b]))));
            }
        }
        [[unroll]] for (uint b = 0u; b < BATCH; b++) {
#if SCALED == 1
            shares[b] = fma(scale.x, part_sums[b], shares[b]);
#else
            shares[b] += part_sums[b];
#endif
        }
#endif
    }
    [[unroll]] for (uint b = 0u; b < BATCH; b++) {
        sums[b] += there ? shares[b] : 0.0;
    }
}

// The columns [from, to) of x, in fours, to a place in shared memory for each row, and the sums of their squares. Rows
// that there are none of are the last one.
void prepare(inout float square[BATCH], uint from, uint to, uint place, uint lane) {
    uint x_row = p.piece_units * UNIT_PARTS;
    for (uint i = from + lane; i < to; i += 2u * SUBGROUP) {
        uint other = i + SUBGROUP;
        bool more = other < to;
        vec4 a[BATCH], b[BATCH];
        [[unroll]] for (uint r = 0u; r < BATCH; r++) { // all are asked for at once
            uint x_at = min(p.row_first + r, p.row_end - 1u) * p.x_stride;
            a[r] = x[x_at + i];
            b[r] = more ? x[x_at + other] : vec4(0.0);
        }
        if (NORM != 0u) {
            vec4 n = norm[i], m = more ? norm[other] : vec4(0.0);
            [[unroll]] for (uint r = 0u; r < BATCH; r++) {
                square[r] += dot(a[r], a[r]) + dot(b[r], b[r]);
                a[r] *= n;
                b[r] *= m;
            }
        }
        [[unroll]] for (uint r = 0u; r < BATCH; r++) {
            put_four(place + r * x_row + i - from, a[r]);
        }
        if (more) {
            [[unroll]] for (uint r = 0u; r < BATCH; r++) {
                put_four(place + r * x_row + other - from, b[r]);
            }
        }
    }
}

float total(uint strip, uint column, uint b, uint row) {
    float sum = 0.0;
    uint subgroups = gl_WorkGroupSize.x / SUBGROUP;
    for (uint s = 0u; s < subgroups; s++) {
        sum += partial[(((strip * subgroups + s) * COLUMNS + column) * BATCH + b) * ROWS + row];
    }
    return sum;
}

void main() {
    uint thread = gl_LocalInvocationIndex, lane = thread % SUBGROUP, subgroup = thread / SUBGROUP;
    uint row = lane % ROWS, slice = lane / ROWS;
    const uint SLICES = SUBGROUP / ROWS;
    uint strip_first = gl_WorkGroupID.x * p.strips, strip_end = min(strip_first + p.strips, (p.weight_count + ROWS - 1u) / ROWS);
    uint first = subgroup * p.subgroup_units, end = min(first + p.subgroup_units, p.row_units);
    uvec4 asked[AHEAD];
    uint heads[AHEAD];
#if GATED
    uvec4 asked2[AHEAD];
    uint heads2[AHEAD];
#define ASK2(i, unit_at, words_at)                                                                                     \
    asked2[i] = units2[unit_at];                                                                                       \
    heads2[i] = HEADS_AHEAD != 0 ? scales2[words_at] : 0u;
#else
#define ASK2(i, unit_at, words_at)
#endif
#define ASK(i, o, wanted)                                                                                              \
    {                                                                                                                  \
        uint index = min(wanted, p.row_units - 1u), unit_at = ((o) / 32u * p.row_units + index) * 32u + (o) % 32u;     \
        asked[i] = units[unit_at];                                                                                     \
        heads[i] = HEADS_AHEAD != 0 ? scales[words_of(o, index)] : 0u;                                                 \
        ASK2(i, unit_at, words_of(o, index))                                                                           \
    }
    // A group's first invocations write its rows.
    uint own_b = thread / (p.strips * ROWS), own_o = thread % (p.strips * ROWS);
    uint out_row = strip_first * ROWS + own_o, out_end = min(strip_end * ROWS, p.weight_count);
    bool writes = out_row < out_end && p.row_first + own_b < p.row_end;
    float before = 0.0;
    float square[BATCH];
    [[unroll]] for (uint b = 0u; b < BATCH; b++) {
        square[b] = 0.0;
    }
    uint place = subgroup * BATCH * p.piece_units * UNIT_PARTS;
#ifdef VALUES_SHARED
    if (thread < 16u) {
        values[thread] = uint(int(VALUES[thread])) & 255u;
    }
    barrier();
#endif
    uint from = first;
    do {
        uint to = min(from + p.piece_units, end), o = strip_first * ROWS + row;
        [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
            ASK(i, o, from + slice + i * SLICES)
        }
        if (from == first) { // once in all: what others wrote is read from here on
            relay_wait();
            if ((p.flags & 5u) == 1u && writes) { // a row of logits is never added to
                before = y[(p.row_first + own_b) * p.y_stride + p.weight_first + out_row];
            }
        }
        subgroupBarrier();
        prepare(square, from * UNIT_PARTS, to * UNIT_PARTS, place, lane);
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        for (uint strip = strip_first; strip < strip_end; strip++) {
            float sums[BATCH], sums2[BATCH];
            [[unroll]] for (uint b = 0u; b < BATCH; b++) {
                sums[b] = sums2[b] = 0.0;
            }
            uint own = o;
            for (uint at = from; at < to; at += SLICES * AHEAD) {
                bool last = at + SLICES * AHEAD >= to, more = !last || strip + 1u < strip_end;
                uint next = (last ? from : at + SLICES * AHEAD) + slice;
                o += last ? ROWS : 0u;
                [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
                    uint unit_index = min(at + slice + i * SLICES, to - 1u), x_at = place + (unit_index - from) * UNIT_PARTS;
                    bool there = at + slice + i * SLICES < to;
#if GATED
                    second = false;
#endif
                    take(sums, there, asked[i], heads[i], own, unit_index, x_at);
#if GATED
                    second = true;
                    take(sums2, there, asked2[i], heads2[i], own, unit_index, x_at);
#endif
                    if (more) {
                        ASK(i, o, next + i * SLICES)
                    }
                }
            }
            uint partial_at = ((strip - strip_first) * (gl_WorkGroupSize.x / SUBGROUP) + subgroup) * COLUMNS * BATCH * ROWS + row;
            [[unroll]] for (uint b = 0u; b < BATCH; b++) {
                for (uint apart = ROWS; apart < SUBGROUP; apart *= 2u) {
                    sums[b] += subgroupShuffleXor(sums[b], apart);
#if GATED
                    sums2[b] += subgroupShuffleXor(sums2[b], apart);
#endif
                }
                if (slice == 0u) {
                    uint at = partial_at + b * ROWS;
                    partial[at] = from == first ? sums[b] : partial[at] + sums[b];
#if GATED
                    at += BATCH * ROWS;
                    partial[at] = from == first ? sums2[b] : partial[at] + sums2[b];
#endif
                }
            }
        }
        from = to;
    } while (from < end);
    if (NORM != 0u) {
        [[unroll]] for (uint b = 0u; b < BATCH; b++) {
            square[b] = subgroupAdd(square[b]);
            if (lane == 0u) {
                squares[subgroup * BATCH + b] = square[b];
            }
        }
    }
    barrier();
    if (!writes) {
        return;
    }
    float factor = 1.0;
    if (NORM != 0u) {
        float all = 0.0;
        for (uint s = 0u; s < gl_WorkGroupSize.x / SUBGROUP; s++) {
            all += squares[s * BATCH + own_b];
        }
        factor = 1.0 / sqrt(all / float(p.columns) + p.eps);
    }
    float value = total(own_o / ROWS, 0u, own_b, own_o % ROWS) * factor;
#if GATED
    float t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    value = logistic(value, t) * (total(own_o / ROWS, 1u, own_b, own_o % ROWS) * factor);
#endif
    store(p.row_first + own_b, p.weight_first + out_row, before + value);
    relay_signal(subgroupAdd(1u));
}
#endif
