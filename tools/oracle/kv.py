#!/usr/bin/env python3
"""Keys and values in Q8_0: hold samepage's logits against the evaluation in double, beside llama.cpp's own error with
type_k = type_v = q8_0.

    kv.py check build/samepage [--devices cpu,cpu:avx2] [NAME ...]
    kv.py golden                     # tests/golden/kv.json: llama.cpp's errors; needs llama-cpp-python

The models are those of models.py whose heads both take in Q8_0 (a multiple of 32 wide), and the demo model, with
weights in F32 or as the demo has them, so that keys and values are what is rounded. check fails if over all models our
error (root mean square over all logits, geometric mean over the models) is larger than llama.cpp's, in one batch or
token by token; if on one model it is larger by more than 15 %; or if an answer of the demo model's is not the one that
it gives with F16, where the golden text has no close choice.
"""
import argparse
import json
import math
import os
import sys

import numpy as np

import models
from check import SHORT_TURNS, SLOW_DEVICES, device_options, run
from evaluate import Model, relative_errors

GOLDEN = os.path.join(models.ROOT, "tests", "golden", "kv.json")
ONE_MODEL_MARGIN = 1.15
SURE_MARGIN = 1.0  # of a greedy choice: far more than Q8_0 moves a logit of the demo model
WAYS = (("batch", False), ("step", True))


def paths(work, names):
    """(name, path, tokens) of each model."""
    for name in names:
        if name == "demo":
            with open(os.path.join(models.GOLDEN, "demo.json")) as file:
                yield name, models.DEMO, json.load(file)["tokens"]
        else:
            yield name, models.make(name, "f32", work), models.tokens(name)


def golden(a):
    import engine
    from golden import origin
    record = {"origin": {**origin(engine.version()), "command": "tools/oracle/kv.py golden"}, "models": {}}
    for name, path, tokens in paths(a.work, [*models.MODELS, *models.BLOCKS, *models.FAMILIES, "demo"]):
        truth = Model(path, len(tokens)).logits(tokens)
        try:
            with engine.Engine(path, len(tokens), kv="q8_0") as llama:
                errors = {}
                for way, step in WAYS:
                    largest, rms = relative_errors(llama.logits(tokens, step), truth)
                    errors[way] = {"max": float(f"{largest:.4g}"), "rms": float(f"{rms:.4g}")}
        except RuntimeError as problem:
            print(f"{name:18} left out: {problem}")
            continue
        record["models"][name] = {"sha256": models.sha256(path), **errors}
        print(f"{name:18}", *(f"{way} {errors[way]['rms']:.2e}" for way, _ in WAYS), flush=True)
    with open(a.out, "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    return 0


def our_logits(a, path, tokens, device, step):
    out = os.path.join(a.work, f"kv-{os.getpid()}.f32")
    run([a.samepage, "logits", "-q", "-m", path, "--kv-type", "q8_0", "--tokens", ",".join(map(str, tokens)), "-o", out,
         *device_options(device), *(["--step"] if step else [])])
    logits = np.fromfile(out, "<f4").reshape(len(tokens), -1)
    os.remove(out)
    return logits


def check_models(a, record, problems):
    ratios = {}
    for name, path, tokens in paths(a.work, a.names or record["models"]):
        theirs = record["models"][name]
        if models.sha256(path) != theirs["sha256"]:
            problems.append(f"{path} is not the file that the golden numbers were made with")
            continue
        truth = Model(path, len(tokens)).logits(tokens)
        for device in a.devices:
            for way, step in WAYS:
                if step and a.short and device in SLOW_DEVICES:
                    continue
                largest, rms = relative_errors(our_logits(a, path, tokens, device, step), truth)
                ratio = rms / theirs[way]["rms"]
                ratios.setdefault((device, way), []).append(ratio)
                print(f"{name:18} {device:14} {way:5} rms {rms:.2e} largest {largest:.2e}, {ratio:.3f} of llama.cpp's",
                      flush=True)
                if not ratio <= ONE_MODEL_MARGIN:
                    problems.append(f"{name} on {device}, {way}: the error {rms:.2e} is {ratio:.2f} of llama.cpp's")
    for (device, way), of in ratios.items():
        mean = math.exp(np.mean(np.log(of)))
        print(f"all of {len(of):2}          {device:14} {way:5} {mean:.3f} of llama.cpp's error")
        if mean > 1:
            problems.append(f"{device}, {way}: over all models the error is {mean:.3f} of llama.cpp's")


def check_greedy(a, problems):
    with open(os.path.join(models.GOLDEN, "demo.json")) as file:
        turns = [turn for turn in json.load(file)["greedy"] if turn["smallest_margin"] >= SURE_MARGIN]
    for device in a.devices:
        asked = turns[:SHORT_TURNS] if a.short and device in SLOW_DEVICES else turns
        same = 0
        for turn in asked:
            out = run([a.samepage, "complete", "-q", "-m", models.DEMO, "--raw", "--json", "--temp", "0", "-n", "64", "--ctx",
                       "2048", "--kv-type", "q8_0", "-p", turn["prompt"], *device_options(device)])
            same += json.loads(out)["tokens"] == turn["tokens"]
        print(f"greedy answers     {device:14} {same} of {len(asked)} as with F16")
        if same < len(asked):
            problems.append(f"{device}: {len(asked) - same} greedy answers of {len(asked)} are others than with F16")


def check(a):
    with open(GOLDEN) as file:
        record = json.load(file)
    problems = []
    check_models(a, record, problems)
    if not a.names or "demo" in a.names:
        check_greedy(a, problems)
    print("\n".join(["", *problems]) if problems else "\nkv: ok")
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default=os.path.join(models.ROOT, "build", "oracle"))
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("samepage")
    checking.add_argument("--devices", default="cpu,cpu:avx2,cpu:reference")
    checking.add_argument("--short", action="store_true", help="slow devices: in one batch, and fewer answers")
    checking.add_argument("names", nargs="*")
    making = commands.add_parser("golden")
    making.add_argument("-o", "--out", default=GOLDEN)
    a = parser.parse_args()
    os.makedirs(a.work, exist_ok=True)
    if a.command == "golden":
        return golden(a)
    a.devices = a.devices.split(",")
    return check(a)


if __name__ == "__main__":
    sys.exit(main())
