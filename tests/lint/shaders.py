#!/usr/bin/env python3
"""Fails on a compiled shader that spirv-cross does not turn into Metal's language, or that Metal would not take for
what it is: bindings begin with 1, since push constants take buffer 0 there, and subgroup operations are not clustered,
which Metal's have no form for. What must pass is every shader but those of OWN, which are written for other
instructions.

    tests/lint/shaders.py SPIRV-CROSS FOLDER     a folder of NAME.spv
"""
import concurrent.futures
import os
import pathlib
import struct
import subprocess
import sys

# Names begin like this: tokens' quantised products by integer dot products, and what has cooperative matrices.
OWN = ("rowq", "rowsq")
OP_CAPABILITY, OP_DECORATE = 17, 71
CLUSTERED, COOPERATIVE, BINDING = 67, 6022, 33


def instructions(path):
    words = struct.unpack(f"<{path.stat().st_size // 4}I", path.read_bytes())
    at = 5
    while at < len(words):
        count, code = words[at] >> 16, words[at] & 0xFFFF
        yield code, words[at + 1:at + count]
        at += count


def wrong(cross, path):
    """What is wrong with a shader, or None; "own" where it need not pass."""
    capabilities, bindings = set(), []
    for code, operands in instructions(path):
        if code == OP_CAPABILITY:
            capabilities.add(operands[0])
        elif code == OP_DECORATE and operands[1] == BINDING:
            bindings.append(operands[2])
    if path.stem.startswith(OWN) or COOPERATIVE in capabilities:
        return "own"
    if CLUSTERED in capabilities:
        return "it has clustered subgroup operations"
    if 0 in bindings:
        return "it has a binding 0"
    done = subprocess.run([cross, "--msl", "--msl-version", "20300", "--msl-decoration-binding", str(path)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode or "kernel void" not in done.stdout:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "spirv-cross makes no kernel of it"
    return None


def main():
    cross, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    paths = sorted(folder.glob("*.spv"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(zip(paths, pool.map(lambda path: wrong(cross, path), paths)))
    failures = [(path, why) for path, why in found if why and why != "own"]
    for path, why in failures:
        print(f"{path.name}: {why}", file=sys.stderr)
    own = sum(why == "own" for _, why in found)
    if not paths or own == len(paths):
        sys.exit(f"{folder} has no shaders")
    print(f"shaders: {len(paths) - own - len(failures)} of {len(paths) - own} become Metal's, {own} are not asked to")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
