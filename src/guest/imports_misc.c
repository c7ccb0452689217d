/* guest/imports_misc.c - the imports about the interface itself and about the device. */
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"
#include "os/clock.h"

#define ABI_VERSION 1

int32_t spi_host_abi_version(sp_guest *guest) {
    (void)guest;
    return ABI_VERSION;
}

int32_t spi_host_error_message(sp_guest *guest, spi_output text) {
    const sp_error *error = spi_host_error(guest);
    return error->status ? spi_output_text(text, error->message, strlen(error->message)) : 0;
}

/* What a suspended import failed with is what the guest reads next. */
void spi_host_job_done(sp_guest *guest, sp_status status, const sp_error *error) {
    if (!status) {
        return;
    }
    if (error && error->status) {
        *spi_host_error(guest) = *error;
    } else {
        spi_fail(spi_host_error(guest), status, "%s", sp_status_text(status));
    }
}

int64_t spi_host_clock_ns(sp_guest *guest) {
    (void)guest;
    return spi_clock_ns();
}

int32_t spi_host_counters(sp_guest *guest, spi_output counters) {
    sp_guest_counters now;
    sp_guest_get_counters(guest, &now);
    spi_abi_counters abi = {
        .host_calls = now.host_calls,
        .host_ns = now.host_ns,
        .compute_ns = now.compute_ns,
        .prompt_tokens = now.prompt_tokens,
        .prompt_ns = now.prompt_ns,
        .generated_tokens = now.generated_tokens,
        .generated_ns = now.generated_ns,
        .slices = now.slices,
        .run_ns = now.run_ns,
    };
    spi_output_struct(counters, &abi, sizeof abi);
    return SP_OK;
}

int32_t spi_host_interrupted(sp_guest *guest) {
    return spi_guest_take_interrupt(guest);
}

static sp_status device_info(sp_guest *guest, const char *import, sp_device_info *info) {
    sp_device *device = spi_guest_device(guest);
    if (!device) {
        return spi_fail(spi_host_error(guest), SP_NO_DEVICE, "%s: this guest was given no device", import);
    }
    sp_device_get_info(device, info);
    return SP_OK;
}

int32_t spi_host_device_name(sp_guest *guest, spi_output text) {
    sp_device_info info;
    sp_status status = device_info(guest, "device_name", &info);
    return status ? (int32_t)status : spi_output_text(text, info.name, strnlen(info.name, sizeof info.name));
}

int32_t spi_host_device_link(sp_guest *guest) {
    sp_device_info info;
    sp_status status = device_info(guest, "device_link", &info);
    return status ? (int32_t)status : (int32_t)info.link;
}
