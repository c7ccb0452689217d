// bounds.comp - the largest sum of squares that a row of a weight has, of rows that expand.comp left: see halves.comp.
// A subgroup has a row.
#version 450
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(constant_id = 1) const uint SUBGROUP = 32;
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
    uint row = gl_WorkGroupID.x * (256u / SUBGROUP) + gl_LocalInvocationIndex / SUBGROUP;
    float sum = 0.0;
    for (uint e = gl_LocalInvocationIndex % SUBGROUP; row < p.rows && e < p.stride; e += SUBGROUP) {
        uvec4 eight = expanded[row * p.stride + e];
        sum += square(eight.x) + square(eight.y) + square(eight.z) + square(eight.w);
    }
    sum = subgroupAdd(sum);
    if (row < p.rows && gl_LocalInvocationIndex % SUBGROUP == 0u) {
        atomicMax(tops[p.at], floatBitsToUint(sum));
    }
}
