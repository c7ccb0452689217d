// matrix.comp - y[r][o] = sum_k w[o][k] * x[r][k] for many rows, and what MATMUL and HEAD add to it: tiles of both
// factors as f16 in shared memory, sums in f32. x comes from halves.comp with a factor for each row; its rows are
// padded with zeros to multiples of DEPTH. There is memory behind the last row for a tile's rest, whatever it holds.
//
// LIES: where w is. 0: expand.comp made it, padded as x. 1 and 2: it is read where it lies, as f16 or bf16, in tiles of
// 32 rows, [unit][row][eight numbers], so that nothing is written that is read once. Units behind a row's last one,
// which meet zeros of x, and tiles behind the last, whose sums nobody stores, are the last ones again.
//
// GATED: the gate's two products, 32 rows of the one weight behind as many of the other in w's tile, so that an
// invocation or subgroup has the sums of both; act(a) * b goes to a row of f16 for the product behind, by a factor that
// halves.comp knows to be large enough.
//
// COOPERATIVE: a subgroup of 32 has WO x WR of the tile, in matrices of 16 x 16 (SPV_KHR_cooperative_matrix); built by
// a newer compiler than the others. Loops around them count to constants: an array of matrices that is left in one that
// cannot be unrolled is kept in memory by a driver, which makes all of it slower ten times. Else an invocation has some
// rows and columns, and any device will do.
// variants: matrix_64=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=0,-DLIES=0 matrix_64_f16=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=0,-DLIES=1 matrix_64_bf16=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=0,-DLIES=2 matrix_c64=-DTILE=64,-DCOOPERATIVE=1,-DACROSS=2,-DGATED=0,-DLIES=0 matrix_c64_f16=-DTILE=64,-DCOOPERATIVE=1,-DACROSS=2,-DGATED=0,-DLIES=1 matrix_c64_bf16=-DTILE=64,-DCOOPERATIVE=1,-DACROSS=2,-DGATED=0,-DLIES=2 matrix_c128=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=0,-DLIES=0 matrix_c128_f16=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=0,-DLIES=1 matrix_c128_bf16=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=0,-DLIES=2 matrix_gated_64=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=1,-DLIES=0 matrix_gated_64_f16=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=1,-DLIES=1 matrix_gated_64_bf16=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2,-DGATED=1,-DLIES=2 matrix_gated_c128=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=1,-DLIES=0 matrix_gated_c128_f16=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=1,-DLIES=1 matrix_gated_c128_bf16=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4,-DGATED=1,-DLIES=2
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#if COOPERATIVE
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#endif
const uint THREADS = 64u * uint(ACROSS);
layout(local_size_x = 64 * ACROSS) in;
#include "matrix.glsl"
layout(std430, binding = 2) readonly buffer W { uvec4 w[]; };
#if GATED
layout(std430, binding = 3) readonly buffer Other { uvec4 other[]; }; // the second weight as it lies
layout(std430, binding = 8) writeonly buffer Gated { uint gated[]; };
#endif
layout(std430, binding = 4) readonly buffer X { uvec4 x[]; };

const uint DEPTH = 64u, EIGHTS = DEPTH / 8u; // of a tile, in k
const uint STRIDE = EIGHTS + 1u;             // of a tile's row in eights, padded: no two rows in the same banks
const uint LOADS = uint(TILE) * EIGHTS / THREADS;
const uint BAND = 8u;
shared uvec4 w_tile[uint(TILE) * STRIDE];
shared uvec4 x_tile[uint(TILE) * STRIDE];

uvec4 next_w[LOADS], next_x[LOADS]; // on their way from memory to the tiles

const uint OUTS = uint(TILE) / (1u + uint(GATED)); // of a tile
// The i-th eight of w's tile: its row there and its place in the row.
#if LIES == 0
uint w_row(uint i) { return i / EIGHTS; }
uint w_eight(uint i) { return i % EIGHTS; }
#else
uint w_row(uint i) { return i / (32u * EIGHTS) * 32u + i % 32u; }
uint w_eight(uint i) { return i / 32u % EIGHTS; }
#endif

// Of a row of w's tile: the weight that it is of, and what it is an output's.
bool is_second(uint row) { return GATED == 1 && row / 32u % 2u == 1u; }
uint out_of(uint row) { return GATED == 1 ? row / 64u * 32u + row % 32u : row; }

uvec4 w_at(uint o_first, uint row, uint e) {
    uint o = o_first + out_of(row);
#if LIES == 0
    return w[(is_second(row) ? p.w_second : p.w_first) + o * p.stride + e];
#else
    uint tile = min(o / 32u, (p.weight_count - 1u) / 32u);
    uint at = (tile * p.row_units + min(e, p.row_units - 1u)) * 32u + row % 32u;
#if GATED
    if (is_second(row)) {
        return other[at];
    }
#endif
    return w[at];
#endif
}

// Tiles in bands of some of x, so that those that run at once share both factors in the cache.
uvec2 tile_of_group() {
    uvec2 all = gl_NumWorkGroups.xy;
    uint at = gl_WorkGroupID.y * all.x + gl_WorkGroupID.x, band = at / (BAND * all.x), own = at % (BAND * all.x);
    uint height = min(BAND, all.y - band * BAND);
    return uvec2(own / height, band * BAND + own % height);
}

uvec4 as_halves(uvec4 eight) {
#if LIES == 2
    vec4 even = uintBitsToFloat(eight << 16), odd = uintBitsToFloat(eight & 0xffff0000u);
    return uvec4(packHalf2x16(vec2(even.x, odd.x)), packHalf2x16(vec2(even.y, odd.y)), packHalf2x16(vec2(even.z, odd.z)),
                 packHalf2x16(vec2(even.w, odd.w)));
#else
    return eight;
#endif
}

void ask(uint o_first, uint row_first, uint k) { // k in eights
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS;
        next_w[l] = w_at(o_first, w_row(i), k + w_eight(i));
        next_x[l] = x[(row_first + i / EIGHTS) * p.stride + k + i % EIGHTS];
    }
}

void put() {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS;
        w_tile[w_row(i) * STRIDE + w_eight(i)] = as_halves(next_w[l]);
        x_tile[i / EIGHTS * STRIDE + i % EIGHTS] = next_x[l];
    }
}

#if GATED
vec2 activate(vec2 value) {
    vec2 t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    return mix(value / (1.0 + exp(-min(t, vec2(88.0)))), vec2(0.0), lessThan(t, vec2(-88.0)));
}

// Two neighbours of a row. What stands behind the last weight's last row is zero.
void store_gated(uint row, uint o, vec2 a, vec2 b) {
    if (row < p.row_end && o < p.limit) {
        float scale = uintBitsToFloat((254u << 23) - floatBitsToUint(factors[p.gated_first + row])); // a power of two's inverse
        vec2 value = activate(a * factors[p.factors_first + row]) * (b * factors[p.factors_first + row]) * scale;
        value = mix(vec2(0.0), value, lessThan(uvec2(o, o + 1u), uvec2(p.weight_count)));
        gated[row * p.y_stride + (p.weight_first + o) / 2u] = packHalf2x16(value);
    }
}
#endif

#if COOPERATIVE
const uint WO = uint(TILE) / 2u, WR = uint(TILE) / uint(ACROSS), MS = WO / 16u, NS = WR / 16u; // of 2 x ACROSS subgroups
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define W_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define X_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>

void main() {
    uvec2 tile = tile_of_group();
    uint o_first = tile.x * OUTS, row_first = p.row_first + tile.y * uint(TILE);
    uint warp = gl_SubgroupID, lane = gl_SubgroupInvocationID, warp_o = warp / uint(ACROSS) * WO, warp_row = warp % uint(ACROSS) * WR;
    SUM_MATRIX sums[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = SUM_MATRIX(0.0);
    }
    ask(o_first, row_first, 0u);
    for (uint k = 0u; k < p.stride; k += EIGHTS) {
        barrier();
        put();
        barrier();
        if (k + EIGHTS < p.stride) {
            ask(o_first, row_first, k + EIGHTS);
        }
        [[unroll]] for (uint at = 0u; at < EIGHTS; at += 2u) {
            // A driver would load the matrices of many steps ahead: 173 registers on a card, with it 150, and 3 to 8 %
            // sooner.
            controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
            W_MATRIX rows[MS];
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                coopMatLoad(rows[m], w_tile, (warp_o + 16u * m) * STRIDE + at, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint n = 0u; n < NS; n++) {
                X_MATRIX column;
                coopMatLoad(column, x_tile, (warp_row + 16u * n) * STRIDE + at, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint m = 0u; m < MS; m++) {
                    sums[m * NS + n] = coopMatMulAdd(rows[m], column, sums[m * NS + n]);
                }
            }
        }
    }
    barrier();
#if !GATED
    if ((p.flags & 6u) == 0u && row_first + uint(TILE) <= p.row_end && o_first + uint(TILE) <= p.weight_count) {
        for (uint i = gl_LocalInvocationIndex; i < 4u * uint(TILE); i += THREADS) {
            x_tile[i] = uvec4(floatBitsToUint(factors[p.factors_first + row_first + i / 4u]));
        }
        barrier();
        [[unroll]] for (uint n = 0u; n < NS; n++) {
            SUM_MATRIX row_factors;
            coopMatLoad(row_factors, x_tile, (warp_row + 16u * n) * 4u, 4u, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                uint at = (row_first + warp_row + 16u * n) * p.y_stride + p.weight_first + o_first + warp_o + 16u * m;
                sums[m * NS + n] = sums[m * NS + n] * row_factors;
                if ((p.flags & 1u) != 0u) {
                    SUM_MATRIX before;
                    coopMatLoad(before, y, at, p.y_stride, gl_CooperativeMatrixLayoutColumnMajor);
                    sums[m * NS + n] = sums[m * NS + n] + before;
                }
                coopMatStore(sums[m * NS + n], y, at, p.y_stride, gl_CooperativeMatrixLayoutColumnMajor);
            }
        }
        return;
    }
#endif
    uint own = warp * 128u, column = lane / 4u, four = lane % 4u; // of two matrices, in w's tile: nobody reads that any more
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        uint row = row_first + warp_row + 16u * n + column;
#if GATED
        [[unroll]] for (uint m = 0u; m < MS / 2u; m++) {
            coopMatStore(sums[m * NS + n], w_tile, own, 4u, gl_CooperativeMatrixLayoutColumnMajor);
            coopMatStore(sums[(m + MS / 2u) * NS + n], w_tile, own + 64u, 4u, gl_CooperativeMatrixLayoutColumnMajor);
            subgroupBarrier();
            [[unroll]] for (uint i = 0u; i < 2u; i++) {
                vec4 a = uintBitsToFloat(w_tile[own + lane + 32u * i]), b = uintBitsToFloat(w_tile[own + 64u + lane + 32u * i]);
                uint o = o_first + out_of(warp_o + 16u * m) + 4u * four;
                store_gated(row + 8u * i, o, a.xy, b.xy);
                store_gated(row + 8u * i, o + 2u, a.zw, b.zw);
            }
            subgroupBarrier();
        }
#else
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            coopMatStore(sums[m * NS + n], w_tile, own, 4u, gl_CooperativeMatrixLayoutColumnMajor);
            subgroupBarrier();
            [[unroll]] for (uint i = 0u; i < 2u; i++) {
                vec4 four_sums = uintBitsToFloat(w_tile[own + lane + 32u * i]);
                [[unroll]] for (uint k = 0u; k < 4u; k++) {
                    store_sum(row + 8u * i, o_first + warp_o + 16u * m + 4u * four + k, four_sums[k]);
                }
            }
            subgroupBarrier();
        }
#endif
    }
}
#else
const uint DOWN = THREADS / 16u, MS = uint(TILE) / 16u, NS = uint(TILE) / DOWN;

uint row_of(uint own, uint m) { // of w's tile
    return GATED == 1 ? m / 2u * 32u + 2u * own + m % 2u : own + 16u * m;
}

void main() {
    uvec2 tile = tile_of_group();
    uint o_first = tile.x * OUTS, row_first = p.row_first + tile.y * uint(TILE);
    uint m_own = gl_LocalInvocationIndex % 16u, n_own = gl_LocalInvocationIndex / 16u;
    float sums[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = 0.0;
    }
    ask(o_first, row_first, 0u);
    for (uint k = 0u; k < p.stride; k += EIGHTS) {
        barrier();
        put();
        barrier();
        if (k + EIGHTS < p.stride) {
            ask(o_first, row_first, k + EIGHTS);
        }
        [[unroll]] for (uint at = 0u; at < EIGHTS; at++) {
            vec4 low[MS], high[MS];
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                uvec4 eight = w_tile[row_of(m_own, m) * STRIDE + at];
                low[m] = vec4(unpackHalf2x16(eight.x), unpackHalf2x16(eight.y));
                high[m] = vec4(unpackHalf2x16(eight.z), unpackHalf2x16(eight.w));
            }
            [[unroll]] for (uint n = 0u; n < NS; n++) {
                uvec4 eight = x_tile[(n_own + DOWN * n) * STRIDE + at];
                vec4 a = vec4(unpackHalf2x16(eight.x), unpackHalf2x16(eight.y));
                vec4 b = vec4(unpackHalf2x16(eight.z), unpackHalf2x16(eight.w));
                [[unroll]] for (uint m = 0u; m < MS; m++) {
                    sums[m * NS + n] += dot(low[m], a) + dot(high[m], b);
                }
            }
        }
    }
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        uint row = row_first + n_own + DOWN * n;
#if GATED
        store_gated(row, o_first + 2u * m_own, vec2(sums[n], sums[NS + n]), vec2(sums[2u * NS + n], sums[3u * NS + n]));
#else
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            store_sum(row, o_first + m_own + 16u * m, sums[m * NS + n]);
        }
#endif
    }
}
#endif
