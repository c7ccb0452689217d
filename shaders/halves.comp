// halves.comp - rows of x as f16 for matrix.comp, each scaled by a power of two so that its largest value is below
// 2^14; with an RMS norm or the gate on the way: x * w / rms, or act(x) * other. A work group has a row, whose values
// stay in registers until the largest is known; those of very long rows are computed again. For a norm whose products
// are the gate's two, it says how large act(a) * b can be: |a| is at most |x| times the largest |w|, and |act(a)| is at
// most |a|. Rows stand in panels of 32 columns, [panel][row][32], for few.comp of 16: so that a matrix of 16 x 16 is
// read out of one piece. KEPT: how much of a row stays in registers, which are fewer where rows are short: more work
// groups are under way then. SUMS: of a residual row to which the sums of a product's shares are added first
// (sums.comp); all of it is in registers.
// variants: halves=-DKEPT=8,-DSUMS=0 halves_short=-DKEPT=2,-DSUMS=0 halves_sums=-DKEPT=2,-DSUMS=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(constant_id = 1) const uint SUBGROUP = 32;
layout(local_size_x = 256) in;
layout(std430, binding = 2) readonly buffer Tops { float tops[]; }; // bounds.comp's
#if SUMS
layout(std430, binding = 3) readonly buffer Shares { vec4 shares[]; }; // matrix.comp's
layout(std430, binding = 4) buffer X { vec4 x[]; };
#else
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
#endif
layout(std430, binding = 5) readonly buffer Other { vec4 other[]; }; // the norm's weight, or the gate's other factor
layout(std430, binding = 6) writeonly buffer Halves { uvec2 halves[]; };
layout(std430, binding = 7) buffer Factors { float factors[]; }; // what products of a row are multiplied with
layout(push_constant) uniform Push {
    uint x_stride, columns; // of x; in fours, and what the row has
    uint stride;            // a row with its padding, in fours
    uint mode;              // 0 x alone, 1 norm, 2 SiLU gate, 3 GELU gate
    float eps;
    uint side_by_side; // so many rows; 0: panels
    uint gated_first;  // where factors of act(a) * b go; 0: nobody asks for them
    uint tops_at;      // of the gate's two weights
    uint panel;        // rows of a panel
    uint factors_first, share_stride, share_rows, shares; // of the product, if its sums are added
} p;
const uint THREADS = 256u; // each has fours of a row
shared float tallest[32], squares[32], lengths[32];

// x of a row, to which what is still missing of it is added.
vec4 own_at(uint row, uint at, uint i) {
    vec4 value = x[at];
#if SUMS
    uint step = p.share_rows * p.share_stride / 4u, from = row * p.share_stride / 4u + i;
    vec4 sum = shares[from];
    for (uint s = 1u; s < p.shares; s++) {
        sum += shares[from + s * step];
    }
    value += sum * factors[p.factors_first + row];
    x[at] = value;
#endif
    return value;
}

vec4 value_of(vec4 value, uint at, uint i) {
    if (p.mode == 1u) {
        return value * other[i];
    }
    if (p.mode >= 2u) {
        vec4 t = p.mode == 3u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
        vec4 activated = mix(value / (1.0 + exp(-min(t, vec4(88.0)))), vec4(0.0), lessThan(t, vec4(-88.0)));
        return activated * other[at];
    }
    return value;
}

float largest(vec4 value) {
    vec4 m = abs(value);
    return max(max(m.x, m.y), max(m.z, m.w));
}

int exponent_of(float value) {
    return clamp(int(floatBitsToUint(value) >> 23) - 127, -100, 100);
}

void put(uint row, uint i, vec4 value) {
    uint to = p.side_by_side > 0u ? (i / 4u * p.side_by_side + row) * 4u + i % 4u : (i / 8u * p.panel + row) * 8u + i % 8u;
    halves[to] = uvec2(packHalf2x16(value.xy), packHalf2x16(value.zw));
}

void main() {
    uint thread = gl_LocalInvocationIndex, row = gl_WorkGroupID.x, fours = (p.columns + 3u) / 4u;
    float top = 0.0, square = 0.0, whole = 0.0; // the largest, and sums of squares of x and of what becomes of it
    float bound = 0.0; // asked for together with x: far away, and wanted at the end
    if (p.gated_first > 0u) {
        bound = sqrt(tops[p.tops_at]) * sqrt(tops[p.tops_at + 1u]);
    }
    vec4 kept[KEPT];
    [[unroll]] for (uint k = 0u; k < uint(KEPT); k++) {
        uint i = thread + THREADS * k, at = row * p.x_stride + i;
        kept[k] = vec4(0.0);
        if (i < fours) {
            vec4 own = own_at(row, at, i);
            kept[k] = value_of(own, at, i);
            square += p.mode == 1u ? dot(own, own) : 0.0;
        }
    }
    [[unroll]] for (uint k = 0u; k < uint(KEPT); k++) {
        top = max(top, largest(kept[k]));
        whole += dot(kept[k], kept[k]);
    }
    for (uint i = thread + THREADS * uint(KEPT); i < fours; i += THREADS) {
        uint at = row * p.x_stride + i;
        vec4 value = value_of(x[at], at, i);
        top = max(top, largest(value));
        whole += dot(value, value);
        square += p.mode == 1u ? dot(x[at], x[at]) : 0.0;
    }
    top = subgroupMax(top);
    square = subgroupAdd(square);
    whole = subgroupAdd(whole);
    if (thread % SUBGROUP == 0u) {
        tallest[thread / SUBGROUP] = top;
        squares[thread / SUBGROUP] = square;
        lengths[thread / SUBGROUP] = whole;
    }
    barrier();
    top = 0.0;
    square = 0.0;
    whole = 0.0;
    for (uint s = 0u; s < THREADS / SUBGROUP; s++) {
        top = max(top, tallest[s]);
        square += squares[s];
        whole += lengths[s];
    }
    float norm = p.mode == 1u ? 1.0 / sqrt(square / float(p.columns) + p.eps) : 1.0;
    int exponent = exponent_of(top * norm);
    float scale = uintBitsToFloat(uint(127 + 13 - exponent) << 23);
    [[unroll]] for (uint k = 0u; k < uint(KEPT); k++) {
        if (thread + THREADS * k < p.stride) {
            put(row, thread + THREADS * k, kept[k] * norm * scale);
        }
    }
    for (uint i = thread + THREADS * uint(KEPT); i < p.stride; i += THREADS) {
        uint at = row * p.x_stride + i;
        put(row, i, i < fours ? value_of(x[at], at, i) * norm * scale : vec4(0.0));
    }
    if (thread == 0u) {
        factors[row] = uintBitsToFloat(uint(127 - 13 + exponent) << 23);
        if (p.gated_first > 0u) {
            float most = whole * norm * norm * bound;
            factors[p.gated_first + row] = uintBitsToFloat(uint(127 - 13 + exponent_of(most)) << 23);
        }
    }
}
