# Pantau's commands. `make` alone lists them; `make demo` and `make test` are all most people need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test test-slow slow-rest slow-deploy slow-fleet test-guest test-313 lint \
        constraints bench clean system python

VENV := .venv
VENV_313 := .venv313
PIP := -m pip --quiet --no-input --disable-pip-version-check
AS_TESTED := --constraint constraints.txt
IS_ROOT := $(filter 0,$(shell id -u))
export DEBIAN_FRONTEND := noninteractive
# Root can run every test, so for root a test that is left out makes the run fail.
export PANTAU_REQUIRE_ALL := $(if $(IS_ROOT),1,0)

# Each command that the tests need, and the Debian package that brings it.
TOOLS := mosquitto=mosquitto mosquitto_sub=mosquitto-clients ip=iproute2 nft=nftables \
         fping=fping ping=iputils-ping openssl=openssl chronyd=chrony
# The same for the tests that take longer: a guest with radios, a LAN with DHCP, an arm64 board,
# a clock that is wrong (g++, since it brings gcc with the headers).
TOOLS_SLOW := qemu-aarch64-static=qemu-user-static qemu-system-x86_64=qemu-system-x86 qemu-system-aarch64=qemu-system-arm \
              mcopy=mtools hostapd=hostapd wpa_supplicant=wpasupplicant \
              systemd-nspawn=systemd-container mmdebstrap=mmdebstrap arch-test=arch-test ssh-keygen=openssh-client \
              g++=g++ iperf3=iperf3 iw=iw busybox=busybox-static depmod=kmod dnsmasq=dnsmasq-base

# The first interpreter that really runs (a pyenv shim may not) and is new enough.
PYTHON = $(shell for python in python3.11 /usr/bin/python3.11 python3 /usr/bin/python3 \
           python3.12 python3.13 python3.14; do \
           $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null 2>/dev/null \
           && echo $$python && break; done)
PYTHON_313 := python3.13

define has_venv
$(1) -c 'import ensurepip, venv' </dev/null 2>/dev/null
endef

help:
	@echo 'make demo       install, and show a small city live in this terminal'
	@echo 'make install    make $(VENV) with the commands pantau and pantau-agent'
	@echo 'make test       lint, type check and test (as root also the labs; under 10 minutes)'
	@echo 'make test-slow  the tests that take longer, and the fast ones under Python 3.13'
	@echo 'make test-guest the hotspot with radios, in a guest kernel'
	@echo 'make lint       only lint, format check and type check'
	@echo 'make constraints take newer releases of what Pantau needs'
	@echo 'make bench      list the benchmarks'
	@echo 'make clean      remove what these commands made'

# What is installed depends on these files alone: the sources are used in place.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | python
	@echo 'Installing pantau into $(VENV)'
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(PIP) install --upgrade pip </dev/null
	@$(VENV)/bin/python $(PIP) install $(AS_TESTED) --editable '.[agent,server]' </dev/null
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'Installing what the tests need into $(VENV)'
	@$(VENV)/bin/python $(PIP) install $(AS_TESTED) --editable '.[dev]' </dev/null
	@touch $@

$(VENV_313)/.installed-dev: setup.cfg pyproject.toml constraints.txt
	@echo 'Installing what the tests need into $(VENV_313)'
	@[ -x $(VENV_313)/bin/python ] || $(PYTHON_313) -m venv $(VENV_313)
	@$(VENV_313)/bin/python $(PIP) install --upgrade pip </dev/null
	@$(VENV_313)/bin/python $(PIP) install $(AS_TESTED) --editable '.[dev]' </dev/null
	@touch $@

# An interpreter that can make virtual environments. Root gets it from apt.
python:
	@if [ -n '$(PYTHON)' ] && $(call has_venv,$(or $(PYTHON),false)); then exit 0; fi; \
	if [ -z '$(IS_ROOT)' ] || ! command -v apt-get >/dev/null; then \
	  echo 'Pantau needs Python 3.11 or newer with venv: apt-get install python3-venv' >&2; exit 1; fi; \
	echo 'Installing python3-venv'; \
	apt-get -qq update </dev/null; \
	apt-get -qq install -y --no-install-recommends python3-venv </dev/null >/dev/null

install: $(VENV)/.installed

demo: install
	@$(VENV)/bin/pantau demo

# The programs that the tests start. Root gets them from apt, others hear what is missing. None is
# left running, but chrony where systemd is: there it replaced what kept the time.
system:
	@missing=(); \
	for pair in $(TOOLS); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v "$${pair%%=*}" >/dev/null || missing+=("$${pair##*=}"); \
	done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	if [ -z '$(IS_ROOT)' ] || ! command -v apt-get >/dev/null; then \
	  echo "Not here, so tests that need them are left out: $${missing[*]}"; exit 0; fi; \
	echo "Installing $${missing[*]}"; \
	apt-get -qq update </dev/null; \
	apt-get -qq install -y --no-install-recommends "$${missing[@]}" </dev/null >/dev/null; \
	case " $${missing[*]} " in *' mosquitto '*) \
	  if [ -d /run/systemd/system ]; then systemctl --quiet disable --now mosquitto; \
	  else service mosquitto stop >/dev/null 2>&1 || true; fi;; \
	esac; \
	case " $${missing[*]} " in *' chrony '*) \
	  [ -d /run/systemd/system ] || service chrony stop >/dev/null 2>&1 || true;; \
	esac

lint: $(VENV)/.installed-dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

# Many tests mostly wait, so three run beside each other on two cores; a lab's file in one go.
test: system lint
	@$(VENV)/bin/pytest -q -n 3 -m 'not slow' --ignore tests/lab </dev/null
	@$(VENV)/bin/pytest -q -n 3 --dist loadfile -m 'not slow' tests/lab </dev/null
	@$(if $(IS_ROOT),,echo 'Not root: the tests marked SKIPPED above were left out, each with its reason.')

# The tests that need neither root nor a lab, once more under the newer Python.
test-313:
	@if ! $(call has_venv,$(PYTHON_313)); then \
	  echo 'Python 3.13 is not here: the fast tests ran under $(VENV) alone.'; exit 0; fi; \
	$(MAKE) --no-print-directory $(VENV_313)/.installed-dev; \
	$(VENV_313)/bin/pytest -q -n 2 -m 'not slow and not needs_root' \
	  --ignore tests/lab --ignore tests/deploy </dev/null

SLOW = $(VENV)/bin/pytest --durations=15
SPREAD = --dist loadfile --no-loadscope-reorder -n 3

# All its parts run, whatever failed in one.
test-slow: TOOLS += $(TOOLS_SLOW)
test-slow: system $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory --keep-going slow-rest slow-deploy slow-fleet test-313

slow-rest:
	@$(SLOW) $(SPREAD) -m 'slow and not guest' --ignore tests/deploy --ignore tests/truth </dev/null

slow-deploy:
	@$(SLOW) $(SPREAD) -m slow tests/deploy </dev/null

# A fleet may be starved of nothing, and the guest has a core for itself. Two halves that take about as
# long as each other. What runs in the background is a group of its own, so that Ctrl-C can reach it.
slow-fleet:
	@said=$$(mktemp); trap 'rm -f "$$said"' EXIT; \
	set -m; \
	$(SLOW) -m slow tests/lab/test_wifi_guest.py tests/truth/test_realsites.py </dev/null >"$$said" 2>&1 & \
	beside=$$!; set +m; \
	trap 'kill -INT -- -$$beside 2>/dev/null || true; wait $$beside || true; cat "$$said"; exit 130' INT TERM; \
	echo "The guest with radios and the real sites say what they have to say at the end; until then in $$said"; \
	failed=0; \
	$(SLOW) -m slow tests/truth --ignore tests/truth/test_realsites.py </dev/null || failed=$$?; \
	wait $$beside || failed=$$?; \
	cat "$$said"; exit $$failed

# The part of test-slow with radios in a guest kernel, alone (about 5 minutes).
test-guest: TOOLS += $(TOOLS_SLOW)
test-guest: system $(VENV)/.installed-dev
	@$(VENV)/bin/pytest -m guest </dev/null

# The newest releases that setup.cfg allows, for the tests to judge.
constraints: | python
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/python" $(PIP) install --upgrade pip </dev/null; \
	"$$scratch/venv/bin/python" $(PIP) install --editable '.[dev]' </dev/null; \
	sed -n '/^#/p' constraints.txt >"$$scratch/new"; \
	"$$scratch/venv/bin/python" -m pip freeze --exclude-editable >>"$$scratch/new"; \
	diff constraints.txt "$$scratch/new" || true; \
	cp "$$scratch/new" constraints.txt

bench:
	@echo 'Benchmarks, each run from the root of the clone:'
	@find bench -mindepth 1 -maxdepth 2 -type f -perm -u+x -not -path '*/results/*' | sort | sed 's/^/  /'

clean:
	@rm -rf $(VENV) $(VENV_313) pantau.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
