"""Sloppy typing: a text as somebody in a hurry enters it."""
import re

import values as pool
from text import CLOSE, OPEN

KNOWN_CAPITALS = set(pool.NAMES) | set(pool.CITIES) | set(pool.PET_NAMES) | set(pool.BOAT_NAMES) | \
    set(pool.DAYS) | set(pool.MONTHS) | set(pool.FAVOURITES["planet"])


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
