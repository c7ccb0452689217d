#!/usr/bin/env bash
# Puts what tests/device/run.sh and tools/bench_gpu.sh need into a folder, for a machine that has a card but neither a
# compiler nor a network: copy it there with the tree's models/ and run FOLDER/tests/device/run.sh.
#
#     tests/device/pack.sh BUILD FOLDER     a build folder with -DSAMEPAGE_CUDA=ON
#
# What the programs are linked with comes along, but the C library: the other machine needs one that is no older.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?a build folder} folder=${2:?a folder}
programs=(samepage bench_cuda bench_vulkan bench_state tests/test_ops_vulkan tests/test_vulkan_program tests/test_ops_cuda tests/test_cuda_decode tests/test_cuda_wide tests/test_cuda_driver tests/test_cuda_link tests/test_cuda_leftovers tests/test_snapshot
    tests/test_guest_crowd tests/test_vulkan_lost tests/test_vulkan_edited)
rm -rf "$folder"
mkdir -p "$folder/build/tests" "$folder/lib" "$folder/tests/device" "$folder/tools" "$folder/models"
for program in "${programs[@]}"; do
    cp "$build/$program" "$folder/build/$program"
done
cp "$build/tests/libfake_cuda.so" "$folder/build/tests/"
cp -r "$build/guests" "$folder/build/guests"
rm -rf "$folder"/build/guests/{CMakeFiles,*.dir}
cp models/*.gguf "$folder/models/"
cp tests/device/run.sh tests/device/ordered_copy.cu "$folder/tests/device/"
cp tools/bench_gpu.sh tools/make_model.py "$folder/tools/"
# The Vulkan loader is opened at run time, and NVIDIA's driver behind it wants what a machine without a screen may lack.
opened=()
for library in libvulkan.so.1 libX11.so.6 libXext.so.6 libGLdispatch.so.0 libGLX.so.0 libEGL.so.1; do
    path=$(/sbin/ldconfig -p | awk -v name=$library '$1 == name && /x86-64/ && !found {print $NF; found = 1}')
    [ -n "$path" ] || { echo "pack: there is no $library here: without it Vulkan may not run there" >&2; continue; }
    cp -L "$path" "$folder/lib/"
    opened+=("$path")
done
for program in "${programs[@]/#/$build/}" "${opened[@]}"; do
    ldd "$program"
done | awk '$2 == "=>" && $3 ~ /^\// && $1 !~ /^(libc|libm|libdl|libpthread|librt)\.so/ {print $3}' | sort -u |
    xargs -I{} cp -L {} "$folder/lib/"
strip --strip-unneeded "$folder"/lib/*.so* "$folder"/build/samepage "$folder"/build/bench_* "$folder"/build/tests/test_*
