#!/usr/bin/env python3
"""Fails on Markdown with lines of more than 120 columns, which is what the code has; with --fix it wraps the paragraphs
that have such lines. Tables, and text that is code, may be wider: nobody can wrap them.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS_MAX = 120
ITEM = re.compile(r"^(\s*)([-*+]|\d+[.)])(\s+)")
BEGINS = re.compile(r"^([-*+>]|#{1,6}|\d+[.)]|=+|-+)$|^(\||```)")  # what a word means something else as, first in a line


def is_plain(line):
    """A line that stays as it is whatever stands around it."""
    return not line.strip() or line.lstrip().startswith(("|", "#", "<", "```"))


def paragraphs(lines):
    """Pieces of a file: (wrappable, lines)."""
    fenced, item_column, i = False, 0, 0
    while i < len(lines):
        line = lines[i]
        column = len(line) - len(line.lstrip())
        item = ITEM.match(line)
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if line.strip() and not item and column < item_column:
            item_column = 0
        if fenced or is_plain(line) or column >= item_column + 4:
            yield False, [line]
            i += 1
            continue
        item_column = item.end() if item else item_column
        end = i + 1
        while end < len(lines) and not is_plain(lines[end]) and not ITEM.match(lines[end]):
            end += 1
        yield True, lines[i:end]
        i = end


def wrap(lines):
    item = ITEM.match(lines[0])
    first = lines[0][:item.end()] if item else lines[0][:len(lines[0]) - len(lines[0].lstrip())]
    rest = " " * (len(lines[1]) - len(lines[1].lstrip()) if len(lines) > 1 else len(first))
    words = " ".join([lines[0][len(first):]] + lines[1:]).split()
    out, line = [], first + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) <= COLUMNS_MAX:
            line += " " + word
        elif BEGINS.match(word):
            before, last = line.rsplit(" ", 1)
            out.append(before)
            line = f"{rest}{last} {word}"
        else:
            out.append(line)
            line = rest + word
    return out + [line]


def long_lines(text):
    number = 1
    for wrappable, lines in paragraphs(text.split("\n")):
        yield from ((number + i, len(line)) for i, line in enumerate(lines) if wrappable and len(line) > COLUMNS_MAX)
        number += len(lines)


def fixed(text):
    out = []
    for wrappable, lines in paragraphs(text.split("\n")):
        out += wrap(lines) if wrappable and any(len(line) > COLUMNS_MAX for line in lines) else lines
    return "\n".join(out)


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    problems = []
    for name in sorted(set(listed.split())):
        text = (ROOT / name).read_text()
        if sys.argv[1:] == ["--fix"] and fixed(text) != text:
            text = fixed(text)
            (ROOT / name).write_text(text)
        problems += [f"{name}:{line}: {columns} columns, more than {COLUMNS_MAX}: tests/lint/markdown.py --fix wraps it"
                     for line, columns in long_lines(text)]
    print("\n".join(problems) or f"markdown: no line has more than {COLUMNS_MAX} columns")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
