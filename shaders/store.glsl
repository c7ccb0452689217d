// store.glsl - what becomes of a product's sum: a bias is added, and it goes to a row of scratch, or scaled and capped
// to one of logits. flags: 1 accumulate, 2 bias, 4 head.
#include "softcap.glsl"

// A kernel that has asked for what it adds to says so.
#ifndef STORE_ADDS
#define STORE_ADDS ((p.flags & 1u) != 0u)
#endif

void store(uint row, uint o, float value) {
    if ((p.flags & 2u) != 0u) {
        value += bias[o];
    }
    if ((p.flags & 4u) != 0u) {
        value *= p.scale;
        if (p.softcap > 0.0) {
            value = soft_cap(value);
        }
        y[parameters[p.outs_word + row * 2u + 1u] + o] = value;
    } else {
        uint index = row * p.y_stride + o;
        y[index] = STORE_ADDS ? y[index] + value : value;
    }
}
