#!/usr/bin/env python3
"""test_translate.py NORM.metal - the translation refuses what it does not understand, and what Metal would not take."""
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TEXT = pathlib.Path(sys.argv[1]).read_text()


def translate(text):
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder, "norm.metal"), pathlib.Path(folder, "norm.cc")
        source.write_text(text)
        done = subprocess.run([sys.executable, HERE / "translate.py", "norm", source, out], capture_output=True, text=True)
        return done.returncode, done.stderr


def expect(old, new, message):
    assert old in TEXT, old
    code, said = translate(TEXT.replace(old, new))
    assert code and message in said, f"{old} -> {new}: {said or 'taken'}"


assert translate(TEXT)[0] == 0
expect("[[buffer(5)]]", "[[buffer(4)]]", "two arguments have buffer 4")
expect("[[buffer(6)]]", "[[buffer(31)]]", "there is no such buffer")
expect("[[thread_position_in_threadgroup]]", "[[thread_position_in_dream]]", "argument not understood")
expect("kernel void main0", "kernel void main1", "one kernel named main0 is expected")
expect("float _m0[1];", "float _m0[2];", "is not one unbounded array")
expect("    threadgroup float", "    threadgroup atomic<float>*", "threadgroup memory in a place that is not understood")
print("translate: ok")
