#!/usr/bin/env python3
"""Reads the #include lines and fails on an arrow that points the wrong way.

The layers, from left to right, are those of ARCHITECTURE.md: a file includes its own layer and those to its left.
source, gguf, safetensors, hf, tokenizer and sampler are leaves beside model. A backend is known to
src/device/backends.def only, and Wasmtime to src/guest/ only. Files past 800 lines want a second look; none is there.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ["base", "dtype", "os", "region", "device", "source", "gguf", "safetensors", "hf", "quantise", "tokenizer", "sampler", "model", "session", "guest", "snapshot", "actor", "server", "apps"]
ALLOWED = {
    "base": set(),
    "dtype": {"base"},
    "os": {"base"},
    "region": {"base", "os"},
    "device": {"base", "dtype", "os", "region"},
    "source": {"base", "dtype"},
    "gguf": {"base", "os", "source"},
    "safetensors": {"base", "source"},
    "hf": {"base", "dtype", "os", "source", "safetensors"},
    "quantise": {"base", "dtype", "os", "source", "gguf"},
    "tokenizer": {"base", "os", "source"},
    "sampler": {"base", "os"},
    "model": {"base", "dtype", "os", "region", "device", "source", "gguf", "hf", "tokenizer", "sampler"},
    "session": {"base", "os", "region", "device", "model", "sampler"},
    "guest": {"base", "os", "region", "device", "model", "session", "sampler", "tokenizer"},
    "snapshot": {"base", "os", "region", "device", "model", "session", "guest", "sampler"},
    "actor": {"base", "os", "region", "device", "model", "session", "guest", "snapshot"},
    "server": {"base", "os", "guest", "snapshot", "actor"},
    "apps": set(LAYERS),
}
PUBLIC = {  # which layer a public header belongs to
    "export": "base", "status": "base", "version": "base", "dtype": "base", "region": "region", "device": "device", "model": "model",
    "tokenizer": "tokenizer", "sampler": "sampler", "quantise": "quantise", "session": "session", "guest": "guest", "store": "snapshot", "snapshot": "snapshot",
    "actor": "actor",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
LINES_MAX = 800


def layer_of(path):
    parts = path.relative_to(ROOT).parts
    if parts[0] == "src":
        return parts[1]
    if parts[:2] == ("include", "samepage"):
        return PUBLIC.get(path.stem)
    return "apps" if parts[0] == "apps" else None


def check_file(path, problems):
    own = layer_of(path)
    name = path.relative_to(ROOT)
    text = path.read_text()
    if text.count("\n") > LINES_MAX:
        problems.append(f"{name}: {text.count(chr(10))} lines, more than {LINES_MAX}: is it two files?")
    if own is None:
        return
    if own != "guest" and re.search(r"\bwasmtime_\w+\(", text):
        problems.append(f"{name}: calls Wasmtime outside of src/guest")
    backend = re.match(r"src/device/(\w+)/", str(name))
    for target in INCLUDE.findall(text):
        first = target.split("/")[0]
        if first == "samepage":
            other = PUBLIC.get(pathlib.PurePath(target).stem)
        else:
            other = first if first in ALLOWED else None
        if other and other != own and other not in ALLOWED[own]:
            problems.append(f"{name}: {own} includes {target} of {other}, to its right")
        into = re.match(r"device/(\w+)/", target)
        if into and own != "apps" and (not backend or backend.group(1) != into.group(1)):
            problems.append(f"{name}: includes {target} of a backend from outside of it")


def main():
    problems = []
    for folder in ("src", "include", "apps"):
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            if path.parts[-2] == "guests":
                continue  # guests include the SDK only
            check_file(path, problems)
    print("\n".join(problems) if problems else "layers: every include points to the left")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
