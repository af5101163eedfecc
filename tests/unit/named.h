/*
 * named.h - reads files of named arrays (tests/ref/named.py): cases of arrays of numbers.
 *
 *	while (named_next(f, &c)) { const double *x = named_get(&c, "shape", &n); ... }
 */
#ifndef TEST_NAMED_H
#define TEST_NAMED_H

#include "test_util.h"

enum { NAMED_MAX = 32 };
struct named {
	char name[64];
	size_t n;
	struct { char key[64]; size_t n; double *v; } array[NAMED_MAX];
};

static inline void named_free(struct named *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->array[i].v);
	c->n = 0;
}

/* 1 and the next case, 0 at the end; frees the one before. */
static inline int named_next(FILE *f, struct named *c)
{
	char word[16];

	named_free(c);
	if (fscanf(f, "%15s", word) != 1)
		return 0;
	assert_string_equal(word, "case");
	assert_int_equal(fscanf(f, "%63s", c->name), 1);
	for (;;) {
		assert_int_equal(fscanf(f, "%15s", word), 1);
		if (!strcmp(word, "end"))
			return 1;
		assert_string_equal(word, "array");
		assert_true(c->n < NAMED_MAX);
		assert_int_equal(fscanf(f, "%63s %zu", c->array[c->n].key, &c->array[c->n].n), 2);
		c->array[c->n].v = malloc((c->array[c->n].n + 1) * sizeof(double));
		assert_non_null(c->array[c->n].v);
		for (size_t i = 0; i < c->array[c->n].n; i++)
			assert_int_equal(fscanf(f, "%lf", &c->array[c->n].v[i]), 1);
		c->n++;
	}
}

static inline const double *named_get(const struct named *c, const char *key, size_t *n)
{
	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->array[i].key, key)) {
			if (n)
				*n = c->array[i].n;
			return c->array[i].v;
		}
	fail_msg("case %s has no array %s", c->name, key);
	return NULL;
}

static inline uint16_t *named_ids(const struct named *c, const char *key)
{
	size_t n = 0;
	const double *v = named_get(c, key, &n);
	uint16_t *out = malloc((n + 1) * sizeof *out);

	assert_non_null(out);
	for (size_t i = 0; i < n; i++)
		out[i] = (uint16_t)v[i];
	return out;
}

static inline float *named_floats(const struct named *c, const char *key)
{
	size_t n = 0;
	const double *v = named_get(c, key, &n);
	float *out = malloc((n + 1) * sizeof *out);

	assert_non_null(out);
	for (size_t i = 0; i < n; i++)
		out[i] = (float)v[i];
	return out;
}

#endif
