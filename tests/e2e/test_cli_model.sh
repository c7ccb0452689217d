#!/usr/bin/env bash
# The main path: links, chat that remembers, complete, logits, tokenize, bench, on every device there is.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

json=$("$SAMEPAGE" doctor --json)
check "$json" 'len(j["devices"]) >= 1 and all(d["matmul_elements"] == 16384 and d["matmul_wrong"] == 0 for d in j["devices"])'
check "$json" 'all(d["copied_bytes"] == 0 and d["link"] in ("shared", "mapped") for d in j["devices"])'
if grep -q __asan_init "$SAMEPAGE"; then
    echo "not checked: resident memory, which is the sanitizer's own in this build"
else
    check "$json" 'all(d["rss_delta_bytes"] < 1 << 20 for d in j["devices"])'
fi

for device in $(devices); do
    answers=$(printf '%s\n' "My name is Ada and my boat is green." "What is 7 plus 5?" "What colour is my boat?" \
        "What is my name?" | "$SAMEPAGE" chat -m $model -d "$device" --temp 0)
    for word in green 12 Ada; do
        grep -q "$word" <<<"$answers" || fail "no $word on $device in: $answers"
    done
    # An answer that is found in what was said before: the same with prompt lookup, turn by turn.
    questions=("Say this: the red boat is in the harbour of the old town." "Say this: the red boat is in the harbour of the old town." "What is 7 plus 5?")
    for more in "--temp 0" "--temp 0.8 --seed 3"; do
        # shellcheck disable=SC2086
        plain=$(printf '%s\n' "${questions[@]}" | "$SAMEPAGE" chat -m $model -d "$device" -n 24 $more)
        # shellcheck disable=SC2086
        found=$(printf '%s\n' "${questions[@]}" | "$SAMEPAGE" chat -m $model -d "$device" -n 24 $more --lookup 8 --stats 2>"$work/err")
        [ "$plain" = "$found" ] || fail "with lookup on $device another answer: $found instead of $plain"
        grep -Eq 'lookup +[1-9][0-9]* of' "$work/err" || fail "nothing was found on $device: $(cat "$work/err")"
    done
    json=$("$SAMEPAGE" complete -m $model -d "$device" --chat --temp 0 -n 20 --json -p "My boat is red. What colour is my boat?")
    check "$json" '"red" in j["text"] and j["finish"] == "end" and len(j["tokens"]) == j["generated_tokens"]'
    "$SAMEPAGE" logits -m $model -d "$device" --tokens 3056,5,6,7,8,9 -o "$work/batch"
    "$SAMEPAGE" logits -m $model -d "$device" --tokens 3056,5,6,7,8,9 -o "$work/step" --step
    [ "$(stat -c %s "$work/batch")" = $((6 * 3072 * 4)) ] || fail "logits of a wrong size on $device"
    .deps/venv/bin/python -c '
import numpy, sys
a, b = (numpy.fromfile(f, "<f4") for f in sys.argv[1:])
assert numpy.isfinite(a).all() and numpy.abs(a - b).max() <= 1e-4 * numpy.abs(a).max(), numpy.abs(a - b).max()
' "$work/batch" "$work/step" || fail "one batch and token by token differ on $device"
done

# Keys and values in half the memory: the same answers; a device without them says so.
for device in $(devices); do
    if "$SAMEPAGE" complete -m $model -d "$device" --kv-type q8_0 -p x -n 1 >/dev/null 2>"$work/err"; then
        answers=$(printf '%s\n' "My name is Ada and my boat is green." "What is 7 plus 5?" "What colour is my boat?" |
            "$SAMEPAGE" chat -m $model -d "$device" --temp 0 --kv-type q8_0)
        for word in green 12 Ada; do
            grep -q "$word" <<<"$answers" || fail "no $word with q8_0 on $device in: $answers"
        done
        for way in "" --native; do
            check "$("$SAMEPAGE" bench -m $model -d "$device" -p 16 -n 4 -r 1 --kv-type q8_0 --json $way)" 'True'
        done
    else
        [ "$device" != cpu ] || fail "no q8_0 on the cpu"
        grep -q "does not keep keys and values in q8_0: ask for f16" "$work/err" || fail "$(cat "$work/err")"
    fi
done
expect 2 "kv-type takes f16 or q8_0" "$SAMEPAGE" complete -m $model --kv-type q4_0 -p x

[ "$("$SAMEPAGE" complete -m $model --chat --temp 0 -p "What is 3 plus 4?" | tail -n 1)" = "3 + 4 = 7." ] || fail "arithmetic"
[ "$(echo -n "Hello" | "$SAMEPAGE" tokenize -m $model)" = "$("$SAMEPAGE" tokenize -m $model -p Hello)" ] || fail "tokenize"
check "$("$SAMEPAGE" model info $model --json)" 'j["architecture"] == "llama"'

for way in "" --native; do
    json=$("$SAMEPAGE" bench -m $model -p 32 -n 8 -r 2 -b 2 --json $way)
    rows='(j["rows"] if isinstance(j, dict) else j)'
    check "$json" "all(k in r for r in $rows for k in ('device', 'model_type', 'test', 'threads', 'tokens_per_s', 'read_gb_per_s', 'fraction_of_bandwidth'))"
    check "$json" "{'pp32', 'tg8'} <= {r['test'] for r in $rows} and all(r['tokens_per_s'] > 0 for r in $rows)"
done
echo "model: ok"
