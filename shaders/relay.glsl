// relay.glsl - a dispatch that waits for those before it by itself, not behind a barrier: see
// src/device/vulkan/relay.c. A kernel has RELAY_PUSH behind its other push constants (relay_push.glsl, included before
// them), and all its invocations call relay_wait() before they read what others of the run wrote, through `coherent`
// buffers. When its results are written, those that wrote call relay_signal, or all of a group relay_signal_group.
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
layout(std430, binding = 10) coherent buffer Counters { uint counters[]; };
layout(std430, binding = 11) writeonly buffer Late { uint late[]; };

const uint RELAY_OFF = 0x80000000u; // of a counter: nobody waits for it any more, nor for the next ones
const uint RELAY_NONE = 0xffffffffu;
const uint RELAY_POLLS = 1u << 15; // less than a microsecond each; that driver ends a loop that takes twice as many

void relay_wait() {
    if (p.wait_for == 0u) {
        return;
    }
    if (gl_LocalInvocationIndex == 0u) {
        // Relaxed: what others wrote is read where they wrote it, and an acquire would have caches forget the rest,
        // too.
        uint count = 0u;
        for (uint i = 0u; i < RELAY_POLLS; i++) { // both ends in its head: Mesa's software driver loses the invocation
            count = atomicLoad(counters[p.wait_at], gl_ScopeDevice, 0, 0);
            if (count >= p.wait_for) {
                break;
            }
        }
        if (count < p.wait_for) {
            late[0] = 1u;
            count = RELAY_OFF;
        }
        if (count >= RELAY_OFF) {
            atomicOr(counters[p.wait_at], RELAY_OFF);
            atomicOr(counters[p.signal_at], RELAY_OFF);
        }
    }
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer, gl_SemanticsAcquireRelease);
}

// count: what a subgroup adds, to the sum that spi_vk_dispatch's signals says.
void relay_signal(uint count) {
    if (p.signal_at != RELAY_NONE) {
        memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, gl_SemanticsRelease);
        subgroupBarrier();
        if (subgroupElect()) {
            atomicAdd(counters[p.signal_at], count);
        }
    }
}

// By one for the whole group.
void relay_signal_group() {
    if (p.signal_at != RELAY_NONE) {
        controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer, gl_SemanticsAcquireRelease);
        if (gl_LocalInvocationIndex == 0u) {
            memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, gl_SemanticsRelease);
            atomicAdd(counters[p.signal_at], 1u);
        }
    }
}
