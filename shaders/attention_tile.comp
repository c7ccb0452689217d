// attention_tile.comp - dst[r] = softmax(scale * q k^T) v for tiles of rows of one session, by running maximum and sum
// (arXiv:2205.14135): q and the weights of tokens are rounded to f16, sums are f32.
//
// A work group has 64 queries: HEADS heads that share a KV head, of 64 / HEADS rows. A subgroup of 32 has 16 of them: scores
// of a KV block to shared memory, weights in their place, products with v. COOPERATIVE as in matrix.comp, with queries in
// matrices and k and v in turns in shared memory, each asked for while the other is worked on; else invocations compute
// the same, a query and half of the columns each, and k and v are read where they lie.
// variants: attention_tile_64_1=-DDIM=64,-DHEADS=1,-DCOOPERATIVE=0 attention_tile_64_4=-DDIM=64,-DHEADS=4,-DCOOPERATIVE=0 attention_tile_64_8=-DDIM=64,-DHEADS=8,-DCOOPERATIVE=0 attention_tile_128_1=-DDIM=128,-DHEADS=1,-DCOOPERATIVE=0 attention_tile_128_4=-DDIM=128,-DHEADS=4,-DCOOPERATIVE=0 attention_tile_128_8=-DDIM=128,-DHEADS=8,-DCOOPERATIVE=0 attention_tile_c64_1=-DDIM=64,-DHEADS=1,-DCOOPERATIVE=1 attention_tile_c64_4=-DDIM=64,-DHEADS=4,-DCOOPERATIVE=1 attention_tile_c64_8=-DDIM=64,-DHEADS=8,-DCOOPERATIVE=1 attention_tile_c128_1=-DDIM=128,-DHEADS=1,-DCOOPERATIVE=1 attention_tile_c128_4=-DDIM=128,-DHEADS=4,-DCOOPERATIVE=1 attention_tile_c128_8=-DDIM=128,-DHEADS=8,-DCOOPERATIVE=1
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#if COOPERATIVE
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#endif
layout(local_size_x = 128) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Blocks { uvec4 blocks[]; }; // eight f16
layout(std430, binding = 4) readonly buffer Q { vec4 q[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint tile_first, tile_count, tiles_word; // of this span; two words a tile: its first row, how many
    uint stride, heads, kv_heads;
    uint rows_word, block_words, layer_word, window;
    float scale, softcap;
} p;

const float LOWEST = -3.0e38;
const uint EIGHTS = uint(DIM) / 8u, Q_STRIDE = EIGHTS + 1u; // of a query, in eights
const uint ROW = 68u;                                       // words of a query's scores: no two in the same banks
shared uvec4 near[64u * Q_STRIDE]; // queries; COOPERATIVE: only at first, then k or v of a block
shared uint scores[64u * ROW]; // f32; then weights, two f16 a word
shared float row_values[64];

#include "softcap.glsl"

float cap(float score) {
    if (p.softcap <= 0.0) {
        return score;
    }
    return soft_cap(score);
}

vec4 low_half(uvec4 eight) {
    return vec4(unpackHalf2x16(eight.x), unpackHalf2x16(eight.y));
}

vec4 high_half(uvec4 eight) {
    return vec4(unpackHalf2x16(eight.z), unpackHalf2x16(eight.w));
}

uint halves_of(float a, float b) {
    return packHalf2x16(clamp(vec2(a, b), vec2(-65504.0), vec2(65504.0)));
}

// Queries of rows or heads that there are none of are those of the last.
void load_queries(uint row_first, uint row_count, uint head_first, uint head_count) {
    for (uint i = gl_LocalInvocationIndex; i < 64u * EIGHTS; i += 128u) {
        uint m = i / EIGHTS, e = i % EIGHTS;
        uint row = row_first + min(m / uint(HEADS), row_count - 1u), head = head_first + min(m % uint(HEADS), head_count - 1u);
        uint at = (row * p.stride + head * uint(DIM)) / 4u + 2u * e;
        vec4 a = q[at] * p.scale, b = q[at + 1u] * p.scale;
        near[m * Q_STRIDE + e] = uvec4(halves_of(a.x, a.y), halves_of(a.z, a.w), halves_of(b.x, b.y), halves_of(b.z, b.w));
    }
}

#if COOPERATIVE
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define LEFT       coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define RIGHT      coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>
#define TOGETHER() subgroupBarrier()
SUM_MATRIX outputs[DIM / 16];
LEFT own_queries[DIM / 16];
shared uint broadcast[4 * 256]; // a subgroup's factors of its rows, for each column
const uint LOADS = 64u * EIGHTS / 128u;
uvec4 next[LOADS]; // of k or v, on their way

void clear(uint group) {
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 16u; i++) {
        outputs[i] = SUM_MATRIX(0.0);
        coopMatLoad(own_queries[i], near, group * 16u * Q_STRIDE + 2u * i, Q_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
    }
}

// A block's k or v.
void ask(uint from) {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        next[l] = blocks[from + gl_LocalInvocationIndex + 128u * l];
    }
}

// What was asked for, to where all subgroups read it; behind the last token there may be anything, and what has no weight
// must not count: 0 * NaN would.
void put(uint tokens) {
    barrier();
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + 128u * l, t = i / EIGHTS;
        near[t * Q_STRIDE + i % EIGHTS] = t < tokens ? next[l] : uvec4(0u);
    }
    barrier();
}

void score(uint group, uint k_at) {
    [[unroll]] for (uint t = 0u; t < 4u; t++) {
        SUM_MATRIX sum = SUM_MATRIX(0.0);
        [[unroll]] for (uint e = 0u; e < uint(DIM) / 16u; e++) {
            RIGHT k;
            coopMatLoad(k, near, 16u * t * Q_STRIDE + 2u * e, Q_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            sum = coopMatMulAdd(own_queries[e], k, sum);
        }
        coopMatStore(sum, scores, group * 16u * ROW + 16u * t, ROW, gl_CooperativeMatrixLayoutRowMajor);
    }
}

void multiply(uint group, uint lane) {
    [[unroll]] for (uint k = 0u; k < 8u; k++) {
        uint i = lane + 32u * k;
        broadcast[group * 256u + i] = floatBitsToUint(row_values[group * 16u + i / 16u]);
    }
    TOGETHER();
    SUM_MATRIX factors;
    coopMatLoad(factors, broadcast, group * 256u, 16u, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 16u; i++) {
        outputs[i] = outputs[i] * factors;
    }
    TOGETHER();
}

void add_values(uint group, uint lane, uint v_at, uint tokens) {
    multiply(group, lane);
    [[unroll]] for (uint t = 0u; t < 4u; t++) {
        LEFT weights;
        coopMatLoad(weights, scores, group * 16u * ROW + 8u * t, ROW, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint i = 0u; i < uint(DIM) / 16u; i++) {
            RIGHT v;
            coopMatLoad(v, near, 16u * t * Q_STRIDE + 2u * i, Q_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            outputs[i] = coopMatMulAdd(weights, v, outputs[i]);
        }
    }
}
#else
#define TOGETHER() barrier()
vec4 outputs[DIM / 8]; // of a query, half of the columns

void ask(uint from) {}

void put(uint tokens) {}

void clear(uint group) {
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
        outputs[i] = vec4(0.0);
    }
}

// An invocation has a query and every other token.
void score(uint group, uint k_at) {
    uint m = gl_LocalInvocationIndex / 2u;
    for (uint t = gl_LocalInvocationIndex % 2u; t < 64u; t += 2u) {
        float sum = 0.0;
        [[unroll]] for (uint e = 0u; e < EIGHTS; e++) {
            uvec4 own = near[m * Q_STRIDE + e], k = blocks[k_at + t * EIGHTS + e];
            sum += dot(low_half(own), low_half(k)) + dot(high_half(own), high_half(k));
        }
        scores[m * ROW + t] = floatBitsToUint(sum);
    }
}

void multiply(uint group, uint lane) {
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
        outputs[i] *= row_values[gl_LocalInvocationIndex / 2u];
    }
}

void add_values(uint group, uint lane, uint v_at, uint tokens) {
    multiply(group, lane);
    uint m = gl_LocalInvocationIndex / 2u, e_first = gl_LocalInvocationIndex % 2u * (EIGHTS / 2u);
    for (uint t = 0u; t < tokens; t++) {
        vec2 pair = unpackHalf2x16(scores[m * ROW + t / 2u]);
        float weight = (t & 1u) == 0u ? pair.x : pair.y;
        [[unroll]] for (uint e = 0u; e < EIGHTS / 2u; e++) {
            uvec4 v = blocks[v_at + t * EIGHTS + e_first + e];
            outputs[2u * e] += weight * low_half(v);
            outputs[2u * e + 1u] += weight * high_half(v);
        }
    }
}
#endif

void main() {
#if COOPERATIVE
    uint group = gl_SubgroupID, lane = gl_SubgroupInvocationID;
#else
    uint group = gl_LocalInvocationIndex / 32u, lane = gl_LocalInvocationIndex % 32u;
#endif
    uint tile = p.tile_first + p.tile_count - 1u - gl_WorkGroupID.y; // the longest first
    uint row_first = parameters[p.tiles_word + 2u * tile], row_count = parameters[p.tiles_word + 2u * tile + 1u];
    uint share = p.heads / p.kv_heads, portions = (share + uint(HEADS) - 1u) / uint(HEADS);
    uint kv_head = gl_WorkGroupID.x / portions, head_at = (gl_WorkGroupID.x % portions) * uint(HEADS);
    uint head_first = kv_head * share + head_at, head_count = min(uint(HEADS), share - head_at);
    uint base = (parameters[p.rows_word + row_first * 4u + 2u] + p.layer_word) / 4u, width = p.block_words / 4u;
    uint k_at = base + kv_head * 64u * EIGHTS, v_at = base + (p.kv_heads + kv_head) * 64u * EIGHTS;
    load_queries(row_first, row_count, head_first, head_count);
    barrier();
    clear(group);

    // An invocation has half of a query's scores.
    uint m = group * 16u + lane / 2u, half_at = lane % 2u * 32u;
    uint tile_position = parameters[p.rows_word + row_first * 4u + 1u];
    uint position = tile_position + min(m / uint(HEADS), row_count - 1u);
    uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
    uint tile_start = p.window > 0u && tile_position >= p.window ? tile_position - p.window + 1u : 0u;
    uint tile_end = tile_position + row_count;
    float highest = LOWEST, sum = 0.0;
    ask(k_at + tile_start / 64u * width);
    for (uint block = tile_start / 64u; block < (tile_end + 63u) / 64u; block++) {
        uint tokens = min(tile_end - block * 64u, 64u);
        put(64u);
        ask(v_at + block * width);
        score(group, k_at + block * width);
        TOGETHER();
        float own[32], top = highest;
        [[unroll]] for (uint i = 0u; i < 32u; i++) {
            uint token = block * 64u + half_at + i;
            bool seen = token <= position && token >= first;
            own[i] = seen ? cap(uintBitsToFloat(scores[m * ROW + half_at + i])) : LOWEST;
            top = max(top, own[i]);
        }
        row_values[m] = LOWEST;
        TOGETHER();
        // The two halves' maxima, through memory: any subgroup will do.
        scores[m * ROW + 64u + lane % 2u] = floatBitsToUint(top);
        TOGETHER();
        top = max(uintBitsToFloat(scores[m * ROW + 64u]), uintBitsToFloat(scores[m * ROW + 65u]));
        float shrink = exp(highest - top), part = 0.0;
        highest = top;
        [[unroll]] for (uint i = 0u; i < 32u; i += 2u) {
            float a = own[i] > LOWEST ? exp(own[i] - top) : 0.0, b = own[i + 1u] > LOWEST ? exp(own[i + 1u] - top) : 0.0;
            part += a + b;
            scores[m * ROW + half_at / 2u + i / 2u] = packHalf2x16(vec2(a, b));
        }
        sum = fma(sum, shrink, part);
        row_values[m] = shrink;
        TOGETHER();
        put(tokens);
        if ((block + 1u) * 64u < tile_end) {
            ask(k_at + (block + 1u) * width);
        }
        add_values(group, lane, v_at + block * width, tokens);
        TOGETHER();
    }
    scores[m * ROW + 64u + lane % 2u] = floatBitsToUint(sum);
    TOGETHER();
    row_values[m] = 1.0 / (uintBitsToFloat(scores[m * ROW + 64u]) + uintBitsToFloat(scores[m * ROW + 65u]));
    TOGETHER();
#if COOPERATIVE
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 16u; i++) {
        coopMatStore(outputs[i], scores, group * 16u * ROW, ROW, gl_CooperativeMatrixLayoutRowMajor);
        TOGETHER();
        [[unroll]] for (uint k8 = 0u; k8 < 8u; k8++) { // to a constant: see matrix.comp
            uint k = lane + 32u * k8, own_m = group * 16u + k / 16u, row = own_m / uint(HEADS), head = own_m % uint(HEADS);
            if (row < row_count && head < head_count) {
                dst[(row_first + row) * p.stride + (head_first + head) * uint(DIM) + 16u * i + k % 16u] =
                    uintBitsToFloat(scores[own_m * ROW + k % 16u]) * row_values[own_m];
            }
        }
        TOGETHER();
    }
#else
    uint own_m = gl_LocalInvocationIndex / 2u, row = own_m / uint(HEADS), head = own_m % uint(HEADS);
    if (row < row_count && head < head_count) {
        uint at = (row_first + row) * p.stride + (head_first + head) * uint(DIM) + gl_LocalInvocationIndex % 2u * (uint(DIM) / 2u);
        [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
            [[unroll]] for (uint k = 0u; k < 4u; k++) {
                dst[at + 4u * i + k] = outputs[i][k] * row_values[own_m];
            }
        }
    }
#endif
}
