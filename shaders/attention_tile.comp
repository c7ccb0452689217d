// attention_tile.comp - dst[r] = softmax(scale * q k^T) v for tiles of rows of one session, by running maximum and sum
// (arXiv:2205.14135), on any device: q and the weights of tokens are rounded to f16, sums are f32. With cooperative
// matrices: attention_matrix.comp.
//
// A work group has 64 queries: HEADS heads that share a KV head, of 64 / HEADS rows. An invocation has half of a
// query's scores of a KV block, and then of its columns; k and v are read where they lie.
// variants: attention_tile_64_1=-DDIM=64,-DHEADS=1 attention_tile_64_4=-DDIM=64,-DHEADS=4 attention_tile_64_8=-DDIM=64,-DHEADS=8 attention_tile_128_1=-DDIM=128,-DHEADS=1 attention_tile_128_4=-DDIM=128,-DHEADS=4 attention_tile_128_8=-DDIM=128,-DHEADS=8
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
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
shared uvec4 near[64u * Q_STRIDE];                          // queries
shared uint scores[64u * ROW];                              // f32; then weights, two f16 a word
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

vec4 outputs[DIM / 8]; // of a query, half of the columns

// An invocation has a query and every other token.
void score(uint m, uint k_at) {
    for (uint t = gl_LocalInvocationIndex % 2u; t < 64u; t += 2u) {
        float sum = 0.0;
        [[unroll]] for (uint e = 0u; e < EIGHTS; e++) {
            uvec4 own = near[m * Q_STRIDE + e], k = blocks[k_at + t * EIGHTS + e];
            sum += dot(low_half(own), low_half(k)) + dot(high_half(own), high_half(k));
        }
        scores[m * ROW + t] = floatBitsToUint(sum);
    }
}

void add_values(uint m, uint v_at, uint tokens) {
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
        outputs[i] *= row_values[m];
    }
    uint e_first = gl_LocalInvocationIndex % 2u * (EIGHTS / 2u);
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

void main() {
    uint m = gl_LocalInvocationIndex / 2u, own_half = gl_LocalInvocationIndex % 2u, half_at = own_half * 32u;
    uint tile = p.tile_first + p.tile_count - 1u - gl_WorkGroupID.y; // the longest first
    uint row_first = parameters[p.tiles_word + 2u * tile], row_count = parameters[p.tiles_word + 2u * tile + 1u];
    uint share = p.heads / p.kv_heads, portions = (share + uint(HEADS) - 1u) / uint(HEADS);
    uint kv_head = gl_WorkGroupID.x / portions, head_at = (gl_WorkGroupID.x % portions) * uint(HEADS);
    uint head_first = kv_head * share + head_at, head_count = min(uint(HEADS), share - head_at);
    uint base = (parameters[p.rows_word + row_first * 4u + 2u] + p.layer_word) / 4u, width = p.block_words / 4u;
    uint k_at = base + kv_head * 64u * EIGHTS, v_at = base + (p.kv_heads + kv_head) * 64u * EIGHTS;
    load_queries(row_first, row_count, head_first, head_count);
    barrier();
    [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
        outputs[i] = vec4(0.0);
    }
    uint tile_position = parameters[p.rows_word + row_first * 4u + 1u];
    uint position = tile_position + min(m / uint(HEADS), row_count - 1u);
    uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
    uint tile_start = p.window > 0u && tile_position >= p.window ? tile_position - p.window + 1u : 0u;
    uint tile_end = tile_position + row_count;
    float highest = LOWEST, sum = 0.0;
    for (uint block = tile_start / 64u; block < (tile_end + 63u) / 64u; block++) {
        uint tokens = min(tile_end - block * 64u, 64u);
        score(m, k_at + block * width);
        barrier();
        float own[32], top = highest;
        [[unroll]] for (uint i = 0u; i < 32u; i++) {
            uint token = block * 64u + half_at + i;
            bool seen = token <= position && token >= first;
            own[i] = seen ? cap(uintBitsToFloat(scores[m * ROW + half_at + i])) : LOWEST;
            top = max(top, own[i]);
        }
        row_values[m] = LOWEST;
        barrier();
        // The two halves' maxima, through memory: any subgroup will do.
        scores[m * ROW + 64u + own_half] = floatBitsToUint(top);
        barrier();
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
        barrier();
        add_values(m, v_at + block * width, tokens);
        barrier();
    }
    scores[m * ROW + 64u + own_half] = floatBitsToUint(sum);
    barrier();
    row_values[m] = 1.0 / (uintBitsToFloat(scores[m * ROW + 64u]) + uintBitsToFloat(scores[m * ROW + 65u]));
    barrier();
    uint row = m / uint(HEADS), head = m % uint(HEADS);
    if (row < row_count && head < head_count) {
        uint at = (row_first + row) * p.stride + (head_first + head) * uint(DIM) + own_half * (uint(DIM) / 2u);
        [[unroll]] for (uint i = 0u; i < uint(DIM) / 8u; i++) {
            [[unroll]] for (uint k = 0u; k < 4u; k++) {
                dst[at + 4u * i + k] = outputs[i][k] * row_values[m];
            }
        }
    }
}
