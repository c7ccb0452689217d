/* device/cuda/driver.c - opening libcuda and listing its cards. */
#include "device/cuda/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* The kernels are compiled by this release of the toolkit, and older drivers do not take its output. */
#ifndef SPI_CUDA_VERSION_MIN
#define SPI_CUDA_VERSION_MIN 13000
#endif
#define MAJOR_MIN 8

static const char *test_library;

void spi_cu_test_library(const char *path) {
    test_library = path;
}

static const char *result_text(spi_cu_result result) {
    switch (result) {
    case 1: return "the driver does not take the argument";
    case SPI_CU_OUT_OF_MEMORY: return "out of device memory";
    case 46: return "the card is used by another program";
    case SPI_CU_NO_DEVICE: return "there is no card";
    case SPI_CU_NO_BINARY: return "there are no kernels for this card";
    case 214: return "an error of the card's memory";
    case 222: return "the driver is too old for the kernels";
    case 802: return "the machine has not made its cards ready yet (NVIDIA's fabric manager does)";
    case 803: return "the driver's library and its kernel module are of two versions: restart the machine";
    case 804: return "the driver's library does not go with this card";
    case 700: return "a kernel left its memory";
    case 712: return "the memory is registered already";
    case 713: return "the memory is not registered";
    case 719: return "a kernel failed";
    case 720: return "the kernel does not fit on the card at once";
    case SPI_CU_NOT_SUPPORTED: return "the driver does not support it";
    default: return "an error of the driver";
    }
}

sp_status spi_cu_fail(sp_error *error, spi_cu_result result, const char *what) {
    sp_status status = result == SPI_CU_OUT_OF_MEMORY ? SP_NO_MEMORY : SP_DEVICE_LOST;
    return spi_fail(error, status, "cuda: %s: %s (%d)", what, result_text(result), result);
}

static sp_status find_functions(spi_cu_driver *driver, sp_error *error) {
/* POSIX lets dlsym's object pointer become a function pointer; ISO C needs the detour. */
#define FUNCTION(member, symbol, parameters)                                                                           \
    {                                                                                                                  \
        void *found = dlsym(driver->library, #symbol);                                                                 \
        if (!found) {                                                                                                  \
            return spi_fail(error, SP_UNSUPPORTED, "the NVIDIA driver lacks " #symbol ": update it");                  \
        }                                                                                                              \
        memcpy(&driver->member, &found, sizeof found);                                                                 \
    }
#include "device/cuda/functions.def"
    return SP_OK;
}

static sp_status initialise(spi_cu_driver *driver, sp_error *error) {
    spi_cu_result result = driver->Init(0);
    if (result) {
        return spi_fail(error, result == SPI_CU_NO_DEVICE ? SP_NO_DEVICE : SP_UNSUPPORTED,
                        "there is no NVIDIA card that can be used: %s (%d)", result_text(result), result);
    }
    result = driver->DriverGetVersion(&driver->version);
    if (result) {
        return spi_cu_fail(error, result, "asking for the driver's version");
    }
    if (driver->version < SPI_CUDA_VERSION_MIN) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "the NVIDIA driver is of CUDA %d.%d and the kernels need one of %d.%d: update it",
                        driver->version / 1000, driver->version % 1000 / 10, SPI_CUDA_VERSION_MIN / 1000,
                        SPI_CUDA_VERSION_MIN % 1000 / 10);
    }
    return SP_OK;
}

sp_status spi_cu_driver_open(spi_cu_driver *driver, sp_error *error) {
    memset(driver, 0, sizeof *driver);
    /* Once initialised the driver has threads and handlers of its own and cannot be unmapped safely. */
    driver->library = dlopen(test_library ? test_library : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!driver->library) {
        return spi_fail(error, SP_NO_DEVICE, "there is no NVIDIA driver here: libcuda.so.1 is not found");
    }
    sp_status status = find_functions(driver, error);
    status = status ? status : initialise(driver, error);
    if (status) {
        spi_cu_driver_close(driver);
    }
    return status;
}

void spi_cu_driver_close(spi_cu_driver *driver) {
    if (driver->library) {
        dlclose(driver->library);
    }
    memset(driver, 0, sizeof *driver);
}

typedef struct wanted {
    int attribute;
    const char *refusal;
} wanted;

static void look_at(const spi_cu_driver *driver, int ordinal, spi_cu_card *card) {
    static const wanted needs[] = {
        {SPI_CU_CAN_MAP_HOST, "it cannot reach the host's memory"},
        {SPI_CU_REGISTER, "its driver cannot register memory"},
        {SPI_CU_SAME_POINTER, "it sees registered memory at other addresses than the host"},
        {SPI_CU_VIRTUAL_MEMORY, "its driver cannot reserve addresses"},
    };
    memset(card, 0, sizeof *card);
    int integrated = 0, cooperative = 0;
    spi_cu_result result = driver->DeviceGet(&card->device, ordinal);
    result = result ? result : driver->DeviceGetName(card->name, sizeof card->name - 1, card->device);
    result = result ? result : driver->DeviceTotalMem(&card->memory_bytes, card->device);
    result = result ? result : driver->DeviceGetAttribute(&card->major, SPI_CU_MAJOR, card->device);
    result = result ? result : driver->DeviceGetAttribute(&card->minor, SPI_CU_MINOR, card->device);
    result = result ? result : driver->DeviceGetAttribute(&card->multiprocessors, SPI_CU_MULTIPROCESSORS, card->device);
    result = result ? result : driver->DeviceGetAttribute(&card->shared_bytes, SPI_CU_SHARED_BYTES, card->device);
    result = result ? result : driver->DeviceGetAttribute(&integrated, SPI_CU_INTEGRATED, card->device);
    result = result ? result : driver->DeviceGetAttribute(&cooperative, SPI_CU_COOPERATIVE, card->device);
    card->integrated = integrated;
    card->cooperative = cooperative;
    if (!result && card->major < MAJOR_MIN) {
        card->refusal = "it is older than compute capability 8.0";
    }
    for (size_t i = 0; i < sizeof needs / sizeof needs[0] && !result && !card->refusal; i++) {
        int has = 0;
        result = driver->DeviceGetAttribute(&has, needs[i].attribute, card->device);
        card->refusal = has ? NULL : needs[i].refusal;
    }
    if (result) { /* the others may be well */
        card->refusal = "its driver fails when it is asked what it is";
        snprintf(card->name, sizeof card->name, "card %d", ordinal);
    }
}

sp_status spi_cu_cards(const spi_cu_driver *driver, spi_cu_card cards[SPI_CU_CARDS_MAX], uint32_t *usable,
                       uint32_t *count, sp_error *error) {
    int found = 0;
    *usable = *count = 0;
    spi_cu_result result = driver->DeviceGetCount(&found);
    if (result) {
        return spi_cu_fail(error, result, "counting cards");
    }
    for (int i = 0; i < found && i < SPI_CU_CARDS_MAX; i++) {
        spi_cu_card card;
        look_at(driver, i, &card);
        uint32_t place = (*count)++;
        if (!card.refusal) { /* keeps the driver's order among the usable ones */
            memmove(&cards[*usable + 1], &cards[*usable], (place - *usable) * sizeof *cards);
            place = (*usable)++;
        }
        cards[place] = card;
    }
    return SP_OK;
}

void spi_cu_card_info(const spi_cu_driver *driver, const spi_cu_card *card, uint32_t index, sp_device_info *info) {
    memset(info, 0, sizeof *info);
    if (index) {
        snprintf(info->name, sizeof info->name, "cuda:%u", index);
    } else {
        snprintf(info->name, sizeof info->name, "cuda");
    }
    snprintf(info->description, sizeof info->description, "%s, compute capability %d.%d, driver of CUDA %d.%d",
             card->name, card->major, card->minor, driver->version / 1000, driver->version % 1000 / 10);
    info->link = card->integrated ? SP_LINK_SHARED : SP_LINK_MIRRORED;
    info->memory_bytes = card->integrated ? 0 : card->memory_bytes;
}

sp_status spi_cu_enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error) {
    *count = 0;
    spi_cu_driver driver;
    sp_error why = {0};
    sp_status status = spi_cu_driver_open(&driver, &why);
    if (status == SP_NO_DEVICE) {
        return SP_OK;
    }
    if (status) {
        *error = why;
        return status;
    }
    spi_cu_card cards[SPI_CU_CARDS_MAX];
    uint32_t usable, all;
    status = spi_cu_cards(&driver, cards, &usable, &all, error);
    for (uint32_t i = 0; i < usable && !status; i++, (*count)++) {
        if (i < capacity) {
            spi_cu_card_info(&driver, &cards[i], i, &infos[i]);
        }
    }
    if (!status && all && !usable) {
        status = spi_fail(error, SP_UNSUPPORTED, "%s cannot be used: %s", cards[0].name, cards[0].refusal);
    }
    spi_cu_driver_close(&driver);
    return status;
}
