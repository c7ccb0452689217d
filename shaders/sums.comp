// sums.comp - what the groups that share a product's columns have summed up, added in the order of the columns, times
// the row's factor: to y, or added to it. See matrix.comp.
#version 450
layout(local_size_x = 128) in;
layout(std430, binding = 4) readonly buffer Shares { vec4 shares[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { vec4 y[]; };
layout(std430, binding = 7) readonly buffer Factors { float factors[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // columns of y
    uint y_stride, row_first;
    uint factors_first, flags;              // 1 accumulate, 2 bias
    uint shares_first, stride, rows, count; // where they are, and of each: a row, how many rows; all of them
} p;

void main() {
    uint o = 4u * gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    if (o >= p.weight_count) {
        return;
    }
    uint at = (p.shares_first + row * p.stride + o) / 4u, to = ((p.row_first + row) * p.y_stride + p.weight_first + o) / 4u;
    vec4 sum = shares[at];
    for (uint i = 1u; i < p.count; i++) {
        sum += shares[at + i * (p.rows * p.stride / 4u)];
    }
    sum *= factors[p.factors_first + p.row_first + row];
    if ((p.flags & 2u) != 0u) {
        for (uint i = 0u; i < 4u; i++) {
            sum[i] += o + i < p.weight_count ? bias[p.weight_first + o + i] : 0.0;
        }
    }
    sum = mix(vec4(0.0), sum, lessThan(uvec4(o, o + 1u, o + 2u, o + 3u), uvec4(p.weight_count))); // y's padding is zero
    y[to] = (p.flags & 1u) != 0u ? y[to] + sum : sum;
}
