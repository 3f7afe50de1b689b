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
HARDENING = -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection \
  -D_FORTIFY_SOURCE=2 -D_GNU_SOURCE
# Static: no loader, no NSS, no plugins in a process that begins as root with a job's environment.
LDFLAGS = -static-pie -Wl,-z,relro,-z,now,-z,noexecstack

.PHONY: all help install uninstall clean

all: $(HELPER)

$(GENERATED): condor_isolation/records.py condor_isolation/messages.py condor_isolation/c_header.py
	@mkdir -p $(@D)
	$(PYTHON3) -m condor_isolation.c_header $@

$(HELPER): $(SOURCES) $(HEADERS) $(GENERATED) Makefile
	$(CC) $(CFLAGS) $(HARDENING) $(PLACES) -I$(BUILD)/include -o $@ $(SOURCES) $(LDFLAGS)

clean:
	rm -rf $(BUILD)
