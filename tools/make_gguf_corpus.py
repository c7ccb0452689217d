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
