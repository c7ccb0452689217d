// matrix.comp - y[r][o] = sum_k w[o][k] * x[r][k] for many rows, and what MATMUL and HEAD add to it: tiles of both
// factors as f16 in shared memory, sums in f32. Both come in the order in which they are read, so that a subgroup asks
// for whole lines: w in tiles of 32 rows, [eight numbers of a row][row], as f16 or bf16 lie or as expand.comp leaves
// other types; x in panels of 32 columns, [panel][row][32], with a factor for each row, as halves.comp, attention or
// the gate leave it, padded with zeros to multiples of DEPTH. There is memory behind the last row for a tile's rest,
// whatever it holds. Of w, eights behind a row's last, which meet zeros of x, and tiles behind the last, whose sums
// nobody stores, are the last ones again.
//
// A product with few tiles has more groups for each: gl_WorkGroupID.z is the one of their shares of k. They leave their
// sums for sums.comp.
//
// GATED: the gate's two products, 32 rows of the one weight behind as many of the other in w's tile, so that an
// invocation or subgroup has the sums of both; act(a) * b goes to a row of f16 for the product behind, by a factor that
// halves.comp knows to be large enough.
//
// COOPERATIVE: a subgroup of 32 has WO x WR of the tile, in matrices of 16 x 16 (SPV_KHR_cooperative_matrix); built
// by a newer compiler than the others. TALL: so many times as many rows of w as of x, which asks for less of both for
// each product. Loops around matrices count to constants: an array of them that is left in one that cannot be
// unrolled is kept in memory by a driver, which makes all of it slower ten times. Else an invocation has some rows
// and columns, and any device will do.
// variants: matrix_64=-DTILE=64,-DCOOPERATIVE=0,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=0,-DBF16=0 matrix_64_bf16=-DTILE=64,-DCOOPERATIVE=0,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=0,-DBF16=1 matrix_c64=-DTILE=64,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=0,-DBF16=0 matrix_c64_bf16=-DTILE=64,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=0,-DBF16=1 matrix_c128=-DTILE=128,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=4,-DDEPTH=64,-DGATED=0,-DBF16=0 matrix_c128_bf16=-DTILE=128,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=4,-DDEPTH=64,-DGATED=0,-DBF16=1 matrix_c256=-DTILE=128,-DCOOPERATIVE=1,-DTALL=2,-DACROSS=2,-DDEPTH=32,-DGATED=0,-DBF16=0 matrix_c256_bf16=-DTILE=128,-DCOOPERATIVE=1,-DTALL=2,-DACROSS=2,-DDEPTH=32,-DGATED=0,-DBF16=1 matrix_gated_64=-DTILE=64,-DCOOPERATIVE=0,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=1,-DBF16=0 matrix_gated_64_bf16=-DTILE=64,-DCOOPERATIVE=0,-DTALL=1,-DACROSS=2,-DDEPTH=64,-DGATED=1,-DBF16=1 matrix_gated_c128=-DTILE=128,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=4,-DDEPTH=64,-DGATED=1,-DBF16=0 matrix_gated_c128_bf16=-DTILE=128,-DCOOPERATIVE=1,-DTALL=1,-DACROSS=4,-DDEPTH=64,-DGATED=1,-DBF16=1 matrix_gated_c256=-DTILE=128,-DCOOPERATIVE=1,-DTALL=2,-DACROSS=2,-DDEPTH=32,-DGATED=1,-DBF16=0 matrix_gated_c256_bf16=-DTILE=128,-DCOOPERATIVE=1,-DTALL=2,-DACROSS=2,-DDEPTH=32,-DGATED=1,-DBF16=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#if COOPERATIVE
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#endif
const uint THREADS = 64u * uint(TALL) * uint(ACROSS);
layout(local_size_x = 64 * TALL * ACROSS) in;
#include "matrix.glsl"
layout(std430, binding = 2) readonly buffer W { uvec4 w[]; };
#if GATED
layout(std430, binding = 3) readonly buffer Other { uvec4 other[]; }; // the second weight
#if COOPERATIVE
#define NEIGHBOURS uvec2
#else
#define NEIGHBOURS uint
#endif
layout(std430, binding = 8) writeonly buffer Gated { NEIGHBOURS gated[]; }; // as x of the product behind
#else
layout(std430, binding = 8) writeonly buffer Shares { float shares[]; }; // [share][row][output], whole tiles
#endif
layout(std430, binding = 4) readonly buffer X { uvec4 x[]; };

const uint WARPS = THREADS / 32u, EIGHTS = uint(DEPTH) / 8u; // DEPTH of a tile, in k
const uint STRIDE = EIGHTS + 1u; // of a tile's row in eights, padded: no two rows in the same banks
const uint W_ROWS = uint(TILE) * uint(TALL), X_ROWS = uint(TILE);
const uint W_LOADS = W_ROWS * EIGHTS / THREADS, X_LOADS = X_ROWS * EIGHTS / THREADS;
const uint BAND = 8u;
shared uvec4 w_tile[W_ROWS * STRIDE];
shared uvec4 x_tile[X_ROWS * STRIDE];

uvec4 next_w[W_LOADS], next_x[X_LOADS]; // on their way from memory to the tiles
uint w_from[W_LOADS], x_from;           // where they begin

const uint OUTS = W_ROWS / (1u + uint(GATED)); // of a tile

// Of the l-th eight of w's tile that an invocation has: its 32 rows there, and its place in a row. 32 neighbours have
// 32 rows; SIDE: parts of the tile that all have at once, EACH: eights of 32 rows that they have one after the other.
const uint SIDE = WARPS > EIGHTS ? WARPS / EIGHTS : 1u, EACH = WARPS < EIGHTS ? EIGHTS / WARPS : 1u;
uint w_32(uint l) {
    return (SIDE > 1u ? gl_LocalInvocationIndex / 32u / EIGHTS * (W_ROWS / 32u / SIDE) : 0u) + l / EACH;
}
uint w_eight(uint l) {
    uint warp = gl_LocalInvocationIndex / 32u;
    return (SIDE > 1u ? warp % EIGHTS : warp) + WARPS * (l % EACH);
}

// Of x's: row and place, four neighbours in a panel's row, in an order in which no eight invocations meet in a bank.
const uint ROUND = 4u * X_ROWS / THREADS; // that a panel of the tile takes
uint x_row(uint l) {
    uint i = gl_LocalInvocationIndex;
    return i / 32u * 8u + i % 32u / 8u + 4u * (i / 4u % 2u) + l % ROUND * (THREADS / 4u);
}
uint x_eight(uint l) {
    return l / ROUND * 4u + gl_LocalInvocationIndex % 4u;
}

// GATED: 32 rows of w's tile are of the one weight, the next of the other, and a part begins with the one; and what a
// row of it is an output's.
bool is_second(uint l) { return GATED == 1 && l / EACH % 2u == 1u; }
uint out_of(uint row) { return GATED == 1 ? row / 64u * 32u + row % 32u : row; }

// Tiles in bands of some of x, so that those that run at once share both factors in the cache.
uvec2 tile_of_group() {
    uvec2 all = gl_NumWorkGroups.xy;
    uint at = gl_WorkGroupID.y * all.x + gl_WorkGroupID.x, band = at / (BAND * all.x), own = at % (BAND * all.x);
    uint height = min(BAND, all.y - band * BAND);
    return uvec2(own / height, band * BAND + own % height);
}

void find_places(uint o_first, uint row_first) {
    [[unroll]] for (uint l = 0u; l < W_LOADS; l++) {
        uint own = o_first / 32u + w_32(l) / (1u + uint(GATED)), from = is_second(l) ? p.w_second : p.w_first;
        w_from[l] = from + min(own, (p.weight_count - 1u) / 32u) * p.row_units * 32u + gl_LocalInvocationIndex % 32u;
    }
    x_from = row_first * 4u + gl_LocalInvocationIndex % 4u;
}

uvec4 as_halves(uvec4 eight) {
#if BF16
    vec4 even = uintBitsToFloat(eight << 16), odd = uintBitsToFloat(eight & 0xffff0000u);
    return uvec4(packHalf2x16(vec2(even.x, odd.x)), packHalf2x16(vec2(even.y, odd.y)), packHalf2x16(vec2(even.z, odd.z)),
                 packHalf2x16(vec2(even.w, odd.w)));
#else
    return eight;
#endif
}

void ask(uint k) { // k in eights
    [[unroll]] for (uint l = 0u; l < W_LOADS; l++) {
        uint at = w_from[l] + min(k + w_eight(l), p.row_units - 1u) * 32u;
#if GATED
        next_w[l] = is_second(l) ? other[at] : w[at];
#else
        next_w[l] = w[at];
#endif
    }
    [[unroll]] for (uint l = 0u; l < X_LOADS; l++) {
        next_x[l] = x[x_from + ((k / 4u + l / ROUND) * p.panel + x_row(l)) * 4u];
    }
}

void put() {
    [[unroll]] for (uint l = 0u; l < W_LOADS; l++) {
        w_tile[(w_32(l) * 32u + gl_LocalInvocationIndex % 32u) * STRIDE + w_eight(l)] = as_halves(next_w[l]);
    }
    [[unroll]] for (uint l = 0u; l < X_LOADS; l++) {
        x_tile[x_row(l) * STRIDE + x_eight(l)] = next_x[l];
    }
}

#if GATED
vec2 activate(vec2 value) {
    vec2 t = (p.flags & 8u) != 0u ? 1.5957691216057308 * (value + 0.044715 * value * value * value) : value;
    return mix(value / (1.0 + exp(-min(t, vec2(88.0)))), vec2(0.0), lessThan(t, vec2(-88.0)));
}

float inverse_of(float power) { // of two
    return uintBitsToFloat((254u << 23) - floatBitsToUint(power));
}

vec2 gate(uint row, uint o, vec2 a, vec2 b) {
    float factor = factors[p.factors_first + row];
    vec2 value = activate(a * factor) * (b * (factor * inverse_of(factors[p.gated_first + row])));
    return mix(vec2(0.0), value, lessThan(uvec2(o, o + 1u), uvec2(p.weight_count)));
}

// Neighbours of a row, four or two. What stands behind the last weight's last row is zero.
#if COOPERATIVE
void store_gated(uint row, uint o, vec4 a, vec4 b) {
    if (row < p.row_end && o < p.limit) {
        uint four = (p.weight_first + o) / 4u;
        gated[(four / 8u * p.panel + row) * 8u + four % 8u] =
            uvec2(packHalf2x16(gate(row, o, a.xy, b.xy)), packHalf2x16(gate(row, o + 2u, a.zw, b.zw)));
    }
}
#else
void store_gated(uint row, uint o, vec2 a, vec2 b) {
    if (row < p.row_end && o < p.limit) {
        uint two = (p.weight_first + o) / 2u;
        gated[(two / 16u * p.panel + row) * 16u + two % 16u] = packHalf2x16(gate(row, o, a, b));
    }
}
#endif
#endif

// Of k, a group's.
uint first_eight() { return GATED == 1 ? 0u : gl_WorkGroupID.z * p.share; }
uint end_eight(uint first) { return GATED == 1 ? p.stride : min(first + p.share, p.stride); }

#if !GATED
uint share_stride() {
    return gl_NumWorkGroups.x * W_ROWS;
}

uint place_in_shares(uint o, uint row) {
    return p.gated_first + (gl_WorkGroupID.z * gl_NumWorkGroups.y * X_ROWS + row - p.row_first) * share_stride() + o;
}
#endif

#if COOPERATIVE
const uint WO = uint(TILE) / 2u, WR = uint(TILE) / uint(ACROSS), MS = WO / 16u, NS = WR / 16u; // of 2 TALL x ACROSS subgroups
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define W_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define X_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>
#define HALF_MATRIX coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
const int NUMBERS = 8; // of a matrix in each of 32 lanes, wherever they stand in it
SUM_MATRIX sums[MS * NS];

void multiply(uint warp_o, uint warp_row) {
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

// A tile of which nothing reaches behind the last row of w or x: its matrices go to memory as they are.
#if GATED
void store_whole(uint o_first, uint row_first, uint warp_o, uint warp_row) {
    for (uint i = gl_LocalInvocationIndex; i < 4u * uint(TILE); i += THREADS) {
        float factor = factors[p.factors_first + row_first + i / 4u], gates = factors[p.gated_first + row_first + i / 4u];
        x_tile[i] = uvec4(floatBitsToUint(factor));
        w_tile[i] = uvec4(floatBitsToUint(factor * inverse_of(gates)));
    }
    barrier();
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        SUM_MATRIX row_factors; // one at a time: glslang loses what the second of a list is for
        SUM_MATRIX scaled;
        coopMatLoad(row_factors, x_tile, (warp_row + 16u * n) * 4u, 4u, gl_CooperativeMatrixLayoutColumnMajor);
        coopMatLoad(scaled, w_tile, (warp_row + 16u * n) * 4u, 4u, gl_CooperativeMatrixLayoutColumnMajor);
        [[unroll]] for (uint m = 0u; m < MS / 2u; m++) {
            SUM_MATRIX a = sums[m * NS + n] * row_factors;
            SUM_MATRIX b = sums[(m + MS / 2u) * NS + n] * scaled;
            [[unroll]] for (int i = 0; i < NUMBERS; i += 2) {
                vec2 value = activate(vec2(a[i], a[i + 1])) * vec2(b[i], b[i + 1]);
                a[i] = value.x;
                a[i + 1] = value.y;
            }
            uint four = (p.weight_first + o_first + out_of(warp_o + 16u * m)) / 4u;
            uint at = (four / 8u * p.panel + row_first + warp_row + 16u * n) * 8u + four % 8u;
            coopMatStore(HALF_MATRIX(a), gated, at, 8u, gl_CooperativeMatrixLayoutColumnMajor);
        }
    }
}
#else
uint place_of(uint o_first, uint row_first, uint m, uint n) {
    return (row_first + 16u * n) * p.y_stride + p.weight_first + o_first + 16u * m;
}

void store_whole(uint o_first, uint row_first, uint warp_o, uint warp_row) {
    for (uint i = gl_LocalInvocationIndex; i < 4u * uint(TILE); i += THREADS) {
        x_tile[i] = uvec4(floatBitsToUint(factors[p.factors_first + row_first + i / 4u]));
    }
    barrier();
    bool adds = (p.flags & 1u) != 0u;
    uint o = o_first + warp_o, row = row_first + warp_row;
    SUM_MATRIX before[2u * MS]; // of these rows and the next: memory is asked for what comes next before it is written
    if (adds) {
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            coopMatLoad(before[m], y, place_of(o, row, m, 0u), p.y_stride, gl_CooperativeMatrixLayoutColumnMajor);
        }
    }
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        SUM_MATRIX row_factors;
        coopMatLoad(row_factors, x_tile, (warp_row + 16u * n) * 4u, 4u, gl_CooperativeMatrixLayoutColumnMajor);
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            sums[m * NS + n] = sums[m * NS + n] * row_factors;
        }
        if (adds) {
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                sums[m * NS + n] = sums[m * NS + n] + before[n % 2u * MS + m];
            }
            if (n + 1u < NS) {
                [[unroll]] for (uint m = 0u; m < MS; m++) {
                    coopMatLoad(before[(n + 1u) % 2u * MS + m], y, place_of(o, row, m, n + 1u), p.y_stride, gl_CooperativeMatrixLayoutColumnMajor);
                }
            }
        }
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            coopMatStore(sums[m * NS + n], y, place_of(o, row, m, n), p.y_stride, gl_CooperativeMatrixLayoutColumnMajor);
        }
    }
}
#endif

#if !GATED
void store_share(uint o, uint row) {
    [[unroll]] for (uint n = 0u; n < NS; n++) {
        [[unroll]] for (uint m = 0u; m < MS; m++) {
            coopMatStore(sums[m * NS + n], shares, place_in_shares(o + 16u * m, row + 16u * n), share_stride(), gl_CooperativeMatrixLayoutColumnMajor);
        }
    }
}
#endif

void main() {
    uvec2 tile = tile_of_group();
    uint o_first = tile.x * OUTS, row_first = p.row_first + tile.y * uint(TILE);
    uint k_first = first_eight(), k_end = end_eight(k_first);
    uint warp = gl_SubgroupID, lane = gl_SubgroupInvocationID, warp_o = warp / uint(ACROSS) * WO, warp_row = warp % uint(ACROSS) * WR;
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = SUM_MATRIX(0.0);
    }
    find_places(o_first, row_first);
    ask(k_first);
    for (uint k = k_first; k < k_end; k += EIGHTS) {
        barrier();
        put();
        barrier();
        if (k + EIGHTS < k_end) { // a driver would ask for what it is free to ask for when it is put
            ask(k + EIGHTS);
        }
        multiply(warp_o, warp_row);
    }
    barrier();
#if GATED
    if (row_first + uint(TILE) <= p.row_end && o_first + OUTS <= p.weight_count) {
        store_whole(o_first, row_first, warp_o, warp_row);
        return;
    }
#else
    if (gl_NumWorkGroups.z > 1u) {
        store_share(o_first + warp_o, row_first + warp_row);
        return;
    }
    if ((p.flags & 6u) == 0u && row_first + uint(TILE) <= p.row_end && o_first + W_ROWS <= p.weight_count) {
        store_whole(o_first, row_first, warp_o, warp_row);
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
                store_gated(row + 8u * i, o, a, b);
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
    uint k_first = first_eight(), k_end = end_eight(k_first);
    uint m_own = gl_LocalInvocationIndex % 16u, n_own = gl_LocalInvocationIndex / 16u;
    float sums[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = 0.0;
    }
    find_places(o_first, row_first);
    ask(k_first);
    for (uint k = k_first; k < k_end; k += EIGHTS) {
        barrier();
        put();
        barrier();
        if (k + EIGHTS < k_end) {
            ask(k + EIGHTS);
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
            uint o = o_first + m_own + 16u * m;
            if (gl_NumWorkGroups.z > 1u) {
                shares[place_in_shares(o, row)] = sums[m * NS + n];
            } else {
                store_sum(row, o, sums[m * NS + n]);
            }
        }
#endif
    }
}
#endif
