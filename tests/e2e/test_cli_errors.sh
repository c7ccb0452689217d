#!/usr/bin/env bash
# The errors that a user will make: one line each that says what to do, and an exit code.
# (A Wasmtime of another version is in tests/unit/test_guest_version.c.)
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"
head -c 100000 $model >"$work/short.gguf"
echo "not a model at all" >"$work/text.gguf"
sed 's/general.architecture\(........\)*llama/&/; s/\x05\x00\x00\x00\x00\x00\x00\x00llama/\x05\x00\x00\x00\x00\x00\x00\x00lxama/' \
    $model >"$work/other.gguf"

expect 1 'cannot open .*No such file' "$SAMEPAGE" chat -m "$work/nothing.gguf"
expect 1 'not a GGUF file' "$SAMEPAGE" complete -m "$work/text.gguf" -p x
: >"$work/empty.gguf"
mkdir "$work/folder"
echo {} >"$work/folder/model.safetensors"
expect 1 'empty.gguf: the file is empty' "$SAMEPAGE" complete -m "$work/empty.gguf" -p x
expect 1 'folder: the folder has no config.json: a model is a GGUF file, or' "$SAMEPAGE" complete -m "$work/folder" -p x
expect 1 'a part of a model: give the folder' "$SAMEPAGE" complete -m "$work/folder/model.safetensors" -p x
expect 1 'download complete' "$SAMEPAGE" complete -m "$work/short.gguf" -p x
expect 1 'architecture lxama are not supported' "$SAMEPAGE" complete -m "$work/other.gguf" -p x
expect 1 'no device "tpu" here: use' "$SAMEPAGE" complete -m $model -p x -d tpu
expect 1 'no device "vulkan:9" here' "$SAMEPAGE" complete -m $model -p x -d vulkan:9
expect 1 'cpu device has no "avx1024"' "$SAMEPAGE" complete -m $model -p x --isa avx1024
expect 1 '--ctx' "$SAMEPAGE" complete -m $model -p "hello there my friend how are you" --ctx 4
"$SAMEPAGE" complete -q -m $model -p hi -n 400 --ctx 8 --ignore-eos 2>&1 >/dev/null | grep >/dev/null 'context of 8 tokens is full.*--ctx' || fail "a full context is not told"
expect 1 'not in 0..3071' "$SAMEPAGE" logits -m $model --tokens 1,99999 -o "$work/logits"
expect 1 'cannot open .*No such file' "$SAMEPAGE" run "$work/nothing.wasm"
expect 1 'gguf is not a valid WebAssembly module: it does not begin like one' "$SAMEPAGE" run $model
expect 1 'given no model' "$SAMEPAGE" run "$guests/chat.wasm"
expect 1 'cannot open m=: No such file' "$SAMEPAGE" run "$guests/chat.wasm" -m m=
expect 1 'cannot open .*/m=: No such file' "$SAMEPAGE" actor create ada -m m= --data "$work/data"
expect 1 'two models are called a: -m NAME=FILE' "$SAMEPAGE" run "$guests/chat.wasm" -m a=$model -m a=$model
printf '\0asm\1\0\0\0' >"$work/empty.wasm"
expect 1 'exports no' "$SAMEPAGE" run "$work/empty.wasm"
expect 1 "exports no function _start.*'samepage actor create NAME FILE'" "$SAMEPAGE" run "$guests/agent.wasm"
expect 2 "'actor' needs a command; see 'samepage actor --help'" "$SAMEPAGE" actor
expect 2 'built in talks with a model: give -m' "$SAMEPAGE" actor create ada --data "$work/data"
expect 1 'quantised already .*--requantize' "$SAMEPAGE" quantize $model "$work/out.gguf" Q4_0
expect 2 "no command 'frob'" "$SAMEPAGE" frob
expect 2 'which model' "$SAMEPAGE" chat
mkfifo "$work/pipe" # waits for nobody: a model that comes through one is none
expect 1 'is not a regular file' timeout 20 "$SAMEPAGE" complete -m "$work/pipe" -p x
expect 1 'pipe: it is not a regular file: give another name' "$SAMEPAGE" quantize $model "$work/pipe" Q4_0 --requantize
[ -p "$work/pipe" ] || fail "a pipe was replaced"
expect 2 'needs a value' "$SAMEPAGE" complete -m $model -p
expect 2 "unknown option '--bogus'" "$SAMEPAGE" complete -m $model --bogus
expect 2 "'--t=3' may be --tokens, --temp or another" "$SAMEPAGE" complete -m $model --t=3
# What cannot be read is not an empty text, and what nobody can read is not printed.
for command in complete chat tokenize; do
    got=0
    "$SAMEPAGE" $command -m "$PWD/$model" </ >"$work/out" 2>"$work/err" || got=$?
    [ "$got" = 1 ] && grep >/dev/null 'cannot read standard input' "$work/err" || fail "$command </: $got $(cat "$work/err")"
done
got=0
"$SAMEPAGE" complete -m $model <&- >"$work/out" 2>"$work/err" || got=$?
[ "$got" = 1 ] && grep >/dev/null 'cannot read standard input: it is closed' "$work/err" || fail "complete <&-: $got"
got=0
"$SAMEPAGE" complete -m $model -p x >&- 2>"$work/err" || got=$?
[ "$got" = 1 ] && grep >/dev/null 'cannot write to standard output: it is closed' "$work/err" || fail "complete >&-: $got"
"$SAMEPAGE" complete -q -m $model -p x -n 2 <&- >/dev/null || fail "a prompt is given, and standard input is of no use"
expect 1 'not UTF-8: such bytes go through' "$SAMEPAGE" complete -m $model -p $'\xff'
if [ "$(uname)" = Linux ]; then # what is written and does not arrive is told
    expect 1 'no device "metal" here: .*built without metal: it is for Macs' "$SAMEPAGE" complete -m $model -p x -d metal
    for command in "complete -q -p hi -n 4 -m $model" "complete -q -p hi -n 4 --json -m $model" "tokenize -p hi -m $model" \
        "logits -q --text hi -m $model -o -" "model info $model"; do
        got=0
        # shellcheck disable=SC2086 # words of a command
        "$SAMEPAGE" $command >/dev/full 2>"$work/err" </dev/null || got=$?
        [ "$got" = 1 ] && grep >/dev/null 'cannot write to standard output' "$work/err" || fail "$command >/dev/full: $got"
        [ "$(wc -l <"$work/err")" = 1 ] || fail "$command >/dev/full: $(cat "$work/err")"
    done
    got=0
    echo hi | "$SAMEPAGE" chat -q -m $model >/dev/full 2>"$work/err" || got=$?
    [ "$got" = 1 ] && grep >/dev/null 'cannot write to standard output' "$work/err" || fail "chat >/dev/full: $got"
    expect 1 "cannot write '/dev/full': No space" "$SAMEPAGE" logits -m $model --text hi -o /dev/full
    [ -c /dev/full ] || fail "/dev/full was removed"
    expect 1 'cannot make the folder /sys/samepage: (Operation not permitted|Permission denied|Read-only)' \
        "$SAMEPAGE" actor create ada -m $model --data /sys/samepage
fi
# A model that is written over is in use until then, and what was there stays if it fails.
cp $model "$work/own.gguf"
expect 1 'not in 0..3071' "$SAMEPAGE" logits -m "$work/own.gguf" --tokens 1,99999 -o "$work/own.gguf"
cmp $model "$work/own.gguf" || fail "a file was lost in vain"
"$SAMEPAGE" logits -q -d cpu -m "$work/own.gguf" --text "some words" -o "$work/own.gguf" || fail "logits in the model's place"
"$SAMEPAGE" logits -q -d cpu -m $model --text "some words" -o - | cmp - "$work/own.gguf" || fail "other logits"
# What does not fit is no file afterwards: half of one would be taken for a whole one.
mkdir "$work/full"
(ulimit -f 64 && expect 1 'too large' "$SAMEPAGE" logits -m $model --text "some words and some more" -o "$work/full/logits")
(ulimit -f 64 && expect 1 'too large' "$SAMEPAGE" quantize $model "$work/full/q4.gguf" Q4_0 --requantize)
# A cache that cannot be written is done without.
(ulimit -f 0 && XDG_CACHE_HOME=$work/full/cache "$SAMEPAGE" complete -q -m $model -p x -n 2 -d cpu | grep . >/dev/null) ||
    fail "no completion without a cache"
rm -r "$work/full/cache"
[ -z "$(ls -A "$work/full")" ] || fail "left behind: $(ls "$work/full")"
(ulimit -v 3000000 && expect 1 'address space' "$SAMEPAGE" complete -m $model -p x)

echo "errors: ok"
