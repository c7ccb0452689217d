#!/usr/bin/env bash
# The complete suite of a machine with an NVIDIA card, by CUDA and by Vulkan: ops against double, a token in one launch
# against the same op by op, a conversation that moves between the devices, doctor's proof of the link, the program's
# own commands, and, where compute-sanitizer is installed, memory and races of kernels. Prints a line of the form "N
# passed, N failed, N not run" last and fails if anything did. Not run is what lacks a driver here, in part or whole: it
# is named, and never counted as passed.
#
#     tests/device/run.sh [BUILD]     a build folder with -DSAMEPAGE_CUDA=ON (default: build)
#
# It compiles nothing and fetches nothing. A machine without a compiler takes a folder that tests/device/pack.sh made.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build}")
[ ! -d lib ] || export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export SAMEPAGE_SOURCE_DIR=$PWD SAMEPAGE_BUILD_DIR=$build
model=models/samepage-demo-q8_0.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'kill "${processes[@]}"; exit 130' INT TERM
export XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
passed=0 failed=0 missing=0
# Where the driver's own description is not in a place that the Vulkan loader knows.
for description in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json; do
    [ -n "${VK_DRIVER_FILES:-}" ] || [ ! -f $description ] || export VK_DRIVER_FILES=$description
done

# Most of a test's time is the host's, which evaluates in double on few threads, so tests run beside each other: begin
# starts one, finish waits for all of them, in order, and prints what each said.
names=() processes=() # processes: a shell for each, which passes on that it is to end
begin() { # name, command...
    local said=$work/said.${#names[@]} name=$1
    shift
    (
        SECONDS=0
        "$@" >"$said" 2>&1 &
        trap 'kill $!' TERM
        wait $!
        result=$?
        echo $SECONDS >"$said.seconds"
        exit $result
    ) &
    names+=("$name") processes+=($!)
}

finish() { # what has begun, in order
    local i result said
    for i in "${!names[@]}"; do
        said=$work/said.$i
        echo "running: ${names[i]}"
        wait "${processes[i]}"
        result=$?
        cat "$said"
        if [ $result != 0 ]; then
            failed=$((failed + 1))
            echo "FAILED: ${names[i]}"
        elif grep -q '^\[ *SKIPPED *\]' "$said"; then
            missing=$((missing + 1))
            echo "NOT RUN, in part or whole: ${names[i]}"
        else
            passed=$((passed + 1))
            echo "ok: ${names[i]}, $(cat "$said.seconds") s"
        fi
    done
    names=() processes=()
}

check() { # name, command...: with nothing beside it
    begin "$@"
    finish
}

moving_conversation() { # over all three devices, with both types of keys and values; a test passes where only two are there
    for type in f16 q8_0; do
        SAMEPAGE_TEST_KV=$type "$build/tests/test_snapshot" 2>&1 | tee "$work/moved" || return 1
        for device in cuda vulkan; do
            grep -q "^on $device," "$work/moved" || echo "[  SKIPPED ] there is no $device to move to"
        done
    done
}

doctor() { # the card is there, and a product through its link has no wrong element
    local text
    text=$("$build/samepage" doctor) || return 1
    awk '/^cuda/ {card = 1; next} /^$/ {card = 0} card' <<<"$text" | grep ' 0 of .* elements wrong'
}

same_answers() { # complete and chat, greedily, on both devices
    for device in cpu cuda; do
        "$build/samepage" complete -m $model -d $device --chat -p "My name is Ada. What is my name?" --temp 0 >"$work/complete.$device" || return 1
        printf 'My boat is green.\nWhat colour is my boat?\n' |
            "$build/samepage" chat -m $model -d $device --temp 0 >"$work/chat.$device" || return 1
        paste "$work/complete.$device" "$work/chat.$device"
        "$build/samepage" complete -m $model -d $device --kv-type q8_0 --chat -p "My name is Ada. What is my name?" --temp 0 |
            cmp - "$work/complete.$device" || return 1
    done
    cmp "$work/complete.cpu" "$work/complete.cuda" && cmp "$work/chat.cpu" "$work/chat.cuda" && grep green "$work/chat.cuda"
}

carried_actor() { # from the CPU to the card, in a file
    local actor=("$build/samepage" actor)
    "${actor[@]}" create ada -m demo=$model -d cpu && "${actor[@]}" send ada "Hello! My boat is green." >/dev/null &&
        "${actor[@]}" export ada "$work/ada.snap" && "${actor[@]}" import eve "$work/ada.snap" -d cuda &&
        "${actor[@]}" send eve "What colour is my boat?" | grep -i green
}

racecheck() { # each op by a kernel of its own
    SAMEPAGE_TEST_STRIDE=5 timeout 400 compute-sanitizer --tool racecheck --error-exitcode 9 "$build/tests/test_ops_cuda" plain
}

command -v nvidia-smi >/dev/null && nvidia-smi -L
begin "every op, every type, against double" "$build/tests/test_ops_cuda"
for form in own_limits small_limits fast_kernels without_instructions; do
    begin "Vulkan: every op, every type, against double ($form)" "$build/tests/test_ops_vulkan" test_$form
done
begin "a token in one launch agrees with op by op" "$build/tests/test_cuda_decode"
begin "rows of several sessions agree with op by op" "$build/tests/test_cuda_wide"
begin "what lies in shared memory is of no account" "$build/tests/test_cuda_leftovers"
begin "the stand-in driver's sequences" "$build/tests/test_cuda_driver"
begin "links over the stand-in driver" "$build/tests/test_cuda_link"
for part in own_limits small_limits fast_kernels relay q8 gated seam no_memory driver_fails refused; do # most of it compiling
    begin "Vulkan: a small model against the CPU ($part)" "$build/tests/test_vulkan_program" test_$part
done
begin "Vulkan: a device that is lost is opened anew under a conversation" "$build/tests/test_vulkan_lost"
begin "Vulkan: keys and values that were written by hand" "$build/tests/test_vulkan_edited"
begin "guests in one batch, some of which trap, are ended or leave" "$build/tests/test_guest_crowd"
if command -v compute-sanitizer >/dev/null; then
    begin "compute-sanitizer memcheck" timeout 400 compute-sanitizer --tool memcheck --error-exitcode 9 \
        bash -c '"$0/tests/test_cuda_decode" short && "$0/tests/test_cuda_wide" short' "$build"
    echo "racecheck does not see decode_*, wide*, nor flash*, few*, many*, place_heads* and norm_pack, which run beside these"
    begin "compute-sanitizer racecheck" racecheck
else
    echo "compute-sanitizer is not installed: memory and races are not checked"
fi
finish
check "snapshots, and a conversation that moves between devices" moving_conversation
check "doctor proves the link" doctor
check "complete and chat say on the card what they say on the CPU" same_answers
check "an actor is carried to the card" carried_actor
# What racecheck cannot tell: it does not follow bulk copies that mbarriers order. Of a program that does nothing but
# such copies, in order and with the right sum (ordered_copy.cu), it reports each as a race with the reads of what it
# brought, and the token's kernel is made of them. A program whose products of several rows have tensor maps it ends
# (CUDA 13.0: "failed to handle a hardware exception"), whichever kernels it is told to look at; under memcheck the same
# program is clean. SAMEPAGE_RACECHECK=1 shows the former, where nvcc is, and then what racecheck says of the token's
# kernel.
if [ -n "${SAMEPAGE_RACECHECK:-}" ]; then
    if command -v nvcc >/dev/null && nvcc -arch=sm_90a -o "$work/ordered_copy" tests/device/ordered_copy.cu; then
        compute-sanitizer --tool racecheck "$work/ordered_copy"
    fi
    timeout 600 compute-sanitizer --tool racecheck "$build/tests/test_cuda_decode" short |
        grep -E 'Race reported|and (Read|Write) access' | sed 's/ \[.*//' | sort | uniq -c
fi
echo "$passed passed, $failed failed, $missing not run"
[ "$failed" = 0 ]
