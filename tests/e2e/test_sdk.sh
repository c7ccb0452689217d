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
echo "sdk: ok"
