#!/usr/bin/env bash
# zig_macos.sh cc|ar|ranlib ARGUMENTS: the compiler of tools/arm.txt, for macOS 13 on Apple silicon.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.deps/zig" && pwd)
export ZIG_GLOBAL_CACHE_DIR=$root/cache ZIG_LOCAL_CACHE_DIR=$root/cache
zig=$(echo "$root"/lib/python3*/site-packages/ziglang/zig)
[ "$1" = cc ] && exec "$zig" cc -target aarch64-macos.13.0 "${@:2}"
exec "$zig" "$@"
