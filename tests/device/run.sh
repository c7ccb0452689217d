#!/usr/bin/env bash
# The complete suite of a machine with a CUDA card: ops against double, a token in one launch against the same op by op,
# doctor's proof of the link, and, where compute-sanitizer is installed, memory and races of the decode test. Prints a line
# of the form "N passed, N failed" last and fails if anything did.
#
#     tests/device/run.sh [BUILD]     a build folder with -DSAMEPAGE_CUDA=ON (default: build)
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
passed=0 failed=0

check() { # name, command...
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

doctor() { # the card is there, and a product through its link has no wrong element
    local text
    text=$("$build/samepage" doctor) || return 1
    awk '/^cuda/ {card = 1; next} /^$/ {card = 0} card' <<<"$text" | tee /dev/stderr | grep >/dev/null ' 0 of .* elements wrong'
}

command -v nvidia-smi >/dev/null && nvidia-smi -L
check "every op, every type, against double" "$build/tests/test_ops_cuda"
check "a token in one launch agrees with op by op" "$build/tests/test_cuda_decode"
check "the stand-in driver's sequences" env SAMEPAGE_BUILD_DIR="$build" "$build/tests/test_cuda_driver"
check "doctor proves the link" doctor
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        check "compute-sanitizer $tool" timeout 600 compute-sanitizer --tool $tool --error-exitcode 9 \
            "$build/tests/test_cuda_decode" short
    done
else
    echo "compute-sanitizer is not installed: memory and races are not checked"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
