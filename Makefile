# Everything a newcomer needs: `make demo` and `make test` set themselves up.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint doctest clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

# SCIPY_ARRAY_API lets scikit-learn run the one check that it otherwise skips.
test: $(READY)
	SCIPY_ARRAY_API=1 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

doctest: $(READY)
	$(BIN)/python -m pytest --doctest-glob="*.md" README.md docs

clean:
	rm -rf .venv
