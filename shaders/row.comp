// row.comp - y[o] = sum_k w[o][k] * x[k] for one row of x, for hardware: what MATMUL and HEAD add to it, an RMS norm of
// x before it, and (GATED) two weights whose products are joined by the feed-forward's gate.
//
// BYTES: by integer dot products (SPV_KHR_integer_dot_product), y[o] = sum over blocks of d_w * d_x * (sum of products
// of bytes), where x was rounded to 8 bits by blocks of 32 with the scale d_x = max |x| / 127, as the CPU does. Those
// are not for Metal, which has no such instruction.
//
// A work group has p.strips strips of ROWS rows of the weight, side by side in a subgroup, and each of its subgroups a
// range of the columns: it prepares its own part of x in shared memory and waits for nobody until all sums are put
// together. The first units of the weight are asked for before that, and the next one wherever one was used. Code is
// kept small, because it is fetched anew each time: a kernel runs for a few microseconds.
// fast types: row=-DBYTES=0,-DGATED=0 row_gated=-DBYTES=0,-DGATED=1
// fast types: rowq=-DBYTES=1,-DGATED=0 rowq_gated=-DBYTES=1,-DGATED=1
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
layout(local_size_x_id = 2) in;
#if BYTES && TYPE < 3
void main() {} // not quantised
#else
#define ONE_ROW 1
const uint BATCH = 1u, PARTIAL_MAX = 2048u;
#include "row.glsl"

// A unit's share of a sum; x_at: where its columns begin in x_part, in fours.
float take(uvec4 unit, uint head, uint o, uint unit_index, uint x_at) {
    uint u = unit_index % STEP_UNITS;
    float sum = 0.0;
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
        int dots = 0;
        [[unroll]] for (uint part = 0u; part < SUB_PARTS; part++) {
            uint own = sub * SUB_PARTS + part;
            dots += dot_of_bytes(signed_bytes(unit, own), x_bytes[x_at / 4u + own / 4u][own % 4u], 0);
        }
        uint block = (x_at + sub * SUB_PARTS) / 8u;
        float product = scale.x * float(dots);
#if SCALED > 1
        const bool whole = true;
#else
        const bool whole = LESS != 0;
#endif
        if (whole) {
            uint halves = x_sums[block];
            int low = int(halves << 16) >> 16, high = int(halves) >> 16;
            int all = SUB_PARTS == 8u ? low + high : ((x_at + sub * SUB_PARTS) & 4u) == 0u ? low : high;
            product = scale.x * float(dots - LESS * all);
#if SCALED > 1
            product = fma(scale.y, float(all), product);
#endif
        }
        sum = fma(x_scales[block], product, sum);
#else
        float part_sum = 0.0;
        [[unroll]] for (uint part = 0u; part < SUB_PARTS; part++) {
            uint own = sub * SUB_PARTS + part;
            vec4 w = unit_part(unit, own), v = x_part[x_at + own];
#if SCALED > 1
            w = fma(w, vec4(scale.x), vec4(scale.y));
#endif
            part_sum = fma(w.w, v.w, fma(w.z, v.z, fma(w.y, v.y, fma(w.x, v.x, part_sum))));
        }
#if SCALED == 1
        sum = fma(scale.x, part_sum, sum);
#else
        sum += part_sum;
#endif
#endif
    }
    return sum;
}

// The columns [from, to) of x, in fours, to a place in shared memory; the sum of their squares.
float prepare(uint from, uint to, uint place, uint lane) {
    uint x_at = p.row_first * p.x_stride;
    float square = 0.0;
    for (uint i = from + lane; i < to; i += 2u * SUBGROUP) {
        uint other = i + SUBGROUP;
        bool more = other < to; // both are asked for at once
        vec4 a = x[x_at + i], b = more ? x[x_at + other] : vec4(0.0);
        if (NORM != 0u) {
            vec4 n = norm[i], m = more ? norm[other] : vec4(0.0);
            square += dot(a, a) + dot(b, b);
            a *= n;
            b *= m;
        }
        put_four(place + i - from, a);
        if (more) {
            put_four(place + other - from, b);
        }
    }
    return square;
}

float total(uint strip, uint column, uint row) {
    float sum = 0.0;
    uint subgroups = gl_WorkGroupSize.x / SUBGROUP;
    for (uint s = 0u; s < subgroups; s++) {
        sum += partial[((strip * subgroups + s) * COLUMNS + column) * ROWS + row];
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
    uint out_row = strip_first * ROWS + thread, out_end = min(strip_end * ROWS, p.weight_count);
    float before = 0.0;
    float square = 0.0;
    uint place = subgroup * p.piece_units * UNIT_PARTS;
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
            if ((p.flags & 5u) == 1u && out_row < out_end) { // a row of logits is never added to
                before = y[p.row_first * p.y_stride + p.weight_first + out_row];
            }
        }
        subgroupBarrier();
        square += prepare(from * UNIT_PARTS, to * UNIT_PARTS, place, lane);
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        for (uint strip = strip_first; strip < strip_end; strip++) {
            float sum = 0.0, sum2 = 0.0;
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
                    float share = take(asked[i], heads[i], own, unit_index, x_at);
                    sum += there ? share : 0.0;
#if GATED
                    second = true;
                    share = take(asked2[i], heads2[i], own, unit_index, x_at);
                    sum2 += there ? share : 0.0;
#endif
                    if (more) {
                        ASK(i, o, next + i * SLICES)
                    }
                }
            }
            uint partial_at = ((strip - strip_first) * (gl_WorkGroupSize.x / SUBGROUP) + subgroup) * COLUMNS * ROWS + row;
            for (uint apart = ROWS; apart < SUBGROUP; apart *= 2u) {
                sum += subgroupShuffleXor(sum, apart);
#if GATED
                sum2 += subgroupShuffleXor(sum2, apart);
#endif
            }
            if (slice == 0u) {
                partial[partial_at] = from == first ? sum : partial[partial_at] + sum;
#if GATED
                partial[partial_at + ROWS] = from == first ? sum2 : partial[partial_at + ROWS] + sum2;
#endif
            }
        }
        from = to;
    } while (from < end);
    if (NORM != 0u) {
        square = subgroupAdd(square);
        if (lane == 0u) {
            squares[subgroup] = square;
        }
    }
    barrier();
    if (out_row >= out_end) {
        return;
    }
    float factor = 1.0;
    if (NORM != 0u) {
        float all = 0.0;
        for (uint s = 0u; s < gl_WorkGroupSize.x / SUBGROUP; s++) {
            all += squares[s];
        }
        factor = 1.0 / sqrt(all / float(p.columns) + p.eps);
    }
    float value = total(thread / ROWS, 0u, thread % ROWS) * factor;
#if GATED
    float t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    value = logistic(value, t) * (total(thread / ROWS, 1u, thread % ROWS) * factor);
#endif
    store(p.row_first, p.weight_first + out_row, before + value);
    relay_signal(subgroupAdd(1u));
}
#endif
