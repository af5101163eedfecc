/*
 * report.h - a report of one run: one HTML page that needs nothing but itself, the same as Markdown
 * or PDF, or one JSON object.
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
#include "view/diff.h"
#include "view/view.h"

#define REPORT_SEED 1                      /* of the bootstrap and the shuffled labels */
#define REPORT_MAX_PAGE ((size_t)512 << 20)

enum report_format { REPORT_HTML, REPORT_MD, REPORT_JSON, REPORT_PDF, REPORT_N_FORMAT };

struct report_opt {
	int64_t run;         /* 0 = the newest */
	const char *db;      /* as the user wrote it, for the command that remakes the page */
	const char *out;     /* the same; NULL = default */
	enum report_format format;
	struct reader *base; /* of a run to compare with, or NULL; may be the same reader */
	int64_t base_run;    /* 0 = the newest */
	const char *base_db, *base_arg; /* its name; what --baseline said, for the command */
	const struct report_audit *audit; /* filled in by the caller, or NULL */
	const char *made_by; /* "moescope 0.1.0 (abcdef)" */
	void (*step)(void *ctx, const char *what); /* before each slow step; may be NULL */
	void *ctx;
};

/* Tables that the page draws and JSON prints. To add one: a name here, a row in collect.c, a
 * section that shows it. */
enum report_table {
	REPORT_COURSE, REPORT_CAPACITY, REPORT_LOCALITY, REPORT_COACTIVATION, REPORT_CROSS,
	REPORT_VOCABULARY, REPORT_WORDS, REPORT_SPREAD, REPORT_PRUNE, REPORT_CACHES, REPORT_AWARE,
	REPORT_PLACES, REPORT_PACE, REPORT_ENERGY, REPORT_SETTINGS, REPORT_CACHE_USE, REPORT_N_TABLE
};
const char *report_table_key(enum report_table t); /* its key in JSON */

/* The run that this one is compared with. */
struct report_base {
	int on;
	struct view_summary sum;
	struct view_layers layers;
	size_t n_alarm;
	struct view_table settings, stat, table; /* table: of the differences */
	struct view_layers phase[2];
	struct view_spec spec;
	struct domain_info *domain;              /* [n_domain] */
	size_t n_domain;
	struct view_table table_of[REPORT_N_TABLE];
	int tested;                              /* half samples were taken: */
	struct view_table half[2][2][REPORT_N_TABLE]; /* [baseline, this run][first, second half] */
	struct diff diff;                        /* a is the baseline */
};

/* What an audit log says, in plain words and numbers; texts are untrusted. */
enum { REPORT_AUDIT_EVENTS = 200, REPORT_AUDIT_FINDINGS = 50, REPORT_AUDIT_KINDS = 32 };
struct report_audit {
	int exists;
	char origin[256], detail[32], loss[32];
	int64_t retain_days, heartbeat_s, checkpoint_s;
	int sealed;
	uint64_t leaves, signed_size, anchored_size, redacted, pruned, gaps, checkpoints;
	int verified;              /* a public key was given and the log could be checked */
	int anchored, deep;
	char verdict[32], why[256], root[65];
	size_t n_finding, n_event, n_kind;
	struct { char kind[16], text[240]; } finding[REPORT_AUDIT_FINDINGS];
	struct { char name[24]; uint64_t n; } kind[REPORT_AUDIT_KINDS];
	struct { int64_t wall; char kind[24], text[360]; } event[REPORT_AUDIT_EVENTS];
	uint64_t more_findings, more_events;
	const char *pubkey, *anchor; /* files that were given, or NULL */
	const char *blind[8];      /* what no check of this log can show; static, NULL after the last */
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
	struct report_base base;
	uint64_t every, most;             /* how single decisions were sampled; 0 = all of them */
	struct view_table table[REPORT_N_TABLE];
	struct view_table runs, stat, by_domain, by_layer_spec, alarm_table; /* JSON only */
};
int report_collect(struct reader *r, const struct report_opt *o, struct report_data *d,
	struct moe_err *e);
void report_data_free(struct report_data *d);

/* Append the page. Without pictures (plotter->failed) the page says so and keeps its tables. */
int report_html(const struct report_data *d, struct report_plotter *plotter, struct buf *out,
	struct moe_err *e);

/* Append the page as Markdown. keep: where its pictures were kept, NULL = no pictures. */
int report_markdown(const struct buf *page, const char *keep, struct buf *out, struct moe_err *e);

/* Append the page as PDF, printed by an installed browser. stop: as in the plotter. */
int report_pdf(const struct buf *page, const volatile sig_atomic_t *stop, struct buf *out,
	struct moe_err *e);

/* Append {"made_by":..., "run":[...], "layers":[...], ...}: each value is a table of a view. */
int report_json(const struct report_data *d, struct buf *out, struct moe_err *e);

/* Is `path` a place that a report may be written to? Refuses a directory, anything that is not a
 * regular file, and an SQLite database. Asked before the work starts. */
int report_may_write(const char *path, struct moe_err *e);

/* Write to a temporary file beside `path`, flush it to disk, and rename it into place. */
int report_save(const char *path, const struct buf *b, struct moe_err *e);

#endif
