/*
 * table.c - plain tables: filling them in and printing them for people, as JSON and as CSV.
 *
 * Text in cells may come from a database of unknown origin. It is stored as it is and made safe
 * when it is printed: escapes for a terminal; JSON escapes; for CSV the terminal's escapes, a
 * leading ' where a spreadsheet would see a formula, and RFC 4180 quotes. Numbers are printed with
 * the C locale's point; what is not finite is missing. A column without a title is for programs
 * and does not appear in the table for people.
 */
#include "view/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

#define PRINT_MAX ((size_t)1 << 30) /* bytes of one printed table held in memory */

void view_table_init(struct view_table *t, const struct view_col *cols, size_t n_col)
{
	memset(t, 0, sizeof *t);
	t->cols = cols;
	t->n_col = n_col;
}

struct view_cell *view_table_row(struct view_table *t, struct moe_err *e)
{
	struct view_cell *p;
	size_t cap;

	if (t->n_row == t->cap) {
		cap = t->cap ? t->cap * 2 : 16;
		p = realloc(t->cells, cap * t->n_col * sizeof *p);
		if (!p) {
			err_nomem(e, cap * t->n_col * sizeof *p, "the table's rows");
			return NULL;
		}
		t->cells = p;
		t->cap = cap;
	}
	p = t->cells + t->n_row++ * t->n_col;
	memset(p, 0, t->n_col * sizeof *p);
	return p;
}

void view_table_free(struct view_table *t)
{
	for (size_t i = 0; i < t->n_row * t->n_col; i++)
		free(t->cells[i].s);
	free(t->cells);
	free(t->own);
	memset(t, 0, sizeof *t);
}

void view_set_int(struct view_cell *c, int64_t v)
{
	c->set = 1;
	c->i = v;
}

void view_set_real(struct view_cell *c, double v)
{
	c->set = isfinite(v) != 0;
	c->r = c->set ? v : 0;
}

int view_set_text(struct view_cell *c, const char *s, struct moe_err *e)
{
	if (!s)
		return 0;
	free(c->s);
	c->s = strdup(s);
	if (!c->s)
		return err_nomem(e, strlen(s) + 1, "a table's text");
	c->set = 1;
	return 0;
}

int view_table_head(struct view_cell *row, int64_t run, const char *domain, int phase,
	struct moe_err *e)
{
	view_set_int(row, run);
	if (view_set_text(row + 1, domain, e))
		return -1;
	return view_set_text(row + 2, phase < 0 ? NULL : phase ? "decode" : "prefill", e);
}

const char *view_domain_name(struct reader *r, const struct load_filter *f, char *buf, size_t size)
{
	struct domain_info *d = NULL;
	struct moe_err ignored;
	size_t n = 0;

	if (f->domain < 0)
		return NULL;
	snprintf(buf, size, f->domain ? "#%lld" : "(none)", (long long)f->domain);
	if (f->domain && !reader_domains(r, f->run, &d, &n, &ignored))
		for (size_t i = 0; i < n; i++)
			if (d[i].id == f->domain)
				snprintf(buf, size, "%s", d[i].name);
	free(d);
	return buf;
}

/* ---- printing ---- */

static void csv_field(struct buf *out, const char *s)
{
	struct buf safe;

	buf_init(&safe, out->max);
	if (*s && strchr("=+-@\t\r", *s))
		buf_char(&safe, '\'');
	text_escape(&safe, s, strlen(s), TEXT_TERMINAL);
	out->failed |= safe.failed;
	s = safe.data ? safe.data : "";
	if (!strpbrk(s, ",\"\r\n")) {
		buf_str(out, s);
	} else {
		buf_char(out, '"');
		for (; *s; s++)
			buf_str(out, *s == '"' ? "\"\"" : (char[]){ *s, 0 });
		buf_char(out, '"');
	}
	buf_free(&safe);
}

static void json_string(struct buf *out, const char *s)
{
	buf_char(out, '"');
	text_escape(out, s, strlen(s), TEXT_JSON);
	buf_char(out, '"');
}

/* With a point whatever the locale says: the dashboard may have set one. */
static void real(struct buf *out, const struct view_col *col, double r, enum view_format f)
{
	char text[400], *p;

	if (f == VIEW_PRETTY)
		snprintf(text, sizeof text, "%.*f", col->digits, r);
	else
		snprintf(text, sizeof text, "%.10g", r);
	for (p = text; *p; p++)
		*p = *p == ',' ? '.' : *p;
	buf_str(out, text);
}

static void cell(struct buf *out, const struct view_col *col, const struct view_cell *c,
	enum view_format f)
{
	if (!c->set) {
		buf_str(out, f == VIEW_JSON ? "null" : "");
	} else if (col->type == VIEW_INT) {
		buf_printf(out, "%lld", (long long)c->i);
	} else if (col->type == VIEW_REAL) {
		real(out, col, c->r, f);
	} else if (f == VIEW_JSON) {
		json_string(out, c->s);
	} else if (f == VIEW_CSV) {
		csv_field(out, c->s);
	} else {
		text_escape(out, c->s, strlen(c->s), TEXT_TERMINAL);
	}
}

static void print_json(const struct view_table *t, struct buf *out)
{
	buf_char(out, '[');
	for (size_t i = 0; i < t->n_row; i++) {
		buf_str(out, i ? ",\n {" : "\n {");
		for (size_t j = 0; j < t->n_col; j++) {
			buf_str(out, j ? ", " : "");
			json_string(out, t->cols[j].key);
			buf_str(out, ": ");
			cell(out, t->cols + j, t->cells + i * t->n_col + j, VIEW_JSON);
		}
		buf_char(out, '}');
	}
	buf_str(out, t->n_row ? "\n]\n" : "]\n");
}

static void print_csv(const struct view_table *t, struct buf *out)
{
	for (size_t j = 0; j < t->n_col; j++) {
		buf_str(out, j ? "," : "");
		csv_field(out, t->cols[j].key);
	}
	buf_str(out, "\r\n");
	for (size_t i = 0; i < t->n_row; i++) {
		for (size_t j = 0; j < t->n_col; j++) {
			buf_str(out, j ? "," : "");
			cell(out, t->cols + j, t->cells + i * t->n_col + j, VIEW_CSV);
		}
		buf_str(out, "\r\n");
	}
}

/* One padded field of a table for people; the last text column is not padded. */
static void field(struct buf *out, const char *s, size_t width, int right, int last)
{
	size_t w = text_width(s), pad = width > w ? width - w : 0;

	if (right)
		buf_printf(out, "%*s", (int)pad, "");
	buf_str(out, s);
	if (!right && !last)
		buf_printf(out, "%*s", (int)pad, "");
}

static int print_pretty(const struct view_table *t, struct buf *out, struct moe_err *e)
{
	size_t *width = calloc(t->n_col + 1, sizeof *width), last = 0;
	struct buf one;

	if (!width)
		return err_nomem(e, (t->n_col + 1) * sizeof *width, "column widths");
	buf_init(&one, PRINT_MAX);
	for (size_t j = 0; j < t->n_col; j++) {
		if (!t->cols[j].title)
			continue;
		last = j;
		width[j] = text_width(t->cols[j].title);
		for (size_t i = 0; i < t->n_row; i++) {
			buf_clear(&one);
			cell(&one, t->cols + j, t->cells + i * t->n_col + j, VIEW_PRETTY);
			if (one.data && text_width(one.data) > width[j])
				width[j] = text_width(one.data);
		}
	}
	for (size_t i = 0; i <= t->n_row; i++) { /* row 0 is the header */
		const char *gap = "";

		for (size_t j = 0; j < t->n_col; j++) {
			if (!t->cols[j].title)
				continue;
			buf_clear(&one);
			if (i)
				cell(&one, t->cols + j, t->cells + (i - 1) * t->n_col + j,
					VIEW_PRETTY);
			else
				buf_str(&one, t->cols[j].title);
			buf_str(out, gap);
			field(out, one.data ? one.data : "", width[j],
				t->cols[j].type != VIEW_TEXT, j == last);
			gap = "  ";
		}
		buf_char(out, '\n');
	}
	out->failed |= one.failed;
	buf_free(&one);
	free(width);
	return 0;
}

int view_table_print(const struct view_table *t, enum view_format f, void *file, struct moe_err *e)
{
	struct buf out;
	int status = 0;

	buf_init(&out, PRINT_MAX);
	if (f == VIEW_JSON)
		print_json(t, &out);
	else if (f == VIEW_CSV)
		print_csv(t, &out);
	else
		status = print_pretty(t, &out, e);
	if (!status && out.failed)
		status = err_set(e, MOE_ERR_SYS, "the printed table of %zu rows needs more than %zu bytes"
			" or than there is memory", t->n_row, PRINT_MAX);
	if (!status && out.len && fwrite(out.data, 1, out.len, file) != out.len)
		status = err_errno(e, "writing a table of %zu rows", t->n_row);
	buf_free(&out);
	return status;
}
