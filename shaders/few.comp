// few.comp - y[r][o] = sum_k w[o][k] * x[r][k] for some ten rows of x, and what MATMUL and HEAD add to it: the weight
// is read as it lies, once for 16 * TILES rows, and made f16 on the way to matrices of 16 x 16
// (SPV_KHR_cooperative_matrix). x comes from halves.comp with a factor for each row, 16 columns of all rows side by
// side.
//
// A work group has 32 rows of the weight, and each of its subgroups a range of the columns, of which it takes STEP at a
// time: an invocation has a row. They wait for nobody until the sums are put together, so that a few groups keep much
// of a weight on its way. Loops around matrices count to constants and have no branches in them: see matrix.comp.
// fast types: few_16=-DCOOPERATIVE=1,-DTILES=1 few_32=-DCOOPERATIVE=1,-DTILES=2 few_64=-DCOOPERATIVE=1,-DTILES=4
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#if TYPE == 0
#undef TYPE
#define TYPE 1 // F32 is not rounded: nobody asks for it
#endif
layout(local_size_x_id = 2) in;
#include "matrix.glsl"
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 4) readonly buffer X { uvec4 x[]; }; // eight f16
#include "weights.glsl"

const uint STEP = UNIT_PARTS == 16u ? 64u : 32u, EIGHTS = STEP / 8u; // columns
const uint UNIT_EIGHTS = UNIT_PARTS / 2u, STEP_OF_UNITS = EIGHTS / UNIT_EIGHTS;
const uint AHEAD = 4u, STEPS = AHEAD / STEP_OF_UNITS; // units that an invocation has on their way
const uint STRIDE = EIGHTS + 1u;                      // of a row of the tile: no two rows in the same banks
const uint SUBGROUPS_MAX = STEP == 32u ? 16u : 8u, TILE = 32u * STRIDE;
shared uvec4 tiles[SUBGROUPS_MAX * TILE]; // of each subgroup; at the end, its sums
#if SCALED > 0 && TYPE < Q2_K && TYPE != Q5_0 && TYPE != Q5_1
#define HEADS_AHEAD 1
#else
#define HEADS_AHEAD 0
#endif
#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define W_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define X_MATRIX   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>

uint words_of(uint o, uint unit_index) {
    return (o / 32u * (p.row_units / STEP_UNITS) + unit_index / STEP_UNITS) * WORDS * 32u + o % 32u;
}

// A unit as f16, to the tile; zeros if it is behind the end.
void put(uvec4 unit, uint head, uint o, uint unit_index, bool there, uint to) {
#if TYPE == F16
    tiles[to] = there ? unit : uvec4(0u);
#else
#if HEADS_AHEAD
    step_head = head;
#else
    begin_step(words_of(o, unit_index), 32u);
    begin_unit(words_of(o, unit_index), 32u, unit_index % STEP_UNITS);
#endif
    [[unroll]] for (uint pair = 0u; pair < UNIT_EIGHTS; pair++) {
        vec4 low = unit_part(unit, 2u * pair), high = unit_part(unit, 2u * pair + 1u);
#if SCALED > 0
        vec2 scale = sub_scale(unit_index % STEP_UNITS, 2u * pair / SUB_PARTS);
        low = fma(low, vec4(scale.x), vec4(scale.y));
        high = fma(high, vec4(scale.x), vec4(scale.y));
#endif
        uvec4 eight = uvec4(packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
        tiles[to + pair] = there ? eight : uvec4(0u);
    }
#endif
}

// The sums of all subgroups: [row of x][row of the weight] of 16 x 16 each, in two halves.
void store_tile(uint row_first, uint o) {
    for (uint i = gl_LocalInvocationIndex; i < 512u; i += gl_WorkGroupSize.x) {
        uint row = i / 32u, at = o % 32u / 16u * 256u + row * 16u + o % 16u;
        float sum = 0.0;
        for (uint s = 0u; s < gl_NumSubgroups; s++) {
            sum += uintBitsToFloat(tiles[s * TILE + at / 4u][at % 4u]);
        }
        store_sum(row_first + row, o, sum);
    }
}

void main() {
    uint lane = gl_SubgroupInvocationID, subgroup = gl_SubgroupID;
    uint o_first = gl_WorkGroupID.x * 32u, o = o_first + lane, row_first = p.row_first + gl_WorkGroupID.y * 16u * uint(TILES);
    uint first = subgroup * p.subgroup_units, end = min(first + p.subgroup_units, p.row_units);
    uint base = gl_WorkGroupID.x * p.row_units * 32u + lane, own = subgroup * TILE;
    uvec4 asked[AHEAD];
    uint heads[AHEAD];
#define ASK(i, wanted)                                                                                                 \
    {                                                                                                                  \
        uint index = min(wanted, p.row_units - 1u);                                                                    \
        asked[i] = units[base + index * 32u];                                                                          \
        heads[i] = HEADS_AHEAD != 0 ? scales[words_of(o, index)] : 0u;                                                 \
    }
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        ASK(i, first + i)
    }
    SUM_MATRIX sums[2u * uint(TILES)];
    [[unroll]] for (uint i = 0u; i < 2u * uint(TILES); i++) {
        sums[i] = SUM_MATRIX(0.0);
    }
    for (uint at = first; at < end; at += AHEAD) {
        [[unroll]] for (uint s = 0u; s < STEPS; s++) {
            uint k = min((at + s * STEP_OF_UNITS) * UNIT_EIGHTS, p.stride - EIGHTS) / 2u;
            X_MATRIX columns[EIGHTS / 2u * uint(TILES)];
            [[unroll]] for (uint c = 0u; c < EIGHTS / 2u * uint(TILES); c++) {
                coopMatLoad(columns[c], x, ((k + c / uint(TILES)) * p.side_by_side + row_first + 16u * (c % uint(TILES))) * 2u,
                            2u, gl_CooperativeMatrixLayoutColumnMajor);
            }
            subgroupBarrier();
            [[unroll]] for (uint u = 0u; u < STEP_OF_UNITS; u++) {
                uint i = s * STEP_OF_UNITS + u, unit_index = min(at + i, p.row_units - 1u);
                put(asked[i], heads[i], o, unit_index, at + i < end, own + lane * STRIDE + u * UNIT_EIGHTS);
                ASK(i, at + AHEAD + i)
            }
            subgroupMemoryBarrierShared();
            subgroupBarrier();
            [[unroll]] for (uint e = 0u; e < EIGHTS; e += 2u) {
                W_MATRIX rows[2];
                [[unroll]] for (uint m = 0u; m < 2u; m++) {
                    coopMatLoad(rows[m], tiles, own + 16u * m * STRIDE + e, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                }
                [[unroll]] for (uint n = 0u; n < uint(TILES); n++) {
                    [[unroll]] for (uint m = 0u; m < 2u; m++) {
                        sums[2u * n + m] = coopMatMulAdd(rows[m], columns[e / 2u * uint(TILES) + n], sums[2u * n + m]);
                    }
                }
            }
        }
    }
    // One by one, without a loop: it would have others in it that count to no constant.
#define PUT_TOGETHER(n)                                                                                                \
    barrier();                                                                                                         \
    coopMatStore(sums[2u * n], tiles, own, 4u, gl_CooperativeMatrixLayoutColumnMajor);                                 \
    coopMatStore(sums[2u * n + 1u], tiles, own + 64u, 4u, gl_CooperativeMatrixLayoutColumnMajor);                      \
    barrier();                                                                                                         \
    store_tile(row_first + 16u * n, o);
    PUT_TOGETHER(0u)
#if TILES > 1
    PUT_TOGETHER(1u)
#endif
#if TILES > 2
    PUT_TOGETHER(2u)
    PUT_TOGETHER(3u)
#endif
}
