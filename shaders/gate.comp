// gate.comp - dst[r][i] = act(src[r][i]) * src1[r][i]; SiLU, or GELU by tanh.
#version 450
layout(local_size_x = 64) in;
layout(std430, binding = 4) readonly buffer Src { float src[]; };
layout(std430, binding = 5) readonly buffer Src1 { float src1[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint stride, columns;
    uint gelu;
} p;

void main() {
    uint column = gl_GlobalInvocationID.x;
    if (column >= p.columns) {
        return;
    }
    uint index = gl_WorkGroupID.y * p.stride + column;
    float value = src[index];
    // tanh(t) = 2 / (1 + e^-2t) - 1, so GELU's half of (1 + tanh(t)) is a logistic function as well.
    float t = p.gelu != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    // e^88 is the last that f32 holds, and what is left out below it is less than 1e-36.
    float activated = t < -88.0 ? 0.0 : value / (1.0 + exp(-min(t, 88.0)));
    dst[index] = activated * src1[index];
}
