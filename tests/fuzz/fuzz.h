/*
 * fuzz.h - what a fuzz target gives to its driver.
 *
 * A target is one file that defines both functions. With clang, `make libfuzzer` links it to
 * libFuzzer; everywhere else main.c runs it on its seeds, on files, and on mutations of both.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "gguf_build.h"

/* Must return 0, whatever the bytes are, and keep nothing. A broken promise ends in abort(). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Append the i-th seed to b; 0 if there are only i. */
int fuzz_seed(unsigned i, struct bytes *b);

#endif
