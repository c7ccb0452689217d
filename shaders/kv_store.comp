// kv_store.comp - rows of k and v to the sessions' blocks as f16; where the device has blocks of its own, to these and to
// the region.
// variants: kv_store=-DMIRROR=0 kv_store_mirrored=-DMIRROR=1
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) writeonly buffer Blocks { uint blocks[]; };     // two f16 a word
#if MIRROR
layout(std430, binding = 3) writeonly buffer Mirrored { uint mirrored[]; }; // the region's
#endif
layout(std430, binding = 4) readonly buffer K { uint k[]; };
layout(std430, binding = 5) readonly buffer V { uint v[]; };
layout(push_constant) uniform Push {
    uint row_first, stride, kv_heads, head_dim;
    uint rows_word, block_words, layer_word;
    uint block_first, block_end, base_word; // of this span
} p;
#include "half.glsl"

void main() {
    uint pairs = p.kv_heads * p.head_dim / 2u, index = gl_GlobalInvocationID.x;
    uint row = p.row_first + gl_WorkGroupID.y;
    uint position = parameters[p.rows_word + row * 4u + 1u], block = position / 64u;
    if (index >= 2u * pairs || block < p.block_first || block >= p.block_end) {
        return;
    }
    uint which = index / pairs, pair = index % pairs, head_pairs = p.head_dim / 2u;
    uint from = row * p.stride + 2u * pair;
    uint low = which == 0u ? k[from] : v[from], high = which == 0u ? k[from + 1u] : v[from + 1u];
    uint head = which * p.kv_heads + pair / head_pairs;
    uint to = p.base_word + parameters[p.rows_word + row * 4u + 2u] + (block - p.block_first) * p.block_words +
              p.layer_word + (head * 64u + position % 64u) * head_pairs + pair % head_pairs;
    uint word = to_half(low) | to_half(high) << 16;
    blocks[to] = word;
#if MIRROR
    mirrored[to] = word;
#endif
}
