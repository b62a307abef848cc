# Everything a newcomer needs: `make demo` and `make test` set themselves up.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-oldest test-older lint doctest clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

# SCIPY_ARRAY_API lets scikit-learn run the one check that it otherwise skips.
test: $(READY)
	SCIPY_ARRAY_API=1 $(BIN)/python -m pytest --numprocesses auto

# The oldest scikit-learn that is supported, and all between it and the newest.
test-oldest: $(READY)
	$(BIN)/nox --session "sklearn(version='1.6.1')"

test-older: $(READY)
	$(BIN)/nox --session sklearn

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

doctest: $(READY)
	$(BIN)/python -m pytest --doctest-glob="*.md" README.md docs

clean:
	rm -rf .venv .nox
