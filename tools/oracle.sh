#!/usr/bin/env bash
# The oracle with nothing golden in it: builds llama.cpp (through llama-cpp-python, about ten minutes on two cores),
# makes the golden numbers anew and holds ours against them, on every device and in every way.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.deps/venv-llama
if [ ! -x $venv/bin/python ] || ! $venv/bin/python -c 'import llama_cpp' 2>/dev/null; then
    echo "oracle: building llama.cpp"
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
        -r tools/requirements-test.txt # gguf wants to download models, too: that is not used
    $venv/bin/pip install --quiet --disable-pip-version-check llama-cpp-python==0.3.36
fi
$venv/bin/python tools/oracle/golden.py -o build/oracle-golden
$venv/bin/python tools/oracle/check.py build/samepage --golden build/oracle-golden --verbose
$venv/bin/python tools/oracle/kv.py check build/samepage
