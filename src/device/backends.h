/* device/backends.h - the tables that are built in, declared from backends.def. Included by: device.c and tests. */
#ifndef SPI_DEVICE_BACKENDS_H
#define SPI_DEVICE_BACKENDS_H

#include "device/backend.h"

#define BACKEND(name) extern const spi_backend spi_backend_##name;
#include "device/backends.def"
#undef BACKEND

#endif
