# make demo       train, extrapolate, draw: the quickstart experiments with one seed, 8 to 15 minutes on two cores
# make test       the test suite (ARGS="-k rope" goes to pytest)
# make test-tpu-aot   the TPU kernels through the TPU's compiler, without a TPU, in an environment of its own, .venv-tpu (Linux)
# make install    the environment alone, in .venv
# make bench      speed, beside that of other libraries where they are installed
# make notebooks  the notebooks, run from top to bottom and written with their outputs (NAME=08 runs one)
# make lab        the notebooks, in a browser
# make colab      a badge in every notebook that opens it in Colab from REPOSITORY=owner/name on GitHub
# make reference  a web page of every docstring, in build/reference
# make doctor     what this machine has
# make clean      remove the environment and caches, keep results
# Each does all the set-up it needs. PYTHON=/path/to/python3.12 chooses the interpreter.

VENV  := .venv
TPU   := .venv-tpu
BIN   := $(VENV)/bin
OUT   := runs
ARGS  ?=

# The newest interpreter the project is tested with, python3 first when it is one of them. Asking each to run, and not whether
# it exists, skips the stand-ins that version managers put on the path.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
NEWER     := import sys; sys.exit(sys.version_info < (3, 11))
FIND_PYTHON = for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$p; exit; }; done; \
              python3 -c '$(NEWER)' >/dev/null 2>&1 && echo python3

.DEFAULT_GOAL := help
.PHONY: help demo test test-tpu-aot install bench notebooks lab colab reference doctor clean

help:
	@sed -n '1,12s/^# //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed
	@$(BIN)/lcref run quickstart --size cpu --seeds 1 --out $(OUT)

test: $(VENV)/installed-test
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

# jax tries a libtpu that it finds at import, and nothing else here needs one: hence apart.
test-tpu-aot: $(TPU)/installed
	@JAX_PLATFORMS=cpu $(TPU)/bin/python -m pytest -q -n 2 --noconftest -p no:cacheprovider tests/kernels/test_tpu_aot.py $(ARGS)

install: $(VENV)/installed

bench: $(VENV)/installed
	@$(BIN)/lcref bench

# The source of a notebook is its .py; what was run, with outputs, is the .ipynb. Three minutes each at most.
NAME ?=
notebooks: $(VENV)/installed-notebooks
	@$(BIN)/python -m jupytext --quiet --update --to ipynb notebooks/$(NAME)*.py
	@$(BIN)/python -m pytest -q -p no:cacheprovider --durations=0 --nbmake --nbmake-timeout=180 --overwrite notebooks/$(NAME)*.ipynb

lab: $(VENV)/installed-notebooks
	@$(BIN)/jupyter lab notebooks

REPOSITORY ?=
colab: $(VENV)/installed-notebooks
	@$(BIN)/python docs/colab.py "$(REPOSITORY)"
	@$(MAKE) --no-print-directory notebooks

reference: $(VENV)/installed-reference
	@$(BIN)/pdoc --output-directory build/reference lcref
	@echo "pages    build/reference/index.html"

doctor: $(VENV)/installed
	@$(BIN)/lcref doctor

clean:
	rm -rf $(VENV) $(TPU) build dist .pytest_cache .hypothesis
	@find lcref experiments tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "removed the environment and the caches; results of experiments in $(OUT)/ are kept"

# One stamp a set of packages; all are made again when pyproject.toml changes.
$(VENV)/installed: EXTRAS = .
$(VENV)/installed-test: EXTRAS = .[dev,real]
$(VENV)/installed-notebooks: EXTRAS = .[notebooks]
$(VENV)/installed-reference: EXTRAS = .[reference,hf,real]
$(VENV)/installed $(VENV)/installed-test $(VENV)/installed-notebooks $(VENV)/installed-reference: pyproject.toml | $(BIN)/python
	@echo "installing $(EXTRAS) into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(EXTRAS)' || { \
	  echo "lcref: installing failed; pip's own words are above. A network (or an index that pip is set up to use) is needed here." >&2; exit 1; }
	@touch $@

$(TPU)/installed: pyproject.toml | $(TPU)/bin/python
	@echo "installing jax, libtpu and pytest into $(TPU) (a few minutes the first time)"
	@$(TPU)/bin/python -m pip install --quiet --disable-pip-version-check 'jax[tpu]>=0.10.2' pytest pytest-xdist || { \
	  echo "lcref: installing failed; pip's own words are above. libtpu is made for Linux; a network (or an index that pip is set up to use) is needed here." >&2; exit 1; }
	@touch $@

$(BIN)/python $(TPU)/bin/python:
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
	  echo "lcref: needs Python 3.11 or newer; python3 here is $$(python3 --version 2>&1 | head -1). Install one, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! $$python -c '' >/dev/null 2>&1; then \
	  echo "lcref: PYTHON=$$python does not run; name a Python 3.11 or newer, or leave PYTHON out" >&2; exit 1; fi; \
	if ! $$python -c '$(NEWER)' >/dev/null 2>&1; then \
	  echo "lcref: needs Python 3.11 or newer; PYTHON=$$python is $$($$python --version 2>&1 | head -1)" >&2; exit 1; fi; \
	if ! $$python -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "lcref: $$python cannot make virtual environments: its venv or pip module is missing. On Debian and Ubuntu: apt install python3-venv python3-pip" >&2; exit 1; fi; \
	echo "making $(@:/bin/python=) with $$($$python --version) ($$python)"; \
	$$python -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); exit 1; }
