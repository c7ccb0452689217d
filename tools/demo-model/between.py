"""What lies between facts and questions: small talk, Samepage, sums, stories."""
import about
import topics
import values as pool
import words
from draws import Draws
from phrases import SUBJECT_QUESTIONS
from text import a_or_an, capital, mark, number_text
from words import made_up


def story_text(rng, animal=None):
    animal = animal or rng.choice(about.STORY_ANIMALS)
    names = rng.sample(pool.NAMES, 2)
    slots = dict(n=names[0], f=names[1], a=f"{a_or_an(animal)} {animal}", c=rng.choice(pool.COMMON_COLOURS),
                 t=rng.choice(pool.THINGS[:40]), p=rng.choice(about.STORY_PLACES))
    parts = [rng.choice(about.STORY_STARTS)] + rng.sample(about.STORY_MIDDLES, rng.randrange(2, 5)) + \
        [rng.choice(about.STORY_ENDS)]
    return " ".join(part.format(**slots) for part in parts)


class Between(Draws):
    """Each segment adds one exchange; what it returns is what the evaluation asks for, or whether it did."""

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
