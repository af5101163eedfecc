/*
 * markdown.c - the page as Markdown (CommonMark with tables). It is made from the HTML page, which
 * is ours to the last tag, so that both say the same and a section is written once.
 *
 * Left out: pictures (with --keep, links to the kept ones), colour keys, links to data, contents.
 * Texts of a database are decoded from HTML and escaped again for Markdown, so that a name cannot
 * begin a list, a link, a picture or HTML.
 */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/text.h"
#include "reports/report.h"

enum does { INLINE, BLOCK, HEAD1, HEAD2, HEAD3, HEAD4, STRONG, EM, CODE, PRE, ITEM, TERM, BREAK,
TABLE, ROW,
	CELL, SKIP, PICTURE, LINK };

/* Elements that the page uses; an unknown one counts as INLINE. */
static const struct { const char *name; enum does does; } elements[] = {
	{ "h1", HEAD1 }, { "h2", HEAD2 }, { "h3", HEAD3 }, { "h4", HEAD4 }, { "b", STRONG },
	{ "i", EM }, { "code", CODE },
	{ "pre", PRE }, { "li", ITEM }, { "dt", TERM }, { "br", BREAK }, { "table", TABLE },
	{ "tr", ROW }, { "td", CELL }, { "th", CELL }, { "style", SKIP }, { "nav", SKIP },
	{ "summary", SKIP }, { "svg", PICTURE }, { "p", BLOCK }, { "div", BLOCK }, { "dd", BLOCK },
	{ "section", BLOCK }, { "figure", BLOCK }, { "figcaption", BLOCK }, { "caption", BLOCK },
	{ "header", BLOCK }, { "ul", BLOCK }, { "dl", BLOCK }, { "a", LINK },
};

struct md {
	struct buf *out;
	const char *p;
	int cells, body;       /* cells of this row so far; the line below a table's head was written */
	int number[64];        /* which columns of the head hold numbers */
	int in_row, in_head;   /* inside <tr>, inside <thead> */
	size_t at_line;        /* where the line began, for "nothing on it yet" */
	const char *keep;
	char figure[64];       /* id of the figure, without "fig-" */
	int pictured;          /* its picture was linked */
};

static enum does does_of(const char *name, size_t n)
{
	for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
		if (strlen(elements[i].name) == n && !memcmp(elements[i].name, name, n))
			return elements[i].does;
	return INLINE;
}

static int line_empty(const struct md *m)
{
	return m->out->len == m->at_line;
}

static void new_line(struct md *m)
{
	while (m->out->len > m->at_line && m->out->data[m->out->len - 1] == ' ')
		m->out->data[--m->out->len] = 0;
	buf_char(m->out, '\n');
	m->at_line = m->out->len;
}

/* A blank line before what comes, unless there is one. */
static void paragraph(struct md *m)
{
	if (m->in_row)
		return;
	if (!line_empty(m))
		new_line(m);
	if (m->out->len > 1 && m->out->data[m->out->len - 2] != '\n')
		new_line(m);
}

static void space(struct md *m)
{
	if (!line_empty(m) && m->out->data[m->out->len - 1] != ' ')
		buf_char(m->out, ' ');
}

/* One character of text at s: its length; entities of the page are decoded. */
static size_t character(const char *s, char out[5])
{
	static const struct { const char *name; const char *c; } named[] = {
		{ "&lt;", "<" }, { "&gt;", ">" }, { "&amp;", "&" }, { "&quot;", "\"" },
	};
	unsigned long cp;
	char *end;
	size_t n;

	for (size_t i = 0; *s == '&' && i < sizeof named / sizeof *named; i++)
		if (!strncmp(s, named[i].name, strlen(named[i].name))) {
			strcpy(out, named[i].c);
			return strlen(named[i].name);
		}
	if (!strncmp(s, "&#", 2)) {
		cp = strtoul(s + 2, &end, 10);
		if (*end == ';' && cp >= 0x20 && cp < 0xd800) {
			n = text_encode(cp == 0xa0 ? ' ' : (uint32_t)cp, out);
			out[n] = 0;
			return (size_t)(end + 1 - s);
		}
	}
	out[0] = *s, out[1] = 0;
	return 1;
}

/* GitHub's Markdown makes links of bare addresses: is c, before `rest`,
 * what one would be known by? */
static int begins_address(const struct md *m, char c, const char *rest)
{
	size_t n = m->out->len;

	return c == '@' || (c == ':' && !strncmp(rest, "//", 2)) ||
		(c == '.' && n >= 3 && !strncasecmp(m->out->data + n - 3, "www", 3));
}

/* Text up to the next tag. */
static void put_text(struct md *m)
{
	char c[5];

	while (*m->p && *m->p != '<') {
		m->p += character(m->p, c);
		if (strchr(" \t\r\n", c[0])) {
			space(m);
			continue;
		}
		if (c[0] == '<' || c[0] == '&') {
			buf_str(m->out, c[0] == '<' ? "&lt;" : "&amp;");
			continue;
		}
		if (strchr("\\`*_[]>|#~!", c[0]) || begins_address(m, c[0], m->p) ||
		    (line_empty(m) && strchr("-+=:0123456789", c[0]) && !m->in_row && c[0] < '0'))
			buf_char(m->out, '\\');
		else if (line_empty(m) && !m->in_row && c[0] >= '0' && c[0] <= '9') {
			size_t n = strspn(m->p, "0123456789"); /* "1. " or "1) " would begin a list */

			if (m->p[n] && strchr(".)", m->p[n]) && strchr(" \n<", m->p[n + 1])) {
				buf_str(m->out, c);
				buf_add(m->out, m->p, n);
				buf_char(m->out, '\\');
				m->p += n;
				continue;
			}
		}
		buf_str(m->out, c);
	}
}

/* Longest run of backticks in s. */
static size_t ticks(const char *s)
{
	size_t most = 0, n;

	for (; *s; s += n ? n : 1) {
		n = strspn(s, "`");
		most = n > most ? n : most;
	}
	return most;
}

/* The text of an element up to its end tag, plain; tags inside are dropped. */
static void collect(struct md *m, const char *end_tag, struct buf *text)
{
	char c[5];

	while (*m->p && strncmp(m->p, end_tag, strlen(end_tag))) {
		if (*m->p == '<') {
			m->p += strcspn(m->p, ">");
			m->p += *m->p == '>';
			continue;
		}
		m->p += character(m->p, c);
		buf_str(text, c);
	}
	m->p += *m->p ? strlen(end_tag) : 0;
}

static void put_code(struct md *m, int block)
{
	struct buf text;
	size_t n;

	buf_init(&text, 1 << 20);
	collect(m, block ? "</pre>" : "</code>", &text);
	if (text.data) {
		n = ticks(text.data) + 1;
		if (block) {
			n = n < 3 ? 3 : n;
			paragraph(m);
		}
		for (size_t i = 0; i < n; i++)
			buf_char(m->out, '`');
		if (block)
			new_line(m);
		else if (*text.data == '`' || text.data[text.len - 1] == '`')
			buf_char(m->out, ' ');
		for (const char *s = text.data; *s; s++) {
			if (*s == '|' && m->in_row)
				buf_char(m->out, '\\'); /* tables cut cells before they look for code */
			buf_char(m->out, *s == '\n' && !block ? ' ' : *s);
		}
		if (block)
			new_line(m);
		else if (*text.data == '`' || text.data[text.len - 1] == '`')
			buf_char(m->out, ' ');
		for (size_t i = 0; i < n; i++)
			buf_char(m->out, '`');
		if (block)
			paragraph(m);
	}
	m->out->failed |= text.failed;
	buf_free(&text);
}

/* Behind the end tag of the element whose start tag was read. */
static void skip(struct md *m, const char *name, size_t n)
{
	char end[24];
	const char *at;

	snprintf(end, sizeof end, "</%.*s>", (int)n, name);
	at = strstr(m->p, end);
	m->p = at ? at + strlen(end) : m->p + strlen(m->p);
}

static void end_row(struct md *m)
{
	buf_str(m->out, " |");
	m->in_row = 0;
	new_line(m);
	if (m->body)
		return;
	m->body = 1;
	if (!m->in_head)
		return;
	for (int i = 0; i < m->cells; i++)
		buf_str(m->out, i < 64 && m->number[i] ? "|--:" : "|:--");
	buf_char(m->out, '|');
	new_line(m);
}

/* A table without a head gets an empty one, for Markdown has no other. */
static void start_row(struct md *m)
{
	const char *end = strstr(m->p, "</tr>");
	int n = 0;

	if (!m->body && !m->in_head) {
		for (const char *s = m->p; end && s < end; s++)
			n += !strncmp(s, "<td", 3) || !strncmp(s, "<th", 3);
		for (int k = 0; k < 2; k++) {
			for (int i = 0; i < n; i++)
				buf_str(m->out, k ? "|:--" : "| ");
			buf_char(m->out, '|');
			new_line(m);
		}
		m->body = 1;
	}
	m->cells = 0;
	m->in_row = 1;
}

static void picture(struct md *m)
{
	skip(m, "svg", 3);
	if (!m->keep || m->pictured || !m->figure[0])
		return;
	paragraph(m);
	buf_str(m->out, "![](<");
	for (const char *s = m->keep; *s; s++) {
		if (strchr("<>\\\n", *s))
			buf_char(m->out, '\\');
		buf_char(m->out, *s == '\n' ? ' ' : *s);
	}
	buf_printf(m->out, "/%s.svg>)", m->figure);
	paragraph(m);
	m->pictured = 1;
}

static void start_tag(struct md *m, const char *name, size_t n, const char *attrs, size_t n_attrs)
{
	enum does d = does_of(name, n);
	const char *id;

	switch (d) {
	case HEAD1: case HEAD2: case HEAD3: case HEAD4:
		paragraph(m);
		for (int i = 0; i <= (int)(d - HEAD1); i++)
			buf_char(m->out, '#');
		buf_char(m->out, ' ');
		break;
	case STRONG: buf_str(m->out, "**"); break;
	case EM: buf_char(m->out, '*'); break;
	case CODE: put_code(m, 0); break;
	case PRE: put_code(m, 1); break;
	case ITEM:
		paragraph(m);
		buf_str(m->out, "- ");
		break;
	case TERM:
		paragraph(m);
		buf_str(m->out, "**");
		break;
	case BREAK: space(m); break;
	case TABLE:
		paragraph(m);
		m->body = 0;
		memset(m->number, 0, sizeof m->number);
		break;
	case ROW:
		if (!line_empty(m))
			paragraph(m); /* a caption ends */
		start_row(m);
		break;
	case CELL:
		buf_str(m->out, m->cells ? " | " : "| ");
		if (m->in_head && m->cells < 64)
			m->number[m->cells] = !memmem(attrs, n_attrs, "class=\"l\"", 9);
		m->cells++;
		break;
	case SKIP: skip(m, name, n); break;
	case PICTURE: picture(m); break;
	case LINK:
		if (memmem(attrs, n_attrs, "download=", 9))
			skip(m, name, n);
		break;
	case BLOCK:
		paragraph(m);
		id = memmem(attrs, n_attrs, "id=\"fig-", 8);
		if (id && n == 6) { /* figure */
			snprintf(m->figure, sizeof m->figure, "%.*s", (int)strcspn(id + 8, "\""), id + 8);
			m->pictured = 0;
		}
		break;
	case INLINE:
		if (n == 5 && !memcmp(name, "thead", 5))
			m->in_head = 1;
		break;
	}
}

static void end_tag(struct md *m, const char *name, size_t n)
{
	enum does d = does_of(name, n);

	if (d == STRONG)
		buf_str(m->out, "**");
	else if (d == EM)
		buf_char(m->out, '*');
	else if (d == TERM) {
		buf_str(m->out, "**");
		paragraph(m);
	} else if (d == ROW)
		end_row(m);
	else if (n == 5 && !memcmp(name, "thead", 5))
		m->in_head = 0;
	else if (d != CELL && d != INLINE && d != LINK && d != CODE)
		paragraph(m);
}

int report_markdown(const struct buf *page, const char *keep, struct buf *out, struct moe_err *e)
{
	const char *start = page->data ? strstr(page->data, "<main>") : NULL;
	struct md m = { .out = out, .p = start ? start + 6 : "", .keep = keep };

	while (*m.p && strncmp(m.p, "</main>", 7)) {
		const char *name, *attrs;
		size_t n, n_attrs;
		int end;

		if (*m.p != '<') {
			put_text(&m);
			continue;
		}
		end = m.p[1] == '/';
		name = m.p + 1 + end;
		n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
		attrs = name + n;
		n_attrs = strcspn(attrs, ">"); /* values hold no '>': they are escaped */
		m.p = attrs + n_attrs + (attrs[n_attrs] == '>');
		if (end)
			end_tag(&m, name, n);
		else
			start_tag(&m, name, n, attrs, n_attrs);
	}
	if (!line_empty(&m))
		new_line(&m);
	return !out->failed ? 0 :
		err_set(e, MOE_ERR_SYS, "the report is larger than %zu bytes", out->max);
}
