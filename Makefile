# Sluice. `make help` lists the targets.

MODE    ?= debug
BUILD   ?= build/$(MODE)
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= cc
V       ?= 0

ifeq ($(origin CC),default)
CC := gcc
endif

Q := $(if $(filter 1,$(V)),,@)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wformat=2 -Wwrite-strings \
	-Wpointer-arith -Wdouble-promotion -Wimplicit-fallthrough -Wnull-dereference -fno-common -Werror

CPPFLAGS_ALL := -I. -D_GNU_SOURCE $(CPPFLAGS)
CFLAGS_debug   := -O1 -g
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
CFLAGS_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_release := -pie -Wl,-z,relro,-z,now
CFLAGS_ALL  := -std=gnu11 -pthread $(WARN) $(CFLAGS_$(MODE)) $(CFLAGS)
LDFLAGS_ALL := -pthread $(CFLAGS_$(MODE)) $(LDFLAGS_$(MODE)) $(LDFLAGS)
LIBS := -llmdb -levent_openssl -levent_pthreads -levent_extra -levent_core -lssl -lcrypto -lldns -linih -lpcre2-8 -ljansson \
	-lpsl -lzstd -lz -lsystemd -lcap-ng -lcrypt -lidn2

COMMON_DIRS := $(sort $(patsubst %/,%,$(dir $(wildcard common/*/*.c))))
src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))

COMMON_SRC  := $(foreach d,$(COMMON_DIRS),$(call src,$d))
DAEMON_SRC  := $(COMMON_SRC) $(call src,spooler) $(call src,worker) $(call src,master)
CLI_SRC     := $(COMMON_SRC) $(call src,cli)
ALL_SRC     := $(sort $(DAEMON_SRC) $(CLI_SRC))

# What was built last is build/sluiced and build/sluice.
build: all
	@ln -sfn $(patsubst build/%,%,$(BUILD))/sluiced build/sluiced
	@ln -sfn $(patsubst build/%,%,$(BUILD))/sluice build/sluice

all: $(BUILD)/sluiced $(BUILD)/sluice

$(BUILD)/sluiced: $(call obj,$(DAEMON_SRC))
	@echo "  LD      $@"
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(BUILD)/sluice: $(call obj,$(CLI_SRC))
	@echo "  LD      $@"
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# A change of compiler or flags rebuilds everything.
$(BUILD)/.flags: FORCE
	@mkdir -p $(BUILD)
	@echo '$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL)' | cmp -s - $@ || \
		echo '$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL)' > $@

$(BUILD)/%.o: %.c $(BUILD)/.flags
	@echo "  CC      $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/common/conf/shipped.o: etc/bounce-categories.conf

# Tests: the first line of each test names the folders and files that it links. Folders that do not
# suit it wholly can be left out in part: "worker -worker/resolver.c", or named by a pattern.
UNIT   := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
REPLAY := $(patsubst tests/replay/%.c,%,$(wildcard tests/replay/test_*.c))
links_of  = $(shell sed -n '1s,^/\* links: \(.*\) \*/$$,\1,p' $(1))
link_out  = $(patsubst -%,%,$(filter -%,$(1)))
link_src  = $(filter-out $(call link_out,$(1)),\
	$(foreach l,$(filter-out -%,$(1)),$(if $(filter %.c,$l),$(wildcard $l),$(call src,$l))))

# in a replay, committer and worker share one open spool (tests/replay/world.c)
LDFLAGS_replay := -Wl,--wrap=spool_open -Wl,--wrap=spool_close \
	-Wl,--wrap=spool_read_begin -Wl,--wrap=spool_write_commit

# see there
TEST_OBJ_asan := $(BUILD)/tests/unit/calm_fork.o
# $(1) folder below tests/, $(2) name
define test_rule
$(BUILD)/tests/$(2): $(BUILD)/tests/$(1)/$(2).o $(TEST_OBJ_$(MODE)) \
		$(call obj,$(call link_src,$(call links_of,tests/$(1)/$(2).c)))
	@echo "  LD      $$@"
	$$(Q)$$(CC) $$(LDFLAGS_ALL) $$(LDFLAGS_$(1)) -o $$@ $$^ -lcriterion $$(LIBS)
$(1)-$(2): $(BUILD)/tests/$(2)
	$(BUILD)/tests/$(2) --jobs 2
endef
$(foreach t,$(UNIT),$(eval $(call test_rule,unit,$t)))
$(foreach t,$(REPLAY),$(eval $(call test_rule,replay,$t)))

UNIT_BIN   := $(UNIT:%=$(BUILD)/tests/%)
REPLAY_BIN := $(REPLAY:%=$(BUILD)/tests/%)

# SKIP = names without test_: leaves these out
skip = $(filter-out $(foreach s,$(SKIP),%/test_$s),$(1))
binaries: all $(UNIT_BIN) $(REPLAY_BIN)
unit: $(UNIT_BIN)
	@tests/run-units $(call skip,$^)
replay: $(REPLAY_BIN)
	@tests/run-units $(call skip,$^)

# Programs of the tests: one for each tests/lib/NAME.c (with the files of tests/lib/NAME/), the
# benchmark's feeder and sink, and fuzzers in their short, deterministic form.
TOOLS := $(patsubst %.c,%,$(notdir $(wildcard tests/lib/*.c tests/bench/*.c)))
define tool_rule
$(BUILD)/tests/$(1): $(call obj,$(wildcard tests/lib/$(1).c tests/lib/$(1)/*.c tests/bench/$(1).c)) \
		$(if $(filter spool_bench,$(1)),$(call obj,$(call link_src,$(call links_of,tests/bench/$(1).c))))
	@echo "  LD      $$@"
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS)
endef
$(foreach t,$(TOOLS),$(eval $(call tool_rule,$t)))
tools: $(TOOLS:%=$(BUILD)/tests/%)

# (files without a first line of links are bodies that unit tests run)
FUZZ := $(patsubst tests/fuzz/%.c,%,$(shell grep -l '^/\* links:' tests/fuzz/fuzz_*.c))
define fuzz_rule
$(BUILD)/tests/$(1): $(call obj,tests/fuzz/$(1).c $(call link_src,$(call links_of,tests/fuzz/$(1).c)))
	@echo "  LD      $$@"
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS)
endef
$(foreach t,$(FUZZ),$(eval $(call fuzz_rule,$t)))
fuzz: $(FUZZ:%=$(BUILD)/tests/%)
	@set -e; for f in $^; do echo "  FUZZ    $$f"; $$f; done

E2E ?= tests/e2e
e2e: all tools
	SLUICED=$(abspath $(BUILD)/sluiced) SLUICE=$(abspath $(BUILD)/sluice) \
	SLUICE_TOOLS=$(abspath $(BUILD)/tests) tests/run-e2e $(abspath $(BUILD)/pytest) $(E2E)

# in part, with a build that has sanitizers; processes end without freeing what lives as long as they
e2e-asan:
	$(Q)ASAN_OPTIONS=detect_leaks=0 $(MAKE) e2e E2E='tests/e2e/test_smtp_in.py tests/e2e/test_reload.py \
		tests/e2e/test_dsn.py tests/e2e/test_accounting.py'

# --- what `make check` is made of; each step can be run alone ---

check: deps
	@tests/check

deps:
	@etc/install-deps

# days in virtual time, that say no more about memory than the shorter ones do
LONG_REPLAYS := replay_backoff replay_warmup
check-asan:
	$(Q)CHAOS_SEEDS=3 $(MAKE) MODE=asan SKIP="$(LONG_REPLAYS)" unit replay fuzz

# valgrind takes some twenty times as long, and says more than ASan only of what was never set. Never run are
# tests that watch times (and test_cli_args, in which glibc ends threads in a way that valgrind minds); make
# torture runs all others, a check those that code, decode and keep memory by hand. ASan runs everything.
TIMED := accountant acct_layout cli_args commit_model rates resolver loop
SLOW := stress fuzz chaos errors process retry hostile dsn build docs commit inject orders values delivery \
	stream spool rates every commit_pool commit_warmup cli_remote conf_domains conf_limits conf_providers \
	conf_backoff conf_warmup worker_backoff base conf session session_dialogue acct_record limits \
	worker_queue worker_mode commit_tidy dns conf_replies
check-valgrind: $(UNIT_BIN)
	@tests/run-valgrind $(BUILD)/valgrind \
		$(filter-out $(TIMED:%=$(BUILD)/tests/test_%) $(foreach s,$(SLOW),%_$s),$^)

lint: headers
	@tests/lint

# Every header compiles alone.
headers:
	@set -e; for h in $$(ls common/*.h common/*/*.h spooler/*.h worker/*.h master/*.h cli/*.h 2>/dev/null); do \
		$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -fsyntax-only -x c $$h; done; echo "  headers compile alone"

tidy:
	@tests/tidy -std=gnu11 $(CPPFLAGS_ALL) -include tests/tidy.h -- $(ALL_SRC)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

# --- use ---

demo: deps
	$(Q)$(MAKE) MODE=release all tools
	@BUILD=$(abspath build/release) tests/demo/run

bench: deps
	$(Q)$(MAKE) MODE=release all tools
	@BUILD=$(abspath build/release) tests/bench/run $(BENCH)

torture: deps
	$(Q)$(MAKE) all tools
	SLUICE_TORTURE=1 $(MAKE) e2e
	$(MAKE) check-valgrind SLOW=
	$(if $(filter 0,$(shell id -u)),,sudo) tests/systemd/run

docs: all
	$(BUILD)/sluiced --print-reference > docs/reference/settings.md
	$(BUILD)/sluiced --print-manual > docs/man/sluice.conf.5
	$(BUILD)/sluice help --man > docs/man/sluice.1

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/doc/sluice $(DESTDIR)/etc/sluice $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 755 $(BUILD)/sluiced $(DESTDIR)$(PREFIX)/sbin/sluiced
	install -m 755 $(BUILD)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	ln -sf sluice $(DESTDIR)$(PREFIX)/bin/pmta
	test -e $(DESTDIR)/etc/sluice/sluice.conf || \
		install -m 640 etc/sluice.conf $(DESTDIR)/etc/sluice/sluice.conf
	install -m 644 etc/providers.conf $(DESTDIR)/etc/sluice/providers.conf
	sed 's,@PREFIX@,$(PREFIX),' etc/sluiced.service > \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/sluiced.service
	install -D -m 644 etc/sluice.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/sluice.conf
	install -D -m 644 etc/sluice.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sluice.conf
	for m in docs/man/*.1 docs/man/*.5 docs/man/*.8; do test ! -e $$m || \
		install -D -m 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done

clean:
	rm -rf build

help:
	@sed -n 's/^## //p' Makefile

## make            build/sluiced and build/sluice, in build/$(MODE) (MODE=debug release asan; CC=gcc clang)
## make demo       build, run with a local receiver, send mail, show what happened
## make check      install what is missing, build with both compilers, run every test
## make unit replay e2e fuzz lint check-asan check-valgrind    the steps of it, alone
## make bench      Sluice beside Postfix on this machine
## make torture    the long forms of crash and fault tests; the unit in a booted container (tests/systemd/run)
## make install    PREFIX=/usr/local DESTDIR=

FORCE:
.PHONY: build all binaries unit replay tools fuzz e2e e2e-asan check deps check-asan check-valgrind lint headers tidy format demo \
	bench torture docs install clean help FORCE
.SECONDARY:

-include $(patsubst %.c,$(BUILD)/%.d,$(ALL_SRC)) $(wildcard $(BUILD)/tests/*/*.d)
