#!/usr/bin/env bash
# The program with the Metal backend in it, over the stand-in for Apple's libraries: the link's proof, a conversation,
# an agent that moves, and the block of text that a Mac's owner is asked for.
set -euo pipefail
SAMEPAGE=$SAMEPAGE_BUILD_DIR/tests/samepage_metal
export LD_LIBRARY_PATH=$SAMEPAGE_BUILD_DIR/tests # where dlopen is a sanitizer's
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"

json=$("$SAMEPAGE" doctor --json -d metal)
check "$json" 'j["devices"][0]["name"] == "metal" and j["devices"][0]["link"] == "shared"'
check "$json" 'j["devices"][0]["matmul_wrong"] == 0 and j["devices"][0]["copied_bytes"] == 0'
check "$json" 'j["devices"][0]["software"] and j["devices"][0]["description"].startswith("metal-emulated")'
grep -qw metal <<<"$(devices)" || fail "metal is not listed"

answers=$(printf '%s\n' "My name is Ada and my boat is green." "What colour is my boat?" |
    "$SAMEPAGE" chat -m $model -d metal --temp 0)
grep -q "Your boat is green" <<<"$answers" || fail "not remembered: $answers"

"$SAMEPAGE" logits -m $model -d metal --tokens 3056,5,6,7,8,9 -o "$work/metal"
"$SAMEPAGE" logits -m $model -d cpu --isa reference --tokens 3056,5,6,7,8,9 -o "$work/cpu"
.deps/venv/bin/python -c '
import numpy, sys
a, b = (numpy.fromfile(f, "<f4") for f in sys.argv[1:])
assert len(a) == 6 * 3072 and numpy.abs(a - b).max() <= 2e-2 * numpy.abs(b).max(), numpy.abs(a - b).max()
' "$work/metal" "$work/cpu" || fail "the logits of metal are not those of the reference"
# The block for reports.
"$SAMEPAGE" doctor --full -m $model -d metal >"$work/block" || fail "the self-test fails: $(cat "$work/block")"
for line in '^---- samepage doctor --full' 'nothing copied' 'the same bytes' '16384 of 16384 right' '5\.45 times' \
    'same tokens afterwards +8 of 8' 'weights in the mapped file +8\.[0-9]+ MiB' '^---- everything is as it should be ----$'; do
    grep -Eq -e "$line" "$work/block" || fail "no /$line/ in: $(cat "$work/block")"
done
echo "metal: ok"
