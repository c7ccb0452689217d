#!/usr/bin/env bash
# Guests by `run`: the examples, WASI, limits, exit codes, and Ctrl-C that stops an answer and not the chat.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

for device in $(devices); do
    "$SAMEPAGE" run "$guests/example_matmul.wasm" -d "$device" | grep '^0 of 16384' >/dev/null || fail "matmul on $device"
done
"$SAMEPAGE" run "$guests/example_sampler.wasm" -m demo=$model </dev/null >"$work/out"
[ -s "$work/out" ] || fail "the sampler example says nothing"
"$SAMEPAGE" run "$guests/example_sampler.wasm" -m $model -- "Once upon a time" 1 </dev/null | grep >/dev/null '^ there was' ||
    fail "the sampler example does not go on as its text says"
printf 'My boat is green.\nWhat colour is my boat?\n' | "$SAMEPAGE" run "$guests/example_chat.wasm" -m $model |
    grep green >/dev/null || fail "the chat example forgets"

# Limits end the guest with one line.
expect 1 'fuel' "$SAMEPAGE" run "$guests/example_matmul.wasm" --fuel 1000
expect 1 'memory' "$SAMEPAGE" run "$guests/example_matmul.wasm" --memory-max 64K
expect 124 'limit of 1 ms' "$SAMEPAGE" run "$guests/complete.wasm" -m $model --deadline-ms 1 -- -p "Tell me a story." --chat

# A second start takes the module from the cache.
"$SAMEPAGE" run "$guests/example_matmul.wasm" --verbose 2>&1 | grep -i cache >/dev/null || fail "not cached"

# ---- Ctrl-C ----
# Job control, because a shell without it starts what runs in the background with Ctrl-C ignored.
set -m

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for: $*"
        sleep 0.05
    done
}

# ended_with CODE PID
ended_with() {
    local code=0
    wait "$2" || code=$?
    [ $code = "$1" ] || fail "exit code $code, not $1 ($(cat "$work/err"))"
}

# Each writes to a file of its own, so that what is waited for is never what was there before.
# While it answers: the answer stops, the chat goes on and knows what was said. One thread of plain C is slow enough.
mkfifo "$work/in"
"$SAMEPAGE" chat -m $model -d cpu --isa reference -t 1 -n 1000 --temp 0 <"$work/in" >"$work/out-chat" 2>"$work/err" &
chat=$!
exec 3>"$work/in"
echo "My boat is green." >&3
wait_for 60 grep -q green "$work/out-chat"
echo "Tell me a long story about a horse." >&3
wait_for 60 grep -q horse "$work/out-chat"
kill -INT $chat
wait_for 10 grep -qF '[interrupted]' "$work/out-chat"
echo "What colour is my boat?" >&3
exec 3>&-
ended_with 0 $chat
tail -n 1 "$work/out-chat" | grep >/dev/null green || fail "no answer behind the interrupt: $(cat "$work/out-chat")"

# While it waits for a line: the chat ends.
"$SAMEPAGE" chat -m $model -d cpu <"$work/in" >"$work/out-line" 2>"$work/err" &
chat=$!
exec 3>"$work/in"
echo "Hello." >&3
wait_for 60 test -s "$work/out-line"
sleep 1
kill -INT $chat
ended_with 130 $chat
exec 3>&-

# complete stops with what it has.
"$SAMEPAGE" complete -m $model -d cpu --isa reference -t 1 -p "Hello" -n 1900 --ignore-eos >"$work/out-complete" 2>"$work/err" &
complete=$!
wait_for 60 test -s "$work/out-complete"
kill -INT $complete
ended_with 130 $complete
[ ! -s "$work/err" ] || fail "more than the text: $(cat "$work/err")"

# A guest that computes nothing and hears of nothing is ended, too.
"$SAMEPAGE" run "$guests/complete.wasm" -m $model -d cpu <"$work/in" >"$work/out-reader" 2>"$work/err" &
reader=$!
exec 3>"$work/in"
sleep 1
kill -INT $reader
ended_with 130 $reader
exec 3>&-
echo "run: ok"
