/* device/metal/pipeline.c - kernels compiled when they are first needed, by Metal's own compiler from their text.
 *
 * Fast math is off: results then are what the shading language promises for precise functions, on every chip. The type
 * of a weight is a function constant, so one text serves all of them.
 */
#include "base/error.h"
#include "device/metal/metal.h"

#define SIMD_WIDTH 32u /* what kernels with SIMD sums count on: every Apple chip's */

#include "metal_kernels.inc"

static sp_status compile_library(spi_mt *mt, spi_mt_kernel kernel, sp_error *error) {
    const spi_mt_runtime *objc = &mt->objc;
    if (mt->libraries[kernel]) {
        return SP_OK;
    }
    spi_mt_id options = spi_mt_new_of_class(objc, "MTLCompileOptions"), why = NULL;
    if (!options) { /* without them math would be fast */
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to compile a kernel");
    }
    spi_mt_set_fast_math(objc, options, false);
    spi_mt_set_language(objc, options, SPI_MT_LANGUAGE_2_3);
    spi_mt_id text = spi_mt_text(objc, spi_mt_sources[kernel].text);
    mt->libraries[kernel] = spi_mt_new_library(objc, mt->device, text, options, &why);
    spi_mt_release(objc, options);
    if (!mt->libraries[kernel]) {
        spi_mt_fail(mt, SP_UNSUPPORTED, why, spi_mt_sources[kernel].name, error);
        return spi_fail_within(error, "compiling a kernel");
    }
    return SP_OK;
}

static spi_mt_id make_function(spi_mt *mt, spi_mt_kernel kernel, sp_dtype type, spi_mt_id *why) {
    const spi_mt_runtime *objc = &mt->objc;
    uint32_t value = (uint32_t)type;
    spi_mt_id constants = spi_mt_new_of_class(objc, "MTLFunctionConstantValues");
    if (!constants) {
        return NULL;
    }
    spi_mt_set_constant(objc, constants, &value, SPI_MT_DATA_UINT, 0);
    spi_mt_id name = spi_mt_text(objc, "main0");
    spi_mt_id function = spi_mt_new_function(objc, mt->libraries[kernel], name, constants, why);
    spi_mt_release(objc, constants);
    return function;
}

static sp_status check_pipeline(spi_mt *mt, spi_mt_kernel kernel, spi_mt_id pipeline, sp_error *error) {
    const spi_mt_source *source = &spi_mt_sources[kernel];
    uint64_t width = spi_mt_execution_width(&mt->objc, pipeline), most = spi_mt_max_threads(&mt->objc, pipeline);
    if (width != SIMD_WIDTH || most < source->threads) {
        return spi_fail(
            error, SP_UNSUPPORTED,
            "metal: kernel %s needs %u threads in SIMD groups of %u, and the device has %llu in groups of %llu",
            source->name, source->threads, SIMD_WIDTH, (unsigned long long)most, (unsigned long long)width);
    }
    return SP_OK;
}

static sp_status make_pipeline(spi_mt *mt, spi_mt_kernel kernel, sp_dtype type, sp_error *error) {
    const spi_mt_runtime *objc = &mt->objc;
    spi_mt_id why = NULL, pipeline = NULL;
    bool is_new = false;
    spi_mt_id function = make_function(mt, kernel, type, &why);
    spi_mt_id descriptor = function ? spi_mt_new_of_class(objc, "MTLComputePipelineDescriptor") : NULL;
    if (descriptor) {
        spi_mt_set_function(objc, descriptor, function);
        spi_mt_archive_use(mt, descriptor);
        if (mt->archive_found) {
            pipeline = spi_mt_new_pipeline(objc, mt->device, descriptor, SPI_MT_FAIL_ON_MISS, NULL, &why);
        }
        is_new = !pipeline;
        if (is_new) {
            pipeline = spi_mt_new_pipeline(objc, mt->device, descriptor, 0, NULL, &why);
        }
    }
    sp_status status = SP_OK;
    if (pipeline) {
        status = check_pipeline(mt, kernel, pipeline, error);
    } else {
        spi_mt_fail(mt, SP_UNSUPPORTED, why, spi_mt_sources[kernel].name, error);
        status = spi_fail_within(error, "making a kernel");
    }
    if (status) {
        spi_mt_release(objc, pipeline);
    } else {
        mt->pipelines[kernel][spi_mt_type_index(type)] = pipeline;
        if (is_new) {
            spi_mt_archive_keep(mt, descriptor);
        }
    }
    spi_mt_release(objc, descriptor);
    spi_mt_release(objc, function);
    return status;
}

sp_status spi_mt_pipeline_need(spi_mt *mt, spi_mt_kernel kernel, sp_dtype type, sp_error *error) {
    if (mt->pipelines[kernel][spi_mt_type_index(type)]) {
        return SP_OK;
    }
    void *pool = mt->objc.push_pool();
    sp_status status = compile_library(mt, kernel, error);
    status = status ? status : make_pipeline(mt, kernel, type, error);
    mt->objc.pop_pool(pool);
    return status;
}

void spi_mt_pipelines_destroy(spi_mt *mt) {
    for (uint32_t i = 0; i < SPI_MT_KERNEL_COUNT; i++) {
        for (uint32_t type = 0; type < SPI_MT_TYPES; type++) {
            spi_mt_release(&mt->objc, mt->pipelines[i][type]);
        }
        spi_mt_release(&mt->objc, mt->libraries[i]);
    }
}
