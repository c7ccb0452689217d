// add.comp - dst[r][i] += scale * src[r][i].
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 4) readonly buffer Src { float src[]; };
layout(std430, binding = 6) buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint stride, columns;
    float scale;
} p;

void main() {
    uint column = gl_GlobalInvocationID.x;
    if (column < p.columns) {
        uint index = gl_WorkGroupID.y * p.stride + column;
        dst[index] = fma(p.scale, src[index], dst[index]);
    }
}
