// gemvq.comp - gemv of one row for quantised types, by integer dot products (SPV_KHR_integer_dot_product): y[o] = sum over
// blocks of d_w * d_x * (sum of products of bytes), where x was rounded to 8 bits by blocks of 32 with the scale
// d_x = max |x| / 127, as the CPU does.
//
// Every work group rounds all of x for itself, into shared memory: x is small and near, and a pass of its own would cost a
// barrier. The weights' first units are asked for before that. A group of 8 * SLICES invocations has eight rows of the
// weight, and takes others when it is done: few slices where there are many rows, so that little has to be put together. Not for Metal, which has no such instruction.
// fast types: gemvq=-DGATED=0 gemvq_gated=-DGATED=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_spirv_intrinsics : require
layout(constant_id = 0) const uint SLICES = 32;
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(constant_id = 3) const uint NORM = 0;
layout(local_size_x = 256) in;
#if TYPE < 3
void main() {} // not quantised
#else
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
layout(push_constant) uniform Push { // as gemv's
    uint weight_first, weight_count;
    uint row_units;
    uint columns;
    uint x_stride;
    uint y_stride;
    uint row_first, row_end;
    uint flags;
    uint outs_word;
    float scale, softcap;
    float eps;
} p;
#include "weights.glsl"

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot_of_bytes(uint a, uint b, spirv_literal int format); // signed; format 0: four bytes in a word

// Units that an invocation asks for at once. Blocks of 32 have their scales in one word, which is asked for with the unit: it
// would be a second wait for memory else.
#if TYPE < Q2_K && TYPE != Q5_0 && TYPE != Q5_1
#define HEADS_AHEAD 1
const uint AHEAD = GATED == 0 ? 8u : 4u;
#else
#define HEADS_AHEAD 0
const uint AHEAD = 4u;
#endif
const uint THREADS = 256u, TEAM = 8u * SLICES, TEAMS = THREADS / TEAM;
const uint COLUMNS = 1u + uint(GATED);
const uint WIDTH_MAX = 16384u; // of x
shared uvec4 x_bytes[WIDTH_MAX / 16u];
shared vec2 x_scales[WIDTH_MAX / 32u]; // of a block: d_x, and as bits the sums of its halves, 16 bits each
shared float partial[32u * COLUMNS * 8u];
shared float squares[32];
#if TYPE == IQ4_NL || TYPE == IQ4_XS || TYPE == MXFP4
shared uint values[16];
#endif

float sums[COLUMNS];

// Part `part` of a unit as signed bytes, of which OFFSET is still to be subtracted.
uint signed_bytes(uvec4 unit, uint part) {
    uint n = unit_bytes(unit, part);
#if TYPE == IQ4_NL || TYPE == IQ4_XS || TYPE == MXFP4
    return values[n & 255u] | values[n >> 8 & 255u] << 8 | values[n >> 16 & 255u] << 16 | values[n >> 24] << 24;
#else
    return n;
#endif
}

uint words_of(uint o, uint unit_index) {
    return (o / 32u * (p.row_units / STEP_UNITS) + unit_index / STEP_UNITS) * WORDS * 32u + o % 32u;
}

void take(uvec4 unit, uint head, uint o, uint unit_index, uint column) {
    uint u = unit_index % STEP_UNITS;
#if HEADS_AHEAD
    step_head = head;
#else
    begin_step(words_of(o, unit_index), 32u);
    begin_unit(words_of(o, unit_index), 32u, u);
#endif
    [[unroll]] for (uint sub = 0u; sub < UNIT_SUBS; sub++) {
        vec2 scale = sub_scale(u, sub);
        uint first = unit_index * UNIT_PARTS + sub * SUB_PARTS; // in fours
        vec2 of_x = x_scales[first / 8u];
        int dots = 0;
        [[unroll]] for (uint part = 0u; part < SUB_PARTS; part++) {
            uint four = x_bytes[(first + part) / 4u][(first + part) % 4u];
            dots += dot_of_bytes(signed_bytes(unit, sub * SUB_PARTS + part), four, 0);
        }
        float product = scale.x * float(dots);
        if (OFFSET != 0 || SCALED > 1) {
            uint halves = floatBitsToUint(of_x.y);
            int low = int(halves << 16) >> 16, high = int(halves) >> 16;
            int sum = SUB_PARTS == 8u ? low + high : (first & 4u) == 0u ? low : high;
            product = scale.x * float(dots - OFFSET * sum);
#if SCALED > 1
            product = fma(scale.y, float(sum), product);
#endif
        }
        sums[column] = fma(of_x.x, product, sums[column]);
    }
}

// Eight of x to bytes, by four invocations a block of 32; their squares.
float round_eight(uint i, vec4 a, vec4 b) {
    float square = 0.0;
    if (NORM != 0u) {
        square = dot(a, a) + dot(b, b);
        a *= norm[2u * i];
        b *= norm[2u * i + 1u];
    }
    vec4 m = max(abs(a), abs(b));
    float top = max(max(m.x, m.y), max(m.z, m.w));
    top = max(top, subgroupShuffleXor(top, 1u));
    top = max(top, subgroupShuffleXor(top, 2u));
    float inverse = top > 0.0 ? 127.0 / top : 0.0;
    ivec4 qa = ivec4(roundEven(a * inverse)), qb = ivec4(roundEven(b * inverse));
    ivec4 both = qa + qb;
    int sum = both.x + both.y + both.z + both.w;
    sum += subgroupShuffleXor(sum, 1u);
    int other = subgroupShuffleXor(sum, 2u);
    uvec4 ua = uvec4(qa) & 255u, ub = uvec4(qb) & 255u;
    uint at = 2u * (i & 1u);
    x_bytes[i / 2u][at] = ua.x | ua.y << 8 | ua.z << 16 | ua.w << 24;
    x_bytes[i / 2u][at + 1u] = ub.x | ub.y << 8 | ub.z << 16 | ub.w << 24;
    if ((i & 3u) == 0u) {
        x_scales[i / 4u] = vec2(top / 127.0, uintBitsToFloat((uint(sum) & 0xffffu) | uint(other) << 16));
    }
    return square;
}

// All of x.
void round_x(uint thread) {
    uint x_at = p.row_first * p.x_stride, eights = p.row_units * UNIT_PARTS / 2u;
    float square = 0.0;
    for (uint first = thread; first < eights; first += 4u * THREADS) {
        vec4 asked_a[4], asked_b[4]; // all at once: the loads would wait for each other else
        [[unroll]] for (uint k = 0u; k < 4u; k++) {
            uint i = min(first + k * THREADS, eights - 1u);
            asked_a[k] = x[x_at + 2u * i];
            asked_b[k] = x[x_at + 2u * i + 1u];
        }
        [[unroll]] for (uint k = 0u; k < 4u; k++) {
            if (first + k * THREADS < eights) {
                square += round_eight(first + k * THREADS, asked_a[k], asked_b[k]);
            }
        }
    }
    if (NORM != 0u) {
        square = subgroupAdd(square);
        if (thread % SUBGROUP == 0u) {
            squares[thread / SUBGROUP] = square;
        }
    }
#if TYPE == IQ4_NL || TYPE == IQ4_XS || TYPE == MXFP4
    if (thread < 16u) {
        values[thread] = uint(int(VALUES[thread])) & 255u;
    }
#endif
}

float logistic(float value, float t) { // value / (1 + e^-t): see gate.comp
    return t < -88.0 ? 0.0 : value / (1.0 + exp(-min(t, 88.0)));
}

void store(uint o, float value) {
    if ((p.flags & 2u) != 0u) {
        value += bias[o];
    }
    if ((p.flags & 4u) != 0u) {
        value *= p.scale;
        if (p.softcap > 0.0) {
            float t = clamp(value / p.softcap, -20.0, 20.0);
            value = p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
        }
        y[parameters[p.outs_word + p.row_first * 2u + 1u] + o] = value;
    } else {
        uint index = p.row_first * p.y_stride + o;
        y[index] = (p.flags & 1u) != 0u ? y[index] + value : value;
    }
}

// Rows of a group, of those that there are.
uint row_of(uint group, uint row) {
    return min(group * 8u, (p.weight_count - 1u) / 8u * 8u) + row;
}

// A column's sum for a row, of all slices; in a team's invocations below 8.
float total(float sum, uint column, uint thread, uint team, uint row) {
    [[unroll]] for (uint apart = 8u; apart < min(SUBGROUP, TEAM); apart *= 2u) {
        sum += subgroupShuffleXor(sum, apart);
    }
    if (TEAM <= SUBGROUP) {
        return sum;
    }
    if (thread % SUBGROUP < 8u) {
        partial[(thread / SUBGROUP * COLUMNS + column) * 8u + row] = sum;
    }
    barrier();
    sum = 0.0;
    for (uint s = 0u; s < TEAM / SUBGROUP; s++) {
        sum += partial[((team * (TEAM / SUBGROUP) + s) * COLUMNS + column) * 8u + row];
    }
    barrier();
    return sum;
}

void main() {
    uint thread = gl_LocalInvocationIndex, team = thread / TEAM, row = thread % 8u, slice = thread % TEAM / 8u;
    uint groups = (p.weight_count + 7u) / 8u, group = gl_WorkGroupID.x * TEAMS + team, stride = gl_NumWorkGroups.x * TEAMS;
    uvec4 now[AHEAD], next[AHEAD], now2[AHEAD], next2[AHEAD];
    uint heads[AHEAD], next_heads[AHEAD], heads2[AHEAD], next_heads2[AHEAD];
#define ASK(o, at)                                                                                                     \
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {                                                                     \
        uint index = (at) + i * SLICES, unit_at = ((o) / 32u * p.row_units + index) * 32u + (o) % 32u;                 \
        bool there = index < p.row_units;                                                                              \
        next[i] = there ? units[unit_at] : uvec4(0u);                                                                  \
        next_heads[i] = HEADS_AHEAD != 0 && there ? scales[words_of(o, index)] : 0u;                                   \
        ASK2(there, unit_at, words_of(o, index))                                                                       \
    }
#if GATED
#define ASK2(there, unit_at, words_at)                                                                                 \
    next2[i] = there ? units2[unit_at] : uvec4(0u);                                                                    \
    next_heads2[i] = HEADS_AHEAD != 0 && there ? scales2[words_at] : 0u;
#else
#define ASK2(there, unit_at, words_at)
#endif
    uint o = row_of(group, row);
    ASK(o, slice)
    round_x(thread);
    barrier();
    float factor = 1.0;
    if (NORM != 0u) {
        float square = 0.0;
        for (uint s = 0u; s < THREADS / SUBGROUP; s++) {
            square += squares[s];
        }
        factor = 1.0 / sqrt(square / float(p.columns) + p.eps);
    }
    // All teams turn as often, for the barriers.
    for (uint turn = gl_WorkGroupID.x * TEAMS; turn < groups; turn += stride, group += stride) {
        [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
            sums[c] = 0.0;
        }
        uint own = o;
        for (uint first = slice; first < p.row_units; first += SLICES * AHEAD) {
            now = next;
            heads = next_heads;
            now2 = next2;
            heads2 = next_heads2;
            if (first + AHEAD * SLICES < p.row_units) {
                ASK(o, first + AHEAD * SLICES)
            } else if (group + stride < groups) {
                o = row_of(group + stride, row);
                ASK(o, slice)
            }
            [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
                uint unit_index = first + i * SLICES;
                if (unit_index < p.row_units) {
#if GATED
                    second = false;
#endif
                    take(now[i], heads[i], own, unit_index, 0u);
#if GATED
                    second = true;
                    take(now2[i], heads2[i], own, unit_index, 1u);
#endif
                }
            }
        }
        float value = total(sums[0], 0u, thread, team, row) * factor;
#if GATED
        float t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
        value = logistic(value, t) * (total(sums[1], 1u, thread, team, row) * factor);
#endif
        uint out_row = group * 8u + row;
        if (thread % TEAM < 8u && out_row < p.weight_count) {
            store(p.weight_first + out_row, value);
        }
    }
}
#endif
