/*
 * report.h - a report of one run: one HTML page that needs nothing but itself, or one JSON object.
 *
 * Three steps, so that each can be tested alone: collect asks the views, html and json turn what
 * they said into bytes, save puts the bytes in place. The same database gives the same bytes: the
 * page is dated by the run, not by the clock.
 *
 *	report_collect(reader, &opt, &data, &err);
 *	report_html(&data, &plotter, &page, &err);
 *	report_save("report.html", &page, &err);
 */
#ifndef REPORTS_REPORT_H
#define REPORTS_REPORT_H

#include "base/buf.h"
#include "reports/plot.h"
#include "view/view.h"

#define REPORT_SEED 1                      /* of the bootstrap and the shuffled labels */
#define REPORT_MAX_PAGE ((size_t)512 << 20)

enum report_format { REPORT_HTML, REPORT_JSON };

struct report_opt {
	int64_t run;         /* 0 = the newest */
	const char *db;      /* as the user wrote it, for the command that remakes the page */
	const char *out;     /* the same; NULL = default */
	enum report_format format;
	const char *made_by; /* "moescope 0.1.0 (abcdef)" */
	void (*step)(void *ctx, const char *what); /* before each slow step; may be NULL */
	void *ctx;
};

/* All that a page says. Read-only after report_collect. */
struct report_data {
	struct report_opt opt;
	struct view_summary sum;
	struct view_layers layers;        /* all domains, both phases; n = 0 in an empty run */
	struct view_layers phase[2];      /* prefill, decode */
	struct view_alarms alarms;
	struct view_spec spec;            /* n_layer = 0 and why, where it cannot be said */
	struct domain_info *domain;       /* [n_domain] */
	size_t n_domain;
	struct view_table experts;        /* a row per layer and expert */
	struct view_table runs, stat, by_domain, by_layer_spec, locality, alarm_table, settings, cache; /* JSON only */
};
int report_collect(struct reader *r, const struct report_opt *o, struct report_data *d,
	struct moe_err *e);
void report_data_free(struct report_data *d);

/* Append the page. Without pictures (plotter->failed) the page says so and keeps its tables. */
int report_html(const struct report_data *d, struct report_plotter *plotter, struct buf *out,
	struct moe_err *e);

/* Append {"made_by":..., "run":[...], "layers":[...], ...}: each value is a table of a view. */
int report_json(const struct report_data *d, struct buf *out, struct moe_err *e);

/* Is `path` a place that a report may be written to? Refuses a directory, anything that is not a
 * regular file, and an SQLite database. Asked before the work starts. */
int report_may_write(const char *path, struct moe_err *e);

/* Write to a temporary file beside `path`, flush it to disk, and rename it into place. */
int report_save(const char *path, const struct buf *b, struct moe_err *e);

#endif
