#!/usr/bin/env bash
# Guests by `run`: the examples, WASI, limits, exit codes, and Ctrl-C that stops an answer and not the chat.
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

for device in $(devices); do
    "$SAMEPAGE" run "$guests/example_matmul.wasm" -d "$device" | grep '^0 of 16384' >/dev/null || fail "matmul on $device"
done
"$SAMEPAGE" run "$guests/example_sampler.wasm" -m demo=$model </dev/null >"$work/out"
[ -s "$work/out" ] || fail "the sampler example says nothing"
printf 'My boat is green.\nWhat colour is my boat?\n' | "$SAMEPAGE" run "$guests/example_chat.wasm" -m $model |
    grep green >/dev/null || fail "the chat example forgets"

# Limits end the guest with one line.
expect 1 'fuel' "$SAMEPAGE" run "$guests/example_matmul.wasm" --fuel 1000
expect 1 'memory' "$SAMEPAGE" run "$guests/example_matmul.wasm" --memory-max 64K
expect 124 'limit of 1 ms' "$SAMEPAGE" run "$guests/complete.wasm" -m $model --deadline-ms 1 -- -p "Tell me a story." --chat

# A second start takes the module from the cache.
"$SAMEPAGE" run "$guests/example_matmul.wasm" --verbose 2>&1 | grep -i cache >/dev/null || fail "not cached"

# Ctrl-C while it answers: the chat goes on.
mkfifo "$work/in"
"$SAMEPAGE" chat -m $model -d cpu --isa reference -n 400 --temp 1.5 --seed 3 <"$work/in" >"$work/out" 2>"$work/err" &
chat=$!
exec 3>"$work/in"
echo "Tell me a long story about a dog, a cat, a bird and a boat." >&3
for _ in $(seq 100); do
    [ -s "$work/out" ] && break
    sleep 0.05
done
kill -INT $chat
sleep 0.3
kill -0 $chat 2>/dev/null || fail "Ctrl-C ended the chat: $(cat "$work/err")"
echo "What is 3 plus 4?" >&3
exec 3>&-
wait $chat || fail "the chat ended with $?"
grep -q '7' "$work/out" || fail "no answer behind the interrupt: $(cat "$work/out")"
echo "run: ok"
