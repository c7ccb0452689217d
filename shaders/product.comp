// product.comp - c[m][n] = a[m][k] * b[k][n], row-major, a and b in f32 or f16, c in f32: the guests' matmul. An
// invocation has one column and eight rows, so that b is read by neighbours side by side and a by all at once.
// variants: product_f32=-DHALF=0 product_f16=-DHALF=1
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer A { uint a[]; };
layout(std430, binding = 2) readonly buffer B { uint b[]; };
layout(std430, binding = 3) buffer C { float c[]; };
layout(push_constant) uniform Push {
    uint rows, columns, depth;                // of this part
    uint a_stride;                            // elements of a row of a
    uint a_first, b_first, c_first;           // elements, in the bindings
    uint accumulate;
} p;

float load_a(uint index) {
#if HALF
    vec2 pair = unpackHalf2x16(a[index >> 1]);
    return (index & 1u) != 0u ? pair.y : pair.x;
#else
    return uintBitsToFloat(a[index]);
#endif
}

float load_b(uint index) {
#if HALF
    vec2 pair = unpackHalf2x16(b[index >> 1]);
    return (index & 1u) != 0u ? pair.y : pair.x;
#else
    return uintBitsToFloat(b[index]);
#endif
}

void main() {
    uint row_first = gl_WorkGroupID.y * 8u;
    uint row_count = min(8u, p.rows - row_first);
    for (uint column = gl_GlobalInvocationID.x; column < p.columns; column += gl_NumWorkGroups.x * 64u) {
        float sums[8];
        for (uint r = 0u; r < 8u; r++) {
            sums[r] = 0.0;
        }
        for (uint k = 0u; k < p.depth; k++) {
            float value = load_b(p.b_first + k * p.columns + column);
            for (uint r = 0u; r < 8u; r++) {
                uint row = row_first + min(r, row_count - 1u);
                sums[r] = fma(load_a(p.a_first + row * p.a_stride + k), value, sums[r]);
            }
        }
        for (uint r = 0u; r < 8u; r++) {
            if (r < row_count) {
                uint index = p.c_first + (row_first + r) * p.columns + column;
                c[index] = p.accumulate != 0u ? c[index] + sums[r] : sums[r];
            }
        }
    }
}
