# SPDX-License-Identifier: Apache-2.0
# The front door. Everything made goes into build/, or where BUILD says.

BUILD ?= build
override BUILD := $(abspath $(BUILD))
export BUILD
PYTHON ?= python3
VENV := $(BUILD)/venv
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := build
.PHONY: build run test bench certs clean help

build:  ## install what it needs and build a release (the default)
	@deploy/packages.sh build
	@test -f $(BUILD)/build.ninja || cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
	@cmake --build $(BUILD)

run: build certs $(VENV)/.ready  ## server, weir, the story; serves until Ctrl-C (STAY=0: does not)
	@$(VENV)/bin/python tests/story/run.py

test: $(VENV)/.tests-ready build certs  ## all tests, installing what they need
	@test -f $(BUILD)/debug/build.ninja || \
	    cmake -S . -B $(BUILD)/debug -G Ninja -DCMAKE_BUILD_TYPE=Debug
	@cmake --build $(BUILD)/debug
	@ctest --test-dir $(BUILD)/debug --output-on-failure
	@$(VENV)/bin/pytest tests/servers tests/drivers

bench: build  ## measure weir beside HAProxy and a raw relay
	@deploy/packages.sh bench
	@$(PYTHON) tests/bench/bench.py

certs:  ## development certificates into build/certs
	@deploy/packages.sh run
	@certs/make.sh $(BUILD)/certs

clean:  ## remove everything that was made
	rm -rf $(BUILD)

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## */\1\t/p' Makefile | expand -t 10

# One Python environment for all; each of its files says who needs what.
$(VENV)/.ready: tests/servers/requirements.txt
	@deploy/packages.sh run
	@echo "Making a Python environment in $(VENV)"
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r $<
	@touch $@

$(VENV)/.tests-ready: tests/drivers/requirements.txt $(VENV)/.ready
	@deploy/packages.sh build test
	@$(PIP) -r $<
	@touch $@
