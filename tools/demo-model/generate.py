#!/usr/bin/env python3
"""Generate the demo model's training text: conversations in which what was said earlier is asked for later.

    generate.py --seed 1 --dialogues 1000 --out text.jsonl     # for reading, and for training the tokenizer

Everything follows from the seed. train.py imports this module and generates as it trains.

Held out: every pairing of a kind of fact with its value ("colour | boat | green", "name | Ada"), every sum and every
phrasing of a question about Samepage is hashed, and one in HELD_OUT of them never occurs in training. The evaluation
uses only those, and words of unseen.py. So a right answer there was copied or computed, and not remembered. Products are
not held out: the small ones are learned by heart.
"""
import argparse
import json
import random
import re
import sys
import zlib

import about
import topics
import values as pool
import words
from words import made_up

HELD_OUT = 12  # one pairing in so many is kept for the evaluation

# A value inside a text stands between these two until the text is final: typos spare it.
OPEN, CLOSE = "\x02", "\x03"


def mark(value):
    return f"{OPEN}{value}{CLOSE}"


def unmark(text):
    return text.replace(OPEN, "").replace(CLOSE, "")


def is_held_out(*parts):
    return zlib.crc32("|".join(map(str, parts)).encode()) % HELD_OUT == 0


def capital(text):
    """The text with its first letter as a capital, also when that letter lies inside a marked value."""
    i = 1 if text.startswith(OPEN) else 0
    return text[:i] + text[i:i + 1].upper() + text[i + 1:]


def join(parts, last=" and "):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + last + parts[-1]


def a_or_an(word):
    return "an" if word.strip(OPEN)[:1].lower() in "aeiou" else "a"


def number_text(rng):
    digits = rng.choice((1, 2, 2, 3, 3, 4, 4))
    return str(rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10 ** digits))


# ---- who a fact is about

class Owner:
    """The user (name and relation None), or another person whom the user talks about."""

    def __init__(self, name=None, relation=None):
        self.name, self.relation, self.introduced = name, relation, False
        self.is_user = name is None and relation is None

    def user_words(self, rng):
        """How the user refers to this owner now."""
        if self.is_user:
            return dict(my="my", I="I", have="have", s="", do="do", am="am")
        if self.name is None:
            who = f"my {self.relation}"
        elif self.relation is None:
            who = mark(self.name)
        elif not self.introduced:
            who = f"my {self.relation} {mark(self.name)}"
        else:
            who = mark(self.name) if rng.random() < 0.8 else f"my {self.relation}"
        self.introduced = True
        return dict(my=f"{who}'s", I=who, have="has", s="s", do="does", am="is")

    def model_words(self):
        if self.is_user:
            return dict(your="your", you="you", have="have", s="", are="are")
        who = mark(self.name) if self.name else f"your {self.relation}"
        return dict(your=f"{who}'s", you=who, have="has", s="s", are="is")


# ---- kinds of facts
# tell, ask, yes_no, fix, reverse: the user's words; say: the model's; what: the thing asked for, in the user's words
# (indirect, | between the ways to say it); what_you: the same in the model's. @ begins what
# is said about the user only.
# Slots: {v} value, {o} object, and those of Owner and Fact.words.

def K(tell, ask, say, what, what_you, yes_no=(), fix=(), reverse=()):
    return dict(tell=tell, ask=ask, say=say, what=what, what_you=what_you, yes_no=yes_no, fix=fix, reverse=reverse)


KINDS = {
    "name": K(
        ["my name is {v}", "I'm {v}", "I am {v}", "call me {v}", "people call me {v}", "you can call me {v}",
         "{v} is my name", "this is {v}", "the name is {v}", "my name's {v}", "my friends call me {v}", "I go by {v}",
         "I am called {v}", "it's {v} here"],
        ["What is my name?", "What's my name?", "Who am I?", "What am I called?", "Say my name.", "What was my name?",
         "What name did I give you?", "How am I called?", "My name is what?", "What did I say my name was?"],
        "your name is {v}", "my name", "your name",
        ["Is my name {v}?", "Am I {v}?", "Am I called {v}?"],
        ["I changed my name to {v}", "my real name is {v}", "please call me {v} from now on"]),
    "colour": K(
        ["{my} {o} {is} {v}", "{I} {have} {a_v} {o}", "{my} {o} {is} {v} in colour", "the colour of {my} {o} is {v}",
         "{I} own{s} {a_v} {o}", "{I} bought {a_v} {o}", "{I} got {a_v} {o}", "{my} {o} {is} painted {v}",
         "{my} {o} {is} {v}, by the way", "{I} painted {my2} {o} {v}", "{my} new {o} {is} {v}"],
        ["What colour {is} {my} {o}?", "What is the colour of {my} {o}?", "What's the colour of {my} {o}?",
         "Which colour {is} {my} {o}?", "What colour {was} {my} {o}?", "{my} {o} {is} what colour?",
         "What colour did I say {my} {o} {was}?", "Which colour {do} {my} {o} have?", "What colour {is} {my} {o} now?",
         "Colour of {my} {o}?", "In which colour {is} {my} {o} painted?"],
        "{your} {o} {is} {v}", "the colour of {my} {o}|what colour {my} {o} {is}", "what colour {your} {o} {is}",
        ["{is} {my} {o} {v}?", "{do2} {I} have {a_v} {o}?"],
        ["{I} painted {my2} {o} {v}", "{my} {o} {is} {v} now", "{my} {o} turned {v}", "{I} made {my2} {o} {v}"],
        [("Who has {a_v} {o}?", "{you} {have} {a_v} {o}"), ("Whose {o} {is} {v}?", "{your} {o} {is} {v}")]),
    "pet": K(
        ["{my} {o} is called {v}", "{I} {have} {a_o} {o} called {v}", "{I} {have} {a_o} {o} named {v}",
         "{my} {o}'s name is {v}", "the name of {my} {o} is {v}", "{my} {o} is named {v}",
         "{I} {have} {a_o} {o} and its name is {v}", "{I} got {a_o} {o} and called it {v}"],
        ["What is {my} {o} called?", "What is the name of {my} {o}?", "What's the name of {my} {o}?",
         "What is {my} {o}'s name?", "How is {my} {o} called?", "{my} {o} is called what?",
         "What did I say {my} {o} was called?", "What was {my} {o}'s name?"],
        "{your} {o} is called {v}", "the name of {my} {o}|what {my} {o} is called", "what {your} {o} is called",
        ["Is {my} {o} called {v}?", "Is {v} {my} {o}?", "Is {v} the name of {my} {o}?"],
        ["{my} {o} is called {v} now", "we call {my} {o} {v} now", "{my} {o} got a new name, {v}"],
        [("Who is {v}?", "{v} is {your} {o}"), ("What kind of animal is {v}?", "{v} is {a_o} {o}"),
         ("Who or what is {v}?", "{v} is {your} {o}")]),
    "boat": K(
        ["{my} boat is called {v}", "{my} boat's name is {v}", "the name of {my} boat is {v}",
         "{I} {have} a boat called {v}", "{I} named {my2} boat {v}"],
        ["What is {my} boat called?", "What is the name of {my} boat?", "What's {my} boat's name?",
         "What did I say {my} boat is called?", "How is {my} boat called?"],
        "{your} boat is called {v}", "the name of {my} boat|what {my} boat is called", "what {your} boat is called",
        ["Is {my} boat called {v}?"], ["{my} boat is called {v} now"]),
    "relation": K(
        ["my {o} is called {v}", "my {o}'s name is {v}", "I have {a_o} {o} called {v}", "my {o} is named {v}",
         "{v} is my {o}", "the name of my {o} is {v}"],
        ["What is my {o} called?", "What is my {o}'s name?", "What is the name of my {o}?", "Who is my {o}?",
         "What's my {o}'s name?", "What was the name of my {o}?"],
        "your {o} is called {v}", "my {o}'s name|what my {o} is called", "what your {o} is called",
        ["Is my {o} called {v}?", "Is {v} my {o}?"], ["my new {o} is called {v}", "my {o} is called {v} now"],
        [("Who is {v}?", "{v} is your {o}"), ("How do I know {v}?", "{v} is your {o}")]),
    "home": K(
        ["{I} live{s} in {v}", "{my} home is in {v}", "{my} house is in {v}", "{I} {am} living in {v}",
         "{I} {have} a flat in {v}", "{my} home town is {v}", "the city where {I} live{s} is {v}"],
        ["Where {do} {I} live?", "Which city {do} {I} live in?", "In which city {do} {I} live?",
         "What city {do} {I} live in?",
         "Where is {my} home?", "Where did I say {I} live{s}?", "What is {my} city?"],
        "{you} live{s} in {v}", "where {I} live{s}", "where {you} live{s}",
        ["{do2} {I} live in {v}?", "Is {my} home in {v}?"],
        ["{I} moved to {v}", "{I} live{s} in {v} now", "{I} {have} moved to {v}"],
        [("Who lives in {v}?", "{you} live{s} in {v}")]),
    "origin": K(
        ["{I} come{s} from {v}", "{I} {am} from {v}", "{I} grew up in {v}", "{I} {was_p} born in {v}"],
        ["Where {am} {I} from?", "Where {do} {I} come from?", "What city {am} {I} from?",
         "Where did I say {I} {am} from?"],
        "{you} {are} from {v}", "where {I} {am} from", "where {you} {are} from",
        ["{am2} {I} from {v}?", "{do2} {I} come from {v}?"], ["{I} really come{s} from {v}"],
        [("Who is from {v}?", "{you} {are} from {v}"), ("Who comes from {v}?", "{you} {are} from {v}")]),
    "age": K(
        ["{I} {am} {v} years old", "{I} {am} {v}", "{my} age is {v}", "{I} turned {v} last week",
         "{I} just turned {v}"],
        ["How old {am} {I}?", "What is {my} age?", "What's {my} age?", "What age {am} {I}?",
         "How old did I say {I} {am}?"],
        "{you} {are} {v} years old", "{my} age|how old {I} {am}", "how old {you} {are}",
        ["{am2} {I} {v} years old?", "{am2} {I} {v}?"], ["{I} {am} {v} now", "{I} {am} {v} today"],
        [("Who is {v} years old?", "{you} {are} {v} years old")]),
    "favourite": K(
        ["{my} favourite {o} is {v}", "{I} like{s} {v} best", "{my} favourite {o}: {v}",
         "the {o} that {I} like{s} best is {v}",
         "{v} is {my} favourite {o}", "@for me the best {o} is {v}", "my fave {o} is {v}"],
        ["What is {my} favourite {o}?", "What's {my} favourite {o}?", "Which {o} {do} {I} like best?",
         "Which is {my} favourite {o}?", "What {o} {do} {I} like best?", "{my} favourite {o} is what?",
         "What {o} {do} {I} like most?", "What did I say {my} favourite {o} is?", "{my} favourite {o}?"],
        "{your} favourite {o} is {v}", "{my} favourite {o}|which {o} {I} like{s} best", "{your} favourite {o}",
        ["Is {my} favourite {o} {v}?", "Is {v} {my} favourite {o}?"],
        ["{my} favourite {o} is {v} now", "now {I} like{s} {v} best"]),
    "job": K(
        ["{I} work{s} as {a_v}", "{my} job is {v_job}", "{I} {am} {a_v}", "{I} {am} {a_v} by profession",
         "{I} earn{s} {my2} living as {a_v}"],
        ["What {do} {I} do for a living?", "What is {my} job?", "What's {my} job?", "What {do} {I} work as?",
         "What kind of work {do} {I} do?", "What did I say {my} job is?"],
        "{you} work{s} as {a_v}", "{my} job|what {I} do{es} for a living", "what {your} job is",
        ["{am2} {I} {a_v}?", "{do2} {I} work as {a_v}?"], ["{I} work{s} as {a_v} now", "{I} became {a_v}"],
        [("Who is {a_v}?", "{you} work{s} as {a_v}"), ("Who works as {a_v}?", "{you} work{s} as {a_v}")]),
    "my_number": K(
        ["{my} {o} is {v}", "{I} {have} the {o} {v}", "{v} is {my} {o}", "{my} {o}: {v}", "note that {my} {o} is {v}",
         "remember that {my} {o} is {v}"],
        ["What is {my} {o}?", "What's {my} {o}?", "What was {my} {o}?", "Which is {my} {o}?", "{my} {o}?",
         "What did I say {my} {o} is?", "Give me {my} {o}."],
        "{your} {o} is {v}", "{my} {o}", "{your} {o}",
        ["Is {my} {o} {v}?", "Is {v} {my} {o}?"], ["{my} {o} is {v} now", "{my} new {o} is {v}"],
        [("What is {v}?", "{v} is {your} {o}")]),
    "the_number": K(
        ["the {o} is {v}", "remember the {o}: {v}", "the {o} is {v}, remember it",
         "please remember that the {o} is {v}",
         "{v} is the {o}", "note the {o}: {v}", "keep in mind that the {o} is {v}",
         "don't forget that the {o} is {v}"],
        ["What is the {o}?", "What's the {o}?", "What was the {o}?", "Give me the {o}.", "The {o}?",
         "Which is the {o}?",
         "What did I say the {o} is?", "I need the {o}."],
        "the {o} is {v}", "the {o}", "the {o}",
        ["Is the {o} {v}?", "Is {v} the {o}?"], ["the {o} is {v} now", "the new {o} is {v}"],
        [("What is {v}?", "{v} is the {o}")]),
    "event": K(
        ["{my} {o} is {v}", "{I} {have} {a_o} {o} {v}", "{my} {o} will be {v}", "remember that {my} {o} is {v}",
         "@there is {a_o} {o} for me {v}"],
        ["When is {my} {o}?", "When {do} {I} have {my2} {o}?", "When was {my} {o} again?", "When will {my} {o} be?",
         "When did I say {my} {o} is?"],
        "{your} {o} is {v}", "when {my} {o} is", "when {your} {o} is",
        ["Is {my} {o} {v}?"], ["{my} {o} was moved and is {v} now", "{my} {o} is {v} now"],
        [("What do I have {v}?", "{your} {o} is {v}"), ("What happens {v}?", "{your} {o} is {v}")]),
    "spot": K(
        ["{my} {o} {is} {v}", "{I} put {my2} {o} {v}", "{I} left {my2} {o} {v}", "{my} {o} {is} lying {v}",
         "{I} hid {my2} {o} {v}"],
        ["Where {is} {my} {o}?", "Where did {I} put {my2} {o}?", "Where did {I} leave {my2} {o}?",
         "Where can I find {my} {o}?", "Where {was} {my} {o}?", "Where did I say {my} {o} {is}?"],
        "{your} {o} {is} {v}", "where {my} {o} {is}", "where {your} {o} {is}",
        ["{is} {my} {o} {v}?"], ["{I} moved {my2} {o} and now {it_is} {v}", "{my} {o} {is} {v} now"],
        [("What is {v}?", "{your} {o} {is} {v}")]),
    "where": K(  # persons only
        ["{I} is {v}", "{I} is standing {v}", "{I} is waiting {v}", "{I} is sitting {v}"],
        ["Where is {I}?", "Where is {I} now?", "Where can I find {I}?", "Where did I say {I} is?"],
        "{you} is {v}", "where {I} is", "where {you} is",
        ["Is {I} {v}?"], ["{I} is {v} now", "now {I} is {v}"],
        [("Who is {v}?", "{you} is {v}")]),
    "count": K(
        ["{I} {have} {v} {o}", "{I} own{s} {v} {o}", "the number of {o} {I} {have} is {v}"],
        ["How many {o} {do} {I} have?", "How many {o} {do} {I} own?", "How many {o} did I say {I} {have}?"],
        "{you} {have} {v} {o}", "how many {o} {I} {have}", "how many {o} {you} {have}",
        ["{do2} {I} have {v} {o}?"], ["{I} {have} {v} {o} now"],
        [("Who has {v} {o}?", "{you} {have} {v} {o}")]),
    "like": K(
        ["{I} like{s} {v}", "{I} love{s} {v}", "{I} really like{s} {v}", "{I} {am} fond of {v}"],
        ["What {do} {I} like?", "What {do} {I} love?", "What did I say {I} like{s}?"],
        "{you} like{s} {v}", "what {I} like{s}", "what {you} like{s}",
        ["{do2} {I} like {v}?"], ["{I} like{s} {v} now"], [("Who likes {v}?", "{you} like{s} {v}")]),
    "dislike": K(
        ["{I} {dont} like {v}", "{I} hate{s} {v}", "{I} can't stand {v}", "{I} dislike{s} {v}"],
        ["What {do} {I} not like?", "What {do} {I} hate?", "What {do} {I} dislike?", "What can't {I} stand?"],
        "{you} {dont} like {v}", "what {I} {dont} like", "what {you} {dont} like",
        ["{do2} {I} hate {v}?"], (), [("Who hates {v}?", "{you} {dont} like {v}")]),
}
KINDS["the_word"] = KINDS["the_number"]
KINDS["my_word"] = KINDS["my_number"]

USER_KINDS = ("name name colour colour colour pet pet boat home origin age favourite favourite favourite job my_number "
              "my_number my_word my_word the_number the_word event spot spot count like dislike relation relation").split()
PERSON_KINDS = "colour colour pet home origin age favourite favourite job count event spot where like dislike".split()
LIKES = [v for kind in ("food", "fruit", "drink", "sport", "music", "animal", "game", "dessert")
         for v in pool.FAVOURITES[kind]]
# What may stand for an object without being marked: typos may hit it, since a model that knows it can mend it.
KNOWN_THINGS = {thing for values in (pool.THINGS, pool.PLURAL_THINGS, pool.ANIMALS, pool.COUNTED, pool.LEFT_THINGS,
                                     pool.LEFT_PLURAL, pool.RELATIONS, pool.FAVOURITES, pool.EVENTS, pool.MY_NUMBERS,
                                     pool.THE_NUMBERS, pool.THE_WORDS, pool.MY_WORDS) for thing in values}
NOVEL = 0.25  # share of objects and of values that come from outside their list
NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve twenty".split()


class Fact:
    """One thing that the user has said: whose, of which kind, about which object, and its value."""

    def __init__(self, owner, kind, thing, value):
        self.owner, self.kind, self.thing, self.value = owner, kind, thing, value
        self.turn = 0          # when it was told
        self.templates = KINDS[kind]

    @property
    def key(self):
        return (id(self.owner), self.kind, self.thing)

    @property
    def shown(self):
        """The object as it stands in the text."""
        return mark(self.thing) if self.thing and self.thing not in KNOWN_THINGS else self.thing or ""

    def words(self, value):
        plural = self.thing in pool.PLURAL_THINGS or self.thing in pool.LEFT_PLURAL
        v, o, person = mark(value), self.shown, not self.owner.is_user
        return dict(
            v=v, o=o, a_o=a_or_an(o), a_v=v if plural else f"{a_or_an(value)} {v}",
            v_job=f"{a_or_an(value)} {v}", es="es" if person else "", was_p="was",
            dont="doesn't" if person else "don't",
            do2="does" if person else "do", am2="is" if person else "am",
            my2="the" if person else "my", it_is="they are" if plural else "it is",
            **{"is": "are" if plural else "is", "was": "were" if plural else "was"})

    def user(self, template, rng, value=None):
        """A template in the user's words."""
        if template.startswith("@"):
            template = template[1:] if self.owner.is_user else self.templates["tell"][0]
        words = self.words(self.value if value is None else value)
        words.update(self.owner.user_words(rng))
        if self.kind == "colour" and "Which colour {do}" in template:
            words["do"] = "do" if words["is"] == "are" else "does"
        return template.format(**words)

    def model(self, template=None):
        """A template, by default the statement of this fact, in the model's words."""
        words = self.words(self.value)
        words.update(self.owner.model_words())
        return (template or self.templates["say"]).format(**words)


class ListFact:
    """A list of things; it can grow."""

    def __init__(self, kind, items):
        self.owner, self.kind, self.items, self.turn = None, kind, items, 0

    key = property(lambda self: ("list", self.kind))
    text = property(lambda self: join([mark(item) for item in self.items]))

    def model(self):
        return f"your {self.kind} has {self.text}"


# ---- the user's hands: sloppy typing

def sloppy(text, rng):
    """The text as somebody in a hurry types it. Made-up values stay as they are; known ones may lose their capital."""
    style = rng.random()
    lower = style < 0.75
    parts = re.split(f"({OPEN}.*?{CLOSE})", text)
    for i, part in enumerate(parts):
        if part.startswith(OPEN):
            if lower and part[1:-1] in KNOWN_CAPITALS and rng.random() < 0.8:
                parts[i] = part.lower()
            continue
        if lower:
            part = part.lower()
        if rng.random() < 0.5:
            part = part.replace("'", "")
        for long, short in (("What is", "whats"), ("what is", "whats"), (" you ", " u "), ("please", "pls"),
                            (" are ", " r "), (" and ", " & "), ("favourite", "fav"), ("favorite", "fav")):
            if long in part and rng.random() < 0.15:
                part = part.replace(long, short)
        if rng.random() < 0.45:
            part = typo(part, rng)
        parts[i] = part
    text = "".join(parts)
    if rng.random() < 0.6:
        text = re.sub(f"[.?!]+({CLOSE}?)$", r"\1", text)
    if rng.random() < 0.2:
        text = text.replace(",", "")
    if rng.random() < 0.05:
        text = text + rng.choice(("??", "!!", "...", " :)"))
    return text


def typo(text, rng):
    spots = [m.start() for m in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])", text)]
    if not spots:
        return text
    i = rng.choice(spots)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1:]                             # one left out
    if kind == 1:
        return text[:i] + text[i] + text[i:]                       # one typed twice
    if kind == 2:
        return text[:i] + text[i + 1] + text[i] + text[i + 2:]     # two swapped
    return text[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1:]


KNOWN_CAPITALS = set(pool.NAMES) | set(pool.CITIES) | set(pool.PET_NAMES) | set(pool.BOAT_NAMES) | \
    set(pool.DAYS) | set(pool.MONTHS) | set(pool.FAVOURITES["planet"])

ACKS = ["Got it.", "Okay.", "Noted.", "Okay, I'll remember that.", "I'll remember that.", "Thanks for telling me.",
        "Good to know.", "Okay, noted.", "Understood.", "Alright, I'll keep that in mind.", "I'll keep that in mind.",
        "All right.", "Thank you, I'll remember."]
LEADS = ["", "", "", "", "", "", "", "So, ", "Now, ", "And ", "Okay, ", "Hey, ", "Quick question: ", "One question: ",
         "By the way, ", "Tell me: ", "Please tell me: ", "Question: ", "Just checking: ", "Now tell me: ", "Well, ",
         "One more thing: ", "Again: ", "Hm, "]
WRAPS = [("Do you remember {}?", "Yes, "), ("Do you know {}?", "Yes, "), ("Do you still know {}?", "Yes, "),
         ("Can you tell me {}?", ""), ("Tell me {}.", ""), ("Please tell me {}.", ""), ("I forgot {}.", ""),
         ("Could you tell me {}?", ""), ("I can't remember {}.", ""), ("I'd like to know {}.", ""),
         ("Remember {}?", "Yes, "), ("Do you recall {}?", "Yes, "), ("Say {}.", ""), ("I want to know {}.", "")]
TELL_LEADS = ["", "", "", "", "", "", "", "", "Hi, ", "Hello, ", "By the way, ", "Also, ", "Just so you know, ",
              "Oh, ",
              "You should know that ", "Remember that ", "Remember: ", "Please remember that ", "Well, ", "Note that ",
              "Let me tell you something: ", "I want to tell you that ", "So, ", "FYI, ", "And "]
FIX_LEADS = ["Actually, ", "Actually ", "No wait, ", "Wait, ", "Sorry, ", "Correction: ", "I made a mistake: ",
             "I was wrong, ", "Something changed: ", "News: ", "Update: ", "No, ", "Change that: ", "Oh, ", ""]
SUBJECT_QUESTIONS = [
    "What is {}?", "What's {}?", "Explain {}.", "Can you tell me what {} is?", "Tell me about {}.", "Define {}.",
    "What is {} in Samepage?", "Do you know what {} is?", "{}?", "Please explain {} to me.", "What exactly is {}?",
    "I want to know what {} is.", "Could you explain {}?", "Describe {}.", "So what is {}?", "And what is {}?",
    "What is meant by {}?", "What does {} mean?", "Can you explain {}?", "Tell me what {} is.", "whats {}",
    "How would you explain {}?", "I don't know what {} is.", "In Samepage, what is {}?", "What do you mean by {}?",
    "What was {} again?", "In short, what is {}?", "Tell me more about {}.", "Give me a definition of {}.", "Sum up {}.",
    "I want to understand {}.", "What should I know about {}?", "Teach me what {} is.", "Help me understand {}.",
    "What is {}, in simple words?", "Say what {} is.", "I have a question: what is {}?", "What does {} do?"]


class Dialogue:
    """One conversation as it is made up: its facts, its people, and its turns so far."""

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

    # -- putting turns down

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

    # -- making facts up

    def allowed(self, *parts):
        return is_held_out(*parts) == self.heldout

    def new_name(self, made_up_share=0.3):
        """A name for a person, not yet taken in this conversation."""
        while True:
            known = self.rng.random() >= made_up_share
            name = self.rng.choice(pool.NAMES) if known else self.rng.choice(
                (made_up(self.rng).capitalize(), words.novel_name(self.rng)))
            if name not in self.used and self.allowed("name", name):
                self.used.add(name)
                return name

    def new_person(self):
        name = self.new_name()
        free = [r for r in pool.RELATIONS if r not in self.used]
        form = self.rng.random()
        relation = self.rng.choice(free) if free and form < 0.6 else None
        if relation:
            self.used.add(relation)
        person = Owner(None if relation and form < 0.12 else name, relation)
        self.people.append(person)
        return person

    def person(self, share_new=0.35):
        if not self.people or (len(self.people) < 5 and self.rng.random() < share_new):
            return self.new_person()
        return self.rng.choice(self.people)

    def favourite_value(self, thing):
        """A value that fits a favourite of that kind; nearly always a new word where the kind itself is new."""
        known = pool.FAVOURITES.get(thing)
        return self.rng.choice(known) if known and self.rng.random() >= NOVEL else words.novel(self.rng)

    def spot_value(self):
        rng = self.rng
        return f"{rng.choice(pool.PLACES_BEFORE)} {words.novel(rng)}" if rng.random() < NOVEL else rng.choice(pool.SPOTS)

    def event_value(self):
        rng = self.rng
        when = rng.random()
        if when < 0.38:
            return f"on {rng.choice(pool.DAYS)}"
        if when < 0.6:
            return f"at {rng.randrange(1, 13)} o'clock"
        if when < 0.75:
            return f"in {rng.choice(pool.MONTHS)}"
        if when < 0.9:
            return f"on {rng.randrange(1, 29)} {rng.choice(pool.MONTHS)}"
        return f"{rng.choice(pool.TIMES_BEFORE)} {words.novel(rng)}"

    def draw(self, kind, owner):
        """An object and a value for a fact of that kind. Both may be words that are in no list."""
        rng = self.rng

        def thing(known):
            return words.novel(rng) if rng.random() < 0.6 * NOVEL else rng.choice(known)

        def value(known):
            return words.novel(rng) if rng.random() < NOVEL else rng.choice(known)

        def name(known):
            return words.novel_name(rng) if rng.random() < NOVEL else rng.choice(known)

        if kind == "name":
            return None, self.new_name(0.35)
        if kind == "colour":
            what = rng.choice(pool.PLURAL_THINGS) if rng.random() < 0.08 else thing(pool.THINGS)
            return what, value(pool.COMMON_COLOURS if rng.random() < 0.6 else pool.COLOURS)
        if kind == "pet":
            return thing(pool.ANIMALS), name(pool.PET_NAMES + pool.NAMES[::3])
        if kind == "boat":
            return None, name(pool.BOAT_NAMES + pool.PET_NAMES)
        if kind == "relation":
            return rng.choice(pool.RELATIONS), self.new_name(0.3)
        if kind in ("home", "origin"):
            return None, name(pool.CITIES)
        if kind == "age":
            return None, str(rng.randrange(5, 100))
        if kind == "favourite":
            what = thing(list(pool.FAVOURITES))
            return what, self.favourite_value(what)
        if kind == "job":
            return None, value(pool.JOBS)
        if kind == "my_number":
            return (f"{words.novel(rng)} number" if rng.random() < 0.15 else rng.choice(pool.MY_NUMBERS)), number_text(rng)
        if kind == "my_word":
            what = thing(pool.MY_WORDS)
            return what, rng.choice((words.novel, words.novel_name, lambda r: r.choice(pool.WORDS)))(rng)
        if kind == "the_number":
            return (f"{words.novel(rng)} code" if rng.random() < 0.15 else rng.choice(pool.THE_NUMBERS)), number_text(rng)
        if kind == "the_word":
            what = f"name of the {words.novel(rng)}" if rng.random() < 0.15 else rng.choice(pool.THE_WORDS)
            return what, rng.choice((made_up, words.novel, words.novel_name, lambda r: r.choice(pool.WORDS)))(rng)
        if kind == "event":
            return thing(pool.EVENTS), self.event_value()
        if kind == "spot":
            return thing(pool.LEFT_THINGS + pool.LEFT_PLURAL), self.spot_value()
        if kind == "where":
            return None, self.spot_value()
        if kind == "count":
            what = f"{words.novel(rng)}s" if rng.random() < 0.15 else rng.choice(pool.COUNTED)
            return what, rng.choice(NUMBER_WORDS) if rng.random() < 0.15 else str(rng.randrange(2, 60))
        return None, value(LIKES)  # like, dislike

    def value_in_use(self, kind, value):
        return any(f.kind == kind and not isinstance(f, ListFact) and f.value == value for f in self.facts.values())

    def new_fact(self, kind=None, owner=None, thing=None):
        """A fact that is not yet known, or None where none was found in a few tries."""
        for _ in range(60):
            who = owner or (self.user if self.rng.random() < 0.65 or kind in ("name", "relation") else self.person())
            k = kind or self.rng.choice(USER_KINDS if who.is_user else PERSON_KINDS)
            if k in ("the_number", "the_word", "my_number", "my_word", "boat", "relation"):
                who = self.user
            o, v = self.draw(k, who)
            if thing:
                o = thing
            if not self.allowed(k, o, v) or self.value_in_use(k, v):
                continue
            if k == "relation":
                if o in self.used:
                    continue
                self.used.add(o)
            fact = Fact(who, k, o, v)
            if fact.key not in self.facts and not (k in ("the_number", "the_word") and self.same_the(o)):
                return fact
        return None

    def same_the(self, thing):
        return any(f.kind in ("the_number", "the_word") and f.thing == thing for f in self.facts.values())

    def keep(self, fact):
        fact.turn = self.exchanges()
        self.facts[fact.key] = fact
        self.last_told = fact
        return fact

    # -- segments of a conversation: each adds one or more exchanges and returns whether it did

    def tell(self, facts=None, and_ask=False):
        rng = self.rng
        if facts is None:
            facts = [f for f in (self.new_fact() for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))) if f]
        seen, unique = set(), []
        for fact in facts:
            if fact.key not in seen:
                seen.add(fact.key)
                unique.append(fact)
        facts = unique
        if not facts:
            return False
        clauses = [f.user(rng.choice(f.templates["tell"]), rng) for f in facts]
        if len(facts) > 1 and rng.random() < 0.4:
            text = ". ".join([clauses[0]] + [capital(c) for c in clauses[1:]])
        else:
            text = join(clauses)
        lead = rng.choice(TELL_LEADS)
        text = capital(lead + text) + rng.choice((".", ".", ".", ".", "!"))
        for fact in facts:
            self.keep(fact)
        if and_ask:
            question, answer = self.question_and_answer(rng.choice(facts) if rng.random() < 0.6 else self.pick())
            self.add(f"{text} {self.question(question)}", answer)
        else:
            self.add(text, self.acknowledge(facts))
        return True

    def tell_and_ask(self):
        return self.tell(and_ask=True)

    def acknowledge(self, facts):
        rng = self.rng
        name = next((f for f in facts if f.kind == "name"), None)
        rest = [f for f in facts if f is not name]
        echo = join([f.model() for f in rest]) if rest else ""
        if name:
            greeting = rng.choice(("Nice to meet you, {}!", "Hello, {}!", "Nice to meet you, {}.", "Hi {}!",
                                   "Hello {}, nice to meet you.")).format(mark(name.value))
            if rest and rng.random() < 0.5:
                return f"{greeting} {rng.choice(ACKS)}"
            return f"{greeting} {capital(echo)}." if rest else greeting
        if rng.random() < 0.5:
            return rng.choice(ACKS)
        form = rng.choice(("Got it, {}.", "Okay, {}.", "I'll remember that {}.", "Noted: {}.", "So {}. Good to know."))
        return form.format(echo)

    def pick(self, fact=None):
        """A known fact to ask about; old ones as often as new ones."""
        if fact:
            return fact
        return self.rng.choice(list(self.facts.values())) if self.facts else None

    def question_and_answer(self, fact, plain=False):
        """(question, the model's answer) about a known fact."""
        rng = self.rng
        if isinstance(fact, ListFact):
            return self.list_question(fact)
        form = 0.0 if plain else rng.random()
        templates = fact.templates
        if form < 0.62:
            return fact.user(rng.choice(templates["ask"]), rng), f"{capital(fact.model())}."
        if form < 0.78:
            wrap, yes = rng.choice(WRAPS)
            what = fact.user(rng.choice(templates["what"].split("|")), rng)
            return wrap.format(what), f"{yes}{fact.model()}." if yes else f"{capital(fact.model())}."
        if form < 0.90 and templates["yes_no"]:
            return self.yes_no(fact)
        if templates["reverse"] and not self.ambiguous(fact):
            ask, say = rng.choice(templates["reverse"])
            if fact.kind == "pet" and not fact.owner.is_user and "kind of animal" in ask:
                say = "{v} is {a_o} {o}"
            return fact.user(ask, rng), f"{capital(fact.model(say))}."
        return fact.user(rng.choice(templates["ask"]), rng), f"{capital(fact.model())}."

    def ambiguous(self, fact):
        """Whether another fact would fit the reverse question as well."""
        same = [f for f in self.facts.values() if not isinstance(f, ListFact) and f.value == fact.value]
        if fact.kind in ("spot", "where", "event"):
            same = [f for f in same if f.kind in ("spot", "where", "event")]
        return len(same) > 1 or (fact.kind == "colour" and fact.owner.is_user) or \
            (fact.owner.is_user and fact.kind in ("home", "origin", "age", "job", "count", "like", "dislike"))

    def yes_no(self, fact, truth=None):
        rng = self.rng
        truth = rng.random() < 0.5 if truth is None else truth
        value = fact.value
        if not truth:
            previous = self.old.get(fact.key)
            if previous and previous[-1] != fact.value and rng.random() < 0.5:
                value = previous[-1]
            else:
                for _ in range(50):
                    _, value = self.draw(fact.kind, fact.owner)
                    if fact.kind == "favourite":
                        value = self.favourite_value(fact.thing)
                    if value != fact.value:
                        break
        ask = fact.user(rng.choice(fact.templates["yes_no"]), rng, value)
        answer = "Yes" if value == fact.value else "No"
        return capital(ask), f"{answer}, {fact.model()}."

    def ask(self, fact=None):
        rng = self.rng
        fact = self.pick(fact)
        if not fact:
            return False
        others = [f for f in self.facts.values() if f is not fact and not isinstance(f, ListFact)]
        if others and not isinstance(fact, ListFact) and rng.random() < 0.14:
            return self.ask_two(fact, rng.choice(others))
        question, answer = self.question_and_answer(fact)
        self.add(self.question(question), answer)
        if rng.random() < 0.1 and not isinstance(fact, ListFact) and fact.kind == "colour":
            self.ask_elliptic(fact)
        return True

    def ask_two(self, one, two):
        rng = self.rng
        first = one.user(rng.choice(one.templates["ask"]), rng)
        second = two.user(rng.choice(two.templates["ask"]), rng)
        if rng.random() < 0.6 and first.endswith("?"):
            text = f"{first[:-1]} and {second[0].lower() + second[1:] if not second.startswith(OPEN) else second}"
        else:
            text = f"{first} {capital(second)}"
        self.add(self.question(text), f"{capital(one.model())} and {two.model()}.")
        return True

    def ask_elliptic(self, fact):
        """"And my bike?" after a question about a colour."""
        others = [f for f in self.facts.values() if f.kind == "colour" and f is not fact]
        if others:
            other = self.rng.choice(others)
            form = self.rng.choice(("And {my} {o}?", "What about {my} {o}?", "And what about {my} {o}?"))
            self.add(other.user(form, self.rng), f"{capital(other.model())}.")

    def ask_missing(self):
        """A question about what was never said."""
        kind = self.rng.choice("name colour colour pet home age favourite favourite job my_number event spot "
                               "the_number".split())
        owner = self.user
        if self.people and kind in PERSON_KINDS and self.rng.random() < 0.3:
            owner = self.rng.choice(self.people)
        fact = self.new_fact(kind, owner)
        if not fact or fact.key in self.facts or (fact.kind == "the_number" and self.same_the(fact.thing)):
            return False
        if fact.kind == "colour" and any(f.kind == "spot" and f.thing == fact.thing for f in self.facts.values()):
            return False
        slots = fact.words(fact.value)
        slots.update(owner.model_words())
        question = fact.user(self.rng.choice(fact.templates["ask"]), self.rng)
        self.add(self.question(question), f"You haven't told me {fact.templates['what_you'].format(**slots)}.")
        return True

    def ask_relative(self):
        """What somebody is called, or who it is, who was only mentioned ("my sister Mia has a red kite")."""
        rng = self.rng
        known = [p for p in self.people if p.name and p.relation and p.introduced]
        if not known:
            return False
        person = rng.choice(known)
        name, relation = mark(person.name), person.relation
        if rng.random() < 0.7:
            ask = rng.choice(KINDS["relation"]["ask"]).format(my="my", o=relation)
            self.add(self.question(ask), f"Your {relation} is called {name}.")
        else:
            ask = rng.choice(("Who is {}?", "How do I know {}?", "Who was {} again?", "And who is {}?")).format(name)
            self.add(ask, f"{capital(name)} is your {relation}.")
        return True

    def fix(self, fact=None):
        """The user changes a fact."""
        rng = self.rng
        candidates = [f for f in self.facts.values() if not isinstance(f, ListFact) and f.kind != "relation"]
        fact = fact or (rng.choice(candidates) if candidates else None)
        if not fact:
            return False
        for _ in range(60):
            _, value = self.draw(fact.kind, fact.owner)
            if fact.kind == "favourite":
                value = self.favourite_value(fact.thing)
            if value != fact.value and self.allowed(fact.kind, fact.thing, value) and \
                    not self.value_in_use(fact.kind, value):
                break
        else:
            return False
        self.old.setdefault(fact.key, []).append(fact.value)
        just_told = fact is self.last_told and self.exchanges() == fact.turn + 1
        fact.value = value
        lead = rng.choice(FIX_LEADS)
        if just_told and rng.random() < 0.4:
            text = rng.choice(("I meant {}", "It's {}", "No, {}", "Sorry, {}", "Sorry, I meant {}", "Make that {}",
                               "Wait, {}", "{}, not {old}", "Actually it's {}")).format(
                                   mark(value), old=mark(self.old[fact.key][-1]))
        elif fact.templates["fix"] and rng.random() < 0.6:
            text = lead + fact.user(rng.choice(fact.templates["fix"]), rng)
        else:
            text = lead + fact.user(rng.choice(fact.templates["tell"]), rng)
            if rng.random() < 0.3:
                text += f", not {mark(self.old[fact.key][-1])}"
        form = rng.choice(("Got it, {}.", "Okay, {} now.", "Noted: {}.", "Okay, {}.", "I'll remember that {} now.",
                           "ACK"))
        answer = rng.choice(ACKS) if form == "ACK" else form.format(fact.model())
        fact.turn = self.exchanges()
        self.last_told = fact
        self.add(capital(text) + ".", answer)
        return True

    def several_things(self):
        """"I have a red car, a blue bike and a green boat.\""""
        rng = self.rng
        owner = self.user if rng.random() < 0.6 else self.person()
        facts = []
        for _ in range(rng.choice((2, 3, 3, 4))):
            fact = self.new_fact("colour", owner)
            if fact and all(fact.key != f.key and fact.value != f.value for f in facts):
                facts.append(fact)
        if not facts:
            return False
        slots = owner.user_words(rng)
        things = join([f"{f.words(f.value)['a_v']} {f.shown}" for f in facts])
        for fact in facts:
            self.keep(fact)
        self.add(capital(f"{slots['I']} {slots['have']} {things}."),
                 rng.choice(ACKS) if rng.random() < 0.6 else capital(join([f.model() for f in facts])) + ".")
        return True

    def two_people(self):
        """The same kind of fact about two people, in one breath."""
        rng = self.rng
        kind = rng.choice("colour colour pet home job favourite where age count".split())
        one, two = self.person(0.7), self.person(0.7)
        if one is two:
            return False
        first = self.new_fact(kind, one)
        second = self.new_fact(kind, two, first.thing if first and rng.random() < 0.8 else None)
        if kind == "favourite" and second:
            for _ in range(30):
                second.value = self.favourite_value(second.thing)
                if self.allowed(kind, second.thing, second.value) and second.value != first.value:
                    break
            else:
                return False
        if not first or not second or first.value == second.value or second.key in self.facts:
            return False
        return self.tell([first, second])

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

    def summary(self):
        """"What do you know about me?" while that is still a short answer."""
        mine = [f for f in self.facts.values() if f.owner is self.user]
        if not 1 <= len(mine) <= 4:
            return False
        ask = self.rng.choice(("What do you know about me?", "What did I tell you about me?",
                               "Tell me what you know about me.",
                               "What have I told you?", "Sum up what I told you about me."))
        self.add(ask, capital(join([f.model() for f in mine])) + ".")
        return True

    def summary_person(self):
        people = [p for p in self.people if p.name and any(f.owner is p for f in self.facts.values())]
        if not people:
            return False
        person = self.rng.choice(people)
        facts = [f for f in self.facts.values() if f.owner is person]
        if len(facts) > 4:
            return False
        ask = self.rng.choice(("What do you know about {}?", "Tell me about {}.", "What did I tell you about {}?"))
        self.add(ask.format(mark(person.name)), capital(join([f.model() for f in facts])) + ".")
        return True

    # -- what lies between

    def small_talk(self):
        said, answers = self.rng.choice(about.SMALL_TALK)
        self.add(self.rng.choice(said), self.rng.choice(answers))
        return True

    def samepage(self, topic=None):
        rng = self.rng
        for _ in range(100):
            t = topic or rng.choice(topics.SAMEPAGE if rng.random() < 0.8 else topics.SELF)
            if t.get("subject") and rng.random() < 0.4:
                question = rng.choice(SUBJECT_QUESTIONS).format(rng.choice(t["subject"]))
            else:
                question = topics.phrase(rng, rng.choice(t["ask"]))
            if self.allowed("samepage", t["id"], question):
                self.add(self.question(question) if rng.random() < 0.3 else capital(question), t["say"])
                return t
        return None

    def world(self):
        rng = self.rng
        if rng.random() < 0.4:
            country = rng.choice(list(about.CAPITALS))
            city = about.CAPITALS[country]
            ask = rng.choice((f"What is the capital of {country}?", f"Which city is the capital of {country}?",
                              f"capital of {country}?", f"What's {country}'s capital?"))
            if rng.random() < 0.15:
                self.add(f"Which country has the capital {city}?", f"{city} is the capital of {country}.")
            else:
                self.add(capital(ask), f"The capital of {country} is {city}.")
            return True
        asks, answer, _ = rng.choice(about.WORLD)
        self.add(self.question(rng.choice(asks)), answer)
        return True

    def arithmetic(self, ops="+++--**"):
        """Returns the result, so that the evaluation can ask for it."""
        rng = self.rng
        for _ in range(100):
            op = rng.choice(ops)
            top = rng.choice((10, 20, 100, 100, 100))
            a, b = rng.randrange(top), rng.randrange(top)
            if op == "*":
                a, b = rng.randrange(13), rng.randrange(13)
            if op == "-" and b > a:
                a, b = b, a
            if op == "*" or self.allowed("sum", op, a, b):
                break
        result = {"+": a + b, "-": a - b, "*": a * b}[op]
        word = {"+": "plus", "-": "minus", "*": "times"}[op]
        forms = [f"What is {a} {word} {b}?", f"What is {a} {op} {b}?", f"{a} {op} {b}", f"{a}{op}{b}",
                 f"{a} {op} {b} = ?",
                 f"How much is {a} {word} {b}?", f"What's {a} {op} {b}?", f"Calculate {a} {op} {b}.",
                 f"{a} {word} {b}",
                 f"Can you compute {a} {op} {b}?", f"{a}{op}{b}=?", f"Please work out {a} {op} {b}.",
                 f"How much is {a} {op} {b}?"]
        if op == "+":
            forms += [f"Add {a} and {b}.", f"What is the sum of {a} and {b}?"]
        if op == "-":
            forms += [f"Subtract {b} from {a}.", f"Take {b} away from {a}."]
        if op == "*":
            forms += [f"Multiply {a} by {b}.", f"What is {a} x {b}?"]
        self.add(rng.choice(forms), f"{a} {op} {b} = {result}.")
        return result

    def word_problem(self):
        rng = self.rng
        a, b = rng.randrange(2, 20), rng.randrange(1, 10)
        thing = rng.choice(("apples", "coins", "eggs", "books", "pears"))
        name = rng.choice(pool.NAMES)
        if rng.random() < 0.5:
            self.add(f"{mark(name)} has {a} {thing} and gets {b} more. How many {thing} does {mark(name)} have then?",
                     f"{a} + {b} = {a + b}, so {mark(name)} has {a + b} {thing}.")
        elif a > b:
            self.add(f"{mark(name)} has {a} {thing} and gives {b} away. How many {thing} are left?",
                     f"{a} - {b} = {a - b}, so {a - b} {thing} are left.")
        else:
            return False
        return True

    def count(self):
        rng = self.rng
        a = rng.choice((1, 1, 1, rng.randrange(40)))
        b = a + rng.randrange(2, 13)
        if rng.random() < 0.25:
            ask = rng.choice((f"Count down from {b} to {a}.", f"Count backwards from {b} to {a}."))
            self.add(ask, ", ".join(str(i) for i in range(b, a - 1, -1)) + ".")
        else:
            ask = rng.choice((f"Count from {a} to {b}.", f"Please count from {a} to {b}.",
                              f"Can you count from {a} to {b}?"))
            if a == 1:
                ask = rng.choice((ask, f"Count to {b}.", f"Can you count to {b}?"))
            self.add(ask, ", ".join(str(i) for i in range(a, b + 1)) + ".")
        return True

    def spell_word(self):
        rng = self.rng
        for _ in range(50):
            word = rng.choice(pool.SHORT_WORDS + pool.WORDS[::2])
            if self.allowed("spell", word):
                break
        ask = rng.choice((f"How do you spell {mark(word)}?", f"Spell {mark(word)}.", f"Spell the word {mark(word)}.",
                          f"Can you spell {mark(word)}?", f"How is {mark(word)} spelled?"))
        self.add(ask, f"{mark(word)} is spelled {'-'.join(word)}.")
        return word

    def repeat(self):
        """Returns what is to be repeated."""
        rng = self.rng
        if rng.random() < 0.5:
            what = " ".join(rng.choice(pool.WORDS + pool.COLOURS) for _ in range(rng.randrange(1, 6)))
        elif rng.random() < 0.5:
            what = " ".join(rng.choice((made_up, words.one_word))(rng) for _ in range(rng.randrange(1, 4)))
        else:
            what = number_text(rng)
        ask = rng.choice(("Repeat after me: {}", "Say {}", "Please say: {}", "Repeat: {}", "Say this: {}", "Echo {}"))
        self.add(ask.format(mark(what)), mark(what))
        return what

    def order(self):
        """Which is bigger, what comes next."""
        rng = self.rng
        form = rng.randrange(5)
        if form == 0:
            a, b = rng.sample(range(100), 2)
            bigger = rng.random() < 0.6
            word = rng.choice(("bigger", "larger", "greater")) if bigger else "smaller"
            first, second = (max(a, b), min(a, b)) if bigger else (min(a, b), max(a, b))
            self.add(f"Which is {word}, {a} or {b}?", f"{first} is {word} than {second}.")
        elif form == 1:
            n = rng.randrange(1, 300)
            self.add(rng.choice((f"What comes after {n}?", f"Which number comes after {n}?")),
                     f"After {n} comes {n + 1}.")
        elif form == 2:
            i = rng.randrange(7)
            self.add(rng.choice((f"What day comes after {pool.DAYS[i]}?", f"Which day follows {pool.DAYS[i]}?")),
                     f"{pool.DAYS[(i + 1) % 7]} comes after {pool.DAYS[i]}.")
        elif form == 3:
            i = rng.randrange(12)
            self.add(f"Which month comes after {pool.MONTHS[i]}?",
                     f"{pool.MONTHS[(i + 1) % 12]} comes after {pool.MONTHS[i]}.")
        else:
            i = rng.randrange(25)
            self.add(f"Which letter comes after {chr(97 + i)}?", f"After {chr(97 + i)} comes {chr(98 + i)}.")
        return True

    def story(self):
        rng = self.rng
        animal = rng.choice(about.STORY_ANIMALS)
        ask = rng.choice((f"Tell me a story about {a_or_an(animal)} {animal}.", "Tell me a story.",
                          f"Tell me a short story about {a_or_an(animal)} {animal}.", "Can you tell me a story?",
                          f"Do you know a story about {a_or_an(animal)} {animal}?", "A story, please."))
        self.add(ask, story_text(rng, animal))
        return True

    def off_topic(self):
        """What such a small model can't know."""
        rng = self.rng
        if rng.random() < 0.5:
            ask = rng.choice(about.OFF_TOPIC_FORMS).format(rng.choice(about.OFF_TOPIC_THINGS))
        elif rng.random() < 0.5:
            ask = rng.choice(("What is a {}?", "Who is {}?", "What does {} mean?", "Tell me about {}.")).format(
                mark(rng.choice((made_up, words.english_like))(rng)))
        else:
            ask = rng.choice(about.OFF_TOPIC)
        self.add(ask, about.OFF_TOPIC_ANSWER)
        return True

    BETWEEN = [("small_talk", 26), ("off_topic", 6), ("samepage", 44), ("arithmetic", 22), ("world", 10), ("count", 3),
               ("spell_word", 4), ("repeat", 6), ("order", 5), ("story", 2), ("word_problem", 2)]
    BETWEEN_NAMES, BETWEEN_WEIGHTS = zip(*BETWEEN)

    def between(self):
        return getattr(self, self.rng.choices(self.BETWEEN_NAMES, self.BETWEEN_WEIGHTS)[0])()

    # -- the whole

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


def story_text(rng, animal=None):
    animal = animal or rng.choice(about.STORY_ANIMALS)
    names = rng.sample(pool.NAMES, 2)
    slots = dict(n=names[0], f=names[1], a=f"{a_or_an(animal)} {animal}", c=rng.choice(pool.COMMON_COLOURS),
                 t=rng.choice(pool.THINGS[:40]), p=rng.choice(about.STORY_PLACES))
    parts = [rng.choice(about.STORY_STARTS)] + rng.sample(about.STORY_MIDDLES, rng.randrange(2, 5)) + \
        [rng.choice(about.STORY_ENDS)]
    return " ".join(part.format(**slots) for part in parts)


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
