/*
 * test_oom.c - the reader and the tokenizer with the Nth allocation failing, for every N: a clear
 * error, no crash, nothing left allocated.
 *
 * Takes malloc's place in this binary (glibc's names underneath). A sanitizer does so too: skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tok/tok.h"

#define TEXT "Hello <|im_start|> \xff world, " \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define HAVE_HOOKS 1
#define EXPORT __attribute__((visibility("default"))) /* for the libraries too */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static long live, until_failure = -1; /* < 0: never */

static int fails(void)
{
	return until_failure >= 0 && until_failure-- == 0;
}

EXPORT void *malloc(size_t n)
{
	void *p = fails() ? NULL : __libc_malloc(n);

	live += p != NULL;
	return p;
}

EXPORT void *calloc(size_t n, size_t size)
{
	void *p = fails() ? NULL : __libc_calloc(n, size);

	live += p != NULL;
	return p;
}

EXPORT void *realloc(void *old, size_t n)
{
	void *p = fails() ? NULL : __libc_realloc(old, n);

	live += p && !old;
	return p;
}

EXPORT void free(void *p)
{
	live -= p != NULL;
	__libc_free(p);
}

/* Open, load, encode; 0 if all went well. */
static int use(struct moe_err *e)
{
	struct gguf *g = gguf_open("tests/data/vocab-4096.gguf", e);
	struct tok *t = g ? tok_load(g, e) : NULL;
	int32_t *ids = NULL;
	size_t n;
	int rc = -1;

	if (t)
		rc = tok_encode(t, TEXT, sizeof TEXT - 1, TOK_SPECIAL, &ids, &n, e);
	free(ids);
	tok_free(t);
	gguf_close(g);
	return rc;
}
#endif

static void test_every_allocation(void **state)
{
	(void)state;
#ifdef HAVE_HOOKS
	struct moe_err e;
	long n, before, reached = 1;
	int rc = -1;

	for (n = 0; reached && n < 10000; n++) {
		memset(&e, 0, sizeof e);
		before = live;
		until_failure = n;
		rc = use(&e);
		reached = until_failure < 0;
		until_failure = -1;
		assert_int_equal(live, before);
		if (rc) {
			assert_int_equal(e.code, MOE_ERR_SYS);
			assert_non_null(strstr(e.msg, "memory"));
		}
	}
	assert_int_equal(rc, 0); /* the last round had no failure */
	assert_true(n > 20 && n < 10000);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_allocation) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
