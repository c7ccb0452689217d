// matrix.glsl - what kernels for products of many rows share: what they are told, and where a sum goes.
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(std430, binding = 7) readonly buffer Factors { float factors[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight that were expanded
    uint w_first;                    // where they begin, in eights
    uint stride;                     // of a row of both factors, in eights
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
} p;

void store(uint row, uint o, float value) {
    if (row >= p.row_end || o >= p.weight_count) {
        return;
    }
    value *= factors[row];
    o += p.weight_first;
    if ((p.flags & 2u) != 0u) {
        value += bias[o];
    }
    if ((p.flags & 4u) != 0u) {
        value *= p.scale;
        if (p.softcap > 0.0) {
            float t = clamp(value / p.softcap, -20.0, 20.0);
            value = p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
        }
        y[parameters[p.outs_word + row * 2u + 1u] + o] = value;
    } else {
        uint index = row * p.y_stride + o;
        y[index] = (p.flags & 1u) != 0u ? y[index] + value : value;
    }
}
