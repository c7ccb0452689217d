"""The folders that are compared with mlx: models of tools/oracle/models.py, each with another way of storing weights.

Every family, every number of bits, group and type of scales; shards, modules with bits of their own, modules that are
not quantised. Widths must be multiples of the group, which is why many groups are of 32.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import folder  # noqa: E402
import models  # noqa: E402

# name: (the oracle's model, how it is stored)
CASES = {
    "llama-f32": ("heads-3", dict(dtype="f32")),
    "llama3-bf16": ("gqa-4-llama3", dict(dtype="bf16", shards=3)),
    "linear-f16": ("gqa-8-linear-bias", dict(dtype="f16")),
    "llama-2-64": ("blocks-gqa-4", dict(dtype="bf16", bits=2, group=64)),
    "llama-3-64": ("blocks-heads-8", dict(dtype="bf16", bits=3, group=64)),
    "llama-4-64": ("blocks-gqa-4", dict(dtype="bf16", bits=4, group=64)),
    "llama-4-128": ("blocks-heads-8", dict(dtype="f16", bits=4, group=128)),
    "llama-5-64": ("blocks-bias", dict(dtype="bf16", bits=5, group=64)),
    "llama-6-128": ("blocks-bias", dict(dtype="f16", bits=6, group=128, shards=2)),
    "llama-8-64": ("blocks-gqa-4", dict(dtype="f32", bits=8, group=64)),
    "llama3-4-32-mixed": ("gqa-4-llama3", dict(dtype="bf16", bits=4, group=32, keep=("lm_head",), shards=2,
                                               overrides={"mlp.down_proj": (8, 32), "self_attn.v_proj": (6, 64),
                                                          "layers.0.self_attn.q_proj": (2, 128)})),
    "qwen2-yarn-4-32": ("qwen2-yarn", dict(dtype="bf16", bits=4, group=32)),
    "qwen3-6-32": ("qwen3", dict(dtype="bf16", bits=6, group=32)),
    "gemma-8-32": ("gemma", dict(dtype="bf16", bits=8, group=32)),
    "gemma2-bf16": ("gemma2", dict(dtype="bf16")),
    "gemma2-3-32": ("gemma2", dict(dtype="f16", bits=3, group=32)),
    "gemma3-4-32": ("gemma3", dict(dtype="f32", bits=4, group=32)),
    "phi3-5-32": ("phi3-long", dict(dtype="bf16", bits=5, group=32)),
    "phi3-short-f32": ("phi3-short", dict(dtype="f32")),
    "olmo2-2-32": ("olmo2", dict(dtype="f32", bits=2, group=32)),
    "olmo3-8-32": ("olmo3", dict(dtype="f16", bits=8, group=32)),
    "granite-4-64": ("granite", dict(dtype="bf16", bits=4, group=64)),
}

# The demo model as an MLX folder, and what it is asked: things that it knows, so that rounding does not choose the
# words.
DEMOS = {
    "demo-bf16": dict(dtype="bf16"),
    "demo-4-64": dict(dtype="bf16", bits=4, group=64, shards=2),
    "demo-8-32": dict(dtype="f16", bits=8, group=32),
}
QUESTIONS = ("What is Samepage?", "What is a region?", "What is a link?", "Who is Samepage for?", "What is a snapshot?",
             "What is 7 plus 5?", "What is an actor?", "What is a tape?")


def make_demo(name, work):
    path = os.path.join(work, f"mlx-{name}")
    folder.write(models.DEMO, path, tokenizer=os.path.join(models.ROOT, "tools", "demo-model", "tokenizer.json"),
                 **DEMOS[name])
    return path


def options(name):
    words = models.options(CASES[name][0])
    return {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}


def make(name, work):
    """The folder's path, the sequence, and the model in double."""
    base, how = CASES[name]
    source, path = models.make(base, "f32", work), os.path.join(work, f"mlx-{name}")
    values = folder.write(source, path, options=options(name), **how)
    tokens = models.tokens(base)
    return path, tokens, folder.FolderModel(source, values, len(tokens))


def digest(path):
    """Of all files of a folder, by name."""
    return {name: models.sha256(os.path.join(path, name)) for name in sorted(os.listdir(path))}
