#!/usr/bin/env python3
"""Write tests/golden/mlx/dequant.bin: what mx.quantize makes of numbers and mx.dequantize makes of that.

For every number of bits, group and type of scales a record, little-endian:
    u32 bits, group, type of scales (sp_dtype: 0 F32, 1 F16, 30 BF16), columns
    the codes, the scales, the biases, as mx.quantize gives them
    mx.dequantize of them, in the type of the scales
    mx.dequantize of the codes with scales and biases widened to f32, in f32
tests/unit/test_affine.c reads it. Needs tools/bootstrap.sh --mlx.
"""
import os
import struct
import sys

import mlx.core as mx
import numpy as np

COLUMNS = 256
TYPES = ((0, mx.float32), (1, mx.float16), (30, mx.bfloat16))


def stored(array):
    """The bytes of an array; bf16 as 16-bit words."""
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array).tobytes()


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "tests", "golden", "mlx", "dequant.bin")
    mx.set_default_device(mx.cpu)
    random = np.random.default_rng(7)
    with open(path, "wb") as file:
        for bits in (2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                for number, dtype in TYPES:
                    # Groups of other sizes and offsets, a constant one among them.
                    x = random.standard_normal((1, COLUMNS)) * np.repeat(10.0 ** random.integers(-3, 3, 8), 32)
                    x = x + np.repeat(random.standard_normal(8), 32)
                    x[0, :32] = 0.25
                    codes, scales, biases = mx.quantize(mx.array(x.astype(np.float32)).astype(dtype), group, bits)
                    own = mx.dequantize(codes, scales, biases, group, bits)
                    wide = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group, bits)
                    file.write(struct.pack("<4I", bits, group, number, COLUMNS))
                    for array in (codes, scales, biases, own, wide):
                        file.write(stored(array))
    return 0


if __name__ == "__main__":
    sys.exit(main())
