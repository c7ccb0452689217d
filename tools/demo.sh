#!/usr/bin/env bash
# make demo: the links, proven on this machine, and a conversation with the model that the repository carries.
set -euo pipefail
samepage=$1
model=$(dirname "$0")/../models/samepage-demo-q8_0.gguf

echo
echo "── 1. The links: one mapping as guest memory, host pointer and device buffer ──"
echo
"$samepage" doctor

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
