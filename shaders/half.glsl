// half.glsl - f32 (as bits) to f16, rounded to nearest even by integers alone: the built-in conversion may round as it
// likes, and blocks written by different devices have to be the same.
uint to_half(uint bits) {
    uint sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return sign | 0x7e00u | (magnitude >> 13 & 0x3ffu);
    }
    if (magnitude >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    if (magnitude < 0x38800000u) { // subnormal: units of 2^-24
        uint shift = 126u - (magnitude >> 23), fraction = (magnitude & 0x7fffffu) | 0x800000u;
        if (shift > 24u) {
            return sign;
        }
        uint odd = fraction >> shift & 1u;
        return sign | (fraction + (1u << (shift - 1u)) - 1u + odd) >> shift;
    }
    return sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
}
