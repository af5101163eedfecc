/* show.c - see show.h. */
#define _GNU_SOURCE /* strchrnul */
#include "reports/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cells ---- */

static const struct view_cell *cell(const struct view_table *t, size_t row, const char *key,
	enum view_type *type)
{
	for (size_t i = 0; t->cols && i < t->n_col; i++)
		if (!strcmp(t->cols[i].key, key)) {
			*type = t->cols[i].type;
			return row < t->n_row ? &t->cells[row * t->n_col + i] : NULL;
		}
	return NULL;
}

double report_at(const struct view_table *t, size_t row, const char *key)
{
	enum view_type type = VIEW_INT;
	const struct view_cell *c = cell(t, row, key, &type);

	if (!c || !c->set || type == VIEW_TEXT)
		return NAN;
	return type == VIEW_INT ? (double)c->i : c->r;
}

const char *report_at_text(const struct view_table *t, size_t row, const char *key)
{
	enum view_type type = VIEW_INT;
	const struct view_cell *c = cell(t, row, key, &type);

	return c && c->set && type == VIEW_TEXT && c->s ? c->s : "";
}

int report_want_pooled(const struct view_table *t, size_t row)
{
	return isnan(report_at(t, row, "layer"));
}

int report_want_layer(const struct view_table *t, size_t row)
{
	return !report_want_pooled(t, row);
}

/* ---- rows ---- */

static void put_cell(struct report_page *p, const struct view_col *col, const struct view_cell *c)
{
	if (!c->set) {
		buf_str(p->b, col->type == VIEW_TEXT ? "<td class=\"l\">–</td>" : "<td>–</td>");
		return;
	}
	switch (col->type) {
	case VIEW_TEXT:
		report_cell_text(p, c->s ? c->s : "");
		break;
	case VIEW_INT:
		report_cell(p, REPORT_COUNT, (double)c->i);
		break;
	case VIEW_REAL:
		if (fabs(c->r) >= 1e6 || col->digits == 0)
			report_cell(p, REPORT_COUNT, c->r);
		else
			buf_printf(p->b, "<td>%.*f</td>", col->digits, c->r);
	}
}

void report_view_table(struct report_page *p, const struct view_table *t, report_want *want,
	size_t most)
{
	struct report_col cols[32];
	size_t n = 0, shown = 0, all = 0;

	for (size_t i = 0; i < t->n_col && n < 32; i++)
		if (t->cols[i].title)
			cols[n++] = (struct report_col){ t->cols[i].title, NULL, t->cols[i].type != VIEW_TEXT };
	for (size_t r = 0; r < t->n_row; r++)
		all += !want || want(t, r);
	if (!all) {
		report_why(p, t);
		return;
	}
	report_table_open(p, cols, n, NULL);
	for (size_t r = 0; r < t->n_row && shown < most; r++) {
		if (want && !want(t, r))
			continue;
		shown++;
		report_row_open(p, 0);
		for (size_t i = 0; i < t->n_col; i++)
			if (t->cols[i].title)
				put_cell(p, &t->cols[i], &t->cells[r * t->n_col + i]);
		report_row_close(p);
	}
	report_table_close(p);
	if (shown < all)
		buf_printf(p->b, "<p class=\"small\">%zu of %zu rows; the file has them all.</p>\n", shown,
			all);
}

void report_why(struct report_page *p, const struct view_table *t)
{
	if (!t->why[0])
		return;
	buf_str(p->b, "<p class=\"note\">");
	report_remark(p->b, t->why);
	buf_str(p->b, "</p>\n");
}

void report_remark(struct buf *b, const char *s)
{
	char part[2] = "";
	int code = 0;

	if (*s >= 'a' && *s <= 'z') { /* a sentence begins with a capital */
		part[0] = (char)(*s++ - 'a' + 'A');
		buf_str(b, part);
	}
	while (*s) {
		const char *end = strchrnul(s, '`');
		char *text = strndup(s, (size_t)(end - s));

		if (!text) {
			b->failed = 1;
			return;
		}
		report_text(b, text);
		free(text);
		if (!*end)
			break;
		buf_str(b, code ? "</code>" : "<code>");
		code = !code;
		s = end + 1;
	}
	buf_str(b, code ? "</code>." : ".");
}

void report_sampled(struct buf *b, const struct report_data *d)
{
	if (d->every > 1)
		buf_printf(b, " From a sample: every %s sequence.",
			d->every == 2 ? "second" : report_nth(d->every).s);
	else if (d->most)
		buf_printf(b, " From a sample: the first %s tokens.",
			report_num(REPORT_COUNT, (double)d->most).s);
}

/* ---- lines ---- */

void report_lines_open(struct report_lines *l, struct report_plot *plot)
{
	memset(l, 0, sizeof *l);
	l->plot = plot;
	l->x0 = l->y0 = INFINITY;
	l->x1 = l->y1 = -INFINITY;
	buf_init(&l->plots, 1 << 20);
}

void report_line(struct report_lines *l, const char *name, const char *colour, double width,
	enum report_dash dash, int points)
{
	static const char *const dashes[] = { "solid", "(7,4)", "(2,4)" };

	if (l->n)
		buf_str(&l->plot->data, "\n\n");
	buf_printf(&l->plots, "%sDATA index %u using 1:2 with %s linecolor rgb %s linewidth %g "
		"dashtype %s%s", l->n ? ", " : "", l->n,
		points ? "linespoints pointtype 7 pointsize 0.4" : "lines", colour, width, dashes[dash],
		name ? " title ''" : " notitle");
	if (name)
		buf_printf(&l->plots, "%s''", name);
	l->n_name += name != NULL;
	if (name && strlen(name) > l->longest)
		l->longest = strlen(name);
	l->n++;
}

void report_point(struct report_lines *l, double x, double y)
{
	if (!isfinite(x) || !isfinite(y)) {
		buf_str(&l->plot->data, "NaN NaN\n");
		return;
	}
	buf_printf(&l->plot->data, "%.9g %.6g\n", x, y);
	l->x0 = fmin(l->x0, x), l->x1 = fmax(l->x1, x);
	l->y0 = fmin(l->y0, y), l->y1 = fmax(l->y1, y);
}

/* A logarithmic axis of little more than a decade has too few names of its own: 1,
 * 2 and 5 of each. */
static void log_tics(struct report_lines *l)
{
	buf_str(&l->plot->tics, "set ytics (");
	for (int i = -7, n = 0; i <= 4; i++)
		for (int k = 1; k <= 5; k += k == 1 ? 1 : 3)
			if (k * pow(10, i) >= l->y0 / 1.3 && k * pow(10, i) <= l->y1 * 1.3)
				buf_printf(&l->plot->tics, "%s'%g' %g", n++ ? ", " : "", k * pow(10, i),
					k * pow(10, i));
	buf_str(&l->plot->tics, ")\n");
}

/* All points have one x (a single layer): each becomes a short level line,
 * in which colour and dashes show. */
static void widen(struct report_lines *l)
{
	struct buf *d = &l->plot->data, wide;

	buf_init(&wide, d->max);
	for (const char *s = d->data; s && *s;) {
		size_t n = strcspn(s, "\n");
		double x, y;

		if (sscanf(s, "%lf %lf", &x, &y) == 2 && *s != '\n' && isfinite(x))
			buf_printf(&wide, "%.9g %.6g\n%.9g %.6g\n", x - 0.35, y, x + 0.35, y);
		else
			buf_printf(&wide, "%.*s\n", (int)n, s);
		s += n + (s[n] != 0);
	}
	buf_free(d);
	*d = wide;
}

/* Rows of names above the picture: as many side by side as fit (8 px a character,
 * 50 px of line). */
static unsigned key_rows(const struct report_lines *l)
{
	unsigned most = l->plot->width < 500 ? 2 : 3,
		fit = (l->plot->width - 40) / (unsigned)(8 * l->longest + 50);
	unsigned columns = fit < 1 ? 1 : fit < most ? fit : most;

	return (l->n_name + columns - 1) / columns;
}

void report_lines_close(struct report_lines *l, const struct report_axes *a)
{
	unsigned rows;
	double gap;

	if (!(l->x0 <= l->x1)) /* no point at all */
		l->x0 = l->y0 = 1, l->x1 = l->y1 = 2;
	if (!(l->x1 > l->x0)) {
		widen(l);
		l->x0 -= 0.5, l->x1 += 0.5;
	}
	l->y1 = fmax(l->y1, a->least_top);
	if (a->y_log && l->y0 > 0 && l->y1 / l->y0 < 30)
		log_tics(l);
	if (a->y_log) {
		l->y0 = fmax(l->y0, l->y1 * 1e-6) / 1.3;
		l->y1 *= 1.3;
	} else {
		gap = l->y1 > l->y0 ? (l->y1 - l->y0) * 0.06 : 0.5;
		l->y0 = a->zero ? 0 : l->y0 - gap;
		l->y1 = l->y1 > l->y0 ? l->y1 + gap : l->y0 + 1;
	}
	report_plot_var(l->plot, "X0", l->x0);
	report_plot_var(l->plot, "X1", a->x_log ? l->x1 * 1.03 : l->x1);
	report_plot_var(l->plot, "Y0", l->y0);
	report_plot_var(l->plot, "Y1", l->y1);
	rows = key_rows(l);
	report_plot_var(l->plot, "KEY", rows);
	l->plot->height += rows > 1 ? 17 * (rows - 1) : 0;
	buf_printf(&l->plot->tics, "XLABEL = '%s'\nYLABEL = '%s'\n", a->x, a->y);
	if (a->x_log)
		buf_str(&l->plot->tics, "set logscale x 2\n");
	if (a->y_log)
		buf_str(&l->plot->tics, "set logscale y\nset format y '%g'\n");
	if (a->more)
		buf_str(&l->plot->tics, a->more);
	buf_printf(&l->plot->tics, "PLOT = 'plot %s'\n", l->plots.data ? l->plots.data : "");
	l->plot->data.failed |= l->plots.failed || !l->n;
	buf_free(&l->plots);
}
