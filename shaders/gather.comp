// gather.comp - dst[i] = src[row of the i-th wanted output].
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 4) readonly buffer Src { float src[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
layout(push_constant) uniform Push { uint stride, columns, outs_word; } p;

void main() {
    uint column = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    if (column < p.columns) {
        dst[row * p.stride + column] = src[parameters[p.outs_word + row * 2u] * p.stride + column];
    }
}
