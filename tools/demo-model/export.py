#!/usr/bin/env python3
"""Write a checkpoint of train.py as a GGUF file, and read it back to check it.

    export.py checkpoint tokenizer.json samepage-demo-q8_0.gguf --type q8_0

Norms are f32, all else has the given type. The tensors go out as they are: model.py pairs the elements of a head as
GGUF's "llama" does.
"""
import argparse
import json
import os
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

from model import load_checkpoint

TYPES = {"f32": (T.F32, gguf.LlamaFileType.ALL_F32), "f16": (T.F16, gguf.LlamaFileType.MOSTLY_F16),
         "q8_0": (T.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def add_tokenizer(writer, path):
    with open(path) as file:
        data = json.load(file)
    ids = dict(data["model"]["vocab"])
    special = {token["content"]: token["id"] for token in data["added_tokens"] if token["special"]}
    ids.update(special)
    tokens = sorted(ids, key=ids.get)
    assert [ids[token] for token in tokens] == list(range(len(tokens)))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]]

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(special["<|begin_of_text|>"])
    writer.add_eos_token_id(special["<|eot_id|>"])
    writer.add_eot_token_id(special["<|eot_id|>"])
    writer.add_pad_token_id(special["<|finetune_right_pad_id|>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    return len(tokens)


def write(path, config, arrays, tokenizer, type_name):
    type_, file_type = TYPES[type_name]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Samepage demo")
    writer.add_description("A small conversation model that recalls what it was told, trained from scratch for "
                           "Samepage")
    writer.add_license("Apache-2.0")
    writer.add_size_label("9M")
    writer.add_languages(["en"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.d)
    writer.add_feed_forward_length(config.ff)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocabulary)
    assert add_tokenizer(writer, tokenizer) == config.vocabulary

    def order(name):
        parts = name.split(".")
        return (1, int(parts[1]), name) if parts[0] == "blk" else (0 if parts[0] == "token_embd" else 2, 0, name)

    for name in sorted(arrays, key=order):
        array = np.ascontiguousarray(arrays[name], np.float32)
        if array.ndim == 1 or type_ == T.F32:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quants.quantize(array, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(path, arrays):
    """Read the file back: every tensor is there, with the shape and about the values that it should have."""
    reader = gguf.GGUFReader(path)
    read = {tensor.name: tensor for tensor in reader.tensors}
    assert set(read) == set(arrays), set(read) ^ set(arrays)
    worst = 0.0
    for name, tensor in read.items():
        assert [int(n) for n in tensor.shape] == list(arrays[name].shape[::-1]), name
        values = quants.dequantize(tensor.data, tensor.tensor_type).reshape(arrays[name].shape)
        worst = max(worst, float(np.abs(values - arrays[name]).max() / np.abs(arrays[name]).max()))
    assert worst < 0.01, worst
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", help="the folder that train.py wrote")
    parser.add_argument("tokenizer", help="tokenizer.json")
    parser.add_argument("out")
    parser.add_argument("--type", default="q8_0", choices=TYPES)
    a = parser.parse_args()
    config, arrays = load_checkpoint(a.checkpoint)
    write(a.out, config, arrays, a.tokenizer, a.type)
    worst = check(a.out, arrays)
    print(f"{a.out}: {sum(x.size for x in arrays.values()):,} parameters, {os.path.getsize(a.out):,} bytes, "
          f"largest error {100 * worst:.2f} % of a tensor's largest value")
    return 0


if __name__ == "__main__":
    sys.exit(main())
