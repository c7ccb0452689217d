#!/usr/bin/env python3
"""Writes tests/golden/dequant.bin: blocks of every weight type, and what the gguf package makes of them.

    python tools/make_dequant_golden.py tests/golden/dequant.bin        needs: pip install numpy==2.4.6 gguf==0.19.0

For each type, little-endian: u32 type, u32 blocks, the blocks' bytes, then f32 [blocks][elements]. The bytes are
random, with every kind of scale: zero, subnormal, the largest, infinite, not a number, of both signs; and with quants
that are all zeros, all ones, and random. A NaN's bits are not part of what is promised, only that it is one.
"""
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

TYPES = (T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL,
         T.IQ4_XS, T.MXFP4)

# Where the f16 scales lie in a block, in bytes.
SCALES = {T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,),
          T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,)}
HALVES = (0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x3c00, 0xb555)
EXPONENTS = (0, 1, 2, 3, 126, 127, 128, 129, 200, 253, 254, 255)
PLAIN = (0, 1, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800001, 0x00800000, 0x7f7fffff, 0x12345678, 0x9abcdef0)


def blocks_of(type_, rng):
    elements, size = GGML_QUANT_SIZES[type_]
    if elements == 1:
        words = np.array(PLAIN, dtype="<u4")
        return (words if size == 4 else (words >> 16).astype("<u2")).view(np.uint8).reshape(-1, size)
    count = 14 if elements == 256 else 40
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    blocks[1], blocks[2] = 0xff, 0x00
    for i in range(count):
        if type_ == T.MXFP4:
            blocks[i, 0] = EXPONENTS[i] if i < len(EXPONENTS) else rng.integers(100, 140)
        for k, at in enumerate(SCALES.get(type_, ())):
            plain = np.array(rng.standard_normal() * 0.01, dtype="<f2").view("<u2")
            half = HALVES[(i + 5 * k) % len(HALVES)] if i % 14 < len(HALVES) else plain
            blocks[i, at:at + 2] = np.array([half], dtype="<u2").view(np.uint8)
    return blocks


def main():
    with open(sys.argv[1], "wb") as file, np.errstate(all="ignore"):
        for type_ in TYPES:
            blocks = blocks_of(type_, np.random.default_rng(int(type_) + 1))
            if type_ == T.F32:
                values = blocks.view("<f4")
            elif type_ == T.F16:
                values = blocks.view("<f2").astype("<f4")
            else:
                values = gguf.quants.dequantize(blocks, type_)
            np.array([int(type_), len(blocks)], dtype="<u4").tofile(file)
            blocks.tofile(file)
            values.astype("<f4").tofile(file)


if __name__ == "__main__":
    main()
