"""A conversation while it is made up: its turns so far, its people and what was said of them."""
from facts import Owner
from phrases import LEADS
from sloppy import sloppy
from text import OPEN, capital, unmark


class Conversation:
    """Puts turns down."""

    def __init__(self, rng, heldout=False):
        self.rng, self.heldout = rng, heldout
        self.turns = []                 # (role, text)
        self.facts, self.old = {}, {}   # key: Fact; key: values that a fact had before
        self.last_told = None
        self.user, self.people = Owner(), []
        self.used = set()               # names and relations that are taken
        self.american = rng.random() < 0.4
        self.sloppiness = rng.choice((0, 0, 0, 0.1, 0.5, 0.9))
        self.size = 0                   # estimated tokens

    def spell(self, text):
        if self.american:
            text = text.replace("olour", "olor").replace("avourite", "avorite")
        return text

    def add(self, user, model):
        """One exchange. Values in both are still marked."""
        if self.rng.random() < self.sloppiness:
            user = sloppy(user, self.rng)
        self.put("user", unmark(self.spell(user)))
        self.put("assistant", unmark(self.spell(model)))

    def put(self, role, text):
        self.turns.append((role, text.strip()))
        self.size += len(text) / 4.0 + 5

    def exchanges(self):
        return sum(role == "user" for role, _ in self.turns)

    def question(self, text):
        """A question with something before it now and then."""
        lead = self.rng.choice(LEADS)
        if lead and not text.startswith(OPEN) and not text.startswith("I "):
            text = text[0].lower() + text[1:] if not text[:2].isupper() else text
        return capital(lead + text)
