#!/usr/bin/env bash
# Our logits against an evaluation in double, beside llama.cpp's error; greedy text against llama.cpp's. The whole of it
# is tools/oracle.sh.
set -euo pipefail
cd "$SAMEPAGE_SOURCE_DIR"
devices=cpu,cpu:reference
grep -q avx2 /proc/cpuinfo && devices+=,cpu:avx2
"$SAMEPAGE" doctor --json | grep >/dev/null '"vulkan"' && devices+=,vulkan
.deps/venv/bin/python tools/oracle/check.py "$SAMEPAGE" --short --devices "$devices" --work "$SAMEPAGE_BUILD_DIR/oracle"
