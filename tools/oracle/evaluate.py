#!/usr/bin/env python3
"""Evaluate a GGUF model in double precision: the truth that engines are measured against.

Everything but the file's own rounding is float64 and nothing is rounded on the way: no f16 keys and values, no
quantised activations, no fused or approximate functions. It is slow and it is meant to be read beside the papers:

    blocks of pre-norm attention and gated feed-forward   arXiv:2302.13971
    RMS norm                                              arXiv:1910.07467
    rotary positions                                      arXiv:2104.09864, linear scaling arXiv:2306.15595,
                                                          YaRN arXiv:2309.00071, LongRoPE arXiv:2402.13753
    grouped-query attention                               arXiv:2305.13245
    SwiGLU and GEGLU                                      arXiv:2002.05202, GELU arXiv:1606.08415
    sliding windows                                       arXiv:2310.06825
    Gemma 2, Gemma 3                                      arXiv:2408.00118, arXiv:2503.19786
    OLMo 2 (norms of q, k and behind each part)           arXiv:2501.00656
    Qwen 3 (norms of each head's q and k)                 arXiv:2505.09388

    evaluate.py MODEL.gguf --tokens 1,2,3 -o logits.npy            # float64 [tokens][vocab]
    evaluate.py MODEL.gguf --tokens 1,2,3 -o logits.f32 --format f32

As a module: Model(path).logits(tokens), and .run(tokens) for keys and values too. A context longer than the original
one of a LongRoPE model is said by context=, as an engine is told how much it will have to hold.
"""
import argparse
import sys

import gguf
import numpy as np
from gguf import quants

HEAD_ROWS = 4096  # of the vocabulary, multiplied at a time, so that a large head is never whole in float64

# What the papers and the published code say of each, and no key of the file does.
FAMILIES = {
    "llama": dict(halves=False),
    "qwen2": dict(),
    "qwen3": dict(qk_norm="head"),
    "gemma": dict(gelu=True, embedding_sqrt=True),
    "gemma2": dict(gelu=True, embedding_sqrt=True, post_norms=True, period=2, window=4096, wide_layers=46),
    "gemma3": dict(gelu=True, embedding_sqrt=True, post_norms=True, period=6, qk_norm="head", wide_layers=62,
                   plain_locals=True, local_base=10000.0),
    "phi3": dict(),
    "olmo2": dict(post_norms=True, pre_norms=False, qk_norm="row", period=4, plain_locals=True),
    "granite": dict(halves=False),
}


class Model:
    """A model file, its numbers read as the GGUF specification names them; weights are dequantised when used."""

    def __init__(self, path, context=None):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.architecture = self.value("general.architecture")
        if self.architecture not in FAMILIES:
            raise ValueError(f"{path}: the architecture {self.architecture} is not known here")
        self.family = FAMILIES[self.architecture]
        self.layers = self.own("block_count")
        self.width = self.own("embedding_length")
        self.heads = self.own("attention.head_count")
        self.kv_heads = self.own("attention.head_count_kv", self.heads)
        self.head_dim = self.own("attention.key_length", self.width // self.heads)
        self.inner = self.own("feed_forward_length")
        self.eps = self.own("attention.layer_norm_rms_epsilon")
        self.vocab = int(self.tensors["token_embd.weight"].shape[1])
        wide = self.layers == self.family.get("wide_layers")
        self.score_scale = self.own("attention.scale", 1 / np.sqrt(self.width / self.heads if wide else self.head_dim))
        self.embedding_scale = np.sqrt(self.width) if self.family.get("embedding_sqrt") else 1.0
        self.embedding_scale *= self.own("embedding_scale", 1.0)
        self.residual_scale = self.own("residual_scale", 1.0)
        self.score_cap = self.own("attn_logit_softcapping", 0.0)
        self.logit_cap = self.own("final_logit_softcapping", 0.0)
        self.logit_divisor = self.own("logit_scale", 1.0)
        self.read_windows()
        self.read_rope(context or self.own("context_length"))

    def value(self, key, default=None):
        field = self.reader.get_field(key)
        if field is None:
            if default is None:
                raise ValueError(f"the key {key} is missing")
            return default
        return field.contents()

    def own(self, key, default=None):
        return self.value(f"{self.architecture}.{key}", default)

    def read_windows(self):
        self.window = self.own("attention.sliding_window", self.family.get("window", 0))
        pattern = self.own("attention.sliding_window_pattern", self.family.get("period", 0))
        if not isinstance(pattern, list):
            pattern = [pattern == 0 or layer % pattern != pattern - 1 for layer in range(self.layers)]
        self.is_local = [bool(local) and self.window > 0 for local in pattern]

    def read_rope(self, context):
        """Frequencies of each pair and what multiplies cosines and sines, of global and of local layers."""
        self.rope_dims = self.own("rope.dimension_count", self.head_dim)
        base = np.float64(self.own("rope.freq_base", 10000.0))
        kind, factor = self.own("rope.scaling.type", "linear"), self.own("rope.scaling.factor", 1.0)
        original = self.own("rope.scaling.original_context_length", self.own("context_length"))
        pairs = np.arange(0, self.rope_dims, 2, dtype=np.float64)
        plain = base ** (-pairs / self.rope_dims)
        magnitude = self.own("rope.scaling.attn_factor", 1.0)
        if kind == "linear":
            frequencies = plain / factor
        elif kind == "yarn":
            magnitude *= self.own("rope.scaling.yarn_attn_factor", 0.1 * np.log(factor) + 1)
            fast, slow = (self.own(f"rope.scaling.yarn_beta_{name}", value) for name, value in (("fast", 32.0),
                                                                                               ("slow", 1.0)))
            low, high = (self.rope_dims * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(base))
                         for turns in (fast, slow))
            low, high = max(np.floor(low), 0), min(np.ceil(high), self.rope_dims - 1)
            interpolated = np.clip((pairs / 2 - low) / max(high - low, 0.001), 0, 1)
            frequencies = plain / factor * interpolated + plain * (1 - interpolated)
        elif kind in ("none", "longrope"):
            frequencies = plain
        else:
            raise ValueError(f"rope scaling {kind} is not known here")
        for name in ("rope_freqs", "rope_factors_long" if context > original else "rope_factors_short"):
            if f"{name}.weight" in self.tensors:
                frequencies = frequencies / self.weight(f"{name}.weight")
        local, local_magnitude = frequencies, magnitude
        if self.family.get("plain_locals"):
            local_base = np.float64(self.own("rope.freq_base_swa", self.family.get("local_base", base)))
            local, local_magnitude = local_base ** (-pairs / self.rope_dims), 1.0
        self.rope = {False: (frequencies, magnitude), True: (local, local_magnitude)}

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

    def rotate(self, x, local):
        """x [tokens][heads][head_dim]: two columns, neighbours (2i, 2i + 1) or halves (i, i + dims / 2), are a complex
        number that is turned by position times frequency i."""
        frequencies, magnitude = self.rope[local]
        angles = np.arange(len(x), dtype=np.float64)[:, None] * frequencies[None, :]
        cos, sin = magnitude * np.cos(angles)[:, None, :], magnitude * np.sin(angles)[:, None, :]
        if self.family.get("halves", True):
            first, second = slice(0, self.rope_dims // 2), slice(self.rope_dims // 2, self.rope_dims)
        else:
            first, second = slice(0, self.rope_dims, 2), slice(1, self.rope_dims, 2)
        turned = x.copy()
        turned[..., first] = x[..., first] * cos - x[..., second] * sin
        turned[..., second] = x[..., first] * sin + x[..., second] * cos
        return turned

    def attend(self, q, k, v, local):
        """Causal attention; q [tokens][heads][head_dim], k and v [tokens][kv_heads][head_dim]. A window of n lets a
        token see itself and the n - 1 before it."""
        tokens = len(q)
        group = self.heads // self.kv_heads
        hidden = np.triu(np.ones((tokens, tokens), bool), 1)
        if local:
            hidden |= np.tril(np.ones((tokens, tokens), bool), -self.window)
        out = np.empty_like(q)
        for head in range(self.heads):
            scores = q[:, head] @ k[:, head // group].T * self.score_scale
            if self.score_cap:
                scores = self.score_cap * np.tanh(scores / self.score_cap)
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = weights @ v[:, head // group] / weights.sum(axis=-1, keepdims=True)
        return out.reshape(tokens, -1)

    def project(self, x, block):
        """q, k and v by heads, as the file has them: in three matrices, or one below the other in one."""
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if f"{block}.attn_qkv.weight" in self.tensors:
            q, k, v = np.split(self.product(x, f"{block}.attn_qkv"), [q_width, q_width + kv_width], axis=-1)
        else:
            q, k, v = (self.product(x, f"{block}.attn_{name}") for name in "qkv")
        if self.family.get("qk_norm") == "row":
            q, k = self.norm(q, f"{block}.attn_q_norm"), self.norm(k, f"{block}.attn_k_norm")
        q = q.reshape(len(x), self.heads, self.head_dim)
        k, v = (y.reshape(len(x), self.kv_heads, self.head_dim) for y in (k, v))
        if self.family.get("qk_norm") == "head":
            q, k = self.norm(q, f"{block}.attn_q_norm"), self.norm(k, f"{block}.attn_k_norm")
        return q, k, v

    def feed_forward(self, x, block):
        if f"{block}.ffn_gate.weight" in self.tensors:
            gate, up = self.product(x, f"{block}.ffn_gate"), self.product(x, f"{block}.ffn_up")
        else:
            gate, up = np.split(self.product(x, f"{block}.ffn_up"), 2, axis=-1)
        if self.family.get("gelu"):
            gate = gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate ** 3))) / 2
        else:
            gate = gate / (1 + np.exp(-gate))
        return self.product(gate * up, f"{block}.ffn_down")

    def head(self, x):
        name = "output" if "output.weight" in self.tensors else "token_embd"
        logits = np.empty((len(x), self.vocab))
        for first in range(0, self.vocab, HEAD_ROWS):
            rows = slice(first, min(first + HEAD_ROWS, self.vocab))
            logits[:, rows] = x @ self.weight(f"{name}.weight", rows).T
        if "output.bias" in self.tensors:
            logits += self.weight("output.bias")
        logits /= self.logit_divisor
        return self.logit_cap * np.tanh(logits / self.logit_cap) if self.logit_cap else logits

    def run(self, tokens):
        """Logits [tokens][vocab], keys and values [layer][tokens][kv_heads][head_dim] (keys as rotated)."""
        pre = (lambda x, name: self.norm(x, name)) if self.family.get("pre_norms", True) else (lambda x, name: x)
        post = (lambda x, name: self.norm(x, name)) if self.family.get("post_norms") else (lambda x, name: x)
        x = self.weight("token_embd.weight", np.asarray(tokens)) * self.embedding_scale
        keys, values = [], []
        for layer in range(self.layers):
            block, local = f"blk.{layer}", self.is_local[layer]
            q, k, v = self.project(pre(x, f"{block}.attn_norm"), block)
            q, k = self.rotate(q, local), self.rotate(k, local)
            keys.append(k)
            values.append(v)
            attended = self.product(self.attend(q, k, v, local), f"{block}.attn_output")
            x = x + self.residual_scale * post(attended, f"{block}.post_attention_norm")
            fed = self.feed_forward(pre(x, f"{block}.ffn_norm"), block)
            x = x + self.residual_scale * post(fed, f"{block}.post_ffw_norm")
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
