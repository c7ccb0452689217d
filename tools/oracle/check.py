#!/usr/bin/env python3
"""Hold samepage's logits against an evaluation in double precision, beside llama.cpp's own error on the same inputs.

For every model of models.py in every type, and the demo model: the file is made anew and must be the one that the golden
files name; then samepage computes the logits of the same tokens, on every device and instruction set asked for, in one
batch and token by token. Printed, for each type, is the error relative to the double evaluation (root mean square over
all logits, and the largest), ours and llama.cpp's. It fails if

  - over all models of a type, ours is larger than llama.cpp's by more than 1 %: where both round the same things (keys
    and values to f16) they are draws of one distribution, and llama.cpp's own errors in one
    batch and token by token differ by as much,
  - with F32 weights it is larger than 1e-4,
  - one token of the demo model's greedy answers, more than 200 tokens in one conversation, is not llama.cpp's.

    check.py build/samepage [--devices cpu,cpu:avx2,cpu:reference,vulkan] [--golden tests/golden/logits] [NAME ...]
"""
import argparse
import json
import math
import os
import subprocess
import sys

import numpy as np

import models
from evaluate import Model, relative_errors

F32_ERROR_MAX = 1e-4
DRAW_MARGIN = 1.01
SLOW_DEVICES = ("cpu:reference", "vulkan")  # the latter is a software driver where there is no card
SHORT_TURNS = 5


def device_options(device):
    name, _, isa = device.partition(":")
    return ["-d", name] + (["--isa", isa] if isa else [])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip()}")
    return done.stdout


def our_logits(samepage, path, tokens, device, step, work):
    out = os.path.join(work, f"logits-{os.getpid()}.f32")
    run([samepage, "logits", "-q", "-m", path, "--tokens", ",".join(map(str, tokens)), "-o", out,
         *device_options(device), *(["--step"] if step else [])])
    logits = np.fromfile(out, "<f4").reshape(len(tokens), -1)
    os.remove(out)
    return logits


class Table:
    """Errors by type and by who: (device, way) or llama.cpp."""

    def __init__(self):
        self.rows = {}

    def add(self, type_, who, errors):
        self.rows.setdefault(type_, {}).setdefault(who, []).append(errors)

    def mean(self, type_, who):
        """Geometric means over the models, so that none outweighs the others."""
        rows = self.rows[type_][who]
        return [math.exp(sum(math.log(max(row[i], 1e-30)) for row in rows) / len(rows)) for i in range(2)]


def compare(a, table, name, type_, path, tokens, record):
    truth = Model(path).logits(tokens)
    for way, step in (("batch", False), ("step", True)):
        theirs = record["types"][type_]["errors"][f"auto-{way}"]
        table.add(type_, ("llama.cpp", way), (theirs["rms"], theirs["max"]))
        for device in a.devices:
            if step and a.short and ":" in device:
                continue
            got = our_logits(a.samepage, path, tokens, device, step, a.work)
            if got.shape != truth.shape or not np.isfinite(got).all():
                sys.exit(f"{name} {type_} on {device}: logits of shape {got.shape}, or not all finite")
            largest, rms = relative_errors(got, truth)
            table.add(type_, (device, way), (rms, largest))
            if a.verbose:
                print(f"{name:18} {type_:5} {device:14} {way:5} rms {rms:.2e} (llama.cpp {theirs['rms']:.2e})  "
                      f"max {largest:.2e} ({theirs['max']:.2e})", flush=True)


def check_model(a, table, name, problems):
    with open(os.path.join(a.golden, f"{name}.json")) as file:
        record = json.load(file)
    for type_, golden in record["types"].items():
        if name == "demo":
            path = models.DEMO
        else:
            path = models.make(name, type_, a.work, golden["sha256"])
        if models.sha256(path) != golden["sha256"]:
            problems.append(f"{path} is not the file that the golden numbers were made with")
            continue
        compare(a, table, name, type_, path, record["tokens"], record)
    if "greedy" in record:
        check_greedy(a, record["greedy"], problems)


def check_greedy(a, greedy, problems):
    """Every answer of the conversation, each behind what llama.cpp said before it."""
    for device in a.devices:
        turns = greedy[:SHORT_TURNS] if a.short and device in SLOW_DEVICES else greedy
        total, same = sum(len(turn["tokens"]) for turn in turns), 0
        for turn in turns:
            out = run([a.samepage, "complete", "-q", "-m", models.DEMO, "--raw", "--json", "--temp", "0", "-n", "64",
                       "--ctx", "2048", "-p", turn["prompt"], *device_options(device)])
            got = json.loads(out)["tokens"]
            same += sum(x == y for x, y in zip(got, turn["tokens"]))
            if got != turn["tokens"]:
                problems.append(f"greedy text on {device} is not llama.cpp's {turn['text']!r} "
                                f"(its smallest margin {turn['smallest_margin']})")
        print(f"greedy text, {device:14} {same} of {total} tokens as llama.cpp's", flush=True)


def judge(table, problems):
    print(f"\n{'type':5} {'':20} {'rms':>9} {'largest':>9}   of llama.cpp's")
    for type_, rows in table.rows.items():
        for (who, way) in rows:
            rms, largest = table.mean(type_, (who, way))
            limit_rms, limit_largest = table.mean(type_, ("llama.cpp", way))
            print(f"{type_:5} {who:14} {way:5} {rms:9.2e} {largest:9.2e}   {rms / limit_rms:.2f} {largest / limit_largest:.2f}")
            if who == "llama.cpp":
                continue
            if rms > limit_rms * DRAW_MARGIN or (type_ == "f32" and rms > F32_ERROR_MAX):
                problems.append(f"{type_} on {who}, {way}: the error {rms:.2e} is larger than allowed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samepage", help="the program")
    parser.add_argument("--devices", default="cpu,cpu:avx2,cpu:reference,vulkan", help="comma-separated")
    parser.add_argument("--golden", default=models.GOLDEN)
    parser.add_argument("--work", default=os.path.join(models.ROOT, "build", "oracle"))
    parser.add_argument("--short", action="store_true", help="leave out what takes long and shows little: token by token "
                        "with other instruction sets, and late answers on slow devices")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each model, type and way")
    parser.add_argument("names", nargs="*", help="models of models.py, or demo (all)")
    a = parser.parse_args()
    a.devices = a.devices.split(",")
    os.makedirs(a.work, exist_ok=True)
    table, problems = Table(), []
    for name in a.names or [*models.MODELS, "demo"]:
        check_model(a, table, name, problems)
    judge(table, problems)
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
