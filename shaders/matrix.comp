// matrix.comp - y[r][o] = sum_k w[o][k] * x[r][k] for many rows, and what MATMUL and HEAD add to it: tiles of both factors as
// f16 in shared memory, sums in f32. w comes from expand.comp, x from halves.comp with a factor for each row. Rows of both
// are padded with zeros to multiples of DEPTH, and there is memory behind the last row for a tile's rest, whatever it holds.
//
// COOPERATIVE: a subgroup of 32 has WO x WR of the tile, in matrices of 16 x 16 (SPV_KHR_cooperative_matrix); built by a
// newer compiler than the others. Loops around them count to constants: an array of matrices that is left in one that
// cannot be unrolled is kept in memory by a driver, which makes all of it slower ten times. Else an invocation has some rows
// and columns, and any device will do.
// variants: matrix_64=-DTILE=64,-DCOOPERATIVE=0,-DACROSS=2 matrix_c64=-DTILE=64,-DCOOPERATIVE=1,-DACROSS=2 matrix_c128=-DTILE=128,-DCOOPERATIVE=1,-DACROSS=4
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
layout(std430, binding = 4) readonly buffer X { uvec4 x[]; };

const uint DEPTH = 64u, EIGHTS = DEPTH / 8u; // of a tile, in k
const uint STRIDE = EIGHTS + 1u;             // of a tile's row in eights, padded: no two rows in the same banks
const uint LOADS = uint(TILE) * EIGHTS / THREADS;
shared uvec4 w_tile[uint(TILE) * STRIDE];
shared uvec4 x_tile[uint(TILE) * STRIDE];

uvec4 next_w[LOADS], next_x[LOADS]; // on their way from memory to the tiles

void ask(uint o_first, uint row_first, uint k) { // k in eights
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS, row = i / EIGHTS, e = k + i % EIGHTS;
        next_w[l] = w[p.w_first + (o_first + row) * p.stride + e];
        next_x[l] = x[(row_first + row) * p.stride + e];
    }
}

void put() {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS, at = i / EIGHTS * STRIDE + i % EIGHTS;
        w_tile[at] = next_w[l];
        x_tile[at] = next_x[l];
    }
}

#if COOPERATIVE
const uint WO = uint(TILE) / 2u, WR = uint(TILE) / uint(ACROSS), MS = WO / 16u, NS = WR / 16u; // of 2 x ACROSS subgroups
shared float staged[THREADS / 32u * 256u];
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define W_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define X_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>

void main() {
    uint o_first = gl_WorkGroupID.x * uint(TILE), row_first = p.row_first + gl_WorkGroupID.y * uint(TILE);
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
    [[unroll]] for (uint m = 0u; m < MS; m++) {
        [[unroll]] for (uint n = 0u; n < NS; n++) {
            coopMatStore(sums[m * NS + n], staged, warp * 256u, 16u, gl_CooperativeMatrixLayoutColumnMajor);
            subgroupBarrier();
            [[unroll]] for (uint i = 0u; i < 8u; i++) {
                uint at = lane + 32u * i;
                store_sum(row_first + warp_row + 16u * n + at / 16u, o_first + warp_o + 16u * m + at % 16u,
                      staged[warp * 256u + at]);
            }
            subgroupBarrier();
        }
    }
}
#else
const uint DOWN = THREADS / 16u, MS = uint(TILE) / 16u, NS = uint(TILE) / DOWN;

void main() {
    uint o_first = gl_WorkGroupID.x * uint(TILE), row_first = p.row_first + gl_WorkGroupID.y * uint(TILE);
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
                uvec4 eight = w_tile[(m_own + 16u * m) * STRIDE + at];
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
    [[unroll]] for (uint m = 0u; m < MS; m++) {
        [[unroll]] for (uint n = 0u; n < NS; n++) {
            store_sum(row_first + n_own + DOWN * n, o_first + m_own + 16u * m, sums[m * NS + n]);
        }
    }
}
#endif
