# Everything happens in .venv, made from the tested versions of constraints.txt. Compiled, for the tests start dozens of
# processes, and where Python is told to write no bytecode each would compile TensorFlow anew.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m
# Segment Anything's torch has a place of its own: whoever trains and predicts need not download it.
SAM_VENV := .venv-sam
SAM_RUN := $(SAM_VENV)/bin/python -m

.PHONY: demo test test-sam pictures lint clean

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check uv
	$(RUN) uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --constraint constraints.txt --editable '.[train,beam,serve,dev]'
	touch $@

# pip, not uv: it takes torch's small build for the CPU from where pip is told to look.
$(SAM_VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(SAM_VENV)
	$(SAM_RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sam,dev]'
	touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(VENV)/bin/boneage demo --out demo

test: $(VENV)/installed
	$(RUN) pytest -m 'not slow' --numprocesses auto --maxprocesses 4 --dist loadfile

test-sam: $(SAM_VENV)/installed
	$(SAM_RUN) pytest tests/preprocessing/sam tests/test_on_gpu.py

# Those of the README that show pages, by Debian's chromium; hands.png is drawn by experiments/draw_hands.py.
pictures: $(VENV)/installed
	$(RUN) pytest tests/boneage/web/test_browser.py --pictures experiments

lint: $(VENV)/installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports --config setup.cfg

clean:
	rm -rf $(VENV) $(SAM_VENV) demo build *.egg-info
