# `make help` lists what there is. Everything is a cargo command underneath; nothing here decides anything.
.DEFAULT_GOAL := help
E2E := cargo run --quiet --package katonic-logging-e2e --bin

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))

.PHONY: help test fuzz demo demo-stop bench bench-peers images cluster-binaries fmt lint crds chart reference docs check-generated check

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

CHART := manifests/helm/katonic-logging
CHART_FILES := $(wildcard manifests/crds/*.yaml) manifests/rbac.yaml manifests/dry-run-only.yaml manifests/claim-only.yaml \
  manifests/restart-only.yaml manifests/controller.yaml manifests/plane/rbac.yaml manifests/planes/platform/event-tracker.yaml \
  manifests/ha/controller.yaml manifests/ha/pod-disruption-budget.yaml manifests/webhook/rbac.yaml manifests/webhook/webhook.yaml \
  manifests/webhook-cert-manager/certificates.yaml manifests/prometheus/services.yaml manifests/prometheus/service-monitor.yaml \
  manifests/prometheus/alerts.yaml manifests/prometheus/dashboard.json

chart: ## Copy the manifests into the Helm chart, which can read nothing outside of its folder.
	@rm -rf $(CHART)/files
	@for file in $(CHART_FILES:manifests/%=%); do \
	  mkdir -p "$(CHART)/files/$$(dirname $$file)" && cp "manifests/$$file" "$(CHART)/files/$$file" || exit 1; \
	done

reference: ## Generate docs/reference.md from the Rust types.
	@cargo run --quiet --package katonic-logging-crds --bin refgen docs/reference.md

# The first one on PATH, else one of this version that is built once.
MDBOOK_VERSION := 0.5.4
MDBOOK = $(or $(shell command -v mdbook),target/tools/bin/mdbook)
BOOK := target/book

target/tools/bin/mdbook:
	@cargo install --quiet --locked --root target/tools --version $(MDBOOK_VERSION) --no-default-features --features search mdbook

docs: reference $(MDBOOK) ## Build the documentation as a site that needs no network, in target/book/site.
	@rm -rf $(BOOK) && mkdir -p $(BOOK)/source
	@cp -r docs manifests README.md SECURITY.md CHANGELOG.md LICENSE $(BOOK)/source/
	@mv $(BOOK)/source/docs/book.toml $(BOOK)/ && rm $(BOOK)/source/docs/SUMMARY.md
	@sed -e 's|](|](docs/|' -e 's|](docs/\.\./|](|' docs/SUMMARY.md > $(BOOK)/source/SUMMARY.md
	@$(MDBOOK) build $(BOOK)
	@! grep -rlE '<(script|link|img)[^>]+(src|href)="(https?:)?//' $(BOOK)/site --include='*.html' || \
	  { echo 'these pages ask the network for something'; exit 1; }

check-generated: crds chart reference ## Check that what is generated is committed.
	@git diff --exit-code -- manifests docs/reference.md && \
	  test -z "$$(git ls-files --others --exclude-standard -- manifests docs/reference.md)" || \
	  { echo 'what is generated is not current: run `make crds chart reference` and commit it'; exit 1; }

check: export FUZZ_RUNS = 20000
check: test lint check-generated fuzz ## What CI runs, in its order.
