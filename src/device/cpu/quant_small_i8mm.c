/* device/cpu/quant_small_i8mm.c - types of blocks of 32: see quant_i8mm_body.h. */
#include "device/cpu/quant_i8mm_body.h"

SPI_SMALL_QUANTS(X)
