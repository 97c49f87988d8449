# Two commands do everything: `make quickstart` and `make test`. Both get what is missing and are quick the second time.
# TORCH=cpu|cuda chooses the set-up (default: cuda where nvidia-smi lists a card).

RELEASE := target/release/diffpref
QUICKSTART := runs/quickstart
JUNIT := target/nextest/ci/junit.xml
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: quickstart docs test test-tools setup lint parity bench demo-assets release

# Trains on the test bed, judges before and after, writes runs/quickstart/report.html.
quickstart: release
	$(RELEASE) train configs/quickstart.toml --resume=auto
	$(RELEASE) eval --run $(QUICKSTART) --prompts assets/testbed/names.jsonl --seeds 24 --other-seeds 2 \
		--scorer background --scorer nearest_drawing=assets/testbed
	@echo "Open $(QUICKSTART)/report.html"

# Writes the tables of keys and methods in docs/ and the comments of [method] in configs/ from the declarations.
docs: setup
	cargo build --workspace --bins
	python3 tools/docs.py target/debug/diffpref

release: setup
	cargo build --release

# With nextest the slowest tests are printed at the end, failed or not.
test: setup test-tools
ifeq ($(NEXTEST),yes)
	rm -f $(JUNIT)
	cargo nextest run --workspace --profile ci; status=$$?; [ ! -f $(JUNIT) ] || tools/slowest_tests.py $(JUNIT); exit $$status
else
	cargo test --workspace --no-fail-fast
endif

# Python alone, no packages.
test-tools:
	python3 -m unittest discover -q -s tools -t tools

setup:
	@tools/setup.sh

lint: setup
	python3 tools/rooms.py
	python3 tools/prose.py
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Live comparisons with Python diffusers; makes its environment in .python/.
parity: setup
	tools/python-env.sh
	cargo build --workspace --examples --bins
	.python/python tools/parity/models.py
	.python/python tools/parity/generate.py
	.python/python tools/parity/formats.py
	tools/parity/train.sh

# Side by side with Python; writes benches/RESULTS.md. Takes some minutes and 7 GiB of memory.
bench: release
	tools/python-env.sh
	benches/train_sd15.sh
	benches/generate.sh

# Makes the test bed anew: drawings, VAE, model, preference data. Resumable; about two hours on two cores.
demo-assets:
	tools/testbed/make.sh
