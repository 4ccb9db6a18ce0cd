# The short names of the common tasks; `make help` lists them. The work itself is in `cargo xtask` and `scripts/`.
# Run one with options by its long name, such as `cargo xtask ci --only test`.

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
# The comparison with Node's CoAP package is made where `scripts/install-tools.sh test` has put it.
NODE_COAP = $(if $(wildcard target/tools/node/node_modules/coap),--node-coap target/tools/node)
# Of its own: it is ended when the measurement is done.
BENCH_ENGINE = target/tools/bench-engine
# Where `scripts/install-tools.sh test` puts compilers.
COMPILERS = $(CURDIR)/target/tools/venv/bin:$(CURDIR)/target/tools/javascript/node_modules/.bin

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-programs bench-languages build guests docs clean

help: ## list these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## from a clean clone to functions called over HTTP and CoAP
	scripts/install-tools.sh demo
	scripts/demo.sh

test: ## install the tools of the tests, then run every check
	scripts/install-tools.sh test
	cargo xtask ci

bench: ## measure the promises of SPECIFICATION.md and print them as ratios; options in ARGS
	cargo build --release --locked -p mote -p mote-bench --bins
	$(RELEASE)/ratios --mote $(RELEASE)/mote $(NODE_COAP) $(ARGS)

# A container engine is started for it, where one can run, and ended afterwards.
bench-programs: ## measure what processes and containers cost on a node; options in ARGS
	cargo build --release --locked -p mote -p mote-bench --bins
	cargo rustc --release --locked -p mote-bench --bin hello-program -- -C target-feature=+crt-static
	@socket=$$(scripts/container-engine.sh start $(BENCH_ENGINE)); \
	$(RELEASE)/programs --mote $(RELEASE)/mote $${socket:+--container-socket $$socket} $(ARGS); code=$$?; \
	scripts/container-engine.sh stop $(BENCH_ENGINE); exit $$code

# With the compilers that are on the path, or where `scripts/install-tools.sh test` has put them.
bench-languages: ## measure functions of every language beside those in Rust; options in ARGS
	cargo build --release --locked -p mote -p mote-bench -p mote-dev --bins
	PATH="$(COMPILERS):$$PATH" $(RELEASE)/languages --mote $(RELEASE)/mote $(ARGS)

build: ## build the release binaries, target/release/mote and its companions mote-bench and mote-dev
	cargo build --release --locked -p mote -p mote-bench -p mote-dev --bin mote --bin mote-bench --bin mote-dev

guests: ## build the checked-in guests again from their sources
	scripts/install-guest-toolchain.sh
	cargo xtask guests

docs: ## make the pages and the API documentation a site, target/site
	cargo xtask docs --api

clean: ## remove all that was built
	cargo clean
	rm -rf fuzz/target
