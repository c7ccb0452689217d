// kv_store.comp - rows of k and v to the sessions' blocks as f16, or as bytes with scales (device/kv.h); where the
// device has blocks of its own, to these and to the region. TURN: q and k are rotated on the way (rope.comp), q in
// place; of k nothing else is left.
// variants: kv_store=-DMIRROR=0 kv_store_turned=-DMIRROR=0,-DTURN=1 kv_store_mirrored=-DMIRROR=1 kv_store_q8=-DMIRROR=0,-DQ8=1 kv_store_q8_mirrored=-DMIRROR=1,-DQ8=1
#version 450
#extension GL_GOOGLE_include_directive : require
#ifndef TURN
#define TURN 0
#endif
#if TURN
layout(local_size_x = 256) in;
#else
layout(local_size_x = 64) in;
#endif
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) writeonly buffer Blocks { uint blocks[]; };     // two f16 a word, or four int8
#if MIRROR
layout(std430, binding = 3) writeonly buffer Mirrored { uint mirrored[]; }; // the region's
#endif
layout(std430, binding = 4) readonly buffer K { uint k[]; };
layout(std430, binding = 5) readonly buffer V { uint v[]; };
#if TURN
layout(std430, binding = 6) buffer Q { float q[]; };
#endif
layout(push_constant) uniform Push {
    uint row_first, stride, kv_heads, head_dim;
    uint rows_word, block_words, layer_word;
    uint block_first, block_end, base_word; // of this span
    uint q_stride, q_heads, q_word, k_word; // of q, and where the tables begin
    uint pairs, halves;                     // as rope.comp has them
} p;
#include "half.glsl"

#ifndef Q8
#define Q8 0
#endif

void put(uint at, uint word) {
    blocks[at] = word;
#if MIRROR
    mirrored[at] = word;
#endif
}

#if Q8
// GGUF's rounding, halves away from zero. Quotients are corrected to the nearest, so that blocks are the same
// everywhere.
int nearest(float x) {
    float whole = trunc(x);
    return int(abs(x - whole) >= 0.5 ? whole + sign(x) : whole);
}

float value_of(uint which, uint at) {
    return uintBitsToFloat(which == 0u ? k[at] : v[at]);
}

// 32 columns as eight words of codes; the scale's f16 is returned.
uint put_codes(uint which, uint from, uint to) {
    float largest = 0.0;
    for (uint i = 0u; i < 32u; i++) {
        largest = max(largest, abs(value_of(which, from + i)));
    }
    float scale = largest / 127.0;
    scale += fma(-scale, 127.0, largest) / 127.0;
    float inverse = scale > 0.0 ? 1.0 / scale : 0.0;
    inverse = scale > 0.0 && !isinf(inverse) ? fma(fma(-scale, inverse, 1.0), inverse, inverse) : inverse;
    for (uint i = 0u; i < 8u; i++) {
        uint word = 0u;
        for (uint c = 0u; c < 4u; c++) {
            word |= (uint(nearest(value_of(which, from + 4u * i + c) * inverse)) & 0xffu) << (8u * c);
        }
        put(to + i, word);
    }
    return to_half(floatBitsToUint(scale));
}

// An invocation has 64 columns, whose two scales are a word.
void main() {
    uint pieces = p.kv_heads * p.head_dim / 64u, index = gl_GlobalInvocationID.x;
    uint row = p.row_first + gl_WorkGroupID.y;
    uint position = parameters[p.rows_word + row * 4u + 1u], block = position / 64u;
    if (index >= 2u * pieces || block < p.block_first || block >= p.block_end) {
        return;
    }
    uint which = index / pieces, piece = index % pieces, head_pieces = p.head_dim / 64u;
    uint from = row * p.stride + piece * 64u, head = which * p.kv_heads + piece / head_pieces;
    uint head_at = p.base_word + parameters[p.rows_word + row * 4u + 2u] + (block - p.block_first) * p.block_words +
                   p.layer_word + head * 17u * p.head_dim;
    uint to = head_at + (position % 64u * p.head_dim + piece % head_pieces * 64u) / 4u;
    uint low = put_codes(which, from, to), high = put_codes(which, from + 32u, to + 8u);
    put(head_at + 16u * p.head_dim + position % 64u * head_pieces + piece % head_pieces, low | high << 16);
}
#else
#if TURN
// Where the pair's two are in a head, and its cosine and sine.
uint place_of(uint pair, uint which) {
    return p.halves != 0u ? pair + which * p.pairs : 2u * pair + which;
}

vec2 turn_of(uint word, uint row, uint pair) {
    uint entry = word + (row * p.pairs + pair) * 2u;
    return vec2(uintBitsToFloat(parameters[entry]), uintBitsToFloat(parameters[entry + 1u]));
}

void turn_q(uint row, uint index) {
    uint pair = index % p.pairs, first = row * p.q_stride + index / p.pairs * p.head_dim;
    uint at = first + place_of(pair, 0u), to = first + place_of(pair, 1u);
    vec2 turn = turn_of(p.q_word, row, pair);
    float a = q[at], b = q[to];
    q[at] = a * turn.x - b * turn.y;
    q[to] = a * turn.y + b * turn.x;
}

uint turned_k(uint row, uint column) {
    uint first = row * p.stride + column / p.head_dim * p.head_dim, own = column % p.head_dim;
    if (own >= 2u * p.pairs) {
        return k[first + own];
    }
    uint pair = p.halves != 0u ? own % p.pairs : own / 2u;
    vec2 turn = turn_of(p.k_word, row, pair);
    float a = uintBitsToFloat(k[first + place_of(pair, 0u)]), b = uintBitsToFloat(k[first + place_of(pair, 1u)]);
    return floatBitsToUint(own == place_of(pair, 0u) ? a * turn.x - b * turn.y : a * turn.y + b * turn.x);
}
#else
uint turned_k(uint row, uint column) {
    return k[row * p.stride + column];
}
#endif

void main() {
    uint pairs = p.kv_heads * p.head_dim / 2u, index = gl_GlobalInvocationID.x;
    uint row = p.row_first + gl_WorkGroupID.y;
    uint position = parameters[p.rows_word + row * 4u + 1u], block = position / 64u;
#if TURN
    if (index >= 2u * pairs && index < 2u * pairs + p.q_heads * p.pairs) {
        turn_q(row, index - 2u * pairs);
        return;
    }
#endif
    if (index >= 2u * pairs || block < p.block_first || block >= p.block_end) {
        return;
    }
    uint which = index / pairs, pair = index % pairs, head_pairs = p.head_dim / 2u;
    uint from = row * p.stride + 2u * pair;
    uint low = which == 0u ? turned_k(row, 2u * pair) : v[from], high = which == 0u ? turned_k(row, 2u * pair + 1u) : v[from + 1u];
    uint head = which * p.kv_heads + pair / head_pairs;
    uint to = p.base_word + parameters[p.rows_word + row * 4u + 2u] + (block - p.block_first) * p.block_words +
              p.layer_word + (head * 64u + position % 64u) * head_pairs + pair % head_pairs;
    put(to, to_half(low) | to_half(high) << 16);
}
#endif
