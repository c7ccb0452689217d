#!/usr/bin/env bash
# Folders as MLX lays them out: logits and greedy text against mlx-lm's golden ones, on every device; what is said of a
# folder; a conversation that is saved on one device and goes on on another; what is refused.
set -euo pipefail
. "$SAMEPAGE_SOURCE_DIR/tests/e2e/common.sh"
list=cpu,cpu:reference
grep -q avx2 /proc/cpuinfo && list+=,cpu:avx2
for device in $(devices); do
    [ "$device" = cpu ] || list+=,$device
done
.deps/venv/bin/python tools/mlx/check.py "$SAMEPAGE" --short --devices "$list" --work "$work"

folder=$work/mlx-demo-4-64
check "$("$SAMEPAGE" model info "$folder" --json)" "j['architecture'] == 'llama' and j['weight_type'] == 'AFFINE4' and j['parameters'] == 8655104"
[ "$("$SAMEPAGE" tokenize -m "$folder" --special -p 'hello <|eot_id|> 12')" = \
    "$("$SAMEPAGE" tokenize -m $model --special -p 'hello <|eot_id|> 12')" ] || fail "other tokens than the same model's GGUF file"

# A conversation, saved on one device and gone on with on another.
export XDG_DATA_HOME=$work/data
other=cpu
case " $(devices) " in *" vulkan "*) other=vulkan ;; esac
"$SAMEPAGE" actor create ada -m "$folder" -d cpu
"$SAMEPAGE" actor send ada "Hello! My name is Ada and my boat is green." >/dev/null
"$SAMEPAGE" actor export ada "$work/ada.snap"
"$SAMEPAGE" actor import eve "$work/ada.snap" -d "$other"
"$SAMEPAGE" actor send eve "What colour is my boat?" | grep >/dev/null green || fail "forgot what was said on another device"
grep >/dev/null 'are how\|is how' <<<"$("$SAMEPAGE" chat -m "$folder" --temp 0 <<<'What is a link?')" || fail "no chat"

# Quantising again is for GGUF files; a folder is told apart by its name.
expect 1 "$folder" "$SAMEPAGE" quantize "$folder" "$work/out.gguf" Q4_0
mv "$folder/tokenizer.json" "$work/tokenizer.json"
expect 1 'has no tokenizer.json.*beside config.json' "$SAMEPAGE" perplexity -m "$folder" -f README.md
mv "$work/tokenizer.json" "$folder/tokenizer.json"
sed -i 's/"llama"/"llamb"/' "$folder/config.json"
expect 1 'config.json: models with model_type llamb are not supported yet .supported: llama, .* gemma3' \
    "$SAMEPAGE" complete -m "$folder" -p a
rm "$folder/config.json"
expect 1 "$folder.*config.json" "$SAMEPAGE" model info "$folder"
echo "mlx: ok"
