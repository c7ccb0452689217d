#!/usr/bin/env python3
"""translate.py NAME KERNEL.metal OUT.cc - the Metal text of a kernel as C++ that compiles over shim.h.

Knows spirv-cross's way of writing, one declaration a line, and refuses what it does not know. What it changes:
- the unbounded array in a buffer's struct becomes metal::elements<type, buffer>, which checks every access;
- threadgroup variables move into one struct, so that they can be counted and filled with NaNs;
- numbers with a point are f32, as they are in Metal;
- function constants become variables, and constants that follow from them macros, so that one translation serves every
  pipeline;
- a wrapper feeds the arguments from emu_bounds and emu_current, and a description registers the kernel.
"""
import re
import sys

IDS = {"thread_position_in_threadgroup": "in_group", "threadgroup_position_in_grid": "group",
       "thread_position_in_grid": "in_grid", "threads_per_threadgroup": "group_size", "threadgroups_per_grid": "groups",
       "thread_index_in_threadgroup": "&index", "thread_index_in_simdgroup": "&lane",
       "simdgroup_index_in_threadgroup": "&simd", "simdgroups_per_threadgroup": "&simds"}
WAITS = re.compile(r"\b(threadgroup_barrier|simd_\w+|simdgroup_\w+|quad_\w+)\(")


def refuse(what):
    sys.exit(f"translate.py: {what}")


def hash_of(text):
    value = 0xCBF29CE484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class Kernel:
    def __init__(self, name, source):
        self.name, self.hash = name, hash_of(source)
        self.text = source.decode()
        self.constants, self.shared, self.inline, self.buffers, self.elements = {}, [], {}, {}, {}
        self.waits = WAITS.search(self.text) is not None

    def drop_preamble(self):
        self.text = re.sub(r"^#(include|pragma).*$", "", self.text, flags=re.M)
        self.text = re.sub(r"template<typename T, size_t Num>\nstruct spvUnsafeArray\n\{.*?\n\};\n",
                           lambda found: "\n" * found.group().count("\n"), self.text, flags=re.S)
        self.text = self.text.replace(" [[maybe_unused]]", "")

    def take_constants(self):
        def declare(found):
            kind, name, index = found.groups()
            if kind != "uint":
                refuse(f"a function constant of type {kind}")
            self.constants[name] = int(index)
            return f"static emu_constant &{name}_given = constant_values[{index}];\n#define {name} ({name}_given.value)"

        def derive(found):
            return f"#define {found.group(2)} (({found.group(1)})({found.group(3)}))"
        self.text = re.sub(r"^constant (\w+) (\w+) \[\[function_constant\((\d+)\)\]\];$", declare, self.text, flags=re.M)
        self.text = re.sub(r"is_function_constant_defined\((\w+)\)", r"\1_given.is_set", self.text)
        self.text = re.sub(r"^constant ((?:bool|uint|int|float)[234]?) (\w+) = (.*);$", derive, self.text, flags=re.M)

    def take_arguments(self):
        head = re.search(r"^kernel void main0\((.*)\)$", self.text, flags=re.M)
        if not head or self.text.count("kernel void") != 1:
            refuse(f"{self.name}: one kernel named main0 is expected")
        passed = []
        for argument in re.split(r",\s*(?![^<(\[]*[>)\]])", head.group(1)):
            buffer = re.fullmatch(r"(constant|device|const device) (\w+)& \w+ \[\[buffer\((\d+)\)\]\]", argument)
            place = re.fullmatch(r"(\w+) \w+ \[\[(\w+)\]\]", argument)
            if buffer:
                space, kind, index = buffer.group(1), buffer.group(2), int(buffer.group(3))
                if index in self.buffers or index > 30:
                    refuse(f"{self.name}: two arguments have buffer {index}, or there is no such buffer")
                self.buffers[index] = kind
                if space == "constant":
                    self.inline[index] = kind
                else:
                    self.check_array(kind, index)
                passed.append(f"*({kind} *)emu_bounds[{index}].base")
            elif place and place.group(2) in IDS:
                field = IDS[place.group(2)]
                passed.append(f"emu_id<{place.group(1)}>({'&' if field[0] == '&' else ''}emu_current->{field.lstrip('&')})")
            else:
                refuse(f"{self.name}: argument not understood: {argument}")
        self.text = re.sub(r" \[\[[^\]]*\]\]", "", self.text)
        self.call = f"main0({', '.join(passed)})"

    def check_array(self, kind, index):
        member = re.compile(r"(struct " + kind + r"\n\{\n)    (\w+) (\w+)\[1\];\n(\};)")
        found = member.search(self.text)
        self.elements[index] = found.group(2) if found else ""
        self.text, count = member.subn(rf"\1    elements<\2, {index}> \3;\n\4", self.text)
        if count != 1:
            refuse(f"{self.name}: buffer {index} is not one unbounded array, or shares its struct with another")

    def take_shared(self):
        def move(found):
            self.shared.append(f"{found.group(1)} {found.group(2)}{found.group(3)};")
            return f"    auto &{found.group(2)} = shared.{found.group(2)};"
        self.text = re.sub(r"^    threadgroup ([\w<>, ]+) (\w+)((?:\[\d+\])*);$", move, self.text, flags=re.M)
        self.text = re.sub(r"\(threadgroup (\w+\*)\)", r"(\1)", self.text)  # a component of a vector by its number
        if re.search(r"\bthreadgroup\b", self.text.replace("threadgroup_", "")):
            refuse(f"{self.name}: threadgroup memory in a place that is not understood")

    def write(self, path):
        self.drop_preamble()
        self.take_constants()
        self.take_arguments()
        self.take_shared()
        self.text = re.sub(r"\.([xyzw]{2,4})\b", lambda f: ".swizzle<" + ", ".join(f"'{c}'" for c in f.group(1)) + ">()", self.text)
        self.text = re.sub(r"(?<![\w.])(\d+\.\d+(?:e[-+]?\d+)?)(?![\w.])", r"\1f", self.text)
        mask = sum(1 << i for i in self.buffers)
        bytes_of = "sizeof shared" if self.shared else "0"
        # Shared memory is declared in front of the kernel, and its sizes are literals.
        before, after = self.text.split("kernel void main0", 1)
        with open(path, "w") as out:
            out.write('#include "emulation/shim.h"\n\n')
            out.write("namespace {\nusing namespace metal;\nemu_constant constant_values[EMU_CONSTANTS];\n#line 1 \"%s.metal\"\n" % self.name)
            out.write(before.replace("using namespace metal;", ""))
            if self.shared:
                out.write("struct { " + " ".join(self.shared) + " } shared;\n")
            out.write("#line %d \"%s.metal\"\n" % (before.count("\n") + 1, self.name))
            out.write("kernel void main0" + after)
            out.write(f"\nvoid enter() {{ {self.call}; }}\n}} // namespace\n\n#undef kernel\n#undef constant\n")
            out.write(f"extern \"C\" const emu_kernel emu_kernel_{self.name};\nconst emu_kernel emu_kernel_{self.name} = {{\n")
            out.write(f'    .name = "{self.name}", .text_hash = {self.hash:#x}u, .entry = enter, .waits = {str(self.waits).lower()},\n')
            out.write(f"    .buffers = {mask:#x}, .inline_bytes = {{{self.list_of('sizeof', self.inline)}}},\n")
            out.write(f"    .alignment = {{{self.list_of('alignof', self.elements)}}},\n")
            out.write(f"    .constants = {sum(1 << i for i in self.constants.values()):#x}, .constant_values = constant_values,\n")
            out.write(f"    .threadgroup = {'&shared' if self.shared else 'constant_values'}, .threadgroup_bytes = {bytes_of}}};\n")

    @staticmethod
    def list_of(operator, kinds):
        return ", ".join(f"{operator}({kinds[i]})" if i in kinds else "0" for i in range(max(kinds, default=-1) + 1))


if len(sys.argv) != 4:
    refuse("translate.py NAME KERNEL.metal OUT.cc")
with open(sys.argv[2], "rb") as source:
    Kernel(sys.argv[1], source.read()).write(sys.argv[3])
