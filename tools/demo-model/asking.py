"""Segments of a conversation in which the user asks for what was told, or for what was not."""
from draws import Draws
from facts import ListFact
from kinds import KINDS, PERSON_KINDS
from phrases import WRAPS
from text import OPEN, capital, join, mark


class Asking(Draws):
    """Each segment adds one or more exchanges and returns whether it did."""

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
