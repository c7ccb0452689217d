// file_matmul.comp - y[r][o] = sum_k w[o][k] * x[r][k] for ROWS rows at once over weights as the file has them, and
// what MATMUL and HEAD add to it.
//
// A SIMD group (of 32, as all of Apple's are) has WEIGHTS rows of weights, its lanes have groups of 32 columns, and the
// lanes' sums are added at the end: memory is read once and in order, and there is nothing to wait for. A row's bits do
// not depend on the rows beside it.
// variants: file_matmul_1=-DROWS=1 file_matmul_4=-DROWS=4
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
#include "file_product.glsl"

const uint WEIGHTS = 2u, SIMD_GROUPS = 2u;

float dot_by_fma(vec4 a, vec4 b, float sum) {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

void main() {
    uint lane = gl_SubgroupInvocationID, first = (gl_WorkGroupID.x * SIMD_GROUPS + gl_SubgroupID) * WEIGHTS;
    uint row_first = p.row_first + gl_WorkGroupID.y * uint(ROWS);
    if (first >= p.weight_count) { // the whole SIMD group
        return;
    }
    float sums[WEIGHTS * ROWS];
    for (uint i = 0u; i < WEIGHTS * uint(ROWS); i++) {
        sums[i] = 0.0;
    }
    for (uint group = lane; 32u * group < p.columns; group += 32u) {
        for (uint j = 0u; j < WEIGHTS; j++) {
            uint row = min(first + j, p.weight_count - 1u);
            vec4 weights[PARTS];
            take_weights(row, group, p.columns, weights);
            for (uint r = 0u; r < uint(ROWS); r++) {
                uint x_at = min(row_first + r, p.row_end - 1u) * p.x_stride + group * PARTS;
                for (uint i = 0u; i < PARTS; i++) {
                    sums[j * uint(ROWS) + r] = dot_by_fma(weights[i], x[x_at + i], sums[j * uint(ROWS) + r]);
                }
            }
        }
    }
    for (uint j = 0u; j < WEIGHTS; j++) {
        for (uint r = 0u; r < uint(ROWS); r++) {
            float sum = subgroupAdd(sums[j * uint(ROWS) + r]);
            if (lane == 0u && first + j < p.weight_count && row_first + r < p.row_end) {
                store(row_first + r, p.weight_first + first + j, sum);
            }
        }
    }
}
