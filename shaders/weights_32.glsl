// weights_32.glsl - types whose blocks have 32 elements: one unit each, two for Q8_0. The first word holds the f16
// scales of a step's two blocks, or a block's scale and minimum, or four exponents; the fifth bits of Q5_0 and Q5_1
// follow.
#if TYPE == Q8_0
const uint UNIT_PARTS = 4u, STEP_UNITS = 4u, WORDS = 1u;
#elif TYPE == Q4_0 || TYPE == IQ4_NL
const uint UNIT_PARTS = 8u, STEP_UNITS = 2u, WORDS = 1u;
#elif TYPE == Q5_0
const uint UNIT_PARTS = 8u, STEP_UNITS = 2u, WORDS = 3u;
#elif TYPE == Q4_1
const uint UNIT_PARTS = 8u, STEP_UNITS = 1u, WORDS = 1u;
#elif TYPE == Q5_1
const uint UNIT_PARTS = 8u, STEP_UNITS = 1u, WORDS = 2u;
#else
const uint UNIT_PARTS = 8u, STEP_UNITS = 4u, WORDS = 1u;
#endif
const uint UNIT_SUBS = 1u;
#if TYPE == Q4_1 || TYPE == Q5_1
#define SCALED 2
#else
#define SCALED 1
#endif

void begin_step(uint at, uint word_stride) {
    step_head = SCALE_WORD(at);
}

void begin_unit(uint at, uint word_stride, uint u) {
#if TYPE == Q5_0 || TYPE == Q5_1
    unit_high.x = SCALE_WORD(at + (1u + u) * word_stride);
#endif
}

// Part `part` as the file's unsigned numbers, a byte each; Q8_0's are signed.
uint unit_bytes(uvec4 unit, uint part) {
#if TYPE == Q8_0
    return unit[part];
#else
    uint n = bytes_of(unit[part / 2u], part & 1u, 4u);
#if TYPE == Q5_0 || TYPE == Q5_1
    n |= bytes_of(unit_high.x, part, 1u) << 4u;
#endif
    return n;
#endif
}

// What is to be subtracted from those.
#if TYPE == Q4_0
const int OFFSET = 8;
#elif TYPE == Q5_0
const int OFFSET = 16;
#else
const int OFFSET = 0;
#endif

vec4 unit_part(uvec4 unit, uint part) {
    uint bytes = unit_bytes(unit, part);
#if TYPE == Q8_0
    return vec4(ivec4(int(bytes) << 24, int(bytes) << 16, int(bytes) << 8, int(bytes)) >> 24);
#elif TYPE == Q4_0 || TYPE == Q5_0
    return vec4(ivec4(four_of(bytes)) - OFFSET);
#else
    return values_of(four_of(bytes));
#endif
}

vec2 sub_scale(uint u, uint sub) {
#if TYPE == MXFP4
    uint exponent = (step_head >> (8u * u)) & 255u;
    return vec2(uintBitsToFloat(exponent < 2u ? 0x00200000u << exponent : (exponent - 1u) << 23u), 0.0);
#elif TYPE == Q4_1 || TYPE == Q5_1
    return unpackHalf2x16(step_head);
#elif TYPE == Q8_0
    vec2 pair = unpackHalf2x16(step_head);
    return vec2(u < 2u ? pair.x : pair.y, 0.0);
#else
    vec2 pair = unpackHalf2x16(step_head);
    return vec2(u == 0u ? pair.x : pair.y, 0.0);
#endif
}
