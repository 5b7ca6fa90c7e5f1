# A thin front for CMake and the scripts: the work is done there.
BUILD ?= build
JOBS  ?= $(shell nproc)

.PHONY: all deps qemu demo test test-long bench fuzz clean help
.DEFAULT_GOAL := all

all:                ## build Nearfield into build/bin
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKEFLAGS) > /dev/null
	@cmake --build $(BUILD) -j $(JOBS)

deps:               ## install the Debian packages (root, or sudo)
	@scripts/install-deps

qemu: deps          ## build the patched QEMU into build/qemu/bin
	@qemu-patches/build-qemu

demo: deps          ## everything, then show a guest's files being watched
	@qemu-patches/build-qemu
	@$(MAKE) --no-print-directory all
	@scripts/demo

test: deps          ## build in four ways and run all tests (under 40 minutes)
	@tests/run

test-long: deps     ## the same and the long tests
	@tests/run --long

bench: deps         ## benchmarks
	@qemu-patches/build-qemu
	@$(MAKE) --no-print-directory all
	@bench/run
	@bench/latency
	@$(BUILD)/bench/bench-structs
	@bench/attach
	@bench/inference
	@bench/step-cost
	@bench/state

fuzz: deps          ## each fuzz target for FUZZ_SECONDS (60)
	@tests/fuzz/run $(or $(FUZZ_SECONDS),60)

clean:              ## remove what was built (a cached QEMU stays)
	rm -rf $(BUILD) build-clang build-asan build-tsan build-fuzz

help:               ## this text
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 12
