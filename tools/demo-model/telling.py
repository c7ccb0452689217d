"""Segments of a conversation in which the user tells something, or changes it."""
from draws import Draws
from facts import ListFact
from phrases import ACKS, FIX_LEADS, TELL_LEADS
from text import capital, join, mark


class Telling(Draws):
    """Each segment adds one or more exchanges and returns whether it did."""

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
