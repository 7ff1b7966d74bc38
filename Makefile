# Every target works as the first command ever typed: each depends on `install`,
# which is a no-op while .venv is newer than what it was made from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: install demo test check lint types imports test-full sim bench lock deb clean

install: $(READY)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -m compileall -q balancer  # where Python is told to write no bytecode, each command would compile anew
	@touch $(READY)

demo: install
	@$(BIN)/balancer demo

# The gate a change must pass: style, types, import contracts, fast tests.
test: check
	$(BIN)/python -m pytest

check: lint types imports

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

# Everything `make test` leaves out for speed or for want of a server.
test-full: install
	.ci/install-servers
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -m server -n 2 --dist loadfile  # of a file one after another: one installs on this machine

# The long simulations: a failing seed is named with the command that repeats it.
sim: install
	$(BIN)/python -m tests.simulation.years --world small --seeds 0-9999 --jobs 2
	$(BIN)/python -m tests.simulation.years --world large --seeds 0-99 --jobs 2

bench: install
	$(BIN)/python -m benchmarks

# The lock is resolved for every supported Python and platform at once.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --no-header --upgrade pyproject.toml -o requirements.lock

# A Debian package with everything in it, for Debian's own python3.
deb:
	packaging/build-deb

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build
