// attention.comp - dst[r] = softmax(scale * q k^T) v, by running maximum and sum (arXiv:2205.14135), a KV block at a
// time.
//
// A work group has one row and HEADS query heads that share a KV head. An invocation takes one of the block's 64 tokens
// for the scores, then columns of the output. A session that is longer than a window is computed in spans, from block
// block_first to block_end, between which maximum, sum and output wait in `state`.
// variants: attention_1=-DHEADS=1 attention_4=-DHEADS=4 attention_q8_1=-DHEADS=1,-DQ8=1 attention_q8_4=-DHEADS=4,-DQ8=1
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Blocks { uint blocks[]; }; // two f16 a word, or four int8
layout(std430, binding = 4) readonly buffer Q { float q[]; };
layout(std430, binding = 5) buffer State { float state[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint row_first, stride, heads, kv_heads, head_dim;
    uint rows_word, block_words, layer_word;
    uint block_first, block_end, base_word; // of this span
    uint window;
    uint flags; // 1: the first span, 2: the last
    float scale, softcap;
} p;

#ifndef Q8
#define Q8 0
#endif
#if Q8 // device/kv.h: the codes of a head's 64 rows, then their scales, one for each 32 columns
#define HEAD_WORDS (17u * p.head_dim)

float scale_of(uint head, uint token, uint d) {
    uint at = token * (p.head_dim / 32u) + d / 32u;
    vec2 two = unpackHalf2x16(blocks[head + 16u * p.head_dim + at / 2u]);
    return (at & 1u) == 0u ? two.x : two.y;
}

vec2 two_codes(uint word, int first) {
    return vec2(bitfieldExtract(int(word), first, 8), bitfieldExtract(int(word), first + 8, 8));
}
#else
#define HEAD_WORDS (32u * p.head_dim)
#endif

const float LOWEST = -3.0e38;
const uint WORDS_MAX = 2u; // of an output row that an invocation has: 64 * 2 * 2 columns
shared float queries[HEADS * 256];
shared float scores[2 * HEADS * 64];
shared float weights[2 * HEADS * 64];

#include "softcap.glsl"

float cap(float score) {
    if (p.softcap <= 0.0) {
        return score;
    }
    return soft_cap(score);
}

void main() {
    uint lane = gl_LocalInvocationID.x, row = p.row_first + gl_WorkGroupID.y;
    uint share = p.heads / p.kv_heads, parts = (share + uint(HEADS) - 1u) / uint(HEADS);
    uint kv_head = gl_WorkGroupID.x / parts, head_at = (gl_WorkGroupID.x % parts) * uint(HEADS);
    uint head_first = kv_head * share + head_at, head_count = min(uint(HEADS), share - head_at);
    uint words = p.head_dim / 2u, position = parameters[p.rows_word + row * 4u + 1u];
    uint base = p.base_word + parameters[p.rows_word + row * 4u + 2u] + p.layer_word;
    uint k_at = base + kv_head * HEAD_WORDS, v_at = base + (p.kv_heads + kv_head) * HEAD_WORDS;

    for (uint i = lane; i < uint(HEADS) * p.head_dim; i += 64u) {
        uint head = head_first + min(i / p.head_dim, head_count - 1u);
        queries[i] = q[row * p.stride + head * p.head_dim + i % p.head_dim];
    }
    float highest[HEADS], sums[HEADS]; // sums: of this invocation's tokens only
    vec2 outputs[HEADS * WORDS_MAX];
    for (uint h = 0u; h < uint(HEADS); h++) {
        uint at = (row * p.heads + head_first + min(h, head_count - 1u)) * (p.head_dim + 2u);
        bool afresh = (p.flags & 1u) != 0u;
        highest[h] = afresh ? LOWEST : state[at];
        sums[h] = afresh || lane > 0u ? 0.0 : state[at + 1u];
        for (uint i = 0u; i < WORDS_MAX; i++) {
            uint word = lane + i * 64u;
            bool mine = !afresh && word < words;
            outputs[h * WORDS_MAX + i] = mine ? vec2(state[at + 2u + 2u * word], state[at + 3u + 2u * word]) : vec2(0.0);
        }
    }
    barrier();

    uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
    uint block_end = min(p.block_end, position / 64u + 1u), turn = 0u;
    for (uint block = max(p.block_first, first / 64u); block < block_end; block++) {
        uint in_window = (block - p.block_first) * p.block_words, token = block * 64u + lane;
        bool seen = token >= first && token <= position;
        float own[HEADS];
        for (uint h = 0u; h < uint(HEADS); h++) {
            own[h] = 0.0;
        }
#if Q8
        for (uint d = 0u; seen && d < p.head_dim; d += 32u) {
            float scale = scale_of(k_at + in_window, lane, d);
            for (uint i = d; i < d + 32u; i += 4u) {
                uint word = blocks[k_at + in_window + (lane * p.head_dim + i) / 4u];
                vec2 low = scale * two_codes(word, 0), high = scale * two_codes(word, 16);
                for (uint h = 0u; h < uint(HEADS); h++) {
                    uint from = h * p.head_dim + i;
                    own[h] = fma(low.y, queries[from + 1u], fma(low.x, queries[from], own[h]));
                    own[h] = fma(high.y, queries[from + 3u], fma(high.x, queries[from + 2u], own[h]));
                }
            }
        }
#else
        if (seen) {
            uint at = k_at + in_window + lane * words;
            for (uint i = 0u; i < words; i++) {
                vec2 pair = unpackHalf2x16(blocks[at + i]);
                for (uint h = 0u; h < uint(HEADS); h++) {
                    uint from = h * p.head_dim + 2u * i;
                    own[h] = fma(pair.y, queries[from + 1u], fma(pair.x, queries[from], own[h]));
                }
            }
        }
#endif
        for (uint h = 0u; h < uint(HEADS); h++) {
            own[h] = seen ? cap(own[h] * p.scale) : LOWEST;
            scores[(turn * uint(HEADS) + h) * 64u + lane] = own[h];
        }
        barrier();
        for (uint h = 0u; h < uint(HEADS); h++) {
            float top = highest[h];
            for (uint i = 0u; i < 64u; i++) {
                top = max(top, scores[(turn * uint(HEADS) + h) * 64u + i]);
            }
            float shrink = exp(highest[h] - top), weight = seen ? exp(own[h] - top) : 0.0;
            highest[h] = top;
            sums[h] = fma(sums[h], shrink, weight);
            weights[(turn * uint(HEADS) + h) * 64u + lane] = weight;
            for (uint i = 0u; i < WORDS_MAX; i++) {
                outputs[h * WORDS_MAX + i] *= shrink;
            }
        }
        barrier();
        uint from = max(first, block * 64u) - block * 64u, to = min(position - block * 64u, 63u);
        for (uint i = 0u; i < WORDS_MAX; i++) {
            uint word = lane + i * 64u;
            if (word < words) {
                for (uint t = from; t <= to; t++) {
#if Q8
                    uint four = blocks[v_at + in_window + (t * p.head_dim + 2u * word) / 4u];
                    vec2 pair = scale_of(v_at + in_window, t, 2u * word) * two_codes(four, int(word & 1u) * 16);
#else
                    vec2 pair = unpackHalf2x16(blocks[v_at + in_window + t * words + word]);
#endif
                    for (uint h = 0u; h < uint(HEADS); h++) {
                        float weight = weights[(turn * uint(HEADS) + h) * 64u + t];
                        outputs[h * WORDS_MAX + i] = fma(vec2(weight), pair, outputs[h * WORDS_MAX + i]);
                    }
                }
            }
        }
        turn ^= 1u;
    }

    // The sums of all invocations; the turn's scores were read for the last time before the last barrier.
    for (uint h = 0u; h < uint(HEADS); h++) {
        scores[(turn * uint(HEADS) + h) * 64u + lane] = sums[h];
    }
    barrier();
    for (uint h = 0u; h < head_count; h++) {
        float sum = 0.0;
        for (uint i = 0u; i < 64u; i++) {
            sum += scores[(turn * uint(HEADS) + h) * 64u + i];
        }
        bool done = (p.flags & 2u) != 0u;
        uint at = (row * p.heads + head_first + h) * (p.head_dim + 2u);
        if (!done && lane == 0u) {
            state[at] = highest[h];
            state[at + 1u] = sum;
        }
        for (uint i = 0u; i < WORDS_MAX; i++) {
            uint word = lane + i * 64u;
            if (word < words) {
                vec2 value = outputs[h * WORDS_MAX + i];
                if (done) {
                    uint to = row * p.stride + (head_first + h) * p.head_dim + 2u * word;
                    dst[to] = value.x / sum;
                    dst[to + 1u] = value.y / sum;
                } else {
                    state[at + 2u + 2u * word] = value.x;
                    state[at + 3u + 2u * word] = value.y;
                }
            }
        }
    }
}
