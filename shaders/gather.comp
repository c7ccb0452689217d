// gather.comp - dst[i] = src[row of the i-th wanted output]; RELAY: waiting for src by itself.
// variants: gather=-DRELAY=0 gather_relay=-DRELAY=1
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
#if RELAY
#include "relay_push.glsl"
#define OF_OTHERS coherent
#else
#define OF_OTHERS
#endif
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 4) OF_OTHERS readonly buffer Src { float src[]; };
layout(std430, binding = 6) OF_OTHERS writeonly buffer Dst { float dst[]; };
layout(push_constant) uniform Push {
    uint stride, columns, outs_word;
#if RELAY
    RELAY_PUSH;
#endif
} p;
#if RELAY
#include "relay.glsl"
#endif

void main() {
    uint column = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
#if RELAY
    relay_wait();
#endif
    if (column < p.columns) {
        dst[row * p.stride + column] = src[parameters[p.outs_word + row * 2u] * p.stride + column];
    }
#if RELAY
    relay_signal_group();
#endif
}
