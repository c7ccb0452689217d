#!/usr/bin/env python3
"""How much of its speed a process keeps when another one wants the same processors.

    bench/crowd.py -m MODEL [--threads N] [--tokens N] [--repetitions N]

By turns: one `samepage bench` alone, then two at once with as many threads each as the machine has cores, then one
beside as many processes that never stop computing. A fair share is half; two processes that waited for each other's
threads would get a fraction of it. Prints medians, and the least that one of the two kept.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

SAMEPAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "samepage")


def begin(options):
    command = [SAMEPAGE, "bench", "-m", options.model, "-t", str(options.threads), "-p", "0", "-n", str(options.tokens),
               "-r", "5", "--native", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def end(process):
    text = process.communicate()[0]
    if process.returncode:
        sys.exit("crowd: samepage bench failed")
    return json.loads(text)["rows"][0]["tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    alone, kept, least, beside = [], [], [], []
    for _ in range(options.repetitions):
        alone.append(end(begin(options)))
        both = [end(process) for process in [begin(options), begin(options)]]
        kept.append(statistics.mean(both) / alone[-1])
        least.append(min(both) / alone[-1])
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.threads)]
        beside.append(end(begin(options)) / alone[-1])
        for process in busy:
            process.kill()
            process.wait()
    print(f"alone {statistics.median(alone):.1f} tok/s; two at once keep {statistics.median(kept):.2f} each, the slower "
          f"of them {statistics.median(least):.2f} (of all {options.repetitions}, least {min(least):.2f}); beside "
          f"{options.threads} busy processes {statistics.median(beside):.2f}")


main()
