#!/usr/bin/env bash
# What docs/performance.md says of CUDA and of Vulkan on a card, measured anew, in some minutes: tools/bench_gpu.sh
# [BUILD] [MODEL.gguf]. Also out of a folder of tests/device/pack.sh, on a machine without a compiler. What needs a
# model is measured with MODEL; without one a file of the Llama 3.2 1B shape is made (2.5 GB in TMPDIR, for the time it
# takes), where Python has numpy and gguf, and else left out.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} model=${2:-}
[ ! -d lib ] || export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for description in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json; do # a place that the loader may not know
    [ -n "${VK_DRIVER_FILES:-}" ] || [ ! -f $description ] || export VK_DRIVER_FILES=$description
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CACHE_HOME=$scratch/cache
failed=0

measure() {
    echo "-- ${*/#$build\//}"
    "$@" || failed=1
}

# Decode, prompts, sequences; what goes on without the host; the mirror; keys and values in Q8_0.
measure "$build/bench_cuda" --type BF16,Q8_0,Q4_0,Q4_K --context 0,512,1024,8192 --prefill 24,512,2048 --sequences 16,64 \
    --profile 1 --ahead 32
measure "$build/bench_cuda" --type BF16 --context 512 --restore 24,512,2048,8192,32768
measure "$build/bench_cuda" --type Q4_0 --context 512 --prefill 2048 --mirror 0
measure "$build/bench_cuda" --type BF16,Q4_0 --context 0,512,8192 --prefill 2048 --sequences 16 --kv-type q8_0
if [ -x "$build/bench_vulkan" ]; then
    measure "$build/bench_vulkan" --type BF16,Q8_0,Q4_0,Q4_K --context 0,512,2048,8192 --prefill 24,512,2048 \
        --sequences 2,3,4,5,8,16,32,64 --profile 1,16,64,2048
    measure "$build/bench_vulkan" --type BF16 --context 0,512,8192 --kv-type q8_0
fi

# A guest's loop beside C, and state.
python=.deps/venv/bin/python
[ -x $python ] || python=python3
if [ -z "$model" ] && $python -c 'import gguf, numpy' 2>/dev/null; then
    $python tools/make_model.py "$scratch/bf16.gguf" --shape llama-3.2-1b --type bf16 >/dev/null
    model=$scratch/bf16.gguf
fi
if [ -n "$model" ]; then
    measure "$build/bench_state" "$model" --device cuda --lengths 24,512,2048,8192,32768 --guest "$build/guests/test_durable.wasm"
    measure "$build/samepage" bench -m "$model" -d cuda --boundary -n 512 -p 0 -r 12
else
    echo "not measured: bench_state and samepage bench --boundary, which need a model: tools/bench_gpu.sh $build MODEL.gguf"
fi
[ $failed = 0 ]
