#!/usr/bin/env python3
"""Writes fuzz/corpus/hf/ and fuzz/corpus/safetensors/: the smallest folders of each kind, for fuzz/fuzz_hf.c and
fuzz/fuzz_safetensors.c, with the tokenizers of tests/golden/mlx/tokens.

    .deps/venv/bin/python tools/mlx/make_corpus.py
"""
import json
import os

import numpy as np

import folder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WIDTH = 32
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj")
SCALINGS = {
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64},
    "gpt2": {"type": "linear", "factor": 2.0},
    "qwen2": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}


def matrix(tensors, name, rows, bits, random):
    values = random.standard_normal((rows, WIDTH)).astype(np.float32)
    if not bits:
        tensors[f"{name}.weight"] = ("BF16", folder.to_bf16(values))
        return
    codes, scales, biases, _ = folder.quantise(values, bits, 32, "f16")
    tensors |= {f"{name}.weight": ("U32", codes), f"{name}.scales": ("F16", scales), f"{name}.biases": ("F16", biases)}


def make(tokenizer, model_type, bits, random):
    with open(os.path.join(ROOT, "tests", "golden", "mlx", "tokens", f"{tokenizer}.json"), "rb") as file:
        tokens = file.read()
    made = json.loads(tokens)
    vocab = 1 + max(*made["model"]["vocab"].values(), *(t["id"] for t in made["added_tokens"]))
    config = {"model_type": model_type, "vocab_size": vocab, "num_hidden_layers": 1, "hidden_size": WIDTH,
              "intermediate_size": WIDTH, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
              "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": True}
    if tokenizer in SCALINGS:
        config["rope_scaling"] = SCALINGS[tokenizer]
    if bits:
        config["quantization"] = {"group_size": 32, "bits": bits, "model.embed_tokens": {"bits": 2, "group_size": 32}}
    tensors, layer = {}, "model.layers.0"
    norms = ["model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
    if model_type == "gemma2":
        norms += [f"{layer}.pre_feedforward_layernorm", f"{layer}.post_feedforward_layernorm"]
    for name in norms:
        tensors[f"{name}.weight"] = ("F16", np.ones(WIDTH, np.float16))
    matrix(tensors, "model.embed_tokens", vocab, 2 if bits else 0, random)
    for name in MODULES:
        matrix(tensors, f"{layer}.{name}", 16 if name[10:11] in "kv" and name.startswith("self") else WIDTH, bits, random)
    more = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": [{"name": "default", "template": "x"}]}
    return json.dumps(config).encode(), tokens, json.dumps(more).encode(), tensors


def main():
    random = np.random.default_rng(5)
    for kind in ("hf", "safetensors"):
        os.makedirs(os.path.join(ROOT, "fuzz", "corpus", kind), exist_ok=True)
    for tokenizer, model_type, bits in (("llama3", "llama", 4), ("llama2", "mistral", 3), ("gemma", "gemma2", 0),
                                        ("gpt2", "llama", 8), ("qwen2", "qwen2", 6), ("words", "llama", 2)):
        config, tokens, more, tensors = make(tokenizer, model_type, bits, random)
        path = os.path.join(ROOT, "fuzz", "corpus", "safetensors", tokenizer)
        folder.write_safetensors(path, tensors)
        with open(path, "rb") as file:
            weights = file.read()
        with open(os.path.join(ROOT, "fuzz", "corpus", "hf", tokenizer), "wb") as file:
            file.write(b"\x1e".join((config, tokens, more, weights)))
        small = {name: tensors[name] for name in list(tensors)[:3]}
        folder.write_safetensors(path, small)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
