#!/usr/bin/env python3
"""Write the golden files of the numerics: what llama.cpp computes, and how far that is from double precision.

For each model of models.py in each type: logits of a fixed sequence by llama.cpp, in one batch and token by token, with
flash attention as it chooses by itself and without, each compared with evaluate.py. For the demo model also its greedy
answers in a conversation, more than 200 tokens.

    golden.py                      # tests/golden/logits/
    golden.py -o build/golden      # elsewhere, to be compared (tools/oracle.sh does this)

Needs llama-cpp-python beside the packages of tools/requirements-test.txt.
"""
import argparse
import json
import os
import platform
import sys

import gguf
import numpy as np
from importlib.metadata import version

import engine
import models
import quantise
from evaluate import Model, relative_errors

STORED = 4  # positions whose logits are kept, evenly over the sequence, the last one among them
GREEDY_TOKENS = 200  # at least, in all
ANSWER_TOKENS_MAX = 64
FLASH = ("auto", "off")

# One conversation of the kind that the model was made for; what it says in all of it is more than 200 tokens. (Where
# the model has no opinion, as in a story, every rounding of the activations is another text, and nothing can be
# compared.)
TURNS = (
    "Hello! My name is Ada and my boat is green.",
    "What is Samepage?",
    "My sister Mia has a red kite and lives in Bergen.",
    "What colour is my boat?",
    "What is 7 plus 5?",
    "Where does my sister live?",
    "Who is Samepage for?",
    "My lucky number is 384.",
    "What is a region?",
    "What is my lucky number?",
    "What is a link?",
    "What colour is my sister's kite?",
    "What is a block?",
    "What is my name?",
    "What is a snapshot?",
    "What is an actor?",
    "What is a tape?",
    "What is my sister's name?",
    "What is a session?",
    "What colour is my boat?",
)
SEQUENCE = ("<|start_header_id|>user<|end_header_id|>\n\nTell me a story about a small bird.<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nOnce upon a time there was a small bird. It lived in a "
            "tall tree. One day the bird saw a big red ball in the garden. \"What is that?\" the bird asked. The bird "
            "flew down to look. A girl came and said, \"This is my ball. Do you want to play?\" The bird was happy. "
            "They played all day, and then they went home. The girl told her mom about her new friend. Her mom smiled "
            "and said that it was a good day.")


def origin(system):
    return {
        "command": "tools/oracle/golden.py",
        "llama-cpp-python": engine.ll.__version__,
        "llama.cpp": system,
        "numpy": np.__version__,
        "gguf": version("gguf"),
        "python": platform.python_version(),
    }


def measure(path, tokens, truth):
    """Errors by flash attention and way, and the logits of the default in one batch."""
    errors, logits = {}, None
    for flash in FLASH:
        with engine.Engine(path, len(tokens), flash) as llama:
            for way, step in (("batch", False), ("step", True)):
                got = llama.logits(tokens, step)
                logits = got if logits is None else logits
                largest, rms = relative_errors(got, truth)
                errors[f"{flash}-{way}"] = {"max": float(f"{largest:.4g}"), "rms": float(f"{rms:.4g}")}
    return errors, logits


def stored_positions(count, stored=STORED):
    return [count * (i + 1) // stored - 1 for i in range(stored)]


def save(folder, name, record, rows):
    os.makedirs(folder, exist_ok=True)
    np.concatenate(rows).astype("<f4").tofile(os.path.join(folder, f"{name}.bin"))
    with open(os.path.join(folder, f"{name}.json"), "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def random_model(name, folder, work):
    tokens = models.tokens(name)
    record = {"origin": origin(engine.version()), "options": " ".join(models.options(name)), "tokens": tokens,
              "positions": stored_positions(len(tokens), STORED // 2 if name in models.BLOCKS else STORED), "types": {}}
    rows = []
    for type_ in models.types(name):
        path = models.make(name, type_, work, quantise=lambda *files: quantise.by_llama(*files, True))
        truth = Model(path, len(tokens)).logits(tokens)
        errors, logits = measure(path, tokens, truth)
        record["vocab"] = logits.shape[1]
        # Of a file that llama.cpp wrote: of what is in it, since ours has its tensors in another order.
        hashed = {"digest": quantise.digest(path)} if type_ in models.QUANTISED else {"sha256": models.sha256(path)}
        record["types"][type_] = {**hashed, "errors": errors}
        rows.append(logits[record["positions"]])
        print(f"{name:18} {type_:5}", *(f"{way} {e['rms']:.2e}" for way, e in errors.items()), flush=True)
    save(folder, name, record, rows)


def conversation(llama, model):
    """Each turn's prompt, the whole conversation before it, and the answer."""
    greedy, text, count = [], "", 0
    ends = set(llama.tokenize("<|eot_id|>") + llama.tokenize("<|end_of_text|>"))
    for words in TURNS:
        text += f"<|start_header_id|>user<|end_header_id|>\n\n{words}<|eot_id|>" \
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ids = llama.tokenize(text)
        out, margins = llama.greedy(ids, ANSWER_TOKENS_MAX, ends)
        # Whether the exact evaluation would choose the same: where it does not, rounding decides.
        rows = model.logits(ids + out)[len(ids) - 1:-1]
        exact = int(np.sum(rows.argmax(axis=1) == np.array(out)))
        answer = llama.detokenize(out)
        greedy.append({"prompt": text, "tokens": out, "text": answer,
                       "smallest_margin": float(f"{min(margins):.4g}"), "exact_choices": exact})
        print(f"demo: {words} -> {answer} (smallest margin {min(margins):.3f}, {exact} of {len(out)} as in double)",
              flush=True)
        text += f"{answer}<|eot_id|>"
        count += len(out)
    if count < GREEDY_TOKENS:
        sys.exit(f"the conversation has only {count} tokens of answers")
    return greedy


def demo_model(folder):
    """The same for the demo model, and its greedy text."""
    model = Model(models.DEMO)
    with engine.Engine(models.DEMO, 2048) as llama:
        tokens = llama.tokenize(SEQUENCE)
        greedy = conversation(llama, model)
    truth = model.logits(tokens)
    errors, logits = measure(models.DEMO, tokens, truth)
    record = {"origin": origin(engine.version()), "tokens": tokens, "positions": stored_positions(len(tokens)),
              "vocab": logits.shape[1], "types": {"q8_0": {"sha256": models.sha256(models.DEMO), "errors": errors}},
              "greedy": greedy}
    print(f"{'demo':18} q8_0 ", *(f"{way} {e['rms']:.2e}" for way, e in errors.items()), flush=True)
    save(folder, "demo", record, [logits[record["positions"]]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", default=models.GOLDEN, help="folder (tests/golden/logits)")
    parser.add_argument("--work", default=os.path.join(models.ROOT, "build", "oracle"), help="folder for the models")
    parser.add_argument("names", nargs="*", help="models of models.py, or demo (all)")
    a = parser.parse_args()
    for name in a.names or [*models.MODELS, *models.BLOCKS, *models.FAMILIES, "demo"]:
        if name == "demo":
            demo_model(a.output)
        else:
            random_model(name, a.output, a.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
