# The project's commands; `make` lists them. A line `target: ## text` is help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
PYTHON := $(VENV)/bin/python
# Debian's own, whatever else comes first in PATH.
PYTHON3 ?= $(firstword $(wildcard /usr/bin/python3.11) python3)

# The lab's hosts are containers (nspawn) made from a Debian tree (mmdebstrap); netcat-openbsd
# connects SSH into the lab's network namespace. Tests against the machine's own kernel run the
# CNI plugins. chromium opens the page of report.yml.
APT_PACKAGES := systemd-container mmdebstrap nftables iproute2 iputils-ping openssh-client \
  netcat-openbsd procps python3-venv containernetworking-plugins chromium

# Virtual machines of the lab besides.
QEMU_PACKAGES := qemu-system-x86 qemu-utils e2fsprogs

HOSTS ?= 3
SEGMENTS ?= 1
LAB ?= lab
HOST ?= n1
# What hosts are: containers, or qemu for virtual machines with their own kernels; and Debian's
# release: bullseye, bookworm, trixie, or several in turn.
MACHINES ?= container
SUITE ?= bookworm

.PHONY: help
help: ## List the targets
	@echo "usage: make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The first thing to try

.PHONY: demo
demo: lab-up ## Make a lab of three hosts, build the network there and prove it
	$(PYTHON) tools/demo.py $(LAB)

# The project's environment

.PHONY: venv apt apt-qemu
venv: $(VENV)/.stamp ## Make .venv and install what the lab needs from apt

$(VENV)/.stamp: requirements-dev.txt requirements.txt | apt
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-input --retries 5 \
	  --timeout 60 -r requirements-dev.txt
	touch $@

# Asked every time, because it takes 20 ms; installs only what is missing.
apt: PACKAGES := $(APT_PACKAGES)
apt-qemu: PACKAGES := $(QEMU_PACKAGES)
apt apt-qemu:
	@missing=""; for package in $(PACKAGES); do \
	  dpkg-query --show --showformat='$${Status}' $$package 2>/dev/null \
	    | grep -q 'ok installed' || missing+=" $$package"; \
	done; \
	if [[ -n $$missing ]]; then \
	  echo "installing:$$missing"; \
	  options="-o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 --quiet=2"; \
	  apt-get $$options update; \
	  DEBIAN_FRONTEND=noninteractive \
	    apt-get $$options install --yes --no-install-recommends $$missing; \
	fi

# The oldest Ansible that playbooks are tested with, beside the one in .venv.
OLDEST := .cache/controllers/2.16/bin/ansible-playbook

.PHONY: oldest
oldest: venv $(OLDEST) ## Install ansible-core 2.16 into .cache, for `make unit`

$(OLDEST): | $(VENV)/.stamp
	$(PYTHON) tools/controllers.py --make 2.16

# Tests

.PHONY: test lint unit molecule test-doctor test-kernels
test: images oldest ## Run everything: linters, unit tests, molecule's scenarios
	@$(PYTHON) tools/test.py

lint: venv ## Run the linters
	@$(PYTHON) tools/test.py lint

unit: image oldest ## Run pytest: units, the kernel, the lab
	@$(PYTHON) tools/test.py unit

molecule: images ## Run molecule's scenarios (SCENARIO=name for one)
	@$(PYTHON) tools/test.py $(or $(SCENARIO),molecule)

# One after the other: an emulated machine takes all the CPU that there is.
KERNELS := $(if $(filter command line,$(origin SUITE)),$(SUITE),bullseye bookworm trixie)

test-doctor: images ## Let doctor.yml diagnose each fault of the catalogue (tests/scenario/faults.py)
	@PODNET_DOCTOR=all $(PYTHON) tools/test.py trace

test-kernels: venv apt-qemu ## Try kernels 5.10, 6.1 and 6.12 on virtual machines (SUITE=bullseye)
	@failed=""; for suite in $(KERNELS); do \
	  echo "Kernel of $$suite"; \
	  $(PYTHON) -m lab image --kind qemu --suite $$suite; \
	  PODNET_KERNELS=all PODNET_SUITE=$$suite $(PYTHON) tools/test.py kernels || failed+=" $$suite"; \
	done; \
	[[ -z $$failed ]] || { echo "failed on the kernel of:$$failed"; exit 1; }

# The collection

.PHONY: collection
collection: venv ## Build the collection podnet.podnet into .cache/collection
	$(PYTHON) tools/collection.py

.PHONY: release
release: venv ## Build and check all that is handed out, in .cache/release/dist
	$(PYTHON) tools/release.py

# Other controllers

.PHONY: test-controllers
test-controllers: image ## Try each ansible-core on a lab, write docs/controllers.md (VERSIONS=2.19)
	$(PYTHON) tools/controllers.py $(VERSIONS)

# Benchmarks

BENCH_HOSTS := $(if $(filter command line,$(origin HOSTS)),$(HOSTS),10)

.PHONY: bench
bench: image ## Measure, write docs/benchmarks.md (PART=hosts|peers|plan|throughput HOSTS=10)
	$(PYTHON) -m bench $(PART) --hosts $(BENCH_HOSTS)

# The lab

# Virtual machines need more of the machine than containers.
LAB_NEEDS := venv $(if $(filter qemu,$(MACHINES)),apt-qemu)

.PHONY: images
images: venv apt-qemu ## Make all images that the scenarios' labs need, once
	@$(PYTHON) -m lab image --suite bookworm,bullseye,trixie
	@$(PYTHON) -m lab image --kind qemu --suite bookworm

.PHONY: image lab-up lab-down lab-shell
image: $(LAB_NEEDS) ## Make what lab hosts' disks begin as, once (MACHINES=qemu SUITE=trixie)
	$(PYTHON) -m lab image --kind $(MACHINES) --suite $(SUITE)

lab-up: $(LAB_NEEDS) ## Make a lab (HOSTS=3 SEGMENTS=1 LAB=lab MACHINES=qemu SUITE=trixie)
	$(PYTHON) -m lab up --name $(LAB) --hosts $(HOSTS) --segments $(SEGMENTS) \
	  --kind $(MACHINES) --suite $(SUITE)

lab-down: venv ## End the lab; nothing is left (LAB=lab)
	$(PYTHON) -m lab down --name $(LAB)

lab-shell: venv ## Open a root shell on a host (HOST=n1 LAB=lab)
	$(PYTHON) -m lab shell --name $(LAB) $(HOST)
