#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 60) on top of its corpus. A crash leaves its input in build/fuzz/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
cmake --preset fuzz >/dev/null
cmake --build build/fuzz -j "${JOBS:-$(nproc)}" | tail -n 1
for target in build/fuzz/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    echo "== $name, $seconds s =="
    work=build/fuzz/work/$name
    mkdir -p "$work"
    "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -artifact_prefix=build/fuzz/ -print_final_stats=1 \
        "$work" "fuzz/corpus/${name#fuzz_}" 2>&1 | grep -E 'stat::|SUMMARY|ERROR' || true
    [ -z "$(find build/fuzz -maxdepth 1 -name 'crash-*' -o -maxdepth 1 -name 'oom-*' -o -maxdepth 1 -name 'timeout-*')" ]
done
