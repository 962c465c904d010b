# SPDX-License-Identifier: Apache-2.0
#
# make            build the programs        sudo make check  install packages, build, run all tests
# sudo make deps  install packages          sudo make demo   a container on a private containerd
# make unit       tests that need no root   sudo make bench  all benchmarks and their page (60 minutes)
# make tidy       the house rules           sudo make bench-smoke   a few of each (5 minutes)
# make install    DESTDIR= PREFIX=          sudo make bench-PART    images, cold, steady, density, snapshots,
# make clean                                                        chaos, convert, watch (options: BENCH_FLAGS)
# make fuzz       fuzzers, FUZZ_SECONDS each
#
# V=1 shows the commands. CC=clang-14 builds with clang. SAN=address,undefined (or thread) builds with
# sanitizers into build-san; `make check SAN=address,undefined` tests that build.

VERSION := 0.1.0
SAN ?=
BUILD ?= $(if $(SAN),build-san,build)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 600
FUZZ_CC ?= clang-14
BPF_CC ?= clang-14
JOBS ?= $(shell nproc)
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

# --- packages (Debian 12) ------------------------------------------------------------------------
DEPS_BUILD := build-essential clang-14 libclang-rt-14-dev pkg-config liburing-dev librocksdb-dev \
	libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler libpcre2-dev libsystemd-dev libssl-dev \
	libcurl4-openssl-dev libyajl-dev libfuse3-dev zlib1g-dev libzstd-dev \
	libarchive-dev libbpf-dev libmicrohttpd-dev
DEPS_CHECK := libcmocka-dev clang-format-14 clang-tidy-14 golang-go \
	golang-github-containerd-containerd-dev containerd runc docker-registry skopeo jq attr \
	libcap2-bin iproute2 procps dpkg-dev xz-utils e2fsprogs gdb erofs-utils stargz-snapshotter \
	golang-github-containerd-stargz-snapshotter-dev man-db groff-base tmux curl shellcheck
DEPS_BENCH := fio gnuplot-nox time
DEPS_DEMO := containerd runc docker-registry skopeo jq attr libcap2-bin procps dpkg-dev xz-utils \
	stargz-snapshotter

# --- flags ---------------------------------------------------------------------------------------
PKGS := liburing rocksdb libnghttp2 libprotobuf-c libpcre2-8 libsystemd libcrypto libcurl yajl fuse3 zlib libzstd libbpf \
	libmicrohttpd
CFLAGS ?= -O2
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined,)
override CFLAGS += -std=gnu11 -g -fno-omit-frame-pointer -fstack-protector-strong -pthread \
	-Wall -Wextra -Wvla -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough \
	-Wformat=2 -Wundef -Werror $(SANFLAGS)
# Waiters put themselves into lists from their frames and are taken out before they return.
override CFLAGS += $(if $(findstring clang,$(CC)),,-Wno-dangling-pointer)
CPPFLAGS += -D_GNU_SOURCE -DFIRSTLIGHT_VERSION='"$(VERSION)"' -Idaemon -Iinclude -I$(BUILD)/gen
LIBS = $(shell pkg-config --libs $(PKGS)) -pthread
LDFLAGS += $(SANFLAGS)
GO := GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= go

# --- sources -------------------------------------------------------------------------------------
PROTOS := $(wildcard include/proto/*.proto)
GEN_C := $(PROTOS:include/%.proto=$(BUILD)/gen/%.pb-c.c)
GEN_O := $(GEN_C:.c=.o)
GEN_H := $(GEN_C:.c=.h)
LIB_C := $(filter-out daemon/main.c,$(wildcard daemon/*.c daemon/*/*.c))
LIB_O := $(LIB_C:%.c=$(BUILD)/%.o) $(GEN_O)
LIB := $(BUILD)/libfirstlight.a
CLI_O := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tools/firstlight/*.c))
CONVERT_O := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tools/firstlight/convert_*.c))
CONVERT := $(BUILD)/libconvert.a
ARCHIVE = $(shell pkg-config --libs libarchive)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
HELPERS := $(patsubst tests/system/%.c,$(BUILD)/tests/%,$(filter-out %_preload.c,$(wildcard tests/system/*.c)))
PRELOADS := $(patsubst tests/system/%.c,$(BUILD)/tests/%.so,$(wildcard tests/system/*_preload.c))
GO_PROGRAMS := $(addprefix $(BUILD)/go/,$(sort $(notdir $(patsubst %/,%,$(dir \
	$(wildcard tests/go/*/*.go tools/bench/go/*/*.go))))))
FUZZERS := $(patsubst tests/fuzz/%.c,build-fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
E2E_TESTS := $(sort $(wildcard tests/e2e/test_*.sh))
SYSTEM_TESTS := $(sort $(wildcard tests/system/test_*.sh)) $(E2E_TESTS)

.PHONY: all deps check check-containerds unit tests demo bench bench-smoke fuzz fuzz-build fuzz-libs tidy install \
	clean go FORCE
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BUILD)/firstlightd $(BUILD)/firstlight $(BUILD)/replay

$(BUILD)/firstlightd: $(BUILD)/daemon/main.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/firstlight: $(CLI_O) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) $(ARCHIVE)

# Recorded starts against the predictor, offline.
$(BUILD)/replay: $(patsubst %.c,$(BUILD)/%.o,$(wildcard tools/replay/*.c)) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(LIB): $(LIB_O)
$(CONVERT): $(CONVERT_O)
$(LIB) $(CONVERT):
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# Objects know the flags that they were built with.
$(BUILD)/flags: FORCE
	$(Q)mkdir -p $(@D); echo '$(CC) $(subst ','\'',$(CFLAGS) $(CPPFLAGS))' >$@.new; \
		cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/%.o: %.c $(BUILD)/flags | $(GEN_H)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.pb-c.o: $(BUILD)/gen/%.pb-c.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -W%,$(CFLAGS)) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: include/%.proto
	$(call say,PROTO,$<)
	$(Q)mkdir -p $(BUILD)/gen && protoc-c --proto_path=include --c_out=$(BUILD)/gen $<

# The program for the kernel is a part of the daemon's bytes.
$(BUILD)/daemon/trace/access_bpf.o: $(BUILD)/gen/access.bpf.o

$(BUILD)/gen/access.bpf.o: bpf/access.bpf.c bpf/kernel.h include/access_event.h
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(BPF_CC) -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Iinclude \
		-idirafter /usr/include/$(shell gcc -print-multiarch) -c -o $@ $<

$(BUILD)/tests/test_convert_%: $(BUILD)/tests/unit/test_convert_%.o $(CONVERT) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) $(ARCHIVE) -lcmocka

$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

$(BUILD)/tests/%: $(BUILD)/tests/system/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# Loaded into other programs: without sanitizers.
$(BUILD)/tests/%_preload.so: tests/system/%_preload.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out $(SANFLAGS),$(CFLAGS)) -fPIC -shared -o $@ $< -ldl

go: $(GO_PROGRAMS)

$(BUILD)/go/%: FORCE
	$(call say,GO,$@)
	$(Q)d=$$(ls -d tests/go/$* tools/bench/go/$* 2>/dev/null | head -n 1); mkdir -p $(@D); \
	if ls $$d/*_test.go >/dev/null 2>&1; then $(GO) test -c -o $@ ./$$d; \
	else $(GO) build -o $@ ./$$d; fi

# The emulated link of tools/bench/cold.sh. It stands alone.
$(BUILD)/bench/link: tools/bench/link/main.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE $(filter-out $(SANFLAGS),$(CFLAGS)) -o $@ $<

# What tools/bench/steady.sh does to many files. It stands alone.
$(BUILD)/bench/storm: tools/bench/storm.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE $(filter-out $(SANFLAGS),$(CFLAGS)) -o $@ $<

# --- tests ---------------------------------------------------------------------------------------
tests: all $(UNIT) $(HELPERS) $(PRELOADS)

unit: $(UNIT)
	$(Q)BUILD=$(BUILD) tests/run $(UNIT)

# The second make sees what deps has installed.
check: deps
	$(Q)$(MAKE) --no-print-directory -j $(JOBS) tests go fuzz-build $(BUILD)/bench/link
	$(Q)BUILD=$(BUILD) SAN=$(SAN) tests/run $(wildcard tests/tidy/test_*.sh) $(UNIT) tests/fuzz/short.sh $(SYSTEM_TESTS)

# What has to do with containerd, again with those of newer Debian releases: 1.7 and 2.x. E2E_TESTS: which.
check-containerds: deps
	$(Q)$(MAKE) --no-print-directory -j $(JOBS) tests go $(BUILD)/bench/link
	$(Q)set -e; for dir in $$(tools/dev/containerds.sh $(BUILD)/containerds trixie sid); do \
		$$dir/containerd --version; \
		PATH=$$dir:$$PATH BUILD=$(BUILD) SAN=$(SAN) tests/run $(E2E_TESTS); \
	done

tidy:
	$(Q)BUILD=$(BUILD) tests/run $(wildcard tests/tidy/test_*.sh)

fuzz-build: $(FUZZERS)

fuzz-libs:
	$(Q)$(MAKE) --no-print-directory BUILD=build-fuzz CC=$(FUZZ_CC) CFLAGS=-O1 \
		SAN=address,undefined,fuzzer-no-link build-fuzz/libconvert.a build-fuzz/libfirstlight.a

build-fuzz/%: tests/fuzz/%.c fuzz-libs
	$(call say,FUZZ,$@)
	$(Q)$(FUZZ_CC) -O1 $(CPPFLAGS) -Ibuild-fuzz/gen -std=gnu11 -g \
		-fsanitize=address,undefined,fuzzer -o $@ $< build-fuzz/libconvert.a build-fuzz/libfirstlight.a $(LIBS) $(ARCHIVE)

fuzz: fuzz-build
	$(Q)tests/fuzz/long.sh $(FUZZ_SECONDS) $(FUZZERS)

# --- what a user runs ----------------------------------------------------------------------------
deps:
	$(Q)tools/dev/deps.sh $(DEPS_BUILD) $(DEPS_CHECK)

demo:
	$(Q)tools/dev/deps.sh $(DEPS_BUILD) $(DEPS_DEMO)
	$(Q)$(MAKE) --no-print-directory -j $(JOBS) all
	$(Q)BUILD=$(BUILD) tools/dev/demo.sh

bench: bench-all

bench-smoke: BENCH_FLAGS := --smoke
bench-smoke: bench-all

bench-%: FORCE
	$(Q)tools/dev/deps.sh $(DEPS_BUILD) $(DEPS_CHECK) $(DEPS_BENCH)
	$(Q)$(MAKE) --no-print-directory all go $(BUILD)/bench/link $(BUILD)/bench/storm \
		$(BUILD)/tests/access_watch
	$(Q)tools/bench/stargz.sh $(BUILD)/stargz/containerd-stargz-grpc
	$(Q)BUILD=$(BUILD) tools/bench/$*.sh $(BENCH_FLAGS)

install: all
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILD)/firstlight
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/sbin $(BUILD)/firstlightd
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system tools/systemd/firstlightd.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 tools/man/*.1
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 tools/man/*.8
	install -D -m 0644 tools/completion/firstlight.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/firstlight

clean:
	rm -rf build build-san build-fuzz

-include $(shell find $(BUILD) -path $(BUILD)/e2e -prune -o -type f -name '*.d' -print 2>/dev/null)
