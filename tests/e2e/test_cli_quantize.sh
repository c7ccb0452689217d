#!/usr/bin/env bash
# samepage quantize: the files are llama.cpp's, they run, and what cannot be is refused without leaving anything behind.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

nice .deps/venv/bin/python tools/oracle/quantise.py "$SAMEPAGE" || fail "other files than llama.cpp's"

"$SAMEPAGE" quantize $model "$work/q6.gguf" q6_k --requantize >"$work/out"
grep -q "tensors converted" "$work/out" || fail "no summary"
[ "$("$SAMEPAGE" complete -m "$work/q6.gguf" --chat --temp 0 -p "What is 3 plus 4?" -d cpu | tail -n 1)" = "3 + 4 = 7." ] ||
    fail "what was quantised to Q6_K answers otherwise"
json=$("$SAMEPAGE" quantize $model "$work/q4.gguf" Q4_K_M --requantize --json)
check "$json" 'j["type"] == "Q4_K_M" and j["out_bytes"] < j["in_bytes"] and 4.5 < j["bits_per_weight"] < 5.5'
check "$json" '{t["to"] for t in j["tensors"]} == {"F32", "Q4_K", "Q6_K"}'
json=$("$SAMEPAGE" model info "$work/q4.gguf" --json --metadata)
check "$json" 'j["weight_type"] == "Q4_K" and j["metadata"]["general.file_type"] == "15"'
"$SAMEPAGE" quantize $model Q4_0 --requantize --dry-run | grep >/dev/null "token_embd.weight *Q8_0 *Q6_K" || fail "--dry-run"
rm "$work"/q*.gguf

# Whatever ends it in the middle leaves nothing behind, and the exit code is what a shell says of the signal.
if [ "$(uname)" = Linux ]; then
    mkdir "$work/ended"
    set -m # else what runs in the background ignores Ctrl-C
    for end in INT:130 TERM:143 HUP:129 KILL:137; do
        got=0
        "$SAMEPAGE" quantize $model "$work/ended/q2.gguf" Q2_K --requantize -t 1 >/dev/null 2>"$work/err" &
        until ls -l /proc/$!/fd 2>/dev/null | grep -q "$work/ended/"; do
            kill -0 $! || fail "it never opened its file: $(cat "$work/err")"
        done
        kill -s "${end%:*}" $!
        wait $! || got=$?
        [ "$got" = "${end#*:}" ] || fail "SIG${end%:*}: exit code $got, $(cat "$work/err")"
        [ -z "$(ls -A "$work/ended")" ] || fail "SIG${end%:*} left $(ls -A "$work/ended")"
    done
    set +m
    rmdir "$work/ended"
fi

expect 1 "quantised already \(Q8_0\)" "$SAMEPAGE" quantize $model "$work/o.gguf" Q4_0
expect 1 "no quantised type \"Q4_L\"" "$SAMEPAGE" quantize $model "$work/o.gguf" Q4_L
expect 1 "is the model itself" "$SAMEPAGE" quantize $model ./$model Q4_0 --requantize
ln -s "$PWD/$model" "$work/link.gguf"
expect 1 "is the model itself" "$SAMEPAGE" quantize $model "$work/link.gguf" Q4_0 --requantize
expect 1 "cannot open" "$SAMEPAGE" quantize "$work/none.gguf" "$work/o.gguf" Q4_0
expect 1 "cannot write" "$SAMEPAGE" quantize $model "$work/none/o.gguf" Q4_0 --requantize
expect 2 "expected 'quantize IN OUT TYPE'" "$SAMEPAGE" quantize $model Q4_0
head -c 100000 $model >"$work/cut.gguf"
expect 1 "is the download complete" "$SAMEPAGE" quantize "$work/cut.gguf" "$work/o.gguf" Q4_0
[ -z "$(ls "$work" | grep -v -e cut -e link -e out -e err -e cache)" ] || fail "left behind: $(ls "$work")"
echo "quantize: ok"
