// expand.comp - rows of a weight as f16 for matrix.comp, in tiles of 32 rows, [eight numbers of a row][row]: so that
// there is one such kernel for all types, which reads its factors in the order in which they are multiplied. A work
// group has 32 rows and 256 columns of them; what stands behind a row's last column is zero.
// fast types: expand=
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 256) in;
#if TYPE == 0
void main() {} // F32 is not rounded
#else
layout(std430, binding = 2) readonly buffer Units { uvec4 units[]; };
layout(std430, binding = 3) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 6) writeonly buffer Expanded { uvec4 expanded[]; }; // eight f16
layout(push_constant) uniform Push {
    uint row_units;
    uint tile_first; // of 32 rows, in the piece
    uint to, stride; // in expanded, in eights: where its first tile begins, and a row
} p;
#include "weights.glsl"

const uint UNIT_EIGHTS = UNIT_PARTS / 2u, ACROSS = 32u / UNIT_EIGHTS;

void main() {
    uint thread = gl_LocalInvocationIndex, from = p.tile_first + gl_WorkGroupID.y;
    for (uint i = thread; i < 32u * ACROSS; i += 256u) {
        uint row = i % 32u, unit_index = gl_WorkGroupID.x * ACROSS + i / 32u, column = unit_index * UNIT_EIGHTS;
        uint at = p.to + (gl_WorkGroupID.y * p.stride + column) * 32u + row;
        bool there = unit_index < p.row_units;
        uint index = min(unit_index, p.row_units - 1u);
        uvec4 unit = units[(from * p.row_units + index) * 32u + row];
#if TYPE == F16
        if (column < p.stride) {
            expanded[at] = there ? unit : uvec4(0u);
        }
#else
        uint words_at = (from * (p.row_units / STEP_UNITS) + index / STEP_UNITS) * WORDS * 32u + row;
        begin_step(words_at, 32u);
        begin_unit(words_at, 32u, index % STEP_UNITS);
        [[unroll]] for (uint pair = 0u; pair < UNIT_EIGHTS; pair++) {
            vec4 low = unit_part(unit, 2u * pair), high = unit_part(unit, 2u * pair + 1u);
#if SCALED > 0
            vec2 scale = sub_scale(index % STEP_UNITS, 2u * pair / SUB_PARTS);
            low = fma(low, vec4(scale.x), vec4(scale.y));
            high = fma(high, vec4(scale.x), vec4(scale.y));
#endif
            uvec4 eight = uvec4(packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy), packHalf2x16(high.zw));
            if (column + pair < p.stride) {
                expanded[at + 32u * pair] = there ? eight : uvec4(0u);
            }
        }
#endif
    }
}
#endif
