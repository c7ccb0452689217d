#!/usr/bin/env python3
"""Write a GGUF file with random weights, of Llama's or another family, for tests and benchmarks.

The file is complete: hyperparameters, tokenizer, tensors. Its text is noise, but every engine that reads GGUF must
read it, tokenize with it, and compute the same numbers from it. Nothing is downloaded, and a model of any size is
written in a stream, a few MB in memory at a time.

    make_model.py out.gguf                                        # a tiny model, 2 layers, f32
    make_model.py out.gguf --shape llama-3.2-1b --type q4_0       # the real shape, for benchmarks
    make_model.py out.gguf --type q8_0 --head-type f16 --untied --attention-bias --norm-random
    make_model.py out.gguf --tokenizer llama --rope-scaling linear --rope-factor 4
    make_model.py out.gguf --family gemma2 --window 24 --attention-cap 2 --logit-cap 4

The same options give the same bytes: the weights of a tensor are drawn from (seed, tensor name, row chunk), so they
depend neither on the other tensors nor on --type; the same f32 draws lie under every type.

Needs: numpy, gguf (tools/demo-model/requirements.txt has the versions this was tested with).
"""
import argparse
import math
import os
import sys
import time
import zlib
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

# name: layers, d, ff, heads, KV heads, head dim, vocabulary, tied, RoPE theta, RoPE scaling, factor, context
SHAPES = {
    "tiny":           (2, 256, 512, 8, 2, 32, 1024, True, 500000.0, "llama3", 32.0, 8192),
    "demo":           (8, 256, 1024, 4, 2, 64, 3072, True, 10000.0, "none", 1.0, 2048),
    "tinyllama-1.1b": (22, 2048, 5632, 32, 4, 64, 32000, False, 10000.0, "none", 1.0, 2048),
    "llama-3.2-1b":   (16, 2048, 8192, 32, 8, 64, 128256, True, 500000.0, "llama3", 32.0, 131072),
    "llama-3.2-3b":   (28, 3072, 8192, 24, 8, 128, 128256, True, 500000.0, "llama3", 32.0, 131072),
    "llama-3.1-8b":   (32, 4096, 14336, 32, 8, 128, 128256, False, 500000.0, "llama3", 8.0, 131072),
}

# name: tensor type, general.file_type
TYPES = {
    "f32": (T.F32, 0), "f16": (T.F16, 1), "bf16": (T.BF16, 32), "q8_0": (T.Q8_0, 7),
    "q4_0": (T.Q4_0, 2), "q4_1": (T.Q4_1, 3), "q5_0": (T.Q5_0, 8), "q5_1": (T.Q5_1, 9),
    "mxfp4": (T.MXFP4, 38),
}

CHUNK_ELEMENTS = 1 << 22  # rows are drawn, converted and written in chunks of about so many elements
LETTERS = "abcdefghijklmnopqrstuvwxyz"

# The tensors that a family's converter writes (llama.cpp, conversion/), where they are not those of llama.
# q_norm: their length is a head's or a row's; fused: q, k, v in one matrix, and the gate in the first half of ffn_up.
FAMILIES = {
    "llama": {}, "qwen2": {"attention_bias": ("attn_q", "attn_k", "attn_v")}, "qwen3": {"q_norm": "head"},
    "gemma": {}, "gemma2": {"post_norms": True}, "gemma3": {"post_norms": True, "q_norm": "head"},
    "phi3": {"fused": True}, "olmo2": {"post_norms": True, "pre_norms": False, "q_norm": "row"}, "granite": {},
}
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # tokenizer.ggml.token_type

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@dataclass
class Tensor:
    """One tensor to write: shape in rows x columns (or one number for a vector), and where its values come from."""
    name: str
    shape: tuple
    type: T
    values: np.ndarray | None = None  # given values (always written as f32); None: drawn
    std: float = 0.0                  # of the drawn values


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="the file to write")
    parser.add_argument("--family", default="llama", choices=FAMILIES, help="general.architecture (llama)")
    parser.add_argument("--shape", default="tiny", choices=SHAPES, help="preset that the options below refine (tiny)")
    size = parser.add_argument_group("shape, default from --shape")
    size.add_argument("--layers", type=int)
    size.add_argument("--d", type=int, help="width of the residual stream")
    size.add_argument("--ff", type=int, help="width of the feed-forward layer")
    size.add_argument("--heads", type=int)
    size.add_argument("--kv-heads", type=int)
    size.add_argument("--head-dim", type=int)
    size.add_argument("--vocab", type=int, help="tokens in all, at least 512")
    size.add_argument("--context", type=int, help="context length that the file declares")
    tie = size.add_mutually_exclusive_group()
    tie.add_argument("--tied", action="store_true", default=None, help="the head is the embedding")
    tie.add_argument("--untied", action="store_false", dest="tied", help="the head is a tensor of its own")
    weights = parser.add_argument_group("weights")
    weights.add_argument("--type", default="f32", choices=TYPES, help="type of the matrices (f32)")
    weights.add_argument("--head-type", choices=TYPES, help="type of token_embd and output (default: --type)")
    weights.add_argument("--std", type=float, default=0.02, help="standard deviation of the weights (0.02)")
    weights.add_argument("--embedding-std", type=float, help="that of the embedding (default: --std)")
    weights.add_argument("--seed", type=int, default=1)
    weights.add_argument("--norm-random", action="store_true", help="norm weights uniform in 0.5..1.5, not all one")
    weights.add_argument("--attention-bias", action="store_true", help="biases on attention's q, k, v and output")
    weights.add_argument("--feed-forward-bias", action="store_true", help="biases on the gate, up and down matrices")
    rope = parser.add_argument_group("RoPE, default from --shape")
    rope.add_argument("--rope-theta", type=float)
    rope.add_argument("--rope-dims", type=int, help="columns of a head that are rotated (all)")
    rope.add_argument("--rope-scaling", choices=("none", "llama3", "linear", "yarn", "longrope"),
                      help="llama3 writes a rope_freqs tensor, longrope two of factors, linear and yarn scaling keys")
    rope.add_argument("--rope-factor", type=float, help="the scaling's factor")
    rope.add_argument("--rope-original-context", type=int, default=8192, help="for all but linear (8192)")
    own = parser.add_argument_group("what only some families have")
    own.add_argument("--window", type=int, help="attention.sliding_window")
    own.add_argument("--window-flags", help="attention.sliding_window_pattern, a digit for each layer: 110")
    own.add_argument("--attention-cap", type=float, help="attn_logit_softcapping")
    own.add_argument("--logit-cap", type=float, help="final_logit_softcapping")
    own.add_argument("--embedding-scale", type=float)
    own.add_argument("--residual-scale", type=float)
    own.add_argument("--attention-scale", type=float)
    own.add_argument("--logit-scale", type=float, help="divides the logits")
    text = parser.add_argument_group("tokenizer")
    text.add_argument("--tokenizer", default="gpt2", choices=("gpt2", "llama"),
                      help="gpt2: byte-level BPE with merges, as Llama 3; llama: SentencePiece with scores, as Llama 2")
    text.add_argument("--chat-template", action="store_true", help="store the Llama 3 chat template (gpt2 only)")
    a = parser.parse_args(arguments)

    names = ("layers", "d", "ff", "heads", "kv_heads", "head_dim", "vocab", "tied", "rope_theta", "rope_scaling",
             "rope_factor", "context")
    for name, value in zip(names, SHAPES[a.shape]):
        if getattr(a, name) is None:
            setattr(a, name, value)
    a.head_type = a.head_type or a.type
    a.rope_dims = a.rope_dims or a.head_dim
    a.extra = FAMILIES[a.family]
    a.embedding_std = a.std if a.embedding_std is None else a.embedding_std

    if a.vocab < 512:
        parser.error("--vocab: at least 512, since 256 tokens are the bytes")
    if a.heads % a.kv_heads:
        parser.error("--heads must be a multiple of --kv-heads")
    if a.head_dim % 2:
        parser.error("--head-dim must be even: RoPE turns pairs")
    for option, columns, name in (("--d", a.d, a.type), ("--d", a.d, a.head_type), ("--ff", a.ff, a.type),
                                  ("--heads x --head-dim", a.heads * a.head_dim, a.type)):
        block = gguf.GGML_QUANT_SIZES[TYPES[name][0]][0]
        if columns % block:
            parser.error(f"{option}: {columns} is not a multiple of {block}, the block of {name}")
    if a.chat_template and a.tokenizer != "gpt2":
        parser.error("--chat-template names tokens that only --tokenizer gpt2 has")
    return a


def letter_strings(roots, count):
    """The first `count` strings that grow from the roots by one letter at a time, shortest first.

    Each is an earlier string and one letter, so one merge makes it and every string can be reached.
    """
    made, level = [], list(roots)
    while len(made) < count:
        following = []
        for prefix in level:
            for letter in LETTERS:
                if len(made) == count:
                    return made
                made.append((prefix, letter))
                following.append(prefix + letter)
        level = following
    return made


def byte_characters():
    """GPT-2's printable stand-in for each of the 256 bytes, in the order of the bytes."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    characters, free = [], 256
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(free))
            free += 1
    return characters


def add_gpt2_tokenizer(writer, vocab, chat_template):
    """Byte-level BPE: the bytes, letter strings with and without a leading space, Llama 3's special tokens last."""
    n_special = min(256, vocab // 4)
    tokens, merges = byte_characters(), []
    space = "\u0120"
    for prefix, letter in letter_strings(list(LETTERS) + [space], vocab - n_special - len(tokens)):
        merges.append(f"{prefix} {letter}")
        tokens.append(prefix + letter)
    first_special = len(tokens)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
               "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
               "<|eom_id|>", "<|eot_id|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(3, n_special)]
    tokens += special[:n_special]

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([NORMAL] * first_special + [CONTROL] * n_special)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(first_special)
    writer.add_eos_token_id(first_special + special.index("<|eot_id|>"))
    writer.add_add_bos_token(True)
    if chat_template:
        writer.add_chat_template(CHAT_TEMPLATE)


def add_llama_tokenizer(writer, vocab):
    """SentencePiece: unk, bos, eos, byte tokens, single characters, then letter strings; a higher score merges first.

    Longer strings are made later and score lower, as in trained vocabularies.
    """
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    scores = [0.0] * len(tokens)
    space = "\u2581"
    pieces = [space] + list(LETTERS + LETTERS.upper() + "0123456789.,;:!?'\"()-")
    pieces += [prefix + letter for prefix, letter in
               letter_strings(list(LETTERS) + [space], vocab - len(tokens) - len(pieces))]
    for rank, piece in enumerate(pieces):
        tokens.append(piece)
        types.append(NORMAL)
        scores.append(-float(rank))

    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def add_hyperparameters(writer, a):
    writer.add_name(f"random {a.shape} {a.type} seed {a.seed}")
    writer.add_file_type(TYPES[a.type][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(a.layers)
    writer.add_context_length(a.context)
    writer.add_embedding_length(a.d)
    writer.add_feed_forward_length(a.ff)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_key_length(a.head_dim)
    writer.add_value_length(a.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(a.rope_theta)
    writer.add_rope_dimension_count(a.rope_dims)
    writer.add_vocab_size(a.vocab)
    if a.rope_scaling == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(a.rope_factor)
    elif a.rope_scaling == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(a.rope_factor)
        writer.add_rope_scaling_orig_ctx_len(a.rope_original_context)
    elif a.rope_scaling == "longrope":
        writer.add_rope_scaling_orig_ctx_len(a.rope_original_context)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(a.rope_factor) /
                                                       math.log(a.rope_original_context)))
    for value, add in ((a.window, writer.add_sliding_window), (a.attention_cap, writer.add_attn_logit_softcapping),
                       (a.logit_cap, writer.add_final_logit_softcapping), (a.logit_scale, writer.add_logit_scale),
                       (a.embedding_scale, writer.add_embedding_scale), (a.attention_scale, writer.add_attention_scale),
                       (a.residual_scale, writer.add_residual_scale)):
        if value is not None:
            add(value)
    if a.window_flags:
        writer.add_sliding_window_pattern([digit == "1" for digit in a.window_flags])


def llama3_rope_factors(head_dim, theta, factor, original_context, low=1.0, high=4.0):
    """What Llama 3.1 divides each RoPE frequency by: 1 for short waves, `factor` for long ones, a ramp between."""
    wavelength = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    ramp = (original_context / wavelength - low) / (high - low)
    between = 1 / ((1 - ramp) / factor + ramp)
    return np.where(wavelength < original_context / high, 1.0,
                    np.where(wavelength > original_context / low, factor, between))


def list_tensors(a):
    """All tensors, in the order in which they lie in the file."""
    type_, head_type = TYPES[a.type][0], TYPES[a.head_type][0]
    tensors = []

    def matrix(name, rows, columns, t=type_, std=a.std):
        tensors.append(Tensor(name, (rows, columns), t, std=std))

    def norm(name, size=a.d):
        values = np.ones(size, np.float32)
        if a.norm_random:
            values = generator(a.seed, name, 0).uniform(0.5, 1.5, size).astype(np.float32)
        tensors.append(Tensor(name, (size,), T.F32, values))

    def bias(name, size, wanted):
        if wanted:
            values = generator(a.seed, name, 0).standard_normal(size, dtype=np.float32) * np.float32(0.1)
            tensors.append(Tensor(name, (size,), T.F32, values))

    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    matrix("token_embd.weight", a.vocab, a.d, head_type, a.embedding_std)
    if a.rope_scaling == "llama3":
        factors = llama3_rope_factors(a.head_dim, a.rope_theta, a.rope_factor, a.rope_original_context)
        tensors.append(Tensor("rope_freqs.weight", (a.head_dim // 2,), T.F32, factors.astype(np.float32)))
    elif a.rope_scaling == "longrope":
        for which, most in (("long", a.rope_factor), ("short", 1.2)):  # ramps, as the published lists are
            factors = np.linspace(1, most, a.rope_dims // 2).astype(np.float32)
            tensors.append(Tensor(f"rope_factors_{which}.weight", (a.rope_dims // 2,), T.F32, factors))
    attention = [("attn_q", q, a.d), ("attn_k", kv, a.d), ("attn_v", kv, a.d)]
    feed_forward = [("ffn_gate", a.ff, a.d), ("ffn_up", a.ff, a.d)]
    if a.extra.get("fused"):
        attention, feed_forward = [("attn_qkv", q + 2 * kv, a.d)], [("ffn_up", 2 * a.ff, a.d)]
    biased = a.extra.get("attention_bias", ())
    for i in range(a.layers):
        if a.extra.get("pre_norms", True):
            norm(f"blk.{i}.attn_norm.weight")
        for part, rows, columns in attention + [("attn_output", a.d, q)]:
            matrix(f"blk.{i}.{part}.weight", rows, columns)
            bias(f"blk.{i}.{part}.bias", rows, a.attention_bias or part in biased)
        if "q_norm" in a.extra:
            row = a.extra["q_norm"] == "row"
            norm(f"blk.{i}.attn_q_norm.weight", q if row else a.head_dim)
            norm(f"blk.{i}.attn_k_norm.weight", kv if row else a.head_dim)
        if a.extra.get("post_norms"):
            norm(f"blk.{i}.post_attention_norm.weight")
        if a.extra.get("pre_norms", True):
            norm(f"blk.{i}.ffn_norm.weight")
        for part, rows, columns in feed_forward + [("ffn_down", a.d, a.ff)]:
            matrix(f"blk.{i}.{part}.weight", rows, columns)
            bias(f"blk.{i}.{part}.bias", rows, a.feed_forward_bias)
        if a.extra.get("post_norms"):
            norm(f"blk.{i}.post_ffw_norm.weight")
    norm("output_norm.weight")
    if not a.tied:
        matrix("output.weight", a.vocab, a.d, head_type)
    return tensors


def generator(seed, name, chunk):
    return np.random.default_rng([seed, zlib.crc32(name.encode()), chunk])


def write_tensor(file, tensor, seed):
    if tensor.values is not None:
        tensor.values.tofile(file)
        return
    rows, columns = tensor.shape
    step = max(1, CHUNK_ELEMENTS // columns)
    for chunk, first in enumerate(range(0, rows, step)):
        count = min(step, rows - first)
        values = generator(seed, tensor.name, chunk).standard_normal((count, columns), dtype=np.float32)
        values *= np.float32(tensor.std)
        if tensor.type != T.F32:
            values = quants.quantize(values, tensor.type)
        values.tofile(file)


def main(arguments=None):
    a = parse_arguments(arguments)
    started = time.monotonic()
    writer = gguf.GGUFWriter(a.out, a.family)
    add_hyperparameters(writer, a)
    if a.tokenizer == "gpt2":
        add_gpt2_tokenizer(writer, a.vocab, a.chat_template)
    else:
        add_llama_tokenizer(writer, a.vocab)

    tensors, parameters = list_tensors(a), 0
    for t in tensors:
        elements = math.prod(t.shape)
        block, block_bytes = gguf.GGML_QUANT_SIZES[t.type]
        parameters += elements
        writer.add_tensor_info(t.name, t.shape, np.dtype(np.float32), elements // block * block_bytes,
                               raw_dtype=t.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file = writer.fout[0]
    for t in tensors:
        writer.write_padding(file, file.tell())
        write_tensor(file, t, a.seed)
    writer.write_padding(file, file.tell())
    writer.close()
    print(f"{a.out}: {parameters:,} parameters, {os.path.getsize(a.out):,} bytes, "
          f"{time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
