#!/usr/bin/env bash
# What docs/performance.md says of CUDA and of Vulkan on a card, measured anew: tools/bench_gpu.sh [BUILD]. Also out of
# a folder of tests/device/pack.sh, on a machine without a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
[ ! -d lib ] || export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
"$build/bench_cuda" --type BF16,Q8_0,Q4_0,Q4_K --context 0,512,1024,8192 --prefill 24,512,2048 --sequences 16,64 \
    --rows 2048 --profile 1 --ahead 32
"$build/bench_cuda" --type BF16 --context 512 --restore 24,512,2048,8192,32768 --rows 2048
"$build/bench_cuda" --type Q4_0 --context 512 --prefill 2048 --rows 2048 --mirror 0
if [ -x "$build/bench_vulkan" ]; then
    "$build/bench_vulkan" --type BF16,Q8_0,Q4_0,Q4_K --context 0,512,8192 --prefill 24,512,2048 --sequences 16,64 --rows 2048 --profile 1,512
fi
