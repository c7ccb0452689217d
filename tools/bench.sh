#!/usr/bin/env bash
# make bench: what docs/performance.md says of guests and of the cpu device, measured here. Comparisons with llama.cpp
# are bench/versus.py and bench/state_versus.py, which build it first; a card's are make bench-gpu.
set -euo pipefail
build=$1
"$build/bench_guest"
for type in Q4_0 Q8_0; do
    "$build/bench_ops" --only model --type $type
done
