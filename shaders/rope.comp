// rope.comp - rotates pairs of columns in place, by the table of cosines and sines that the host made for this run.
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 6) buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint stride, heads, head_columns, pairs;
    uint halves; // pairs (i, i + pairs) instead of (2i, 2i + 1)
    uint table_word;
} p;

void main() {
    uint index = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    if (index >= p.heads * p.pairs) {
        return;
    }
    uint head = index / p.pairs, pair = index % p.pairs;
    uint entry = p.table_word + (row * p.pairs + pair) * 2u;
    float c = uintBitsToFloat(parameters[entry]), s = uintBitsToFloat(parameters[entry + 1u]);
    uint first = row * p.stride + head * p.head_columns;
    uint at = first + (p.halves != 0u ? pair : 2u * pair), to = p.halves != 0u ? at + p.pairs : at + 1u;
    float a = dst[at], b = dst[to];
    dst[at] = a * c - b * s;
    dst[to] = a * s + b * c;
}
