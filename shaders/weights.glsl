// weights.glsl - taking apart weights as src/device/vulkan/repack.c lays them out.
//
// A step is what a kernel takes of a row at once: STEP_UNITS units of 16 bytes with the elements' low bits in the order
// of the row, and WORDS words with scales and high bits. A unit has UNIT_PARTS parts of four elements and UNIT_SUBS
// scales. TYPE is a spi_vk_type. Defined for it, besides those numbers: SCALED (0: values as they are, 1: times a
// scale, 2: and plus a minimum), begin_step, begin_unit, unit_part and, where SCALED, sub_scale.
#define F32 0
#define F16 1
#define BF16 2
#define Q8_0 3
#define Q4_0 4
#define Q4_1 5
#define Q5_0 6
#define Q5_1 7
#define IQ4_NL 8
#define MXFP4 9
#define Q2_K 10
#define Q3_K 11
#define Q4_K 12
#define Q5_K 13
#define Q6_K 14
#define IQ4_XS 15
#define AFFINE2 16
#define AFFINE3 17
#define AFFINE4 18
#define AFFINE5 19
#define AFFINE6 20
#define AFFINE8 21

// A kernel that has two weights says which one it means.
#ifndef SCALE_WORD
#define SCALE_WORD(at) scales[at]
#endif

uint step_head;    // the step's first word: f16 scales, or exponents
uvec4 step_scales; // of sub-blocks, as the file has them
uvec2 unit_high;   // the high bits of a unit

// Four elements that are neighbours in the row, as bytes: part `index` of words that hold them in `bits` bits each.
uint bytes_of(uint word, uint index, uint bits) {
    return (word >> (index * bits)) & (0x01010101u * ((1u << bits) - 1u));
}

uvec4 four_of(uint bytes) {
    return (uvec4(bytes) >> uvec4(0u, 8u, 16u, 24u)) & 255u;
}

#if TYPE == IQ4_NL || TYPE == IQ4_XS
const float VALUES[16] = float[](-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0,
                                 69.0, 89.0, 113.0);
#elif TYPE == MXFP4
const float VALUES[16] = float[](0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0,
                                 -12.0);
#endif

vec4 values_of(uvec4 n) {
#if TYPE == IQ4_NL || TYPE == IQ4_XS || TYPE == MXFP4
    return vec4(VALUES[n.x], VALUES[n.y], VALUES[n.z], VALUES[n.w]);
#else
    return vec4(n);
#endif
}

#if TYPE <= BF16
#include "weights_plain.glsl"
#elif TYPE <= MXFP4
#include "weights_32.glsl"
#elif TYPE <= IQ4_XS
#include "weights_256.glsl"
#else
#include "weights_affine.glsl"
#endif

const uint SUB_PARTS = UNIT_PARTS / UNIT_SUBS;
