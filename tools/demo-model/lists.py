"""Segments of a conversation about a list of things, which can grow."""
import values as pool
import words
from draws import NOVEL, Draws
from facts import ListFact
from phrases import ACKS
from text import capital, mark


class Lists(Draws):
    """Each segment adds one or more exchanges and returns whether it did."""

    def make_list(self, fact=None):
        rng = self.rng
        if fact:
            return self.told_list(self.keep(fact))
        kind = rng.choice(list(pool.LISTS)) if rng.random() < 0.9 else f"{words.novel(rng)} list"
        if ("list", kind) in self.facts:
            return self.grow_list(self.facts[("list", kind)])
        for _ in range(40):
            items = [self.list_item(kind) for _ in range(rng.choice((2, 3, 3, 3, 4, 4, 5)))]
            if len(set(items)) < len(items):
                continue
            if self.allowed("list", kind, *items[:2]):
                break
        return self.told_list(self.keep(ListFact(kind, items)))

    def told_list(self, fact):
        rng, kind = self.rng, fact.kind
        forms = [f"My {kind} is {fact.text}.", f"My {kind}: {fact.text}.", f"My {kind} has {fact.text}.",
                 f"Put {fact.text} on my {kind}.", f"This is my {kind}: {fact.text}.",
                 f"Please remember my {kind}: {fact.text}.", f"On my {kind} there are {fact.text}."]
        if kind == "shopping list":
            forms += [f"I need to buy {fact.text}.", f"I have to buy {fact.text}."]
        if kind == "packing list":
            forms += [f"I need to pack {fact.text}."]
        if kind == "guest list":
            forms += [f"I invited {fact.text}.", f"{fact.text} are on my guest list."]
        answer = rng.choice(ACKS) if rng.random() < 0.5 else f"{rng.choice(('Got it, ', 'Okay, '))}{fact.model()}."
        self.add(rng.choice(forms), answer)
        return True

    def list_item(self, kind, without=()):
        """One thing for a list of that kind that is not yet on it."""
        while True:
            known = pool.LISTS.get(kind)
            if known and self.rng.random() >= NOVEL:
                item = self.rng.choice(known)
            elif kind in ("guest list", "reading list"):
                item = words.novel_name(self.rng)
            else:
                item = words.novel(self.rng)
            if item not in without:
                return item

    def grow_list(self, fact):
        if len(fact.items) > 6:
            return False
        item = self.list_item(fact.kind, fact.items)
        fact.items.append(item)
        form = self.rng.choice((f"Add {{}} to my {fact.kind}.", f"Please add {{}} to the {fact.kind}.",
                                f"Put {{}} on my {fact.kind} too.", f"{{}} must be on my {fact.kind} as well."))
        lead = self.rng.choice(("Okay, ", "Got it, ", "Done: "))
        self.add(capital(form.format(mark(item))), f"{lead}{fact.model()}.")
        return True

    def list_question(self, fact):
        rng, kind, items = self.rng, fact.kind, fact.items
        form = rng.random()
        if form < 0.6:
            ask = rng.choice((f"What is on my {kind}?", f"What's on my {kind}?", f"Read me my {kind}.", f"My {kind}?",
                              f"Tell me my {kind}.", f"What was on my {kind}?", f"Show me my {kind}.",
                              f"Which things are on my {kind}?", f"Do you remember my {kind}?"))
            yes = "Yes, " if ask.startswith("Do you") else ""
            return ask, f"{yes}{fact.model()}." if yes else f"{capital(fact.model())}."
        if form < 0.72:
            ask = rng.choice((f"How many things are on my {kind}?", f"How long is my {kind}?"))
            return ask, f"There are {len(items)} things on your {kind}."
        if form < 0.82:
            return f"What is the first thing on my {kind}?", f"The first thing on your {kind} is {mark(items[0])}."
        if form < 0.9:
            return f"What is the last thing on my {kind}?", f"The last thing on your {kind} is {mark(items[-1])}."
        if rng.random() < 0.5:
            item = rng.choice(items)
            return f"Is {mark(item)} on my {kind}?", f"Yes, {mark(item)} is on your {kind}."
        item = self.list_item(kind, items)
        return f"Is {mark(item)} on my {kind}?", f"No, {mark(item)} is not on your {kind}."
