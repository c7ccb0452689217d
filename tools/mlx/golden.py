#!/usr/bin/env python3
"""Write the golden numbers of MLX: how far its logits are from double precision, and some of them.

    golden.py                # tests/golden/mlx/logits.json, logits.bin
    golden.py -o build/mlx   # elsewhere, to be compared

For each folder of cases.py: mlx-lm's logits of a fixed sequence on the CPU, in one batch and token by token, with the
folder's own type of numbers and with everything in float32 (weights mean the same then). Needs the packages of
tools/requirements-mlx.txt: tools/bootstrap.sh --mlx.
"""
import argparse
import json
import os
import sys

import mlx.core as mx
import numpy as np
from importlib.metadata import version
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from pathlib import Path

import cases

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
from evaluate import relative_errors  # noqa: E402
import models  # noqa: E402

ROOT = models.ROOT
GOLDEN = os.path.join(ROOT, "tests", "golden", "mlx")
# What mlx-lm computes otherwise than the models' authors: no windows in Gemma 2, and of LongRoPE's two lists always the
# long one, with a scale of its own. There is no error to compare with then.
ALONE = ("gemma2-bf16", "gemma2-3-32", "phi3-5-32", "phi3-short-f32")


def logits(model, tokens, step):
    if not step:
        return np.array(model(mx.array([tokens])).astype(mx.float32))[0]
    cache, rows = make_prompt_cache(model), []
    for token in tokens:
        row = model(mx.array([[token]]), cache=cache).astype(mx.float32)
        mx.eval(row)
        rows.append(np.array(row)[0, 0])
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-o", "--output", default=GOLDEN)
    parser.add_argument("--work", default=os.path.join(ROOT, "build", "oracle"))
    parser.add_argument("names", nargs="*")
    a = parser.parse_args()
    mx.set_default_device(mx.cpu)
    os.makedirs(a.output, exist_ok=True)
    os.makedirs(a.work, exist_ok=True)
    record = {"origin": {"command": "tools/mlx/golden.py", "mlx": version("mlx"), "mlx-lm": version("mlx-lm"),
                         "numpy": np.__version__, "device": str(mx.default_device())}, "models": {}}
    rows = []
    for name in a.names or cases.CASES:
        path, tokens, exact = cases.make(name, a.work)
        truth, errors = exact.logits(tokens), {}
        model, _ = load_model(Path(path))
        for kind in ("own", "f32"):
            if kind == "f32":
                model.set_dtype(mx.float32)
            for way, step in (("batch", False), ("step", True)):
                got = logits(model, tokens, step)
                errors[f"{kind}-{way}"] = [float(f"{e:.4g}") for e in relative_errors(got, truth)]
        rows.append(got[-1])
        print(f"{name:20}", *(f"{way} {e[1]:.2e}" for way, e in errors.items()), flush=True)
        record["models"][name] = {"files": cases.digest(path), "vocab": len(got[-1]), "alone": name in ALONE,
                                  "errors": errors}
    np.concatenate(rows).astype("<f4").tofile(os.path.join(a.output, "logits.bin"))
    with open(os.path.join(a.output, "logits.json"), "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
