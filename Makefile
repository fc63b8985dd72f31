# Everything happens in .venv, made from the tested versions of constraints.txt; uv installs them where it is there.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m

.PHONY: demo test lint clean

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check uv
	$(RUN) uv pip install --quiet --python $(VENV)/bin/python --constraint constraints.txt --editable '.[train,dev]'
	touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(VENV)/bin/boneage demo --out demo

test: $(VENV)/installed
	$(RUN) pytest -m 'not slow'

lint: $(VENV)/installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports --config setup.cfg

clean:
	rm -rf $(VENV) demo build *.egg-info
