# `make run` starts Lectern, `make test` checks everything. Both install what a fresh Debian 12 lacks.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# `ci` compiles in minutes and is fast enough for a classroom; `make run PROFILE=release` takes long (whole-program
# optimisation) and is what to measure and to deploy.
PROFILE ?= ci
BINARIES := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

WEB := signaling/web
WEB_SOURCES := $(shell find $(WEB)/src $(WEB)/scripts -type f) $(wildcard $(WEB)/*.html $(WEB)/*.json $(WEB)/*.ts)
# Node's directory is known only after set-up, so a recipe asks for it.
NPM = PATH="$$(.ci/node):$$PATH" npm --prefix $(WEB)

.PHONY: help run test fmt lint web browser-test e2e-quality scenarios fuzz bench bench-parts bench-limit bench-memory bench-gate bench-process clean setup setup-browsers

help: ## What can be made
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22

run: setup web ## Build and start Lectern: http://localhost:7880 and, for other devices, https on port 7443
	@echo "==> Building Lectern (profile $(PROFILE))"
	@cargo build --profile $(PROFILE) --package signaling --bin lectern
	@echo "==> Starting Lectern; stop it with Ctrl-C"
	@exec $(BINARIES)/lectern $(ARGS)

test: setup-browsers $(WEB)/node_modules/.package-lock.json ## Run every check and test
	@PATH="$$(.ci/node):$$PATH" PROFILE=$(PROFILE) .ci/test

fmt: setup $(WEB)/node_modules/.package-lock.json ## Format Rust and TypeScript
	cargo fmt
	@$(NPM) run --silent fmt

lint: setup web ## Run clippy and check types and format
	cargo fmt --check
	cargo clippy --workspace --all-targets --profile $(PROFILE) -- -D warnings
	@$(NPM) run --silent check

web: $(WEB)/dist/index.html ## Build the classroom page

browser-test: setup-browsers web ## Run the browser tests alone
	@echo "==> Building Lectern (profile $(PROFILE))"
	@cargo build --profile $(PROFILE) --package signaling --package sfu --package loadtest --bins
	@LECTERN="$(CURDIR)/$(BINARIES)/lectern" $(NPM) run --silent e2e

e2e-quality: setup-browsers web ## Measure what a class sees and hears; adds rows to benches/RESULTS.md
	@echo "==> Building Lectern (profile $(PROFILE))"
	@cargo build --profile $(PROFILE) --package signaling --package loadtest --bins
	@LECTERN="$(CURDIR)/$(BINARIES)/lectern" $(NPM) run --silent quality

scenarios: setup ## Run lessons over emulated thin links, SEEDS (5) each; ARGS="--scenario const-150 --plot plots"
	@cargo build --profile $(PROFILE) --package loadtest --bin lectern-loadtest
	@$(BINARIES)/lectern-loadtest links --seeds $(or $(SEEDS),5) $(ARGS)

# RUSTC_BOOTSTRAP lets the stable toolchain use the sanitizers' flags. `make test` replays the corpora without any.
fuzz: ## Fuzz every parser of network input for FUZZ_SECONDS (60) each
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for crate in sfu/core sfu/protocol signaling; do \
	  cd "$(CURDIR)/$$crate"; \
	  for target in $$(cargo fuzz list); do \
	    echo "==> Fuzzing $$target"; \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" -- -max_total_time=$(or $(FUZZ_SECONDS),60); \
	  done; \
	done

# As root: the packets leave into a device of their own, and instructions are counted where valgrind is.
bench: setup ## Measure forwarding beside the machine's limit; adds rows to benches/RESULTS.md; JSON=FILE, ARGS="--subs 30"
	cargo run --release --package benches --bin forward -- --ifb --two-cores $(if $(shell command -v valgrind),--instructions) \
	  --results benches/RESULTS.md --command 'make bench' $(if $(JSON),--json '$(JSON)') $(ARGS)

bench-parts: setup ## Run the benchmarks of single parts
	cargo bench --package benches --benches

bench-limit: setup ## Print what this machine can do at best; ARGS="--destinations 1000", ARGS="--pps 150"
	cargo run --release --package benches --bin limit -- --ifb $(ARGS)

bench-memory: setup ## Print what a transport and a down track take; ARGS="--participants 10,100"
	cargo run --profile $(PROFILE) --package benches --bin memory -- $(ARGS)

# Of the whole workspace, as the tests are: a package alone may be built with fewer features.
bench-gate: setup ## Compare instructions of fixed work with benches/baseline.toml; ARGS=--write makes a new one
	@cargo build --profile $(PROFILE) --workspace --bin gate
	@$(BINARIES)/gate $(ARGS)

bench-process: setup ## Measure a whole lectern-sfu; ARGS="latency", ARGS="cost --rooms 10" (default: cost)
	cargo build --release --package sfu --bin lectern-sfu --package benches --bin process
	target/release/process $(or $(ARGS),cost)

clean: ## Remove what was built
	cargo clean
	rm -rf $(WEB)/dist $(WEB)/node_modules $(WEB)/.build

setup:
	@.ci/setup

setup-browsers:
	@.ci/setup browsers

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json | setup
	@echo "==> Fetching the page's packages"
	@$(NPM) ci --no-audit --no-fund
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_SOURCES)
	@echo "==> Building the classroom page"
	@$(NPM) run --silent build
