#!/usr/bin/env bash
# samepage perplexity: llama.cpp's figures, the same for any way of cutting the logits, and errors that say what to do.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

.deps/venv/bin/python tools/oracle/perplexity.py "$SAMEPAGE" || fail "not llama.cpp's perplexity"

for i in $(seq 60); do echo "What is $i plus 2? $i + 2 = $((i + 2))."; done >"$work/text"
json=$("$SAMEPAGE" perplexity -m $model -f "$work/text" -c 128 --chunks 2 --json -d cpu)
check "$json" 'j["chunks"] == 2 and j["context"] == 128 and j["predicted_tokens"] == 2 * 63 and j["perplexity"] > 1'
"$SAMEPAGE" perplexity -m $model -f "$work/text" -c 64 --chunks 1 -d cpu | grep >/dev/null -E "^perplexity [0-9.]+ \+/- [0-9.]+ \(llama" ||
    fail "no line of text"
piped=$("$SAMEPAGE" perplexity -m $model -f - -c 128 --chunks 2 --json -d cpu <"$work/text")
check "[$json, $piped]" 'j[0]["perplexity"] == j[1]["perplexity"]'

echo "too short" >"$work/short"
expect 1 "give a longer text or a smaller -c" "$SAMEPAGE" perplexity -m $model -f "$work/short"
expect 1 "more than the [0-9]+ tokens" "$SAMEPAGE" perplexity -m $model -f "$work/text" -c 1000000
expect 1 "at least 4" "$SAMEPAGE" perplexity -m $model -f "$work/text" -c 3
expect 1 "cannot open" "$SAMEPAGE" perplexity -m $model -f "$work/none"
expect 1 "not a regular file" "$SAMEPAGE" perplexity -m $model -f "$work"
expect 2 "give -f FILE" "$SAMEPAGE" perplexity -m $model
expect 2 "give -m FILE" "$SAMEPAGE" perplexity -f "$work/text"
echo "perplexity: ok"
