#!/usr/bin/env bash
# The command line itself: help, versions, options and operands, and what reading text and writing JSON must get right.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

# Every command that --help lists has a --help with an example that begins with its name.
commands=$("$SAMEPAGE" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 9 ] || fail "commands are missing: $commands"
for command in $commands; do
    "$SAMEPAGE" "$command" --help >"$work/out" || fail "$command --help"
    grep -q "^usage: samepage $command " "$work/out" || fail "no usage of $command"
    grep -q "^  samepage $command" "$work/out" || fail "no example of $command"
    "$SAMEPAGE" help "$command" | cmp -s - "$work/out" || fail "help $command is not $command --help"
done
"$SAMEPAGE" actor send --help >"$work/out"
"$SAMEPAGE" help actor send | cmp -s - "$work/out" || fail "help actor send is not actor send --help"
tools/make_cli_docs.sh "$SAMEPAGE" | cmp - docs/cli.md || fail "docs/cli.md is not what --help prints: tools/make_cli_docs.sh"
"$SAMEPAGE" --version | grep >/dev/null -E '^samepage [0-9]+\.[0-9]+\.[0-9]+ \(Wasmtime [0-9.]+\)$' || fail "version"
got=0
"$SAMEPAGE" >/dev/null 2>"$work/err" || got=$?
[ $got = 2 ] && grep -q '^usage:' "$work/err" || fail "no command at all"
"$SAMEPAGE" --help >/dev/full 2>"$work/err" && fail "a full disk goes unnoticed"
grep -q 'cannot write' "$work/err" || fail "a full disk is not told"

# Values
expect 2 "takes a whole number up to" "$SAMEPAGE" complete -m $model -p x -n many
expect 2 "takes a whole number" "$SAMEPAGE" complete -m $model -p x -t -1
expect 2 "takes a number" "$SAMEPAGE" chat -m $model --temp warm
expect 2 "takes a number from 0 to 1, not '1.5'" "$SAMEPAGE" complete -m $model -p x --top-p 1.5
expect 2 "takes a whole number up to 32, not '33'" "$SAMEPAGE" complete -m $model -p x --lookup 33
# Numbers are in tens, here and in the guests that they are handed to.
expect 2 "takes a whole number" "$SAMEPAGE" complete -m $model -p x -n 0x4
[ "$("$SAMEPAGE" complete -m $model -p x -n 010 --ignore-eos --json | sed 's/.*"generated_tokens":\([0-9]*\),.*/\1/')" = 10 ] ||
    fail "-n 010 is not ten"
[ "$("$SAMEPAGE" bench -m $model -d cpu -t 010 -p 1 -n 0 -r 1 --json | sed -n 's/.*"threads":[^0-9]*\([0-9]*\),.*/\1/p' | head -n 1)" = 10 ] ||
    fail "-t 010 is not ten"
expect 2 "takes a size like 512M" "$SAMEPAGE" run "$guests/example_matmul.wasm" --memory-max 3X
expect 2 "takes no value" "$SAMEPAGE" doctor --json=yes
expect 2 "KEY=VALUE" "$SAMEPAGE" run "$guests/example_matmul.wasm" --env LANG
expect 1 "HOST::GUEST" "$SAMEPAGE" run "$guests/example_matmul.wasm" --dir ::/data
expect 1 "not a folder" "$SAMEPAGE" run "$guests/example_matmul.wasm" --dir "$work/err::/data"
# A folder is read unless writing is asked for.
mkdir "$work/folder"
"$SAMEPAGE" run "$guests/test_wasi.wasm" --dir "$work/folder::/data" -- write:/data/new | grep >/dev/null "write /data/new: refused" ||
    fail "a folder can be written to that was given to read"
[ ! -e "$work/folder/new" ] || fail "a guest wrote to a folder that it may read"
"$SAMEPAGE" run "$guests/test_wasi.wasm" --dir "$work/folder::/data::rw" -- write:/data/new | grep >/dev/null "write /data/new: done" ||
    fail "a folder cannot be written to"
[ -e "$work/folder/new" ] || fail "nothing was written"
expect 2 "behind --" "$SAMEPAGE" run "$guests/example_matmul.wasm" argument
expect 2 "which guest" "$SAMEPAGE" run
expect 2 "either --tokens or --text" "$SAMEPAGE" logits -m $model -o "$work/x"
expect 2 "where to" "$SAMEPAGE" logits -m $model --tokens 1
expect 1 "not a list of token ids" "$SAMEPAGE" logits -m $model --tokens 1,x -o "$work/x"
expect 1 "cannot write" "$SAMEPAGE" logits -m $model --tokens 1 -o "$work/no/such/folder"
expect 2 "the model goes behind -m" "$SAMEPAGE" chat $model
expect 2 "the model goes behind -m, the prompt behind -p" "$SAMEPAGE" complete $model
expect 2 "--system goes with --chat" "$SAMEPAGE" complete -m $model -p x --system y
expect 2 "not empty" "$SAMEPAGE" complete -m $model -p x --stop ''
# shellcheck disable=SC2046 # words of a command
expect 2 "at most 16" "$SAMEPAGE" complete -m $model -p x $(printf -- '--stop %d ' {1..17})
expect 2 "-m goes with --full" "$SAMEPAGE" doctor -m $model
expect 2 "leave nothing to do" "$SAMEPAGE" bench -m $model -p 0 -n 0
expect 2 "model info FILE" "$SAMEPAGE" model
expect 1 "needs a device" "$SAMEPAGE" run "$guests/chat.wasm" -m $model -d none

# Arguments behind -- are the guest's, even where they look like ours; -m names models.
"$SAMEPAGE" run -m "demo=$model" "$guests/complete.wasm" -d cpu -- -p "What is 3 plus 4?" --chat -n 12 --json >"$work/out"
check "$(cat "$work/out")" '"7" in j["text"] and j["prompt_tokens"] > 0'
"$SAMEPAGE" run "$guests/complete.wasm" -d cpu -m "$model" -- --help >/dev/null 2>"$work/err" && fail "--help was ours"
grep -q 'no such option: --help' "$work/err" || fail "the guest did not get --help"

# Text: ids, pieces and bytes that are no UTF-8 in JSON.
check "$(printf 'a\xff\xe2\x82b' | "$SAMEPAGE" tokenize -m $model --pieces --json)" \
    'j["count"] == len(j["tokens"]) == len(j["pieces"]) and j["pieces"][0] == "a" and "\ufffd" in "".join(j["pieces"])'
ids=$("$SAMEPAGE" tokenize -m $model -p "Hello there" | tr ' ' ,)
"$SAMEPAGE" logits -m $model -d cpu --tokens "$ids" -o - >"$work/ids"
"$SAMEPAGE" logits -m $model -d cpu --text "Hello there" -o "$work/text" --json >"$work/out"
cmp "$work/ids" "$work/text" || fail "ids and text differ"
check "$(cat "$work/out")" 'j["vocab"] == 3072 and j["tokens"] == 2'
plain=$("$SAMEPAGE" tokenize -m $model -p "<|eot_id|>" | wc -w)
special=$("$SAMEPAGE" tokenize -m $model -p "<|eot_id|>" --parse-special | wc -w)
[ "$special" = 1 ] && [ "$plain" -gt 1 ] || fail "special tokens in text: $plain, $special"

# What --help calls the defaults is what the guests have: given as they are, they change nothing.
defaults() {
    "$SAMEPAGE" "$1" --help | sed -n 's/^  .*--\([a-z-]*\) [NX]  .*(default: \([0-9.]*\)).*/--\1 \2/p'
}
[ "$(defaults chat | wc -l)" = 7 ] && [ "$(defaults complete | wc -l)" = 7 ] || fail "defaults are missing in --help"
printf 'Tell me a story.\nAnd another one.\n' >"$work/lines"
# shellcheck disable=SC2046 # words of a command
"$SAMEPAGE" chat -q -m $model -d cpu $(defaults chat) <"$work/lines" | cmp - <("$SAMEPAGE" chat -q -m $model -d cpu <"$work/lines") ||
    fail "the defaults of chat are others"
# shellcheck disable=SC2046
"$SAMEPAGE" complete -q -m $model -d cpu --ignore-eos $(defaults complete) <"$work/lines" |
    cmp - <("$SAMEPAGE" complete -q -m $model -d cpu --ignore-eos <"$work/lines") || fail "the defaults of complete are others"
[ "$("$SAMEPAGE" complete -q -m $model -d cpu --ignore-eos -p Once --json | sed 's/.*"generated_tokens":\([0-9]*\),.*/\1/')" = 128 ] ||
    fail "the default of -n is not 128"

# A text ends before what --stop says, wherever tokens end; what only began like it is shown.
story() { "$SAMEPAGE" complete -q -m $model -d cpu --chat -p "Tell me a story." -n 60 "$@"; }
whole=$(story)
for stop in "was" "e was" " very proud" "." "$whole"; do
    [ "$(story --stop "$stop")" = "${whole%%"$stop"*}" ] || fail "--stop '$stop': $(story --stop "$stop")"
    [ "$(story --stop "$stop" --lookup 8 2>/dev/null)" = "${whole%%"$stop"*}" ] || fail "--stop '$stop' with --lookup"
done
[ "$(story --stop "never to be seen" --stop "there was an elephant" --stop "$whole!")" = "$whole" ] || fail "--stop cut what is no stop"
check "$(story --stop "zzz" --stop "was" --json)" 'j["finish"] == "stop" and j["text"].endswith(" ") and "was" not in j["text"]'
check "$(story --stop "zzz" -n 3 --json)" 'j["finish"] == "length" and j["generated_tokens"] == 3'

# Who sits at a terminal is told what is waited for; who pipes is not.
cat >"$work/typed.py" <<'PYTHON'
import os, pty, sys
child, terminal = pty.fork()
if not child:
    os.execv(sys.argv[1], sys.argv[1:])
os.write(terminal, b"Hello there\n\x04")
shown = b""
try:
    while data := os.read(terminal, 4096):
        shown += data
except OSError:
    pass  # it was closed
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PYTHON
for command in "complete -n 2 -d cpu" tokenize; do
    # shellcheck disable=SC2086 # words of a command
    python3 "$work/typed.py" "$(realpath "$SAMEPAGE")" $command -m "$PWD/$model" >"$work/out" || fail "$command at a terminal"
    grep -q 'samepage: type the .*; Ctrl-D on a line of its own ends it' "$work/out" || fail "$command waits without a word"
    # shellcheck disable=SC2086
    echo Hello | "$SAMEPAGE" $command -m $model 2>&1 | grep 'Ctrl-D' && fail "$command has a word for nobody"
done

# Rows of a benchmark come when they are known, a row once.
"$SAMEPAGE" bench -m $model -d cpu -t 1 -p 8 -n 4 -b 1,2 -r 1 >"$work/out"
[ "$(grep -c 'tg4 |' "$work/out")" = 1 ] && grep -q 'tg4@2 |' "$work/out" || fail "bench -b 1,2: $(cat "$work/out")"
mkfifo "$work/rows"
"$SAMEPAGE" bench -m $model -d cpu -t 1 -p 8,2000 -n 0 -r 300 >"$work/rows" &
timeout 60 grep -q 'pp8 |' "$work/rows" || fail "the first row of a benchmark waits for the second"
kill -0 $! || fail "it was over already"
kill $!
wait $! || true

# The same seed gives the same text; another model file's facts are there as JSON.
one=$("$SAMEPAGE" complete -m $model -d cpu --chat -p "Tell me a story." --temp 1 --seed 7 -n 30)
two=$("$SAMEPAGE" complete -m $model -d cpu --chat -p "Tell me a story." --temp 1 --seed 7 -n 30)
[ "$one" = "$two" ] || fail "seed 7 gave two texts"
check "$("$SAMEPAGE" model info $model --json --metadata)" 'j["vocab"] == 3072 and j["metadata"]["general.architecture"] == "llama"'
check "$("$SAMEPAGE" bench -m $model -d cpu -t 1 -p 0 -n 4 -r 2 --boundary --json)" \
    'j["boundary"]["host_calls_per_token"] >= 2 and j["boundary"]["guest_us_per_token"] > 0 and j["rows"][0]["through"] == "guest"'
# What auto took is told to who asks, and to nobody's pipe; a device that was named is not told.
"$SAMEPAGE" complete -m $model -p hi -n 1 --verbose 2>&1 >/dev/null | grep >/dev/null '^samepage: computing on ' || fail "auto does not say what it took"
"$SAMEPAGE" complete -m $model -p hi -n 1 2>&1 >/dev/null | grep >/dev/null 'computing on [^ ]*: ' && fail "a pipe is told what auto took"
"$SAMEPAGE" complete -m $model -d cpu -p hi -n 1 --verbose 2>&1 >/dev/null | grep >/dev/null 'computing on ' && fail "cpu was asked for"
check "$("$SAMEPAGE" doctor --json)" 'all(trouble["reason"] for trouble in j["troubles"])'
echo "options: ok"
