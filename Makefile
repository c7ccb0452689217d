# The usual doors; CMake does the work. See CONTRIBUTING.md.
.PHONY: all demo test test-cuda test-long bench bench-gpu lint install clean bootstrap
BUILD := build
JOBS  ?= $(shell nproc)
PREFIX ?= /usr/local

all: bootstrap
	@cmake --preset release >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)

bootstrap:
	@tools/bootstrap.sh

demo: all
	@tools/demo.sh $(BUILD)/samepage

test: all
	@tools/test.sh short

# Needs no card: see tools/test.sh.
test-cuda: bootstrap
	@tools/test.sh cuda

test-long: all
	@tools/test.sh long

bench: all
	@tools/bench.sh $(BUILD)

bench-gpu:
	@tools/bootstrap.sh --cuda
	@cmake --preset release -DSAMEPAGE_CUDA=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target bench_cuda
	@$(BUILD)/bench_cuda --type BF16,Q8_0,Q4_0,Q4_K --context 0,512,1024,8192 --prefill 24,512,2048 --sequences 16,64 --profile 1

lint: all
	@tools/lint.sh

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
