#!/usr/bin/env python3
"""Samepage and llama.cpp on the same model, in turns, beside what the machine can do in the same minutes.

    bench/versus.py --type q4_0,q8_0 [--tests decode,prefill,batch,start] [--isa avx2] [--threads 2] [--json FILE]

A repetition measures the machine's peaks (build/bench_peaks), then ours (build/samepage bench --json), then theirs
(llama.cpp through llama-cpp-python, a process that keeps the model loaded), for each test; figures are medians, and
ratios are medians of what each repetition says by itself, because one machine's speed drifts.

The rule for repetitions that other work has spoilt: a measurement in which processes outside of this one's tree (and
the hypervisor) had more than --foreign percent (6) of the machine's processor time, by /proc/stat, is discarded and
made again, up to three times as many as were asked for. How many were is printed.

With --isa avx2 the peer is a llama.cpp that was built without AVX-512, since it chooses its instructions when it is
built; without --isa it is built for the machine. Models (the Llama 3.2 1B shape, random weights) and peers are made
where they are missing, in --scratch: some 10 GB and, for each peer, ten minutes on two cores.

Tests: decode (--tokens at a time from an empty context), prefill (--prompt tokens in one append), batch (--sequences
side by side, tokens of all counted), start (the time from starting the process to the first token, and its peak of
resident memory; for llama.cpp the load alone, without Python's start). Ours samples its tokens in a guest, theirs are
given.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCH = os.path.join(ROOT, "bench")
BUILD = os.path.join(ROOT, "build")
VENV = os.path.join(ROOT, ".deps", "venv", "bin", "python")
PYTHON = VENV if os.path.exists(VENV) else sys.executable
FLOP_PER_TOKEN = 2 * 973_078_528  # of the shape's matrices without the head: a prompt pays the head once

# Ours: the type's number in llama.cpp (enum llama_ftype), and whether all matrices have it.
TYPES = {"f16": (1, 1), "bf16": (32, 1), "q4_0": (2, 1), "q4_1": (3, 1), "q5_0": (8, 1), "q5_1": (9, 1),
         "q8_0": (7, 1), "q2_k": (10, 1), "q3_k": (12, 1), "q4_k": (15, 1), "q5_k": (17, 1), "q6_k": (18, 1),
         "iq4_nl": (25, 1), "iq4_xs": (30, 1), "mxfp4": (38, 1), "q4_k_m": (15, 0), "q5_k_m": (17, 0), "q3_k_m": (12, 0)}
PEERS = {"native": "", "avx2": "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON "
                               "-DGGML_AVX512=OFF"}


def log(text):
    print(f"versus: {text}", file=sys.stderr, flush=True)


# ---- what is needed ----

def peer_python(scratch, name):
    """The Python of an environment with llama.cpp in it; builds it where it is missing."""
    home = os.path.join(scratch, f"peer-{name}")
    python = os.path.join(home, "bin", "python")
    probe = [python, "-c", "import llama_cpp"]
    if os.path.exists(python) and not subprocess.run(probe, stderr=subprocess.DEVNULL).returncode:
        return python
    log(f"building llama.cpp ({name}) in {home}")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    # gcc 12 takes ldtilecfg for reading eight bytes and drops what is stored behind them: with AMX, llama.cpp would end
    # in its first tile.
    environment = dict(os.environ, CMAKE_ARGS=PEERS[name], CXXFLAGS="-fno-tree-dse -fno-dse")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
                    "--no-deps", "--require-hashes", "-r", os.path.join(BENCH, "requirements-versus.txt")],
                   check=True, env=environment)
    return python


def make_file(path, *command):
    """Where there is no such file, runs the command, with a name in place of None that becomes the path when all is
    written."""
    if not os.path.exists(path):
        log(f"making {path}")
        subprocess.run([word or path + ".part" for word in command], check=True, stdout=subprocess.DEVNULL)
        os.rename(path + ".part", path)
    return path


def model_file(scratch, kind):
    path = os.path.join(scratch, f"{kind}.gguf")
    if kind == "bf16":
        return make_file(path, PYTHON, os.path.join(ROOT, "tools", "make_model.py"), None, "--shape", "llama-3.2-1b",
                         "--type", "bf16")
    if os.path.exists(path):
        return path
    return make_file(path, peer_python(scratch, "native"), os.path.join(BENCH, "versus_peer.py"), "--quantize",
                     model_file(scratch, "bf16"), None, *map(str, TYPES[kind]))


def save(path, results):
    if path:
        with open(path, "w") as file:
            json.dump(results, file, indent=1)


# ---- measuring ----

class Peer:
    """llama.cpp with one model, waiting for orders."""

    def __init__(self, python, path, options):
        self.command = [python, os.path.join(BENCH, "versus_peer.py"), path, str(options.threads),
                        str(min(512, options.prompt)), str(options.sequences)]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.load_s = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("versus: llama.cpp ended; its message is above")
        return float(line)

    def order(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process = None


def machine_busy_s():
    """Processor seconds that were spent on anything, stolen ones included, and how many processors there are."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Tells how much of the machine others had while a block ran."""

    def __init__(self, peer):
        self.peer = peer

    def tree_s(self):
        own = sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own + (self.peer.cpu_s() if self.peer and self.peer.process else 0)

    def __enter__(self):
        self.begun, self.busy, self.tree = time.monotonic(), machine_busy_s(), self.tree_s()
        return self

    def __exit__(self, *_):
        others = (machine_busy_s() - self.busy) - (self.tree_s() - self.tree)
        self.foreign = 100 * others / (time.monotonic() - self.begun) / os.cpu_count()


def peaks(options):
    command = [os.path.join(BUILD, "bench_peaks"), "--threads", str(options.threads)]
    return json.loads(subprocess.check_output(command + (["--isa", options.isa] if options.isa else [])))


def ours(options, path, test):
    """Tokens a second, and the row that samepage bench printed."""
    numbers = {"decode": (0, options.tokens, 0), "prefill": (options.prompt, 0, 0),
               "batch": (0, options.batch_tokens, options.sequences)}[test]
    command = [os.path.join(BUILD, "samepage"), "bench", "-m", path, "-d", "cpu", "-t", str(options.threads), "-r", "1", "--json",
               "-p", str(numbers[0]), "-n", str(numbers[1])]
    command += ["-b", str(numbers[2])] if numbers[2] else []
    command += ["--isa", options.isa] if options.isa else []
    row = json.loads(subprocess.check_output(command))["rows"][-1]
    return row["tokens_per_s"], row


def start(options, path):
    """Seconds from starting the process to its end behind one token, and the peak of its resident memory in MB."""
    command = [os.path.join(BUILD, "samepage"), "complete", "-m", path, "-d", "cpu", "-t", str(options.threads), "-n", "1", "-q",
               "--temp", "0", "-p", "a"]
    command += ["--isa", options.isa] if options.isa else []
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        sys.exit(f"versus: {' '.join(command)} failed")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def theirs(options, peer, test):
    if test == "decode":
        return options.tokens / peer.order("decode", options.tokens)
    if test == "prefill":
        return options.prompt / peer.order("prefill", options.prompt)
    count = options.sequences * options.batch_tokens
    return count / peer.order("batch", options.sequences, options.batch_tokens)


def repeat(options, kind, path, python, peer, test):
    """One repetition of one test, or None where others had too much of the machine."""
    with Watch(peer) as watch:
        limits = peaks(options)
        if test == "start":
            seconds, resident = start(options, path)
            again = Peer(python, path, options)
            again.close()
            found = {"ours_s": seconds, "resident_mb": resident, "theirs_s": again.load_s,
                     "file_mb": os.path.getsize(path) / 2**20, "ratio": again.load_s / seconds}
        else:
            mine, row = ours(options, path, test)
            other = theirs(options, peer, test)
            found = {"ours": mine, "theirs": other, "ratio": mine / other, "isa": row["isa"]}
            if test == "decode":
                gb = row["weight_bytes"] * 1e-9
                read = (limits["read_gb_per_s"] + peaks(options)["read_gb_per_s"]) / 2
                found.update(fraction=mine * gb / read, their_fraction=other * gb / read)
            elif test == "prefill":
                peak = limits["fma_gflops" if kind in ("f16", "bf16") else "int8_gops"]
                gflops = mine * FLOP_PER_TOKEN * 1e-9
                found.update(gflops=gflops, fraction=gflops / peak)
    found.update({"foreign": watch.foreign, **{name: limits[name] for name in limits if name not in ("isa", "threads")}})
    return found


def measure(options, kind, path, python):
    tests = options.tests.split(",")
    peer = Peer(python, path, options) if tests != ["start"] else None
    results = []
    for test in tests:
        good, discarded = [], 0
        while len(good) < options.repetitions and discarded < 2 * options.repetitions:
            found = repeat(options, kind, path, python, peer, test)
            if found["foreign"] <= options.foreign:
                good.append(found)
            else:
                discarded += 1
            print(f"versus: {kind} {test} {json.dumps(found)}", file=sys.stderr, flush=True)
        names = [name for name in good[0] if name != "isa"] if good else []
        medians = {name: statistics.median(one[name] for one in good) for name in names}
        results.append({"type": kind, "test": test, "isa": options.isa or "best", "kept": len(good),
                        "discarded": discarded, **medians, "repetitions": good})
    if peer:
        peer.close()
    return results


# ---- telling ----

def show(result):
    if not result["kept"]:
        return f"{result['type']:7} {result['test']:8} nothing kept, {result['discarded']} discarded"
    spread = [one["ratio"] for one in result["repetitions"]]
    line = f"{result['type']:7} {result['test']:8} "
    if result["test"] == "start":
        line += (f"ours {result['ours_s']:6.2f} s to the first token, {result['resident_mb']:.0f} MB of a file of "
                 f"{result['file_mb']:.0f} MB; theirs {result['theirs_s']:6.2f} s to load")
    else:
        line += f"ours {result['ours']:7.2f}  theirs {result['theirs']:7.2f} tok/s"
    line += f"  ratio {result['ratio']:5.2f} ({min(spread):.2f}-{max(spread):.2f})"
    if result["test"] == "decode":
        line += (f"  of {result['read_gb_per_s']:.1f} GB/s: {result['fraction']:.2f}, theirs "
                 f"{result['their_fraction']:.2f}")
    elif result["test"] == "prefill":
        line += f"  {result['gflops']:.0f} GOP/s, {result['fraction']:.2f} of the peak"
    return line + f"  [{result['kept']} kept, {result['discarded']} discarded]"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser.add_argument("--type", default="q4_0,q8_0,bf16", help="a list of " + ", ".join(TYPES))
    parser.add_argument("--tests", default="decode,prefill,batch", help="a list of decode, prefill, batch, start")
    parser.add_argument("--isa", help="ours: as samepage --isa has it; theirs: avx2, or built for this machine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64, help="of decode (64)")
    parser.add_argument("--prompt", type=int, default=512, help="of prefill (512)")
    parser.add_argument("--sequences", type=int, default=16, help="of batch (16)")
    parser.add_argument("--batch-tokens", type=int, default=16, help="of each sequence (16)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--foreign", type=float, default=6, help="percent of the machine that others may have (6)")
    parser.add_argument("--scratch", default=os.path.join(cache, "samepage-versus"), help="where models and peers are")
    parser.add_argument("--json", help="also write everything to this file")
    return parser.parse_args()


def main():
    options = parse()
    os.makedirs(options.scratch, exist_ok=True)
    python = peer_python(options.scratch, "avx2" if options.isa == "avx2" else "native")
    paths = {kind: model_file(options.scratch, kind) for kind in options.type.split(",")}
    results = []
    for kind, path in paths.items():
        for result in measure(options, kind, path, python):
            print(show(result), flush=True)
            results.append(result)
    save(options.json, results)


if __name__ == "__main__":
    main()
