/* device/cpu/quant_affine_i8mm.c - MLX's affine types: see quant_i8mm_body.h. */
#include "device/cpu/quant_i8mm_body.h"

SPI_AFFINE_QUANTS(X)
