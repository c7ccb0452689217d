#!/usr/bin/env python3
"""Make the evaluation's items, and judge answers to them.

    heldout.py heldout.jsonl     # always the same file

An item is a conversation up to the point where the model answers, in its final form, with the words that a right answer
has (expect) and those that it must not have (reject). All facts, sums and phrasings in it are held out from training
(draws.py says how), or are in unseen.py, which training never sees. Only products are of those that were trained.
"""
import json
import random
import re
import sys

import about
import topics
import unseen
from facts import Fact, ListFact
from generate import Dialogue, chat_text
from kinds import USER_KINDS
from text import capital

SEED = 20240607
RECALL = ("example", "recall-near", "recall-middle", "recall-far", "made-up-word", "sloppy", "people", "correction",
          "list", "yes-no", "two-questions", "unknown", "unseen-word", "unseen-list")  # the kinds that make the recall score; the rest is apart
FAR = 6  # exchanges between telling and asking from which on recall counts as far


def is_right(item, answer):
    """Whether the answer has all expected words, whole and in any case, and none of the rejected ones."""
    def has(words):
        return re.search(r"(?<![\w-])" + re.escape(words) + r"(?!\w)", answer, re.IGNORECASE)
    return all(map(has, item["expect"])) and not any(map(has, item["reject"]))


def report(items, answers, show=0):
    """Print the scores per kind, and the first wrong answers of each kind; returns the recall score."""
    right = {item["id"]: is_right(item, answer) for item, answer in zip(items, answers)}

    def line(name, chosen):
        n = sum(right[item["id"]] for item in chosen)
        print(f"{name:16} {n:4} of {len(chosen):4}  {100 * n / max(1, len(chosen)):5.1f} %")
        return n / max(1, len(chosen))

    kinds = list(dict.fromkeys(item["kind"] for item in items))
    for kind in kinds:
        line(kind, [item for item in items if item["kind"] == kind])
        wrong = [(item, answer) for item, answer in zip(items,
                                                        answers) if item["kind"] == kind and not right[item["id"]]]
        for item, answer in wrong[:show]:
            question = item["prompt"].split("<|eot_id|>")[-2].split("\n\n", 1)[1]
            print(f"    {item['id']}: {question!r} -> {answer.strip()!r}, not {item['reference']!r}")
    recall = line("RECALL", [item for item in items if item["kind"] in RECALL])
    line(f"  {FAR}+ turns back", [item for item in items if item["kind"] in RECALL and item["distance"] >= FAR])
    return recall


def read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


class HeldOut:
    """Conversations that end in a question whose answer is known; all their facts are held out from training."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.items = []

    def dialogue(self, sloppiness=0):
        dialogue = Dialogue(self.rng, heldout=True)
        dialogue.sloppiness = sloppiness
        return dialogue

    def item(self, kind, dialogue, expect, reject=(), distance=0):
        """The last answer of the dialogue is what is to be said; expect and reject are looked for in the output."""
        *before, (role, reference) = dialogue.turns
        assert role == "assistant"
        self.items.append(dict(id=f"{kind}-{len(self.items):03d}", kind=kind, distance=distance,
                               prompt=chat_text(before, True), expect=list(expect), reject=list(reject),
                               reference=reference))

    def fill(self, dialogue, exchanges, budget):
        """Other exchanges that tell nothing of the same kind, until there are so many or the budget is used."""
        for _ in range(exchanges):
            if dialogue.size > budget:
                break
            before = len(dialogue.turns)
            while len(dialogue.turns) == before:
                if self.rng.random() < 0.25:
                    dialogue.tell()
                elif self.rng.random() < 0.2 and len(dialogue.facts) > 1:
                    dialogue.ask()
                else:
                    dialogue.between()

    def start(self, dialogue):
        if self.rng.random() < 0.3:
            dialogue.put("system", self.rng.choice(about.SYSTEM_PROMPTS))

    def fact(self, dialogue, kinds):
        """A new fact about the user, of one of those kinds."""
        while True:
            fact = dialogue.new_fact(self.rng.choice(kinds), dialogue.user)
            if fact:
                return fact

    def recall(self, kind, distance, sloppiness=0, fact_kinds=None, facts=2):
        d = self.dialogue(sloppiness)
        self.start(d)
        told = [self.fact(d, [fact_kind])
                for fact_kind in self.rng.sample(fact_kinds or list(dict.fromkeys(USER_KINDS)), facts)]
        d.tell(told)
        at = d.exchanges()
        self.fill(d, distance, 1500)
        fact = self.rng.choice(told)
        apart = d.exchanges() - at
        question, answer = d.question_and_answer(fact, plain=True)
        d.add(d.question(question), answer)
        others = [f.value for f in told if f is not fact and f.value not in answer]
        self.item(kind, d, [fact.value], [v for v in others if not v.isdigit()], apart)

    def people(self):
        d = self.dialogue()
        self.start(d)
        while not d.two_people():
            pass
        self.fill(d, self.rng.randrange(0, 4), 1500)
        facts = [f for f in d.facts.values() if isinstance(f, Fact) and not f.owner.is_user]
        one = facts[0]
        question, answer = d.question_and_answer(one, plain=True)
        other = next((f for f in facts[1:] if f.kind == one.kind and f.owner is not one.owner), None)
        d.add(d.question(question), answer)
        self.item("people", d, [one.value], [other.value] if other and other.value not in answer else [])

    def correction(self):
        d = self.dialogue()
        self.start(d)
        fact = self.fact(d, "colour colour home age favourite pet my_number the_number".split())
        d.tell([fact])
        self.fill(d, self.rng.randrange(0, 3), 1500)
        before = fact.value
        if not d.fix(fact):  # no other value of this kind is held out
            return self.correction()
        self.fill(d, self.rng.randrange(0, 4), 1500)
        question, answer = d.question_and_answer(fact, plain=True)
        d.add(d.question(question), answer)
        self.item("correction", d, [fact.value], [before] if before not in answer else [])

    def lists(self):
        d = self.dialogue()
        d.make_list()
        fact = next(iter(d.facts.values()))
        self.fill(d, self.rng.randrange(0, 5), 1500)
        if self.rng.random() < 0.4:
            d.grow_list(fact)
        kind = fact.kind
        d.add(self.rng.choice((f"What is on my {kind}?", f"Tell me my {kind}.")), f"{capital(fact.model())}.")
        self.item("list", d, fact.items)

    def yes_no(self):
        d = self.dialogue()
        fact = self.fact(d, "colour colour home age favourite pet".split())
        d.tell([fact])
        self.fill(d, self.rng.randrange(0, 4), 1500)
        truth = self.rng.random() < 0.5
        question, answer = d.yes_no(fact, truth)
        d.add(question, answer)
        self.item("yes-no", d, ["Yes" if answer.startswith("Yes") else "No", fact.value])

    def two_questions(self):
        d = self.dialogue()
        facts = [self.fact(d, ["name", "home"]), self.fact(d, ["colour"])]
        d.tell(facts)
        self.fill(d, self.rng.randrange(0, 5), 1500)
        d.ask_two(*facts)
        self.item("two-questions", d, [f.value for f in facts])

    def unseen_word(self, kind, thing, value):
        """A word that is in no list and no training text, as an object or a value."""
        d = self.dialogue()
        self.start(d)
        fact = Fact(d.user, kind, thing, value)
        d.tell([fact])
        at = d.exchanges()
        self.fill(d, self.rng.randrange(0, 5), 1500)
        apart = d.exchanges() - at
        question, answer = d.question_and_answer(fact, plain=True)
        d.add(question, answer)
        self.item("unseen-word", d, [value] + ([thing] if thing in answer.split() else []), distance=apart)

    def unseen_list(self, kind, items):
        d = self.dialogue()
        d.make_list(ListFact(kind, items))
        self.fill(d, self.rng.randrange(0, 3), 1500)
        fact = d.facts[("list", kind)]
        d.add(f"What is on my {kind}?", f"{capital(fact.model())}.")
        self.item("unseen-list", d, items)

    def free_question(self, name, question):
        topic = next(t for t in topics.SAMEPAGE + topics.SELF if t["id"] == name)
        assert not any(question in topics.phrasings(pattern) for pattern in topic["ask"])
        d = self.dialogue()
        d.put("user", question)
        d.put("assistant", topic["say"])
        self.item("samepage-free", d, topic["key"])

    def unknown(self):
        d = self.dialogue()
        d.tell()
        self.fill(d, self.rng.randrange(0, 3), 1500)
        while not d.ask_missing():
            pass
        self.item("unknown", d, ["haven't told me"])

    def readme(self):
        """The example that the documentation uses."""
        for colour_question in ("What colour is my boat?", "What color is my boat?", "what colour is my boat"):
            d = self.dialogue()
            d.put("user", "My name is Ada and my boat is green.")
            d.put("assistant", "Nice to meet you, Ada! Your boat is green.")
            d.put("user", colour_question)
            d.put("assistant", "Your boat is green.")
            self.item("example", d, ["green"])
            d.put("user", "What is my name?")
            d.put("assistant", "Your name is Ada.")
            self.item("example", d, ["Ada"])

    def make(self):
        rng = self.rng
        self.readme()
        for _ in range(36):
            self.recall("recall-near", 0)
        for _ in range(36):
            self.recall("recall-middle", rng.randrange(2, 6))
        for _ in range(48):
            self.recall("recall-far", rng.choice((rng.randrange(6, 16), rng.randrange(16, 50))),
                        facts=rng.choice((1, 2, 3)))
        for _ in range(24):
            self.recall("made-up-word", rng.randrange(0, 5), fact_kinds=["the_word", "the_number", "my_number"])
        for _ in range(24):
            self.recall("sloppy", rng.randrange(0, 5), sloppiness=1)
        for make, times in ((self.people, 30), (self.correction, 30), (self.lists, 16), (self.yes_no, 20),
                            (self.two_questions, 16), (self.unknown, 12)):
            for _ in range(times):
                make()
        for fact in unseen.FACTS:
            self.unseen_word(*fact)
        for entry in unseen.LISTS:
            self.unseen_list(*entry)
        for kind, ops, times in (("sum", "+-", 40), ("product", "*", 40)):
            for _ in range(times):
                d = self.dialogue()
                result = d.arithmetic(ops)
                self.item(kind, d, [f"= {result}."])
        for _ in range(40):
            d = self.dialogue()
            topic = d.samepage()
            self.item("samepage", d, topic["key"])
        for entry in unseen.QUESTIONS:
            self.free_question(*entry)
        for _ in range(10):
            d = self.dialogue()
            self.item("repeat", d, [d.repeat()])
        return self.items


def main():
    with open(sys.argv[1], "w") as file:
        for item in HeldOut(SEED).make():
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
