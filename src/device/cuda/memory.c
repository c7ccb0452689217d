/* device/cuda/memory.c - the card's own memory, and pinned memory of the host's. */
#include <string.h>

#include "base/error.h"
#include "device/cuda/cuda.h"

static sp_status no_memory(uint64_t bytes, const char *what, const char *whose, sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "cuda: %s: %llu bytes of %s memory are not to be had", what,
                    (unsigned long long)bytes, whose);
}

sp_status spi_cu_buffer_create(spi_cu *cu, uint64_t bytes, const char *what, spi_cu_buffer *buffer, sp_error *error) {
    memset(buffer, 0, sizeof *buffer);
    spi_cu_result result = cu->call->MemAlloc(&buffer->address, bytes);
    if (result) {
        buffer->address = 0;
        return result == SPI_CU_OUT_OF_MEMORY ? no_memory(bytes, what, "the card's", error)
                                              : spi_cu_check(cu, result, what, error);
    }
    buffer->bytes = bytes;
    return SP_OK;
}

sp_status spi_cu_buffer_zero(spi_cu *cu, const spi_cu_buffer *buffer, sp_error *error) {
    return spi_cu_check(cu, cu->call->MemsetD8Async(buffer->address, 0, buffer->bytes, cu->stream), "clearing memory",
                        error);
}

void spi_cu_buffer_destroy(spi_cu *cu, spi_cu_buffer *buffer) {
    if (buffer->address) {
        cu->call->MemFree(buffer->address);
    }
    memset(buffer, 0, sizeof *buffer);
}

sp_status spi_cu_pinned_create(spi_cu *cu, uint64_t bytes, const char *what, spi_cu_pinned_memory *memory,
                               sp_error *error) {
    memset(memory, 0, sizeof *memory);
    spi_cu_result result = cu->call->MemHostAlloc(&memory->address, bytes, SPI_CU_HOST_PORTABLE | SPI_CU_HOST_MAPPED);
    if (result) {
        memory->address = NULL;
        return result == SPI_CU_OUT_OF_MEMORY ? no_memory(bytes, what, "pinned", error)
                                              : spi_cu_check(cu, result, what, error);
    }
    memory->bytes = bytes;
    return SP_OK;
}

void spi_cu_pinned_destroy(spi_cu *cu, spi_cu_pinned_memory *memory) {
    if (memory->address) {
        cu->call->MemFreeHost(memory->address);
    }
    memset(memory, 0, sizeof *memory);
}
