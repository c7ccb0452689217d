#!/usr/bin/env python3
"""Write a GGUF model of ours as a folder of Hugging Face's and MLX's kind, and evaluate such a folder in double.

    folder.py MODEL.gguf FOLDER --dtype bf16                                  # weights as they are, rounded
    folder.py MODEL.gguf FOLDER --bits 4 --group 64 --scales bf16             # MLX's affine quantisation
    folder.py MODEL.gguf FOLDER --bits 4 --group 32 --override mlp.down_proj=8,32 --keep lm_head --shards 3

config.json, model.safetensors (or shards and their index) and, with --tokenizer, tokenizer.json and what stands beside
it. Only numpy and gguf are needed, and the bytes are the same everywhere, so that golden numbers of mlx can name them.
Rows of q and k that GGUF's converter permutes (llama, granite) are put back, and Gemma's norms get their one taken
away.
"""
import argparse
import json
import os
import struct
import sys

import gguf
import numpy as np
from gguf import quants

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import evaluate  # noqa: E402

PERMUTED = ("llama", "granite")
PLUS_ONE = ("gemma", "gemma2", "gemma3")
POST_NORMS = ("gemma2", "gemma3", "olmo2")
MODEL_TYPES = {"gemma3": "gemma3_text"}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
         "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
         "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm"}
AFTER = {**INNER, "ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm",
         "post_ffw_norm": "post_feedforward_layernorm"}
NAMES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x, dtype):
    """x in a type of 16 bits or in f32: what is stored, and its value in f32."""
    if dtype == "bf16":
        stored = to_bf16(x)
        return stored, from_bf16(stored)
    stored = np.ascontiguousarray(x, np.float16 if dtype == "f16" else np.float32)
    return stored, stored.astype(np.float32)


def pack(codes, bits):
    """Codes [rows][cols] as a stream of bits, the first in the lowest: words of 32."""
    planes = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(len(codes), -1), axis=1, bitorder="little").view("<u4")


def quantise(x, bits, group, dtype):
    """Codes, scales and biases (as stored), and the values that they mean: the range of each group is spread over the
    codes. Not to the bit what mx.quantize chooses; what a reader does with it is the same."""
    groups = np.ascontiguousarray(x, np.float32).reshape(len(x), -1, group)
    low, high = groups.min(axis=2), groups.max(axis=2)
    scales, scale = rounded(np.maximum((high - low) / (2 ** bits - 1), 1e-7).astype(np.float32), dtype)
    biases, bias = rounded(low, dtype)
    codes = np.clip(np.rint((groups - bias[:, :, None]) / scale[:, :, None]), 0, 2 ** bits - 1).astype(np.uint8)
    values = codes * scale[:, :, None].astype(np.float64) + bias[:, :, None]
    return pack(codes.reshape(len(x), -1), bits), scales, biases, values.reshape(x.shape)


class Source:
    """The GGUF model's weights under the folder's names."""

    def __init__(self, path):
        self.model = evaluate.Model(path)
        self.architecture = self.model.architecture
        self.post_norms = self.architecture in POST_NORMS

    def name(self, name):
        stem, suffix = name.rsplit(".", 1)
        if stem in OUTER:
            return f"{OUTER[stem]}.{suffix}"
        _, layer, rest = stem.split(".", 2)
        names = AFTER if self.post_norms else INNER
        renamed = "mlp.gate_up_proj" if rest == "ffn_up" and self.architecture == "phi3" else names[rest]
        return f"model.layers.{layer}.{renamed}.{suffix}"

    def tensors(self):
        for name, tensor in self.model.tensors.items():
            if name.startswith("rope_"):
                continue  # config.json says it
            value = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            stem = name.rsplit(".", 1)[0]
            if self.architecture in PERMUTED and stem.endswith(("attn_q", "attn_k")):
                value = self.halves(value, self.model.heads if stem.endswith("q") else self.model.kv_heads)
            if self.architecture in PLUS_ONE and value.ndim == 1 and "norm" in stem:
                value = value - 1
            yield name, self.name(name), value

    @staticmethod
    def halves(x, heads):
        """Rows (2i, 2i + 1) of a head back to (i, i + dims / 2)."""
        shape = x.shape
        return x.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)

    def config(self, tied, options):
        m, a = self.model, self.architecture
        config = {
            "architectures": ["Random"], "model_type": MODEL_TYPES.get(a, a), "vocab_size": m.vocab,
            "num_hidden_layers": m.layers, "hidden_size": m.width, "intermediate_size": m.inner,
            "num_attention_heads": m.heads, "num_key_value_heads": m.kv_heads, "head_dim": m.head_dim,
            "rms_norm_eps": float(f"{m.eps:.6g}"), "tie_word_embeddings": tied,
            "max_position_embeddings": m.own("context_length"), "rope_theta": float(m.own("rope.freq_base", 10000.0)),
            "hidden_act": "gelu_pytorch_tanh" if m.family.get("gelu") else "silu",
            "attention_bias": "blk.0.attn_q.bias" in m.tensors, "mlp_bias": "blk.0.ffn_up.bias" in m.tensors,
            "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True,
        }
        if a == "qwen2":
            config |= {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": m.layers}
        if a in ("gemma2", "gemma3"):
            config["query_pre_attn_scalar"] = round(1 / m.score_scale ** 2)
        if a == "gemma2":
            config |= {"attn_logit_softcapping": m.score_cap or None, "final_logit_softcapping": m.logit_cap or None}
        if a == "gemma3":
            config["rope_local_base_freq"] = float(m.own("rope.freq_base_swa", 10000.0))
            config["sliding_window_pattern"] = 6
        if a == "granite":
            config |= {"embedding_multiplier": m.embedding_scale, "residual_multiplier": m.residual_scale,
                       "attention_multiplier": m.score_scale, "logits_scaling": m.logit_divisor}
        if a == "olmo2" and m.window:
            config |= {"model_type": "olmo3",
                       "layer_types": [("full", "sliding")[local] + "_attention" for local in m.is_local]}
        if m.window:
            config["sliding_window"] = m.window
        if m.rope_dims != m.head_dim:
            config["partial_rotary_factor"] = m.rope_dims / m.head_dim
        scaling = self.scaling(options)
        if scaling:
            config["rope_scaling"] = scaling
        if "rope_factors_long.weight" in m.tensors:
            config["original_max_position_embeddings"] = m.own("rope.scaling.original_context_length")
        return config

    def scaling(self, options):
        m = self.model
        kind, factor = m.own("rope.scaling.type", "none"), m.own("rope.scaling.factor", 1.0)
        if "rope_freqs.weight" in m.tensors:  # what make_model.py was told is not in the file
            return {"rope_type": "llama3", "factor": float(options["--rope-factor"]), "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": int(options["--rope-original-context"])}
        if kind == "linear":
            return {"rope_type": "linear", "type": "linear", "factor": factor}
        if kind == "yarn":
            return {"rope_type": "yarn", "factor": factor,
                    "original_max_position_embeddings": m.own("rope.scaling.original_context_length")}
        if "rope_factors_long.weight" in m.tensors:
            return {"type": "longrope", "attention_factor": float(m.own("rope.scaling.attn_factor")),
                    **{f"{n}_factor": [float(x) for x in m.weight(f"rope_factors_{n}.weight")] for n in ("short", "long")}}
        return None


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, array)."""
    header, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def write(source_path, folder, dtype="bf16", bits=0, group=64, scales=None, overrides=None, keep=(), shards=1,
          options=None, tokenizer=None):
    """Returns the values that the folder's weights mean, in f64 by GGUF's names."""
    source = Source(source_path)
    os.makedirs(folder, exist_ok=True)
    scales = scales or dtype
    overrides = overrides or {}
    stored, values, own = {}, {}, {}
    for name, to, value in source.tensors():
        module = to.rsplit(".", 1)[0]
        how = next((b for part, b in overrides.items() if part in module), (bits, group))
        if value.ndim == 2 and bits and not any(part in module for part in keep):
            codes, scale, bias, meant = quantise(value, how[0], how[1], scales)
            stored[f"{module}.weight"] = ("U32", codes)
            stored[f"{module}.scales"] = (NAMES[scales], scale)
            stored[f"{module}.biases"] = (NAMES[scales], bias)
            if how != (bits, group):
                own[module] = {"group_size": how[1], "bits": how[0]}
        else:
            array, meant = rounded(value, dtype)
            stored[to] = (NAMES[dtype], array)
            if bits and value.ndim == 2:
                own[module] = False
        if source.architecture in PLUS_ONE and value.ndim == 1 and "norm" in name:
            meant = meant.astype(np.float64) + 1
        values[name] = np.asarray(meant, np.float64)
    config = source.config("output.weight" not in source.model.tensors, options or {})
    config["torch_dtype"] = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype]
    if bits:
        config["quantization"] = {"group_size": group, "bits": bits, **own}
        config["quantization_config"] = config["quantization"]
    save_shards(folder, stored, shards)
    if tokenizer:
        add_tokenizer(folder, source.model, tokenizer)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    return values


def save_shards(folder, stored, shards):
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), stored)
        return
    names, places = list(stored), {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = names[len(names) * i // shards:len(names) * (i + 1) // shards]
        write_safetensors(os.path.join(folder, file), {name: stored[name] for name in part})
        places |= {name: file for name in part}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": sum(a.nbytes for _, a in stored.values())}, "weight_map": places}, file,
                  indent=1)


def add_tokenizer(folder, model, path):
    """A tokenizer.json, which puts beginning-of-text first as the GGUF file says; and the file's chat template."""
    def token(key):
        return tokens[model.value(f"tokenizer.ggml.{key}_token_id")]

    with open(path) as file:
        tokenizer = json.load(file)
    tokens = model.value("tokenizer.ggml.tokens")
    bos, number = token("bos"), model.value("tokenizer.ggml.bos_token_id")
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}}}
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump(tokenizer, file, ensure_ascii=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": token("eos"),
                   "chat_template": model.value("tokenizer.chat_template")}, file, indent=1)


class FolderModel(evaluate.Model):
    """evaluate.py's model with the numbers of a GGUF file and the weights of the folder made from it."""

    def __init__(self, source_path, values, context=None):
        super().__init__(source_path, context)
        self.values = values
        self.family = {**self.family, "halves": True}

    def weight(self, name, rows=None):
        values = getattr(self, "values", {})  # the constructor asks for factors before there are any
        if name not in values:
            return super().weight(name, rows)
        return values[name] if rows is None else values[name][rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("folder", help="where to")
    parser.add_argument("--dtype", choices=NAMES, default="bf16", help="of what is not quantised (bf16)")
    parser.add_argument("--bits", type=int, choices=(2, 3, 4, 5, 6, 8), default=0, help="quantise matrices")
    parser.add_argument("--group", type=int, choices=(32, 64, 128), default=64)
    parser.add_argument("--scales", choices=NAMES, help="the type of scales and biases (as --dtype)")
    parser.add_argument("--override", action="append", default=[], metavar="PART=BITS,GROUP", help="for modules by name")
    parser.add_argument("--keep", action="append", default=[], metavar="PART", help="modules that are not quantised")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--tokenizer", help="a tokenizer.json")
    a = parser.parse_args()
    overrides = {part: tuple(int(n) for n in how.split(",")) for part, how in (o.split("=") for o in a.override)}
    write(a.model, a.folder, a.dtype, a.bits, a.group, a.scales, overrides, a.keep, a.shards, tokenizer=a.tokenizer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
