"""Facts, and whom they are about: what is remembered of a conversation, in the user's words and in the model's."""
import values as pool
from kinds import KINDS
from text import a_or_an, join, mark

# What may stand for an object without being marked: typos may hit it, since a model that knows it can mend it.
KNOWN_THINGS = {thing for values in (pool.THINGS, pool.PLURAL_THINGS, pool.ANIMALS, pool.COUNTED, pool.LEFT_THINGS,
                                     pool.LEFT_PLURAL, pool.RELATIONS, pool.FAVOURITES, pool.EVENTS, pool.MY_NUMBERS,
                                     pool.THE_NUMBERS, pool.THE_WORDS, pool.MY_WORDS) for thing in values}


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
