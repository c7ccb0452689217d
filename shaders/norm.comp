// norm.comp - dst = src * weight / sqrt(mean(src^2) + eps) over each group of columns. One work group has one group of
// columns; src and dst may be the same buffer, since an invocation writes only what it alone has read.
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 4) readonly buffer Src { float src[]; };
layout(std430, binding = 5) readonly buffer Weight { float weight[]; };
layout(std430, binding = 6) buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint stride, group;
    float eps;
} p;
shared float squares[64];

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint first = gl_WorkGroupID.y * p.stride + gl_WorkGroupID.x * p.group;
    float sum = 0.0;
    for (uint i = lane; i < p.group; i += 64u) {
        float value = src[first + i];
        sum = fma(value, value, sum);
    }
    squares[lane] = sum;
    barrier();
    sum = 0.0;
    for (uint i = 0u; i < 64u; i++) {
        sum += squares[i];
    }
    float factor = 1.0 / sqrt(sum / float(p.group) + p.eps);
    for (uint i = lane; i < p.group; i += 64u) {
        dst[first + i] = src[first + i] * factor * weight[i];
    }
}
