"""Words that are new where they stand, so that a model can only copy them.

Lists alone teach a model to look a word up in them: told "I work as a barista", it answers with the nearest job that it
knows. So every place of a template gets a word from outside its list now and then: one made up from syllables, one made
up from the letters that follow each other in English words, two words in one, or a word from another list. Words of
unseen.py, which the evaluation asks for, never come out.
"""
import unseen
import values as pool

ENDS = ["er", "ist", "ing", "ful", "let", "ling", "ette", "ade", "ine", "ism", "age", "ment", "ness", "ery", "ian", "or"]
BEFORE = ["light", "dark", "old", "new", "wild", "sweet", "deep", "little", "big", "soft", "long", "hot", "cold", "round",
          "free", "open", "fine", "dry", "early", "late"]

# The single words of all lists but those of names: what letters follow each other is learned from them, and they stand
# in for each other.
ENTRIES = [entry for name, value in vars(pool).items() if name not in ("NAMES", "CITIES", "PET_NAMES", "ONSETS", "VOWELS", "CODAS")
           for group in ([value] if isinstance(value, list) else value.values() if name in ("FAVOURITES", "LISTS") else [])
           if group is not pool.NAMES and group is not pool.CITIES for entry in group]
COMMON = sorted({word for entry in ENTRIES for word in entry.lower().split() if word.isalpha() and len(word) > 2})
FOLLOWING = {}
for _word in COMMON:
    _text = f"^^{_word}$"
    for _i in range(2, len(_text)):
        FOLLOWING.setdefault(_text[_i - 2:_i], []).append(_text[_i])


def made_up(rng, syllables=None):
    """A word of syllables."""
    n = syllables or rng.choice((1, 2, 2, 2, 3))
    while True:
        word = "".join(rng.choice(pool.ONSETS) + rng.choice(pool.VOWELS) for _ in range(n)) + rng.choice(pool.CODAS)
        if 3 <= len(word) <= 10:
            return word


def english_like(rng):
    """A word in which each letter follows the two before it as in some word of the lists."""
    while True:
        text = "^^"
        while text[-1] != "$" and len(text) < 15:
            text += rng.choice(FOLLOWING[text[-2:]])
        if text[-1] == "$" and len(text) > 6:
            return text[2:-1]


def one_word(rng):
    form = rng.random()
    if form < 0.30:
        word = english_like(rng)
    elif form < 0.50:
        word = made_up(rng)
    elif form < 0.75:
        word = rng.choice(COMMON)
    elif form < 0.87:
        word = rng.choice(COMMON) + rng.choice(ENDS)
    else:
        word = rng.choice(COMMON) + rng.choice(COMMON)
    return word if word not in unseen.WORDS and len(word) < 16 else one_word(rng)


def novel(rng):
    """One such word, or two."""
    form = rng.random()
    if form < 0.80:
        return one_word(rng)
    if form < 0.92:
        return f"{one_word(rng)} {one_word(rng)}"
    return f"{rng.choice(BEFORE)} {one_word(rng)}"


def novel_name(rng):
    return " ".join(word.capitalize() for word in (novel(rng) if rng.random() < 0.3 else one_word(rng)).split())
