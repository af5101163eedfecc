/*
 * test_util.h - what unit tests share: cmocka's headers, reading a data file, the layout of
 * tests/data/models/NAME.vec. Tests run from the repository's root.
 */
#ifndef TEST_UTIL_H
#define TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <moescope/err.h>

static inline void *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	long n;
	char *p;

	if (!f)
		fail_msg("cannot open %s", path);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	p = malloc((size_t)n + 1);
	assert_non_null(p);
	assert_int_equal(fread(p, 1, (size_t)n, f), n);
	fclose(f);
	p[n] = 0;
	*len = (size_t)n;
	return p;
}

/* ok must hold; else the error's text is the failure. */
static inline void ok_or_fail(int ok, const struct moe_err *e)
{
	if (!ok)
		fail_msg("%s", e->msg);
}

#endif
