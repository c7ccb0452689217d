// attention_merge.comp - what the ranges of attention_decode left, put together. A work group has a head of a row.
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 6) coherent writeonly buffer Dst { float dst[]; };
layout(std430, binding = 8) coherent readonly buffer Parts { float parts[]; };
#include "relay_push.glsl"
layout(push_constant) uniform Push {
    uint row_first, stride, heads, head_dim, rows_word, window, ranges;
    RELAY_PUSH;
} p;
#include "relay.glsl"

void main() {
    uint lane = gl_LocalInvocationIndex, head = gl_WorkGroupID.x, row = p.row_first + gl_WorkGroupID.y;
    uint position = parameters[p.rows_word + row * 4u + 1u];
    uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
    uint count = position / 64u + 1u - first / 64u, each = (count + p.ranges - 1u) / p.ranges;
    uint used = (count + each - 1u) / each, width = p.head_dim + 2u, at = (row * p.heads + head) * p.ranges * width;
    relay_wait();
    float top = parts[at];
    for (uint r = 1u; r < used; r++) {
        top = max(top, parts[at + r * width]);
    }
    float sum = 0.0;
    for (uint r = 0u; r < used; r++) {
        sum = fma(parts[at + r * width + 1u], exp(parts[at + r * width] - top), sum);
    }
    for (uint d = lane; d < p.head_dim; d += 64u) {
        float value = 0.0;
        for (uint r = 0u; r < used; r++) {
            value = fma(parts[at + r * width + 2u + d], exp(parts[at + r * width] - top), value);
        }
        dst[row * p.stride + head * p.head_dim + d] = value / sum;
    }
    relay_signal_group();
}
