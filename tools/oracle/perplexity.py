#!/usr/bin/env python3
"""Hold `samepage perplexity` against the same formula on llama.cpp's logits.

    perplexity.py build/samepage [--devices cpu,cpu:reference]   # against tests/golden/perplexity.json
    perplexity.py --make                                         # that file anew; needs llama-cpp-python

Texts are what tools/demo-model/heldout.jsonl holds, which the demo model has not seen, and noise for a random model
with a SentencePiece vocabulary. llama.cpp decodes each chunk in one batch of its own, without flash attention, as
llama-perplexity does with -fa off.
"""
import argparse
import ctypes
import json
import math
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

import models

GOLDEN = os.path.join(models.ROOT, "tests", "golden", "perplexity.json")
# Rounding of activations to 8 bits moves either engine by about as much.
TOLERANCE = {"demo": 3e-3, "noise": 3e-3, "noise-f32": 2e-5}
CASES = {"demo": (256, None), "noise": (64, "q8_0"), "noise-f32": (64, "f32")}
NOISE = ("--d 64 --layers 3 --heads 4 --kv-heads 2 --head-dim 32 --ff 96 --untied --vocab 600 --std 0.1 "
         "--embedding-std 1 --tokenizer llama --norm-random --context 128 --seed 41")


def text_of(name):
    if name == "demo":
        with open(os.path.join(models.ROOT, "tools", "demo-model", "heldout.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        return re.sub(r"<\|\w+\|>", " ", "".join(line["prompt"] for line in lines[:60])) + "\n"
    rng = np.random.default_rng(42)
    letters = "abcdefghijklmnopqrstuvwxyz     .,\n\u00e9\u4e2d"
    return "".join(letters[i] for i in rng.integers(0, len(letters), 2500)) + "\n"


def prepare(name, folder):
    path, text = models.DEMO, os.path.join(folder, "text")
    if CASES[name][1]:
        path = os.path.join(folder, f"{name}.gguf")
        subprocess.run([sys.executable, os.path.join(models.ROOT, "tools", "make_model.py"), path, "--type",
                        CASES[name][1], *NOISE.split()], check=True, stdout=subprocess.DEVNULL)
    with open(text, "w", newline="") as file:
        file.write(text_of(name))
    return path, text


def by_llama(path, text, context):
    import llama_cpp as ll

    import engine

    with open(text, "rb") as file:
        data = file.read()
    data = data[:-1] if data.endswith(b"\n") else data  # as llama.cpp's -f does
    with engine.Engine(path, context, "off") as llama:
        vocab = ll.llama_model_get_vocab(llama.model)
        room = len(data) + 8
        ids = (ll.llama_token * room)()
        count = ll.llama_tokenize(vocab, data, len(data), ids, room, True, False)
        tokens = list(ids[:count])
        begins = ll.llama_vocab_get_add_bos(vocab)
        loss, squares, predicted, first = 0.0, 0.0, 0, context // 2
        for chunk in range(count // context):
            part = tokens[chunk * context:(chunk + 1) * context]
            following = part[first + 1:]
            if begins:
                part[0] = ll.llama_vocab_bos(vocab)
            rows = llama.logits(part, False)[first:context - 1].astype(np.float64)
            rows -= rows.max(axis=1, keepdims=True)
            logs = rows[np.arange(len(rows)), following] - np.log(np.exp(rows).sum(axis=1))
            loss -= logs.sum()
            squares += (logs ** 2).sum()
            predicted += len(rows)
    mean = loss / predicted
    deviation = math.sqrt((squares / predicted - mean ** 2) / (predicted - 1)) * math.exp(mean)
    return {"perplexity": math.exp(mean), "deviation": deviation, "chunks": count // context,
            "predicted_tokens": predicted}


def make():
    import engine

    record = {"origin": {"command": "tools/oracle/perplexity.py --make", "llama.cpp": engine.version(),
                         "numpy": np.__version__}, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, (context, _) in CASES.items():
            path, text = prepare(name, folder)
            record["cases"][name] = {"model_sha256": models.sha256(path), "text_sha256": models.sha256(text),
                                     "context": context, **by_llama(path, text, context)}
            print(name, record["cases"][name])
    with open(GOLDEN, "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def check(samepage, devices):
    with open(GOLDEN) as file:
        record = json.load(file)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, golden in record["cases"].items():
            path, text = prepare(name, folder)
            if models.sha256(path) != golden["model_sha256"] or models.sha256(text) != golden["text_sha256"]:
                if name != "demo":
                    sys.exit(f"{name}: the model or the text is not the one of the golden file")
                print("perplexity demo: not compared: the model was trained anew since --make")
                continue
            for device in devices:
                kind, _, isa = device.partition(":")
                command = [samepage, "perplexity", "-q", "-m", path, "-f", text, "-c", str(golden["context"]), "--json",
                           "-d", kind, *(["--isa", isa] if isa else [])]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{' '.join(command)}\n{done.stderr}")
                ours = json.loads(done.stdout)
                off = ours["perplexity"] / golden["perplexity"] - 1
                good = (abs(off) <= TOLERANCE[name] and ours["chunks"] == golden["chunks"] and
                        ours["predicted_tokens"] == golden["predicted_tokens"] and
                        abs(ours["deviation"] / golden["deviation"] - 1) < 0.05)
                failed += not good
                print(f"perplexity {name:10} {device:14} {ours['perplexity']:.4f}, llama.cpp {golden['perplexity']:.4f}: "
                      f"{off:+.2e}{'' if good else ' FAILED'}")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("samepage", nargs="?")
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--make", action="store_true")
    a = parser.parse_args()
    if a.make:
        return make()
    return check(a.samepage, a.devices.split(",")) if a.samepage else parser.error("which program?")


if __name__ == "__main__":
    sys.exit(main())
