# demo: the main job on loopback, with real processes; stays until Ctrl-C, or ends by itself with ONCE=1.
# test: everything CI runs.      deps: what the tests need besides Rust (needs root where something is missing).
# check: formatting and lints.   fmt: format the sources.
# conform: an agent of yours through the cases of docs/agent-protocol.md; RUN='COMMAND' starts it, without it the cases are listed.
# crash, power-cut, measure: the long trials and the figures behind docs/reliability.md; ARGS="--seed 7 --kills 100" changes them,
# DEAD="--each 100" what measure does with dead sites. reliability: all of them.
# dist: the programs as they are shipped, linked as a whole; test-dist: the tests of whole processes with them.
# deb: Debian packages below target/debian; BINARIES=DIR packs programs that are there already.
# bench: what a message costs, beside Postfix, under 25 minutes; QUICK=1 in under three; figures also in target/bench.json.
# fuzz: makes up input for one of our parsers, TARGET=NAME (without it for each in turn) for SECONDS=N (60 each); see
# tests/fuzz/README.md.
.PHONY: bench bins check conform crash deb deb-tools demo deps dist fmt fuzz measure power-cut reliability simulation test \
  test-dist zoo

CARGO ?= cargo
BUILT = $(or $(CARGO_TARGET_DIR),target)

# The three programs must lie beside the demo and the tests before those run: they start them.
bins:
	$(CARGO) build --release --workspace --bins --locked

# The three programs as they are shipped, and what measures them.
dist:
	$(CARGO) build --profile dist --locked -p dd-agent -p dd-controller -p ddadm -p dd-tests \
	  --bin dd-agent --bin dd-controller --bin ddadm --bin dd-bench

# Whole processes once more, with the programs as they are shipped.
test-dist: deps dist
	$(CARGO) test --profile dist --locked -p dd-tests --test processes --test control_flood

demo: bins
	$(CARGO) run --quiet --release --bin dd-demo --locked -- $(if $(ONCE),--once)

conform: bins
	$(BUILT)/release/dd-conform $(if $(RUN),--run '$(RUN)',--list) $(ARGS)

crash: bins
	$(CARGO) run --quiet --release --bin dd-crash --locked -- $(ARGS)

measure: bins
	$(CARGO) run --quiet --release --bin dd-measure --locked -- index
	$(CARGO) run --quiet --release --bin dd-measure --locked -- cleaning
	$(CARGO) run --quiet --release --bin dd-measure --locked -- line
	$(CARGO) run --quiet --release --bin dd-measure --locked -- unheard
	$(CARGO) run --quiet --release --bin dd-measure --locked -- unreadable
	$(CARGO) run --quiet --release --bin dd-measure --locked -- silent-line
	$(CARGO) run --quiet --release --bin dd-measure --locked -- hostile
	$(CARGO) run --quiet --release --bin dd-measure --locked -- homes
	$(CARGO) run --quiet --release --bin dd-measure --locked -- dead-sites $(DEAD)

# Everything behind docs/reliability.md, one after the other. Hours; needs a quiet machine and what power-cut needs.
reliability: bins
	$(MAKE) crash ARGS="--seed 2026 --round 100 --gap-ms 2 --feeders 8 --longest-ms 600"
	$(MAKE) power-cut ARGS="--seed 2027 --gap-ms 4 --longest-ms 300"
	$(MAKE) power-cut ARGS=--without-sync
	$(MAKE) simulation
	$(MAKE) zoo
	$(MAKE) measure
	$(MAKE) measure DEAD="--each 100"

# Needs root, for Postfix; the state lies below TMPDIR, which must be a disk. valgrind counts instructions.
bench: PACKAGES += valgrind
bench: deps dist
	$(BUILT)/dist/dd-bench table $(if $(QUICK),--quick) --json target/bench.json

# Needs root, loop devices and ext4.
power-cut: bins
	$(CARGO) run --quiet --release --bin dd-power-cut --locked -- $(ARGS)

# Needs root once, for Debian's tools.
deb: deb-tools $(if $(BINARIES),,dist)
	packaging/deb.sh $(or $(BINARIES),$(BUILT)/dist) $(BUILT)/debian

deb-tools:
	@{ command -v dh && command -v lintian && command -v dpkg-buildpackage; } >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "make deb: installing debhelper and lintian needs root; run it as root once" >&2; exit 1; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debhelper dpkg-dev fakeroot lintian; }

# Built together, the programs and the tests share what they depend on.
test: deps check
	$(CARGO) build --release --workspace --all-targets --locked
	$(CARGO) test --release --workspace --locked

# What the tests need besides Rust and a C compiler, all from Debian: real mail servers, what the example agent in Python
# runs on, the clients that wake sites up, a browser, and what breaks things: eatmydata turns syncs off, fiu-utils makes
# them fail, strace makes them slow, faketime turns clocks.
PACKAGES = postfix m4 ca-certificates \
  fetchmail wget curl ddclient chromium chromium-driver \
  libio-socket-ssl-perl libnet-ip-perl \
  eatmydata fiu-utils faketime strace e2fsprogs mount \
  python3-grpcio python3-protobuf python3-cryptography protobuf-compiler

# Whose packages cannot be installed beside Postfix: they are only unpacked, into target/unpacked. Their libraries are
# installed.
UNPACKED = chasquid courier-authlib courier-base courier-mta exim4-config exim4-daemon-light opensmtpd qpsmtpd \
  sendmail-base sendmail-bin sendmail-cf

# Without a configuration Debian starts no mail server of its own; the tests bring theirs.
deps: $(UNPACKED:%=target/unpacked/%.done)
	@missing=$$(for package in $(PACKAGES) $$(cat target/unpacked/*.needs); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" || echo $$package; done); \
	test -z "$$missing" || { \
	  test "$$(id -u)" = 0 || { echo "make deps: installing" $$missing "needs root; run it as root once" >&2; exit 1; }; \
	  echo "make deps: installing Debian's" $$missing; \
	  echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections && \
	  apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; }
	@test "$$(id -u)" = 0 || { echo "make test: the tests that run real mail servers or cut the power need root" >&2; exit 1; }

target/unpacked/%.done: tests/unpack.sh
	@echo "make deps: unpacking Debian's $*"
	@tests/unpack.sh $*

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

# Ten thousand histories of dispatch and store on a disk that forgets; tests run a few of them.
simulation:
	DD_SIMULATION=$(or $(SEEDS),0..10000) $(CARGO) test --release --workspace --lib --locked -- --exact \
	  simulation::nothing_is_lost_whatever_happens_in_whatever_order \
	  simulation::every_sender_is_told_once_what_became_of_their_mail \
	  simulation::what_cannot_be_read_costs_only_what_lay_there \
	  dispatch::simulation::all_mail_is_relayed_once_sites_answer

# Twenty thousand histories of the real dispatch and the real agent among homes that behave as real servers do, and two
# hundred with homes that do odd things besides; half an hour on one core.
zoo:
	for seeds in $(or $(SEEDS),0..20000 30000..30200); do \
	  DD_ZOO=$$seeds $(CARGO) test --release --package dd-controller --lib --locked -- --exact \
	    zoo::mail_is_there_soon_or_fails_in_the_homes_words_once || exit 1; \
	done

fmt:
	$(CARGO) fmt --all

# Needs cargo-fuzz and a nightly compiler. What it finds out lies below target/fuzz.
fuzz:
	@cargo fuzz --version >/dev/null || { \
	  echo "make fuzz: needs 'cargo install cargo-fuzz --locked' and 'rustup toolchain install nightly'" >&2; exit 1; }
	@for target in $(or $(TARGET),$(notdir $(wildcard tests/fuzz/corpus/*))); do \
	  echo "make fuzz: $$target"; mkdir -p target/fuzz/corpus/$$target && \
	  DD_FUZZ_TARGET=$$target RUSTUP_TOOLCHAIN=nightly cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz \
	    --sanitizer none fuzz target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
	    -artifact_prefix=target/fuzz/$$target- -max_total_time=$(or $(SECONDS),60) -max_len=4096 -rss_limit_mb=1024 \
	    || exit 1; \
	done
