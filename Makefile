# demo: the main job on loopback, with real processes.   test: everything CI runs.
# check: formatting and lints.                           fmt: format the sources.
.PHONY: check fmt test

CARGO ?= cargo

test: check
	$(CARGO) test --release --workspace --locked

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

fmt:
	$(CARGO) fmt --all
