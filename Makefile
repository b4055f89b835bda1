# Two commands on a machine with Python 3.10 to 3.13 and a C++ compiler: `make demo`, `make test`.
# Both work in .venv and leave the rest of the machine alone.

PYTHON ?= python3
OUT ?= out/demo

# Any torch >= 2.4 does. One version is pinned here because an open range takes the newest build with all its CUDA
# libraries, some gigabytes. Where pip knows PyTorch's CPU index (PIP_EXTRA_INDEX_URL; the address is on pytorch.org
# under "Get started"), this pin takes the CPU build: 2.13.0+cpu sorts after 2.13.0.
TORCH ?= torch==2.13.0

# A ROS 2 that is sourced in this shell must not reach into .venv, which has its own.
unexport ROS_DISTRO PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE VIRTUAL_ENV

VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find lsm_ros msg srv src cmake config launch recordings -type f -not -name '*.pyc' 2>/dev/null) \
           setup.py pyproject.toml package.xml CMakeLists.txt README.md

.PHONY: demo test test-slow lint clean help
.DEFAULT_GOAL := help

demo: $(VENV)/installed  ## play the shipped recording into the node over DDS; results in out/demo (OUT=folder)
	$(BIN)/lsm demo -o $(OUT)
	@echo "The results are in $(abspath $(OUT))"

test: $(VENV)/installed-tests  ## the tests, on the installed package (ARGS='-k graph' goes to pytest)
	$(BIN)/pytest $(ARGS)

test-slow: $(VENV)/installed-tests  ## the tests that take longer
	$(BIN)/pytest -m slow $(ARGS)

lint: $(VENV)/installed-tests  ## ruff
	$(BIN)/ruff check .

clean:  ## remove .venv and what builds and tests leave behind; results in out/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find lsm_ros test launch -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else \
	  f"{sys.executable} is Python {v[0]}.{v[1]}; 3.10 to 3.13 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install $(TORCH)
	touch $@

# build/ is setuptools' own; a module that was removed from the sources would live on in it.
$(VENV)/installed: $(VENV)/created $(SOURCES)
	rm -rf build
	@echo "Building lsm_ros with its ROS 2 messages, and fetching what it needs: some minutes the first time."
	$(BIN)/python -m pip install --quiet .
	rm -rf build *.egg-info
	touch $@

$(VENV)/installed-tests: $(VENV)/installed
	$(BIN)/python -m pip install --quiet 'lsm_ros[test]'
	touch $@
