"""The random-weight models that the oracle looks at: shapes that go wrong easily, in every type.

Each is a list of options of tools/make_model.py, so a model is made in a fraction of a second and is the same bytes
everywhere; the golden files name the bytes' SHA-256. The weights' standard deviation is chosen so that attention's
scores spread by about one: with smaller weights every position is looked at alike and errors there would not show.
The embedding is larger than what a block adds to it, as in trained models: attention at the right places makes 10 to
20 % of the logits, and the f16 of keys and values, which is a part of a session's format, costs less than 1e-4. That is
a choice, made so that F32 can be held to 1e-4: with an embedding as small as the other weights the f16 alone costs
3e-4 to 6.5e-4 on these shapes, in llama.cpp and in a double evaluation that rounds nothing else.
"""
import contextlib
import functools
import hashlib
import io
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import make_model  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests", "golden", "logits")
DEMO = os.path.join(ROOT, "models", "samepage-demo-q8_0.gguf")

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
# All others, for the shapes whose rows are whole blocks of 256. What tools/make_model.py cannot write is quantised from
# F32: by llama.cpp when the golden files are made, by samepage when they are checked, to the same bits.
BLOCK_TYPES = ("q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4")
QUANTISED = {"q2_k": "Q2_K", "q3_k": "Q3_K_M", "q4_k": "Q4_K_M", "q5_k": "Q5_K_M", "q6_k": "Q6_K", "iq4_nl": "IQ4_NL",
             "iq4_xs": "IQ4_XS"}
FAMILY_TYPES = ("f32", "q4_0")

# name: (tokens in the sequence, options). Sequences cross the border of a 64-token KV block, some two or three.
MODELS = {
    # Three heads of their own each, no scaling: the plain case with a width that is no power of two.
    "heads-3": (100, "--d 96 --layers 3 --heads 3 --kv-heads 3 --head-dim 32 --ff 160 --tied --rope-scaling none "
                     "--std 0.11 --norm-random --seed 11"),
    # One KV head for four, Llama 3's factors over a context so short that they change what the sequence sees.
    "gqa-4-llama3": (140, "--d 128 --layers 3 --heads 4 --kv-heads 1 --head-dim 32 --ff 352 --untied "
                          "--rope-theta 10000 --rope-scaling llama3 --rope-factor 8 --rope-original-context 64 "
                          "--std 0.09 --norm-random --seed 12"),
    # One KV head for eight, queries wider than the model, biases, linear scaling.
    "gqa-8-linear-bias": (140, "--d 192 --layers 2 --heads 8 --kv-heads 1 --head-dim 64 --ff 224 --tied "
                               "--rope-theta 10000 --rope-scaling linear --rope-factor 4 --std 0.08 --attention-bias "
                               "--feed-forward-bias --norm-random --seed 13"),
    # Nine heads on three, as small published models have; everything at once.
    "heads-9-3": (200, "--d 160 --layers 2 --heads 9 --kv-heads 3 --head-dim 32 --ff 416 --untied --rope-theta 500000 "
                       "--rope-scaling llama3 --rope-factor 32 --rope-original-context 128 --std 0.08 "
                       "--attention-bias --norm-random --seed 14"),
    # Five heads of 128: the width of large models' heads.
    "heads-5-wide": (70, "--d 128 --layers 2 --heads 5 --kv-heads 5 --head-dim 128 --ff 96 --tied --rope-theta 10000 "
                         "--rope-scaling none --std 0.08 --norm-random --seed 15"),
    # Heads of 48, five on a KV head, SentencePiece, linear scaling, norms of one.
    "head-dim-48": (130, "--d 64 --layers 3 --heads 10 --kv-heads 2 --head-dim 48 --ff 288 --untied --rope-theta 10000 "
                         "--rope-scaling linear --rope-factor 2.5 --std 0.11 --tokenizer llama --seed 16"),
    # Heads of 80, eight on a KV head, an odd vocabulary, biases.
    "head-dim-80": (140, "--d 96 --layers 2 --heads 16 --kv-heads 2 --head-dim 80 --ff 544 --vocab 555 --untied "
                         "--rope-theta 10000 --rope-scaling none --std 0.08 --attention-bias --norm-random --seed 17"),
}

# Rows of whole blocks of 256: four heads on one; eight of their own with scaling; two of 128 with biases.
BLOCKS = {
    "blocks-gqa-4": (70, "--d 256 --layers 2 --heads 4 --kv-heads 1 --head-dim 64 --ff 512 --untied --rope-theta 10000 "
                         "--rope-scaling none --std 0.065 --norm-random --seed 51"),
    "blocks-heads-8": (70, "--d 512 --layers 2 --heads 8 --kv-heads 8 --head-dim 64 --ff 256 --tied --rope-theta 10000 "
                           "--rope-scaling linear --rope-factor 2 --std 0.045 --norm-random --seed 52"),
    "blocks-bias": (70, "--d 256 --layers 2 --heads 2 --kv-heads 2 --head-dim 128 --ff 768 --untied --rope-theta 10000 "
                        "--rope-scaling none --std 0.065 --attention-bias --feed-forward-bias --norm-random --seed 53"),
}

# The other families: windows shorter than the sequence, caps that bite, a norm's weights away from one. What a branch
# adds is as large against the embedding as above, also where it is normalised first or the embedding is scaled.
FAMILIES = {
    # Biases on q, k and v; YaRN, with a ramp over half of the pairs.
    "qwen2-yarn": (200, "--family qwen2 --d 192 --layers 3 --heads 6 --kv-heads 2 --head-dim 32 --ff 288 --tied "
                        "--rope-theta 10000 --rope-scaling yarn --rope-factor 4 --rope-original-context 48 --std 0.08 "
                        "--norm-random --seed 21"),
    # Norms of each head's q and k; heads wider than their share of the model.
    "qwen3": (140, "--family qwen3 --d 96 --layers 3 --heads 6 --kv-heads 3 --head-dim 64 --ff 224 --tied "
                   "--rope-theta 1000000 --rope-scaling none --std 0.1 --norm-random --seed 22"),
    # The embedding times the root of its width, GELU, one KV head.
    "gemma": (100, "--family gemma --d 96 --layers 2 --heads 4 --kv-heads 1 --head-dim 64 --ff 320 --tied "
                   "--rope-theta 10000 --rope-scaling none --std 0.11 --embedding-std 0.5 --tokenizer llama "
                   "--norm-random --seed 23"),
    # Norms behind each part, every second layer with a window, caps on scores and logits.
    "gemma2": (150, "--family gemma2 --d 96 --layers 5 --heads 6 --kv-heads 2 --head-dim 32 --ff 160 --tied "
                    "--rope-theta 10000 --rope-scaling none --std 0.13 --embedding-std 2.5 --window 40 "
                    "--attention-cap 1.5 --logit-cap 40 --tokenizer llama --norm-random --seed 24"),
    # Five layers with a window and a base of their own, then one that sees everything, slowed down.
    "gemma3": (200, "--family gemma3 --d 64 --layers 8 --heads 4 --kv-heads 1 --head-dim 96 --ff 96 --tied "
                    "--rope-theta 1000000 --rope-scaling linear --rope-factor 8 --std 0.12 --embedding-std 1.5 "
                    "--window 70 --tokenizer llama --norm-random --seed 25"),
    # The size that scales scores by its width instead of its heads'.
    "gemma2-46": (40, "--family gemma2 --d 64 --layers 46 --heads 2 --kv-heads 1 --head-dim 16 --ff 32 --tied "
                      "--rope-theta 10000 --rope-scaling none --std 0.14 --embedding-std 4 --window 20 "
                      "--attention-cap 3 --logit-cap 120 --tokenizer llama --norm-random --seed 26"),
    # q, k and v in one matrix, gate and up in one, a part of each head rotated; LongRoPE beyond the original context
    # ...
    "phi3-long": (140, "--family phi3 --d 160 --layers 3 --heads 5 --kv-heads 5 --head-dim 32 --ff 224 --untied "
                       "--rope-theta 10000 --rope-dims 24 --rope-scaling longrope --rope-factor 16 "
                       "--rope-original-context 64 --std 0.08 --tokenizer llama --norm-random --seed 27"),
    # ... and within it, with fewer KV heads.
    "phi3-short": (100, "--family phi3 --d 96 --layers 2 --heads 6 --kv-heads 2 --head-dim 16 --ff 96 --tied "
                        "--rope-theta 10000 --rope-scaling longrope --rope-factor 16 --rope-original-context 512 "
                        "--std 0.11 --norm-random --seed 28"),
    # Norms of the whole of q and of k, none before a part, one behind.
    "olmo2": (100, "--family olmo2 --d 96 --layers 3 --heads 3 --kv-heads 3 --head-dim 32 --ff 256 --untied "
                   "--rope-theta 500000 --rope-scaling none --std 0.1 --embedding-std 12 --norm-random --seed 29"),
    # The same with windows where a flag says so, and YaRN only where there is none.
    "olmo3": (150, "--family olmo2 --d 128 --layers 4 --heads 4 --kv-heads 2 --head-dim 32 --ff 160 --untied "
                   "--rope-theta 10000 --rope-scaling yarn --rope-factor 8 --rope-original-context 32 --std 0.1 "
                   "--embedding-std 12 --window 50 --window-flags 1101 --norm-random --seed 30"),
    # Four factors.
    "granite": (140, "--family granite --d 128 --layers 3 --heads 8 --kv-heads 2 --head-dim 16 --ff 320 --tied "
                     "--rope-theta 10000 --rope-scaling none --std 0.17 --embedding-std 0.6 --embedding-scale 12 "
                     "--residual-scale 0.22 --attention-scale 0.2 --logit-scale 8 --norm-random --seed 31"),
}

# What llama.cpp leaves out, so that only the evaluation in double says what is right: the window that Mistral 7B 0.1
# and Phi 3 have in every layer.
ALONE = {
    "mistral-window": (150, "--d 96 --layers 2 --heads 6 --kv-heads 2 --head-dim 32 --ff 160 --untied --rope-theta 10000 "
                            "--rope-scaling none --std 0.11 --window 64 --tokenizer llama --norm-random --seed 41"),
    "phi3-window": (200, "--family phi3 --d 64 --layers 2 --heads 4 --kv-heads 4 --head-dim 16 --ff 96 --untied "
                         "--rope-theta 10000 --rope-scaling none --std 0.13 --window 33 --norm-random --seed 42"),
}
ALL = {**MODELS, **BLOCKS, **FAMILIES, **ALONE}


def types(name):
    return ("f32",) if name in ALONE else FAMILY_TYPES if name in FAMILIES else BLOCK_TYPES if name in BLOCKS else TYPES


def tokens(name):
    """The fixed sequence of a model: any ids, since its text is noise."""
    words = options(name)

    def last(option):
        return int(words[len(words) - words[::-1].index(option)])

    ids = np.random.default_rng(last("--seed")).integers(0, last("--vocab"), ALL[name][0])
    return [int(token) for token in ids]


def options(name):
    words = ALL[name][1].split()
    # A tied head gives the token that stands there a logit that outgrows all others, so its embedding is smaller.
    return ["--vocab", "512", "--embedding-std", "5" if "--tied" in words else "8", *words]  # what comes later wins


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def make(name, type_, folder, expected=None, quantise=None):
    """Path of the model's file, written anew unless what is there has the expected hash. quantise(source, out, mix)."""
    path = os.path.join(folder, f"{name}-{type_}.gguf")
    if type_ in QUANTISED:
        quantise(make(name, "f32", folder), path, QUANTISED[type_])
    elif not (expected and os.path.exists(path) and sha256(path) == expected):
        write(name, type_, path)
    return path


@functools.lru_cache(maxsize=None)  # once in a process: many types are quantised from one file
def write(name, type_, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        make_model.main([path, "--type", type_, *options(name)])
