// file_tile.comp - what file_matmul.comp computes, for many rows: a threadgroup has a tile of 32 rows of weights by 32
// rows of x. Of each 32 columns one half of the threads takes the weights apart and the other fetches x, into memory
// that all share; then each thread multiplies four rows of weights with four of x.
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 4) readonly buffer X { vec4 x[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
#include "file_product.glsl"

const uint SIDE = 32u; // of the tile, and columns of a step
shared vec4 weight_tile[SIDE * SIDE / 4u]; // [column][row / 4]
shared vec4 x_tile[SIDE * SIDE / 4u];

// A row of a tile, transposed: a column's 32 rows are neighbours.
void put_weight(uint row, uint column, float value) {
    weight_tile[column * (SIDE / 4u) + row / 4u][row & 3u] = value;
}

void put_x(uint row, uint column, float value) {
    x_tile[column * (SIDE / 4u) + row / 4u][row & 3u] = value;
}

void main() {
    uint thread = gl_LocalInvocationID.x, mine = thread & 31u;
    uint weight_row = min(gl_WorkGroupID.x * SIDE + mine, p.weight_count - 1u);
    uint x_at = min(p.row_first + gl_WorkGroupID.y * SIDE + mine, p.row_end - 1u) * p.x_stride;
    uint four_o = thread & 7u, four_r = thread >> 3u;
    vec4 sums[4]; // [row of x] of four rows of weights
    for (uint r = 0u; r < 4u; r++) {
        sums[r] = vec4(0.0);
    }
    for (uint group = 0u; SIDE * group < p.columns; group++) {
        if (thread < SIDE) {
            vec4 weights[PARTS];
            take_weights(weight_row, group, p.columns, weights);
            for (uint i = 0u; i < SIDE; i++) {
                put_weight(mine, i, weights[i / 4u][i & 3u]);
            }
        } else {
            for (uint i = 0u; i < PARTS; i++) {
                vec4 four = x[x_at + group * PARTS + i];
                for (uint k = 0u; k < 4u; k++) {
                    put_x(mine, 4u * i + k, four[k]);
                }
            }
        }
        barrier();
        for (uint k = 0u; k < SIDE; k++) {
            vec4 w = weight_tile[k * (SIDE / 4u) + four_o], rows = x_tile[k * (SIDE / 4u) + four_r];
            for (uint r = 0u; r < 4u; r++) {
                sums[r] = fma(w, vec4(rows[r]), sums[r]);
            }
        }
        barrier();
    }
    for (uint r = 0u; r < 4u; r++) {
        uint row = p.row_first + gl_WorkGroupID.y * SIDE + 4u * four_r + r;
        for (uint j = 0u; j < 4u; j++) {
            uint o = gl_WorkGroupID.x * SIDE + 4u * four_o + j;
            if (o < p.weight_count && row < p.row_end) {
                store(row, p.weight_first + o, sums[r][j]);
            }
        }
    }
}
