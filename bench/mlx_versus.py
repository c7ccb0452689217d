#!/usr/bin/env python3
"""Samepage and MLX on the same folder, on this machine's processor, in turns.

    bench/mlx_versus.py [--kinds 4,4:f32,bf16] [--layers 16] [--prompt 128] [--tokens 32] [--repetitions 5] [--isa avx2]

The folder is a random model of the Llama 3.2 1B shape (with fewer layers if asked), as tools/mlx/folder.py writes it:
bf16 or f32, or quantised to so many bits in groups of 64, with scales and everything else in bf16 or (4:f32) in f32,
which is the type that MLX then computes in: its CPU build is far slower in bf16. A repetition measures ours
(build/samepage bench --json: a guest's loop), then MLX's (mlx-lm's model with its cache in a process that keeps it
loaded, tokens given), for decode and for prefill; medians are printed, and the median of the repetitions' ratios,
because a machine's speed drifts. Needs tools/bootstrap.sh --mlx and a build. MLX uses the threads that it uses.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from versus import BUILD, PYTHON, ROOT, log, make_file, save

PEER = os.path.join(ROOT, ".deps", "venv-mlx", "bin", "python")


def folder_of(options, kind):
    path = os.path.join(options.scratch, f"mlx-{options.layers}-{kind.replace(':', '-')}")
    if not os.path.exists(os.path.join(path, "config.json")):  # which is written last
        source = make_file(os.path.join(options.scratch, f"mlx-{options.layers}.gguf"), PYTHON,
                           os.path.join(ROOT, "tools", "make_model.py"), None, "--shape", "llama-3.2-1b", "--layers",
                           str(options.layers), "--rope-scaling", "none", "--type", "bf16")
        log(f"making {path}")
        bits, _, dtype = kind.rpartition(":") if not kind.isdigit() else (kind, "", "bf16")
        how = ["--dtype", dtype, *(["--bits", bits, "--group", "64"] if bits else [])]
        subprocess.run([PYTHON, os.path.join(ROOT, "tools", "mlx", "folder.py"), source, path, *how], check=True)
    return path


def peer(path):
    """The other process: reads orders, answers with seconds."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model
    from pathlib import Path

    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(path))

    def run(words, count):
        cache = make_prompt_cache(model)
        begun = time.perf_counter()
        if words == "prefill":
            mx.eval(model(mx.array([[1 + i % 1000 for i in range(count)]]), cache=cache)[:, -1])
        else:
            for i in range(count):
                mx.eval(model(mx.array([[1 + i]]), cache=cache))
        return time.perf_counter() - begun

    run("decode", 2)
    print("ready", flush=True)
    for line in sys.stdin:
        words, count = line.split()
        print(run(words, int(count)), flush=True)


def ours(options, path, test):
    prompt, tokens = (options.prompt, 0) if test == "prefill" else (0, options.tokens)
    command = [os.path.join(BUILD, "samepage"), "bench", "-m", path, "-d", "cpu", "-r", "1", "--json", "-q", "-p",
               str(prompt), "-n", str(tokens), *(["--isa", options.isa] if options.isa else [])]
    row = json.loads(subprocess.check_output(command))["rows"][-1]
    return row["tokens_per_s"], row["isa"]


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kinds", default="4,bf16", help="4, 4:f32, bf16, f32; comma-separated")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--isa", help="of ours; best")
    parser.add_argument("--scratch", default=os.path.join(BUILD, "versus"))
    parser.add_argument("--json", help="where to write all figures")
    a = parser.parse_args()
    os.makedirs(a.scratch, exist_ok=True)
    all_found = []
    print(f"{'kind':6} {'test':8} {'isa':8} {'ours/s':>9} {'MLX/s':>9} {'ratio':>7}   (of {a.repetitions} repetitions)")
    for kind in a.kinds.split(","):
        path = folder_of(a, kind)
        with subprocess.Popen([PEER, os.path.abspath(__file__), "--peer", path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            if process.stdout.readline() != "ready\n":
                sys.exit("mlx_versus: MLX ended; its message is above")
            for test in ("decode", "prefill"):
                count, mine, theirs = a.prompt if test == "prefill" else a.tokens, [], []
                for _ in range(a.repetitions):
                    speed, isa = ours(a, path, test)
                    mine.append(speed)
                    process.stdin.write(f"{test} {count}\n")
                    process.stdin.flush()
                    theirs.append(count / float(process.stdout.readline()))
                ratio = statistics.median(m / t for m, t in zip(mine, theirs))
                all_found.append({"kind": kind, "test": test, "isa": isa, "ours": mine, "mlx": theirs, "ratio": ratio})
                print(f"{kind:6} {test:8} {isa:8} {statistics.median(mine):9.2f} {statistics.median(theirs):9.2f} "
                      f"{ratio:7.2f}", flush=True)
            process.stdin.close()
    save(a.json, all_found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
