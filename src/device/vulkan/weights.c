/* device/vulkan/weights.c - not there yet: weights and programs follow in the next commits. */
#include "base/error.h"
#include "device/vulkan/vulkan.h"

sp_status spi_vk_load(void *context, const spi_weights *weights, spi_progress progress, void *progress_env,
                      spi_store **store, sp_error *error) {
    (void)context, (void)weights, (void)progress, (void)progress_env;
    *store = NULL;
    return spi_fail(error, SP_UNSUPPORTED, "vulkan: models cannot be loaded yet");
}
void spi_vk_unload(void *context, spi_store *store) {
    (void)context, (void)store;
}
sp_status spi_vk_prepare(void *context, spi_store *store, const spi_tape *tape, spi_program **program,
                         sp_error *error) {
    (void)context, (void)store, (void)tape;
    *program = NULL;
    return spi_fail(error, SP_UNSUPPORTED, "vulkan: tapes cannot be run yet");
}
void spi_vk_discard(void *context, spi_program *program) {
    (void)context, (void)program;
}
sp_status spi_vk_run(void *context, spi_program *program, const spi_run *run, sp_error *error) {
    (void)context, (void)program, (void)run;
    return spi_fail(error, SP_UNSUPPORTED, "vulkan: tapes cannot be run yet");
}
sp_status spi_vk_write_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, const float *data,
                              sp_error *error) {
    (void)context, (void)program, (void)buffer, (void)rows, (void)data;
    return spi_fail(error, SP_UNSUPPORTED, "vulkan: tapes cannot be run yet");
}
sp_status spi_vk_read_buffer(void *context, spi_program *program, uint32_t buffer, uint32_t rows, float *data,
                             sp_error *error) {
    (void)context, (void)program, (void)buffer, (void)rows, (void)data;
    return spi_fail(error, SP_UNSUPPORTED, "vulkan: tapes cannot be run yet");
}
