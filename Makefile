# condor-isolation: build, install, demo, test, bench.  `make help` lists the targets.
PREFIX = /usr
DESTDIR =
SYSCONFDIR = /etc
LIBEXECDIR = $(PREFIX)/libexec/condor-isolation
PYTHONDIR = $(PREFIX)/share/condor-isolation
POLICYDIR = $(SYSCONFDIR)/condor-isolation
RUNDIR = /run/condor-isolation
CONDORCONFIGDIR = $(SYSCONFDIR)/condor/config.d
PYTHON3 = python3
CC = gcc

BUILD = build
HELPER = $(BUILD)/isolate
SOURCES = $(wildcard wrappers/helper/*.c)
HEADERS = $(wildcard wrappers/helper/*.h)
GENERATED = $(BUILD)/include/records.gen.h

WARNINGS = -Wall -Wextra -Wconversion -Wshadow -Wvla -Werror
PLACES = -DPOLICY_PATH='"$(POLICYDIR)/policy"' -DRUN_DIRECTORY='"$(RUNDIR)"'
CFLAGS = -std=gnu11 -O2 -g $(WARNINGS)
HARDENING = -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection
INCLUDE = -D_GNU_SOURCE -I$(BUILD)/include
# Static: no loader, no NSS, no plugins in a process that begins as root with a job's environment.
# With musl, because the start of a static glibc costs a fifth of the whole helper (make bench).
MUSL = /usr/lib/$(shell $(CC) -print-multiarch | sed 's/gnu$$/musl/')
MUSL_INCLUDE = /usr/include/$(notdir $(MUSL))
KERNEL_INCLUDE = $(BUILD)/include/kernel
LIBGCC = $(shell $(CC) -print-libgcc-file-name)
STATIC = -nostdinc -isystem $(MUSL_INCLUDE) -isystem $(KERNEL_INCLUDE) \
  -isystem $(shell $(CC) -print-file-name=include) -nostdlib -static-pie \
  -Wl,-z,relro,-z,now,-z,noexecstack $(MUSL)/rcrt1.o $(MUSL)/crti.o
STATIC_END = $(MUSL)/libc.a $(LIBGCC) $(MUSL)/libc.a $(MUSL)/crtn.o

.PHONY: all help install uninstall clean demo chroot test test-unit test-node test-helper \
  test-pool test-image bench fuzz

all: $(HELPER)

help:
	@echo "make demo       install what is needed, boot a pool, show the main job"
	@echo "make test       the whole test suite"
	@echo "make bench      start-up cost against the peers"
	@echo "make install    into DESTDIR, below PREFIX; make uninstall takes it away"

$(GENERATED): condor_isolation/records.py condor_isolation/messages.py condor_isolation/c_header.py
	@mkdir -p $(@D)
	$(PYTHON3) -m condor_isolation.c_header $@

$(KERNEL_INCLUDE):
	mkdir -p $@
	ln -sfn /usr/include/linux /usr/include/asm-generic $@
	ln -sfn /usr/include/$(shell $(CC) -print-multiarch)/asm $@/asm

$(HELPER): $(SOURCES) $(HEADERS) $(GENERATED) Makefile | $(KERNEL_INCLUDE)
	$(CC) $(CFLAGS) $(HARDENING) $(PLACES) $(INCLUDE) $(STATIC) -o $@ $(SOURCES) $(STATIC_END)

# What is installed, derived from the tree: texts with the places filled in, the package compiled
# (the planner runs as a user who can keep no cache), the helper setuid root.
SCRIPTS = job-wrapper prepare-job advertise
MODULES = $(wildcard condor_isolation/*.py)
FRAGMENTS = $(notdir $(wildcard config.d/*.conf))
fill_in = sed -e 's|@LIBEXECDIR@|$(LIBEXECDIR)|g' -e 's|@PYTHONDIR@|$(PYTHONDIR)|g' \
  -e 's|@POLICYDIR@|$(POLICYDIR)|g' -e 's|@RUNDIR@|$(RUNDIR)|g' \
  -e 's|/usr/libexec/condor-isolation|$(LIBEXECDIR)|g' \
  -e 's|/etc/condor-isolation|$(POLICYDIR)|g' -e 's|/run/condor-isolation|$(RUNDIR)|g'
# $(call put,FILE,TARGET,MODE)
put = $(fill_in) $(1) > $(2) && chown root:root $(2) && chmod $(3) $(2)

install: $(HELPER)
	install -d -o root -g root -m 755 $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(PREFIX)/sbin \
	  $(DESTDIR)$(PYTHONDIR)/condor_isolation $(DESTDIR)$(POLICYDIR) $(DESTDIR)$(CONDORCONFIGDIR)
	set -e; for script in $(SCRIPTS); do \
	  $(call put,wrappers/$$script,$(DESTDIR)$(LIBEXECDIR)/$$script,755); done
	$(call put,wrappers/condor_isolation,$(DESTDIR)$(PREFIX)/sbin/condor_isolation,755)
	set -e; for module in $(MODULES); do \
	  $(call put,$$module,$(DESTDIR)$(PYTHONDIR)/$$module,644); done
	$(PYTHON3) -m compileall -q -f $(DESTDIR)$(PYTHONDIR)/condor_isolation
	set -e; for fragment in $(FRAGMENTS); do \
	  target=$(DESTDIR)$(CONDORCONFIGDIR)/$$fragment; \
	  if [ -e $$target ] && ! $(fill_in) config.d/$$fragment | cmp -s - $$target; then \
	    echo "kept $$target, which was edited"; \
	  else $(call put,config.d/$$fragment,$$target,644); fi; done
	install -o root -g root -m 4755 $(HELPER) $(DESTDIR)$(LIBEXECDIR)/isolate

# A fragment that was edited is kept beside its place, under a name that HTCondor does not read.
uninstall:
	set -e; for fragment in $(FRAGMENTS); do \
	  target=$(DESTDIR)$(CONDORCONFIGDIR)/$$fragment; \
	  if [ -e $$target ] && ! $(fill_in) config.d/$$fragment | cmp -s - $$target; then \
	    echo "kept as $$target.rpmsave"; mv $$target $$target.rpmsave; \
	  else rm -f $$target; fi; done
	rm -rf $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(PYTHONDIR) $(DESTDIR)$(POLICYDIR) $(DESTDIR)$(RUNDIR)
	rm -f $(DESTDIR)$(PREFIX)/sbin/condor_isolation

# --- Below here: nothing that an installation needs.
CACHE = .cache
NODE = docker/node
IN_NODE = $(NODE) run --env CONDOR_ISOLATION_MUST_RUN=$(CONDOR_ISOLATION_MUST_RUN) \
  --bind $(CURDIR):/src:ro --bind $(CACHE)/chroots/bookworm:/chroots/bookworm
VENV = $(CACHE)/venv
PYTEST = python3 -B -m pytest -p no:cacheprovider -rs

demo: host-demo $(HELPER) chroot
	$(IN_NODE) -- python3 -B /src/docker/demo.py

host-%:
	sh docker/host-packages.sh $*

chroot:
	$(NODE) chroot bookworm >/dev/null

test: host-test $(HELPER) test-unit chroot test-node test-helper test-pool test-image

$(VENV)/.done: pyproject.toml
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install -q --editable '.[dev]'
	touch $@

test-unit: $(VENV)/.done $(GENERATED)
	$(VENV)/bin/$(PYTEST) tests/unit

test-node:
	$(VENV)/bin/$(PYTEST) tests/node

test-helper: $(HELPER)
	$(IN_NODE) --no-pool -- sh -c 'cd /src && $(PYTEST) tests/helper'

test-pool: $(HELPER)
	$(IN_NODE) -- sh -c 'cd /src && $(PYTEST) tests/pool'
	$(IN_NODE) --release trixie -- sh -c 'cd /src && $(PYTEST) tests/pool -m smoke'

test-image:
	docker/prove-image.sh

BENCH = $(addprefix $(BUILD)/bench/,spawn look job plan)
BENCH_FLAGS = -std=gnu11 -O2 $(WARNINGS) -D_GNU_SOURCE -static
$(BUILD)/bench/job $(BUILD)/bench/plan: BENCH_FLAGS += -ffreestanding -fno-stack-protector -nostdlib
$(BUILD)/bench/%: tests/bench/%.c tests/bench/bare.h
	@mkdir -p $(@D)
	$(CC) $(BENCH_FLAGS) -o $@ $<

bench: host-bench $(HELPER) $(BENCH) chroot
	$(IN_NODE) --bind $(BUILD):/build --variant bench --no-pool -- \
	  python3 -B /src/tests/bench/start.py --json /build/bench.json

# SECONDS=3600 make fuzz
fuzz: host-test $(GENERATED)
	$(MAKE) -C tests/fuzz SECONDS=$(or $(SECONDS),60)

clean:
	rm -rf $(BUILD)
