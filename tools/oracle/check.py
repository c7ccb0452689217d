#!/usr/bin/env python3
"""Hold samepage's logits against an evaluation in double precision, beside llama.cpp's own error on the same inputs.

For every model of models.py in every type it has, and the demo model: the file is made anew (what only quantisers
write, by `samepage quantize`) and must be the one that the golden files name; then samepage computes the logits of the
same tokens, on every device and instruction set asked for, in one batch and token by token. Printed, for each type, is
the error relative to the double evaluation (root mean square over all logits, and the largest), ours and llama.cpp's.
It fails if

  - over all models of a type, ours is larger than llama.cpp's, one batch and token by token together; or by more than
    1 % in either by itself (with F32 weights and in one batch both are just what the f16 of keys and values costs,
    equal to three digits),
  - with F32 weights it is larger than 1e-4 on any model,
  - devices, or one batch and token by token, differ on a model by more than two such errors add up to, or with F32
    weights by more than 1e-4,
  - llama.cpp's logits in the golden files are not as far from the double evaluation as the files say,
  - one token of the demo model's greedy answers, more than 200 tokens in one conversation, is not llama.cpp's.

Models that have what llama.cpp leaves out are held against the double evaluation alone, with F32 weights.

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
import quantise
from evaluate import Model, relative_errors

F32_ERROR_MAX = 1e-4
DRAW_MARGIN = 1.01
SLOW_DEVICES = ("cpu:reference", "vulkan")  # the latter is a software driver where there is no card
SHORT_TURNS = 5
SHORT_SHAPES = 3


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
    """Errors (rms, largest) by type, by who (a device or llama.cpp), by way and model."""

    def __init__(self):
        self.rows = {}

    def add(self, type_, who, way, model, errors):
        self.rows.setdefault(type_, {}).setdefault(who, {}).setdefault(way, {})[model] = errors

    def mean(self, type_, who, way=None, beside=None):
        """Geometric means over the models, so that none outweighs the others; over both ways if none is named; over
        what was measured of `beside` too."""
        people = self.rows[type_]
        means = []
        for index in range(2):
            logs = [np.mean([math.log(max(rows[model][index], 1e-30)) for model in people[beside or who][name]])
                    for name, rows in people[who].items() if way in (None, name) and name in people[beside or who]]
            means.append(math.exp(np.mean(logs)))
        return means


def check_golden(a, name, type_, record, truth, problems):
    """The golden logits are a part of those whose error is recorded: none of them may be further off."""
    index = list(record["types"]).index(type_)
    kept = np.fromfile(os.path.join(a.golden, f"{name}.bin"), "<f4")
    kept = kept.reshape(len(record["types"]), len(record["positions"]), record["vocab"])[index]
    largest = np.abs(kept - truth[record["positions"]]).max() / np.abs(truth).max()
    if not largest <= record["types"][type_]["errors"]["auto-batch"]["max"] * 1.001:  # recorded in four digits
        problems.append(f"{name} {type_}: llama.cpp's golden logits are off by {largest:.2e}, more than recorded")


def check_agreement(a, name, type_, results, truth, record, problems):
    """Each against the first device's batch, and token by token against its own. Two that are as far from the truth as
    llama.cpp, each in its own direction, are the root of two times as far from each other."""
    scale = np.sqrt(np.mean(truth ** 2))
    limit = math.sqrt(2) * record["types"][type_]["errors"]["auto-batch"]["rms"]
    limit = F32_ERROR_MAX if type_ == "f32" else limit
    first = results[a.devices[0], "batch"]
    for (device, way), got in results.items():
        pairs = [(first, f"{a.devices[0]} in one batch")]
        if way == "step":
            pairs.append((results[device, "batch"], "the same in one batch"))
        for other, what in pairs:
            difference = np.sqrt(np.mean((got.astype(np.float64) - other) ** 2)) / scale
            if not difference <= limit:
                problems.append(f"{name} {type_}: {device} ({way}) and {what} differ by {difference:.2e}")


def compare(a, table, name, type_, path, record, problems):
    tokens = record["tokens"]
    truth = Model(path, len(tokens)).logits(tokens)
    check_golden(a, name, type_, record, truth, problems)
    results = {}
    for way, step in (("batch", False), ("step", True)):
        theirs = record["types"][type_]["errors"][f"auto-{way}"]
        table.add(type_, "llama.cpp", way, name, (theirs["rms"], theirs["max"]))
        for device in a.devices:
            if is_left_out(a, name, type_, device, step):
                continue
            got = results[device, way] = our_logits(a.samepage, path, tokens, device, step, a.work)
            if got.shape != truth.shape or not np.isfinite(got).all():
                sys.exit(f"{name} {type_} on {device}: logits of shape {got.shape}, or not all finite")
            largest, rms = relative_errors(got, truth)
            table.add(type_, device, way, name, (rms, largest))
            if type_ == "f32" and not max(largest, rms) <= F32_ERROR_MAX:
                problems.append(f"{name} {type_} on {device}, {way}: the error {rms:.2e} ({largest:.2e}) is too large")
            if a.verbose:
                print(f"{name:18} {type_:5} {device:14} {way:5} rms {rms:.2e} (llama.cpp {theirs['rms']:.2e})  "
                      f"max {largest:.2e} ({theirs['max']:.2e})", flush=True)
    check_agreement(a, name, type_, results, truth, record, problems)


def check_model(a, table, name, problems):
    with open(os.path.join(a.golden, f"{name}.json")) as file:
        record = json.load(file)
    for type_, golden in record["types"].items():
        if name == "demo":
            path = models.DEMO
        else:
            path = models.make(name, type_, a.work, golden.get("sha256"),
                               lambda source, out, mix: run([a.samepage, "quantize", "-q", "--pure", source, out, mix]))
        same = quantise.digest(path) == golden["digest"] if "digest" in golden else models.sha256(path) == golden["sha256"]
        if not same:
            problems.append(f"{path} is not the file that the golden numbers were made with")
            continue
        compare(a, table, name, type_, path, record, problems)
    if "greedy" in record:
        check_greedy(a, record["greedy"], problems)


def is_left_out(a, name, type_, device, step):
    """With --short slow devices have F32 on every model, the other types on one in three, each on others."""
    if not a.short:
        return False
    if device in SLOW_DEVICES and type_ != "f32" and name != "demo":
        if (list(models.ALL).index(name) + models.types(name).index(type_)) % SHORT_SHAPES:
            return True
    return step and (":" in device or (device in SLOW_DEVICES and name not in models.MODELS))


def check_alone(a, name, problems):
    path, tokens = models.make(name, "f32", a.work), models.tokens(name)
    truth = Model(path, len(tokens)).logits(tokens)
    for device in a.devices:
        for way, step in (("batch", False), ("step", True)):
            if is_left_out(a, name, "f32", device, step):
                continue
            errors = relative_errors(our_logits(a.samepage, path, tokens, device, step, a.work), truth)
            if a.verbose:
                print(f"{name:18} f32   {device:14} {way:5} rms {errors[1]:.2e}  max {errors[0]:.2e}", flush=True)
            if not max(errors) <= F32_ERROR_MAX:
                problems.append(f"{name} f32 on {device}, {way}: the error {max(errors):.2e} is too large")


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
    for type_, people in table.rows.items():
        for who, ways in people.items():
            for way in ways:
                rms, largest = table.mean(type_, who, way)
                their_rms, their_largest = table.mean(type_, "llama.cpp", way, who)
                print(f"{type_:5} {who:14} {way:5} {rms:9.2e} {largest:9.2e}   {rms / their_rms:5.3f} "
                      f"{largest / their_largest:5.3f}")
                if rms > their_rms * DRAW_MARGIN:
                    problems.append(f"{type_} on {who}, {way}: the error {rms:.2e} is larger than llama.cpp's "
                                    f"{their_rms:.2e}")
            rms, limit = table.mean(type_, who)[0], table.mean(type_, "llama.cpp", None, who)[0]
            print(f"{type_:5} {who:14} both  {rms:9.2e} {'':9}   {rms / limit:5.3f}")
            if rms > limit:
                problems.append(f"{type_} on {who}: the error {rms:.2e} is larger than llama.cpp's {limit:.2e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samepage", help="the program")
    parser.add_argument("--devices", default="cpu,cpu:avx2,cpu:reference,vulkan", help="comma-separated")
    parser.add_argument("--golden", default=models.GOLDEN)
    parser.add_argument("--work", default=os.path.join(models.ROOT, "build", "oracle"))
    parser.add_argument("--short", action="store_true", help="leave out what takes long and shows little: token by "
                        "token with other instruction sets; on slow devices late answers, and most models in types but F32")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each model, type and way")
    parser.add_argument("names", nargs="*", help="models of models.py, or demo (all)")
    a = parser.parse_intermixed_args()
    a.devices = a.devices.split(",")
    os.makedirs(a.work, exist_ok=True)
    table, problems = Table(), []
    for name in a.names or [*models.ALL, "demo"]:
        if name in models.ALONE:
            check_alone(a, name, problems)
        else:
            check_model(a, table, name, problems)
    judge(table, problems)
    print("\n".join(["", *problems]) if problems else "\noracle: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
