#!/usr/bin/env python3
"""Fails on comments with lines of more than 120 columns, which clang-format leaves as they are; with --fix it wraps the
paragraphs that have such lines. Lines that hold code, and comments drawn with spaces, are left alone.
"""
import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS_MAX = 120
BLOCKS = ("*.c", "*.h", "*.cu", "*.cuh", "*.comp", "*.glsl", "*.metal", "*.def")  # /* ... */ and //
HASHES = ("*.py", "*.sh", "*.cmake")  # only lines that begin with #; and Python's texts that describe a file or function
OPENS = re.compile(r"^(\s*)(/\*) (?=\S)")
GOES_ON = re.compile(r"^(\s*)(\*) (?=\S)")
LINE = re.compile(r"^(\s*)(//|#) (?!(?:fast )?(?:variants|types): )(?=\S)")  # but for what the build reads of shaders
DRAWN = re.compile(r"\S {2,}\S|[─│┌└├]")  # tables, and pictures of what lies where


def pieces_of_blocks(lines):
    """(first, end) of each run of lines that are one paragraph of a /* comment */."""
    i, inside = 0, False
    while i < len(lines):
        opens = OPENS.match(lines[i])
        if not (opens or (inside and GOES_ON.match(lines[i]))):
            inside = inside and "*/" not in lines[i]
            i += 1
            continue
        first, inside = i, "*/" not in lines[i]
        i += 1
        while inside and i < len(lines) and GOES_ON.match(lines[i]):
            inside = "*/" not in lines[i]
            i += 1
        yield first, i


def pieces_of_lines(lines):
    i = 0
    while i < len(lines):
        match = LINE.match(lines[i])
        first = i
        i += 1
        while match and i < len(lines) and LINE.match(lines[i]) and LINE.match(lines[i]).group(0) == match.group(0):
            i += 1
        if match:
            yield first, i


def pieces_of_texts(lines):
    """Paragraphs of the texts that describe Python's modules, classes and functions."""
    for node in ast.walk(ast.parse("\n".join(lines))):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) or not ast.get_docstring(node):
            continue
        first, indent = None, 0
        for i in range(node.body[0].lineno - 1, node.body[0].end_lineno):
            text, column = lines[i].strip(' "'), len(lines[i]) - len(lines[i].lstrip())
            if first is not None and (not text or column != indent):
                yield first, i
                first = None
            if text and first is None:
                first, indent = i, column
        if first is not None:
            yield first, node.body[0].end_lineno


def wrap(lines):
    match = OPENS.match(lines[0]) or GOES_ON.match(lines[0]) or LINE.match(lines[0])
    begin = match.group(0) if match else re.match(r"\s*", lines[0]).group(0)
    rest = begin.replace("/*", " *")
    words = " ".join([lines[0][len(begin):]] + [re.sub(r"^\s*(\*|//|#)? ?", "", line) if match else line.strip()
                                                for line in lines[1:]]).split()
    if words[-1] == "*/" and len(words) > 1:  # the end stays with the last word
        words[-2:] = [words[-2] + " */"]
    out, line = [], begin + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) <= COLUMNS_MAX:
            line += " " + word
        else:
            out.append(line)
            line = rest + word
    return out + [line]


def is_long(lines):
    return any(len(line) > COLUMNS_MAX for line in lines) and not any(DRAWN.search(line.strip()) for line in lines)


def long_pieces(name, lines):
    found = []
    if pathlib.Path(name).match("*.py"):
        found += pieces_of_texts(lines)
    if any(pathlib.Path(name).match(pattern) for pattern in BLOCKS):
        found += pieces_of_blocks(lines)
    found += pieces_of_lines(lines)
    return [piece for piece in sorted(found) if is_long(lines[piece[0]:piece[1]])]


def fixed(name, lines):
    out, at = [], 0
    for first, end in long_pieces(name, lines):
        out += lines[at:first] + wrap(lines[first:end])
        at = end
    return out + lines[at:]


def main():
    listed = subprocess.run(["git", "ls-files", *BLOCKS, *HASHES], cwd=ROOT, check=True, capture_output=True, text=True)
    problems = []
    for name in sorted(set(listed.stdout.split())):
        path = ROOT / name
        lines = path.read_text().split("\n")
        if sys.argv[1:] == ["--fix"] and long_pieces(name, lines):
            lines = fixed(name, lines)
            path.write_text("\n".join(lines))
        problems += [f"{name}:{first + 1}: more than {COLUMNS_MAX} columns: tests/lint/comments.py --fix wraps them"
                     for first, end in long_pieces(name, lines)]
    print("\n".join(problems) or f"comments: no line has more than {COLUMNS_MAX} columns")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
