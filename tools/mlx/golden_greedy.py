#!/usr/bin/env python3
"""Write tests/golden/mlx/greedy.json: what mlx-lm says when it is asked, with the demo model as an MLX folder.

The folder is that of folder.py, and its files are named by hash; questions go through the chat template and mlx-lm's
own tokenizer, and each answer is the likeliest one. Needs tools/bootstrap.sh --mlx.
"""
import argparse
import json
import os
import sys
from importlib.metadata import version

import mlx.core as mx
from mlx_lm import load, stream_generate
from mlx_lm.sample_utils import make_sampler

import cases

GOLDEN = os.path.join(cases.models.ROOT, "tests", "golden", "mlx")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-o", "--output", default=GOLDEN)
    parser.add_argument("--work", default=os.path.join(cases.models.ROOT, "build", "oracle"))
    a = parser.parse_args()
    mx.set_default_device(mx.cpu)
    record = {"origin": {"command": "tools/mlx/golden_greedy.py", "mlx": version("mlx"), "mlx-lm": version("mlx-lm")},
              "models": {}}
    for name in cases.DEMOS:
        path = cases.make_demo(name, a.work)
        model, tokenizer = load(path)
        answers = []
        for question in cases.QUESTIONS:
            prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True,
                                                   tokenize=False)
            ids = tokenizer.encode(prompt, add_special_tokens=False)
            tokens = [int(r.token) for r in stream_generate(model, tokenizer, ids, max_tokens=40,
                                                            sampler=make_sampler(temp=0))]
            if tokens[-1] in tokenizer.eos_token_ids:
                tokens.pop()
            answers.append({"question": question, "prompt": prompt, "ids": ids, "tokens": tokens,
                            "text": tokenizer.decode(tokens)})
            print(name, question, "->", answers[-1]["text"], flush=True)
        record["models"][name] = {"files": cases.digest(path), "answers": answers}
    with open(os.path.join(a.output, "greedy.json"), "w") as file:
        json.dump(record, file, indent=1, ensure_ascii=False)
        file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
