// weights_plain.glsl - F32, F16 and BF16: a unit is a step, and there are no scales.
#if TYPE == F32
const uint UNIT_PARTS = 1u;
#else
const uint UNIT_PARTS = 2u;
#endif
const uint STEP_UNITS = 1u, UNIT_SUBS = 1u, WORDS = 0u;
#define SCALED 0

void begin_step(uint at, uint word_stride) {}

void begin_unit(uint at, uint word_stride, uint u) {}

vec4 unit_part(uvec4 unit, uint part) {
#if TYPE == F32
    return uintBitsToFloat(unit);
#elif TYPE == F16
    return vec4(unpackHalf2x16(unit[2u * part]), unpackHalf2x16(unit[2u * part + 1u]));
#else
    uint low = unit[2u * part], high = unit[2u * part + 1u];
    return uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u, high << 16, high & 0xffff0000u));
#endif
}
