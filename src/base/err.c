/* err.c - error messages: bounded, one line, safe to print on a terminal. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Characters that act on a terminal or cannot be seen: C0, DEL, C1, soft hyphen, zero-width, line
 * separators, bidi controls, byte order mark. */
static int harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
		(c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
		(c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
		(c >= 0xe0000 && c <= 0xe007f);
}

/* A message may hold a hostile file name: what is harmful or no UTF-8 becomes a question mark. */
static void clean(char *s)
{
	size_t n = strlen(s), i = 0, len;
	char *out = s;
	uint32_t c;

	while (i < n) {
		len = utf8_decode(s + i, n - i, &c);
		if (!len || harmful(c)) {
			*out++ = '?';
			i += len ? len : 1;
			continue;
		}
		memmove(out, s + i, len);
		out += len;
		i += len;
	}
	*out = 0;
}

/* Three dots at the end of what was cut, in place of whole characters. */
static void mark_cut(struct moe_err *e, size_t wanted)
{
	size_t at = sizeof e->msg - 4;

	if (wanted < sizeof e->msg)
		return;
	while (at && ((unsigned char)e->msg[at] & 0xc0) == 0x80)
		at--;
	memcpy(e->msg + at, "...", 4);
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

/* Behind the n bytes of context that were put first (what vsnprintf gave): ": tail". */
static void finish(struct moe_err *e, int n, const char *tail)
{
	int m;

	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof e->msg) {
		m = snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", tail);
		n += m < 0 ? 0 : m;
	}
	mark_cut(e, (size_t)n);
	clean(e->msg);
}

int err_wrap(struct moe_err *e, const char *fmt, ...)
{
	struct moe_err old;
	va_list ap;
	int n;

	if (!e)
		return -1;
	old = *e;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	finish(e, n, old.msg);
	return -1;
}

int err_errno(struct moe_err *e, const char *fmt, ...)
{
	int saved = errno, n;
	va_list ap;

	if (!e)
		return -1;
	e->code = MOE_ERR_SYS;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	finish(e, n, strerror(saved));
	return -1;
}

int err_nomem(struct moe_err *e, unsigned long long n, const char *what)
{
	return err_set(e, MOE_ERR_SYS, "out of memory (%llu bytes for %s)", n, what);
}
