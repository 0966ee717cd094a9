# demo: the main job on loopback, with real processes; stays until Ctrl-C, or ends by itself with ONCE=1.
# test: everything CI runs.      deps: what the tests need besides Rust (needs root where something is missing).
# check: formatting and lints.   fmt: format the sources.
# crash, power-cut: the long trials behind docs/reliability.md; ARGS="--seed 7 --kills 100" changes them.
.PHONY: bins check crash demo deps fmt power-cut test

CARGO ?= cargo

# The three programs must lie beside the demo and the tests before those run: they start them.
bins:
	$(CARGO) build --release --workspace --bins --locked

demo: bins
	$(CARGO) run --quiet --release --bin dd-demo --locked -- $(if $(ONCE),--once)

crash: bins
	$(CARGO) run --quiet --release --bin dd-crash --locked -- $(ARGS)

# Needs root, loop devices and ext4.
power-cut: bins
	$(CARGO) run --quiet --release --bin dd-power-cut --locked -- $(ARGS)

test: deps check bins
	$(CARGO) test --release --workspace --locked

# Without a configuration Debian starts no mail server of its own; the tests bring theirs.
deps:
	@test -x /usr/sbin/postfix || { \
	  test "$$(id -u)" = 0 || { echo "make deps: installing Debian's postfix needs root; run it as root once" >&2; exit 1; }; \
	  echo "make deps: installing Debian's postfix, which the tests run as home server and feeder"; \
	  echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections && \
	  apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postfix; }
	@test "$$(id -u)" = 0 || { echo "make test: the tests that run Postfix need root" >&2; exit 1; }

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

fmt:
	$(CARGO) fmt --all
