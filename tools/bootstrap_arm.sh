#!/usr/bin/env bash
# What make test-arm needs beside tools/bootstrap.sh, which calls this with --arm: Debian's cross compiler for aarch64
# Linux, libraries of the same release for it, and an emulator of the processors; for macOS a C compiler out of a PyPI
# wheel and the libraries built from Debian's sources; Wasmtime for both out of its wheels. All of it lies in .deps/,
# but for the Debian packages: libraries for other machines are fetched with lists of apt's own kept there, so that the
# system does not learn of another architecture.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/.deps
libraries=(libpcre2-dev libpcre2-8-0 libpcre2-16-0 libpcre2-32-0 libpcre2-posix3 libxxhash-dev libxxhash0 libcjson-dev libcjson1
    libutf8proc-dev libutf8proc2 libsodium-dev libsodium23 libsqlite3-dev libsqlite3-0 libcmocka-dev libcmocka0)
sources=(pcre2 utf8proc xxhash cjson libsodium sqlite3 cmocka)

apt_for_arm() { # apt-get that knows of arm64 and of sources, and of nothing else on this system
    apt-get -q=2 -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$root/apt/state" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$root/apt/cache" -o APT::Sandbox::User= \
        -o Dir::Etc::sourcelist="$root/apt/debian.$1" -o Dir::Etc::sourceparts=/dev/null "${@:2}"
}

# The system's own sources of Debian packages, with source packages.
open_apt() {
    local list=/etc/apt/sources.list.d/debian.sources form=sources
    mkdir -p "$root"/apt/state/lists/partial "$root"/apt/cache/archives/partial
    if [ -f $list ]; then
        sed 's/^Types: .*/Types: deb deb-src/' $list >"$root/apt/debian.sources"
    else
        list=/etc/apt/sources.list form=list
        sed -n 's/^deb \(.*\)/deb \1\ndeb-src \1/p' $list >"$root/apt/debian.list"
    fi
    apt_for_arm $form update
    apt_form=$form
}

fetch_linux() {
    local packages
    echo "bootstrap: fetching libraries for aarch64 Linux"
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' RETURN
    (cd "$packages" && apt_for_arm "$apt_form" download "${libraries[@]}")
    rm -rf "$root/aarch64-linux"
    mkdir -p "$root/aarch64-linux"
    for package in "$packages"/*.deb; do
        dpkg-deb -x "$package" "$root/aarch64-linux"
    done
}

# Upstream's archives as Debian has them, held against their hashes: only linked against, by the cross build.
fetch_macos() {
    local from
    echo "bootstrap: building libraries for macOS"
    from=$(mktemp -d)
    trap 'rm -rf "$from"' RETURN
    (cd "$from" && apt_for_arm "$apt_form" source --tar-only "${sources[@]}" >/dev/null)
    (cd "$from" && sha256sum --check --quiet) <tools/macos-libraries.sha256
    tools/build_macos_libraries.sh "$from" "$root/aarch64-macos"
}

fetch_wasmtime() { # folder, platform of the wheel
    local wheels
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' RETURN
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --platform "$2" \
        --require-hashes -r tools/wasmtime.txt -d "$wheels"
    mkdir -p "$1"
    unzip -q -o -j "$wheels"/wasmtime-*.whl 'wasmtime/*/_libwasmtime.*' -d "$wheels"
    for file in "$wheels"/_libwasmtime.*; do
        mv "$file" "$1/libwasmtime.${file##*.}"
    done
}

if ! cmp -s tools/arm.txt "$root/zig/packages.txt"; then
    echo "bootstrap: fetching a compiler for macOS"
    rm -rf "$root/zig"
    python3 -m venv "$root/zig"
    "$root/zig/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r tools/arm.txt
    cp tools/arm.txt "$root/zig/packages.txt"
fi
# Everything below is made anew when one of the files that say how has changed.
stamp=$(cat tools/bootstrap_arm.sh tools/build_macos_libraries.sh tools/zig_macos.sh tools/macos-libraries.sha256 tools/wasmtime.txt tools/arm.txt | sha256sum)
if [ "$(cat "$root/apt/stamp" 2>/dev/null || true)" != "$stamp" ]; then
    open_apt
    fetch_linux
    fetch_macos
    fetch_wasmtime "$root/aarch64-linux/wasmtime" manylinux2014_aarch64
    fetch_wasmtime "$root/aarch64-macos/wasmtime" macosx_11_0_arm64
    echo "$stamp" >"$root/apt/stamp"
fi
