"""Pieces of English, and values inside of them that typing errors must spare."""
# A value inside a text stands between these two until the text is final: typos spare it.
OPEN, CLOSE = "\x02", "\x03"


def mark(value):
    return f"{OPEN}{value}{CLOSE}"


def unmark(text):
    return text.replace(OPEN, "").replace(CLOSE, "")


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
