// turn_store.comp - rotates q and k of many rows, q in place, and puts k and v to the sessions' blocks as f16: what
// kv_store.comp does when it turns, for heads that are rotated whole and of a multiple of eight columns. An invocation
// has four pairs of q or k, or eight columns of v, so that it asks for 16 bytes at a time.
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 128) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) writeonly buffer Blocks { uvec2 blocks[]; }; // four f16
layout(std430, binding = 4) readonly buffer K { vec4 k[]; };
layout(std430, binding = 5) readonly buffer V { vec4 v[]; };
layout(std430, binding = 6) buffer Q { vec4 q[]; };
layout(std430, binding = 7) readonly buffer Turns { vec4 turns[]; }; // the parameters: cosine, sine, cosine, sine
layout(push_constant) uniform Push {
    uint row_first, stride, kv_heads, head_dim;
    uint rows_word, block_words, layer_word;
    uint block_first, block_end, base_word; // of this span
    uint q_stride, q_heads, q_word, k_word; // of q, and where the tables begin
    uint pairs, halves;                     // as rope.comp has them
} p;
#include "half.glsl"

struct Eight { // columns
    vec4 a, b; // as they lie: halves of a head, or neighbours
};

Eight turned(Eight x, uint word, uint row, uint pair) {
    uint at = (word + (row * p.pairs + pair) * 2u) / 4u;
    vec4 low = turns[at], high = turns[at + 1u];
    vec4 c = vec4(low.xz, high.xz), s = vec4(low.yw, high.yw);
    if (p.halves != 0u) {
        return Eight(x.a * c - x.b * s, x.a * s + x.b * c);
    }
    vec4 even = vec4(x.a.xz, x.b.xz), odd = vec4(x.a.yw, x.b.yw);
    vec4 one = even * c - odd * s, other = even * s + odd * c;
    return Eight(vec4(one.x, other.x, one.y, other.y), vec4(one.z, other.z, one.w, other.w));
}

// Where both are in a head, in fours.
uvec2 places_of(uint pair) {
    return p.halves != 0u ? uvec2(pair, pair + p.pairs) / 4u : uvec2(pair / 2u, pair / 2u + 1u);
}

uvec2 as_halves(vec4 x) {
    uvec4 bits = floatBitsToUint(x);
    return uvec2(to_half(bits.x) | to_half(bits.y) << 16, to_half(bits.z) | to_half(bits.w) << 16);
}

void put(uint row, uint head, uvec2 places, Eight x) {
    uint position = parameters[p.rows_word + row * 4u + 1u], block = position / 64u;
    if (block >= p.block_first && block < p.block_end) {
        uint base = p.base_word + parameters[p.rows_word + row * 4u + 2u] + (block - p.block_first) * p.block_words + p.layer_word;
        uint to = base / 2u + (head * 64u + position % 64u) * (p.head_dim / 4u);
        blocks[to + places.x] = as_halves(x.a);
        blocks[to + places.y] = as_halves(x.b);
    }
}

void main() {
    uint row = p.row_first + gl_WorkGroupID.y, index = gl_GlobalInvocationID.x, eights = p.head_dim / 8u;
    if (index < p.q_heads * eights) {
        uint pair = 4u * (index % eights), first = (row * p.q_stride + index / eights * p.head_dim) / 4u;
        uvec2 at = first + places_of(pair);
        Eight x = turned(Eight(q[at.x], q[at.y]), p.q_word, row, pair);
        q[at.x] = x.a;
        q[at.y] = x.b;
        return;
    }
    index -= p.q_heads * eights;
    uint pair = 4u * (index % eights), head = index / eights;
    uvec2 places = places_of(pair);
    if (head < p.kv_heads) {
        uvec2 at = (row * p.stride + head * p.head_dim) / 4u + places;
        put(row, head, places, turned(Eight(k[at.x], k[at.y]), p.k_word, row, pair));
    } else if (head < 2u * p.kv_heads) {
        uvec2 at = (row * p.stride + (head - p.kv_heads) * p.head_dim) / 4u + places;
        put(row, head, places, Eight(v[at.x], v[at.y]));
    }
}
