# Everything happens in .venv, made from the tested versions of constraints.txt. Compiled, for the tests start dozens of
# processes, and where Python is told to write no bytecode each would compile TensorFlow anew.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m
# Segment Anything's torch has a place of its own: whoever trains and predicts need not download it.
SAM_VENV := .venv-sam
SAM_RUN := $(SAM_VENV)/bin/python -m

# The lowest versions that setup.cfg allows.
LOWEST_VENV := .venv-lowest
LOWEST_RUN := $(LOWEST_VENV)/bin/python -m

.PHONY: demo test test-slow test-release test-sam test-lowest lint licences docs pictures wheels clean

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(RUN) uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --constraint constraints.txt --editable '.[train,beam,serve,studies,hub,dev,docs,gpl]'
	touch $@

# pip, not uv: it takes torch's small build for the CPU from where pip is told to look.
$(SAM_VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(SAM_VENV)
	$(SAM_RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sam,dev,gpl]'
	touch $@

# What is imported by users has its lowest versions, what only tests import its newest. The first step lets uv build this
# project's metadata and remember it; the second may build nothing, for an old release without a wheel is none to test.
$(LOWEST_VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(LOWEST_RUN) uv pip compile --quiet --no-deps pyproject.toml > /dev/null
	$(LOWEST_RUN) uv pip compile --quiet --resolution lowest-direct --only-binary :all: --extra train --extra serve --extra studies --extra hub \
		--output-file $(LOWEST_VENV)/lowest.txt pyproject.toml
	$(LOWEST_RUN) uv pip install --quiet --compile-bytecode --python $(LOWEST_VENV)/bin/python \
		--constraint $(LOWEST_VENV)/lowest.txt --editable '.[train,serve,studies,hub,dev,gpl]'
	touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(VENV)/bin/boneage demo --out demo

test: $(VENV)/installed
	$(RUN) pytest -m 'not slow and not release' --numprocesses auto --maxprocesses 4 --dist loadfile

# Whole trainings, killed processes, benchmarks, the built wheel in an empty environment, and the first steps of four
# users with it.
test-slow: $(VENV)/installed
	$(RUN) pytest -m slow --numprocesses 2 --dist loadfile

# What takes too many minutes for every change: commands killed at any moment, simulations, whole networks.
test-release: $(VENV)/installed
	$(RUN) pytest -m release --numprocesses 2

# Old libraries warn of what newer ones of others deprecate, so that warnings are no errors here.
test-lowest: $(LOWEST_VENV)/installed
	$(LOWEST_RUN) pytest -m 'not slow and not release' -W default --numprocesses auto --maxprocesses 4 --dist loadfile \
		--ignore tests/boneage/hand_networks --ignore tests/boneage/tuning --ignore tests/boneage/serve/test_browser.py \
		--ignore tests/boneage/web/test_accessibility.py --ignore tests/docs --ignore tests/package --ignore tests/test_benchmarks.py --ignore tests/tools

test-sam: $(SAM_VENV)/installed
	$(SAM_RUN) pytest tests/preprocessing/sam tests/preprocessing/sam_training tests/tools/test_on_gpu.py

# A broken link, or a public function without docstring, is an error.
docs: $(VENV)/installed
	TF_CPP_MIN_LOG_LEVEL=2 $(RUN) sphinx --fail-on-warning --keep-going --quiet -b html docs docs/build
	@echo open docs/build/index.html

# Those of the documentation that show web pages, by Debian's chromium; the others are drawn by scripts.
pictures: $(VENV)/installed
	$(RUN) pytest tests/boneage/serve/test_browser.py --pictures docs/images
	$(VENV)/bin/python docs/draw_hands.py docs/images/hands.png
	$(VENV)/bin/python docs/draw_synthetic.py docs/images/synthetic.png
	$(VENV)/bin/python docs/draw_agreement.py docs/images/agreement.png
	$(VENV)/bin/python docs/draw_follow.py docs/images/follow.png
	$(VENV)/bin/python docs/draw_height.py docs/images/height.png
	$(VENV)/bin/python docs/draw_atlas.py docs/images/atlas.png
	$(VENV)/bin/python docs/draw_outcomes.py docs/images/outcomes.png
	$(VENV)/bin/python docs/draw_reference.py docs/images/reference.png docs/images/comparison.png
	$(VENV)/bin/python docs/draw_architecture.py docs/images/architecture.svg

# Types and the import contract are checked on the installed package, whose folders have the names that are imported.
lint: $(VENV)/installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	rm -rf build
	$(RUN) uv pip install --quiet --no-deps --target build/installed .
	cd build/installed && MYPYPATH=. ../../$(RUN) mypy --config-file ../../setup.cfg
	cd build/installed && PYTHONPATH=. ../../$(VENV)/bin/lint-imports --config ../../setup.cfg

# The licence of every package that the core needs; fails where one is under the GPL.
licences: $(VENV)/installed
	$(VENV)/bin/python tools/licences.py

wheels: $(VENV)/installed
	rm -rf build dist
	$(RUN) uv build --quiet --wheel --out-dir dist .
	$(RUN) uv build --quiet --wheel --out-dir dist training_weights
	ls -l dist

clean:
	rm -rf $(VENV) $(SAM_VENV) $(LOWEST_VENV) demo build dist docs/build *.egg-info
