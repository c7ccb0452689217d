// matrix.glsl - what kernels for products of many rows share: what they are told, and where a sum goes.
layout(std430, binding = 1) readonly buffer Parameters { uint parameters[]; };
layout(std430, binding = 5) readonly buffer Bias { float bias[]; };
layout(std430, binding = 6) buffer Y { float y[]; };
layout(std430, binding = 7) readonly buffer Factors { float factors[]; };
layout(push_constant) uniform Push {
    uint weight_first, weight_count; // rows of the weight that were expanded
    uint w_first;                    // where they begin, in eights
    uint stride;                     // of a row of x, in eights, of which w has row_units
    uint y_stride;
    uint row_first, row_end; // rows of x
    uint flags;              // 1 accumulate, 2 bias, 4 head
    uint outs_word;
    float scale, softcap; // head
    uint row_units;      // of the weight
    uint subgroup_units; // few.comp's: of a row of the weight, for a subgroup
    uint side_by_side;   // rows of x
    uint factors_first;  // of x
    uint w_second, limit, gated_first; // matrix.comp's two products: where the second's rows begin, outputs with padding, and
                                       // their factors; one product: where sums of its shares begin
    uint panel;                        // rows of a panel of x
    uint share;                        // matrix.comp's: of k, in eights, for a group
} p;

#include "store.glsl"

// A sum of a tile, which may reach behind the last rows of both.
void store_sum(uint row, uint o, float value) {
    if (row < p.row_end && o < p.weight_count) {
        store(row, o + p.weight_first, value * factors[p.factors_first + row]);
    }
}
