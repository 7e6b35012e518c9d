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
CFLAGS_tsan    := -O1 -g -fsanitize=thread
LDFLAGS_release := -pie -Wl,-z,relro,-z,now
CFLAGS_ALL  := -std=gnu11 -pthread $(WARN) $(CFLAGS_$(MODE)) $(CFLAGS)
LDFLAGS_ALL := -pthread $(CFLAGS_$(MODE)) $(LDFLAGS_$(MODE)) $(LDFLAGS)
LIBS := -llmdb -levent_openssl -levent_pthreads -levent_extra -levent_core -lssl -lcrypto -lldns -linih -lpcre2-8 -ljansson \
	-lpsl -lzstd -lz -lsystemd -lcap-ng -lcrypt

COMMON_DIRS := $(sort $(patsubst %/,%,$(dir $(wildcard common/*/*.c))))
src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))

COMMON_SRC  := $(foreach d,$(COMMON_DIRS),$(call src,$d))
DAEMON_SRC  := $(COMMON_SRC) $(call src,spooler) $(call src,worker) $(call src,master)
CLI_SRC     := $(COMMON_SRC) $(call src,cli)
ALL_SRC     := $(sort $(DAEMON_SRC) $(CLI_SRC))

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

# Unit tests: the first line of each names the folders and files that it links.
UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
links_of = $(shell sed -n '1s,^/\* links: \(.*\) \*/$$,\1,p' tests/unit/$(1).c)
link_src = $(foreach l,$(1),$(if $(filter %.c,$l),$l,$(call src,$l)))

define unit_rule
$(BUILD)/tests/$(1): $(BUILD)/tests/unit/$(1).o $(call obj,$(call link_src,$(call links_of,$(1))))
	@echo "  LD      $$@"
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ -lcriterion $$(LIBS)
unit-$(1): $(BUILD)/tests/$(1)
	$(BUILD)/tests/$(1) --jobs 2
endef
$(foreach t,$(UNIT),$(eval $(call unit_rule,$t)))

$(BUILD)/tests/unit/%.o: tests/unit/%.c $(BUILD)/.flags
	@echo "  CC      $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

unit: $(foreach t,$(UNIT),$(BUILD)/tests/$t)
	@set -e; for t in $(foreach t,$(UNIT),$(BUILD)/tests/$t); do $$t --jobs 2; done

# Every header compiles alone.
headers:
	@set -e; for h in $$(ls common/*/*.h spooler/*.h worker/*.h master/*.h cli/*.h 2>/dev/null); do \
		$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -fsyntax-only -x c $$h; done; echo "  headers compile alone"

clean:
	rm -rf build

FORCE:
.PHONY: all unit headers clean FORCE
.SECONDARY:

-include $(patsubst %.c,$(BUILD)/%.d,$(ALL_SRC)) $(wildcard $(BUILD)/tests/unit/*.d)
