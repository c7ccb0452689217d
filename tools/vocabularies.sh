#!/usr/bin/env bash
# Our tokeniser against the original one on published vocabularies: tools/compare_vocabularies.py with what it needs.
# Needs npm, and build/libsamepage.so.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.deps/venv-vocabularies
if ! cat tools/requirements-test.txt tools/requirements-vocabularies.txt | cmp -s - $venv/requirements.txt; then
    rm -rf $venv
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r tools/requirements-test.txt -r tools/requirements-vocabularies.txt
    cat tools/requirements-test.txt tools/requirements-vocabularies.txt >$venv/requirements.txt
fi
$venv/bin/python tools/compare_vocabularies.py build/libsamepage.so "$@"
