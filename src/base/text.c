/* text.c - see text.h. Widths come from utf8proc. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

size_t text_decode(const char *s, size_t n, uint32_t *cp)
{
	return utf8_decode(s, n, cp);
}

size_t text_encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Characters that move the cursor, hide or reorder text, or cannot be seen. */
static int invisible(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0xad)
		return 1;
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_CS: case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP:
		return 1;
	default:
		return 0;
	}
}

static void one(struct buf *b, const char *s, size_t len, uint32_t c, enum text_for where)
{
	if (where == TEXT_JSON) {
		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", (int)c);
		else if (c == '\n')
			buf_str(b, "\\n");
		else if (c == '\t')
			buf_str(b, "\\t");
		else if (invisible(c) && c > 0xffff)
			buf_printf(b, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
		else if (invisible(c))
			buf_printf(b, "\\u%04x", c);
		else
			buf_add(b, s, len);
		return;
	}
	if (invisible(c)) {
		if (c < 0x100)
			buf_printf(b, "\\x%02x", c);
		else
			buf_printf(b, "\\u%04x", c);
		return;
	}
	if (where == TEXT_HTML && c < 0x80 && strchr("<>&\"'", (int)c)) {
		buf_printf(b, "&#%u;", c);
		return;
	}
	buf_add(b, s, len);
}

void text_escape(struct buf *b, const char *s, size_t n, enum text_for where)
{
	unsigned marks = 0; /* combining marks in a row: more than four only make a mess */
	size_t i = 0, len;
	uint32_t c;

	while (i < n) {
		len = text_decode(s + i, n - i, &c);
		if (!len) {
			if (where == TEXT_JSON)
				buf_str(b, "\xef\xbf\xbd");
			else
				buf_printf(b, "\\x%02x", (unsigned char)s[i]);
			i++;
			continue;
		}
		marks = utf8proc_charwidth((utf8proc_int32_t)c) ? 0 : marks + 1;
		if (marks <= 4 || where == TEXT_JSON || invisible(c))
			one(b, s + i, len, c, where);
		i += len;
	}
}

void text_remark(char *s, size_t size, const char *fmt, ...)
{
	size_t n = strlen(s);
	va_list ap;

	if (n && n + 3 < size)
		n += (size_t)snprintf(s + n, size - n, "; ");
	va_start(ap, fmt);
	vsnprintf(s + n, size - n, fmt, ap);
	va_end(ap);
}

size_t text_width(const char *s)
{
	size_t n = strlen(s), i = 0, len, w = 0;
	uint32_t c;

	while (i < n) {
		len = text_decode(s + i, n - i, &c);
		if (!len) {
			i++;
			continue;
		}
		w += (size_t)utf8proc_charwidth((utf8proc_int32_t)c);
		i += len;
	}
	return w;
}
