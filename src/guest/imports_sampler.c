/* guest/imports_sampler.c - the imports about sampling. */
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "guest/imports.h"
#include "guest/imports_abi.h"

/* Sampling cannot be interrupted; no vocabulary comes near this. */
#define LOGIT_COUNT_MAX (1u << 20)

#define SAME_PLACE(field)                                                                                              \
    _Static_assert(offsetof(spi_abi_sampler_options, field) == offsetof(sp_sampler_options, field), #field)
_Static_assert(sizeof(spi_abi_sampler_options) == sizeof(sp_sampler_options), "one struct for guests and hosts");
SAME_PLACE(temperature);
SAME_PLACE(top_k);
SAME_PLACE(top_p);
SAME_PLACE(min_p);
SAME_PLACE(repeat_penalty);
SAME_PLACE(frequency_penalty);
SAME_PLACE(presence_penalty);
SAME_PLACE(penalty_last);
SAME_PLACE(seed);
SAME_PLACE(reserved);

int32_t spi_host_sampler_create(sp_guest *guest, spi_input options) {
    sp_error *error = spi_host_error(guest);
    sp_sampler_options copy = {0};
    size_t known = options.count < sizeof copy ? options.count : sizeof copy;
    if (known) {
        memcpy(&copy, options.bytes, known);
    }
    /* A guest of a newer time may say more, as long as what it says is nothing. */
    for (size_t i = known; i < options.count; i++) {
        if (((const uint8_t *)options.bytes)[i]) {
            return spi_fail(error, SP_UNSUPPORTED,
                            "sampler_create: the byte %zu of the options is not 0, and this host knows %zu bytes", i,
                            sizeof copy);
        }
    }
    if (copy.reserved) {
        return spi_fail(error, SP_UNSUPPORTED, "sampler_create: the reserved field of the options is not 0");
    }
    spi_slot *slot;
    int32_t handle;
    sp_status status = spi_handle_open(guest, SPI_HANDLE_SAMPLER, &slot, &handle);
    if (status) {
        return status;
    }
    status = sp_sampler_create(&copy, &slot->sampler, error);
    if (status) {
        spi_handle_close(guest, slot);
        return spi_fail_within(error, "sampler_create");
    }
    return handle;
}

int32_t spi_host_sampler_accept(sp_guest *guest, int32_t sampler, int32_t token) {
    spi_slot *slot = spi_handle_find(guest, "sampler_accept", SPI_HANDLE_SAMPLER, sampler);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    if (token < 0) {
        return spi_fail(spi_host_error(guest), SP_INVALID, "sampler_accept: %d is not a token", token);
    }
    sp_sampler_accept(slot->sampler, token);
    return SP_OK;
}

int32_t spi_host_sampler_pick(sp_guest *guest, int32_t sampler, spi_input logits) {
    spi_slot *slot = spi_handle_find(guest, "sampler_pick", SPI_HANDLE_SAMPLER, sampler);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    if (!logits.count || logits.count > LOGIT_COUNT_MAX) {
        return spi_fail(spi_host_error(guest), logits.count ? SP_LIMIT : SP_INVALID,
                        "sampler_pick: %u logits: from 1 to %u can be picked from", logits.count, LOGIT_COUNT_MAX);
    }
    return sp_sampler_pick(slot->sampler, logits.bytes, logits.count);
}

int32_t spi_host_session_sample(sp_guest *guest, int32_t session, int32_t sampler) {
    spi_slot *of = spi_handle_find(guest, "session_sample", SPI_HANDLE_SESSION, session);
    spi_slot *with = of ? spi_handle_find(guest, "session_sample", SPI_HANDLE_SAMPLER, sampler) : NULL;
    if (!with) {
        return SP_BAD_HANDLE;
    }
    int32_t token;
    sp_status status = sp_session_sample(of->session, with->sampler, &token, spi_host_error(guest));
    return status ? (int32_t)status : token;
}

int32_t spi_host_sampler_destroy(sp_guest *guest, int32_t sampler) {
    spi_slot *slot = spi_handle_find(guest, "sampler_destroy", SPI_HANDLE_SAMPLER, sampler);
    if (!slot) {
        return SP_BAD_HANDLE;
    }
    sp_sampler_destroy(slot->sampler);
    spi_handle_close(guest, slot);
    return SP_OK;
}
