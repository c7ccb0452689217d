#!/usr/bin/env python3
"""Writes tests/golden/quant.bin: values, and the blocks that ggml's quantisers make of them without an importance
matrix.

    python tools/make_quant_golden.py tests/golden/quant.bin
    needs: pip install llama-cpp-python==0.3.36 numpy==2.4.6 gguf==0.19.0

Little-endian: u32 count of values, f32 [count]; then for each type u32 type and its blocks. Where the gguf package
claims to be exact (Q4_0, Q8_0) it is asked as well and must say the same.
"""
import ctypes
import os
import sys

import gguf
import llama_cpp
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

TYPES = (T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL,
         T.IQ4_XS)


def values():
    """Groups of 512 of the kinds that take another way through a search, each of 16 and 32 of its own size."""
    rng = np.random.default_rng(1)
    n = 512
    kinds = [rng.standard_normal(n) * 0.05, rng.laplace(size=n) * 0.02, rng.standard_t(2, n) * 0.01,
             np.abs(rng.standard_normal(n)), -np.abs(rng.standard_normal(n)), rng.integers(-8, 9, n),
             rng.standard_normal(n) * (rng.random(n) < 0.05), np.repeat(rng.standard_normal(n // 32), 32),
             rng.standard_normal(n) * np.repeat(rng.random(n // 16) < 0.6, 16),
             rng.standard_normal(n) * np.repeat(10.0 ** rng.uniform(-20, 3, n // 32), 32),
             rng.standard_normal(n) * 1e-6, rng.standard_normal(n) * 1e-12, rng.standard_normal(n) * 1e-40,
             np.zeros(n), np.full(n, -0.0), rng.uniform(1, 1.001, n)]
    return np.concatenate(kinds).astype(np.float32)


def main():
    ggml = ctypes.CDLL(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_void_p]
    x = values()
    with open(sys.argv[1], "wb") as file, np.errstate(all="ignore"):
        np.array([len(x)], "<u4").tofile(file)
        x.tofile(file)
        for type_ in TYPES:
            elements, size = GGML_QUANT_SIZES[type_]
            blocks = np.zeros(len(x) // elements * size, np.uint8)
            done = ggml.ggml_quantize_chunk(int(type_), x.ctypes.data, blocks.ctypes.data, 0, len(x) // 256, 256, None)
            assert done == len(blocks)
            if type_ in (T.Q4_0, T.Q8_0):
                # Where the scale is below the normal numbers the package divides by it as ggml does not.
                theirs = gguf.quants.quantize(x, type_).reshape(-1, size)
                normal = np.abs(x.reshape(-1, elements)).max(axis=1) > 1e-30
                print(type_.name, "gguf says the same of", np.sum((theirs == blocks.reshape(-1, size)).all(axis=1)), "of",
                      len(theirs), "blocks")
                assert (theirs == blocks.reshape(-1, size))[normal].all(), type_.name
            np.array([int(type_)], "<u4").tofile(file)
            blocks.tofile(file)


if __name__ == "__main__":
    main()
