/*
 * svg.h - turning what gnuplot drew into a picture that may stand inside our page.
 *
 * The page trusts no file, so nothing is passed through: the drawing is read tag by tag and only
 * what the tables in svg.c name is written again. No ids, no links, no styles, no scripts, no fonts
 * of its own; anything unknown refuses the whole picture. Colours 1..9 of reports/plots/common.gp
 * become classes, so that the page decides what they look like in light and in dark.
 */
#ifndef REPORTS_SVG_H
#define REPORTS_SVG_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Texts that the picture shows as "LABEL000", "LABEL001", ...: gnuplot never sees the real ones. */
struct report_labels {
	const char *const *text; /* [n], untrusted */
	size_t n;
	size_t columns;          /* longer ones are cut to this many columns */
};

/* Append the cleaned <svg> to out. `alt` (untrusted) is what a screen reader says. */
int report_svg_clean(const char *svg, size_t n, const struct report_labels *labels, const char *alt,
	struct buf *out, struct moe_err *e);

/* Append s, untrusted, as HTML text of at most `columns` columns, wide letters counting 1.3; "…"
 * stands for what is cut. */
void report_text_cut(struct buf *out, const char *s, size_t columns);

#endif
