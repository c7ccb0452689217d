#!/usr/bin/env python3
"""Let an engine answer the held-out questions with a model file, greedily, and print the scores.

    eval.py --model ../../models/samepage-demo-q8_0.gguf                         # the samepage program
    eval.py --model FILE --command 'build/samepage complete -m {model} -p {prompt} -n {tokens} --temp 0 --raw --json'
    eval.py --model FILE --engine llama_cpp                                       # llama.cpp's Python binding

A command is run once for each question; {model}, {prompt} and {tokens} are put into its arguments, no shell between.
With --field its output is JSON and the answer is that field; with --field '' it is the answer itself. Exits with 1
where the recall score is below --least.
"""
import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import heldout

HERE = Path(__file__).resolve().parent
COMMAND = "samepage complete -m {model} -p {prompt} -n {tokens} --temp 0 --raw --json"


def run_command(items, a):
    """The prompt already has its special tokens, the one that begins the text too: the engine must add none."""
    for item in items:
        arguments = [part.format(model=a.model, prompt=item["prompt"], tokens=a.tokens)
                     for part in shlex.split(a.command)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=a.timeout)
        if done.returncode:
            sys.exit(f"{arguments[0]} ended with {done.returncode} on {item['id']}: {done.stderr.strip()}")
        yield json.loads(done.stdout)[a.field] if a.field else done.stdout


def run_llama_cpp(items, a):
    import llama_cpp
    engine = llama_cpp.Llama(a.model, n_ctx=2048, n_threads=a.threads, verbose=False)
    stops = {engine.token_eos(), engine.tokenize(b"<|eot_id|>", add_bos=False, special=True)[0]}
    for item in items:
        tokens = engine.tokenize(item["prompt"].encode(), add_bos=False, special=True)
        answer = []
        for token in engine.generate(tokens, temp=0.0, top_k=1, repeat_penalty=1.0):
            if token in stops or len(answer) == a.tokens:
                break
            answer.append(token)
        yield engine.detokenize(answer).decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(HERE.parents[1] / "models" / "samepage-demo-q8_0.gguf"))
    parser.add_argument("--heldout", default=str(HERE / "heldout.jsonl"))
    parser.add_argument("--engine", default="command", choices=("command", "llama_cpp"))
    parser.add_argument("--command", default=COMMAND)
    parser.add_argument("--field", default="text", help="of the command's JSON (text)")
    parser.add_argument("--tokens", type=int, default=48, help="at most so many in an answer (48)")
    parser.add_argument("--threads", type=int, default=2, help="for llama_cpp (2)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one command (120)")
    parser.add_argument("--limit", type=int, help="only the first so many items of each kind")
    parser.add_argument("--least", type=float, default=0.0, help="least recall score, 0 to 1, for success")
    parser.add_argument("--show", type=int, default=0, help="so many wrong answers of each kind")
    parser.add_argument("--answers", help="write items and answers here, one JSON object a line")
    a = parser.parse_args()

    items, seen = [], {}
    for item in heldout.read(a.heldout):
        seen[item["kind"]] = seen.get(item["kind"], 0) + 1
        if a.limit is None or seen[item["kind"]] <= a.limit:
            items.append(item)
    started = time.monotonic()
    engine = run_command if a.engine == "command" else run_llama_cpp
    answers = [answer.split("<|eot_id|>")[0] for answer in engine(items, a)]
    print(f"{len(items)} questions in {time.monotonic() - started:.0f} s")
    if a.answers:
        with open(a.answers, "w") as file:
            for item, answer in zip(items, answers):
                file.write(json.dumps(dict(item, answer=answer), ensure_ascii=False) + "\n")
    return 0 if heldout.report(items, answers, a.show) >= a.least else 1


if __name__ == "__main__":
    sys.exit(main())
