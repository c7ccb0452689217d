#!/usr/bin/env python3
"""Writes fuzz/corpus/gguf/: small model files as the gguf package (the format's own) writes them.

    python tools/make_gguf_corpus.py fuzz/corpus/gguf        needs: pip install gguf==0.19.0 numpy
"""
import pathlib
import struct
import sys

import gguf
import numpy as np


def writer(path, arch="llama"):
    return gguf.GGUFWriter(str(path), arch)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def bpe(path):
    w = writer(path)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    tokens = [chr(c) for c in range(33, 127)] + ["ab", "abc", "Ġa", "<|end|>"]
    w.add_token_list(tokens)
    w.add_token_types([1] * (len(tokens) - 1) + [3])
    w.add_token_merges(["a b", "ab c", "Ġ a"])
    w.add_eos_token_id(len(tokens) - 1)
    finish(w)


def spm(path):
    w = writer(path)
    w.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["▁", "a", "b", "ab", "▁ab"]
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * 259 + [-4.0, -3.0, -2.0, -1.0, -0.5])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * 5)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_space_prefix(True)
    finish(w)


def tensors(path, alignment=None):
    w = writer(path)
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_context_length(128)
    w.add_rope_freq_base(10000.0)
    w.add_array("numbers", [1, 2, 3])
    w.add_bool("yes", True)
    values = np.arange(64, dtype=np.float32)
    w.add_tensor("norm", values)
    w.add_tensor("half", values.astype(np.float16).reshape(2, 32))
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
        w.add_tensor(kind.name.lower(), gguf.quants.quantize(values.reshape(2, 32), kind), raw_dtype=kind)
    finish(w)


def family(path, architecture, fused=False, pre_norms=True, post_norms=False, q_norm=0, keys=None):
    """A model of one layer, 32 wide, with two heads and four tokens; every key that a family may have."""
    w = writer(path, architecture)
    w.add_block_count(1)
    w.add_context_length(128)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_head_count(2)
    w.add_head_count_kv(1)
    w.add_layer_norm_rms_eps(1e-5)
    if keys:
        keys(w)

    def matrix(name, rows):
        data = np.zeros((rows, 18), np.uint8)
        w.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    def vector(name, elements):
        w.add_tensor(name, np.ones(elements, np.float32))

    matrix("token_embd.weight", 4)
    for name, rows in (("attn_qkv", 64),) if fused else (("attn_q", 32), ("attn_k", 16), ("attn_v", 16)):
        matrix(f"blk.0.{name}.weight", rows)
        vector(f"blk.0.{name}.bias", rows)
    for name, rows in (("attn_output", 32), ("ffn_down", 32), ("ffn_up", 64 if fused else 32)):
        matrix(f"blk.0.{name}.weight", rows)
    if not fused:
        matrix("blk.0.ffn_gate.weight", 32)
    for name in ["attn_norm", "ffn_norm"] * pre_norms + ["post_attention_norm", "post_ffw_norm"] * post_norms:
        vector(f"blk.0.{name}.weight", 32)
    for name, heads in (("attn_q_norm", 2), ("attn_k_norm", 1)) if q_norm else ():
        vector(f"blk.0.{name}.weight", 16 * heads if q_norm == 2 else 16)
    vector("output_norm.weight", 32)
    if fused:
        vector("rope_factors_long.weight", 8)
        vector("rope_factors_short.weight", 8)
    finish(w)


def yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(32)
    w.add_rope_scaling_yarn_beta_fast(16.0)
    w.add_rope_scaling_yarn_beta_slow(2.0)
    w.add_rope_scaling_yarn_attn_factor(1.1)


def caps(w):
    w.add_attn_logit_softcapping(50.0)
    w.add_final_logit_softcapping(30.0)
    w.add_sliding_window(16)


def flags(w):
    yarn(w)
    w.add_sliding_window(16)
    w.add_sliding_window_pattern([True])


def scales(w):
    w.add_embedding_scale(12.0)
    w.add_residual_scale(0.22)
    w.add_attention_scale(0.1)
    w.add_logit_scale(8.0)


def long_context(w):
    w.add_rope_scaling_orig_ctx_len(32)
    w.add_rope_scaling_attn_factors(1.19)
    w.add_rope_dimension_count(16)


def families(folder):
    family(folder / "llama.gguf", "llama", keys=lambda w: w.add_sliding_window(16))
    family(folder / "qwen2.gguf", "qwen2", keys=yarn)
    family(folder / "qwen3.gguf", "qwen3", q_norm=1)
    family(folder / "gemma.gguf", "gemma")
    family(folder / "gemma2.gguf", "gemma2", post_norms=True, keys=caps)
    family(folder / "gemma3.gguf", "gemma3", post_norms=True, q_norm=1, keys=lambda w: w.add_rope_freq_base_swa(1e4))
    family(folder / "phi3.gguf", "phi3", fused=True, keys=long_context)
    family(folder / "olmo2.gguf", "olmo2", pre_norms=False, post_norms=True, q_norm=2, keys=flags)
    family(folder / "granite.gguf", "granite", keys=scales)


def types(path):
    """A matrix of every weight type, mixed as quantisers mix them, two rows of a block or two each."""
    w = writer(path)
    w.add_block_count(1)
    w.add_quantization_version(2)
    rng = np.random.default_rng(1)
    names = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
             "IQ4_NL", "IQ4_XS", "MXFP4")
    for i, name in enumerate(names):
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        row = size * (8 if elements == 1 else 1 + i % 2)
        w.add_tensor(f"blk.0.{('attn_v', 'ffn_down', 'attn_q')[i % 3]}.{name.lower()}.weight",
                     rng.integers(0, 60, (2, row), dtype=np.uint8), raw_dtype=kind)
    finish(w)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    bpe(folder / "bpe.gguf")
    spm(folder / "spm.gguf")
    tensors(folder / "tensors.gguf")
    tensors(folder / "aligned.gguf", 64)
    families(folder)
    good = (folder / "tensors.gguf").read_bytes()
    (folder / "version2.gguf").write_bytes(good[:4] + struct.pack("<I", 2) + good[8:])
    types(folder / "types.gguf")
    # Damaged ones: their names begin with "bad".
    every = (folder / "types.gguf").read_bytes()
    (folder / "bad-types-short.gguf").write_bytes(every[:-100])
    at = every.index(b"q6_k.weight") + len("q6_k.weight") + 4
    (folder / "bad-half-block.gguf").write_bytes(every[:at] + struct.pack("<Q", 128) + every[at + 8:])
    (folder / "bad-version.gguf").write_bytes(good[:4] + struct.pack("<I", 1) + good[8:])
    (folder / "bad-count.gguf").write_bytes(good[:8] + struct.pack("<Q", 2**60) + good[16:])
    (folder / "bad-short.gguf").write_bytes(good[: len(good) - 40])


main()
