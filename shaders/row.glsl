// row.glsl - what products of one row (row.comp) and of some that are taken at once (rows.comp) share: what they are
// told, what lies in shared memory, weights as bytes, and x made ready for them. BATCH is the number of rows of x.
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) coherent readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) coherent buffer Y { float y[]; };
layout(std430, binding = 7) readonly buffer Norm { vec4 norm[]; };
#if GATED
layout(std430, binding = 8) readonly buffer Units2 { uvec4 units2[]; };
layout(std430, binding = 9) readonly buffer Scales2 { uint scales2[]; };
bool second;
#define SCALE_WORD(at) (second ? scales2[at] : scales[at])
#endif
#include "relay_push.glsl"
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
    uint strips;         // of a work group
    uint subgroup_units; // of a row, that a subgroup has: whole blocks of 32 columns
    uint piece_units;    // of those, as many as its part of shared memory holds of each row of x
    RELAY_PUSH;
} p;
#include "relay.glsl"
#include "weights.glsl"
#define STORE_ADDS false
#include "store.glsl"

#if BYTES
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot_of_bytes(uint a, uint b, spirv_literal int format); // signed; format 0: four bytes in a word
#endif

// Units that an invocation has on their way: few, where taking one apart is much code.
#ifndef AHEAD
#if TYPE <= BF16 || (TYPE == Q8_0 && ONE_ROW)
#define AHEAD 4u
#else
#define AHEAD 2u
#endif
#endif
// Blocks of 32 have their scales in one word, which is asked for with the unit: it would be a second wait for memory
// else.
#if SCALED > 0 && TYPE < Q2_K && TYPE != Q5_0 && TYPE != Q5_1
#define HEADS_AHEAD 1
#else
#define HEADS_AHEAD 0
#endif
const uint COLUMNS = 1u + uint(GATED);
const uint SUBGROUPS_MAX = 128u;
shared float partial[PARTIAL_MAX]; // strips * subgroups * columns * BATCH * rows of a strip
shared float squares[SUBGROUPS_MAX * BATCH];
#if BYTES
shared uvec4 x_bytes[X_FOURS / 4u];
shared float x_scales[X_FOURS / 8u]; // of a block
shared uint x_sums[X_FOURS / 8u];    // of its halves' bytes, 16 bits each
#else
shared vec4 x_part[X_FOURS];
#endif
#if BYTES && (TYPE == IQ4_NL || TYPE == IQ4_XS || TYPE == MXFP4)
#define VALUES_SHARED 1
shared uint values[16];
#endif

#if BYTES
// Part `part` of a unit as signed bytes, of which LESS is still to be subtracted; FACTOR: what they are too large by.
#if TYPE == Q4_0
const int LESS = 0;
const float FACTOR = 0.0625;
#else
const int LESS = OFFSET;
const float FACTOR = 1.0;
#endif
uint signed_bytes(uvec4 unit, uint part) {
#if TYPE == Q4_0
    uint word = unit[part / 2u];
    return (((part & 1u) == 0u ? word << 4 : word) & 0xf0f0f0f0u) ^ 0x80808080u;
#else
    uint n = unit_bytes(unit, part);
#ifdef VALUES_SHARED
    return values[n & 255u] | values[n >> 8 & 255u] << 8 | values[n >> 16 & 255u] << 16 | values[n >> 24] << 24;
#else
    return n;
#endif
#endif
}
#endif

uint words_of(uint o, uint unit_index) {
    return (o / 32u * (p.row_units / STEP_UNITS) + unit_index / STEP_UNITS) * WORDS * 32u + o % 32u;
}

// Four of x for shared memory; eight invocations side by side have a block of 32.
void put_four(uint at, vec4 four) {
#if BYTES
    vec4 m = abs(four);
    float top = max(max(m.x, m.y), max(m.z, m.w));
    top = max(top, subgroupShuffleXor(top, 1u));
    top = max(top, subgroupShuffleXor(top, 2u));
    top = max(top, subgroupShuffleXor(top, 4u));
    float inverse = top > 0.0 ? 127.0 / top : 0.0;
    ivec4 q = ivec4(roundEven(four * inverse));
    uvec4 bytes = uvec4(q) & 255u;
    x_bytes[at / 4u][at % 4u] = bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
#if SCALED > 1
    const bool whole = true;
#else
    const bool whole = LESS != 0;
#endif
    int sum = 0, other = 0;
    if (whole) {
        sum = q.x + q.y + q.z + q.w;
        sum += subgroupShuffleXor(sum, 1u);
        sum += subgroupShuffleXor(sum, 2u);
        other = subgroupShuffleXor(sum, 4u);
    }
    if ((at & 7u) == 0u) {
        x_scales[at / 8u] = top * (FACTOR / 127.0);
        if (whole) {
            x_sums[at / 8u] = (uint(sum) & 0xffffu) | uint(other) << 16;
        }
    }
#else
    x_part[at] = four;
#endif
}

float logistic(float value, float t) { // value / (1 + e^-t): see gate.comp
    return t < -88.0 ? 0.0 : value / (1.0 + exp(-min(t, 88.0)));
}
