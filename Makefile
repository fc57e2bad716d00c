# What people type. `make demo` and `make test` are the two that matter.

triple := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
kiln := target/release/kiln

.PHONY: build demo test cost stress bench order lint fuzz prepare real clean

build:
	cargo build --release --locked
	install -D target/$(triple)/release/kiln $(kiln)

# Base images first: on a fresh machine the compiler comes from there too.
demo: prepare build
	testdata/demo.sh

# Everything that the tests use: Debian packages (as root), and the base images of testdata/bases.
prepare:
	testdata/prepare.sh

test: prepare
	KILN_BASES=$(CURDIR)/target/bases cargo test --workspace --locked

# The images of testdata/real, built, run and asked, with the release build.
real: prepare build
	KILN=$(CURDIR)/$(kiln) testdata/real.sh

# What a no-op build costs, counted in the release build, held against the numbers in tests/it/cost.rs.
cost: prepare build
	KILN_RELEASE=$(CURDIR)/$(kiln) KILN_BASES=$(CURDIR)/target/bases \
		cargo test --locked --test it cost:: -- --ignored --nocapture

# kiln beside its peers, as root. All rows take half an hour; some: make bench ROWS=noop,run ROUNDS=5 ENGINES=kiln,docker
# Rows: noop files run stages wide gigabyte project starts throughput network names seats costs scaling.
# Engines: kiln docker docker-legacy buildah buildkit podman.
ROWS ?= all
ROUNDS ?= 3
ENGINES ?= kiln,docker,docker-legacy,buildah,buildkit,podman

bench: prepare build
	cargo bench --locked --bench lower
	KILN=$(CURDIR)/$(kiln) ROWS=$(ROWS) ROUNDS=$(ROUNDS) ENGINES=$(ENGINES) benches/end_to_end.sh

# Which functions a start runs, for the linker: to be made again when the compiler or many names have changed.
order: prepare build
	benches/start_order.py $(kiln) target/bases/busybox.tar .cargo/start.order

# Fifty builds at once from eight processes over one store, with prunes and kills, for five minutes.
STRESS_SECONDS ?= 300

stress: build
	KILN=$(CURDIR)/$(kiln) KILN_STRESS_SECONDS=$(STRESS_SECONDS) KILN_TEST_NO_SKIP=1 \
		cargo test --locked --test it -- stress::fifty --nocapture

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Feeds the language any bytes, for so long each: parsing, expansion, mounts, formatting. Wants a nightly compiler and
# `cargo install cargo-fuzz`. What it finds is left in grammar/fuzz/artifacts.
FUZZ_SECONDS ?= 600

fuzz:
	cd grammar/fuzz && for target in parse expand mount format; do \
		mkdir -p corpus/$$target && cargo +nightly fuzz run $$target corpus/$$target \
			../../testdata/dockerfiles ../../testdata/expansion -- -dict=dockerfile.dict \
			-max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -rss_limit_mb=2048 || exit 1; \
	done

clean:
	cargo clean
