// bounds.comp - the largest sum of squares that a row of a weight has, of rows that expand.comp left: see halves.comp.
// An invocation has a row.
#version 450
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_basic : require
layout(local_size_x = 256) in;
layout(std430, binding = 2) readonly buffer Expanded { uvec4 expanded[]; }; // eight f16
layout(std430, binding = 6) buffer Tops { uint tops[]; };                   // floats; those of no sign are in order as bits
layout(push_constant) uniform Push {
    uint rows, stride; // in eights
    uint at;
} p;

float square(uint word) {
    vec2 pair = unpackHalf2x16(word);
    return dot(pair, pair);
}

void main() {
    uint row = gl_GlobalInvocationID.x;
    float sum = 0.0;
    for (uint e = 0u; row < p.rows && e < p.stride; e++) {
        uvec4 eight = expanded[(row / 32u * p.stride + e) * 32u + row % 32u];
        sum += square(eight.x) + square(eight.y) + square(eight.z) + square(eight.w);
    }
    float most = subgroupMax(sum);
    if (subgroupElect()) {
        atomicMax(tops[p.at], floatBitsToUint(most));
    }
}
