#!/usr/bin/env bash
# A model of each family: what is said of it, text out of it on every device, and what is refused by name.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"
python=.deps/venv/bin/python

made() { # NAME: the path of one of the oracle's models
    $python -c 'import sys; sys.path.insert(0, "tools/oracle"); import models; print(models.make(sys.argv[1], "f32", sys.argv[2]))' "$1" "$work"
}

for pair in mistral-window:llama qwen2-yarn:qwen2 qwen3:qwen3 gemma:gemma gemma2:gemma2 gemma3:gemma3 phi3-long:phi3 \
    olmo2:olmo2 olmo3:olmo2 granite:granite; do
    path=$(made "${pair%:*}")
    check "$("$SAMEPAGE" model info "$path" --json)" "j['architecture'] == '${pair#*:}' and j['weight_type'] == 'F32'"
    first=
    for device in $(devices); do
        # Greedy, and longer than every window: the same on all devices.
        json=$("$SAMEPAGE" complete -m "$path" -d "$device" --raw --json --temp 0 -n 8 --ctx 400 \
            -p "$(printf 'the quick brown fox %.0s' {1..8})")
        check "$json" "len(j['tokens']) == 8 or j['finish'] == 'end'"
        tokens=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["tokens"])' "$json")
        [ "${first:=$tokens}" = "$tokens" ] || fail "$pair on $device: $tokens, not $first"
    done
done

# What a file says and nobody computes is refused with its name: a family, a key, a tensor.
path=$(made granite)
changed() { # FROM TO: the file with one string of the same length for another
    $python -c 'import sys; b = open(sys.argv[1], "rb").read(); f, t = (a.encode() for a in sys.argv[3:]); assert len(f) == len(t) and f in b
open(sys.argv[2], "wb").write(b.replace(f, t))' "$path" "$work/changed.gguf" "$@"
}
changed granite gronite
expect 1 'architecture gronite .*supported: llama, qwen2,.* granite' "$SAMEPAGE" model info "$work/changed.gguf"
changed granite.residual_scale granite.residual_shift
expect 1 'granite\.residual_shift.* not supported' "$SAMEPAGE" model info "$work/changed.gguf"
changed blk.1.ffn_norm.weight blk.1.ffn_form.weight
expect 1 'blk\.1\.ffn_norm\.weight is missing' "$SAMEPAGE" model info "$work/changed.gguf"
changed granite qwen2.0
expect 1 'qwen2\.0' "$SAMEPAGE" model info "$work/changed.gguf"
echo "families: ok"
