# moescope - build, demo and tests. `make demo` and `make check` need nothing but git, make and a
# C compiler: install-deps.sh fetches the distribution's packages that are missing.
#
#   make            build build/moescope, build/moescope-verify (checks audit logs), build/libmoescope.a
#                   and build/moescope_routing.so (the `routing` table function for any sqlite3 shell)
#   make demo       profile the embedded sample model, write a report, say what to do next
#   make check      every test; ends with a line that counts them
#   make attack     10,500 seeded mutations of an audit log: TRIES=N SEED=S
#   make SAN=1 ...  the same with AddressSanitizer and UndefinedBehaviourSanitizer, in build/san
#   make install    PREFIX=/usr/local by default
#   make V=1 ...    shows every command of the compiler
#   make check-arm64  the kernels and whole runs, compiled for AArch64, under qemu; ALL=1: every unit test
#
# A new .c file in an existing folder is found by itself; so are tests/unit/test_*.c and
# tests/cli/*.sh.

CC ?= cc
PREFIX ?= /usr/local
BUILD := build$(if $(SAN),/san)
comma := ,
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
OPT := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined,-O2)
# No -ffast-math, no contraction: the order and rounding of every sum belong to the source.
BASE_CFLAGS := -std=c11 -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L -g $(OPT) -ffp-contract=off \
	-fvisibility=hidden -pthread $(WARN) -Iinclude -Isrc -I. -I$(BUILD)/gen
PC := pkg-config
DEPS := openblas sqlite3 ncursesw libpcre2-8 libutf8proc libcjson libsodium libmicrohttpd
ifeq ($(shell $(PC) --exists $(DEPS) 2>/dev/null && echo yes),yes)
BASE_CFLAGS += $(shell $(PC) --cflags $(DEPS))
LIBS := $(shell $(PC) --libs $(DEPS))
else ifeq ($(filter deps demo check lint clean,$(MAKECMDGOALS)),)
$(error libraries are missing. `./install-deps.sh` installs them; `make demo` and `make check` call it)
endif
# Optional: pictures of the dashboard's screens.
ifeq ($(shell $(PC) --exists cairo 2>/dev/null && echo yes),yes)
$(BUILD)/tui/picture.o: BASE_CFLAGS += -DMOE_CAIRO $(shell $(PC) --cflags cairo)
LIBS += $(shell $(PC) --libs cairo)
endif
LIBS += -lm -pthread
ALL_CFLAGS = $(BASE_CFLAGS) $(CFLAGS)
# A file of kernels gets the instructions that it is named after, where the compiler knows them; on
# another kind of machine it is empty.
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
ISA_FLAGS = $(if $(filter x86_64,$(MACHINE)),$(ISA))$(if $(filter aarch64,$(MACHINE)),$(ISA_ARM))
$(BUILD)/src/kern/int8_dotprod.o: ISA_ARM := -march=armv8.2-a+dotprod
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-5s %s\n' $(1) $@)

SRC := $(sort $(wildcard src/*/*.c tui/*.c reports/*.c))
CMD_SRC := $(filter src/cmd/%,$(SRC))
LIB_SRC := $(filter-out src/cmd/% src/verify/%,$(SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
CMD_OBJ := $(CMD_SRC:%.c=$(BUILD)/%.o) $(BUILD)/gen/embed.o
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))
TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/tools/*.c)))
EXT_SRC := src/trace/ext/routing_ext.c src/trace/routing.c src/trace/chunk.c src/trace/pack.c \
	src/trace/layout.c src/base/err.c
PLOTS := $(patsubst reports/plots/%.gp,$(BUILD)/gen/%_gp.h,$(wildcard reports/plots/*.gp))
GEN := $(BUILD)/gen/schema_sql.h $(BUILD)/gen/schema_2_sql.h $(BUILD)/gen/schema_3_sql.h $(BUILD)/gen/version.h $(BUILD)/gen/style_css.h $(PLOTS)

.PHONY: all deps demo check check-arm64 unit tools bench-tools cli lint attack install clean libfuzzer
all: $(BUILD)/moescope $(BUILD)/moescope-verify $(BUILD)/moescope_routing.so

deps:
	@./install-deps.sh

# The set-up runs first and in its own make, so that pkg-config is asked after it.
demo: deps
	@$(MAKE) --no-print-directory -j2 all
	@./$(BUILD)/moescope demo

check: deps
	@$(MAKE) --no-print-directory -j2 all
	@tests/run $(BUILD)

# Skipped, with the reason, where the cross compiler or qemu is missing.
check-arm64: all
	@MOESCOPE=$(BUILD)/moescope tests/arm64/check.sh $(if $(ALL),all) || { s=$$?; [ $$s = 77 ] && echo skipped || exit $$s; }

# Text that is compiled in: each line becomes a C string.
QUOTE = mkdir -p $(@D) && sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $< > $@
$(BUILD)/gen/%_sql.h: src/trace/%.sql
	@$(QUOTE)
$(BUILD)/gen/style_css.h: reports/style.css
	@$(QUOTE)
$(BUILD)/gen/%_gp.h: reports/plots/%.gp
	@$(QUOTE)

EMBED := $(wildcard models/*.gguf models/texts/*.txt)
$(BUILD)/gen/embed.c: src/cmd/embed.sh $(EMBED)
	@mkdir -p $(@D)
	@src/cmd/embed.sh > $@
$(BUILD)/gen/embed.o: $(BUILD)/gen/embed.c
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# Rewritten only when it changes, so that a commit does not rebuild the world.
$(BUILD)/gen/version.h: FORCE
	@mkdir -p $(@D)
	@c=$$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown); \
	d=$$(git status --porcelain --untracked-files=no 2>/dev/null | head -1); \
	printf '#define MOESCOPE_VERSION "0.1.0"\n#define MOESCOPE_COMMIT "%s%s"\n' "$$c" "$${d:+-dirty}" > $@.new; \
	cmp -s $@.new $@ && rm $@.new || mv $@.new $@
FORCE:

$(BUILD)/src/kern/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(BUILD)/src/kern/%_avx512.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
$(BUILD)/src/kern/int8_avx512.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
$(BUILD)/src/kern/int8_vbmi.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mgfni
$(BUILD)/src/kern/int8_gfni.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mgfni
$(BUILD)/src/kern/int8_amx.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mamx-tile -mamx-int8
$(BUILD)/src/kern/bf16_avx512.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16
# Nobody looks at the exceptions of floating point: with that said, exp and rounding become vectors on AVX2.
$(BUILD)/src/kern/%.o $(BUILD)/src/quant/%.o $(BUILD)/src/model/%.o $(BUILD)/src/sim/%.o: OPT_KERN := $(if $(SAN),,-O3 -fno-trapping-math)

# What is generated must be there; who includes it, the .d files know: a commit does not rebuild the world.
$(BUILD)/%.o: %.c | $(GEN)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) $(OPT_KERN) $(ISA_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libmoescope.a: $(LIB_OBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)ar qcs $@ $^

$(BUILD)/moescope: $(CMD_OBJ) $(BUILD)/libmoescope.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(CMD_OBJ) $(BUILD)/libmoescope.a $(LIBS) -o $@

# The verifier for third parties: libsodium and SQLite, nothing else.
$(BUILD)/moescope-verify: $(BUILD)/src/verify/main.o $(BUILD)/libmoescope.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $< $(BUILD)/libmoescope.a $(shell $(PC) --libs libsodium sqlite3) -lm -pthread -o $@

# `routing` for any sqlite3 shell: `.load build/moescope_routing`. Never sanitized: the shell is not.
$(BUILD)/moescope_routing.so: $(EXT_SRC) $(GEN)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(filter-out -fsanitize% -fno-sanitize%,$(ALL_CFLAGS)) -DMOE_SQLITE_EXT -fPIC -shared -MMD -MP -MF $@.d $(EXT_SRC) -lm -o $@

$(BUILD)/tests/%: tests/tools/%.c $(BUILD)/libmoescope.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP $< $(BUILD)/libmoescope.a $(LIBS) -o $@

$(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libmoescope.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit -MMD -MP $< $(BUILD)/libmoescope.a -lcmocka $(LIBS) -o $@

# Programs that measure; bench/NAME.c becomes build/bench/NAME.
$(BUILD)/bench/%: bench/%.c $(BUILD)/libmoescope.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP $< $(BUILD)/libmoescope.a $(LIBS) -o $@

# Libraries that tests load before a program's own.
$(BUILD)/tests/%.so: tests/preload/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -O2 $(WARN) -fPIC -shared $< -o $@

# Fuzz targets with a driver of their own; tests/cli/fuzz.sh runs each for a second.
$(BUILD)/tests/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/main.c tests/fuzz/fuzz.h tests/unit/gguf_build.h $(BUILD)/libmoescope.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit -Itests/fuzz $< tests/fuzz/main.c $(BUILD)/libmoescope.a $(LIBS) -o $@

# The same targets with clang's libFuzzer: build/fuzz/fuzz_gguf CORPUS_DIR. Not the model: its kernels
# need flags of their own, and its mutations are built in.
FUZZ_SRC := $(wildcard src/base/*.c src/gguf/*.c src/tok/*.c) src/serve/request.c src/serve/stop.c
libfuzzer:
	@command -v clang >/dev/null || { echo "libfuzzer needs clang"; exit 1; }
	@mkdir -p build/fuzz
	for t in $(filter-out fuzz_model,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))); do \
		clang $(BASE_CFLAGS) -O1 -fsanitize=fuzzer,address,undefined -Itests/unit -Itests/fuzz \
			tests/fuzz/$$t.c $(FUZZ_SRC) $(LIBS) -o build/fuzz/$$t || exit 1; \
	done


unit: $(UNIT) tools

# Programs that the tests run; tests/tools/NAME.c becomes build/tests/NAME.
tools: $(TOOLS)

# Programs that the scripts in bench/ run; bench/peer.sh builds its own, which needs llama.cpp.
bench-tools: $(patsubst bench/%.c,$(BUILD)/bench/%,$(filter-out bench/peer.c,$(wildcard bench/*.c)))

# The attack matrix of docs/AUDIT.md at length; `make check` tries a few hundred mutations.
attack: $(BUILD)/tests/attack
	@d=$$(mktemp -d) && $< --tries $(or $(TRIES),10500) --seed $(or $(SEED),1) $$d; s=$$?; rm -rf $$d; exit $$s

lint:
	@for t in tests/lint/*.sh; do sh $$t || exit 1; done

install: all
	install -D -m 755 $(BUILD)/moescope $(DESTDIR)$(PREFIX)/bin/moescope
	install -D -m 755 $(BUILD)/moescope-verify $(DESTDIR)$(PREFIX)/bin/moescope-verify
	install -D -m 644 docs/moescope.1 $(DESTDIR)$(PREFIX)/share/man/man1/moescope.1
	install -D -m 755 $(BUILD)/moescope_routing.so $(DESTDIR)$(PREFIX)/lib/moescope_routing.so
	install -D -m 644 $(BUILD)/libmoescope.a $(DESTDIR)$(PREFIX)/lib/libmoescope.a
	install -d $(DESTDIR)$(PREFIX)/include/moescope
	install -m 644 include/moescope/*.h $(DESTDIR)$(PREFIX)/include/moescope

clean:
	rm -rf build

-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(BUILD)/src/verify/main.d $(UNIT:=.d) $(TOOLS:=.d) \
	$(BUILD)/moescope_routing.so.d
