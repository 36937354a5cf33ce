# `make help` lists what there is. Everything is a cargo command underneath; nothing here decides anything.
.DEFAULT_GOAL := help
E2E := cargo run --quiet --package katonic-logging-e2e --bin

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))

.PHONY: help test fuzz demo demo-stop bench bench-peers images cluster-binaries fmt lint crds check-generated check

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## Run every test that this machine can run.
	@$(E2E) suite

fuzz: ## Fuzz the agent's readers and encoders, FUZZ_SECONDS (60) or FUZZ_RUNS inputs each; FUZZ_TARGETS names some.
	@fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

demo: ## Show the whole product on a cluster of its own; KEEP=1 leaves it up.
	@KEEP=$(KEEP) $(E2E) demo

demo-stop: ## Take down what `make demo KEEP=1` left up.
	@$(E2E) demo -- stop

bench: ## Measure the budgets; a table, and target/bench/results.json. SECTIONS names some, for the table alone.
	@$(E2E) bench -- $(SECTIONS)

bench-peers: ## Compare the agent with others on PATH or named: FLUENT_BIT, VECTOR, OTELCOL, OTELCOL_OTLP, SYSLOG_NG, RSYSLOGD.
	@$(E2E) bench-peers

images: ## Build both images as OCI archives into target/images.
	@$(E2E) images

cluster-binaries: ## Build the control plane, the node and the receiver that the tests use.
	@$(E2E) cluster-binaries

fmt: ## Format.
	@cargo fmt --all

lint: ## Check format and lints.
	@cargo fmt --all -- --check
	@cargo clippy --workspace --all-targets -- -D warnings

crds: ## Generate manifests/crds from the Rust types.
	@cargo run --quiet --package katonic-logging-crds --bin crdgen manifests/crds

check-generated: crds ## Check that what is generated is committed.
	@git diff --exit-code -- manifests/crds || { echo 'manifests/crds is not current: run `make crds` and commit it'; exit 1; }

check: export FUZZ_RUNS = 20000
check: test lint check-generated fuzz ## What CI runs, in its order.
