#!/usr/bin/env python3
"""Saving and restoring a conversation, beside llama.cpp's own way, on one model file and in one run.

    bench/state_versus.py MODEL.gguf [--lengths 24,128,512,2048] [--threads 2] [--bench build/bench_state]
                          [--json OUT.json] [--markdown] [--svg docs/state.svg] [--from OUT.json]

For each length llama.cpp (through llama-cpp-python) prefills, saves the sequence to memory (llama_state_seq_get_data),
clears its memory, loads it again (llama_state_seq_set_data) and decodes the last token for its logits; medians of 7.
Then bench_state does the same with a guest. The two run one after the other for each length, so that both see the same
machine. llama.cpp saves no logits with a sequence, so that its first token needs a decode; ours come along.
"""
import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time


def llama_numbers(model, lengths, threads):
    import llama_cpp as L
    from llama_cpp import Llama

    out = {}
    for length in lengths:
        llm = Llama(model_path=model, n_ctx=length + 64, n_batch=512, n_threads=threads, n_threads_batch=threads,
                    verbose=False)
        ctx, vocab = llm._ctx.ctx, llm.n_vocab()
        tokens = [(i * 7919 + 13) % vocab for i in range(length)]
        runs = 3 if length < 200 else 1
        prefill = []
        for _ in range(runs):
            llm.reset()
            L.llama_memory_clear(L.llama_get_memory(ctx), True)
            begin = time.perf_counter()
            llm.eval(tokens)
            prefill.append((time.perf_counter() - begin) * 1e3)
        size = L.llama_state_seq_get_size(ctx, 0)
        buffer = (ctypes.c_uint8 * size)()
        save, load, first, second = [], [], [], []
        for _ in range(7):
            begin = time.perf_counter()
            L.llama_state_seq_get_data(ctx, buffer, size, 0)
            save.append((time.perf_counter() - begin) * 1e3)
            L.llama_memory_clear(L.llama_get_memory(ctx), True)
            begin = time.perf_counter()
            got = L.llama_state_seq_set_data(ctx, buffer, size, 0)
            load.append((time.perf_counter() - begin) * 1e3)
            assert got == size, "llama.cpp did not take its own state"
            L.llama_memory_seq_rm(L.llama_get_memory(ctx), 0, length - 1, -1)
            llm.n_tokens = length - 1
            llm.eval(tokens[-1:])
            first.append((time.perf_counter() - begin) * 1e3)
            llm.eval([1])
            second.append((time.perf_counter() - begin) * 1e3)
            L.llama_memory_seq_rm(L.llama_get_memory(ctx), 0, length, -1)
            llm.n_tokens = length
        out[length] = {"prefill": statistics.median(prefill), "save": statistics.median(save),
                       "load": statistics.median(load), "first": statistics.median(first),
                       "second": statistics.median(second), "bytes": size}
        llm.close()
    return out


def our_numbers(bench, model, lengths, device):
    out = {}
    for length in lengths:
        text = subprocess.run([bench, model, "--json", "--lengths", str(length), "--device", device], check=True,
                              capture_output=True, text=True).stdout
        out[length] = {row["name"]: row["value"] for row in json.loads(text) if row["length"] == length}
    return out


def markdown(data):
    print("| tokens | llama.cpp prefill | save | load | first token | second | samepage prefill | capture | restore, warm "
          "| first token, warm | file, page cache | file, cold | second, warm |")
    print("|" + "---:|" * 13)
    for length in sorted(data["ours"], key=int):
        l, o = data["llama"].get(length), data["ours"][length]
        left = [f"{l[k]:.4g}" for k in ("prefill", "save", "load", "first", "second")] if l else ["-"] * 5
        names = ("prefill", "capture, blocks in the store", "warm: restore", "warm: to first token",
                 "file: to first token", "cold: to first token", "warm: to second token")
        print(f"| {length} | " + " | ".join(left + [f"{o[n]:.3g}" for n in names]) + " |")


def svg(data, path):
    """Time to the first token over the length, both axes logarithmic."""
    import math
    lines = [("prefill", "#b00", lambda n: data["ours"][n]["prefill"]),
             ("llama.cpp: load and decode", "#888",
              lambda n: data["llama"][n]["first"] if n in data["llama"] else None),
             ("file, cold", "#06c", lambda n: data["ours"][n]["cold: to first token"]),
             ("file, page cache", "#0a8", lambda n: data["ours"][n]["file: to first token"]),
             ("this process", "#093", lambda n: data["ours"][n]["warm: to first token"])]
    lengths = sorted(data["ours"], key=int)
    low, high = math.log10(0.1), math.log10(max(data["ours"][n]["prefill"] for n in lengths) * 2)
    first, last = math.log10(int(lengths[0])), math.log10(int(lengths[-1]))
    x = lambda n: 70 + 480 * (math.log10(int(n)) - first) / max(last - first, 1e-9)
    y = lambda ms: 330 - 300 * (math.log10(max(ms, 0.1)) - low) / (high - low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 380" font-family="sans-serif" font-size="12">',
           '<rect width="760" height="380" fill="#fff"/>']
    for power in range(-1, int(high) + 1):
        out.append(f'<path d="M70 {y(10 ** power):.1f}H550" stroke="#ddd"/>'
                   f'<text x="62" y="{y(10 ** power) + 4:.1f}" text-anchor="end">{10 ** power:g} ms</text>')
    for n in lengths:
        out.append(f'<text x="{x(n):.1f}" y="350" text-anchor="middle">{n}</text>')
    out.append('<text x="310" y="370" text-anchor="middle">tokens in the conversation</text>')
    out.append('<text x="70" y="20">from the request to the first token</text>')
    for name, colour, value in lines:
        points = [(x(n), y(value(n))) for n in lengths if value(n) is not None]
        if points:
            out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' +
                       " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
            out.append(f'<text x="{points[-1][0] + 6:.1f}" y="{points[-1][1] + 4:.1f}" fill="{colour}">{name}</text>')
    crossings = []
    for name, colour, value in lines[1:]:
        points = [(n, value(n), data["ours"][n]["prefill"]) for n in lengths if value(n) is not None]
        for (n, a, prefill), (m, b, later) in zip(points, points[1:]):
            if (a < prefill) != (b < later):  # where straight lines between the points cross, on logarithmic axes
                before, after = math.log10(a / prefill), math.log10(b / later)
                share = before / (before - after)
                length = 10 ** (math.log10(int(n)) + share * (math.log10(int(m)) - math.log10(int(n))))
                ms = 10 ** (math.log10(a) + share * (math.log10(b) - math.log10(a)))
                crossings.append(f'<circle cx="{x(length):.1f}" cy="{y(ms):.1f}" r="5" fill="none" stroke="{colour}"/>'
                                 f'<text x="{x(length) + 8:.1f}" y="{y(ms) - 6:.1f}">{length:.0f} tokens</text>')
    out += crossings or ['<text x="550" y="20" text-anchor="end">no crossover: nothing here is slower than prefill</text>']
    out.append("</svg>\n")
    with open(path, "w") as file:
        file.write("\n".join(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--lengths", default="24,128,512,2048")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bench", default="build/bench_state")
    parser.add_argument("--json")
    parser.add_argument("--svg")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--from", dest="source", nargs="*", help="numbers of earlier runs instead of a new one")
    arguments = parser.parse_args()
    data = {"llama": {}, "ours": {}}
    if arguments.source:
        for path in arguments.source:
            with open(path) as file:
                part = json.load(file)
            data["llama"].update(part["llama"])
            data["ours"].update(part["ours"])
    else:
        for length in [int(n) for n in arguments.lengths.split(",")]:
            data["llama"].update({str(k): v for k, v in llama_numbers(arguments.model, [length], arguments.threads).items()})
            data["ours"].update({str(k): v for k, v in our_numbers(arguments.bench, arguments.model, [length],
                                                                   arguments.device).items()})
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(data, file, indent=1)
    if arguments.svg:
        svg(data, arguments.svg)
    if arguments.markdown or not (arguments.json or arguments.svg):
        markdown(data)


if __name__ == "__main__":
    sys.exit(main())
