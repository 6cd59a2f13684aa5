# make demo     run the main job on embedded defaults and print the report
# make test     all checks and all tests (those that need a real program are skipped without it)
# make check    lint, types, import rules, unit tests
# make peers    bring the real programs into .peers/ (Debian 12, root)
# make bench    measure against the usual chain of tools, and a scan against trivy

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types imports unit reference peers bench clean

$(STAMP): pyproject.toml scripts/make-venv
	@PYTHON=$(PYTHON) scripts/make-venv $(VENV)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/demo/demo.py

test: check
	@$(BIN)/pytest -q -n 2 --dist loadfile tests/contract tests/integration tests/wrappers tests/peers

check: lint types imports unit

lint: $(STAMP)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

types: $(STAMP)
	@$(BIN)/mypy

imports: $(STAMP)
	@$(BIN)/lint-imports --no-cache

unit: $(STAMP)
	@$(BIN)/pytest -q -n 2 tests/unit

reference: $(STAMP)
	@$(BIN)/python scripts/make_reference.py

peers:
	@scripts/install-peers .peers

bench: $(STAMP)
	@$(BIN)/python -m benchmarks.step
	@$(BIN)/python -m benchmarks.scan

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache ci-registry-report
