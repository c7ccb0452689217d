# The usual doors; CMake does the work. See CONTRIBUTING.md.
.PHONY: all demo test test-cuda test-arm test-long bench bench-gpu lint install clean bootstrap
BUILD := build
JOBS  ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
ifeq ($(shell uname),Darwin) # where Homebrew keeps what would be in Apple's way
PRESET := -DWASM_CLANG=$(shell brew --prefix llvm)/bin/clang -DSAMEPAGE_WASI_SYSROOT=$(shell brew --prefix wasi-libc)/share/wasi-sysroot
export PKG_CONFIG_PATH := $(shell brew --prefix sqlite)/lib/pkgconfig:$(PKG_CONFIG_PATH)
endif
PREFIX ?= /usr/local
# Where there is an NVIDIA card the CUDA device is built for it: CUDA=0 leaves it out, CUDA=1 builds it for all cards.
CARDS := $(shell CUDA=$(CUDA) tools/cuda_cards.sh)
ifeq ($(CARDS),)
PRESET += -DSAMEPAGE_CUDA=OFF
else
PRESET += -DSAMEPAGE_CUDA=ON $(if $(filter all,$(CARDS)),-USAMEPAGE_CUDA_ARCHITECTURES,"-DSAMEPAGE_CUDA_ARCHITECTURES=$(CARDS)")
endif

all: bootstrap
	@cmake --preset release $(PRESET) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)

bootstrap:
	@tools/bootstrap.sh $(if $(CARDS),--cuda)

demo: all
	@tools/demo.sh $(BUILD)/samepage

test: all
	@tools/test.sh short

# Needs no card: see tools/test.sh.
test-cuda: bootstrap
	@tools/test.sh cuda

# Other systems and processors, cross-compiled and emulated: see tools/test_arm.sh.
test-arm: bootstrap
	@tools/test_arm.sh

test-long: all
	@tools/test.sh long

bench: all
	@tools/bench.sh $(BUILD)

# With a card. A machine without a compiler runs tools/bench_gpu.sh out of a folder of tests/device/pack.sh.
bench-gpu:
	@tools/bootstrap.sh --cuda
	@cmake --preset release -DSAMEPAGE_CUDA=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target bench_cuda bench_vulkan bench_state samepage guest_test_durable
	@tools/bench_gpu.sh $(BUILD)

lint: all
	@tools/lint.sh

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
