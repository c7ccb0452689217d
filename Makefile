# The usual doors; CMake does the work. See CONTRIBUTING.md.
.PHONY: all demo test test-long bench lint install clean bootstrap
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

test-long: all
	@tools/test.sh long

bench: all
	@tools/bench.sh $(BUILD)

lint: all
	@tools/lint.sh

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
