#!/usr/bin/env python3
"""Hold samepage's logits of MLX folders against an evaluation in double precision, beside mlx-lm's own error.

For every folder of cases.py: it is made anew and must be the one that the golden file names; then samepage computes the
logits of the same tokens, on every device asked for, in one batch and token by token. Then the demo model answers
questions. It fails if our error (root mean square over all logits) is larger than

  - mlx-lm's, with the folder's own type of numbers, where that is bf16;
  - 1e-4 where nothing rounds but keys and values: with weights that are not quantised, and on devices that leave
    activations as they are;
  - 4e-3 where weights in bf16 meet several tokens at once on the best kernels of a processor that multiplies bf16
    (vdpbf16ps, AMX): activations are rounded to its 8 bits then, each by up to 2e-3 of itself;
  - 8e-3 elsewhere: activations are rounded to 8 bits there, for weights of all quantised types;

or if mlx's golden logits are further from ours than the two errors allow, or an answer is not mlx-lm's to the token.

    check.py build/samepage [--devices cpu,cpu:avx2,cpu:reference,vulkan] [--golden FOLDER] [names...]
"""
import argparse
import json
import os
import subprocess
import sys

import numpy as np

import cases

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
from evaluate import relative_errors  # noqa: E402
import models  # noqa: E402

EXACT_MAX = 1e-4  # keys and values in f16, which is a session's format, cost less
BRAIN_MAX = 4e-3
ROUNDED_MAX = 8e-3
EXACT = ("cpu:reference", "vulkan")  # activations are not rounded there


def compute(a, path, tokens, device, step):
    out = os.path.join(a.work, "mlx-out.f32")
    name, _, isa = device.partition(":")
    command = [a.samepage, "logits", "-m", path, "--tokens", ",".join(map(str, tokens)), "-o", out, "-d", name]
    subprocess.run(command + (["--isa", isa] if isa else []) + (["--step"] if step else []), check=True)
    return np.fromfile(out, "<f4").reshape(len(tokens), -1)


def check_model(a, name, golden, theirs, problems):
    path, tokens, exact = cases.make(name, a.work)
    if cases.digest(path) != golden["files"]:
        problems.append(f"{name}: the folder is not the one that the golden file is of")
        return
    truth = exact.logits(tokens)
    how = cases.CASES[name][1]
    for device in a.devices:
        if a.short and device not in ("cpu", "cpu:reference") and list(cases.CASES).index(name) % 3:
            continue
        line = []
        for way, step in (("batch", False), ("step", True)):
            if step and a.short and device != "cpu":
                continue
            got = compute(a, path, tokens, device, step)
            largest, rms = relative_errors(got, truth)
            line.append(f"{way} {rms:.2e}")
            limit = golden["errors"][f"own-{way}"][1]
            if how["dtype"] != "f32" and not golden["alone"]:
                line.append(f"({rms / limit:5.3f} of mlx's)")
                if how["dtype"] == "bf16" and not rms <= limit:
                    problems.append(f"{name} on {device}, {way}: the error {rms:.2e} is larger than mlx's {limit:.2e}")
            most = EXACT_MAX if device in EXACT or "bits" not in how else ROUNDED_MAX
            if device == "cpu" and not step and how["dtype"] == "bf16" and "bits" not in how:
                most = BRAIN_MAX
            if not rms <= most:
                problems.append(f"{name} on {device}, {way}: the error {rms:.2e} is larger than {most:.0e}")
            apart = relative_errors(got[-1], theirs.astype(np.float64))[1]
            if not golden["alone"] and not apart <= 3 * (rms + golden["errors"]["f32-step"][1]) + 1e-6:
                problems.append(f"{name} on {device}, {way}: mlx's logits are {apart:.2e} away")
        print(f"{name:20} {device:14}", *line, flush=True)


def check_greedy(a, name, golden, problems):
    path = cases.make_demo(name, a.work)
    if cases.digest(path) != golden["files"]:
        problems.append(f"{name}: the folder is not the one that the golden file is of")
        return
    for device in a.devices:
        kind, _, isa = device.partition(":")
        same, answers = 0, golden["answers"][:2 if a.short and device != "cpu" else None]
        for answer in answers:
            command = [a.samepage, "complete", "-q", "-m", path, "--raw", "--json", "--temp", "0", "-n", "40", "-p",
                       answer["prompt"], "-d", kind, *(["--isa", isa] if isa else [])]
            got = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["tokens"]
            same += got == answer["tokens"]
            if got != answer["tokens"]:
                problems.append(f"{name} on {device}: {answer['question']} {got}, not mlx-lm's {answer['tokens']}")
        print(f"{name:20} {device:14} {same} of {len(answers)} answers as mlx-lm's", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("samepage", help="the program")
    parser.add_argument("--devices", default="cpu,cpu:avx2,cpu:reference,vulkan", help="comma-separated")
    parser.add_argument("--golden", default=os.path.join(models.ROOT, "tests", "golden", "mlx"))
    parser.add_argument("--work", default=os.path.join(models.ROOT, "build", "oracle"))
    parser.add_argument("--short", action="store_true", help="token by token on the cpu device only, and a third of the folders "
                        "and two questions on others")
    parser.add_argument("names", nargs="*", help="folders of cases.py (all)")
    a = parser.parse_intermixed_args()
    a.devices = a.devices.split(",")
    os.makedirs(a.work, exist_ok=True)
    with open(os.path.join(a.golden, "logits.json")) as file:
        golden = json.load(file)["models"]
    theirs, at, problems = np.fromfile(os.path.join(a.golden, "logits.bin"), "<f4"), 0, []
    for name, record in golden.items():
        if not a.names or name in a.names:
            check_model(a, name, record, theirs[at:at + record["vocab"]], problems)
        at += record["vocab"]
    with open(os.path.join(a.golden, "greedy.json")) as file:
        for name, record in json.load(file)["models"].items():
            if not a.names or name in a.names:
                check_greedy(a, name, record, problems)
    print("\n".join(["", *problems]) if problems else "\nmlx: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
