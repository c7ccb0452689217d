// matrix.comp - y[r][o] = sum_k w[o][k] * x[r][k] for many rows, and what MATMUL and HEAD add to it: tiles of both factors as
// f16 in shared memory, sums in f32. x comes from halves.comp, with a factor for each row.
//
// COOPERATIVE: a subgroup of 32 has WM x 32 of the tile, in matrices of 16 x 16 (SPV_KHR_cooperative_matrix); built by a
// newer compiler than the others, and not for Metal. Else an invocation has some rows and columns, and any device will do.
// fast types: matrix_64=-DTILE=64,-DCOOPERATIVE=0
// cooperative types: matrix_c64=-DTILE=64,-DCOOPERATIVE=1 matrix_c128=-DTILE=128,-DCOOPERATIVE=1
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#if COOPERATIVE
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#endif
layout(local_size_x = 2 * TILE) in;
#if TYPE == 0
void main() {} // F32 is not rounded
#else
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) readonly buffer X { uvec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(std430, binding = 7) readonly buffer Factors { float factors[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight in this piece
    uint row_units;
    uint x_stride; // in eights
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
} p;
#include "weights.glsl"

const uint THREADS = 2u * uint(TILE), DEPTH = 64u; // of a tile, in k
const uint STRIDE = DEPTH / 8u + 1u;               // of a tile's row in eights, padded: no two rows in the same banks
const uint UNIT_ELEMENTS = 4u * UNIT_PARTS, TILE_UNITS = DEPTH / UNIT_ELEMENTS; // of a row
const uint UNITS_ALL = uint(TILE) * TILE_UNITS, LOADS = (UNITS_ALL + THREADS - 1u) / THREADS;
const uint X_LOADS = uint(TILE) * (DEPTH / 8u) / THREADS;
shared uvec4 w_tile[uint(TILE) * STRIDE];
shared uvec4 x_tile[uint(TILE) * STRIDE];

// What is on its way from memory to the tiles.
uvec4 next_w[LOADS], next_scales[LOADS], next_x[X_LOADS];
uvec2 next_high[LOADS];
uint next_head[LOADS];

// Invocation and load to a row of the tile and a unit in it; false: there is none left.
bool unit_of(uint load, out uint row, out uint u) {
    uint i = gl_LocalInvocationIndex + load * THREADS;
    row = i % uint(TILE);
    u = i / uint(TILE);
    return i < UNITS_ALL;
}

void ask(uint k, uint o_first, uint row_first) {
    uint last = (p.weight_count + 31u) / 32u * 32u - 1u; // a piece has whole tiles of 32
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint row, u;
        bool mine = unit_of(l, row, u);
        uint o = min(o_first + row, last), unit_index = k / UNIT_ELEMENTS + u;
        next_w[l] = uvec4(0u);
        if (mine && unit_index < p.row_units) {
            next_w[l] = units[(o / 32u * p.row_units + unit_index) * 32u + o % 32u];
#if SCALED > 0
            uint at = (o / 32u * (p.row_units / STEP_UNITS) + unit_index / STEP_UNITS) * WORDS * 32u + o % 32u;
            begin_step(at, 32u);
            begin_unit(at, 32u, unit_index % STEP_UNITS);
            next_head[l] = step_head;
            next_scales[l] = step_scales;
            next_high[l] = unit_high;
#endif
        }
    }
    [[unroll]] for (uint l = 0u; l < X_LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS;
        next_x[l] = x[min(row_first + i / (DEPTH / 8u), p.row_end - 1u) * p.x_stride + k / 8u + i % (DEPTH / 8u)];
    }
}

void put(uint k) {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint row, u;
        if (!unit_of(l, row, u)) {
            break;
        }
        uint unit_index = k / UNIT_ELEMENTS + u, at = row * STRIDE + u * UNIT_ELEMENTS / 8u;
        bool there = unit_index < p.row_units;
#if TYPE == F16
        w_tile[at] = next_w[l];
#else
        step_head = next_head[l];
        step_scales = next_scales[l];
        unit_high = next_high[l];
        [[unroll]] for (uint pair = 0u; pair < UNIT_PARTS / 2u; pair++) {
            vec4 low = unit_part(next_w[l], 2u * pair), high = unit_part(next_w[l], 2u * pair + 1u);
#if SCALED > 0
            vec2 scale = sub_scale(unit_index % STEP_UNITS, 2u * pair / SUB_PARTS);
            low = fma(low, vec4(scale.x), vec4(scale.y));
            high = fma(high, vec4(scale.x), vec4(scale.y));
#endif
            uvec4 eight = uvec4(packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
            w_tile[at + pair] = there ? eight : uvec4(0u);
        }
#endif
    }
    [[unroll]] for (uint l = 0u; l < X_LOADS; l++) {
        uint i = gl_LocalInvocationIndex + l * THREADS;
        x_tile[i / (DEPTH / 8u) * STRIDE + i % (DEPTH / 8u)] = next_x[l];
    }
}

void store(uint row, uint o, float value) {
    if (row >= p.row_end || o >= p.weight_count) {
        return;
    }
    value *= factors[row];
    o += p.weight_first;
    if ((p.flags & 2u) != 0u) {
        value += bias[o];
    }
    if ((p.flags & 4u) != 0u) {
        value *= p.scale;
        if (p.softcap > 0.0) {
            float t = clamp(value / p.softcap, -20.0, 20.0);
            value = p.softcap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
        }
        y[parameters[p.outs_word + row * 2u + 1u] + o] = value;
    } else {
        uint index = row * p.y_stride + o;
        y[index] = (p.flags & 1u) != 0u ? y[index] + value : value;
    }
}

#if COOPERATIVE
const uint WM = uint(TILE) / 2u, MS = WM / 16u, NS = 2u, ACROSS = uint(TILE) / 32u;
shared float staged[THREADS / 32u * 256u];
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>

void main() {
    uint o_first = gl_WorkGroupID.x * uint(TILE), row_first = p.row_first + gl_WorkGroupID.y * uint(TILE);
    uint warp = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    uint warp_o = warp / ACROSS * WM, warp_row = warp % ACROSS * 32u, depth = p.row_units * UNIT_ELEMENTS;
    SUM_MATRIX sums[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = SUM_MATRIX(0.0);
    }
    ask(0u, o_first, row_first);
    for (uint k = 0u; k < depth; k += DEPTH) {
        barrier();
        put(k);
        barrier();
        if (k + DEPTH < depth) {
            ask(k + DEPTH, o_first, row_first);
        }
        [[unroll]] for (uint at = 0u; at < DEPTH / 8u; at += 2u) {
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> w;
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> columns[NS];
            [[unroll]] for (uint n = 0u; n < NS; n++) {
                coopMatLoad(columns[n], x_tile, (warp_row + 16u * n) * STRIDE + at, STRIDE,
                            gl_CooperativeMatrixLayoutColumnMajor);
            }
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                coopMatLoad(w, w_tile, (warp_o + 16u * m) * STRIDE + at, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (uint n = 0u; n < NS; n++) {
                    sums[m * NS + n] = coopMatMulAdd(w, columns[n], sums[m * NS + n]);
                }
            }
        }
    }
    [[unroll]] for (uint m = 0u; m < MS; m++) {
        [[unroll]] for (uint n = 0u; n < NS; n++) {
            coopMatStore(sums[m * NS + n], staged, warp * 256u, 16u, gl_CooperativeMatrixLayoutColumnMajor);
            subgroupBarrier();
            for (uint i = lane; i < 256u; i += 32u) {
                store(row_first + warp_row + 16u * n + i / 16u, o_first + warp_o + 16u * m + i % 16u,
                      staged[warp * 256u + i]);
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
    uint depth = p.row_units * UNIT_ELEMENTS;
    float sums[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++) {
        sums[i] = 0.0;
    }
    ask(0u, o_first, row_first);
    for (uint k = 0u; k < depth; k += DEPTH) {
        barrier();
        put(k);
        barrier();
        if (k + DEPTH < depth) {
            ask(k + DEPTH, o_first, row_first);
        }
        [[unroll]] for (uint at = 0u; at < DEPTH / 8u; at++) {
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
            store(row_first + n_own + DOWN * n, o_first + m_own + 16u * m, sums[m * NS + n]);
        }
    }
}
#endif
#endif
