// weights_affine.glsl - MLX's affine types: a step is 128 elements. Its words are the high bits, in the order of the
// elements, and then for each group scale and bias: one word of two 16-bit numbers, or two words. What differs from
// tensor to tensor is pushed: how many words a step has, and in p.affine the numbers' type (0 f16, 1 bf16, 2 f32) and,
// from bit 4 on, the group as a power of two.
#if TYPE == AFFINE2
const uint UNIT_PARTS = 16u, STEP_UNITS = 2u, UNIT_SUBS = 2u, HIGH_WORDS = 0u;
#elif TYPE == AFFINE3
const uint UNIT_PARTS = 16u, STEP_UNITS = 2u, UNIT_SUBS = 2u, HIGH_WORDS = 4u;
#elif TYPE == AFFINE4
const uint UNIT_PARTS = 8u, STEP_UNITS = 4u, UNIT_SUBS = 1u, HIGH_WORDS = 0u;
#elif TYPE == AFFINE5
const uint UNIT_PARTS = 8u, STEP_UNITS = 4u, UNIT_SUBS = 1u, HIGH_WORDS = 4u;
#elif TYPE == AFFINE6
const uint UNIT_PARTS = 8u, STEP_UNITS = 4u, UNIT_SUBS = 1u, HIGH_WORDS = 8u;
#else
const uint UNIT_PARTS = 4u, STEP_UNITS = 8u, UNIT_SUBS = 1u, HIGH_WORDS = 0u;
#endif
#define WORDS  p.step_words
#define SCALED 2

uint affine_at, affine_stride; // the step's words

void begin_step(uint at, uint word_stride) {
    affine_at = at;
    affine_stride = word_stride;
}

void begin_unit(uint at, uint word_stride, uint u) {
    affine_at = at;
    affine_stride = word_stride;
#if TYPE == AFFINE5
    unit_high.x = scales[at + u * word_stride];
#elif TYPE == AFFINE3 || TYPE == AFFINE6
    unit_high.x = scales[at + 2u * u * word_stride];
    unit_high.y = scales[at + (2u * u + 1u) * word_stride];
#endif
}

// Part `part` as the codes, a byte each.
uint unit_bytes(uvec4 unit, uint part) {
#if TYPE == AFFINE2 || TYPE == AFFINE3
    uint n = bytes_of(unit[part / 4u], part & 3u, 2u);
#elif TYPE == AFFINE8
    uint n = unit[part];
#else
    uint n = bytes_of(unit[part / 2u], part & 1u, 4u);
#endif
#if TYPE == AFFINE3
    n |= bytes_of(part < 8u ? unit_high.x : unit_high.y, part & 7u, 1u) << 2u;
#elif TYPE == AFFINE5
    n |= bytes_of(unit_high.x, part, 1u) << 4u;
#elif TYPE == AFFINE6
    n |= bytes_of(part < 4u ? unit_high.x : unit_high.y, part & 3u, 2u) << 4u;
#endif
    return n;
}

vec4 unit_part(uvec4 unit, uint part) {
    return vec4(four_of(unit_bytes(unit, part)));
}

vec2 sub_scale(uint u, uint sub) {
    uint group = (u * UNIT_PARTS * 4u + sub * 32u) >> (p.affine >> 4u), type = p.affine & 15u;
    if (type == 2u) {
        uint at = affine_at + (HIGH_WORDS + 2u * group) * affine_stride;
        return vec2(uintBitsToFloat(scales[at]), uintBitsToFloat(scales[at + affine_stride]));
    }
    uint both = scales[affine_at + (HIGH_WORDS + group) * affine_stride];
    return type == 0u ? unpackHalf2x16(both) : vec2(uintBitsToFloat(both << 16u), uintBitsToFloat(both & 0xffff0000u));
}
