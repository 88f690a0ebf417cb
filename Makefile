# Every command of this repository. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

LISTEN ?= 127.0.0.1:8000
DATA ?= ./fanfare-data

WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*' \
	-not -path 'web/.*' 2>/dev/null)

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: tools web ## Build what is missing and serve at 127.0.0.1:8000, open to everybody on this machine
	cargo build --release --locked -p fanfare-server
	exec target/release/fanfare serve --dev --listen $(LISTEN) --data $(DATA)

.PHONY: test
test: ## Install what the tests need and run every check there is
	@./scripts/test.sh

.PHONY: web
web: web/dist/index.html ## Build the page that is served at /

web/dist/index.html: $(WEB_SOURCES)
	npm ci --prefix web --no-audit --no-fund
	npm run build --prefix web
	@touch $@

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: lint
lint: web ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: doc
doc: web ## Build the documentation of the code; open target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

.PHONY: deny
deny: ## Check the licences of all dependencies, and advisories where possible
	@./scripts/deny.sh

# ARGS goes to the command, for example ARGS="--clients 1000 --duration 10"; `fanfare bench --help` has the others.
.PHONY: bench
bench: web ## Measure a private cluster on this machine
	@./scripts/install.sh build test
	cargo build --release --locked -p fanfare-server
	target/release/fanfare bench cluster $(ARGS)

# These write into OUT; ARGS goes to the command, for example OUT=/tmp/out ARGS="--clients 1000". SCENARIOS="a storm" plays some.
OUT ?= docs/benchmarks
SCENARIOS ?= a b c d storm

.PHONY: bench-fanout
bench-fanout: bench-build ## Measure fan-out in turns with a bare loop of writes
	target/release/fanfare bench fanout --own --clients 10000 --rates 10,50,200 --rounds 3 --out $(OUT) $(ARGS)

.PHONY: bench-log
bench-log: bench-build ## Raise the rate of durable publishes on SQLite and PostgreSQL until they are late
	target/release/fanfare bench log --out $(OUT) $(ARGS)

.PHONY: bench-soak
bench-soak: bench-build ## Publish for an hour with retention running, and watch sizes and dead rows
	target/release/fanfare bench soak --out $(OUT) $(ARGS)

.PHONY: bench-scenarios
bench-scenarios: bench-build ## Play the scenarios on private clusters
	for scenario in $(SCENARIOS); do target/release/fanfare bench scenario $$scenario --out $(OUT) $(ARGS); done

.PHONY: bench-model
bench-model: bench-build ## Say what any load needs, by the figures of the two above
	target/release/fanfare bench model --from $(OUT) --out $(OUT) $(ARGS)

# Installs nginx with Nchan, NATS (Debian), the servers of Socket.IO (npm) and Sockudo (cargo), whichever it can; what cannot be had is
# listed as not made. FULL=1 is the size of scenario A; ARGS="--centrifugo http://host:port --centrifugo-key KEY" adds one that runs.
.PHONY: bench-peers
bench-peers: bench-build ## Measure other servers beside this one, under the same load
	@./scripts/peers.sh
	PATH="$(CURDIR)/target/peers/bin:$$PATH" target/release/fanfare bench peers --repeat 3 --out $(OUT) \
		$(if $(FULL),--clients 10000 --rate 1000) $(ARGS)

.PHONY: bench-build
bench-build: web
	@./scripts/install.sh build test
	cargo build --release --locked -p fanfare-server

# SEEDS=FROM..TO runs a stretch of seeds, SEED=N one of them with everything it does.
.PHONY: simulation
simulation: ## Run whole clusters under a virtual clock, a seed each
	cargo run --release --locked -p fanfare-simulation -- $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),0..10000))

# ARGS goes to the command, for example ARGS="--target websocket --seed 7" or ARGS="--target websocket FILE".
FUZZ_SECONDS := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),60)
.PHONY: fuzz
fuzz: ## Look for bytes that the decoders get wrong (SECONDS=600)
	cargo run --release --locked -p fanfare-fuzz -- --seconds $(FUZZ_SECONDS) $(ARGS)

# ARGS goes to the command, for example ARGS="--rows 5,6 --keep" or ARGS="--short"; --list names the rows. FILE.jsonl of a
# row is judged again with `fanfare bench check FILE`.
.PHONY: faults
faults: web ## Break each part of a cluster under load, and check that nothing is lost
	@./scripts/install.sh build test
	cargo build --release --locked -p fanfare-server
	target/release/fanfare bench faults $(ARGS)

# ARGS="--write" records the counts that are meant.
.PHONY: instructions
instructions: ## Count the instructions of the data path and compare them with what is recorded
	@./scripts/install.sh build test
	cargo run --profile counted -p fanfare-instructions --locked -- $(ARGS)

# ARGS goes to the script, for example ARGS="--rest 20 --commands 8".
.PHONY: watch-sync
watch-sync: web ## Measure how far two browsers are apart that watch together
	@./scripts/install.sh build test
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefix tests/browser --no-audit --no-fund
	cargo build --release --locked -p fanfare-server
	FANFARE_BIN=$(CURDIR)/target/release/fanfare cargo run --release --locked -p fanfare-tests --example watch-sync -- $(ARGS)

# What tests/python needs, in an environment of its own.
.PHONY: python-packages
python-packages: tests/python/.venv/installed

tests/python/.venv/installed: tests/python/requirements.txt
	python3 -m venv --clear tests/python/.venv
	tests/python/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	@touch $@

# CHECKOUT is a working copy of github.com/socketio/socket.io; its suites talk to localhost:3000.
.PHONY: socketio-suites
socketio-suites: ## Run the official protocol suites of Socket.IO (CHECKOUT=path)
	@CHECKOUT="$(CHECKOUT)" ./scripts/socketio-suites.sh

# CHECKOUT_JS and CHECKOUT_PYTHON are working copies of github.com/centrifugal/centrifuge-js and centrifuge-python, which talk to localhost:8000.
.PHONY: centrifuge-suites
centrifuge-suites: ## Run the suites of the official Centrifuge clients (CHECKOUT_JS=path CHECKOUT_PYTHON=path)
	@CHECKOUT_JS="$(CHECKOUT_JS)" CHECKOUT_PYTHON="$(CHECKOUT_PYTHON)" ./scripts/centrifuge-suites.sh

.PHONY: clean
clean: ## Remove everything that was built; data is kept
	cargo clean
	rm -rf web/dist web/node_modules tests/browser/node_modules tests/python/.venv

.PHONY: tools
tools:
	@./scripts/install.sh build
