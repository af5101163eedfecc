/*
 * show.h - a view's table as figures, rows and lines: what the sections on what-if questions, paths
 * and the run itself are made of. The picture, the rows and the CSV come from one table, so they
 * cannot differ.
 */
#ifndef REPORTS_SHOW_H
#define REPORTS_SHOW_H

#include "reports/page.h"

/* A cell by its column's key; NAN, "" where it is not set. A key that does not exist is our mistake
 * and gives the same. */
double report_at(const struct view_table *t, size_t row, const char *key);
const char *report_at_text(const struct view_table *t, size_t row, const char *key);

/* Rows that `want` (NULL = all) chooses, at most `most`; what is left out is said. Columns without
 * a title do not appear. Without rows: why. */
typedef int report_want(const struct view_table *t, size_t row);
void report_view_table(struct report_page *p, const struct view_table *t, report_want *want,
	size_t most);
int report_want_pooled(const struct view_table *t, size_t row); /* rows of all layers */
int report_want_layer(const struct view_table *t, size_t row);  /* rows of one layer */

/* What a table cannot say, as a paragraph; nothing if it says all. */
void report_why(struct report_page *p, const struct view_table *t);
/* A remark of a view, begun with a capital, ended with a full stop, `this` as code. Untrusted text
 * in it stays text. */
void report_remark(struct buf *b, const char *why);
/* "a sample: ..." where the single decisions were sampled, else nothing. */
void report_sampled(struct buf *b, const struct report_data *d);

/* Joules per token of the energy table's rows together, NAN without rows (run.c). */
double report_joule_per_token(const struct view_table *t);

/* Is the load of a layer further from the baseline's than shuffled documents explain? -1:
 * not tested. */
int report_moved(const struct report_data *d, unsigned layer);
void report_put_moved(struct report_page *p, int moved); /* a cell that says so */
/* Is a table's noise estimated from half samples? (beside.c) */
int report_beside_halves(enum report_table t);

/* A picture of lines: open, then for each line one report_line and its points, then close. */
struct report_lines {
	struct report_plot *plot;
	struct buf plots;
	unsigned n;
	unsigned n_name;
	size_t longest;   /* of the names, characters */
	double x0, x1, y0, y1;
};
struct report_axes {
	const char *x, *y;  /* literals of ours without quotes */
	const char *more;   /* gnuplot lines of ours, may be NULL */
	int zero;           /* the y axis begins at 0 */
	double least_top;   /* and reaches at least this far */
	int x_log, y_log;
};
enum report_dash { REPORT_SOLID, REPORT_DASHED, REPORT_DOTTED };
void report_lines_open(struct report_lines *l, struct report_plot *plot);
/* colour: a name of reports/plots/common.gp; name: a literal of ours or NULL; points: 1 = dots. */
void report_line(struct report_lines *l, const char *name, const char *colour, double width,
	enum report_dash dash, int points);
void report_point(struct report_lines *l, double x, double y);
void report_lines_close(struct report_lines *l, const struct report_axes *a);

#endif
