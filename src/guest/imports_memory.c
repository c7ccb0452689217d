/* guest/imports_memory.c - see imports_memory.h. */
#include "guest/imports_memory.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/imports.h"
#include "samepage/region.h"

sp_status spi_memory_range(sp_guest *guest, const char *import, const char *parameter, uint64_t address, uint64_t bytes,
                           uint32_t align_bytes) {
    uint64_t size = sp_region_size_bytes(sp_guest_region(guest));
    if (address > size || bytes > size - address) {
        return spi_fail(spi_host_error(guest), SP_BAD_POINTER,
                        "%s: %s: %llu bytes at 0x%llx do not lie inside of the memory of %llu bytes", import, parameter,
                        (unsigned long long)bytes, (unsigned long long)address, (unsigned long long)size);
    }
    if (address % align_bytes) {
        return spi_fail(spi_host_error(guest), SP_BAD_POINTER, "%s: %s: 0x%llx is not aligned to %u bytes", import,
                        parameter, (unsigned long long)address, align_bytes);
    }
    return SP_OK;
}

/* NULL for an empty range, so that nobody reads through it by mistake. */
static sp_status check(sp_guest *guest, const char *import, const char *parameter, uint32_t address, uint32_t count,
                       uint32_t element_bytes, uint8_t **bytes) {
    *bytes = NULL;
    if (!count) {
        return SP_OK;
    }
    sp_status status =
        spi_memory_range(guest, import, parameter, address, (uint64_t)count * element_bytes, element_bytes);
    if (!status) {
        *bytes = sp_region_base(sp_guest_region(guest)) + address;
    }
    return status;
}

sp_status spi_memory_input(sp_guest *guest, const char *import, const char *parameter, uint32_t address, uint32_t count,
                           uint32_t element_bytes, spi_input *input) {
    uint8_t *bytes;
    sp_status status = check(guest, import, parameter, address, count, element_bytes, &bytes);
    *input = (spi_input){.bytes = bytes, .count = status ? 0 : count};
    return status;
}

sp_status spi_memory_output(sp_guest *guest, const char *import, const char *parameter, uint32_t address,
                            uint32_t count, uint32_t element_bytes, spi_output *output) {
    uint8_t *bytes;
    sp_status status = check(guest, import, parameter, address, count, element_bytes, &bytes);
    *output = (spi_output){.bytes = bytes, .count = status ? 0 : count};
    return status;
}

sp_status spi_input_copy(sp_guest *guest, const char *import, spi_input input, uint32_t element_bytes,
                         uint32_t count_max, void **copy) {
    *copy = NULL;
    if (input.count > count_max) {
        return spi_fail(spi_host_error(guest), SP_LIMIT, "%s: %u are more than it takes at once: at most %u", import,
                        input.count, count_max);
    }
    *copy = spi_alloc(input.count, element_bytes);
    if (!*copy) {
        return spi_fail(spi_host_error(guest), SP_NO_MEMORY, "%s: the host has no memory for a copy", import);
    }
    if (input.count) {
        memcpy(*copy, input.bytes, (size_t)input.count * element_bytes);
    }
    return SP_OK;
}

sp_status spi_input_name(sp_guest *guest, const char *import, spi_input input, char name[SPI_NAME_BYTES]) {
    name[0] = 0;
    if (input.count >= SPI_NAME_BYTES) {
        return spi_fail(spi_host_error(guest), SP_LIMIT, "%s: a name of %u bytes is longer than %d", import,
                        input.count, SPI_NAME_BYTES - 1);
    }
    if (input.count) {
        memcpy(name, input.bytes, input.count);
    }
    name[input.count] = 0;
    if (memchr(name, 0, input.count)) {
        return spi_fail(spi_host_error(guest), SP_INVALID, "%s: there is a zero byte in the name", import);
    }
    return SP_OK;
}

int32_t spi_output_text(spi_output output, const char *text, size_t length) {
    if (length > INT32_MAX) {
        length = INT32_MAX;
    }
    size_t written = length < output.count ? length : output.count;
    if (written) {
        memcpy(output.bytes, text, written);
    }
    return (int32_t)length;
}

void spi_output_struct(spi_output output, const void *value, size_t bytes) {
    size_t written = bytes < output.count ? bytes : output.count;
    if (written) {
        memcpy(output.bytes, value, written);
    }
}
