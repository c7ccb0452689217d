/* device/cpu/quant_super_i8mm.c - types of blocks of 256: see quant_i8mm_body.h. */
#include "device/cpu/quant_i8mm_body.h"

SPI_SUPER_QUANTS(X)
