#!/usr/bin/env python3
"""Train the demo model's tokenizer on text that generate.py makes, and write it as tokenizer.json.

    train_tokenizer.py tokenizer.json

A byte-level BPE of 3072 tokens with Llama 3's splitting rule, so that a GGUF file with tokenizer.ggml.model = gpt2 and
tokenizer.ggml.pre = llama-bpe describes it exactly. In training digits stand alone, so no merge joins two of them: a
number is spelled digit by digit, which makes copying it and computing with it easy.
"""
import argparse
import random
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import generate
import words

VOCABULARY = 3072
SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
            "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
            "<|eom_id|>", "<|eot_id|>"] + [f"<|reserved_special_token_{i}|>" for i in range(3, 9)]

# Llama 3's rule, which GGUF calls llama-bpe.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def splitter(single_digits):
    steps = [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    if single_digits:
        steps.insert(0, pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"))
    return pre_tokenizers.Sequence(steps)


def training_text(seed, documents):
    rng = random.Random(seed)
    for _ in range(documents):
        text = generate.document(rng, 400)
        yield from (part for part in re.split(r"<\|.*?\|>", text) if part)
    # Plain English letters in all cases, so that words from outside are not spelled in single bytes.
    for _ in range(documents):
        yield f" {words.novel(rng)} {words.novel_name(rng)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--documents", type=int, default=12000)
    a = parser.parse_args()

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = splitter(single_digits=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIALS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(a.seed, a.documents), trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY - len(SPECIALS), tokenizer.get_vocab_size()
    tokenizer.pre_tokenizer = splitter(single_digits=False)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    assert not any(sum(c.isdigit() for c in token) > 1 for token in tokenizer.get_vocab() if token not in SPECIALS)
    tokenizer.save(a.out)

    text = next(iter(training_text(a.seed + 1, 1)))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    sample = "".join(generate.document(random.Random(i), 500) for i in range(50))
    print(f"{a.out}: {tokenizer.get_vocab_size()} tokens, {len(sample) / len(tokenizer.encode(sample).ids):.2f} "
          f"characters per token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
