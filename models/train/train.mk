# Trainer of the sample models; TRAINING.md says how to run it. Targets: all, check, clean.
#   make -f train.mk                    bfloat16 kernel where the compiler's -march has it
#   make -f train.mk BLAS=1             OpenBLAS instead
CC ?= cc
ARCH ?= native
B ?= build/train
CFLAGS = -std=c11 -O3 -march=$(ARCH) -fopenmp -Wall -Wextra -Wshadow
LDLIBS = -lm -lopenblas
ifdef BLAS
CFLAGS += -DUSE_BLAS
endif

SHARED = net.c gemm.c data.c ckpt.c
HEADERS = real.h gemm.h net.h data.h ckpt.h rng.h

all: $(B)/train $(B)/evaluate $(B)/sample $(B)/gradcheck $(B)/gemmcheck

$(B)/train $(B)/evaluate $(B)/sample: $(B)/%: %.c $(SHARED) $(HEADERS)
	@mkdir -p $(B)
	$(CC) $(CFLAGS) -o $@ $< $(SHARED) $(LDLIBS)

$(B)/gradcheck: gradcheck.c net.c gemm.c $(HEADERS)
	@mkdir -p $(B)
	$(CC) $(CFLAGS) -DREAL_DOUBLE -o $@ gradcheck.c net.c gemm.c -lm

$(B)/gemmcheck: gemmcheck.c gemm.c $(HEADERS)
	@mkdir -p $(B)
	$(CC) $(CFLAGS) -o $@ gemmcheck.c gemm.c $(LDLIBS)

check: $(B)/gradcheck $(B)/gemmcheck
	$(B)/gemmcheck
	$(B)/gradcheck

clean:
	rm -rf $(B)

.PHONY: all check clean
