#!/usr/bin/env python3
"""Evaluate a Llama-family GGUF model in double precision: the truth that engines are measured against.

Everything but the file's own rounding is float64 and nothing is rounded on the way: no f16 keys and values, no
quantised activations, no fused or approximate functions. It is slow and it is meant to be read beside the papers:

    blocks of pre-norm attention and gated feed-forward   arXiv:2302.13971
    RMS norm                                              arXiv:1910.07467
    rotary positions                                      arXiv:2104.09864, linear scaling arXiv:2306.15595
    grouped-query attention                               arXiv:2305.13245
    SwiGLU                                                arXiv:2002.05202

    evaluate.py MODEL.gguf --tokens 1,2,3 -o logits.npy            # float64 [tokens][vocab]
    evaluate.py MODEL.gguf --tokens 1,2,3 -o logits.f32 --format f32

As a module: Model(path).logits(tokens), and .run(tokens) for keys and values too.
"""
import argparse
import sys

import gguf
import numpy as np
from gguf import quants

HEAD_ROWS = 4096  # of the vocabulary, multiplied at a time, so that a large head is never whole in float64


class Model:
    """A model file, its numbers read as the GGUF specification names them; weights are dequantised when used."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        architecture = self.value("general.architecture")
        if architecture != "llama":
            raise ValueError(f"{path}: the architecture is {architecture}, not llama")
        self.layers = self.value("llama.block_count")
        self.width = self.value("llama.embedding_length")
        self.heads = self.value("llama.attention.head_count")
        self.kv_heads = self.value("llama.attention.head_count_kv", self.heads)
        self.head_dim = self.value("llama.attention.key_length", self.width // self.heads)
        self.eps = self.value("llama.attention.layer_norm_rms_epsilon")
        self.rope_dims = self.value("llama.rope.dimension_count", self.head_dim)
        self.rope_base = self.value("llama.rope.freq_base", 10000.0)
        scaling = self.value("llama.rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            raise ValueError(f"{path}: rope scaling {scaling} is not known here")
        self.rope_factor = self.value("llama.rope.scaling.factor", 1.0) if scaling == "linear" else 1.0
        self.vocab = int(self.tensors["token_embd.weight"].shape[1])

    def value(self, key, default=None):
        field = self.reader.get_field(key)
        if field is None:
            if default is None:
                raise ValueError(f"the key {key} is missing")
            return default
        return field.contents()

    def weight(self, name, rows=None):
        """A tensor in float64, [rows][columns] as it multiplies a column; rows: which of them."""
        tensor = self.tensors[name]
        data = tensor.data if rows is None else tensor.data[rows]
        return quants.dequantize(data, tensor.tensor_type).astype(np.float64)

    def product(self, x, name):
        """x W^T + b, with the bias that the model may have."""
        y = x @ self.weight(f"{name}.weight").T
        return y + self.weight(f"{name}.bias") if f"{name}.bias" in self.tensors else y

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weight(f"{name}.weight")

    def angles(self, positions):
        """[positions][pairs]: position * base^(-2 i / dims), slowed down as the model says."""
        pairs = np.arange(0, self.rope_dims, 2, dtype=np.float64)
        frequencies = np.float64(self.rope_base) ** (-pairs / self.rope_dims) / self.rope_factor
        if "rope_freqs.weight" in self.tensors:
            frequencies = frequencies / self.weight("rope_freqs.weight")
        return positions[:, None] * frequencies[None, :]

    def rotate(self, x, angles):
        """x [tokens][heads][head_dim]: neighbours (2i, 2i + 1) are a complex number that is turned by angle i."""
        turned = x.copy()
        even, odd = x[..., 0:self.rope_dims:2], x[..., 1:self.rope_dims:2]
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        turned[..., 0:self.rope_dims:2] = even * cos - odd * sin
        turned[..., 1:self.rope_dims:2] = even * sin + odd * cos
        return turned

    def attend(self, q, k, v):
        """Causal attention; q [tokens][heads][head_dim], k and v [tokens][kv_heads][head_dim]."""
        tokens = len(q)
        group = self.heads // self.kv_heads
        future = np.triu(np.ones((tokens, tokens), bool), 1)
        out = np.empty_like(q)
        for head in range(self.heads):
            scores = q[:, head] @ k[:, head // group].T / np.sqrt(self.head_dim)
            scores[future] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = weights @ v[:, head // group] / weights.sum(axis=-1, keepdims=True)
        return out.reshape(tokens, -1)

    def head(self, x):
        name = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        logits = np.empty((len(x), self.vocab))
        for first in range(0, self.vocab, HEAD_ROWS):
            rows = slice(first, min(first + HEAD_ROWS, self.vocab))
            logits[:, rows] = x @ self.weight(name, rows).T
        return logits

    def run(self, tokens):
        """Logits [tokens][vocab], keys and values [layer][tokens][kv_heads][head_dim] (keys as rotated)."""
        tokens = np.asarray(tokens)
        count = len(tokens)
        angles = self.angles(np.arange(count, dtype=np.float64))
        x = self.weight("token_embd.weight", tokens)
        keys, values = [], []
        for layer in range(self.layers):
            block = f"blk.{layer}"
            normed = self.norm(x, f"{block}.attn_norm")
            q = self.product(normed, f"{block}.attn_q").reshape(count, self.heads, self.head_dim)
            k = self.product(normed, f"{block}.attn_k").reshape(count, self.kv_heads, self.head_dim)
            v = self.product(normed, f"{block}.attn_v").reshape(count, self.kv_heads, self.head_dim)
            q, k = self.rotate(q, angles), self.rotate(k, angles)
            keys.append(k)
            values.append(v)
            x = x + self.product(self.attend(q, k, v), f"{block}.attn_output")
            normed = self.norm(x, f"{block}.ffn_norm")
            gate = self.product(normed, f"{block}.ffn_gate")
            gate = gate / (1 + np.exp(-gate)) * self.product(normed, f"{block}.ffn_up")
            x = x + self.product(gate, f"{block}.ffn_down")
        return self.head(self.norm(x, "output_norm")), np.array(keys), np.array(values)

    def logits(self, tokens):
        return self.run(tokens)[0]


def relative_errors(measured, truth):
    """(largest error over the largest logit, rms error over rms logit); NaN anywhere is infinitely wrong."""
    if not np.isfinite(measured).all():
        return float("inf"), float("inf")
    difference = measured.astype(np.float64) - truth
    return (float(np.abs(difference).max() / np.abs(truth).max()),
            float(np.sqrt(np.mean(difference ** 2) / np.mean(truth ** 2))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--tokens", required=True, help="token ids: 1,2,3")
    parser.add_argument("-o", "--output", required=True, help="where to")
    parser.add_argument("--format", choices=("npy", "f32", "f64"), default="npy", help="npy, or numbers with no header")
    a = parser.parse_args()
    tokens = [int(word) for word in a.tokens.split(",")]
    logits = Model(a.model).logits(tokens)
    if a.format == "npy":
        np.save(a.output, logits)
    else:
        logits.astype("<f4" if a.format == "f32" else "<f8").tofile(a.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
