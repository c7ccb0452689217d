#!/usr/bin/env python3
"""Makes everything that lists the guests' imports from the one table, sdk/imports.def (which explains itself).

    tools/generate_imports.py            writes the files below into the source tree
    tools/generate_imports.py --check    writes nothing and fails if they are not as they would be written

Status codes come from include/samepage/status.h. Needs nothing but Python.
"""
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCALARS = {"i32": ("i", "int32_t"), "u32": ("i", "uint32_t"), "i64": ("I", "int64_t"), "f32": ("f", "float"),
           "handle": ("i", "int32_t"), "address": ("i", "uint32_t")}
ELEMENTS = {"u8": (1, "char"), "i32": (4, "int32_t"), "f32": (4, "float")}
FIELDS = {"u32": (4, "uint32_t"), "u64": (8, "uint64_t"), "i32": (4, "int32_t"), "f32": (4, "float"),
          "char": (1, "char")}
NOTE = "made by tools/generate_imports.py from sdk/imports.def: change that and run it"


class Parameter:
    def __init__(self, name, text, structs):
        self.name, self.doc, self.count = name, "", None
        pointer = re.fullmatch(r"(in|out) (\w+)\[(\w+)\]", text)
        self.is_pointer = pointer is not None
        if pointer:
            self.direction, self.element, self.count = pointer.groups()
            self.is_struct = self.element in structs
            if not self.is_struct and self.element not in ELEMENTS:
                raise ValueError(f"no such element type: {self.element}")
        elif text in SCALARS:
            self.type = text
        else:
            raise ValueError(f"no such type: {text}")

    def element_bytes(self):
        return 1 if self.is_struct else ELEMENTS[self.element][0]

    def signature(self):
        return "ii" if self.is_pointer else SCALARS[self.type][0]


class Import:
    def __init__(self, name, is_async, parameters, result):
        self.name, self.is_async, self.parameters, self.result = name, is_async, parameters, result
        self.errors, self.doc = [], ""

    def result_signature(self):
        return "I" if self.result == "i64" else "i"


class Struct:
    def __init__(self, name):
        self.name, self.fields = name, []

    def bytes(self):
        offset = 0
        for field, kind, count, _ in self.fields:
            size = FIELDS[kind][0]
            if offset % size:
                raise ValueError(f"struct {self.name} has a hole before {field}")
            offset += size * count
        if offset % max(FIELDS[kind][0] for _, kind, _, _ in self.fields):
            raise ValueError(f"struct {self.name} has a hole at its end")
        return offset


def parse(text):
    """Returns groups: [title, text, [Struct or Import]]."""
    groups, structs, item = [], {}, None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("group "):
                item = [line[6:], "", []]
                groups.append(item)
            elif line.startswith("struct "):
                item = structs[line[7:]] = Struct(line[7:])
                groups[-1][2].append(item)
            elif "import " in line and not line.startswith(" "):
                match = re.fullmatch(r"(async )?import (\w+)\((.*)\) -> (i32|i64|handle)", line)
                if not match:
                    raise ValueError("not an import")
                parameters = [Parameter(*part.split(": ", 1), structs) for part in match[3].split(", ") if part]
                item = Import(match[2], bool(match[1]), parameters, match[4])
                groups[-1][2].append(item)
            elif not line.startswith("  "):
                raise ValueError("starts with none of group, struct, import")
            elif isinstance(item, list):
                item[1] += (" " if item[1] else "") + line.strip()
            elif isinstance(item, Struct):
                match = re.fullmatch(r"  (\w+): (\w+?)(?:\[(\d+)\])? = (.+)", line)
                if not match or match[2] not in FIELDS:
                    raise ValueError("not a field")
                item.fields.append((match[1], match[2], int(match[3] or 1), match[4]))
            elif line.startswith("  | "):
                item.doc += (" " if item.doc else "") + line[4:]
            elif line.startswith("  errors: "):
                item.errors = line[10:].split(", ")
            else:
                name, doc = line.strip().split(": ", 1)
                next(p for p in item.parameters if p.name == name).doc = doc
        except (ValueError, StopIteration) as error:
            sys.exit(f"sdk/imports.def:{number}: {error or 'no such parameter'}: {line}")
    return groups


def items(groups, kind):
    return [item for group in groups for item in group[2] if isinstance(item, kind)]


def statuses():
    text = (ROOT / "include/samepage/status.h").read_text()
    return re.findall(r'X\((SP_\w+), (-?\d+), "([^"]+)"\)', text)


def comment(paragraphs, indent=""):
    """A block comment of lines of at most 120 columns; each paragraph begins a line."""
    lines = [line for text in paragraphs for line in textwrap.wrap(text, 117 - len(indent) - 3, break_on_hyphens=False)]
    return f"{indent}/* " + f"\n{indent} * ".join(lines) + " */"


def prototype(kind, name, arguments):
    begin = f"{kind} {name}("
    return textwrap.wrap(f"{begin}{arguments});", 120, subsequent_indent=" " * len(begin), break_long_words=False)


def struct_text(struct, prefix):
    lines = [f"typedef struct {prefix}{struct.name} {{"]
    for field, kind, count, doc in struct.fields:
        suffix = f"[{count}]" if count > 1 else ""
        line = f"    {FIELDS[kind][1]} {field}{suffix}; /* {doc} */"
        lines += [line] if len(line) <= 120 else [comment([doc], "    "), f"    {FIELDS[kind][1]} {field}{suffix};"]
    lines += [f"}} {prefix}{struct.name};",
              f'_Static_assert(sizeof({prefix}{struct.name}) == {struct.bytes()}, "the structs have no holes");']
    return "\n".join(lines)


# ---- the host's side ----

def host_arguments(item):
    parts = ["sp_guest *guest"]
    for p in item.parameters:
        parts.append(f"{'spi_input' if p.direction == 'in' else 'spi_output'} {p.name}" if p.is_pointer
                     else f"{SCALARS[p.type][1]} {p.name}")
    return ", ".join(parts + (["spi_job *job"] if item.is_async else []))


def abi_header(groups):
    out = ["/* guest/imports_abi.h - the structs and functions behind the imports;", f" * {NOTE}.", " *",
           " * Pointers have been checked before these functions are called; what they read from linear memory and then",
           " * trust, they copy first. May include: what guest/host.h may. */", "// clang-format off",
           "#ifndef SPI_GUEST_IMPORTS_ABI_H", "#define SPI_GUEST_IMPORTS_ABI_H", "", '#include "guest/host.h"',
           '#include "guest/imports_memory.h"', ""]
    for struct in items(groups, Struct):
        out += [struct_text(struct, "spi_abi_"), ""]
    for item in items(groups, Import):
        kind = "int64_t" if item.result == "i64" else "int32_t"
        out += prototype(kind, f"spi_host_{item.name}", host_arguments(item))
    return "\n".join(out + ["", "#endif", ""])


def wrapper(item):
    failed = "return status;" if item.is_async else "words[0] = status;\n        return;"
    head = (f"static int32_t begin_{item.name}(sp_guest *guest, const int64_t *words, spi_job *job) {{"
            if item.is_async else f"static void call_{item.name}(sp_guest *guest, int64_t *words) {{")
    body, arguments, word = [], ["guest"], 0
    for p in item.parameters:
        if p.is_pointer:
            kind = "input" if p.direction == "in" else "output"
            body += [f"    spi_{kind} {p.name};",
                     f'    status = spi_memory_{kind}(guest, "{item.name}", "{p.name}", (uint32_t)words[{word}], '
                     f"(uint32_t)words[{word + 1}], {p.element_bytes()}, &{p.name});",
                     "    if (status) {", f"        {failed}", "    }"]
            arguments.append(p.name)
            word += 2
        else:
            if p.type == "f32":
                raise SystemExit("f32 parameters are not in use yet: teach wrapper() how words carry them")
            arguments.append(f"({SCALARS[p.type][1]})words[{word}]")
            word += 1
    if any(p.is_pointer for p in item.parameters):
        body.insert(0, "    int32_t status;")
    elif not item.parameters and item.is_async:
        body.insert(0, "    (void)words;")
    call = f"spi_host_{item.name}({', '.join(arguments + (['job'] if item.is_async else []))})"
    body.append(f"    return {call};" if item.is_async else f"    words[0] = {call};")
    return "\n".join([head, *body, "}", ""])


def glue(groups):
    imports = items(groups, Import)
    out = [f"/* guest/imports_glue.inc - the table of imports; {NOTE}. */", "// clang-format off", ""]
    out += [wrapper(item) for item in imports]
    out.append("const spi_import spi_imports[] = {")
    for item in imports:
        signature = "".join(p.signature() for p in item.parameters)
        pair = f"NULL, begin_{item.name}" if item.is_async else f"call_{item.name}, NULL"
        out.append(f'    {{"{item.name}", "{signature}", "{item.result_signature()}", '
                   f"{'true' if item.is_async else 'false'}, {pair}}},")
    return "\n".join(out + ["};", "const uint32_t spi_import_count = sizeof spi_imports / sizeof spi_imports[0];", ""])


# ---- the guest's side ----

def guest_arguments(item):
    parts = []
    for p in item.parameters:
        if p.is_pointer:
            kind = f"sp_{p.element}" if p.is_struct else ELEMENTS[p.element][1]
            parts += [f"{'const ' if p.direction == 'in' else ''}{kind} *{p.name}", f"uint32_t {p.count}"]
        elif p.type == "address":
            parts.append(f"{'void' if p.name == 'c' else 'const void'} *{p.name}")
        else:
            parts.append(f"{'sp_handle' if p.type == 'handle' else SCALARS[p.type][1]} {p.name}")
    return ", ".join(parts) or "void"


def guest_header(groups):
    out = ["/* samepage_imports.h - the imports as they are, for guests in C;", f" * {NOTE}.", " *",
           " * Most guests include samepage.h instead, which includes this. Built for something else than Wasm, the imports",
           " * are ordinary external functions, so that guest code can be tested with doubles. */", "// clang-format off",
           "#ifndef SAMEPAGE_IMPORTS_H", "#define SAMEPAGE_IMPORTS_H", "", "#include <stdint.h>", "",
           "#ifdef __wasm__",
           '#define SP_IMPORT(name) __attribute__((import_module("samepage"), import_name(name)))',
           "#else", "#define SP_IMPORT(name)", "#endif", "", "/* A positive number; a negative one is a status. */",
           "typedef int32_t sp_handle;", "", "#ifndef SAMEPAGE_STATUS_H /* the host's own header has the same list */",
           "typedef enum sp_status {"]
    out += [f"    {name} = {value}, /* {text} */" for name, value, text in statuses()]
    out += ["} sp_status;", "#endif", ""]
    for group in groups:
        out.append(f"/* ---- {group[0]} ---- */\n")
        for item in group[2]:
            if isinstance(item, Struct):
                out += [struct_text(item, "sp_"), ""]
                continue
            doc = [item.doc] + [f"{p.name}: {p.doc}" for p in item.parameters if p.doc]
            if item.errors:
                doc.append("Fails with " + ", ".join(item.errors) + ".")
            kind = "int64_t" if item.result == "i64" else "sp_handle" if item.result == "handle" else "int32_t"
            out += [comment(doc), f'SP_IMPORT("{item.name}")',
                    *prototype(kind, f"sp_import_{item.name}", guest_arguments(item)), ""]
    return "\n".join(out + ["#endif", ""])


def wasm_signature(item):
    parts = []
    for p in item.parameters:
        parts += [f"{p.name}: i32", f"{p.count}: i32"] if p.is_pointer else \
                 [f"{p.name}: {'i32' if SCALARS[p.type][0] == 'i' else p.type}"]
    result = "i64" if item.result == "i64" else "i32"
    return f"{item.name}({', '.join(parts)}) -> {result}"


def reference(groups):
    out = ["# What guests can import", "", f"<!-- {NOTE} -->", "",
           'All imports are of the module `"samepage"`. Besides them a guest may import `wasi_snapshot_preview1`. In C, '
           "`sdk/c/include/samepage.h` wraps them.", ""]
    for group in groups:
        out += [f"## {group[0]}", ""]
        if group[1]:
            out += [group[1], ""]
        for item in group[2]:
            if isinstance(item, Struct):
                out += [f"### struct `{item.name}`, {item.bytes()} bytes", "", "| offset | field | type | |",
                        "|---:|---|---|---|"]
                offset = 0
                for field, kind, count, doc in item.fields:
                    out.append(f"| {offset} | `{field}` | {kind}{f'[{count}]' if count > 1 else ''} | {doc} |")
                    offset += FIELDS[kind][0] * count
                out.append("")
                continue
            out += [f"### `{wasm_signature(item)}`", "",
                    item.doc + (" The guest is suspended meanwhile." if item.is_async else ""), ""]
            for p in item.parameters:
                if p.is_pointer:
                    unit = "bytes" if p.is_struct or p.element == "u8" else f"{p.element} values"
                    does = "are read" if p.direction == "in" else "are written at most"
                    out.append(f"- `{p.name}`: {'the struct ' + p.element + '; ' if p.is_struct else ''}"
                               f"`{p.count}` {unit} {does}{'; ' + p.doc if p.doc else '.'}")
                elif p.doc:
                    out.append(f"- `{p.name}`: {p.doc}")
            if item.errors:
                out.append("- fails with " + ", ".join(f"`{e}`" for e in item.errors))
            if out[-1]:
                out.append("")
    out += ["## Statuses", "", "| value | name | meaning |", "|---:|---|---|"]
    out += [f"| {value} | `{name}` | {text} |" for name, value, text in statuses()]
    return "\n".join(wrapped for line in out + [""] for wrapped in wrap(line))


def wrap(line):
    """Text in lines of at most 120 columns; tables as they are."""
    if line.startswith(("|", "#", "<")):
        return [line]
    return textwrap.wrap(line, 120, subsequent_indent="  " if line.startswith("- ") else "", break_long_words=False,
                         break_on_hyphens=False) or [""]


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    groups = parse((ROOT / "sdk/imports.def").read_text())
    known = {name for name, _, _ in statuses()}
    for item in items(groups, Import):
        unknown = set(item.errors) - known
        if unknown or not item.doc:
            sys.exit(f"sdk/imports.def: {item.name}: {'no such status: ' + ', '.join(unknown) if unknown else 'no text'}")
    for path, text in (("src/guest/imports_glue.inc", glue(groups)), ("src/guest/imports_abi.h", abi_header(groups)),
                       ("sdk/c/include/samepage_imports.h", guest_header(groups)), ("docs/imports.md", reference(groups))):
        file = ROOT / path
        if check and (not file.exists() or file.read_text() != text):
            sys.exit(f"{path} is not what sdk/imports.def says: run tools/generate_imports.py")
        if not check:
            file.write_text(text)


if __name__ == "__main__":
    main()
