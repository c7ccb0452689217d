#!/usr/bin/env bash
# Keys and values in Q8_0: our logits against an evaluation in double, beside llama.cpp's with the same. The
# whole of it is in tools/oracle.sh.
set -euo pipefail
cd "$SAMEPAGE_SOURCE_DIR"
devices=cpu,cpu:reference
grep -q avx2 /proc/cpuinfo && devices+=,cpu:avx2
.deps/venv/bin/python tools/oracle/kv.py --work "$SAMEPAGE_BUILD_DIR/oracle_kv" check "$SAMEPAGE" --short --devices "$devices"
