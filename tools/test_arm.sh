#!/usr/bin/env bash
# make test-arm: everything compiles and links for aarch64 Linux (with gcc) and for macOS on Apple silicon (with clang),
# warnings being errors; on three emulated processors every level of the kernels is held against double, and the demo
# model answers; on the last of them the tests that an emulator can run do. Nothing here says how fast anything is.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
tools/bootstrap.sh --arm
for target in aarch64-linux aarch64-macos; do
    cmake --preset $target >/dev/null
    cmake --build build/$target -j "$jobs" | tail -n 1
done

built=$PWD/build/aarch64-linux
export SAMEPAGE_SOURCE_DIR=$PWD SAMEPAGE_BUILD_DIR=$built XDG_CACHE_HOME=$built/cache
emulated() { # processor, program, arguments
    qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$1" "$built/$2" "${@:3}"
}

# Compiled for the processor by the emulated program itself, a guest holds the conversation.
converse() { # processor
    emulated "$1" samepage chat -m models/samepage-demo-q8_0.gguf --script --temp 0 <<'TALK'
Hello! My name is Ada and my boat is green.
What is Samepage?
What is 7 plus 5?
What colour is my boat?
And what is my name?
TALK
}

check_processor() { # processor, the level it should get, what test_ops_cpu is to run
    local level
    echo "== $1 =="
    level=$(emulated "$1" samepage doctor --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["devices"][0]["isa"])')
    [ "$level" = "$2" ] || { echo "test-arm: $1 computes with $level, not with $2" >&2; exit 1; }
    converse "$1" | tee "$built/talk.txt"
    for fact in '12' 'boat is green' 'name is Ada'; do
        grep >/dev/null "^[^>].*$fact" "$built/talk.txt" || { echo "test-arm: no answer says \"$fact\"" >&2; exit 1; }
    done
    SAMEPAGE_TEST_STRIDE=5 emulated "$1" tests/test_ops_cpu "${@:3}" >"$built/ops.txt" 2>&1 ||
        { cat "$built/ops.txt"; exit 1; }
    grep 'OK' "$built/ops.txt"
}
check_processor cortex-a57 neon neon
check_processor cortex-a76 dotprod neon
check_processor max bf16 neon bf16

# Pages of 16 KiB, as Macs have them.
QEMU_CPU=max QEMU_PAGESIZE=16384 ctest --test-dir "$built" --output-on-failure -j "$jobs" -R \
    'unit/test_(region|tracker|dirty|session|guest_memory|snapshot_golden)$'

# Left out: what starts programs of its own (the emulator is not known to the kernel), what makes hundreds of guests or
# thousands of regions (the emulator keeps a record of every reserved page), and what only takes its time.
QEMU_CPU=max ctest --test-dir "$built" --output-on-failure -j "$jobs" -R \
    'unit/test_(chat|cpu_store|dequant|dirty|embedded|families|gguf|guest_memory|guest_run|guest_version|guest_wasi|half|imports|memory|model|park|pool|quant|quantise|region|rewrite|sampler|session|tape|tracker)$'
