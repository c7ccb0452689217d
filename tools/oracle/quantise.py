#!/usr/bin/env python3
"""Hold what `samepage quantize` writes against llama.cpp's llama_model_quantize, by the SHA-256 of all that is in a
file.

    quantise.py build/samepage     # our files are those of tests/golden/quantise.json
    quantise.py --make             # that file anew, by llama.cpp; needs llama-cpp-python

The models are random (tools/make_model.py): one whose rows are whole blocks and that has enough layers for every rule
of a mix, one whose rows are not, with heads that share values and an own output matrix, and the demo model, quantised
again.
"""
import argparse
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

import models

GOLDEN = os.path.join(models.ROOT, "tests", "golden", "quantise.json")
# llama_ftype of llama.h
MIXES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11,
         "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25,
         "IQ4_XS": 30, "BF16": 32}
MODELS = {
    "whole-blocks": "--d 256 --layers 9 --heads 4 --kv-heads 2 --head-dim 64 --ff 256 --tied --vocab 512 --type f32 "
                    "--std 0.05 --attention-bias --norm-random --seed 31",
    "odd-rows": "--d 96 --layers 9 --heads 8 --kv-heads 1 --head-dim 32 --ff 256 --untied --vocab 520 --type bf16 "
                "--std 0.05 --tokenizer llama --seed 32",
    "demo": None,
}
DEMO_MIXES = ("Q4_K_M", "Q6_K", "Q4_0")


def source(name, folder):
    if name == "demo":
        return models.DEMO
    path = os.path.join(folder, f"{name}.gguf")
    command = [sys.executable, os.path.join(models.ROOT, "tools", "make_model.py"), path, *MODELS[name].split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def digest(path):
    """Of every value and every tensor, whatever the order of either."""
    reader, lines = gguf.GGUFReader(path), []
    for key, field in reader.fields.items():
        if not key.startswith("GGUF."):
            parts = b"".join(np.ascontiguousarray(part).tobytes() for part in field.parts[2:])
            lines.append(f"{key} {hashlib.sha256(parts).hexdigest()}")
    for tensor in reader.tensors:
        data = hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest()
        lines.append(f"{tensor.name} {tensor.tensor_type.name} {tensor.shape.tolist()} {data}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def cases(name):
    for mix in MIXES if name != "demo" else DEMO_MIXES:
        for pure in (False, True) if name != "demo" else (False,):
            yield mix, pure, f"{mix} pure" if pure else mix


def by_llama(path, out, mix, pure):
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.pure, options.allow_requantize, options.nthread = MIXES[mix], pure, True, 2
    if llama_cpp.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(options)):
        sys.exit(f"llama.cpp cannot quantise {path} to {mix}")


def make():
    import llama_cpp

    @llama_cpp.llama_log_callback
    def silent(_level, _text, _data):
        pass

    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    record = {"origin": {"command": "tools/oracle/quantise.py --make", "llama-cpp-python": llama_cpp.__version__,
                         "numpy": np.__version__}, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.gguf")
        for name, options in MODELS.items():
            path = source(name, folder)
            mixes = {}
            for mix, pure, label in cases(name):
                by_llama(path, out, mix, pure)
                mixes[label] = digest(out)
            record["models"][name] = {"options": options, "sha256": models.sha256(path), "mixes": mixes}
    with open(GOLDEN, "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def check(samepage):
    with open(GOLDEN) as file:
        record = json.load(file)
    wrong, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.gguf")
        for name in MODELS:
            golden, path = record["models"][name], source(name, folder)
            if models.sha256(path) != golden["sha256"]:
                if name != "demo":
                    sys.exit(f"{name}: the model is not the one of the golden file: numpy or gguf have changed")
                print("quantise demo: not compared: the model was trained anew since --make")
                continue
            for mix, pure, label in cases(name):
                command = [samepage, "quantize", path, out, mix, "-q", "--requantize", *(["--pure"] if pure else [])]
                done = subprocess.run(command, capture_output=True, text=True)
                count += 1
                if done.returncode or done.stderr or digest(out) != golden["mixes"][label]:
                    wrong.append(f"{name} {label}: {done.stderr.strip() or 'other than llama.cpp makes it'}")
    print(f"quantise: {count} files, {len(wrong)} other than llama.cpp's")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("samepage", nargs="?", help="the program")
    parser.add_argument("--make", action="store_true", help="write the golden file by llama.cpp")
    a = parser.parse_args()
    if a.make:
        return make()
    return check(a.samepage) if a.samepage else parser.error("which program?")


if __name__ == "__main__":
    sys.exit(main())
