#!/usr/bin/env python3
"""Write tests/golden/mlx/tokens/: small tokenizer.json files of every kind that is read, and what `tokenizers` makes of
texts with them.

NAME.json is a tokenizer, trained here on the project's documentation and some sentences in other scripts. NAME.txt has
a line for each text: the text in hex, and its ids with what stands before and behind it ("-": none).
tests/unit/test_hf_tokens.c reads both. Needs tools/bootstrap.sh --mlx.
"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SENTENCES = ["Der Straßenkehrer größt die Fußgänger.", "Le garçon a mangé des pâtes à l'Élysée.", "Привет, как дела?",
             "Ελληνικά γράμματα", "日本語のテキストです。", "한국어 문장입니다", "नमस्ते दुनिया", "مرحبا بالعالم", "שלום עולם",
             "Việt Nam tiếng", "😀 👨‍👩‍👧 🎉"]
PIECES = ("the quick brown Fox's don't I'LL we've naïve café Straße 日本語 テキスト 한국어 각 Ελληνικά русский العربية हिन्दी "
          "😀 👨‍👩‍👧 1234567 3.14 0x1F foo_bar HTTPServer C++ <tag> </s> <s> <unk> <|im_end|> <|tool|> [MASK] a\u0301 "
          "e\u0301\u0323 \u212b ﬁ \u00a0 \u2003 \u3000 \u180e \u200b \u0085 ſ K İ ı ① Ⅷ ٣ ½ ² \u1100\u1161\u11a8 が ガ "
          "n\u0303 \x00 \x07 \x7f 𝔘𝔫 ▁ ▁▁a Ġ <0x0A> ... ?! \"q\" `c` {j:[1,2]} a/b $5 50% ~").split(" ")


def corpus():
    lines = list(SENTENCES) * 4
    for name in ("README.md", "ARCHITECTURE.md", "docs/actors.md", "docs/links.md"):
        with open(os.path.join(ROOT, name)) as file:
            lines += file.read().split("\n")
    return lines


def train(tokenizer, vocab, special, alphabet=(), limit=256):
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=list(alphabet),
                                  show_progress=False, limit_alphabet=limit)
    tokenizer.train_from_iterator(corpus(), trainer)
    return json.loads(tokenizer.to_str())


def bytes_of(pre, special=("<|end|>",), normalizer=None, vocab=520, limit=256):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    return train(tokenizer, vocab, list(special), pre_tokenizers.ByteLevel.alphabet(), limit)


def split(expression):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def characters(normalizer, pre, fallback, vocab=760):
    """Over characters, with byte tokens that are a part of the vocabulary and not added."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    made = train(tokenizer, vocab if fallback else vocab - 256, ["<unk>", "<s>", "</s>", *bytes_], limit=220)
    made["added_tokens"] = [t for t in made["added_tokens"] if not t["content"].startswith("<0x")]
    return made


def add(made, content, **flags):
    number = max(max(made["model"]["vocab"].values()), *(t["id"] for t in made["added_tokens"])) + 1
    made["added_tokens"].append({"id": number, "content": content, "single_word": False, "lstrip": False,
                                 "rstrip": False, "normalized": False, "special": True, **flags})
    return number


def begin_with(made, token, end=None):
    ids = {t["content"]: t["id"] for t in made["added_tokens"]}
    tokens = [token] + ([end] if end else [])
    made["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   *([{"SpecialToken": {"id": end, "type_id": 0}}] if end else [])],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in tokens}}


def make():
    sp, pre = "\u2581", pre_tokenizers
    llama3 = bytes_of(split(LLAMA3))
    llama3["model"]["ignore_merges"] = True
    add(llama3, "<|begin|>")
    begin_with(llama3, "<|begin|>")
    llama3["post_processor"] = {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        llama3["post_processor"]]}

    qwen2 = bytes_of(split(QWEN2), normalizer=normalizers.NFC())
    add(qwen2, "<|im_end|>")
    add(qwen2, "<|tool|>", special=False)
    add(qwen2, "[MASK]", lstrip=True)

    gpt2 = bytes_of(pre.ByteLevel(add_prefix_space=False, use_regex=True))
    starcoder = bytes_of(pre.Sequence([pre.Digits(individual_digits=True),
                                       pre.ByteLevel(add_prefix_space=False, use_regex=True)]),
                         limit=220)  # some bytes are no tokens
    o200k = bytes_of(split(O200K))
    add(o200k, "<|im_end|>", rstrip=True)

    prepend = normalizers.Sequence([normalizers.Prepend(sp), normalizers.Replace(" ", sp)])
    llama2 = characters(prepend, None, True)
    begin_with(llama2, "<s>", "</s>")
    phi3 = characters(prepend, None, True, 700)
    add(phi3, "<|im_end|>", rstrip=True)
    add(phi3, "<|tool|>", rstrip=True, lstrip=True, special=False)

    gemma = characters(normalizers.Replace(" ", sp), pre.Split(" ", "merged_with_previous"), True)
    gemma["model"]["merges"] = [pair if isinstance(pair, list) else pair.split(" ") for pair in gemma["model"]["merges"]]
    begin_with(gemma, "<s>")
    mistral = characters(None, pre.Metaspace(sp, prepend_scheme="first", split=False), True)
    words = characters(None, pre.Metaspace(sp, prepend_scheme="always", split=True), False)
    return {"llama3": llama3, "qwen2": qwen2, "gpt2": gpt2, "starcoder": starcoder, "o200k": o200k, "llama2": llama2,
            "phi3": phi3, "gemma": gemma, "mistral": mistral, "words": words}


def texts(rng):
    yield from ["", " ", "  ", "\n", "\r\n", "\t\t", " a", "a ", "a  b", "Hello, world!", "\n\n\n x", *SENTENCES]
    for _ in range(110):
        yield "".join(rng.choice(PIECES) + rng.choice(["", " ", "  ", "\n"]) for _ in range(rng.randint(1, 7)))
    for _ in range(40):
        yield "".join(chr(rng.choice([rng.randint(32, 126), rng.randint(0xA0, 0x24F), rng.randint(0x300, 0x36F),
                                      rng.randint(0x400, 0x4FF), rng.randint(0x3040, 0x30FF), rng.randint(0xAC00, 0xD7A3),
                                      rng.randint(0x1100, 0x11FF), rng.randint(0x2000, 0x206F), rng.randint(9, 13)]))
                      for _ in range(rng.randint(1, 14)))


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "golden", "mlx", "tokens")
    os.makedirs(out, exist_ok=True)
    for name, made in make().items():
        with open(os.path.join(out, f"{name}.json"), "w") as file:
            json.dump(made, file, ensure_ascii=False, separators=(",", ":"))
            file.write("\n")
        tokenizer, rng = Tokenizer.from_str(json.dumps(made)), random.Random(name)
        with open(os.path.join(out, f"{name}.txt"), "w") as file:
            file.write(f"# Made by tools/mlx/golden_tokens.py with tokenizers {tokenizers.__version__} from {name}.json.\n")
            for text in texts(rng):
                ids = ",".join(map(str, tokenizer.encode(text).ids))
                file.write(f"{text.encode().hex() or '-'} {ids or '-'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
