#!/usr/bin/env bash
# make test-cuda (cuda): the CUDA backend with whatever compiler there is, over a stand-in for the driver; and on a
# card, if there is one, its numbers. make test (short) and make test-long (long): the tests as they are, then the parts
# that sanitizers can see, then lint.
set -euo pipefail
cd "$(dirname "$0")/.."
tier=${1:-short}
jobs=${JOBS:-$(nproc)}

run() { # preset, targets, ctest arguments
    local preset=$1 targets=$2 folder=build
    shift 2
    [ "$preset" = release ] || folder=build/$preset
    cmake --preset "$preset" >/dev/null
    cmake --build "$folder" -j "$jobs" --target $targets | tail -n 1
    echo "== $preset, after $SECONDS s =="
    ctest --test-dir "$folder" --output-on-failure -j "$jobs" "$@"
}

if [ "$tier" = cuda ]; then
    tools/bootstrap.sh --cuda
    cmake --preset cuda >/dev/null
    cmake --build build/cuda -j "$jobs" --target test_cuda_driver test_cuda_link test_ops_cuda test_cuda_decode test_cuda_wide \
        test_cuda_leftovers | tail -n 1
    ctest --test-dir build/cuda --output-on-failure -R cuda
    exit
fi
tools/lint.sh
if [ "$tier" = long ] && command -v cargo >/dev/null; then
    tools/bootstrap.sh --headers # unit/wasmtime_headers then holds our declarations against the official ones
fi
cmake --preset clang >/dev/null # everything once more with the other compiler: for its warnings, nothing is run
cmake --build build/clang -j "$jobs" | tail -n 1
run release all
run asan tests/all -LE e2e
# Threads are in the pool, in crews, the cpu device, quantising, and around the engine: its clock, its jobs, Wasmtime's
# for compiling and for streams (tests/support/tsan.supp says what is not seen of these). Left out for their time:
# stores, prompt lookup, actors, sessions, Vulkan.
threaded="pool crew ops_cpu quantise guest_run guest_crowd guest_jobs guest_memory guest_wasi"
run tsan "$(printf 'test_%s ' $threaded)" -R "test_(${threaded// /|})\$"
if [ "$tier" = long ]; then
    SAMEPAGE_TEST_STRIDE=1 ctest --test-dir build --output-on-failure -R ops/test_ops_metal
    python3 tests/emulation/barriers.py build
    ! command -v cargo >/dev/null || python3 tests/emulation/check_messages.py
    SAMEPAGE_FAULT_RUNS=100 ctest --test-dir build --output-on-failure -R 'fault/test_(actor|power)' # thousands of runs
    run debug all
    export SAMEPAGE_TEST_STRIDE=1
    run asan all
    run tsan "$(printf 'test_%s ' $threaded)" -R "test_(${threaded// /|})\$"
    tools/fuzz.sh 120
    tools/oracle.sh
    if command -v npm >/dev/null; then
        tools/vocabularies.sh # the tokeniser on published vocabularies, whole
    fi
fi
