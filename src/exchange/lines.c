/* lines.c - see lines.h. */
#include "exchange/lines.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int lines_open(struct lines *l, const char *path, struct moe_err *e)
{
	memset(l, 0, sizeof *l);
	l->path = path;
	l->mem = malloc(LINES_MAX + 2);
	if (!l->mem)
		return err_nomem(e, LINES_MAX + 2, "a line");
	l->f = fopen(path, "rb");
	return l->f ? 0 : err_errno(e, "%s", path);
}

void lines_close(struct lines *l)
{
	if (l->f)
		fclose(l->f);
	free(l->mem);
	memset(l, 0, sizeof *l);
}

int lines_fail(const struct lines *l, struct moe_err *e, const char *fmt, ...)
{
	struct moe_err m;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m.msg, sizeof m.msg, fmt, ap);
	va_end(ap);
	return err_set(e, MOE_ERR_INPUT, "%s:%llu: %s", l->path, (unsigned long long)l->number, m.msg);
}

int lines_next(struct lines *l, struct moe_err *e)
{
	do {
		errno = 0;
		if (!fgets(l->mem, LINES_MAX + 2, l->f))
			return ferror(l->f) ? err_errno(e, "%s: reading", l->path) : 0;
		l->number++;
		l->line = l->mem;
		l->len = strlen(l->mem);
		if (l->len == LINES_MAX + 1)
			return lines_fail(l, e, "a line of more than %d bytes", LINES_MAX);
		if (!l->len || (l->mem[l->len - 1] != '\n' && !feof(l->f)))
			return lines_fail(l, e, "a NUL byte");
		while (l->len && (l->line[l->len - 1] == '\n' || l->line[l->len - 1] == '\r'))
			l->line[--l->len] = 0;
		if (l->number == 1 && !strncmp(l->line, "\xef\xbb\xbf", 3))
			l->line += 3, l->len -= 3;
	} while (!l->len);
	return 1;
}

int lines_fields(struct lines *l, char *field[FIELDS_MAX], struct moe_err *e)
{
	char *p = l->line;
	int n = 0;

	for (;;) {
		char *out = p;

		if (n == FIELDS_MAX)
			return lines_fail(l, e, "more than %d fields", FIELDS_MAX);
		field[n++] = p;
		if (*p == '"') {
			for (p++; *p && (*p != '"' || p[1] == '"'); *out++ = *p++)
				p += *p == '"';
			if (*p++ != '"')
				return lines_fail(l, e, "a quoted field does not end on its line");
			if (*p && *p != ',')
				return lines_fail(l, e, "'%.20s' behind a quoted field", p);
		} else {
			p += strcspn(p, ",");
			out = p;
		}
		if (!*p) {
			*out = 0;
			return n;
		}
		p++;
		*out = 0;
	}
}

int lines_int(const struct lines *l, const char *what, const char *s, int64_t lo, int64_t hi,
	int64_t *out, struct moe_err *e)
{
	long long x;
	char *end;

	errno = 0;
	x = strtoll(s, &end, 10);
	if (end == s || *end || (*s != '-' && (*s < '0' || *s > '9')))
		return lines_fail(l, e, "%s '%.40s' is not a whole number", what, s);
	if (errno || x < lo || x > hi)
		return lines_fail(l, e, "%s %.40s is outside %lld to %lld", what, s, (long long)lo,
			(long long)hi);
	*out = x;
	return 0;
}

int lines_real(const struct lines *l, const char *what, const char *s, double *out,
	struct moe_err *e)
{
	char *end;

	*out = strtod(s, &end);
	if (end == s || *end || !isfinite(*out))
		return lines_fail(l, e, "%s '%.40s' is not a finite number", what, s);
	return 0;
}
