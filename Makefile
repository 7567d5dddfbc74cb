# cprofiler: plain make. `make help` tells the targets.
# Folders are the data flow: cmd target sampler unwind profile symbolize output base.

O       ?= build
CC      ?= gcc
CLANG   ?= clang
PREFIX  ?= /usr/local
DESTDIR ?=
SAN     ?=
BPF     ?= 1
WERROR  ?= 0
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' $(1) $(2))

VERSION := 0.1.0

FOLDERS := base profile target sampler unwind symbolize output cmd
SOURCES := $(foreach d,$(FOLDERS),$(wildcard $(d)/*.c))
PKGS    := libdw libelf libprotobuf-c zlib $(if $(filter 1,$(BPF)),libbpf)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror)
OPT     ?= -O2 -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CPPFLAGS_ALL := -I. -I$(O) -D_GNU_SOURCE -DCPROFILER_VERSION='"$(VERSION)"' -DHAVE_BPF=$(BPF) $(CPPFLAGS)
CFLAGS_ALL = -std=gnu17 $(OPT) $(WARN) $(SANFLAGS) $(CFLAGS) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS_ALL = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -liberty -lm $(LDLIBS)

PROTO_C := $(O)/output/profile.pb-c.c
BPF_OBJ := $(if $(filter 1,$(BPF)),$(patsubst %.bpf.c,$(O)/%.bpf.o,$(wildcard sampler/bpf/*.bpf.c)))
OBJECTS := $(SOURCES:%.c=$(O)/%.o) $(O)/output/profile.pb-c.o
LIB_OBJECTS := $(filter-out $(O)/cmd/main.o,$(OBJECTS))

.PHONY: all unit clean
all: $(O)/cprofiler

$(O)/cprofiler: $(O)/cmd/main.o $(O)/libcprofiler.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_ALL)

$(O)/libcprofiler.a: $(LIB_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/output/profile.pb-c.c: output/profile.proto
	$(call say,PROTOC,$@)
	$(Q)mkdir -p $(@D) && protoc-c --proto_path=output --c_out=$(@D) $<

$(O)/output/profile.pb-c.o: $(PROTO_C)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -Wno-error -MMD -MP -c -o $@ $<

$(O)/%.bpf.o: %.bpf.c
	$(call say,BPF,$@)
	$(Q)mkdir -p $(@D) && $(CLANG) -O2 -g -target bpf -D__TARGET_ARCH_x86 -I. -I/usr/include/x86_64-linux-gnu -Wall -c -o $@ $<

$(O)/%.o: %.c $(BPF_OBJ) | $(PROTO_C)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS_ALL) -include base/banned.h $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Unit tests: tests/unit/<folder>/test_*.c, cmocka, one binary each.
UNIT_SOURCES := $(wildcard tests/unit/*/test_*.c)
UNIT_BINS := $(UNIT_SOURCES:%.c=$(O)/%)
unit: $(UNIT_BINS)
$(O)/tests/unit/%: tests/unit/%.c $(O)/libcprofiler.a
	$(call say,TEST,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -o $@ $< $(O)/libcprofiler.a -lcmocka $(LDFLAGS) $(LDLIBS_ALL)

clean:
	$(Q)rm -rf $(O)

-include $(shell find $(O) -name '*.d' 2>/dev/null)
