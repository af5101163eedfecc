/*
 * svg.c - see svg.h. Follows what the svg terminal of gnuplot 5 and 6 writes.
 *
 * One pass over the tags with a stack of open ones. A <g> is written only when something visible
 * comes inside it (gnuplot opens hundreds of empty ones). Points are <use> of a symbol in <defs>;
 * the scripts draw only filled circles (pointtype 7, symbol gpPt6), written here as circles.
 */
#include "reports/svg.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

enum action { ROOT, GROUP, SHAPE, TEXT, POINT, IMAGE, SKIP };

/* To let another element through: a row here, its attributes in `attrs`. */
static const struct { const char *name; enum action act; } elements[] = {
	{ "svg", ROOT }, { "g", GROUP }, { "path", SHAPE }, { "polygon", SHAPE },
	{ "polyline", SHAPE }, { "rect", SHAPE }, { "circle", SHAPE }, { "line", SHAPE },
	{ "text", TEXT }, { "tspan", TEXT }, { "use", POINT }, { "image", IMAGE },
	{ "title", SKIP }, { "desc", SKIP }, { "defs", SKIP }, { "filter", SKIP },
	{ "feFlood", SKIP }, { "feComposite", SKIP }, { "linearGradient", SKIP }, { "stop", SKIP },
	{ "pattern", SKIP },
};

/* Attributes that are kept as they are; `plain` is a value that needs no writing. */
static const struct { const char *name, *plain; } attrs[] = {
	{ "d", NULL }, { "points", NULL }, { "x", NULL }, { "y", NULL }, { "width", NULL },
	{ "height", NULL }, { "cx", NULL }, { "cy", NULL }, { "r", NULL }, { "x1", NULL },
	{ "x2", NULL }, { "y1", NULL }, { "y2", NULL }, { "transform", NULL },
	{ "stroke-width", "1.00" }, { "stroke-dasharray", NULL }, { "stroke-linecap", "butt" },
	{ "stroke-linejoin", "miter" }, { "font-size", NULL }, { "font-weight", NULL },
	{ "text-anchor", "start" }, { "shape-rendering", NULL }, { "fill-opacity", NULL },
	{ "stroke-opacity", NULL }, { "opacity", NULL },
};

#define MAX_DEPTH 32
#define MAX_ATTR 24
#define PNG "data:image/png;base64,"

struct slice { const char *s; size_t n; };
struct tag {
	struct slice name, key[MAX_ATTR], val[MAX_ATTR];
	size_t n;
	int close, empty; /* </x>, <x/> */
};
struct open_tag { enum action act; const char *name; size_t start; }; /* start: in pending */
struct cleaner {
	const char *p, *end;
	struct open_tag stack[MAX_DEPTH];
	size_t depth, n_written; /* the first n_written of the stack are in the output */
	struct buf pending;      /* start tags of the others */
	const struct report_labels *labels;
	const char *alt;
	struct buf *out;
	struct moe_err *e;
};

static int is(struct slice a, const char *b)
{
	return a.n == strlen(b) && !memcmp(a.s, b, a.n);
}

static int bad(struct cleaner *c, const char *what, struct slice s)
{
	return err_set(c->e, MOE_ERR_INPUT, "picture: %s '%.*s'", what, (int)(s.n < 60 ? s.n : 60),
		s.s);
}

static void skip_space(struct cleaner *c)
{
	while (c->p < c->end && strchr(" \t\r\n", *c->p))
		c->p++;
}

static struct slice word(struct cleaner *c)
{
	struct slice w = { c->p, 0 };

	while (c->p < c->end && !strchr(" \t\r\n=/>'\"<", *c->p))
		c->p++;
	w.n = (size_t)(c->p - w.s);
	return w;
}

/* c->p is behind '<'. */
static int read_tag(struct cleaner *c, struct tag *t)
{
	const char *q;

	memset(t, 0, sizeof *t);
	if (c->p < c->end && *c->p == '/') {
		t->close = 1;
		c->p++;
	}
	t->name = word(c);
	for (;;) {
		skip_space(c);
		if (c->p < c->end && *c->p == '/') {
			t->empty = 1;
			c->p++;
		}
		if (c->p >= c->end)
			return bad(c, "ends inside", t->name);
		if (*c->p == '>') {
			c->p++;
			return 0;
		}
		if (t->n == MAX_ATTR || t->empty)
			return bad(c, "cannot read", t->name);
		t->key[t->n] = word(c);
		skip_space(c);
		if (!t->key[t->n].n || c->p >= c->end || *c->p++ != '=')
			return bad(c, "cannot read", t->name);
		skip_space(c);
		q = c->p < c->end && strchr("'\"", *c->p) ? memchr(c->p + 1, *c->p,
			(size_t)(c->end - c->p - 1)) : NULL;
		if (!q)
			return bad(c, "cannot read", t->name);
		t->val[t->n].s = c->p + 1;
		t->val[t->n++].n = (size_t)(q - c->p - 1);
		c->p = q + 1;
	}
}

static struct slice value(const struct tag *t, const char *key)
{
	static const struct slice none = { "", 0 };

	for (size_t i = 0; i < t->n; i++)
		if (is(t->key[i], key))
			return t->val[i];
	return none;
}

/* Letters, digits and the punctuation of numbers, paths and transforms; no reference. */
static int harmless(struct slice v)
{
	for (size_t i = 0; i < v.n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \t\n.,()+-#%",
			v.s[i]) || !v.s[i])
			return 0;
	for (size_t i = 0; i + 3 < v.n; i++)
		if (!memcmp(v.s + i, "url", 3))
			return 0;
	return 1;
}

/* fill, stroke and color: colours 1..9 and gnuplot's own black and white become classes. */
static int put_colours(struct cleaner *c, const struct tag *t, struct buf *b)
{
	static const char *const key[] = { "fill", "stroke", "color" };
	struct buf cls;
	unsigned r, g, u;

	buf_init(&cls, 256);
	for (size_t i = 0; i < 3; i++) {
		struct slice v = value(t, key[i]);
		char s[32];

		if (!v.n || v.n >= sizeof s)
			continue;
		memcpy(s, v.s, v.n);
		s[v.n] = 0;
		if (sscanf(s, "rgb( %u , %u , %u )", &r, &g, &u) == 3 && r == g && g == u && r && r < 10)
			buf_printf(&cls, "%s%c%u", cls.len ? " " : "", key[i][0], r);
		else if (!strcmp(s, "black"))
			buf_printf(&cls, "%s%c1", cls.len ? " " : "", key[i][0]);
		else if (!strcmp(s, "white"))
			buf_printf(&cls, "%s%c8", cls.len ? " " : "", key[i][0]);
		else if (!harmless(v)) {
			buf_free(&cls);
			return bad(c, "colour", v);
		} else
			buf_printf(b, " %s=\"%s\"", key[i], s);
	}
	if (cls.len)
		buf_printf(b, " class=\"%s\"", cls.data);
	buf_free(&cls);
	return 0;
}

static int put_attrs(struct cleaner *c, const struct tag *t, struct buf *b)
{
	for (size_t i = 0; i < t->n; i++)
		for (size_t j = 0; j < sizeof attrs / sizeof *attrs; j++) {
			if (!is(t->key[i], attrs[j].name))
				continue;
			if (!harmless(t->val[i]))
				return bad(c, "attribute", t->key[i]);
			if (attrs[j].plain && is(t->val[i], attrs[j].plain))
				continue;
			buf_printf(b, " %s=\"%.*s\"", attrs[j].name, (int)t->val[i].n, t->val[i].s);
		}
	return put_colours(c, t, b);
}

/* Write the start tags that were held back: something visible comes. */
static void flush(struct cleaner *c)
{
	if (c->pending.len)
		buf_add(c->out, c->pending.data, c->pending.len);
	buf_clear(&c->pending);
	c->n_written = c->depth;
}

static int put_root(struct cleaner *c, const struct tag *t)
{
	struct slice v = value(t, "viewBox");

	if (!v.n || !harmless(v))
		return bad(c, "viewBox", v);
	buf_printf(c->out, "<svg viewBox=\"%.*s\" role=\"img\" aria-label=\"", (int)v.n, v.s);
	text_escape(c->out, c->alt, strlen(c->alt), TEXT_HTML);
	buf_str(c->out, "\">");
	return 0;
}

static int put_point(struct cleaner *c, const struct tag *t)
{
	struct slice to = value(t, "transform");
	struct tag colour = *t;

	if (!is(value(t, "xlink:href"), "#gpPt6") || !harmless(to))
		return bad(c, "symbol", value(t, "xlink:href"));
	flush(c);
	for (size_t i = 0; i < colour.n; i++) /* a filled circle: its colour is its fill */
		if (is(colour.key[i], "color"))
			colour.key[i] = (struct slice){ "fill", 4 };
	buf_printf(c->out, "<circle r=\"1\" stroke=\"none\" transform=\"%.*s\"", (int)to.n, to.s);
	if (put_colours(c, &colour, c->out))
		return -1;
	buf_str(c->out, "/>\n");
	return 0;
}

static int put_image(struct cleaner *c, const struct tag *t)
{
	struct slice ref = value(t, "xlink:href");

	if (ref.n < strlen(PNG) || memcmp(ref.s, PNG, strlen(PNG)))
		return bad(c, "image", ref);
	for (size_t i = strlen(PNG); i < ref.n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=\r\n",
			ref.s[i]) || !ref.s[i])
			return bad(c, "image", ref);
	flush(c);
	buf_str(c->out, "<image preserveAspectRatio=\"none\" image-rendering=\"pixelated\"");
	if (put_attrs(c, t, c->out))
		return -1;
	buf_str(c->out, " href=\"");
	buf_add(c->out, ref.s, ref.n);
	buf_str(c->out, "\"/>\n");
	return 0;
}

/* Characters that take about 1.3 times the room of the others in common sans-serif faces. */
static size_t wide(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s >= 'A' && *s <= 'Z' && *s != 'I' && *s != 'J') || strchr("mw<>=+~@%&#$_", *s);
	return n;
}

void report_text_cut(struct buf *out, const char *s, size_t columns)
{
	struct buf safe, one;
	size_t n = strlen(s), i = 0, len, used = 0;
	uint32_t cp;

	buf_init(&safe, 1 << 16);
	buf_init(&one, 64);
	while (i < n) {
		len = text_decode(s + i, n - i, &cp);
		if (!len)
			len = 1;
		buf_clear(&one);
		text_escape(&one, s + i, len, TEXT_TERMINAL);
		used += one.data ? 10 * text_width(one.data) + 3 * wide(one.data) : 0;
		if (used > 10 * (columns - (i + len < n)))
			break;
		i += len;
	}
	text_escape(&safe, s, i, TEXT_HTML);
	if (safe.data)
		buf_str(out, safe.data);
	if (i < n)
		buf_str(out, "…");
	buf_free(&safe);
	buf_free(&one);
}

static int put_text(struct cleaner *c, struct slice s)
{
	unsigned i;

	while (s.n && strchr(" \t\r\n", *s.s))
		s.s++, s.n--;
	if (!s.n)
		return 0;
	if (memchr(s.s, '&', s.n))
		return bad(c, "text", s);
	if (s.n == 8 && !memcmp(s.s, "LABEL", 5) && sscanf(s.s + 5, "%3u", &i) == 1) {
		if (!c->labels || i >= c->labels->n)
			return bad(c, "label", s);
		report_text_cut(c->out, c->labels->text[i], c->labels->columns);
		return 0;
	}
	text_escape(c->out, s.s, s.n, TEXT_HTML);
	return 0;
}

static int close_tag(struct cleaner *c, struct slice name)
{
	struct open_tag *o;

	if (!c->depth || !is(name, c->stack[c->depth - 1].name))
		return bad(c, "closes", name);
	o = &c->stack[--c->depth];
	if (o->act == SKIP)
		return 0;
	if (c->n_written > c->depth) {
		buf_printf(c->out, "</%s>%s", o->name, o->act == TEXT ? "" : "\n");
		c->n_written = c->depth;
	} else if (c->pending.data) { /* never written: nothing visible came */
		c->pending.len = o->start;
		c->pending.data[o->start] = 0;
	}
	return 0;
}

static int skipping(const struct cleaner *c)
{
	for (size_t i = 0; i < c->depth; i++)
		if (c->stack[i].act == SKIP)
			return 1;
	return 0;
}

static int open_tag(struct cleaner *c, const struct tag *t)
{
	size_t i, start = c->pending.len;
	enum action act;

	for (i = 0; i < sizeof elements / sizeof *elements; i++)
		if (is(t->name, elements[i].name))
			break;
	if (i == sizeof elements / sizeof *elements)
		return skipping(c) && t->empty ? 0 : bad(c, "holds an unexpected element", t->name);
	act = skipping(c) ? SKIP : elements[i].act;
	if ((act == ROOT) != (c->depth == 0))
		return bad(c, "misplaces", t->name);
	if (act == POINT || act == IMAGE) {
		if (!t->empty)
			return bad(c, "cannot read", t->name);
		return act == POINT ? put_point(c, t) : put_image(c, t);
	}
	if (act == SHAPE) {
		if (!t->empty)
			return bad(c, "cannot read", t->name);
		flush(c);
		buf_printf(c->out, "<%s", elements[i].name);
		if (put_attrs(c, t, c->out))
			return -1;
		buf_str(c->out, "/>\n");
		return 0;
	}
	if (act == SKIP && t->empty)
		return 0;
	if (t->empty || c->depth == MAX_DEPTH)
		return t->empty ? 0 : bad(c, "nests too deep at", t->name);
	if (act == ROOT && put_root(c, t))
		return -1;
	if (act == GROUP || act == TEXT) {
		buf_printf(&c->pending, "<%s", elements[i].name);
		if (put_attrs(c, t, &c->pending))
			return -1;
		buf_char(&c->pending, '>');
	}
	c->stack[c->depth++] = (struct open_tag){ act, elements[i].name, start };
	if (act == ROOT || act == TEXT)
		flush(c);
	return 0;
}

static int run(struct cleaner *c)
{
	const char *q;
	struct tag t;

	while (c->p < c->end) {
		q = memchr(c->p, '<', (size_t)(c->end - c->p));
		if (!q)
			q = c->end;
		if (c->depth && c->stack[c->depth - 1].act == TEXT && !skipping(c) &&
		    put_text(c, (struct slice){ c->p, (size_t)(q - c->p) }))
			return -1;
		if (q == c->end)
			break;
		c->p = q + 1;
		if (c->p < c->end && *c->p == '?') { /* <?xml ... ?> */
			q = memchr(c->p, '>', (size_t)(c->end - c->p));
			if (!q)
				return bad(c, "cannot read", (struct slice){ "?xml", 4 });
			c->p = q + 1;
			continue;
		}
		if (read_tag(c, &t))
			return -1;
		if (t.close ? close_tag(c, t.name) : open_tag(c, &t))
			return -1;
	}
	if (c->depth)
		return err_set(c->e, MOE_ERR_INPUT, "picture: %zu elements are not closed", c->depth);
	return 0;
}

int report_svg_clean(const char *svg, size_t n, const struct report_labels *labels, const char *alt,
	struct buf *out, struct moe_err *e)
{
	struct cleaner c = { .p = svg, .end = svg + n, .labels = labels, .alt = alt, .out = out,
		.e = e };
	size_t before = out->len;
	int rc;

	buf_init(&c.pending, 1 << 16);
	rc = run(&c);
	if (!rc && out->len == before)
		rc = err_set(e, MOE_ERR_INPUT, "picture: it is empty");
	if (!rc && (out->failed || c.pending.failed))
		rc = err_set(e, MOE_ERR_SYS, "picture: larger than the %zu bytes that a page may have",
			out->max);
	if (rc && out->data) {
		out->len = before;
		out->data[before] = 0;
	}
	buf_free(&c.pending);
	return rc;
}
