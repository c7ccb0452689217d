#!/usr/bin/env python3
"""barriers.py BUILD - takes each barrier out of Metal's translated kernels in turn: the op tests have to fail every
time.

A test of the tests: threadgroup memory that starts as NaN and three orders of threads are there to find a barrier that
is missing, and this shows that they do. Run by make test-long; the kernels are as they were afterwards.
"""
import pathlib
import re
import subprocess
import sys

BARRIER = re.compile(r"\bthreadgroup_barrier\([^;]*\);")


def run(build):
    subprocess.run(["cmake", "--build", build, "--target", "test_ops_metal"], check=True, stdout=subprocess.DEVNULL)
    return subprocess.run([f"{build}/tests/test_ops_metal"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def main(build):
    missed, count = [], 0
    for path in sorted(pathlib.Path(build, "metal").glob("*.cc")):
        text = path.read_text()
        for found in BARRIER.finditer(text):
            count += 1
            try:
                path.write_text(text[:found.start()] + "(void)0;" + text[found.end():])
                if not run(build):
                    missed.append(f"{path.stem}: barrier of line {text.count(chr(10), 0, found.start()) + 1}")
            finally:
                path.write_text(text)
    if run(build):
        sys.exit("barriers.py: the op tests fail with all barriers in place")
    if missed:
        sys.exit("barriers.py: the op tests passed without " + ", ".join(missed))
    print(f"barriers: {count} taken out in turn, and every time the op tests failed")


main(sys.argv[1])
