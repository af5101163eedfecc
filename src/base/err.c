/* err.c - error messages: bounded, one line, safe to print on a terminal. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Control bytes from a hostile file name must not reach the terminal; UTF-8 stays as it is. */
static void clean(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void mark_cut(struct moe_err *e, size_t wanted)
{
	if (wanted >= sizeof e->msg)
		memcpy(e->msg + sizeof e->msg - 4, "...", 4);
}

int err_set(struct moe_err *e, enum moe_err_code code, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!e)
		return -1;
	e->code = code;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	mark_cut(e, n < 0 ? 0 : (size_t)n);
	clean(e->msg);
	return -1;
}

int err_wrap(struct moe_err *e, const char *fmt, ...)
{
	struct moe_err old;
	va_list ap;
	int n, m;

	if (!e)
		return -1;
	old = *e;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof e->msg) {
		m = snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", old.msg);
		n += m < 0 ? 0 : m;
	}
	mark_cut(e, (size_t)n);
	clean(e->msg);
	return -1;
}

int err_errno(struct moe_err *e, const char *fmt, ...)
{
	int saved = errno, n, m;
	va_list ap;

	if (!e)
		return -1;
	e->code = MOE_ERR_SYS;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof e->msg) {
		m = snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", strerror(saved));
		n += m < 0 ? 0 : m;
	}
	mark_cut(e, (size_t)n);
	clean(e->msg);
	return -1;
}

int err_nomem(struct moe_err *e, unsigned long long n, const char *what)
{
	return err_set(e, MOE_ERR_SYS, "out of memory (%llu bytes for %s)", n, what);
}
