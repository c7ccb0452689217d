// read.comp - reads all of a buffer: what the device's memory gives, for bench_vulkan.
#version 450
layout(local_size_x = 256) in;
layout(std430, binding = 2) readonly buffer Bytes { uvec4 bytes[]; };
layout(std430, binding = 6) writeonly buffer Sum { uint sum[]; };
layout(push_constant) uniform Push { uint count; } p; // of uvec4

void main() {
    uvec4 seen = uvec4(0u);
    uint stride = gl_NumWorkGroups.x * 256u;
    for (uint i = gl_GlobalInvocationID.x; i + 3u * stride < p.count; i += 4u * stride) {
        uvec4 a = bytes[i], b = bytes[i + stride], c = bytes[i + 2u * stride], d = bytes[i + 3u * stride];
        seen ^= a ^ b ^ c ^ d;
    }
    if ((seen.x ^ seen.y ^ seen.z ^ seen.w) == 0x9e3779b9u) { // never, but nobody can know
        sum[0] = seen.x;
    }
}
