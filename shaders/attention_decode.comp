// attention_decode.comp - one token of a session: rotates q and k, stores k and v, and dst = softmax(scale * q k^T) v
// by running maximum and sum (arXiv:2205.14135), the session's tokens split among work groups (arXiv:2311.01282).
//
// A work group has one row, HEADS query heads that share a KV head, and a range of blocks; where there are several
// ranges, each leaves maximum, sum and output to attention_merge. Eight invocations side by side have a token, and of
// its k and v EIGHTS times eight columns each: they keep a running maximum, sum and output of their own, and those of
// all are put together at the end. So nothing is waited for on the way, and all bytes are asked for before q is there.
// The token's own k and v come from where they were computed, not from memory, so nobody has to wait for the group that
// stores them: that of the last range. Q8: keys and values are bytes with a scale for each 32 columns, the token's own
// as well.
// variants: attention_decode_q8_1_64=-DHEADS=1,-DEIGHTS=1,-DQ8=1 attention_decode_q8_2_64=-DHEADS=2,-DEIGHTS=1,-DQ8=1 attention_decode_q8_1_128=-DHEADS=1,-DEIGHTS=2,-DQ8=1 attention_decode_q8_2_128=-DHEADS=2,-DEIGHTS=2,-DQ8=1 attention_decode_q8_1_256=-DHEADS=1,-DEIGHTS=4,-DQ8=1 attention_decode_q8_2_256=-DHEADS=2,-DEIGHTS=4,-DQ8=1
// variants: attention_decode_1_64=-DHEADS=1,-DEIGHTS=1 attention_decode_2_64=-DHEADS=2,-DEIGHTS=1 attention_decode_1_128=-DHEADS=1,-DEIGHTS=2 attention_decode_2_128=-DHEADS=2,-DEIGHTS=2 attention_decode_1_256=-DHEADS=1,-DEIGHTS=4 attention_decode_2_256=-DHEADS=2,-DEIGHTS=4
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
layout(constant_id = 1) const uint SUBGROUP = 32; // subgroups are this wide, and invocations lie in them in order
layout(local_size_x_id = 2) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
#ifndef Q8
#define Q8 0
#endif
#if Q8
layout(std430, binding = 2) readonly buffer Blocks { uvec2 blocks[]; }; // eight int8, or two words of scales
#else
layout(std430, binding = 2) readonly buffer Blocks { uvec4 blocks[]; }; // eight f16
#endif
layout(std430, binding = 3) writeonly buffer Mirrored { uint mirrored[]; };
layout(std430, binding = 4) coherent readonly buffer Q { float q[]; };
layout(std430, binding = 5) coherent readonly buffer K { float k[]; };
layout(std430, binding = 6) coherent writeonly buffer Dst { float dst[]; };
layout(std430, binding = 7) coherent readonly buffer V { float v[]; };
layout(std430, binding = 8) coherent writeonly buffer Parts { float parts[]; }; // for each row, head, range: head_dim + 2
layout(std430, binding = 9) writeonly buffer Stored { uint stored[]; }; // the blocks once more, to be written
#include "relay_push.glsl"
layout(push_constant) uniform Push {
    uint row_first, q_stride, kv_stride, heads, kv_heads, head_dim;
    uint rows_word, block_words, layer_word, window;
    float scale, softcap;
    uint q_table, k_table; // words of the parameters: cosines and sines
    uint pairs;            // that rotate
    uint halves;           // pairs (i, i + pairs) instead of (2i, 2i + 1)
    uint ranges, mirror;
    RELAY_PUSH;
} p;
#include "relay.glsl"
#include "half.glsl"
#include "softcap.glsl"

const float LOWEST = -3.0e38;
const uint DIM = 64u * EIGHTS; // at least the head's
const uint TOKENS = EIGHTS == 1u ? 2u : 1u; // that eight invocations have on their way
const uint OUTPUT_STRIDE = HEADS * DIM + 4u; // padded: see the end
const uint OUTPUTS = 4352u, SUBGROUPS_MAX = 128u;
shared vec4 queries[HEADS * DIM / 4u];
shared uvec4 new_k[DIM / 8u], new_v[DIM / 8u]; // the token's own, as eight_of gives them
#if Q8
shared float new_f32[2u * DIM]; // k, behind it v
#endif
shared vec4 outputs[OUTPUTS / 4u];             // of subgroups
shared float tops[SUBGROUPS_MAX * HEADS], sums_of[SUBGROUPS_MAX * HEADS];

float cap(float score) {
    float capped = score;
    if (p.softcap > 0.0) {
        capped = soft_cap(score);
    }
    return capped;
}

// Where column d finds the other one of its pair, and the pair's cosine and sine: (cos, -sin) for the lower of the two.
uint pair_of(uint d, uint table, out vec2 turn) {
    bool low = p.halves != 0u ? d < p.pairs : (d & 1u) == 0u;
    uint other = p.halves != 0u ? (low ? d + p.pairs : d - p.pairs) : d ^ 1u;
    uint pair = p.halves != 0u ? min(d, other) : d / 2u;
    turn = vec2(1.0, 0.0);
    if (d >= 2u * p.pairs) {
        return d;
    }
    turn = vec2(uintBitsToFloat(parameters[table + 2u * pair]), uintBitsToFloat(parameters[table + 2u * pair + 1u]));
    turn.y = low ? -turn.y : turn.y;
    return other;
}

// q of the group's heads.
void prepare_queries(uint thread, uint row, uint head_first, uint head_count) {
    for (uint i = thread; i < uint(HEADS) * DIM; i += gl_WorkGroupSize.x) {
        uint h = i / DIM, d = i % DIM, at = row * p.q_stride + (head_first + min(h, head_count - 1u)) * p.head_dim;
        float value = 0.0;
        if (d < p.head_dim) {
            vec2 turn;
            uint other = pair_of(d, p.q_table + row * p.pairs * 2u, turn);
            value = p.scale * (q[at + d] * turn.x + q[at + other] * turn.y);
        }
        queries[i / 4u][i % 4u] = value;
    }
}

// Columns 2 word and 2 word + 1 of the token's own k, or v, of a KV head.
vec2 own_pair(uint row, uint kv_head, bool is_k, uint word) {
    uint base = row * p.kv_stride + kv_head * p.head_dim, at = base + 2u * word;
    if (!is_k) {
        return vec2(v[at], v[at + 1u]);
    }
    vec2 a, b;
    uint table = p.k_table + row * p.pairs * 2u, other_a = pair_of(2u * word, table, a), other_b = pair_of(2u * word + 1u, table, b);
    return vec2(k[at] * a.x + k[base + other_a] * a.y, k[at + 1u] * b.x + k[base + other_b] * b.y);
}

void store_word(uint to, uint word) {
    stored[to] = word;
    if (p.mirror != 0u) {
        mirrored[to] = word;
    }
}

// The token's own k and v, which are stored if `store` for all that come later; to: where the KV head's k begin. From
// the last invocation on backwards: those in front have a query already.
#if Q8
const uint HEAD_WORDS = 17u; // times the head's columns: codes of 64 rows, then their scales (device/kv.h)

// As kv_store.comp rounds them: a word of four codes, and the scale of its 32 columns as f16.
uint own_codes(uint from, uint first, out uint scale16) {
    float largest = 0.0;
    for (uint i = 0u; i < 32u; i++) {
        largest = max(largest, abs(new_f32[from + first / 32u * 32u + i]));
    }
    float scale = largest / 127.0;
    scale += fma(-scale, 127.0, largest) / 127.0;
    float inverse = scale > 0.0 ? 1.0 / scale : 0.0;
    inverse = scale > 0.0 && !isinf(inverse) ? fma(fma(-scale, inverse, 1.0), inverse, inverse) : inverse;
    scale16 = to_half(floatBitsToUint(scale));
    uint word = 0u;
    for (uint c = 0u; c < 4u; c++) {
        float x = new_f32[from + first + c] * inverse, whole = trunc(x);
        word |= (uint(int(abs(x - whole) >= 0.5 ? whole + sign(x) : whole)) & 0xffu) << (8u * c);
    }
    return word;
}

void prepare_own(uint thread, uint row, uint kv_head, bool store, uint to, uint token) {
    uint words = p.head_dim / 2u;
    for (uint i = gl_WorkGroupSize.x - 1u - thread; i < p.head_dim; i += gl_WorkGroupSize.x) {
        vec2 pair = own_pair(row, kv_head, i < words, i % words);
        uint at = (i < words ? 0u : DIM) + 2u * (i % words);
        new_f32[at] = pair.x;
        new_f32[at + 1u] = pair.y;
    }
    barrier();
    uint fours = p.head_dim / 4u;
    for (uint i = gl_WorkGroupSize.x - 1u - thread; i < 2u * fours; i += gl_WorkGroupSize.x) {
        bool is_k = i < fours;
        uint at = i % fours, scale, word = own_codes(is_k ? 0u : DIM, 4u * at, scale);
        uint place = to + (is_k ? 0u : p.kv_heads * HEAD_WORDS * p.head_dim);
        if (is_k) {
            new_k[at / 2u][at % 2u] = word;
            new_k[at / 2u].z = scale | scale << 16; // both writers have the same
        } else {
            new_v[at / 2u][at % 2u] = word;
            new_v[at / 2u].z = scale | scale << 16;
        }
        if (store) {
            store_word(place + token * fours + at, word);
            if (at % 16u == 0u) {
                uint other;
                own_codes(is_k ? 0u : DIM, 4u * at + 32u, other);
                store_word(place + 64u * fours + token * (p.head_dim / 64u) + at / 16u, scale | other << 16);
            }
        }
    }
}

// Eight columns: codes in x and y, and in z the scales of the 64 columns that they are of.
uvec4 eight_of(uint head, uint token, uint eight_at) {
    uint scale_at = head + 16u * p.head_dim + token * (p.head_dim / 64u) + eight_at / 8u;
    return uvec4(blocks[(head + token * (p.head_dim / 4u)) / 2u + eight_at], blocks[scale_at / 2u][scale_at % 2u], 0u);
}

float scale_of(uvec4 eight, uint eight_at) {
    return unpackHalf2x16(eight.z >> (eight_at / 4u % 2u * 16u)).x;
}

vec4 four_codes(uint word) {
    int w = int(word);
    return vec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8), bitfieldExtract(w, 24, 8));
}

vec4 low_half(uvec4 eight, uint eight_at) {
    return scale_of(eight, eight_at) * four_codes(eight.x);
}

vec4 high_half(uvec4 eight, uint eight_at) {
    return scale_of(eight, eight_at) * four_codes(eight.y);
}
#else
const uint HEAD_WORDS = 32u;

void prepare_own(uint thread, uint row, uint kv_head, bool store, uint to, uint token) {
    uint words = p.head_dim / 2u;
    for (uint i = gl_WorkGroupSize.x - 1u - thread; i < p.head_dim; i += gl_WorkGroupSize.x) {
        bool is_k = i < words;
        uint word = i % words;
        vec2 pair = own_pair(row, kv_head, is_k, word);
        uint both = to_half(floatBitsToUint(pair.x)) | to_half(floatBitsToUint(pair.y)) << 16;
        if (is_k) {
            new_k[word / 4u][word % 4u] = both;
        } else {
            new_v[word / 4u][word % 4u] = both;
        }
        if (store) {
            store_word(to + (is_k ? 0u : p.kv_heads * HEAD_WORDS * p.head_dim) + token * words + word, both);
        }
    }
}

uvec4 eight_of(uint head, uint token, uint eight_at) {
    return blocks[(head + token * (p.head_dim / 2u)) / 4u + eight_at];
}

vec4 low_half(uvec4 eight, uint eight_at) {
    return vec4(unpackHalf2x16(eight.x), unpackHalf2x16(eight.y));
}

vec4 high_half(uvec4 eight, uint eight_at) {
    return vec4(unpackHalf2x16(eight.z), unpackHalf2x16(eight.w));
}
#endif

void main() {
    uint thread = gl_LocalInvocationIndex, lane = thread % SUBGROUP, subgroup = thread / SUBGROUP;
    uint eighth = thread % 8u, own = thread / 8u, owners = gl_WorkGroupSize.x / 8u;
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
        relay_wait();
        relay_signal_group();
        return;
    }
    uint eights = p.head_dim / 8u;
    uint k_at = base + kv_head * HEAD_WORDS * p.head_dim, v_behind = p.kv_heads * HEAD_WORDS * p.head_dim; // words
    uint token_first = max(from * 64u, first), token_end = min(to * 64u, position + 1u);
    uvec4 k8[TOKENS * EIGHTS], v8[TOKENS * EIGHTS];
#define ASK(to_be, i, wanted, behind)                                                                                  \
    {                                                                                                                  \
        uint token = min(wanted, token_end - 1u), head_at = k_at + behind + token / 64u * p.block_words;               \
        [[unroll]] for (uint e = 0u; e < EIGHTS; e++) {                                                                \
            to_be[i * EIGHTS + e] = eight_of(head_at, token % 64u, min(eighth + 8u * e, eights - 1u));                 \
        }                                                                                                              \
    }
    [[unroll]] for (uint i = 0u; i < TOKENS; i++) {
        ASK(k8, i, token_first + own + i * owners, 0u)
        ASK(v8, i, token_first + own + i * owners, v_behind)
    }
    relay_wait();
    prepare_queries(thread, row, head_first, head_count);
    if (to == block_end) {
        prepare_own(thread, row, kv_head, head_at == 0u, k_at + position / 64u * p.block_words, position % 64u);
    }
    barrier();
    float highest[HEADS], sums[HEADS];
    vec4 acc[HEADS * EIGHTS * 2u];
    [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
        highest[h] = LOWEST;
        sums[h] = 0.0;
        [[unroll]] for (uint e = 0u; e < 2u * EIGHTS; e++) {
            acc[h * EIGHTS * 2u + e] = vec4(0.0);
        }
    }
    for (uint token = token_first; token < token_end; token += TOKENS * owners) {
        float scores[TOKENS * HEADS];
        [[unroll]] for (uint i = 0u; i < TOKENS; i++) {
            bool is_new = to == block_end && token + own + i * owners >= position; // or none: 0 times what is a number
            [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
                scores[i * HEADS + h] = 0.0;
            }
            [[unroll]] for (uint e = 0u; e < EIGHTS; e++) {
                uint eight_at = eighth + 8u * e;
                uvec4 k_new = new_k[min(eight_at, eights - 1u)], v_new = new_v[min(eight_at, eights - 1u)];
                v8[i * EIGHTS + e] = is_new ? v_new : v8[i * EIGHTS + e];
                uvec4 eight = is_new ? k_new : k8[i * EIGHTS + e];
                vec4 a = low_half(eight, eight_at), b = high_half(eight, eight_at);
                [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
                    uint q_at = h * DIM / 4u + 2u * eight_at;
                    scores[i * HEADS + h] += dot(a, queries[q_at]) + dot(b, queries[q_at + 1u]);
                }
            }
            ASK(k8, i, token + own + (TOKENS + i) * owners, 0u)
        }
        [[unroll]] for (uint s = 0u; s < TOKENS * HEADS; s++) {
            scores[s] += subgroupShuffleXor(scores[s], 1u);
            scores[s] += subgroupShuffleXor(scores[s], 2u);
            scores[s] += subgroupShuffleXor(scores[s], 4u);
            scores[s] = token + own + s / HEADS * owners < token_end ? cap(scores[s]) : LOWEST;
        }
        [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
            float top = highest[h];
            [[unroll]] for (uint i = 0u; i < TOKENS; i++) {
                top = max(top, scores[i * HEADS + h]);
            }
            float shrink = exp(highest[h] - top);
            highest[h] = top;
            sums[h] *= shrink;
            [[unroll]] for (uint i = 0u; i < TOKENS; i++) {
                float score = scores[i * HEADS + h];
                scores[i * HEADS + h] = score > LOWEST ? exp(score - top) : 0.0;
                sums[h] += scores[i * HEADS + h];
            }
            [[unroll]] for (uint e = 0u; e < 2u * EIGHTS; e++) {
                acc[h * EIGHTS * 2u + e] *= shrink;
            }
        }
        [[unroll]] for (uint i = 0u; i < TOKENS; i++) {
            [[unroll]] for (uint e = 0u; e < EIGHTS; e++) {
                uint eight_at = eighth + 8u * e;
                vec4 a = low_half(v8[i * EIGHTS + e], eight_at), b = high_half(v8[i * EIGHTS + e], eight_at);
                [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
                    uint at = (h * EIGHTS + e) * 2u;
                    acc[at] = fma(vec4(scores[i * HEADS + h]), a, acc[at]);
                    acc[at + 1u] = fma(vec4(scores[i * HEADS + h]), b, acc[at + 1u]);
                }
            }
            ASK(v8, i, token + own + (TOKENS + i) * owners, v_behind)
        }
    }

    // What a subgroup has, then what all have.
#define ACROSS(step)                                                                                                   \
    [[unroll]] for (uint n = 0u; n < 3u; n++) {                                                                        \
        uint apart = 8u << n;                                                                                          \
        if (apart < SUBGROUP) {                                                                                        \
            step;                                                                                                      \
        }                                                                                                              \
    }
    [[unroll]] for (uint h = 0u; h < uint(HEADS); h++) {
        float top = highest[h];
        ACROSS(top = max(top, subgroupShuffleXor(top, apart)))
        float shrink = exp(highest[h] - top);
        sums[h] *= shrink;
        ACROSS(sums[h] += subgroupShuffleXor(sums[h], apart))
        [[unroll]] for (uint e = 0u; e < 2u * EIGHTS; e++) {
            uint at = h * EIGHTS * 2u + e;
            acc[at] *= shrink;
            ACROSS(acc[at] += subgroupShuffleXor(acc[at], apart))
            if (lane < 8u) {
                outputs[subgroup * (OUTPUT_STRIDE / 4u) + h * DIM / 4u + (eighth + 8u * (e / 2u)) * 2u + e % 2u] = acc[at];
            }
        }
        if (lane == 0u) {
            tops[subgroup * uint(HEADS) + h] = top;
            sums_of[subgroup * uint(HEADS) + h] = sums[h];
        }
    }
    barrier();
    // Eight invocations a column, each with every eighth subgroup.
    uint subgroups = gl_WorkGroupSize.x / SUBGROUP;
    for (uint at = own; at < uint(HEADS) * DIM; at += owners) {
        uint h = at / DIM, d = at % DIM;
        float top = LOWEST, sum = 0.0, value = 0.0;
        for (uint s = eighth; s < subgroups; s += 8u) {
            top = max(top, tops[s * uint(HEADS) + h]);
        }
        top = max(top, subgroupShuffleXor(top, 1u));
        top = max(top, subgroupShuffleXor(top, 2u));
        top = max(top, subgroupShuffleXor(top, 4u));
        for (uint s = eighth; s < subgroups; s += 8u) {
            float shrink = exp(tops[s * uint(HEADS) + h] - top);
            sum = fma(sums_of[s * uint(HEADS) + h], shrink, sum);
            value = fma(outputs[(s * OUTPUT_STRIDE + at) / 4u][at % 4u], shrink, value);
        }
        sum += subgroupShuffleXor(sum, 1u);
        value += subgroupShuffleXor(value, 1u);
        sum += subgroupShuffleXor(sum, 2u);
        value += subgroupShuffleXor(value, 2u);
        sum += subgroupShuffleXor(sum, 4u);
        value += subgroupShuffleXor(value, 4u);
        if (eighth != 0u || h >= head_count || d >= p.head_dim) {
            continue;
        }
        if (p.ranges == 1u) {
            dst[row * p.q_stride + (head_first + h) * p.head_dim + d] = value / sum;
            continue;
        }
        uint part = ((row * p.heads + head_first + h) * p.ranges + range) * (p.head_dim + 2u);
        parts[part + 2u + d] = value;
        if (d == 0u) {
            parts[part] = top;
            parts[part + 1u] = sum;
        }
    }
    relay_signal_group();
}
