#!/usr/bin/env bash
# The examples of the SDK are built as their first lines say, and do what those promise.
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"
if [ "$(uname)" != Linux ]; then # clang and wasi-libc are elsewhere on a Mac, and CMake knows where
    echo "sdk: skipped"
    exit
fi
model=$PWD/$model
ln -s "$PWD/sdk" "$work/sdk"
cd "$work"
export XDG_DATA_HOME=$work/data
for example in sdk/examples/*.c; do
    awk '/^ \*     clang /{on=1} on{print substr($0, 3)} !/\\$/{on=0}' "$example" >build.sh
    [ -s build.sh ] || fail "$example does not say how it is built"
    bash -e build.sh || fail "$example is not built as it says"
done
"$SAMEPAGE" run matmul.wasm -d cpu | grep >/dev/null '^0 of 16384 elements wrong' || fail "matmul"
[ -n "$("$SAMEPAGE" run sampler.wasm -m "$model" -d cpu -- "Once upon a time" 8)" ] || fail "sampler"
echo "My boat is green." | "$SAMEPAGE" run chat.wasm -m "$model" -d cpu | grep >/dev/null green || fail "chat"
for actor in chat_actor agent; do
    "$SAMEPAGE" actor create $actor $actor.wasm -m "$model" -d cpu
    "$SAMEPAGE" actor send $actor "My boat is green." >out
    "$SAMEPAGE" actor send $actor "What colour is my boat?" | grep >/dev/null green || fail "$actor"
done
# What is too long is refused as a whole, and what cannot be written is told.
head -c 100000 /dev/zero | tr '\0' a >long
if "$SAMEPAGE" actor send chat_actor <long 2>err >out || ! grep >/dev/null 'actor_receive said that it failed' err; then
    fail "a long message was taken: $(cat err)"
fi
for command in 'run chat.wasm -d cpu <long' 'run chat.wasm -d cpu </' 'run chat.wasm -d cpu <lines.txt >/dev/full'; do
    echo "My boat is green." >lines.txt
    if eval "\"$SAMEPAGE\" $command -m \"$model\"" 2>err; then
        fail "$command: taken"
    fi
    grep >/dev/null -E 'too long|cannot (read|write)' err || fail "$command: $(cat err)"
done
# The program's own chat with room for a few lines: it forgets the oldest and goes on.
clang --target=wasm32-wasi -O2 -Isdk/c/include -I"$SAMEPAGE_SOURCE_DIR/apps/guests" -DHISTORY_BYTES=512u -DLINE_BYTES=120u \
    "$SAMEPAGE_SOURCE_DIR/apps/guests/chat.c" "$SAMEPAGE_SOURCE_DIR/apps/guests/common.c" sdk/c/samepage_chat.c -o small.wasm
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
        echo "My name is Ada and my boat is green, and this is one of many lines: $i."
    done
    echo "What colour is my boat?"
} >lines
"$SAMEPAGE" run small.wasm -m "$model" -d cpu <lines >answers || fail "a chat with little room"
[ "$(wc -l <answers)" = 13 ] || fail "a chat with little room answers $(wc -l <answers) lines"
tail -n 1 answers | grep >/dev/null green || fail "a chat with little room forgets what was said last"
echo "sdk: ok"
