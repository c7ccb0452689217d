// attention_matrix.comp - dst[r] = softmax(scale * q k^T) v for tiles of rows of one session, by cooperative matrices
// of 16 x 16 (SPV_KHR_cooperative_matrix): q and the weights of tokens are rounded to f16, sums are f32. By a running
// maximum and sum (arXiv:2205.14135), of which the maximum need not be the largest: a row's is renewed, and what was
// summed up is scaled, only when a score is so far above it that weights become large for f16. Behind the first tokens
// that is rare.
//
// A work group has 128 queries, of wide heads 64: HEADS heads that share a KV head, and so many rows. A subgroup of 32
// has G times 16 of them, so that a matrix of k or v that is loaded meets more than one of queries. k and v of a block
// lie in shared memory, where there is room for both side by side; asked for when they are put there, since another
// work group computes meanwhile, and fewer registers are sooner than asking ahead. Scores become weights where they
// are, in their matrix, since what is done to them is the same for all but the maxima, which are a matrix of the same
// kind. Only what depends on where a number stands goes through memory: what a row does not see, new maxima, and
// weights as a left factor. Loops around matrices count to constants: see matrix.comp.
// variants: attention_matrix_64_1=-DDIM=64,-DHEADS=1,-DCOOPERATIVE=1 attention_matrix_64_4=-DDIM=64,-DHEADS=4,-DCOOPERATIVE=1 attention_matrix_64_8=-DDIM=64,-DHEADS=8,-DCOOPERATIVE=1 attention_matrix_128_1=-DDIM=128,-DHEADS=1,-DCOOPERATIVE=1 attention_matrix_128_4=-DDIM=128,-DHEADS=4,-DCOOPERATIVE=1 attention_matrix_128_8=-DDIM=128,-DHEADS=8,-DCOOPERATIVE=1
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(local_size_x = 128) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 2) readonly buffer Blocks { uvec4 blocks[]; }; // eight f16
layout(std430, binding = 4) readonly buffer Q { vec4 q[]; };
layout(std430, binding = 6) writeonly buffer Dst { float dst[]; };
// Where the product behind wants f16: two a word, as large as they are, since they are means of v, which is f16 itself.
layout(std430, binding = 7) writeonly buffer Factors { float factors[]; };
layout(std430, binding = 8) writeonly buffer Halves { uint halves[]; };
layout(push_constant) uniform Push {
    uint tile_first, tile_count, tiles_word; // of this span; two words a tile: its first row, how many
    uint stride, heads, kv_heads;
    uint rows_word, block_words, layer_word, window;
    float scale, softcap;
    uint panel; // rows of a panel of halves, which has 32 columns; 0: to dst
} p;

// Scores are logarithms to base two. FLOOR is below all of them and still above what is not seen.
const float LOWEST = -3.0e38, FLOOR = -1.0e30, LOG2_E = 1.4426950408889634, ABOVE = 8.0;
const uint EIGHTS = uint(DIM) / 8u, STRIDE = EIGHTS + 1u; // of a token, in eights, padded: no two in the same banks
const uint DS = uint(DIM) / 16u;                          // matrices
const uint LOADS = 64u * EIGHTS / 128u;
shared uvec4 k_tile[64u * STRIDE];
#if DIM == 64
shared uvec4 v_tile[64u * STRIDE];
#else
#define v_tile k_tile // in turns
#endif
const uint G = DIM == 64 ? 2u : 1u, QUERIES = 16u * G; // of a subgroup
// A subgroup's weights of 16 tokens in f16, in rows of NARROW eights, padded as well; or a matrix of f32. With this all
// is 24 KiB: cards have 48 for what runs at once, and one work group by itself waits for most of the time.
const uint NARROW = 3u, OWN = 16u * NARROW * G > 64u ? 16u * NARROW * G : 64u;
shared uvec4 scratch[4u * OWN];

#include "softcap.glsl"

#define SUM_MATRIX coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define LEFT       coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define RIGHT      coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>
#define HALF_MATRIX coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
const int NUMBERS = 8;         // of a matrix in each of 32 lanes, wherever they stand in it
SUM_MATRIX products[4u * G];   // of a block: scores, then weights
SUM_MATRIX outputs[DS * G];
SUM_MATRIX total[G];           // of weights, whose columns are still to be added up
SUM_MATRIX maxima[G];          // a row's in all columns
LEFT queries[DS * G];
float highest[G];                   // of the rows that two lanes have where rows matter

void together() {
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

uint halves_of(float a, float b) {
    return packHalf2x16(clamp(vec2(a, b), vec2(-65504.0), vec2(65504.0)));
}

// Queries of rows or heads that there are none of are those of the last.
void load_queries(uint group, uint lane, uint row_first, uint row_count, uint head_first, uint head_count) {
    float scale = p.softcap > 0.0 ? p.scale : p.scale * LOG2_E;
    uint to = group * 16u * STRIDE; // in k's tile, where nothing is yet
    [[unroll]] for (uint g = 0u; g < G; g++) {
        [[unroll]] for (uint l = 0u; l < EIGHTS / 2u; l++) {
            uint i = lane + 32u * l, m = group * QUERIES + 16u * g + i / EIGHTS, e = i % EIGHTS;
            uint row = row_first + min(m / uint(HEADS), row_count - 1u), head = head_first + min(m % uint(HEADS), head_count - 1u);
            uint at = (row * p.stride + head * uint(DIM)) / 4u + 2u * e;
            vec4 a = q[at] * scale, b = q[at + 1u] * scale;
            k_tile[to + i / EIGHTS * STRIDE + e] =
                uvec4(halves_of(a.x, a.y), halves_of(a.z, a.w), halves_of(b.x, b.y), halves_of(b.z, b.w));
        }
        together();
        [[unroll]] for (uint e = 0u; e < DS; e++) {
            coopMatLoad(queries[g * DS + e], k_tile, to + 2u * e, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            outputs[g * DS + e] = SUM_MATRIX(0.0);
        }
        together();
        maxima[g] = SUM_MATRIX(FLOOR);
        total[g] = SUM_MATRIX(0.0);
        highest[g] = FLOOR;
    }
}

// Behind the last token there may be anything, and what has no weight must not count: 0 * NaN would.
void put_k(uint from, uint tokens) {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + 128u * l, t = i / EIGHTS;
        k_tile[t * STRIDE + i % EIGHTS] = t < tokens ? blocks[from + i] : uvec4(0u);
    }
}

void put_v(uint from, uint tokens) {
    [[unroll]] for (uint l = 0u; l < LOADS; l++) {
        uint i = gl_LocalInvocationIndex + 128u * l, t = i / EIGHTS;
        v_tile[t * STRIDE + i % EIGHTS] = t < tokens ? blocks[from + i] : uvec4(0u);
    }
}

void score() {
    [[unroll]] for (uint i = 0u; i < 4u * G; i++) {
        products[i] = SUM_MATRIX(0.0);
    }
    [[unroll]] for (uint t = 0u; t < 4u; t++) {
        [[unroll]] for (uint e = 0u; e < DS; e++) {
            RIGHT k;
            coopMatLoad(k, k_tile, 16u * t * STRIDE + 2u * e, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint g = 0u; g < G; g++) {
                products[4u * g + t] = coopMatMulAdd(queries[g * DS + e], k, products[4u * g + t]);
            }
        }
    }
}

float cap(float value) {
    return p.softcap > 0.0 ? soft_cap(value) * LOG2_E : value;
}

float shown(uint at, uint first, uint position) {
    return at >= first && at <= position ? 0.0 : LOWEST;
}

// What rows do not see of the tokens from `token` on: all but [first, position].
void hide(uint group, uint lane, uint token, uint position_first, uint row_count) {
    if (p.softcap > 0.0) {
        [[unroll]] for (uint t = 0u; t < 4u * G; t++) {
            [[unroll]] for (int i = 0; i < NUMBERS; i++) {
                products[t][i] = cap(products[t][i]);
            }
        }
    }
    uint own = group * OWN + lane * 2u;
    [[unroll]] for (uint g = 0u; g < G; g++) {
        uint position = position_first + min((group * QUERIES + 16u * g + lane / 2u) / uint(HEADS), row_count - 1u);
        uint first = p.window > 0u && position >= p.window ? position - p.window + 1u : 0u;
        [[unroll]] for (uint t = 0u; t < 4u; t++) {
            [[unroll]] for (uint i = 0u; i < 2u; i++) {
                uint at = token + 16u * t + 8u * (lane % 2u) + 4u * i;
                vec4 mask = vec4(shown(at, first, position), shown(at + 1u, first, position), shown(at + 2u, first, position), shown(at + 3u, first, position));
                scratch[own + i] = floatBitsToUint(mask);
            }
            together();
            SUM_MATRIX mask;
            coopMatLoad(mask, scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
            products[4u * g + t] = products[4u * g + t] + mask;
            together();
        }
    }
}

void spread_out(uint group, uint lane, float value) { // a number of each of 16 rows, for all columns
    uint word = floatBitsToUint(value), at = group * OWN + 2u * lane;
    scratch[at] = uvec4(word);
    scratch[at + 1u] = uvec4(word);
    together();
}

// The maxima, if that of some row of the subgroup has to be another one.
void renew(uint group, uint lane) {
    float top = LOWEST;
    [[unroll]] for (uint g = 0u; g < G; g++) {
        [[unroll]] for (int i = 0; i < NUMBERS; i++) {
            float most = max(max(products[4u * g][i], products[4u * g + 1u][i]), max(products[4u * g + 2u][i], products[4u * g + 3u][i]));
            top = max(top, most - maxima[g][i]);
        }
    }
    bool wanted = subgroupMax(top > ABOVE ? 1u : 0u) != 0u;
    if (wanted) {
        [[unroll]] for (uint g = 0u; g < G; g++) {
            float most = highest[g];
            [[unroll]] for (uint t = 0u; t < 4u; t++) {
                coopMatStore(products[4u * g + t], scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
                together();
                vec4 low = uintBitsToFloat(scratch[group * OWN + 2u * lane]), high = uintBitsToFloat(scratch[group * OWN + 2u * lane + 1u]);
                low = max(low, high);
                most = max(most, max(max(low.x, low.y), max(low.z, low.w)));
                together();
            }
            most = max(most, subgroupShuffleXor(most, 1u));
            spread_out(group, lane, exp2(highest[g] - most));
            highest[g] = most;
            SUM_MATRIX factors;
            coopMatLoad(factors, scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint i = 0u; i < DS; i++) {
                outputs[g * DS + i] = outputs[g * DS + i] * factors;
            }
            total[g] = total[g] * factors;
            together();
            spread_out(group, lane, most);
            coopMatLoad(maxima[g], scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
            together();
        }
    }
}

// Weights instead of scores, of 16 tokens at a time, and their values.
void add_values(uint group) {
    [[unroll]] for (uint t = 0u; t < 4u; t++) {
        [[unroll]] for (uint g = 0u; g < G; g++) {
            [[unroll]] for (int i = 0; i < NUMBERS; i++) {
                products[4u * g + t][i] = exp2(products[4u * g + t][i] - maxima[g][i]);
            }
            total[g] = total[g] + products[4u * g + t];
            HALF_MATRIX halves = HALF_MATRIX(products[4u * g + t]);
            coopMatStore(halves, scratch, group * OWN + g * 16u * NARROW, NARROW, gl_CooperativeMatrixLayoutRowMajor);
        }
        together();
        LEFT weights[G];
        [[unroll]] for (uint g = 0u; g < G; g++) {
            coopMatLoad(weights[g], scratch, group * OWN + g * 16u * NARROW, NARROW, gl_CooperativeMatrixLayoutRowMajor);
        }
        [[unroll]] for (uint i = 0u; i < DS; i++) {
            RIGHT v;
            coopMatLoad(v, v_tile, 16u * t * STRIDE + 2u * i, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint g = 0u; g < G; g++) {
                outputs[g * DS + i] = coopMatMulAdd(weights[g], v, outputs[g * DS + i]);
            }
        }
        together();
    }
}

void store_pair(uint row, uint column, vec2 pair) {
    if (p.panel > 0u) {
        halves[(column / 32u * p.panel + row) * 16u + column % 32u / 2u] = packHalf2x16(pair);
    } else {
        dst[row * p.stride + column] = pair.x;
        dst[row * p.stride + column + 1u] = pair.y;
    }
}

void store(uint group, uint lane, uint row_first, uint row_count, uint head_first, uint head_count) {
    [[unroll]] for (uint g = 0u; g < G; g++) {
        together(); // all have read what was there
        coopMatStore(total[g], scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
        together();
        uint own = group * OWN + 2u * lane;
        vec4 some = uintBitsToFloat(scratch[own]) + uintBitsToFloat(scratch[own + 1u]);
        float sum = some.x + some.y + some.z + some.w;
        sum += subgroupShuffleXor(sum, 1u);
        float inverse = 1.0 / sum; // of the row that two lanes have
        [[unroll]] for (uint i = 0u; i < DS; i++) {
            together();
            coopMatStore(outputs[g * DS + i], scratch, group * OWN, 4u, gl_CooperativeMatrixLayoutRowMajor);
            together();
            [[unroll]] for (uint k = 0u; k < 4u; k++) { // to a constant: see matrix.comp
                uint n = lane / 8u + 4u * k, m = group * QUERIES + 16u * g + n, column = 2u * (lane % 8u);
                uint row = m / uint(HEADS), head = m % uint(HEADS), from = group * OWN + n * 4u + column / 4u;
                vec2 pair = subgroupShuffle(inverse, 2u * n) *
                            uintBitsToFloat(uvec2(scratch[from][column % 4u], scratch[from][column % 4u + 1u]));
                if (row < row_count && head < head_count) {
                    store_pair(row_first + row, (head_first + head) * uint(DIM) + 16u * i + column, pair);
                }
            }
        }
    }
}

void main() {
    uint group = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    uint tile = p.tile_first + p.tile_count - 1u - gl_WorkGroupID.y; // the longest first
    uint row_first = parameters[p.tiles_word + 2u * tile], row_count = parameters[p.tiles_word + 2u * tile + 1u];
    uint share = p.heads / p.kv_heads, portions = (share + uint(HEADS) - 1u) / uint(HEADS);
    uint kv_head = gl_WorkGroupID.x / portions, head_at = (gl_WorkGroupID.x % portions) * uint(HEADS);
    uint head_first = kv_head * share + head_at, head_count = min(uint(HEADS), share - head_at);
    uint base = (parameters[p.rows_word + row_first * 4u + 2u] + p.layer_word) / 4u, width = p.block_words / 4u;
    uint k_at = base + kv_head * 64u * EIGHTS, v_at = base + (p.kv_heads + kv_head) * 64u * EIGHTS;
    uint position_first = parameters[p.rows_word + row_first * 4u + 1u], position_end = position_first + row_count;
    // Tokens that some row sees, and that all do.
    uint start = p.window > 0u && position_first >= p.window ? position_first - p.window + 1u : 0u;
    uint all_start = p.window > 0u && position_end > p.window ? position_end - p.window : 0u;
    uint block_end = (position_end + 63u) / 64u;
    load_queries(group, lane, row_first, row_count, head_first, head_count);
    for (uint block = start / 64u; block < block_end; block++) {
        uint tokens = min(position_end - block * 64u, 64u);
        barrier();
        put_k(k_at + block * width, tokens);
#if DIM == 64
        put_v(v_at + block * width, tokens);
#endif
        barrier();
        score();
        if (p.softcap > 0.0 || block * 64u + 63u > position_first || block * 64u < all_start) {
            hide(group, lane, block * 64u, position_first, row_count);
        }
        renew(group, lane);
#if DIM != 64
        barrier();
        put_v(v_at + block * width, tokens);
        barrier();
#endif
        add_values(group);
    }
    store(group, lane, row_first, row_count, head_first, head_count);
    if (p.panel > 0u && gl_WorkGroupID.x == 0u && gl_LocalInvocationIndex < row_count) {
        factors[row_first + gl_LocalInvocationIndex] = 1.0;
    }
}
