#!/usr/bin/env bash
# Actors by the commands: told a fact, forked, carried to the other device in a file, killed at any time, and asked.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"
export XDG_DATA_HOME=$work/data
actor() { "$SAMEPAGE" actor "$@"; }

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for: $*"
        sleep 0.05
    done
}

# ---- where there is nothing yet, looking makes nothing ----
check "$(actor list --json)" 'j["actors"] == []'
[ -z "$(actor list)" ] || fail "a list of nobody"
touch "$work/file"
expect 1 'file is no folder' actor list --data "$work/file"
for command in "show ada" "log ada" "send ada hello" "rm ada" "fork ada bob" "export ada $work/ada.snap"; do
    # shellcheck disable=SC2086
    expect 1 'there are no actors in .*/data/samepage' actor $command
done
expect 1 'there are no actors' "$SAMEPAGE" snapshot inspect --actor ada
expect 1 'there are no actors' "$SAMEPAGE" store stats
[ ! -e "$work/data" ] || fail "looking made a folder"

# ---- the whole of it ----
other=cpu
case " $(devices) " in *" vulkan "*) other=vulkan ;; esac
actor create ada -m demo=$model -d cpu
actor send ada "Hello! My name is Ada and my boat is green." >"$work/hello"
[ -s "$work/hello" ] || fail "ada says nothing"
actor fork ada bob
actor export ada "$work/ada.snap"
# Nobody listens: what is told must not end in a file that was opened in the place of standard error.
actor fork ada deaf
actor send deaf "What colour is my boat?" -v 2>&- | grep green >/dev/null || fail "no answer without a standard error"
grep -xE '[0-9]+' "$work/data/samepage/lock" >/dev/null || fail "the lock holds $(cat "$work/data/samepage/lock")"
[ "$(wc -l <"$work/data/samepage/lock")" = 1 ] || fail "the lock holds $(cat "$work/data/samepage/lock")"
echo "What colour is my boat?" | actor send deaf - | grep -i green >/dev/null || fail "- is not standard input"
actor rm deaf
actor import eve "$work/ada.snap" -d $other
for name in ada bob eve; do
    actor send $name "What colour is my boat?" | grep -i green >/dev/null || fail "$name forgot"
    actor send $name "And what is my name?" | grep Ada >/dev/null || fail "$name forgot the name"
done
check "$(actor send ada --json "What is my name?")" 'j["handled"] and "Ada" in j["reply"] and j["commit"] == 4'
check "$(actor list --json)" '[a["name"] for a in j["actors"]] == ["ada", "bob", "eve"]'
check "$(actor log bob --json)" '[m["status"] for m in j["messages"]] == ["done", "done"] and "reen" in j["messages"][0]["reply"]'
check "$(actor show eve --json)" 'j["device"] == "'$other'" and j["origin"] == "import" and j["commits"] == 2'
[ "$(stat -c %a "$work/data/samepage")" = 700 ] || fail "the folder is open to others"
[ -z "$(find "$work/data/samepage" "$work/ada.snap" -type f -perm /077)" ] || fail "a file is open to others"

# What it cannot take in is told, is no failure, and changes nothing.
for words in 3000 9000; do # more than its context has room for, and more than it reads
    printf 'boat %.0s' $(seq $words) | actor send bob >"$work/long" || fail "a long message fails"
    grep >/dev/null 'is (too long|longer than)' -E "$work/long" || fail "a long message: $(cat "$work/long")"
done
actor send bob "What colour is my boat?" | grep -i green >/dev/null || fail "a long message has cost the conversation"

# ---- a guest of one's own; the chat example as an actor ----
actor create talk "$guests/example_chat_actor.wasm" -m $model
actor send talk "My boat is green." >/dev/null
actor send talk "What colour is my boat?" | grep green >/dev/null || fail "the chat example forgets as an actor"

actor create one "$guests/test_actor.wasm" -d none
actor create two "$guests/test_actor.wasm" -d none
[ "$(actor send one count)" = 1 ] || fail "count"
[ "$(echo count | actor send one)" = 2 ] || fail "count from standard input"
actor send one "send two count" >/dev/null
[ "$(actor send two count)" = 2 ] || fail "a message between actors"
[ "$(actor send one heard)" = "two:1;" ] || fail "a reply between actors"

# ---- failures ----
expect 1 'no actor nobody' actor send nobody hello
expect 1 'has no message 999' actor log one --message 999
expect 1 'is an actor ada already' actor create ada -m $model
expect 1 'no name for an actor' actor create "../ada" -m $model
expect 1 'cannot open' actor create x -m /nowhere.gguf
expect 1 'is no actor' actor create x "$guests/example_matmul.wasm"
expect 2 'expected a name' actor send
expect 1 'FOO" is not of the form KEY=VALUE' actor create x -m $model --env FOO
expect 1 'is not UTF-8' actor create x -m $model --env $'A=\xff'
expect 1 'two models are called m' actor create x -m m=$model -m m=$model
expect 1 'no actor x' actor show x
expect 2 'no command' "$SAMEPAGE" actor frobnicate

# Where the system does not let the database be opened, it is told why.
(ulimit -f 8 && expect 1 'actors.db: .*\(File too large\)' actor list)

# An actor whose model is gone is held, its message stays, and whoever waits hears of it at once, however the actors are
# held.
cp $model "$work/moves.gguf"
actor create held -m "$work/moves.gguf" -d cpu
mv "$work/moves.gguf" "$work/moved.gguf"
expect 1 'cannot open .*moves.gguf' timeout 20 "$SAMEPAGE" actor send held "My boat is green."
mv "$work/moved.gguf" "$work/moves.gguf"
actor send held "What colour is my boat?" | grep -q green || fail "a message was lost while its actor was held"
actor rm held

# Keys and values in half the memory, across commits, an export and an import; refused where the device does not have
# them.
actor create half -m $model -d cpu --kv-type q8_0
actor send half "My name is Ada and my boat is green." >/dev/null
check "$(actor show half --json)" 'j["kv_type"] == "q8_0"'
check "$(actor show ada --json)" 'j["kv_type"] == "f16"'
actor export half "$work/half.snap"
"$SAMEPAGE" snapshot inspect "$work/half.snap" | grep -q 'blocks of q8_0' || fail "an exported session is not of q8_0"
actor import again "$work/half.snap"
check "$(actor show again --json)" 'j["kv_type"] == "q8_0"'
for name in half again; do
    actor send $name "What colour is my boat?" | grep -q green || fail "$name forgot"
done
actor fork half third
actor send third "What is my name?" | grep -q Ada || fail "a fork of q8_0 forgot"
if "$SAMEPAGE" complete -m $model -d $other --kv-type q8_0 -p x -n 1 >/dev/null 2>&1; then
    actor import moved "$work/half.snap" -d $other
    check "$(actor show moved --json)" 'j["kv_type"] == "q8_0"'
    actor send moved "What colour is my boat?" | grep -q green || fail "q8_0 forgot on the way to $other"
    actor rm moved
else
    expect 1 'does not keep keys and values in q8_0' actor create never -m $model -d $other --kv-type q8_0
    expect 1 'does not keep keys and values in q8_0' actor import never "$work/half.snap" -d $other
fi
actor rm half again third

expect 1 'not of an actor|damaged|not a snapshot' actor import x $model
check "$(actor send one trap --json || true)" 'not j["handled"] and j["failures"] == 3 and "unreachable" in j["error"]'
[ "$(actor send one count)" = 3 ] || fail "a trap was not undone"
check "$(actor log one --json)" '[m["status"] for m in j["messages"]][-2] == "dead"'
# Why it failed is in the log, too: what the guest printed of it.
actor create small -m $model -d cpu --memory-max 1M
actor send small hello >/dev/null 2>"$work/err" && fail "an agent without memory answers"
[ "$(grep -c 'session_create: 2048 tokens of context' "$work/err")" = 3 ] || fail "not once for each try: $(cat "$work/err")"
check "$(actor log small --json)" '"abort (unreachable)" in j["messages"][0]["reason"] and "it had printed: session_create: 2048 tokens" in j["messages"][0]["reason"]'
for variable in TEMPERATURE=hot SEED=-1 TOKENS=many CONTEXT=1k; do
    actor create odd -m $model -d cpu --env $variable
    actor send odd hello >/dev/null 2>&1 && fail "$variable is taken"
    actor log odd | grep >/dev/null "the variable ${variable%=*} is '${variable#*=}', which is no such number" || fail "$variable: $(actor log odd)"
    actor rm odd
done
actor rm small
# What people type wrongly is answered, and no failure.
actor create busy -m $model -d cpu
for seconds in x nan -1 1e99 ""; do
    actor send busy "/remind $seconds tea" | grep -E >/dev/null 'no number of seconds|commands are' || fail "/remind $seconds"
done
actor send busy "/remind 60 $(printf 'tea %.0s' {1..100})" | grep >/dev/null 'at most 255 bytes' || fail "/remind with a long note"
[ "$(actor send busy "/remind 0.5 tea")" = "(I shall)" ] || fail "/remind"
check "$(actor show busy --json)" 'j["dead"] == 0'
actor rm busy
head -c 100000 "$work/ada.snap" >"$work/torn.snap"
expect 1 'torn.snap' actor import torn "$work/torn.snap"
expect 1 'torn.snap' "$SAMEPAGE" snapshot verify "$work/torn.snap"
"$SAMEPAGE" snapshot verify "$work/ada.snap" >/dev/null
check "$("$SAMEPAGE" snapshot inspect --json "$work/ada.snap")" 'j["has_module"] and j["sessions"][0]["tokens"] > 20'
check "$("$SAMEPAGE" snapshot inspect --json --actor ada)" 'j["sessions"][0]["tokens"] > 60'
check "$("$SAMEPAGE" store stats --json)" 'j["blocks"] > 0 and j["damaged_blocks"] == 0'
"$SAMEPAGE" store verify >/dev/null
"$SAMEPAGE" store gc --max 0 | grep >/dev/null -E '^[1-9][0-9]* blocks removed' || fail "no block was removed"
check "$("$SAMEPAGE" store stats --json)" 'j["blocks"] == 0'
actor send ada "What colour is my boat?" | grep -i green >/dev/null || fail "ada needs its blocks"
actor rm eve talk
expect 1 'no actor eve' actor show eve

# ---- many processes at once: each message once, in some order ----
for i in 1 2 3 4 5 6; do
    actor send two count >"$work/count.$i" &
done
wait
sort -n "$work"/count.? | tr '\n' ' ' | grep '^3 4 5 6 7 8 $' >/dev/null || fail "counted $(cat "$work"/count.?)"

# ---- a server, and kill -9 in the middle of an answer: whoever waits takes its place ----
"$SAMEPAGE" actor serve 2>"$work/serve" &
server=$!
wait_for 20 test -S "$work/data/samepage/socket"
expect 1 "process $server holds" actor serve
[ "$(actor send two count)" = 9 ] || fail "count by the server"
actor send two "timer 300 tea" >/dev/null
sleep 0.6
[ "$(actor send two heard)" = "timer:tea;" ] || fail "the timer does not ring"
"$SAMEPAGE" actor send two loop >"$work/loop" 2>&1 &
looping=$!
sleep 0.3
kill -9 $server
wait $server 2>/dev/null || true
sleep 0.3
kill -9 $looping
wait $looping 2>/dev/null || true
actor send bob "What colour is my boat?" | grep -i green >/dev/null || fail "bob did not survive"

# ---- a holder that says all is well and nothing else, as one of another version might ----
mkdir "$work/odd"
python3 - "$work/odd" <<'END' &
import fcntl, os, socket, struct, sys
os.chdir(sys.argv[1])
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen()
open("actors.db", "w").close()
while True:
    one, _ = listener.accept()
    one.recv(1 << 16)
    head = b'{"end":0}'
    one.sendall(struct.pack("<II", len(head), 0) + head)
    one.close()
END
odd=$!
wait_for 20 test -e "$work/odd/actors.db"
for command in "snapshot inspect --actor ada" "actor show ada" "actor show ada --json" "store stats" "store stats --json"; do
    # shellcheck disable=SC2086 # words of a command
    expect 1 'gave no answer' "$SAMEPAGE" $command --data "$work/odd"
done
kill $odd

# ---- encrypted ----
head -c 32 /dev/urandom >"$work/key"
secret="My boat is green and nobody else may know"
actor create ada --data "$work/sealed" --key "$work/key" -m $model -d cpu
actor send ada --data "$work/sealed" --key "$work/key" "$secret" >/dev/null
actor export ada --data "$work/sealed" --key "$work/key" "$work/sealed.snap"
for end in '' '\n' '\r\n'; do # the same key in hexadecimal digits, whatever wrote them
    printf "$(od -An -v -tx1 "$work/key" | tr -d ' \n')$end" >"$work/digits"
    actor list --data "$work/sealed" --key "$work/digits" | grep >/dev/null ada || fail "a key that ends with '$end'"
done
expect 1 'sealed.snap is encrypted: give the key' actor import eve "$work/sealed.snap" --data "$work/other"
[ ! -e "$work/other" ] || fail "an import that failed made a folder, which has no key"
actor import eve "$work/sealed.snap" --data "$work/other" --key "$work/key"
expect 1 'encrypted' actor send ada --data "$work/sealed" hello
if grep -raq "$secret" "$work/sealed" "$work/sealed.snap"; then
    fail "a secret can be read from the disk"
fi
grep -raq "My name is Ada" "$work/data" || fail "the check for secrets checks nothing"
