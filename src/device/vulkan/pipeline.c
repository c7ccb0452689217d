/* device/vulkan/pipeline.c - the kernels' words, the one layout that they share, and pipelines made when first
 * needed. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"

#include "typed_shaders.inc"
static const uint32_t words_norm[] = {
#include "norm.spv.h"
};
static const uint32_t words_rope[] = {
#include "rope.spv.h"
};
static const uint32_t words_kv_store[] = {
#include "kv_store.spv.h"
};
static const uint32_t words_kv_store_turned[] = {
#include "kv_store_turned.spv.h"
};
static const uint32_t words_turn_store[] = {
#include "turn_store.spv.h"
};
static const uint32_t words_kv_store_mirrored[] = {
#include "kv_store_mirrored.spv.h"
};
static const uint32_t words_kv_store_q8[] = {
#include "kv_store_q8.spv.h"
};
static const uint32_t words_kv_store_q8_mirrored[] = {
#include "kv_store_q8_mirrored.spv.h"
};
static const uint32_t words_kv_copy[] = {
#include "kv_copy.spv.h"
};
static const uint32_t words_attention_1[] = {
#include "attention_1.spv.h"
};
static const uint32_t words_attention_4[] = {
#include "attention_4.spv.h"
};
static const uint32_t words_attention_q8_1[] = {
#include "attention_q8_1.spv.h"
};
static const uint32_t words_attention_q8_4[] = {
#include "attention_q8_4.spv.h"
};
static const uint32_t words_attention_decode_1_64[] = {
#include "attention_decode_1_64.spv.h"
};
static const uint32_t words_attention_decode_1_128[] = {
#include "attention_decode_1_128.spv.h"
};
static const uint32_t words_attention_decode_1_256[] = {
#include "attention_decode_1_256.spv.h"
};
static const uint32_t words_attention_decode_2_64[] = {
#include "attention_decode_2_64.spv.h"
};
static const uint32_t words_attention_decode_2_128[] = {
#include "attention_decode_2_128.spv.h"
};
static const uint32_t words_attention_decode_2_256[] = {
#include "attention_decode_2_256.spv.h"
};
static const uint32_t words_attention_decode_q8_1_64[] = {
#include "attention_decode_q8_1_64.spv.h"
};
static const uint32_t words_attention_decode_q8_1_128[] = {
#include "attention_decode_q8_1_128.spv.h"
};
static const uint32_t words_attention_decode_q8_1_256[] = {
#include "attention_decode_q8_1_256.spv.h"
};
static const uint32_t words_attention_decode_q8_2_64[] = {
#include "attention_decode_q8_2_64.spv.h"
};
static const uint32_t words_attention_decode_q8_2_128[] = {
#include "attention_decode_q8_2_128.spv.h"
};
static const uint32_t words_attention_decode_q8_2_256[] = {
#include "attention_decode_q8_2_256.spv.h"
};
static const uint32_t words_attention_merge[] = {
#include "attention_merge.spv.h"
};
static const uint32_t words_attention_tile_64_1[] = {
#include "attention_tile_64_1.spv.h"
};
static const uint32_t words_attention_tile_64_4[] = {
#include "attention_tile_64_4.spv.h"
};
static const uint32_t words_attention_tile_64_8[] = {
#include "attention_tile_64_8.spv.h"
};
static const uint32_t words_attention_tile_128_1[] = {
#include "attention_tile_128_1.spv.h"
};
static const uint32_t words_attention_tile_128_4[] = {
#include "attention_tile_128_4.spv.h"
};
static const uint32_t words_attention_tile_128_8[] = {
#include "attention_tile_128_8.spv.h"
};
static const uint32_t words_attention_matrix_64_1[] = {
#include "attention_matrix_64_1.spv.h"
};
static const uint32_t words_attention_matrix_64_4[] = {
#include "attention_matrix_64_4.spv.h"
};
static const uint32_t words_attention_matrix_64_8[] = {
#include "attention_matrix_64_8.spv.h"
};
static const uint32_t words_attention_matrix_128_1[] = {
#include "attention_matrix_128_1.spv.h"
};
static const uint32_t words_attention_matrix_128_4[] = {
#include "attention_matrix_128_4.spv.h"
};
static const uint32_t words_attention_matrix_128_8[] = {
#include "attention_matrix_128_8.spv.h"
};
static const uint32_t words_gate[] = {
#include "gate.spv.h"
};
static const uint32_t words_add[] = {
#include "add.spv.h"
};
static const uint32_t words_gather[] = {
#include "gather.spv.h"
};
static const uint32_t words_gather_relay[] = {
#include "gather_relay.spv.h"
};
static const uint32_t words_product_f32[] = {
#include "product_f32.spv.h"
};
static const uint32_t words_product_f16[] = {
#include "product_f16.spv.h"
};

static const uint32_t words_halves[] = {
#include "halves.spv.h"
};
static const uint32_t words_halves_short[] = {
#include "halves_short.spv.h"
};
static const uint32_t words_halves_sums[] = {
#include "halves_sums.spv.h"
};
static const uint32_t words_matrix_64[] = {
#include "matrix_64.spv.h"
};
static const uint32_t words_matrix_c64[] = {
#include "matrix_c64.spv.h"
};
static const uint32_t words_matrix_c128[] = {
#include "matrix_c128.spv.h"
};
static const uint32_t words_matrix_64_bf16[] = {
#include "matrix_64_bf16.spv.h"
};
static const uint32_t words_matrix_c64_bf16[] = {
#include "matrix_c64_bf16.spv.h"
};
static const uint32_t words_matrix_c128_bf16[] = {
#include "matrix_c128_bf16.spv.h"
};
static const uint32_t words_matrix_c256[] = {
#include "matrix_c256.spv.h"
};
static const uint32_t words_matrix_c256_bf16[] = {
#include "matrix_c256_bf16.spv.h"
};
static const uint32_t words_matrix_gated_64[] = {
#include "matrix_gated_64.spv.h"
};
static const uint32_t words_matrix_gated_64_bf16[] = {
#include "matrix_gated_64_bf16.spv.h"
};
static const uint32_t words_matrix_gated_c128[] = {
#include "matrix_gated_c128.spv.h"
};
static const uint32_t words_matrix_gated_c128_bf16[] = {
#include "matrix_gated_c128_bf16.spv.h"
};
static const uint32_t words_matrix_gated_c256[] = {
#include "matrix_gated_c256.spv.h"
};
static const uint32_t words_matrix_gated_c256_bf16[] = {
#include "matrix_gated_c256_bf16.spv.h"
};
static const uint32_t words_bounds[] = {
#include "bounds.spv.h"
};
static const uint32_t words_sums[] = {
#include "sums.spv.h"
};
static const uint32_t words_read[] = {
#include "read.spv.h"
};

typedef struct shader_words {
    const char *name;
    const uint32_t *words;
    size_t bytes;
} shader_words;

static const shader_words shaders[SPI_VK_SHADER_COUNT] = {
#define SHADER(name) {#name, words_##name, sizeof words_##name},
#include "device/vulkan/shaders.def"
#undef SHADER
};

/* A family's kernel for a type is its first one's number plus the type's. */
_Static_assert(SPI_VK_matmul_1_iq4_xs - SPI_VK_matmul_1_f32 == (int)SPI_VK_IQ4_XS &&
                   SPI_VK_matmul_8_q2_k - SPI_VK_matmul_8_f32 == (int)SPI_VK_Q2_K &&
                   SPI_VK_row_gated_iq4_xs - SPI_VK_row_gated_f32 == (int)SPI_VK_IQ4_XS &&
                   SPI_VK_rowq_gated_q6_k - SPI_VK_rowq_gated_f32 == (int)SPI_VK_Q6_K &&
                   SPI_VK_rowsq_gated_q6_k - SPI_VK_rowsq_gated_f32 == (int)SPI_VK_Q6_K &&
                   SPI_VK_expand_iq4_xs - SPI_VK_expand_f32 == (int)SPI_VK_IQ4_XS &&
                   SPI_VK_embed_mxfp4 - SPI_VK_embed_f32 == (int)SPI_VK_MXFP4 &&
                   SPI_VK_embed_q4_1 - SPI_VK_embed_f32 == (int)SPI_VK_Q4_1 &&
                   SPI_VK_matmul_4_affine8 - SPI_VK_matmul_4_f32 == (int)SPI_VK_AFFINE8,
               "cmake/generated/shaders.cmake lists the types in the order of spi_vk_type");

static sp_status create_set_layout(spi_vk *vk, sp_error *error) {
    VkDescriptorSetLayoutBinding bindings[SPI_VK_BINDINGS - 1];
    for (uint32_t i = 1; i < SPI_VK_BINDINGS; i++) {
        bindings[i - 1] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                         .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                         .descriptorCount = 1,
                                                         .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    }
    VkDescriptorSetLayoutCreateInfo create = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                              .bindingCount = SPI_VK_BINDINGS - 1,
                                              .pBindings = bindings};
    VkResult result = vk->call->CreateDescriptorSetLayout(vk->device, &create, NULL, &vk->set_layout);
    return result ? spi_vk_fail(error, result, "creating a set layout") : SP_OK;
}

sp_status spi_vk_layouts_create(spi_vk *vk, sp_error *error) {
    sp_status status = create_set_layout(vk, error);
    if (status) {
        return status;
    }
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                .size = SPI_VK_PUSH_WORDS * (uint32_t)sizeof(uint32_t)};
    VkPipelineLayoutCreateInfo create = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &vk->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &push};
    VkResult result = vk->call->CreatePipelineLayout(vk->device, &create, NULL, &vk->layout);
    return result ? spi_vk_fail(error, result, "creating a pipeline layout") : spi_vk_cache_open(vk, error);
}

void spi_vk_layouts_destroy(spi_vk *vk) {
    if (vk->cache) {
        spi_vk_cache_save(vk);
    }
    for (uint32_t i = 0; i < SPI_VK_SHADER_COUNT; i++) {
        for (size_t k = 0; k < vk->pipelines[i].count; k++) {
            vk->call->DestroyPipeline(vk->device, vk->pipelines[i].items[k].pipeline, NULL);
        }
        spi_free(vk->pipelines[i].items);
    }
    vk->call->DestroyPipelineCache(vk->device, vk->cache, NULL);
    vk->call->DestroyPipelineLayout(vk->device, vk->layout, NULL);
    vk->call->DestroyDescriptorSetLayout(vk->device, vk->set_layout, NULL);
}

/* The constants of all kernels: slices or rows, subgroup, invocations of a group, whether a norm is fused to it, how
 * much of x is in shared memory, rows of x, and sums in shared memory. */
#define CONSTANTS 7u

static sp_status create(spi_vk *vk, spi_vk_shader shader, spi_vk_variant variant, VkPipeline *pipeline,
                        sp_error *error) {
    const shader_words *words = &shaders[shader];
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = words->bytes, .pCode = words->words};
    VkShaderModule module;
    VkResult result = vk->call->CreateShaderModule(vk->device, &module_info, NULL, &module);
    if (result) {
        spi_vk_fail(error, result, words->name);
        return spi_fail_within(error, "loading a kernel");
    }
    uint32_t rows = variant.rows ? variant.rows : vk->limits.slices;
    uint32_t invocations = variant.invocations ? variant.invocations : 8 * rows;
    uint32_t values[CONSTANTS] = {rows,          vk->adapter.subgroup, invocations,     variant.norm,
                                  variant.fours, variant.batch,        variant.partials};
    VkSpecializationMapEntry entries[CONSTANTS];
    for (uint32_t i = 0; i < CONSTANTS; i++) {
        entries[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    }
    VkSpecializationInfo special = {
        .mapEntryCount = CONSTANTS, .pMapEntries = entries, .dataSize = sizeof values, .pData = values};
    VkComputePipelineCreateInfo create = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                          .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                    .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                    .module = module,
                                                    .pName = "main",
                                                    .pSpecializationInfo = &special},
                                          .layout = vk->layout,
                                          .basePipelineIndex = -1};
    result = vk->call->CreateComputePipelines(vk->device, vk->cache, 1, &create, NULL, pipeline);
    vk->call->DestroyShaderModule(vk->device, module, NULL);
    vk->cache_grew = true;
    if (result) {
        *pipeline = VK_NULL_HANDLE;
        spi_vk_fail(error, result, words->name);
        return spi_fail_within(error, "compiling a kernel");
    }
    return SP_OK;
}

sp_status spi_vk_pipeline_need(spi_vk *vk, spi_vk_shader shader, spi_vk_variant variant, VkPipeline *pipeline,
                               sp_error *error) {
    spi_vk_pipelines *made = &vk->pipelines[shader];
    for (size_t i = 0; i < made->count; i++) {
        if (!memcmp(&made->items[i].variant, &variant, sizeof variant)) {
            *pipeline = made->items[i].pipeline;
            return SP_OK;
        }
    }
    if (!SPI_RESERVE(made->items, made->count, made->capacity)) {
        return spi_fail(error, SP_NO_MEMORY, "vulkan: no memory for a kernel");
    }
    sp_status status = create(vk, shader, variant, pipeline, error);
    if (!status) {
        made->items[made->count].variant = variant;
        made->items[made->count++].pipeline = *pipeline;
    }
    return status;
}
