// file_weights.glsl - 32 neighbouring weights of a row, straight out of the blocks that model files have
// (src/dtype/blocks.h, src/dtype/affine.h), so that a mapped file can be computed on as it lies.
//
// A file promises no alignment but that of elements and f16 scales, so words are put together from two where they must
// be. TYPE is an sp_dtype and known when a pipeline is made: the compiler leaves only one branch of each chain.
layout(constant_id = 0) const uint TYPE = 0u;
layout(std430, binding = 2) readonly buffer Words { uint words[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };  // of affine types
layout(std430, binding = 7) readonly buffer Biases { uint biases[]; };

#define F32 0u
#define F16 1u
#define Q4_0 2u
#define Q4_1 3u
#define Q5_0 6u
#define Q5_1 7u
#define Q8_0 8u
#define Q2_K 10u
#define Q3_K 11u
#define Q4_K 12u
#define Q5_K 13u
#define Q6_K 14u
#define IQ4_NL 20u
#define IQ4_XS 23u
#define BF16 30u
#define MXFP4 39u
#define AFFINE 1000u // and the bits of a code

const uint PARTS = 8u; // of four weights each

// Sixteen signed bytes: spi_mxfp4_values or spi_iq4_values. Numbers by themselves, since these are constants that
// follow from a pipeline's, and not every compiler of those has to know vectors.
const uint VALUES_0 = TYPE == MXFP4 ? 0x03020100u : 0xbfad9881u;
const uint VALUES_4 = TYPE == MXFP4 ? 0x0c080604u : 0xf6eaddcfu;
const uint VALUES_8 = TYPE == MXFP4 ? 0xfdfeff00u : 0x26190d01u;
const uint VALUES_12 = TYPE == MXFP4 ? 0xf4f8fafcu : 0x71594535u;

// Four bytes from any byte on. The second word is touched only if a byte of it is wanted.
uint word_at(uint at) {
    uint shift = (at & 3u) * 8u, word = words[at >> 2u] >> shift;
    if (shift != 0u) {
        word |= words[(at >> 2u) + 1u] << (32u - shift);
    }
    return word;
}

uint byte_at(uint at) {
    return (words[at >> 2u] >> ((at & 3u) * 8u)) & 255u;
}

// Sixteen bits from an even byte on.
uint half_at(uint at) {
    return (words[at >> 2u] >> ((at & 2u) * 8u)) & 0xffffu;
}

float scale_at(uint at) {
    return unpackHalf2x16(half_at(at)).x;
}

// Of each of a word's four bytes the bits from `shift` on.
uvec4 bits_of(uint word, uint shift, uint bits) {
    return (uvec4(word >> shift) >> uvec4(0u, 8u, 16u, 24u)) & ((1u << bits) - 1u);
}

vec4 signed_of(uint word) {
    return vec4(ivec4(uvec4(word) << uvec4(24u, 16u, 8u, 0u)) >> 24); // shifted without a sign, so that none is lost
}

float plain_at(uint at, uint element) {
    if (TYPE == F32) {
        return uintBitsToFloat(words[(at >> 2u) + element]);
    }
    uint bits = half_at(at + 2u * element);
    return TYPE == F16 ? unpackHalf2x16(bits).x : uintBitsToFloat(bits << 16);
}

// The types that have no blocks; a row may end inside of the 32, and then nothing behind it is read.
void plain_weights(uint at, uint count, out vec4 weights[PARTS]) {
    for (uint i = 0u; i < PARTS; i++) {
        if (count < 32u) {
            for (uint k = 0u; k < 4u; k++) {
                weights[i][k] = 4u * i + k < count ? plain_at(at, 4u * i + k) : 0.0;
            }
        } else if (TYPE == F32) {
            uint from = (at >> 2u) + 4u * i;
            weights[i] = uintBitsToFloat(uvec4(words[from], words[from + 1u], words[from + 2u], words[from + 3u]));
        } else {
            uint low = word_at(at + 8u * i), high = word_at(at + 8u * i + 4u);
            if (TYPE == F16) {
                weights[i] = vec4(unpackHalf2x16(low), unpackHalf2x16(high));
            } else {
                weights[i] = uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u, high << 16, high & 0xffff0000u));
            }
        }
    }
}

float mxfp4_scale(uint exponent) {
    return uintBitsToFloat(exponent < 2u ? 0x00200000u << exponent : (exponent - 1u) << 23u);
}

float value_of(uint n) {
    uint word = n < 8u ? (n < 4u ? VALUES_0 : VALUES_4) : (n < 12u ? VALUES_8 : VALUES_12);
    return float(int(word << (24u - 8u * (n & 3u))) >> 24);
}

vec4 nibble_values(uvec4 n) {
    if (TYPE == MXFP4 || TYPE == IQ4_NL || TYPE == IQ4_XS) {
        return vec4(value_of(n.x), value_of(n.y), value_of(n.z), value_of(n.w));
    }
    return vec4(n);
}

// One block of 32.
void small_weights(uint at, out vec4 weights[PARTS]) {
    if (TYPE == Q8_0) {
        float scale = scale_at(at);
        for (uint i = 0u; i < PARTS; i++) {
            weights[i] = scale * signed_of(word_at(at + 2u + 4u * i));
        }
        return;
    }
    bool has_minimum = TYPE == Q4_1 || TYPE == Q5_1, has_fifth = TYPE == Q5_0 || TYPE == Q5_1;
    float scale = TYPE == MXFP4 ? mxfp4_scale(byte_at(at)) : scale_at(at), minimum = 0.0;
    uint from = at + (TYPE == MXFP4 ? 1u : 2u), high = 0u;
    if (has_minimum) {
        minimum = scale_at(from);
        from += 2u;
    }
    if (has_fifth) {
        high = word_at(from);
        from += 4u;
    }
    float less = TYPE == Q4_0 ? 8.0 : TYPE == Q5_0 ? 16.0 : 0.0;
    for (uint i = 0u; i < 4u; i++) {
        uint word = word_at(from + 4u * i);
        uvec4 low_half = bits_of(word, 0u, 4u), high_half = bits_of(word, 4u, 4u);
        if (has_fifth) {
            low_half |= ((uvec4(high >> (4u * i)) >> uvec4(0u, 1u, 2u, 3u)) & 1u) << 4u;
            high_half |= ((uvec4(high >> (4u * i + 16u)) >> uvec4(0u, 1u, 2u, 3u)) & 1u) << 4u;
        }
        weights[i] = fma(vec4(scale), nibble_values(low_half) - less, vec4(minimum));
        weights[i + 4u] = fma(vec4(scale), nibble_values(high_half) - less, vec4(minimum));
    }
}

// Scale and minimum of sub-block s of a block of 256; of Q2_K, Q3_K and Q6_K these have 16 weights, of the others 32.
vec2 sub_scale(uint at, uint s) {
    if (TYPE == Q2_K) {
        uint both = byte_at(at + s);
        return vec2(scale_at(at + 80u) * float(both & 15u), -scale_at(at + 82u) * float(both >> 4u));
    }
    if (TYPE == Q3_K) {
        uint low = (byte_at(at + 96u + (s & 7u)) >> (4u * (s >> 3u))) & 15u;
        uint high = (byte_at(at + 104u + (s & 3u)) >> (2u * (s >> 2u))) & 3u;
        return vec2(scale_at(at + 108u) * float(int(low | high << 4u) - 32), 0.0);
    }
    if (TYPE == Q6_K) {
        return vec2(scale_at(at + 208u) * float(int(byte_at(at + 192u + s) << 24u) >> 24), 0.0);
    }
    if (TYPE == IQ4_XS) {
        uint low = (byte_at(at + 4u + (s >> 1u)) >> (4u * (s & 1u))) & 15u;
        uint high = (half_at(at + 2u) >> (2u * s)) & 3u;
        return vec2(scale_at(at) * float(int(low | high << 4u) - 32), 0.0);
    }
    uint first = byte_at(at + 4u + (s & 3u)), second = byte_at(at + 8u + (s & 3u)), third = byte_at(at + 12u + (s & 3u));
    uint scale = s < 4u ? first & 63u : (third & 15u) | (first >> 6u) << 4u;
    uint minimum = s < 4u ? second & 63u : (third >> 4u) | (second >> 6u) << 4u;
    return vec2(scale_at(at) * float(scale), -scale_at(at + 2u) * float(minimum));
}

// Four quants of group g (32 weights) of a block of 256, without their scale.
vec4 quants_of(uint at, uint g, uint i) {
    if (TYPE == Q2_K) {
        return vec4(bits_of(word_at(at + 16u + 32u * (g >> 2u) + 4u * i), 2u * (g & 3u), 2u));
    }
    if (TYPE == Q3_K) {
        uvec4 low = bits_of(word_at(at + 32u + 32u * (g >> 2u) + 4u * i), 2u * (g & 3u), 2u);
        return vec4(ivec4(low | bits_of(word_at(at + 4u * i), g, 1u) << 2u) - 4);
    }
    if (TYPE == Q4_K) {
        return vec4(bits_of(word_at(at + 16u + 32u * (g >> 1u) + 4u * i), 4u * (g & 1u), 4u));
    }
    if (TYPE == Q5_K) {
        uvec4 low = bits_of(word_at(at + 48u + 32u * (g >> 1u) + 4u * i), 4u * (g & 1u), 4u);
        return vec4(low | bits_of(word_at(at + 16u + 4u * i), g, 1u) << 4u);
    }
    if (TYPE == Q6_K) {
        uint r = g & 3u;
        uvec4 low = bits_of(word_at(at + 64u * (g >> 2u) + 32u * (r & 1u) + 4u * i), 4u * (r >> 1u), 4u);
        uvec4 high = bits_of(word_at(at + 128u + 32u * (g >> 2u) + 4u * i), 2u * r, 2u);
        return vec4(ivec4(low | high << 4u) - 32);
    }
    return nibble_values(bits_of(word_at(at + 8u + 16u * g + 4u * (i & 3u)), i < 4u ? 0u : 4u, 4u)); // IQ4_XS
}

uint super_bytes() {
    return TYPE == Q2_K ? 84u : TYPE == Q3_K ? 110u : TYPE == Q4_K ? 144u : TYPE == Q5_K ? 176u : TYPE == Q6_K ? 210u : 136u;
}

void super_weights(uint at, uint g, out vec4 weights[PARTS]) {
    bool sixteens = TYPE == Q2_K || TYPE == Q3_K || TYPE == Q6_K;
    vec2 scale = sub_scale(at, sixteens ? 2u * g : g), other = scale;
    if (sixteens) {
        other = sub_scale(at, 2u * g + 1u);
    }
    for (uint i = 0u; i < PARTS; i++) {
        vec2 mine = i < 4u ? scale : other;
        weights[i] = fma(vec4(mine.x), quants_of(at, g, i), vec4(mine.y));
    }
}

// A number of a plane: p.affine has its type (0 f16, 1 bf16, 2 f32) and, from bit 4 on, the group as a power of two.
float plane_number(uint word, uint at) {
    if ((p.affine & 15u) == 2u) {
        return uintBitsToFloat(word);
    }
    uint bits = (word >> ((at & 2u) * 8u)) & 0xffffu;
    return (p.affine & 15u) == 0u ? unpackHalf2x16(bits).x : uintBitsToFloat(bits << 16);
}

// Codes of TYPE - AFFINE bits, one behind the other. Four of them lie in the four bytes that begin with the first
// one's, or, at the block's end, in its last four: nothing behind it is read.
void affine_weights(uint at, uint index, out vec4 weights[PARTS]) {
    uint bits = TYPE - AFFINE, number_bytes = (p.affine & 15u) == 2u ? 4u : 2u;
    uint scale_at = p.scales_first + index * number_bytes, bias_at = p.biases_first + index * number_bytes;
    float scale = plane_number(scales[scale_at >> 2u], scale_at), bias = plane_number(biases[bias_at >> 2u], bias_at);
    for (uint i = 0u; i < PARTS; i++) {
        uint bit = 4u * i * bits, byte = min(bit >> 3u, 4u * bits - 4u);
        uint word = word_at(at + byte) >> (bit - 8u * byte);
        uvec4 codes = (uvec4(word) >> (uvec4(0u, 1u, 2u, 3u) * bits)) & ((1u << bits) - 1u);
#ifdef TWO_ROUNDINGS
        precise vec4 product = vec4(codes) * scale, sum = product + bias;
        weights[i] = sum;
#else
        weights[i] = fma(vec4(codes), vec4(scale), vec4(bias));
#endif
    }
}

// Weights 32 * group .. of a row of the piece; zeros behind its last column.
void take_weights(uint row, uint group, uint columns, out vec4 weights[PARTS]) {
    uint at = p.byte_first + row * p.row_bytes;
    if (TYPE >= AFFINE) {
        uint shift = p.affine >> 4u;
        affine_weights(at + group * 4u * (TYPE - AFFINE), row * (columns >> shift) + (32u * group >> shift), weights);
    } else if (TYPE == F32) {
        plain_weights(at + 128u * group, min(32u, columns - 32u * group), weights);
    } else if (TYPE == F16 || TYPE == BF16) {
        plain_weights(at + 64u * group, min(32u, columns - 32u * group), weights);
    } else if (TYPE == Q2_K || TYPE == Q3_K || TYPE == Q4_K || TYPE == Q5_K || TYPE == Q6_K || TYPE == IQ4_XS) {
        super_weights(at + (group >> 3u) * super_bytes(), group & 7u, weights);
    } else {
        uint bytes = TYPE == Q8_0                      ? 34u
                     : TYPE == Q4_1                    ? 20u
                     : TYPE == Q5_0                    ? 22u
                     : TYPE == Q5_1                    ? 24u
                     : TYPE == MXFP4                   ? 17u
                                                       : 18u;
        small_weights(at + group * bytes, weights);
    }
}
