#!/usr/bin/env python3
"""Writes tests/golden/sampler.txt: what llama.cpp's samplers leave of fixed logits, and with which probabilities.

    python tools/make_sampler_golden.py tests/golden/sampler.txt        needs: pip install llama-cpp-python==0.3.36 numpy

Lines:  logits NAME HEX,HEX,...     the bits of each float
        case NAME TEMPERATURE TOP_K TOP_P MIN_P REPEAT FREQUENCY PRESENCE LAST ACCEPTED ID:PROBABILITY,...
        draws SEED ID,...           64 draws at temperature 1 from 50 logits (i * 37 % 50) / 16, by the generator that
                                    samepage names (xoshiro256++ seeded by SplitMix64), written here once more in Python
"""
import ctypes
import math
import sys

import llama_cpp as lc
import numpy as np

CASES = [
    # temperature, top_k, top_p, min_p, repeat, frequency, presence, last, accepted
    (1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (0.7, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.7, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 1, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 7, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 100000, 1.0, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 0.9, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 0.3, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 0.001, 0.0, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 1.0, 0.05, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 1.0, 0.5, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 1.0, 1.0, 1.0, 0.0, 0.0, 64, []),
    (0.8, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64, []),
    (1.5, 20, 0.8, 0.1, 1.0, 0.0, 0.0, 64, []),
    (1.0, 0, 1.0, 0.0, 1.3, 0.0, 0.0, 64, [3, 5, 7, 11, 3, 3]),
    (1.0, 0, 1.0, 0.0, 1.0, 0.5, 0.0, 64, [3, 5, 7, 11, 3, 3]),
    (1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.7, 64, [3, 5, 7, 11, 3, 3]),
    (1.0, 0, 1.0, 0.0, 1.2, 0.4, 0.3, 4, [1, 2, 3, 4, 5, 6, 7, 7, 6, 9]),
    (0.9, 0, 1.0, 0.0, 0.8, -0.4, 0.3, 3, [1, 2, 3, 4, 5]),
    (0.6, 30, 0.9, 0.02, 1.1, 0.2, 0.1, 8, list(range(0, 60, 3)) + [0, 0, 1]),
    (2.0, 12, 0.99, 0.01, 1.5, 0.0, 0.0, 64, list(range(50))),
]


def run(logits, case):
    temperature, top_k, top_p, min_p, repeat, frequency, presence, last, accepted = case
    chain = lc.llama_sampler_chain_init(lc.llama_sampler_chain_default_params())
    for sampler in (lc.llama_sampler_init_penalties(len(logits), last, repeat, frequency, presence), lc.llama_sampler_init_top_k(top_k),
                    lc.llama_sampler_init_top_p(top_p, 0), lc.llama_sampler_init_min_p(min_p, 0),
                    lc.llama_sampler_init_temp(temperature)):
        lc.llama_sampler_chain_add(chain, sampler)
    for token in accepted:
        lc.llama_sampler_accept(chain, token)
    data = (lc.llama_token_data * len(logits))()
    for i, value in enumerate(logits):
        data[i].id, data[i].logit, data[i].p = i, float(value), 0.0
    array = lc.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    lc.llama_sampler_apply(chain, ctypes.byref(array))
    ids = [array.data[i].id for i in range(array.size)]
    left = np.array([array.data[i].logit for i in range(array.size)], dtype=np.float64)
    weights = np.exp(left - left.max())
    lc.llama_sampler_free(chain)
    return sorted(zip(ids, weights / weights.sum()))


MASK = 2**64 - 1


def rotate(x, k):
    return (x << k | x >> (64 - k)) & MASK


def draws(seed, count):
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        state.append(z ^ z >> 31)
    logits = [(i * 37 % 50) / 16 for i in range(50)]
    # Where nothing is cut off the likeliest comes first and changes places with id 0.
    best = logits.index(max(logits))
    order = list(range(50))
    order[0], order[best] = best, 0
    weights = [math.exp(logits[i] - max(logits)) for i in order]
    for _ in range(count):
        s0, s1, s2, s3 = state
        number = (rotate((s0 + s3) & MASK, 23) + s0) & MASK
        t = s1 << 17 & MASK
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        state = [s0, s1, s2 ^ t, rotate(s3, 45)]
        wanted, total = (number >> 11) / 2**53 * sum(weights), 0.0
        for i, weight in zip(order, weights):
            total += weight
            if total > wanted:
                yield i
                break


def main():
    random = np.random.default_rng(7)
    sets = {
        "normal": (random.standard_normal(64) * 3).astype(np.float32),
        "flat": (random.standard_normal(300) * 0.3).astype(np.float32),
        "peaked": np.concatenate([random.standard_normal(150), random.standard_normal(6) + 9]).astype(np.float32),
    }
    with open(sys.argv[1], "w") as out:
        out.write(f"# Made by tools/make_sampler_golden.py (there: the format) with llama-cpp-python {lc.__version__}.\n")
        for name, logits in sets.items():
            out.write(f"logits {name} {','.join(f'{b:08x}' for b in logits.view(np.uint32))}\n")
            for case in CASES:
                *numbers, accepted = case
                kept = ",".join(f"{i}:{p:.9e}" for i, p in run(logits, case))
                out.write(f"case {name} {' '.join(map(repr, numbers))} {','.join(map(str, accepted)) or '-'} {kept}\n")
        out.write(f"draws 42 {','.join(map(str, draws(42, 64)))}\n")


main()
