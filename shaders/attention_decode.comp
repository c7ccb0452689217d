// attention_decode.comp - one token of a session: rotates q and k, stores k and v, and dst = softmax(scale * q k^T) v by
// running maximum and sum (arXiv:2205.14135), the session's tokens split among work groups (arXiv:2311.01282).
//
// A work group has one row, HEADS query heads that share a KV head, and a range of blocks, which TEAMS of 64 invocations
// take in turns and put together at the end; where there are several ranges, each leaves maximum, sum and output to attention_merge. The token's own k and v come from where they were computed, not
// from memory, so nobody has to wait for the group that stores them: that of the last range.
// variants: attention_decode_1=-DHEADS=1 attention_decode_4=-DHEADS=4 attention_decode_8=-DHEADS=8
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(local_size_x = 256) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Blocks { uvec4 blocks[]; }; // eight f16
layout(std430, binding = 3) writeonly buffer Mirrored { uint mirrored[]; };
layout(std430, binding = 4) readonly buffer Q { float q[]; };
layout(std430, binding = 5) readonly buffer K { float k[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
layout(std430, binding = 7) readonly buffer V { float v[]; };
layout(std430, binding = 8) writeonly buffer Parts { float parts[]; }; // for each row, head, range: head_dim + 2
layout(std430, binding = 9) writeonly buffer Stored { uint stored[]; }; // the blocks once more, to be written
layout(push_constant) uniform Push {
    uint row_first, q_stride, kv_stride, heads, kv_heads, head_dim;
    uint rows_word, block_words, layer_word, window;
    float scale, softcap;
    uint q_table, k_table; // words of the parameters: cosines and sines
    uint pairs;            // that rotate
    uint halves;           // pairs (i, i + pairs) instead of (2i, 2i + 1)
    uint ranges, mirror;
} p;
#include "half.glsl"

const float LOWEST = -3.0e38;
const uint TEAMS = 4u, THREADS = 64u * TEAMS;
const uint AT_ONCE = 8u; // reads that an invocation has on their way
shared vec4 queries[HEADS * 64];
shared uint new_k[128], new_v[128]; // the token's own, two f16 a word
shared float weights[TEAMS * HEADS * 64];
shared float tops[TEAMS * HEADS * 8], sums_of[TEAMS * HEADS * 8]; // of subgroups
shared float outputs[THREADS * 8];

float cap(float score) {
    if (p.softcap <= 0.0) {
        return score;
    }
    float t = clamp(score / p.softcap, -20.0, 20.0);
    return p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
}

// Column d of a head that begins at `at`, rotated; which: 0 for q, 1 for k.
float rotated(uint which, uint at, uint d, uint table) {
    float own = which == 0u ? q[at + d] : k[at + d];
    if (d >= 2u * p.pairs) {
        return own;
    }
    bool low = p.halves != 0u ? d < p.pairs : (d & 1u) == 0u;
    uint other_at = p.halves != 0u ? (low ? d + p.pairs : d - p.pairs) : d ^ 1u;
    uint pair = p.halves != 0u ? min(d, other_at) : d / 2u;
    float other = which == 0u ? q[at + other_at] : k[at + other_at];
    float c = uintBitsToFloat(parameters[table + 2u * pair]), s = uintBitsToFloat(parameters[table + 2u * pair + 1u]);
    return low ? own * c - other * s : other * s + own * c;
}

void load_queries(uint thread, uint row, uint head_first, uint head_count) {
    uint table = p.q_table + row * p.pairs * 2u;
    for (uint i = thread; i < uint(HEADS) * p.head_dim / 4u; i += THREADS) {
        uint h = i / (p.head_dim / 4u), d = i % (p.head_dim / 4u) * 4u;
        uint at = row * p.q_stride + (head_first + min(h, head_count - 1u)) * p.head_dim;
        queries[h * 64u + d / 4u] = p.scale * vec4(rotated(0u, at, d, table), rotated(0u, at, d + 1u, table),
                                                   rotated(0u, at, d + 2u, table), rotated(0u, at, d + 3u, table));
    }
}

// The token's own k and v, for this group and, if it is the one, for all that come later.
void take_new(uint thread, uint row, uint kv_head, uint position, uint base, bool store) {
    uint words = p.head_dim / 2u, table = p.k_table + row * p.pairs * 2u;
    uint at = row * p.kv_stride + kv_head * p.head_dim;
    for (uint i = thread; i < words; i += THREADS) {
        float low = rotated(1u, at, 2u * i, table), high = rotated(1u, at, 2u * i + 1u, table);
        uint k_word = to_half(floatBitsToUint(low)) | to_half(floatBitsToUint(high)) << 16;
        uint v_word = to_half(floatBitsToUint(v[at + 2u * i])) | to_half(floatBitsToUint(v[at + 2u * i + 1u])) << 16;
        new_k[i] = k_word;
        new_v[i] = v_word;
        if (store) {
            uint to = base + position / 64u * p.block_words + (kv_head * 64u + position % 64u) * words + i;
            uint v_to = to + p.kv_heads * 64u * words;
            stored[to] = k_word;
            stored[v_to] = v_word;
            if (p.mirror != 0u) {
                mirrored[to] = k_word;
                mirrored[v_to] = v_word;
            }
        }
    }
}

vec4 low_half(uvec4 eight) {
    return vec4(unpackHalf2x16(eight.x), unpackHalf2x16(eight.y));
}

vec4 high_half(uvec4 eight) {
    return vec4(unpackHalf2x16(eight.z), unpackHalf2x16(eight.w));
}

uvec4 new_eight(uint i, uint which) {
    uint at = 4u * i;
    return which == 0u ? uvec4(new_k[at], new_k[at + 1u], new_k[at + 2u], new_k[at + 3u])
                       : uvec4(new_v[at], new_v[at + 1u], new_v[at + 2u], new_v[at + 3u]);
}

// The scores of a token whose k begins at `at`.
void score(uint at, bool is_new, uint eights, inout float own[HEADS]) {
    for (uint first = 0u; first < eights; first += AT_ONCE) {
        uvec4 k8[AT_ONCE];
        [[unroll]] for (uint i = 0u; i < AT_ONCE; i++) {
            k8[i] = blocks[at + min(first + i, eights - 1u)];
        }
        [[unroll]] for (uint i = 0u; i < AT_ONCE; i++) {
            if (first + i < eights) {
                uvec4 eight = is_new ? new_eight(first + i, 0u) : k8[i];
                vec4 a = low_half(eight), b = high_half(eight);
                [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
                    uint q_at = h * 64u + 2u * (first + i);
                    own[h] += dot(a, queries[q_at]) + dot(b, queries[q_at + 1u]);
                }
            }
        }
    }
}

void main() {
    uint thread = gl_LocalInvocationIndex, team = thread / 64u, lane = thread % 64u;
    uint row = p.row_first + gl_WorkGroupID.y, range = gl_WorkGroupID.z;
    uint share = p.heads / p.kv_heads, portions = (share + uint(HEADS) - 1u) / uint(HEADS);
    uint kv_head = gl_WorkGroupID.x / portions, head_at = (gl_WorkGroupID.x % portions) * uint(HEADS);
    uint head_first = kv_head * share + head_at, head_count = min(uint(HEADS), share - head_at);
    uint position = parameters[p.rows_word + row * 4u + 1u];
    uint base = parameters[p.rows_word + row * 4u + 2u] + p.layer_word; // words
    uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
    uint block_first = first / 64u, block_end = position / 64u + 1u;
    uint each = (block_end - block_first + p.ranges - 1u) / p.ranges;
    uint from = block_first + range * each, to = min(from + each, block_end);
    if (from >= to) {
        return;
    }
    uint eights = p.head_dim / 8u, width = p.block_words / 4u; // of a row, of a block
    uint k_at = base / 4u + kv_head * 64u * eights, v_at = base / 4u + (p.kv_heads + kv_head) * 64u * eights;
    load_queries(thread, row, head_first, head_count);
    if (to == block_end) {
        take_new(thread, row, kv_head, position, base, head_at == 0u);
    }
    barrier();

    uint groups = 64u / eights, column = lane % eights, group = lane / eights; // of tokens, for the output
    uint part_at = team * uint(HEADS) * 8u, weight_at = team * uint(HEADS) * 64u, parts_of = 64u / SUBGROUP;
    float highest[HEADS], sums[HEADS];
    vec4 low[HEADS], high[HEADS];
    [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
        highest[h] = LOWEST;
        sums[h] = 0.0;
        low[h] = vec4(0.0);
        high[h] = vec4(0.0);
    }
    for (uint turn = from; turn < to; turn += TEAMS) {
        uint block = turn + team, token = block * 64u + lane;
        bool seen = block < to && token >= first && token <= position;
        float own[HEADS];
        [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
            own[h] = 0.0;
        }
        if (seen) {
            score(k_at + block * width + lane * eights, token == position, eights, own);
        }
        [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
            own[h] = seen ? cap(own[h]) : LOWEST;
            float top = subgroupMax(own[h]);
            if (lane % SUBGROUP == 0u) {
                tops[part_at + h * 8u + lane / SUBGROUP] = top;
            }
        }
        barrier();
        [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
            float top = highest[h];
            for (uint s = 0u; s < parts_of; s++) {
                top = max(top, tops[part_at + h * 8u + s]);
            }
            float shrink = exp(highest[h] - top), weight = seen ? exp(own[h] - top) : 0.0;
            highest[h] = top;
            sums[h] = fma(sums[h], shrink, weight);
            weights[weight_at + h * 64u + lane] = weight;
            low[h] *= shrink;
            high[h] *= shrink;
        }
        barrier();
        uint end = block < to ? min(position - block * 64u, 63u) + 1u : 0u; // of its tokens
        if (group < groups) {
            uint at = v_at + block * width + column;
            for (uint t = group; t < end; t += groups * AT_ONCE) {
                uvec4 v8[AT_ONCE];
                [[unroll]] for (uint i = 0u; i < AT_ONCE; i++) {
                    v8[i] = blocks[at + min(t + i * groups, end - 1u) * eights];
                }
                [[unroll]] for (uint i = 0u; i < AT_ONCE; i++) {
                    uint own_t = t + i * groups;
                    if (own_t < end) {
                        uvec4 eight = block * 64u + own_t == position ? new_eight(column, 1u) : v8[i];
                        vec4 a = low_half(eight), b = high_half(eight);
                        [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
                            float weight = weights[weight_at + h * 64u + own_t];
                            low[h] = fma(vec4(weight), a, low[h]);
                            high[h] = fma(vec4(weight), b, high[h]);
                        }
                    }
                }
            }
        }
    }

    // The teams' maxima and sums, then their outputs, a head at a time.
    barrier();
    [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
        float sum = subgroupAdd(sums[h]);
        if (lane % SUBGROUP == 0u) {
            sums_of[part_at + h * 8u + lane / SUBGROUP] = sum;
            tops[part_at + h * 8u + lane / SUBGROUP] = highest[h];
        }
    }
    barrier();
    [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
        float top = LOWEST, sum = 0.0;
        [[unroll]] for (uint t = 0u; t < TEAMS; t++) {
            top = max(top, tops[(t * uint(HEADS) + h) * 8u]);
        }
        [[unroll]] for (uint t = 0u; t < TEAMS; t++) {
            float of_team = 0.0;
            for (uint s = 0u; s < parts_of; s++) {
                of_team += sums_of[(t * uint(HEADS) + h) * 8u + s];
            }
            sum = fma(of_team, exp(tops[(t * uint(HEADS) + h) * 8u] - top), sum);
        }
        float shrink = exp(highest[h] - top);
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            outputs[thread * 8u + i] = low[h][i] * shrink;
            outputs[thread * 8u + 4u + i] = high[h][i] * shrink;
        }
        barrier();
        uint part = ((row * p.heads + head_first + h) * p.ranges + range) * (p.head_dim + 2u);
        for (uint d = thread; d < p.head_dim && h < head_count; d += THREADS) {
            float value = 0.0;
            [[unroll]] for (uint t = 0u; t < TEAMS; t++) {
                for (uint g = 0u; g < groups; g++) {
                    value += outputs[(t * 64u + g * eights + d / 8u) * 8u + d % 8u];
                }
            }
            if (p.ranges == 1u) {
                dst[row * p.q_stride + (head_first + h) * p.head_dim + d] = value / sum;
            } else {
                parts[part + 2u + d] = value;
            }
        }
        if (p.ranges > 1u && thread == 0u && h < head_count) {
            parts[part] = top;
            parts[part + 1u] = sum;
        }
        barrier();
    }
}
