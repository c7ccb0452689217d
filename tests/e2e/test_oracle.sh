#!/usr/bin/env bash
# Our logits against an evaluation in double, beside llama.cpp's error; greedy text against llama.cpp's.
set -euo pipefail
cd "$SAMEPAGE_SOURCE_DIR"
devices=cpu,cpu:reference
grep -q avx2 /proc/cpuinfo && devices+=,cpu:avx2
"$SAMEPAGE" doctor --json | grep >/dev/null '"vulkan"' && devices+=,vulkan
.deps/venv/bin/python tools/oracle/check.py "$SAMEPAGE" --short --devices "$devices" --work "$SAMEPAGE_BUILD_DIR/oracle"
# Keys and values in Q8_0, beside llama.cpp's in the same.
.deps/venv/bin/python tools/oracle/kv.py --work "$SAMEPAGE_BUILD_DIR/oracle" check "$SAMEPAGE" --devices "${devices%,vulkan}"
