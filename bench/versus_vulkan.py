#!/usr/bin/env python3
"""Samepage and llama.cpp on one card by Vulkan, in turns.

    bench/versus_vulkan.py [--type BF16,Q8_0,Q4_0,Q4_K] [--context 0,512,8192] [--prefill 24,2048] [--json FILE]

A repetition runs ours (build/bench_vulkan) and then theirs (llama-bench, all layers on the card, flash attention, f16
KV) for each type; figures are medians, and ratios are medians of what each repetition says by itself. Decode is one
token behind a context, for llama-bench the mean of 128 tokens from there on; a prompt is taken into an empty context.
Neither samples. Ours leaves logits and KV in the guest's memory.

llama.cpp is built from the source package that bench/requirements-versus.txt names, in --scratch, with the CPU backend
beside Vulkan: ten minutes on two cores. How fast it is depends on the shader compiler, which has to know cooperative
matrices, NVIDIA's second ones and bfloat16, or their kernels are left out: glslc of 2026.4 does; one elsewhere, and
newer headers, are named by --cmake "-DVulkan_GLSLC_EXECUTABLE=... -DVulkan_INCLUDE_DIR=... -DCMAKE_PREFIX_PATH=...". A
machine without a compiler is given the folder of the programs instead, with --llama.

The models have the Llama 3.2 1B shape and random weights, all matrices of one type. Kept in --scratch, some 6 GB.
"""
import argparse
import glob
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tarfile

from versus import ROOT, log, make_file, model_file, save

QUANTISED = {"Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "Q6_K": "Q6_K"}
OURS = re.compile(r"^(\S+)\s+(decode at|prefill)\s+(\d+):.*=\s+(\d+) tok/s", re.MULTILINE)
THREADS = 4  # of llama.cpp on the host, which records each token's commands anew


# ---- what is needed ----

def build_llama(scratch, cmake):
    """The folder of llama-bench and llama-quantize; builds them where they are missing."""
    folder = os.path.join(scratch, "llama-vulkan")
    programs = os.path.join(folder, "bin")
    if os.path.exists(os.path.join(programs, "llama-quantize")):
        return programs
    with open(os.path.join(ROOT, "bench", "requirements-versus.txt")) as file:
        wanted = file.read().replace("\\\n", "")
    package = os.path.join(scratch, "llama-package.txt")
    with open(package, "w") as file:
        file.writelines(line + "\n" for line in wanted.split("\n") if line.startswith("llama-cpp-python"))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
                    "--require-hashes", "-r", package, "-d", scratch], check=True)
    archive, = glob.glob(os.path.join(scratch, "llama_cpp_python-*.tar.gz"))
    with tarfile.open(archive) as file:
        file.extractall(scratch, filter="data")
    source = os.path.join(archive.removesuffix(".tar.gz"), "vendor", "llama.cpp")
    log(f"building llama.cpp in {folder}")
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_VULKAN=ON", "-DGGML_NATIVE=OFF",
             "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON", "-DGGML_OPENMP=OFF",
             "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
             "-DLLAMA_BUILD_SERVER=OFF"]
    subprocess.run(["cmake", "-S", source, "-B", folder, *flags, *shlex.split(cmake)], check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--build", folder, "-j", str(os.cpu_count()), "--target", "llama-bench", "llama-quantize"],
                   check=True, stdout=sys.stderr)
    return programs


def model_of(options, kind):
    if kind == "BF16":
        return model_file(options.scratch, "bf16")
    return make_file(os.path.join(options.scratch, f"{kind.lower()}.gguf"), os.path.join(options.llama, "llama-quantize"),
                     "--pure", model_file(options.scratch, "bf16"), None, QUANTISED[kind])


# ---- measuring: tokens a second by (test, number) ----

def ours(options, kind):
    text = subprocess.check_output([os.path.join(options.build, "bench_vulkan"), "--type", kind, "--context", options.context,
                                    "--prefill", options.prefill], text=True)
    print(text, file=sys.stderr, flush=True)
    return {(test.split()[0], int(number)): float(rate) for _, test, number, rate in OURS.findall(text)}


def theirs(options, path):
    found = {}
    for test in (["-p", "0", "-n", "128", "-d", options.context], ["-p", options.prefill, "-n", "0"]):
        command = [os.path.join(options.llama, "llama-bench"), "-m", path, "-ngl", "99", "-fa", "1", "-t", str(THREADS),
                   "-r", "3", "-o", "json"] + test
        for row in json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL)):
            key = ("decode", row["n_depth"]) if row["n_gen"] else ("prefill", row["n_prompt"])
            found[key] = row["avg_ts"]
    return found


def measure(options, kind):
    path = model_of(options, kind)
    runs = []
    for _ in range(options.repetitions):
        mine, other = ours(options, kind), theirs(options, path)
        if mine.keys() != other.keys():
            sys.exit(f"versus: ours measured {sorted(mine)}, theirs {sorted(other)}")
        runs.append({key: (mine[key], other[key], mine[key] / other[key]) for key in mine})
    rows = []
    for test, number in runs[0]:
        mine, other, ratios = zip(*(run[test, number] for run in runs))
        rows.append({"type": kind, "test": test, "number": number, "ours": statistics.median(mine),
                     "theirs": statistics.median(other), "ratio": statistics.median(ratios), "ratios": ratios})
        row = rows[-1]
        print(f"{kind:5} {test:7} {number:5}  ours {row['ours']:8.0f}  theirs {row['theirs']:8.0f} tok/s  ratio "
              f"{row['ratio']:.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser.add_argument("--type", default="BF16,Q8_0,Q4_0,Q4_K", help="a list of BF16, " + ", ".join(QUANTISED))
    parser.add_argument("--context", default="0,512,8192", help="tokens before a decoded one")
    parser.add_argument("--prefill", default="24,2048", help="tokens of a prompt")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="where bench_vulkan is")
    parser.add_argument("--llama", help="where llama-bench and llama-quantize are; without it they are built")
    parser.add_argument("--cmake", default="", help="more of cmake's arguments for that")
    parser.add_argument("--scratch", default=os.path.join(cache, "samepage-versus"), help="where models and llama.cpp are")
    parser.add_argument("--json", help="also write everything to this file")
    return parser.parse_args()


def main():
    options = parse()
    os.makedirs(options.scratch, exist_ok=True)
    options.llama = options.llama or build_llama(options.scratch, options.cmake)
    rows = [row for kind in options.type.split(",") for row in measure(options, kind)]
    save(options.json, rows)


if __name__ == "__main__":
    main()
