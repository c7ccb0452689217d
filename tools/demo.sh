#!/usr/bin/env bash
# make demo: the links, proven on this machine, and a conversation with the model that the repository carries.
set -euo pipefail
cd "$(dirname "$0")/.."
samepage=$1
model=models/samepage-demo-q8_0.gguf

echo
echo "── 1. The links: one mapping as guest memory, host pointer and device buffer ──"
echo
if [ "$(uname)" = Darwin ]; then # the figures that we have nobody to measure: docs/apple.md
    "$samepage" doctor --full -m "$model"
else
    "$samepage" doctor
fi

echo
echo "── 2. A conversation: a guest, its logits and its KV cache in its own linear memory ──"
echo
"$samepage" chat -m "$model" --script --stats --temp 0 <<'TALK'
Hello! My name is Ada and my boat is green.
What is Samepage?
What is 7 plus 5?
What colour is my boat?
And what is my name?
TALK

echo
echo "── 3. What the sandbox costs: the same loop as a guest and in C, in turns ──"
echo
"$samepage" bench -m "$model" -p 0 -n 64 -r 20 --boundary

echo
echo "── 4. A durable agent: told a fact, killed, restored, forked, moved to another device, asked ──"
echo
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
export XDG_DATA_HOME=$data
other=cpu
"$samepage" doctor --json | grep >/dev/null '"name":.*"vulkan"' && other=vulkan
actor() {
    printf '$ samepage actor'
    for word in "$@"; do
        case $word in
        *' '*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    echo
    "$samepage" actor "$@"
}
actor create ada -m "$model" -d cpu
"$samepage" actor serve 2>/dev/null &
server=$!
until [ -S "$data/samepage/socket" ]; do sleep 0.05; done
actor send ada "My name is Ada and my boat is green." -v
echo "\$ kill -9 $server    # the process that holds the actors"
{ kill -9 $server && wait $server; } 2>/dev/null || true # without the shell's own words about it
actor send ada "What colour is my boat?" -v
actor fork ada bob
actor send bob "And what is my name?"
actor export ada "$data/ada.snap"
actor import eve "$data/ada.snap" -d $other -v
actor send eve "What colour is my boat?" -v
actor list
