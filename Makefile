# SPDX-License-Identifier: Apache-2.0
# The front door. Everything made goes into build/, or where BUILD says.

BUILD ?= build
override BUILD := $(abspath $(BUILD))
export BUILD
PYTHON ?= python3
VENV := $(BUILD)/venv
comma := ,
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check

PYTEST = BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/pytest

# pymongo's own tests, which are in its source package only.
SPEC := $(BUILD)/spec

.DEFAULT_GOAL := build
.PHONY: build run test test-c test-asan test-tsan test-valgrind test-defects test-drivers sim fuzz \
        check-format check-clang check-tidy buildpack test-heroku bench bench-door bench-failover bench-story bench-fleet bench-recording \
        storms certs test-stubset test-faults \
        test-spec soak model clean help

build:  ## install what it needs and build a release (the default)
	@deploy/packages.sh build
	@test -f $(BUILD)/build.ninja || cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release
	@cmake --build $(BUILD)

run: build certs $(VENV)/.ready  ## a server (or URI=), weir before it, the story; serves until Ctrl-C (STAY=0: ends)
	@URI="$(URI)" $(VENV)/bin/python tests/story/run.py

test: test-c test-drivers test-faults test-spec test-deploy  ## all tests, installing what they need

# A build with tests: $(call test-build,NAME,CMAKE-FLAGS)
define test-build
	@deploy/packages.sh build test
	@test -f $(BUILD)/$(1)/build.ninja || \
	    cmake -S . -B $(BUILD)/$(1) -G Ninja -DCMAKE_BUILD_TYPE=Release -DWEIR_TESTS=ON $(2)
	@cmake --build $(BUILD)/$(1)
endef
ctest = @ctest --test-dir $(BUILD)/$(1) --output-on-failure --parallel $$(nproc)

test-c:  ## the tests of what is C
	$(call test-build,checked)
	$(call ctest,checked)

test-asan:  ## the same under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call test-build,asan,-DWEIR_SANITIZE=address$(comma)undefined)
	$(call ctest,asan)

test-tsan:  ## the same under ThreadSanitizer, but for what has no threads
	$(call test-build,tsan,-DWEIR_SANITIZE=thread)
	$(call ctest,tsan)

test-valgrind:  ## those of them that are pure, under valgrind's memcheck
	$(call test-build,checked)
	$(call ctest,checked) -C valgrind -L valgrind

test-defects: $(VENV)/.tests-ready  ## whether the simulation finds each deliberate mistake
	@$(PYTEST) tests/sim

sim:  ## the whole data path in a simulated world, with new seeds for SECONDS=60
	$(call test-build,checked)
	@$(BUILD)/checked/tests/sim/sim --jobs 2 --from $$(date +%s) --seconds $(or $(SECONDS),60)

model:  ## the fleet's leases, explored: what must hold, and mistakes that must be found
	$(call test-build,checked)
	@ctest --test-dir $(BUILD)/checked --output-on-failure -R '^model'

storms:  ## the gate and what others do, in simulated storms: the tables and plots of docs/storms.md
	$(call test-build,checked)
	@$(PYTHON) tests/storms/publish.py $(BUILD)/checked/tests/storms/storms docs
	@$(BUILD)/checked/tests/incidents/incidents >docs/incidents.md

fuzz: test-packages  ## every byte from outside, fuzzed for SECONDS=60 a target, one a core
	@$(PYTHON) tests/fuzz/run.py --seconds $(or $(SECONDS),60)

.PHONY: test-packages
test-packages:
	@deploy/packages.sh build test

# What fails is repeated once, and shown with how it failed: CONTRIBUTING.md says why. After so many
# it is no chance any more.
once-more = --reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks

# They mostly wait: two files at a time.
test-drivers: build certs $(VENV)/.tests-ready  ## real drivers through weir, on real servers
	@cmake -S tests/bench -B $(BUILD)/tests/bench -G Ninja >/dev/null
	@cmake --build $(BUILD)/tests/bench
	@BENCH_TOOLS=$(BUILD)/tests/bench $(PYTEST) -n 2 --dist loadfile $(once-more) \
	    tests/stubset tests/bench tests/servers tests/commands tests/drivers

test-stubset: $(VENV)/.tests-ready certs  ## the stub of a deployment that other tests use, by itself
	@$(PYTEST) tests/stubset

test-faults: build certs $(VENV)/.tests-ready  ## what goes wrong, on real sockets, around real servers
	@$(PYTEST) -n 2 --dist loadfile $(once-more) tests/faults

test-spec: build $(VENV)/.tests-ready $(SPEC)/.ready  ## a driver's own tests, both ways
	@$(PYTEST) tests/spec

test-deploy: deb certs $(VENV)/.deploy-ready  ## the package in a clean root, the image's and Kubernetes' files
	@$(PYTEST) -n 2 --dist loadfile tests/deploy

# What a package is built from, as a tree of its own; the network was asked for uPlot before: $(call lay-source,TREE)
define lay-source
	@rm -rf $(1) && mkdir -p $(1)
	@cp -r CMakeLists.txt README.md CHANGELOG.md docs wire policy proxy $(1)
	@cp -r $(BUILD)/proxy/page/node_modules $(1)/proxy/admin/page
	@cp -r deploy/debian $(1)
	@cp deploy/systemd/weir.service $(1)/debian/weir.service
endef
DEB := $(BUILD)/deb

deb: build  ## a Debian package, into build/deb
	@deploy/packages.sh deb
	@rm -rf $(DEB)
	$(call lay-source,$(DEB)/weir)
	@cd $(DEB)/weir && dpkg-buildpackage -b -us -uc >../build.log 2>&1 || { tail -n 20 ../build.log; exit 1; }
	@lintian --fail-on error,warning --allow-root $(DEB)/weir_*.changes
	@ls $(DEB)/weir_*.deb

buildpack: build  ## a buildpack for Heroku, with weir's source in it, as build/weir-buildpack.tgz
	$(call lay-source,$(BUILD)/buildpack/source)
	@cp -r deploy/heroku/bin $(BUILD)/buildpack
	@tar -C $(BUILD)/buildpack -czf $(BUILD)/weir-buildpack.tgz bin source

test-heroku: buildpack $(VENV)/.tests-ready  ## the buildpack in clean roots, as the platform runs it
	@deploy/packages.sh deb
	@WHOLE_BUILDPACK=1 $(PYTEST) tests/deploy/test_heroku.py

soak: certs $(VENV)/.tests-ready  ## drivers' traffic and faults for SECONDS=600, under both sanitizers
	$(call test-build,asan,-DWEIR_SANITIZE=address$(comma)undefined)
	$(call test-build,tsan,-DWEIR_SANITIZE=thread)
	@$(VENV)/bin/python tests/soak/soak.py --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

check-format:  ## whether the C code is formatted as .clang-format says
	@deploy/packages.sh test
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror

# A build by clang: $(call configure-clang)
define configure-clang
	@deploy/packages.sh build test
	@test -f $(BUILD)/clang/build.ninja || cmake -S . -B $(BUILD)/clang -G Ninja -DWEIR_TESTS=ON \
	    -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS=-Werror
endef

check-clang:  ## whether clang compiles all of it without a warning
	$(call configure-clang)
	@cmake --build $(BUILD)/clang

# One file a process: in the second of one process it takes every va_list for uninitialized.
check-tidy:  ## what clang-tidy finds by the checks of .clang-tidy
	$(call configure-clang)
	@git ls-files 'wire/*.c' 'policy/*.c' 'proxy/*.c' | \
	    xargs -P $$(nproc) -n 1 clang-tidy -p $(BUILD)/clang --quiet 2>$(BUILD)/clang/tidy.log || \
	    { grep -v 'warnings\? generated' $(BUILD)/clang/tidy.log; exit 1; }

bench: build  ## measure weir beside HAProxy and a raw relay
	@deploy/packages.sh bench
	@cmake -S tests/bench -B $(BUILD)/tests/bench -G Ninja >/dev/null
	@cmake --build $(BUILD)/tests/bench
	@$(PYTHON) tests/bench/bench.py

bench-door: build certs $(VENV)/.ready  ## what an app feels while 5,000 connections come at once
	@cmake -S tests/bench -B $(BUILD)/tests/bench -G Ninja >/dev/null
	@cmake --build $(BUILD)/tests/bench
	@BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/python tests/bench/door.py

bench-failover: build $(VENV)/.tests-ready  ## how long apps stand still in a failover, both ways
	@BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/python tests/bench/failover.py

bench-fleet: build $(VENV)/.tests-ready  ## how fast a fleet follows a load that moves
	@BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/python tests/bench/fleet.py

bench-recording: build $(VENV)/.ready  ## what it costs to record what people look at
	@deploy/packages.sh test
	@cmake -S tests/bench -B $(BUILD)/tests/bench -G Ninja >/dev/null
	@cmake --build $(BUILD)/tests/bench
	@BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/python tests/bench/recording.py

bench-story: build $(VENV)/.tests-ready  ## the story with several drivers: the table of docs/story.md
	@BUILD=$(BUILD) WEIR=$(BUILD)/weir $(VENV)/bin/python tests/story/matrix.py --docs docs

certs:  ## development certificates into build/certs
	@deploy/packages.sh run
	@certs/make.sh $(BUILD)/certs

clean:  ## remove everything that was made
	rm -rf $(BUILD)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' Makefile | expand -t 15

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

$(VENV)/.deploy-ready: tests/deploy/requirements.txt $(VENV)/.tests-ready
	@$(PIP) -r $<
	@touch $@

$(SPEC)/.ready: tests/servers/requirements.txt $(VENV)/.ready
	@echo "Fetching pymongo's own tests into $(SPEC)"
	@rm -rf $(SPEC) && mkdir -p $(SPEC)
	@$(VENV)/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
	    --dest $(SPEC) "$$(grep ^pymongo== $<)"
	@tar -xzf $(SPEC)/pymongo-*.tar.gz -C $(SPEC) --strip-components=1 --wildcards 'pymongo-*/test'
	@touch $@
