# Each target does its own set-up (scripts/setup.sh), so that all of them work on a fresh machine.

# Builds take their queries from .sqlx; only `prepare` and the check that .sqlx is up to date ask a database.
export SQLX_OFFLINE := true
export PATH := $(CURDIR)/.tools/bin:$(PATH):$(HOME)/.cargo/bin

# Runs a command with DATABASE_URL set to a private, throw-away Postgres, and returns its exit code.
WITH_POSTGRES := cargo run --quiet --example with_postgres --

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench limits votes accuracy checks-bench fuzz fit-grounding attacks simulate interop clients datadog-check kafka chaos prepare lint-only

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## the whole product on this machine; more arguments with ARGS="--once"
	@echo "demo: building the release program (the first build takes some minutes), then running it"
	@scripts/setup.sh
	@cargo run --release --quiet -- demo $(ARGS)

test: ## formatting, lints, .sqlx, and all tests against a private Postgres
	@echo "test: checking format, lints and .sqlx, then running all tests (the first build takes some minutes)"
	@scripts/setup.sh lint sqlx nats
	@$(MAKE) --no-print-directory lint-only
	@echo "test: is .sqlx up to date? (if not: make prepare)"
	@$(WITH_POSTGRES) sh -c 'unset SQLX_OFFLINE; cargo sqlx prepare --check -- --all-targets'
	@echo "test: running the tests, all on one Postgres"
	@$(WITH_POSTGRES) cargo test

lint: ## formatting and lints
	@scripts/setup.sh lint
	@$(MAKE) --no-print-directory lint-only

lint-only:
	@echo "lint: checking the format, then clippy with warnings as errors"
	@cargo fmt --check
	@cargo clippy --all-targets -- -D warnings

bench: ## the numbers we promise
	@echo "bench: measuring the pipeline in a release build"
	@scripts/setup.sh
	@cargo bench --bench pipeline
	@cargo bench --bench ingest
	@cargo bench --bench judges

limits: ## how much of a judge's limit is used, and what becomes of jobs when judges fail
	@echo "limits: running workers against a limited judge in a release build (about five minutes)"
	@scripts/setup.sh
	@cargo bench --bench limits

votes: ## real judges' votes through our rules; needs the labelled data, see docs/performance.md
	@cargo bench --bench votes

accuracy: ## the checks on labelled data; writes docs/accuracy.md; needs the data, see benches/accuracy.rs
	@cargo bench --bench accuracy

checks-bench: ## what the checks cost, beside json.loads and rouge-score where Python has them (PyPI)
	@cargo bench --bench checks
	@cargo bench --bench checks -- --peers

fuzz: ## every parser of outside text, FUZZ_SECONDS=600 each, one after another; some with TARGETS="otlp_json msgpack"
	@scripts/fuzz.sh $(TARGETS)

fit-grounding: ## the coefficients of the grounding check, from the labelled data
	@cargo bench --bench fit_grounding

attacks: ## answers that order the judge to pass them
	@cargo bench --bench attacks

simulate: ## what the statistics promise, through the code itself; ten times as long with ARGS=--long
	@cargo bench --bench simulate -- $(ARGS)

interop: ## a panel judged through LiteLLM's proxy and aimock, which are not ours (PyPI and npm)
	@echo "interop: building the release program, then judging through two servers of others"
	@scripts/setup.sh
	@cargo build --release --quiet
	@scripts/interop.sh

clients: ## real OpenTelemetry, OpenInference, Traceloop, Langfuse and ddtrace clients send to us (PyPI)
	@echo "clients: building the program, then running seven real clients against it (a few minutes the first time)"
	@scripts/setup.sh
	@cargo build --quiet
	@scripts/clients.sh

datadog-check: ## monitors, dashboard and evaluation requests against Datadog's own Python clients (PyPI)
	@echo "datadog-check: building the program, then loading what it writes into Datadog's clients"
	@scripts/setup.sh
	@cargo build --quiet
	@tests/datadog_client.sh

kafka: ## Kafka as a source: build, lints and tests with the feature (librdkafka is built from source)
	@echo "kafka: building with the feature kafka, then its lints and its tests against a mock cluster"
	@scripts/setup.sh lint kafka
	@cargo clippy --features kafka --lib --tests -- -D warnings
	@cargo test --features kafka --lib sources
	@$(WITH_POSTGRES) cargo test --features kafka --test it kafka

chaos: ## the fault runs: kills, broken links, failing judges
	@echo "chaos: running the tests that break things, on a private Postgres"
	@scripts/setup.sh nats
	@$(WITH_POSTGRES) cargo test --test it fault -- --nocapture

prepare: ## write .sqlx anew, after a query or a migration has changed
	@echo "prepare: asking a private Postgres about every query and writing the answers to .sqlx"
	@scripts/setup.sh sqlx
	@scripts/prepare.sh
