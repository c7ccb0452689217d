// kv_copy.comp - rows of k and v in f16 that kv_store put to the device's own blocks, to the region's: beside the
// gate's products, which take longer, or else beside attention. A few work groups have all rows, so that most of the
// device is the others' while the bus is busy.
#version 450
layout(local_size_x = 128) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Blocks { uvec4 blocks[]; }; // eight f16
layout(std430, binding = 3) writeonly buffer Region { uvec4 region[]; };
layout(push_constant) uniform Push {
    uint row_first, row_count, kv_heads, head_dim;
    uint rows_word, block_words, layer_word;
    uint block_first, block_end, base_word; // of this span
} p;

void main() {
    uint eights = p.head_dim / 8u, pieces = 2u * p.kv_heads * eights;
    for (uint i = gl_GlobalInvocationID.x; i < p.row_count * pieces; i += gl_NumWorkGroups.x * 128u) {
        uint row = p.row_first + i / pieces, head = i % pieces / eights;
        uint position = parameters[p.rows_word + row * 4u + 1u], block = position / 64u;
        if (block >= p.block_first && block < p.block_end) {
            uint session = p.base_word + parameters[p.rows_word + row * 4u + 2u];
            uint base = session + (block - p.block_first) * p.block_words + p.layer_word;
            uint at = base / 4u + (head * 64u + position % 64u) * eights + i % eights;
            region[at] = blocks[at];
        }
    }
}
