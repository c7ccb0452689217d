// weights.glsl - taking apart the units in which weights are stored: 16 bytes of one row. src/device/vulkan/repack.c
// makes them. TYPE: 0 F32, 1 F16, 2 BF16, 3 Q8_0, 4 Q4_0.
#if TYPE == 0
const uint UNIT_PARTS = 1u, BLOCK_UNITS = 1u, STEP_BLOCKS = 1u;
#elif TYPE == 1 || TYPE == 2
const uint UNIT_PARTS = 2u, BLOCK_UNITS = 1u, STEP_BLOCKS = 1u;
#elif TYPE == 3
const uint UNIT_PARTS = 4u, BLOCK_UNITS = 2u, STEP_BLOCKS = 2u;
#else
const uint UNIT_PARTS = 8u, BLOCK_UNITS = 1u, STEP_BLOCKS = 2u;
#endif
#define SCALED (TYPE >= 3)

// The part-th four elements of a unit, without their scale.
vec4 unit_part(uvec4 unit, uint part) {
#if TYPE == 0
    return uintBitsToFloat(unit);
#elif TYPE == 1
    return vec4(unpackHalf2x16(unit[2u * part]), unpackHalf2x16(unit[2u * part + 1u]));
#elif TYPE == 2
    uint low = unit[2u * part], high = unit[2u * part + 1u];
    return uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u, high << 16, high & 0xffff0000u));
#elif TYPE == 3
    int word = int(unit[part]);
    return vec4(ivec4(word << 24, word << 16, word << 8, word) >> 24);
#else
    uint word = unit[part / 2u] >> (16u * (part & 1u));
    return vec4(ivec4((uvec4(word) >> uvec4(0u, 4u, 8u, 12u)) & 15u) - 8);
#endif
}
