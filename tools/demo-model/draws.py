"""Facts that fit into a conversation: people, objects and values, known ones and new ones, held out or not."""
import zlib

import values as pool
import words
from conversation import Conversation
from facts import Fact, ListFact, Owner
from kinds import PERSON_KINDS, USER_KINDS
from text import number_text
from words import made_up

HELD_OUT = 12  # one pairing in so many is kept for the evaluation
NOVEL = 0.25  # share of objects and of values that come from outside their list
LIKES = [v for kind in ("food", "fruit", "drink", "sport", "music", "animal", "game", "dessert")
         for v in pool.FAVOURITES[kind]]
NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve twenty".split()


def is_held_out(*parts):
    return zlib.crc32("|".join(map(str, parts)).encode()) % HELD_OUT == 0


class Draws(Conversation):
    """Makes facts up."""

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
