# Onetake: `make run` shows it at work, `make test` checks it. Both install what they need first, and say so.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Tools that were unpacked here because they could not be installed system-wide (see tests/setup/install).
export PATH := $(abspath $(TARGET))/tools/bin:$(HOME)/.cargo/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run test golden bench fmt lint docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Install what is missing, build, and run the demo
	@tests/setup/install run
	cargo build --release --locked
	. tests/setup/tools.sh && exec $(TARGET)/release/onetake dev --demo

test: ## Install what is missing, and run all tests
	@tests/setup/install test
	@tests/setup/test

golden: ## Record anew what Node's bullmq leaves in Redis for the scenes in tests/golden; look at the difference before committing
	@tests/setup/install test
	. tests/setup/tools.sh && ONETAKE_GOLDEN=record cargo nextest run --locked --features faults -E 'test(golden_files_are)'

bench: ## Measure on servers of its own, and write BENCHMARKS.md (SCENE=engine: one scene; ONETAKE_BENCH_QUICK=1: a short look, nothing written)
	@tests/setup/install test
	. tests/setup/tools.sh && cargo bench --locked --profile dist --bench requests -- $(SCENE)

fmt: ## Format the code
	cargo fmt

lint: ## Check format and lints, as CI does
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings

docs: ## Build the API documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

clean: ## Remove everything built, installed below target, and cached for tests
	cargo clean
	rm -rf tests/node/node_modules
