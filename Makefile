# `make demo` and `make test` are all that a fresh Debian 12 needs; each does its own set-up.
PY := .venv/bin/python

.PHONY: setup demo up test test-long planted check bench lock clean

setup:           ## install what is missing: Debian packages, .venv, the guest kernel
	@bash deploy/setup.sh

demo: setup      ## the main job, end to end, on real parts; leaves nothing behind
	@$(PY) -m tests.acceptance.demo

up: setup        ## the same, and it stays up until Ctrl-C
	@$(PY) -m tests.acceptance.demo --stay

check: setup     ## formatting, lint, types, layers
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

test: check      ## everything that CI runs, real guests and the demo included
	@$(PY) -m pytest

test-long: setup ## what is too long for every day: crashes by the hundred, long programs for the log, thousands of odd requests, planted bugs
	@TRUEUP_KILL_ROUNDS=100 $(PY) -m pytest --timeout=3600 tests/integration/store/test_durability.py
	@TRUEUP_MACHINE_EXAMPLES=60 TRUEUP_MACHINE_STEPS=30 $(PY) -m pytest tests/machines
	@TRUEUP_API_EXAMPLES=500 $(PY) -m pytest --timeout=3600 tests/integration/server/test_described.py
	@$(PY) -m tests.planted

planted: setup   ## plant known bugs into copies of the tree, and see each one caught: docs/PLANTED-BUGS.md
	@$(PY) -m tests.planted

bench: setup     ## run every benchmark and write docs/PERFORMANCE.md
	@$(PY) -m tests.bench --all

lock: setup      ## write the lock files anew from pyproject.toml
	@.venv/bin/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe -o requirements.lock pyproject.toml
	@.venv/bin/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe --extra dev -o requirements-dev.lock pyproject.toml

clean:           ## remove caches and the virtual environment; state directories stay
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
