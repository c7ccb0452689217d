#!/usr/bin/env python3
"""Generate the demo model's training text: conversations in which what was said earlier is asked for later.

    generate.py --seed 1 --dialogues 1000 --out text.jsonl     # for reading, and for training the tokenizer

Everything follows from the seed. train.py imports this module and generates as it trains.

Held out: every pairing of a kind of fact with its value ("colour | boat | green", "name | Ada"), every sum and every
phrasing of a question about Samepage is hashed, and one in HELD_OUT (draws.py) of them never occurs in training. The
evaluation uses only those, and words of unseen.py. So a right answer there was copied or computed, and not remembered.
Products are not held out: the small ones are learned by heart.
"""
import argparse
import json
import random
import sys

import about
import topics
from asking import Asking
from between import Between, story_text
from lists import Lists
from telling import Telling


class Dialogue(Telling, Asking, Lists, Between):
    """One conversation as it is made up."""

    def system(self):
        rng = self.rng
        if rng.random() < 0.55:
            return
        if rng.random() < 0.2:
            name = self.new_fact("name", self.user)
            if name:
                self.keep(name)
                form = rng.choice(("You are talking to {}.", "The user's name is {}.", "The user is called {}.",
                                   "You are a helpful assistant. The user's name is {}."))
                self.put("system", form.format(name.value))
                return
        self.put("system", rng.choice(about.SYSTEM_PROMPTS))

    def run(self, target):
        """Go on until the conversation has about `target` tokens."""
        rng = self.rng
        self.system()
        if rng.random() < 0.25:
            self.small_talk()
        weights = {"tell": 22, "tell_and_ask": 3, "several_things": 3, "two_people": 6, "make_list": 4, "ask": 42,
                   "fix": 8,
                   "ask_missing": 4, "ask_relative": 5, "summary": 2, "summary_person": 2,
                   "between": rng.choice((4, 15, 30, 60, 110))}
        names, shares = list(weights), list(weights.values())
        while self.size < target:
            getattr(self, rng.choices(names, shares)[0])()
        if rng.random() < 0.1:
            said, answers = about.FAREWELLS
            self.add(rng.choice(said), rng.choice(answers))
        return self


def plain_text(rng, target):
    """Text that is no conversation: stories, and what Samepage is, for completion without a chat template."""
    parts, size = [], 0
    while size < target:
        if rng.random() < 0.5:
            text = story_text(rng)
        else:
            text = " ".join(topic["say"] for topic in rng.sample(topics.SAMEPAGE, 4))
        parts.append(text)
        size += len(text) / 4
    return "\n\n".join(parts)


# ---- the Llama 3 chat form

def header(role):
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def chat_text(turns, add_generation_prompt=False):
    text = "<|begin_of_text|>" + "".join(f"{header(role)}{content}<|eot_id|>" for role, content in turns)
    return text + header("assistant") if add_generation_prompt else text


def document(rng, target):
    """One training document of about `target` tokens, in its final form."""
    if rng.random() < 0.02:
        return f"<|begin_of_text|>{plain_text(rng, target)}<|end_of_text|>"
    return chat_text(Dialogue(rng).run(target).turns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dialogues", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=500, help="about how long each is (500)")
    parser.add_argument("--out", default="-", help="a file for one JSON object a line; - prints the text to read")
    a = parser.parse_args()
    rng = random.Random(a.seed)
    file = sys.stdout if a.out == "-" else open(a.out, "w")
    for _ in range(a.dialogues):
        text = document(rng, a.tokens)
        file.write(f"{text}\n----\n" if a.out == "-" else json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
