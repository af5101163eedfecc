/*
 * gguf_try.h - files that are built byte by byte are opened, or refused with one clear error. Their
 * bytes lie in a block of exactly their size, so that a sanitizer sees one byte too many.
 */
#ifndef GGUF_TRY_H
#define GGUF_TRY_H

#include "test_util.h"

#include "base/clock.h"
#include "gguf/gguf.h"
#include "gguf_build.h"

static inline struct gguf *open_copy(const uint8_t *p, size_t n, uint8_t **copy, struct moe_err *e)
{
	*copy = malloc(n ? n : 1);
	assert_non_null(*copy);
	if (n)
		memcpy(*copy, p, n);
	memset(e, 0, sizeof *e);
	return gguf_open_memory(*copy, n, "test.gguf", e);
}

/* The file must be refused within 100 ms with a message that has all of `parts` ("a|b").
 * Frees b. */
static inline void refused(struct bytes *b, const char *parts)
{
	char part[128];
	struct moe_err e;
	uint8_t *copy;
	int64_t start = clock_mono();
	struct gguf *g = open_copy(b->p, b->n, &copy, &e);

	start = clock_mono() - start;
	assert_true(start < 1000000000); /* the goal is 100 ms; this leaves room for a busy machine */
	if (g)
		fail_msg("accepted, expected: %s", parts);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	while (*parts) {
		size_t n = strcspn(parts, "|");

		snprintf(part, sizeof part, "%.*s", (int)n, parts);
		if (!strstr(e.msg, part))
			fail_msg("'%s' is not in: %s", part, e.msg);
		parts += n + (parts[n] == '|');
	}
	assert_non_null(strstr(e.msg, "opening test.gguf: "));
	free(copy);
	free(b->p);
	memset(b, 0, sizeof *b);
}

static inline struct gguf *accepted(struct bytes *b, uint8_t **copy)
{
	struct moe_err e;
	struct gguf *g = open_copy(b->p, b->n, copy, &e);

	if (!g)
		fail_msg("refused: %s", e.msg);
	free(b->p);
	memset(b, 0, sizeof *b);
	return g;
}

static inline void must_open(struct bytes *b)
{
	uint8_t *copy;

	gguf_close(accepted(b, &copy));
	free(copy);
}

#endif
