#!/usr/bin/env bash
# zig_macos.sh cc|ar|ranlib ARGUMENTS: the compiler of tools/arm.txt, for macOS 13 on Apple silicon.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.deps/zig" && pwd)
export ZIG_GLOBAL_CACHE_DIR=$root/cache ZIG_LOCAL_CACHE_DIR=$root/cache
zig=$(echo "$root"/lib/python3*/site-packages/ziglang/zig)
if [ "$1" = cc ]; then
    arguments=()
    for argument in "${@:2}"; do
        # This compiler names processors in place of architectures: -march=armv8.2-a+dotprod is
        # -mcpu=generic+v8_2a+dotprod.
        if [[ $argument == -march=armv* ]]; then
            level=${argument#-march=armv}
            more=${level#*-a}
            version=${level%%-a*}
            [ "$version" = 8 ] || more="+v${version/./_}a$more"
            argument=-mcpu=generic$more
        fi
        arguments+=("$argument")
    done
    exec "$zig" cc -target aarch64-macos.13.0 "${arguments[@]}"
fi
exec "$zig" "$@"
