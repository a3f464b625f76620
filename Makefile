# The environment is made once, by the first target that needs it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-export test-browser check package docs notebook release install clean

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@

demo: install
	$(BIN)/postnms demo

test: install
	$(BIN)/python -m pytest -n logical --dist worksteal

# An export to ONNX, which takes about a minute.
test-export: install
	$(BIN)/python -m pytest tests/export/check_onnx.py

# The report in Chromium, which no other target needs. It says what is missing where it is.
test-browser: install .venv/.browser
	$(BIN)/python -m tests.browser

.venv/.browser: pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[browser]' && touch $@ || echo "selenium could not be installed" >&2

check: install package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

package: install
	$(BIN)/python -m tests.package

# The sdist and the wheel to publish, in dist: built, checked and used from elsewhere.
release: install
	$(BIN)/python -m tests.package --release dist

# The site of the documents, in build/site. It has its own stamp, so that no other target waits for it.
.venv/.docs-installed: pyproject.toml .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

docs: .venv/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Runs the notebooks of the documents on a few scenes.
notebook: .venv/.docs-installed
	$(BIN)/python -m handbook.notebook

clean:
	rm -rf .venv runs build dist
