# SPDX-License-Identifier: GPL-2.0
#
# The commands of this project. The scripts in scripts/ do the work.

KERNEL ?= rust
FILE ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help tools tools-update update tree kernel series series-build htmldocs rustdoc modules-external \
	run run-rdma run-drm bench bench-native check check-host check-debian check-guest check-device check-rdma \
	check-drm check-debug check-configs differential programs \
	kunit shell clippy rustfmtcheck checkpatch unsafe-count import-graph clean \
	clean-cache

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

run: tools ## Boots the kernel and moves FILE= through every path of splice, with RDMA=1 also over RDMA
	@scripts/kernel $(if $(RDMA),rdma,$(KERNEL))
	@KERNEL=$(KERNEL) RDMA=$(RDMA) scripts/run $(FILE)

run-rdma: tools ## Boots two guests and sends a file from one to the other over RDMA
	@scripts/kernel rdma
	@scripts/run-rdma

run-drm: tools ## Shows a picture from spliced pages on emulated displays, and compares all pixels
	@scripts/kernel drm
	@scripts/run-drm

bench: tools ## Counts instructions per operation, for Rust and stock C; WRITE=1 updates README.md
	@scripts/kernel c
	@scripts/kernel rust
	@WRITE=$(WRITE) scripts/bench

bench-native: tools ## Measures GiB/s at native speed, for Rust and stock C, in PAIRS=12 pairs; WRITE=1
	@scripts/kernel um-c
	@scripts/kernel um-rust
	@PAIRS=$(PAIRS) WRITE=$(WRITE) scripts/bench-native

check: tools ## Runs all tests: host, KUnit, kselftests, drivers, differential, RDMA, DRM; or TEST=tee_test[:NAME]
	@TEST=$(TEST) scripts/check

check-host: tools ## Runs the tests that need no kernel; or TEST=docs
	@TEST=$(TEST) scripts/check host

check-debian: tools ## Runs make tools and its tests as an ordinary user of a fresh Debian 13; needs root
	@scripts/check debian

check-guest: tools ## Boots the Rust kernel and runs KUnit and kselftests
	@scripts/check kunit kselftest

check-device: tools ## Runs the tests of drivers, on emulated devices, without and with an IOMMU
	@scripts/check device

check-rdma: tools ## Runs all tests of RDMA, over soft RoCE and soft iWARP; with DEBUG=1 on a debug kernel
	@TEST=$(TEST) scripts/check rdma$(if $(DEBUG),-debug)

check-drm: tools ## Runs the tests of dma-bufs on a kernel with DRM; with DEBUG=1 on a debug kernel
	@TEST=$(TEST) scripts/check drm$(if $(DEBUG),-debug)

check-debug: tools ## Runs the tests on debug kernels: KASAN, lockdep, failing allocations; KCSAN
	@SEED=$(SEED) COUNT=$(COUNT) scripts/check debug kcsan

check-configs: tools ## Builds our code with other options and compilers and for other machines; boots arm64
	@scripts/check-configs

differential: tools ## Compares COUNT=200 random sequences from SEED=1 on, Rust and stock C; faster with GUEST=um
	@scripts/kernel $(if $(filter um,$(GUEST)),um-)c
	@scripts/kernel $(if $(filter um,$(GUEST)),um-)rust
	@SEED=$(SEED) COUNT=$(COUNT) GUEST=$(GUEST) scripts/differential

programs: tools ## Runs tests and programs of other projects on Rust and stock C
	@scripts/kernel full-c
	@scripts/kernel full
	@scripts/programs

kunit: tools ## Boots the Rust kernel and runs KUnit and documentation tests; or TEST=SUITE.TEST
	@TEST=$(TEST) scripts/check kunit

shell: tools ## Boots KERNEL=rust|c|debug and opens a shell in it
	@scripts/kernel $(KERNEL)
	@scripts/guest $(KERNEL) --shell

tools: ## Fetches tools and kernel source into the cache folder
	@scripts/tools

tools-update: ## Writes the newest versions within the bounds to scripts/packages.lock
	@scripts/tools-update

update: ## Runs all tests with the newest kernel and tools, and locks these versions if all pass
	@scripts/update

tree: tools ## Prepares build/linux: kernel source, patches, overlay; or LINUX=DIR, a kernel tree of yours
	@$(if $(LINUX),scripts/apply-to "$(LINUX)",scripts/tree)

kernel: tools ## Builds KERNEL=rust|c|drm|full|full-c|debug|kcsan|um-rust|um-c; with LINUX=DIR in that tree
	@LINUX="$(LINUX)" scripts/kernel $(KERNEL)

series: tools ## Writes the patches that maintainers get to build/series/patches, and checks them
	@scripts/series

series-build: tools ## Builds the kernel after each of these patches, with the option on and off; COMMITS=12-15
	@scripts/series build $(COMMITS)

htmldocs: tools ## Builds this project's pages into build/docs/html
	@scripts/docs html

rustdoc: tools ## Builds the documentation of the kernel crate
	@scripts/docs rust

modules-external: tools ## Builds the drivers as external modules, into build/external
	@scripts/kernel rust
	@scripts/modules-external

clippy: tools ## Lints the Rust code with the kernel's settings
	@scripts/lint clippy

rustfmtcheck: tools ## Checks the format of the Rust files
	@scripts/lint rustfmt

checkpatch: tools ## Checks C files and patches with checkpatch.pl --strict
	@scripts/lint checkpatch

unsafe-count: ## Counts unsafe code, layer by layer
	@scripts/unsafe-count

import-graph: tools ## Prints which Rust file imports which, and finds circles
	@scripts/in-root scripts/import-graph

clean: ## Removes build/
	rm -rf build

clean-cache: ## Removes tools, downloads and compiler cache as well
	rm -rf build "$${XDG_CACHE_HOME:-$$HOME/.cache}/rust-splice"
