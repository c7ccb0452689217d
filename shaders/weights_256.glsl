// weights_256.glsl - types whose blocks have 256 elements: a step each. The first word holds d and what else has 16
// bits; then come the scales of the sub-blocks as the file has them (src/dtype/blocks.h), then the high bits, in their
// order.
#if TYPE == Q2_K
const uint UNIT_PARTS = 16u, STEP_UNITS = 4u, UNIT_SUBS = 4u, SCALE_WORDS = 4u, WORDS = 5u;
#elif TYPE == Q3_K
const uint UNIT_PARTS = 16u, STEP_UNITS = 4u, UNIT_SUBS = 4u, SCALE_WORDS = 3u, WORDS = 12u;
#elif TYPE == Q4_K
const uint UNIT_PARTS = 8u, STEP_UNITS = 8u, UNIT_SUBS = 1u, SCALE_WORDS = 3u, WORDS = 4u;
#elif TYPE == Q5_K
const uint UNIT_PARTS = 8u, STEP_UNITS = 8u, UNIT_SUBS = 1u, SCALE_WORDS = 3u, WORDS = 12u;
#elif TYPE == Q6_K
const uint UNIT_PARTS = 8u, STEP_UNITS = 8u, UNIT_SUBS = 2u, SCALE_WORDS = 4u, WORDS = 21u;
#else
const uint UNIT_PARTS = 8u, STEP_UNITS = 8u, UNIT_SUBS = 1u, SCALE_WORDS = 1u, WORDS = 2u;
#endif
#if TYPE == Q2_K || TYPE == Q4_K || TYPE == Q5_K
#define SCALED 2
#else
#define SCALED 1
#endif

void begin_step(uint at, uint word_stride) {
    step_head = SCALE_WORD(at);
    step_scales.x = SCALE_WORD(at + word_stride);
#if TYPE != IQ4_XS
    step_scales.y = SCALE_WORD(at + 2u * word_stride);
    step_scales.z = SCALE_WORD(at + 3u * word_stride);
#endif
#if TYPE == Q2_K || TYPE == Q6_K
    step_scales.w = SCALE_WORD(at + 4u * word_stride);
#endif
}

void begin_unit(uint at, uint word_stride, uint u) {
    uint high = at + (1u + SCALE_WORDS) * word_stride;
#if TYPE == Q5_K
    unit_high.x = SCALE_WORD(high + u * word_stride);
#elif TYPE == Q3_K || TYPE == Q6_K
    unit_high.x = SCALE_WORD(high + 2u * u * word_stride);
    unit_high.y = SCALE_WORD(high + (2u * u + 1u) * word_stride);
#endif
}

// Part `part` as the file's unsigned numbers, a byte each.
uint unit_bytes(uvec4 unit, uint part) {
#if TYPE == Q2_K || TYPE == Q3_K
    uint n = bytes_of(unit[part / 4u], part & 3u, 2u);
#else
    uint n = bytes_of(unit[part / 2u], part & 1u, 4u);
#endif
#if TYPE == Q3_K
    n |= bytes_of(part < 8u ? unit_high.x : unit_high.y, part & 7u, 1u) << 2u;
#elif TYPE == Q5_K
    n |= bytes_of(unit_high.x, part, 1u) << 4u;
#elif TYPE == Q6_K
    n |= bytes_of(part < 4u ? unit_high.x : unit_high.y, part & 3u, 2u) << 4u;
#endif
    return n;
}

// What is to be subtracted from those.
#if TYPE == Q3_K
const int OFFSET = 4;
#elif TYPE == Q6_K
const int OFFSET = 32;
#else
const int OFFSET = 0;
#endif

vec4 unit_part(uvec4 unit, uint part) {
#if TYPE == Q3_K || TYPE == Q6_K
    return vec4(ivec4(four_of(unit_bytes(unit, part))) - OFFSET);
#else
    return values_of(four_of(unit_bytes(unit, part)));
#endif
}

// Byte i of the scales.
uint scale_byte(uint i) {
    return (step_scales[i / 4u] >> (8u * (i & 3u))) & 255u;
}

vec2 sub_scale(uint u, uint sub) {
    vec2 d = unpackHalf2x16(step_head);
    uint s = u * UNIT_SUBS + sub;
#if TYPE == Q2_K
    uint both = scale_byte(s);
    return d * vec2(float(both & 15u), -float(both >> 4));
#elif TYPE == Q3_K
    uint low = (scale_byte(s & 7u) >> (4u * (s / 8u))) & 15u;
    uint high = (scale_byte(8u + (s & 3u)) >> (2u * (s / 4u))) & 3u;
    return vec2(d.x * float(int(low | high << 4u) - 32), 0.0);
#elif TYPE == Q4_K || TYPE == Q5_K
    uint first = scale_byte(s & 3u), second = scale_byte(4u + (s & 3u)), third = scale_byte(8u + (s & 3u));
    uint scale = s < 4u ? first & 63u : (third & 15u) | (first >> 6u) << 4u;
    uint minimum = s < 4u ? second & 63u : (third >> 4u) | (second >> 6u) << 4u;
    return d * vec2(float(scale), -float(minimum));
#elif TYPE == Q6_K
    return vec2(d.x * float(int(scale_byte(s) << 24u) >> 24), 0.0);
#else
    uint low = (step_scales.x >> (4u * s)) & 15u, high = (step_head >> (16u + 2u * s)) & 3u;
    return vec2(d.x * float(int(low | high << 4u) - 32), 0.0);
#endif
}
