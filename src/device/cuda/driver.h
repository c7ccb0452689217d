/* device/cuda/driver.h - the CUDA driver, opened at run time, and the cards that it knows.
 *
 * The driver's C interface (docs.nvidia.com/cuda/cuda-driver-api) is declared here as far as it is used, so that the
 * backend is built without NVIDIA's headers and a machine without the driver has zero devices, which is not an error.
 * May include: base, the public headers.
 */
#ifndef SPI_DEVICE_CUDA_DRIVER_H
#define SPI_DEVICE_CUDA_DRIVER_H

#include <stdbool.h>

#include "device/cuda/kernels/wide_args.h"
#include "samepage/device.h"

typedef int spi_cu_result; /* 0 is success */
typedef int spi_cu_device;
typedef unsigned long long spi_cu_pointer, spi_cu_handle;
typedef struct spi_cu_context_opaque *spi_cu_context;
typedef struct spi_cu_stream_opaque *spi_cu_stream;
typedef struct spi_cu_event_opaque *spi_cu_event;
typedef struct spi_cu_module_opaque *spi_cu_module;
typedef struct spi_cu_function_opaque *spi_cu_function;

typedef struct spi_cu_location {
    int type, id;
} spi_cu_location;

typedef struct spi_cu_allocation { /* CUmemAllocationProp */
    int type, handle_types;
    spi_cu_location location;
    void *windows;
    unsigned char flags[8];
} spi_cu_allocation;

typedef struct spi_cu_access { /* CUmemAccessDesc */
    spi_cu_location location;
    int flags;
} spi_cu_access;

typedef struct spi_cu_launch_attribute { /* CUlaunchAttribute */
    int id;
    char reserved[4];
    unsigned value[16];
} spi_cu_launch_attribute;

typedef struct spi_cu_launch_config { /* CUlaunchConfig */
    unsigned grid[3], block[3], shared_bytes;
    spi_cu_stream stream;
    spi_cu_launch_attribute *attributes;
    unsigned attribute_count;
} spi_cu_launch_config;

enum {
    SPI_CU_LAUNCH_CLUSTER = 4,
    SPI_CU_LAUNCH_OVERLAP = 6, /* programmatic stream serialisation */
    SPI_CU_MAP_16_BITS = 1, /* of maps: numbers of so many bits, pieces of 128 bytes xored, and read so many at once */
    SPI_CU_MAP_SWIZZLE_128 = 3,
    SPI_CU_MAP_PROMOTE_128 = 2,
    SPI_CU_MAP_PROMOTE_256 = 3,

    SPI_CU_OUT_OF_MEMORY = 2,
    SPI_CU_NO_DEVICE = 100,
    SPI_CU_NO_BINARY = 209,
    SPI_CU_NOT_FOUND = 500,
    SPI_CU_NOT_READY = 600,
    SPI_CU_NOT_SUPPORTED = 801,

    SPI_CU_MULTIPROCESSORS = 16, /* attributes */
    SPI_CU_INTEGRATED = 18,
    SPI_CU_CAN_MAP_HOST = 19,
    SPI_CU_MAJOR = 75,
    SPI_CU_MINOR = 76,
    SPI_CU_SAME_POINTER = 91, /* registered memory has the host's addresses */
    SPI_CU_COOPERATIVE = 95,
    SPI_CU_SHARED_BYTES = 97,
    SPI_CU_REGISTER = 99,
    SPI_CU_VIRTUAL_MEMORY = 102,

    SPI_CU_STREAM_NON_BLOCKING = 1,
    SPI_CU_EVENT_BLOCKING = 1,
    SPI_CU_EVENT_NO_TIMING = 2,
    SPI_CU_HOST_PORTABLE = 1,
    SPI_CU_HOST_MAPPED = 2,
    SPI_CU_PINNED = 1,          /* allocation type */
    SPI_CU_LOCATION_DEVICE = 1, /* location type */
    SPI_CU_ACCESS_READ_WRITE = 3,
    SPI_CU_FUNCTION_SHARED_BYTES = 8,
    SPI_CU_FUNCTION_CARVEOUT = 9,
};

typedef struct spi_cu_driver {
    void *library;
#define FUNCTION(member, symbol, parameters) spi_cu_result(*member) parameters;
#include "device/cuda/functions.def"
    int version; /* 13000 for CUDA 13.0 */
} spi_cu_driver;

/* SP_NO_DEVICE says that there is no driver, or no card; SP_UNSUPPORTED that it is too old or does not work. Nothing is
 * left behind then. */
sp_status spi_cu_driver_open(spi_cu_driver *driver, sp_error *error);
void spi_cu_driver_close(spi_cu_driver *driver);

typedef struct spi_cu_card {
    spi_cu_device device;
    char name[96];
    size_t memory_bytes;
    int major, minor, multiprocessors, shared_bytes;
    bool integrated; /* its memory is the host's */
    bool cooperative;
    const char *refusal; /* NULL: usable; else why not, a constant */
} spi_cu_card;

#define SPI_CU_CARDS_MAX 16

/* Usable cards come first. */
sp_status spi_cu_cards(const spi_cu_driver *driver, spi_cu_card cards[SPI_CU_CARDS_MAX], uint32_t *usable,
                       uint32_t *count, sp_error *error);
void spi_cu_card_info(const spi_cu_driver *driver, const spi_cu_card *card, uint32_t index, sp_device_info *info);

/* spi_backend.enumerate */
sp_status spi_cu_enumerate(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error);

/* Fills error for a failed call: out of memory, or the device's fault. */
sp_status spi_cu_fail(sp_error *error, spi_cu_result result, const char *what);

/* Test hook: the library that is opened in place of the driver's; NULL: the driver's. */
void spi_cu_test_library(const char *path);

#endif
