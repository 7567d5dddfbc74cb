# cprofiler: plain make. `make help` tells the targets and the variables.
# Folders are the data flow: cmd target sampler unwind profile symbolize output base.
# The scripts behind the longer targets are in .ci/.

VERSION := 0.1.0

O       ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
SAN     ?=
BPF     ?= 1
STATIC  ?= 1
WERROR  ?= 0
V       ?= 0
CLANG   ?= clang
PYTHON  ?= /usr/bin/python3
JOBS    ?= $(shell nproc)
FUZZ_CC ?= clang-14
FUZZ_SECONDS ?= 60
BENCH   ?=
ifeq ($(origin CC),default)
CC := gcc
endif

Q   := $(if $(filter 1,$(V)),,@)
say  = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' $(1) $(2))

# What is built from what. FOLDERS may be narrowed to build some rooms alone.
FOLDERS := base profile target sampler unwind symbolize output cmd
SOURCES := $(foreach d,$(FOLDERS),$(wildcard $(d)/*.c))
OBJECTS := $(SOURCES:%.c=$(O)/%.o) $(O)/output/profile.pb-c.o
LIB_OBJECTS := $(filter-out $(O)/cmd/main.o,$(OBJECTS))
BPF_OBJECTS := $(if $(filter 1,$(BPF)),$(patsubst %.bpf.c,$(O)/%.bpf.o,$(wildcard sampler/bpf/*.bpf.c)))
UNIT_SOURCES := $(foreach d,$(FOLDERS),$(wildcard tests/unit/$(d)/test_*.c))
UNIT_BINS := $(UNIT_SOURCES:%.c=$(O)/%)
ACCURACY_BINS := $(patsubst %.c,$(O)/%,$(wildcard tests/accuracy/compare_*.c))
BENCH_BINS := $(patsubst %.c,$(O)/%,$(wildcard tests/bench/bench_*.c))
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BINS := $(FUZZ_SOURCES:tests/fuzz/%.c=$(O)/fuzz/%)
FUZZ_LIB := $(O)/fuzz-lib/libcprofiler.a

# How. CFLAGS, CPPFLAGS, LDFLAGS and LDLIBS are the caller's and come last.
OPT     ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
ALL_CPPFLAGS := -I. -I$(O) -D_GNU_SOURCE -DCPROFILER_VERSION='"$(VERSION)"' -DHAVE_BPF=$(BPF) $(CPPFLAGS)
ALL_CFLAGS := -std=gnu17 $(OPT) $(WARN) $(SANFLAGS) $(CFLAGS)
ALL_LDLIBS := -lelf -lprotobuf-c -lz -ldeflate -llzma -lzstd -liberty -lm $(LDLIBS)
# The program carries its libraries, libc but for: it needs nothing where it runs, and starts sooner.
STATIC_LDLIBS := -Wl,-Bstatic -lelf -lprotobuf-c -lz -ldeflate -llzma -lzstd -liberty -Wl,-Bdynamic -lm $(LDLIBS)
PROGRAM_LDLIBS := $(if $(filter 1,$(STATIC)),$(STATIC_LDLIBS),$(ALL_LDLIBS))
PYTEST   = O=$(abspath $(O)) $(PYTHON) -B -m pytest -p no:cacheprovider
COMPILE  = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -MF $@.d

.PHONY: all unit demo check check-bare check-builds lint fuzz fuzz-build bench bench-build accuracy-build install uninstall clean help FORCE
.DELETE_ON_ERROR:
.SECONDARY: $(BPF_OBJECTS)

all: $(O)/cprofiler

$(O)/cprofiler: $(O)/cmd/main.o $(O)/libcprofiler.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(PROGRAM_LDLIBS)

$(O)/libcprofiler.a: $(LIB_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# The sampler embeds the BPF objects.
$(filter $(O)/sampler/%.o,$(OBJECTS)): $(BPF_OBJECTS)
$(O)/%.o: %.c $(O)/.flags | $(O)/output/profile.pb-c.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && $(COMPILE) -include base/banned.h -c -o $@ $<

$(O)/output/profile.pb-c.o: $(O)/output/profile.pb-c.c $(O)/.flags
	$(call say,CC,$@)
	$(Q)$(COMPILE) -Wno-error -c -o $@ $<

$(O)/output/profile.pb-c.c: output/profile.proto $(O)/.flags
	$(call say,PROTOC,$@)
	$(Q)mkdir -p $(@D) && protoc-c --proto_path=output --c_out=$(@D) $<

$(O)/%.bpf.o: %.bpf.c $(O)/.flags
	$(call say,BPF,$@)
	$(Q)mkdir -p $(@D) && $(CLANG) -O2 -target bpf -D__TARGET_ARCH_x86 -I. -I/usr/include/x86_64-linux-gnu \
		-Wall -MMD -MP -MF $@.d -c -o $@ $<

# Changed flags rebuild everything. New flags are first tried on a probe per library, so that a
# missing one is told by the name of its package.
FLAGS_LINE := $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) STATIC=$(STATIC)
$(O)/.flags: FORCE
	@mkdir -p $(@D)
	@echo $(call quote,$(FLAGS_LINE)) | cmp -s - $@ || { \
		CC='$(CC)' CLANG='$(CLANG)' BPF=$(BPF) STATIC=$(STATIC) .ci/probe && echo $(call quote,$(FLAGS_LINE)) > $@; }
quote = '$(subst ','\'',$(1))'

# Unit tests: one cmocka program for each tests/unit/FOLDER/test_NOUN.c. Benchmarks likewise.
unit: $(UNIT_BINS)
$(O)/tests/%: tests/%.c $(O)/libcprofiler.a
	$(call say,TEST,$@)
	$(Q)mkdir -p $(@D) && $(COMPILE) -o $@ $< $(O)/libcprofiler.a -lcmocka -ldw $(LDFLAGS) $(ALL_LDLIBS) $(PEER_LIBS)
$(O)/tests/bench/bench_unwind $(O)/tests/accuracy/compare_unwind: PEER_LIBS := -lunwind-x86_64 -lunwind
$(O)/tests/accuracy/compare_insn: PEER_LIBS := -lZydis
$(O)/tests/unit/sampler/test_btf_offset: PEER_LIBS := $(if $(filter 1,$(BPF)),-lbpf)

# Accuracy: programs that put our unwinder beside others.
accuracy-build: $(ACCURACY_BINS)

# Fuzzers: libFuzzer programs over a library of their own, built with the same sanitizers.
fuzz-build: $(FUZZ_BINS)
$(O)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_LIB)
	$(call say,FUZZER,$@)
	$(Q)mkdir -p $(@D) && $(FUZZ_CC) $(ALL_CPPFLAGS) -std=gnu17 -O1 -g $(WARN) -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined -MMD -MP -MF $@.d -o $@ $< $(FUZZ_LIB) $(LDFLAGS) $(ALL_LDLIBS)
$(FUZZ_LIB): FORCE
	$(Q)$(MAKE) --no-print-directory O=$(O)/fuzz-lib CC=$(FUZZ_CC) SAN=fuzzer-no-link,address,undefined OPT='-O1 -g' $@

fuzz: ## run every fuzzer for FUZZ_SECONDS (60) from its kept corpus
	$(Q).ci/packages check
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) fuzz-build
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTEST) -n $(JOBS) tests/fuzz

# The two commands of the README, and their kin. Each installs the packages that are missing first,
# then calls make again, because the compilers may have come only now.
demo: ## install what it needs, build, profile a real sqlite3, write build/demo/cpu.pprof
	$(Q).ci/packages demo
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all
	$(Q).ci/demo $(O)

check: ## install what the tests need, build in every way, run the whole suite
	$(Q).ci/packages check
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) check-builds
	$(Q)$(PYTEST) -n $(JOBS) -rs tests

check-builds:
	$(Q)$(MAKE) --no-print-directory O=$(O) WERROR=1 all unit accuracy-build
	$(Q)$(MAKE) --no-print-directory O=$(O)/clang CC=clang WERROR=1 all
	$(Q)$(MAKE) --no-print-directory O=$(O)/nobpf BPF=0 WERROR=1 all
	$(Q)$(MAKE) --no-print-directory O=$(O)/san SAN=address,undefined all unit
	$(Q)$(MAKE) --no-print-directory O=$(O) fuzz-build

check-bare: ## run `make demo` and `make check` in a bare Debian 12 (debootstrap, chroot; needs root)
	$(Q).ci/bare $(O)

lint: ## run the lints of tests/lint alone
	$(Q).ci/packages check
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all
	$(Q)$(PYTEST) -n $(JOBS) tests/lint

bench: ## measure cost and speed beside this machine's other profilers (BENCH="SECTION..." for some of it)
	$(Q).ci/packages bench
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all bench-build
	$(Q)O=$(abspath $(O)) .ci/bench $(BENCH)
bench-build: $(BENCH_BINS)

install: $(O)/cprofiler
	install -D -m 755 $(O)/cprofiler $(DESTDIR)$(PREFIX)/bin/cprofiler
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/cprofiler
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(wildcard man/*.1)))

clean:
	$(Q)rm -rf $(O)

help:
	@echo 'make              build $(O)/cprofiler'
	@echo 'make unit         build the unit tests'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf 'make %-12s %s\n' "$$target" "$$text"; done
	@echo 'make install      install program and man pages below DESTDIR and PREFIX ($(PREFIX)); also uninstall'
	@echo 'make clean        remove $(O)'
	@echo
	@echo 'Variables: O=DIR (build) CC=gcc|clang SAN=address,undefined BPF=0 STATIC=0 WERROR=1 V=1 OPT CFLAGS LDFLAGS'

-include $(addsuffix .d,$(OBJECTS) $(BPF_OBJECTS) $(UNIT_BINS) $(ACCURACY_BINS) $(BENCH_BINS) $(FUZZ_BINS))
