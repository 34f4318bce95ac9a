# The one set of commands. `make demo` and `make test` install all they need into .venv by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_NATIVE := gcc clang libclang-rt-14-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user

APT_TORTURE := e2fsprogs xfsprogs btrfs-progs
APT_WSGI := apache2-bin apache2-dev
APT_IMAGES := e2fsprogs mmdebstrap qemu-utils util-linux

.PHONY: help demo test test-sql torture torture-small torture-tools check check-native bench bench-small bench-smoke bench-micro \
	bench-chunkers bench-peers bench-glance bench-report bench-memory bench-limits bench-growth bench-generations bench-images bench-servers \
	bench-images-small image-tools bytecode docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [IMAGES=\"a.raw b.qcow2\"]  build real images, store them, get them back, compare"
	@echo "make test                          all tests that need no server"
	@echo "make test-sql                      the catalog's tests on PostgreSQL and MariaDB (installs with apt as root)"
	@echo "make test-glance                   tempest and real clients against casimg and a real Keystone (installs below .servers)"
	@echo "make test-glance-small             the part of it that needs one or two configurations, as CI runs it"
	@echo "make test-wsgi                     the service under gunicorn, uWSGI and mod_wsgi, two minutes (Apache with apt as root)"
	@echo "make test-openapi                  schemathesis: every operation of docs/openapi.json, under 3 minutes"
	@echo "make torture [MINUTES=10] [SEED=1] kills, power cuts, full disks, flips, many processes; about an hour, as root"
	@echo "make torture-small                 the same in a few minutes"
	@echo "make check                         ruff, mypy"
	@echo "make check-native                  C under sanitizers and a fuzzer, NEON under qemu (installs with apt as root)"
	@echo "make bench                         every benchmark on the full family of images, then benchmarks/README.md"
	@echo "make bench-small                   the same on small images, all below .bench, in minutes"
	@echo "make bench-smoke                   what needs no images and no other programs, small"
	@echo "make bench-chunkers [IMAGES=...]   what each chunker and chunk size makes of images"
	@echo "make bench-micro                   inner loops beside the limits of this machine"
	@echo "make bench-report                  benchmarks/README.md from the results that are there"
	@echo "make bench-memory [SIZE=20GiB]     put and get of data that does not repeat, with its memory"
	@echo "make bench-limits                  put and get beside pipelines that do only what cannot be left out"
	@echo "make bench-growth [ONLY=\"sizes index\"]  time and memory against size, images, index entries, generations"
	@echo "make bench-generations [COUNT=30]  restores and space over generations of a disk, before and after gc"
	@echo "make bench-servers [ONLY=\"gunicorn cheroot\"] WSGI servers under the service: speed, memory, streaming"
	@echo "make bench-images                  golden images and a disk in generations, from Debian packages, as root"
	@echo "make bench-images-small            the same, small, in a few minutes"
	@echo "make bench-peers [PEERS=\"borg zstd\"] casimg and its peers on the same images; installs them below .bench"
	@echo "make bench-glance [IMAGES=FOLDER]  casimg beside Glance's released package; installs it below .bench"
	@echo "make docs                          write docs/cli.md and docs/openapi.json anew"
	@echo "make clean                         remove what these commands made"

$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "casimg needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "the venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || command -v gcc >/dev/null || \
		{ echo "a C compiler is missing: apt-get install gcc libc6-dev python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# CASIMG_NATIVE=require: a C extension that does not compile is an error here, not a slow surprise.
$(VENV)/run.stamp: $(VENV)/pip.stamp pyproject.toml setup.py $(wildcard native/*.c native/*.h native/build.py)
	CASIMG_NATIVE=require $(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	CASIMG_NATIVE=require $(BIN)/python -m pip install --quiet -e '.[check]'
	@touch $@

demo: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.demo $(IMAGES)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal -q tests

$(VENV)/sql.stamp: $(VENV)/test.stamp
	CASIMG_NATIVE=require $(BIN)/python -m pip install --quiet -e '.[check,mysql,postgresql]'
	@touch $@

test-sql: $(VENV)/sql.stamp
	$(BIN)/python -m tests.servers.sql

# A venv of its own below .servers: Keystone, tempest, clients.
.PHONY: test-glance test-glance-small
test-glance: $(VENV)/test.stamp
	$(BIN)/python -m tests.glance

test-glance-small: $(VENV)/test.stamp
	$(BIN)/python -m tests.glance --small

# A venv of its own below .servers: uWSGI and mod_wsgi; what cannot be installed is skipped, with its reason.
.PHONY: test-wsgi
test-wsgi: $(VENV)/test.stamp
	@if ! command -v apxs >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(APT_WSGI) >/dev/null; fi
	$(BIN)/python -m tests.wsgi

# A venv of its own below .servers: schemathesis brings a plugin of pytest.
OPENAPI := .servers/openapi
$(OPENAPI)/pip.stamp: tests/openapi/requirements.txt
	$(PYTHON) -m venv $(OPENAPI)
	$(OPENAPI)/bin/python -m pip install --quiet -r tests/openapi/requirements.txt
	@touch $@

.PHONY: test-openapi
test-openapi: $(VENV)/test.stamp $(OPENAPI)/pip.stamp
	$(BIN)/python -m tests.openapi

# Without root, power cuts and full disks are left out, and the summary says so.
MINUTES ?= 10
SEED ?= 1
TORTURE = $(BIN)/python -m tests.torture --seed $(SEED)
torture-tools: $(VENV)/test.stamp
	@missing=""; for tool in mkfs.ext4 mkfs.xfs mkfs.btrfs; do \
		command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(APT_TORTURE) >/dev/null; fi

torture: torture-tools
	$(TORTURE) --minutes $(MINUTES) --json torture.json

torture-small: torture-tools
	$(TORTURE) --small --json torture.json

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-native: $(VENV)/run.stamp
	@missing=""; for tool in gcc clang aarch64-linux-gnu-gcc qemu-aarch64; do \
		command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq $(APT_NATIVE) >/dev/null; \
		else echo "missing:$$missing; apt-get install $(APT_NATIVE)" >&2; exit 1; fi; fi
	PYTHON=$(BIN)/python native/check.sh $(FUZZ_SECONDS)

$(VENV)/bench.stamp: $(VENV)/run.stamp
	CASIMG_NATIVE=require $(BIN)/python -m pip install --quiet -e '.[bench,check]'
	@touch $@

# What pip does for every installed package but not for an editable one: a command starts 0.06 s sooner.
bytecode: $(VENV)/run.stamp
	@$(BIN)/python -m compileall -q casimg

bench: $(VENV)/bench.stamp image-tools bytecode
	$(BIN)/python -m benchmarks.suite

bench-small: $(VENV)/bench.stamp image-tools bytecode
	$(BIN)/python -m benchmarks.suite --small

# What needs no images and no other programs, in two minutes.
bench-smoke: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.suite --small --only micro limits growth

bench-chunkers: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.chunkers $(IMAGES)

bench-micro: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.micro

bench-report: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.report

SIZE ?= 20GiB
bench-memory: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.memory --size $(SIZE)

bench-limits: bytecode
	$(BIN)/python -m benchmarks.limits

ONLY ?=
bench-growth: bytecode
	$(BIN)/python -m benchmarks.growth $(if $(ONLY),--only $(ONLY))

COUNT ?= 30
bench-generations: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.generations --count $(COUNT)

bench-servers: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.servers $(if $(ONLY),--only $(ONLY))

# Made once and kept in .bench; an interrupted build goes on from its last finished file.
image-tools: $(VENV)/run.stamp
	@missing=""; for tool in mmdebstrap mke2fs qemu-img unshare; do \
		command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(APT_IMAGES) >/dev/null; fi

bench-images: image-tools
	$(BIN)/python -m benchmarks.images

bench-images-small: image-tools
	$(BIN)/python -m benchmarks.images --small

# casimg is always among them: it is what the others are compared to.
PEERS ?=
bench-peers: bytecode
	$(BIN)/python -m benchmarks.peers $(if $(PEERS),--only casimg $(PEERS))

# GLANCE_OPTIONS: `--small`, `--only downloads`, `--workers 2`; python -m benchmarks.glance --help lists them.
GLANCE_OPTIONS ?=
bench-glance: $(VENV)/test.stamp bytecode
	$(BIN)/python -m benchmarks.glance $(if $(IMAGES),--images $(IMAGES)) $(GLANCE_OPTIONS)

docs: $(VENV)/test.stamp
	$(BIN)/python -m casimg.cli.docs > docs/cli.md
	$(BIN)/python -m casimg_api.openapi > docs/openapi.json

clean:
	rm -rf $(VENV) torture.json .demo .bench .servers build dist *.egg-info casimg/_native*.so native/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
