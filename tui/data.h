/*
 * data.h - what the screens show, as plain data taken from the views in one go.
 *
 * A snapshot is made by a loader (data.c), handed over whole and then only read; drawing never
 * touches the database. Alarms and specialisation are snapshots of their own because on a large
 * database they cost much more than the figures.
 */
#ifndef TUI_DATA_H
#define TUI_DATA_H

#include "view/view.h"

/* What the user wants to see. */
struct tui_want {
	int64_t run;       /* 0 = the newest */
	int64_t domain;    /* -1 = all, 0 = sequences without one, else domain_info.id */
	int64_t window_ns; /* 0 = the whole run */
	int phase;         /* 0 = both, 1 = prefill, 2 = decode: enum moe_phase + 1 */
	int64_t until;     /* as it was at the end of this bucket - 1; 0 = now */
	int64_t base;      /* run to compare with; 0 = none */
};

struct tui_data {
	struct tui_want want;       /* what was asked for */
	struct load_filter filter;  /* what that came to */
	struct view_summary sum;
	struct view_layers layers;
	struct domain_info *domain; /* [n_domain], of the run */
	size_t n_domain;
	int64_t *runs;              /* [n_runs], all ids, ascending */
	size_t n_runs;
	int64_t window_ns;          /* time that the buckets in the filter cover; 0 = whole run */
	struct view_layers base;    /* whole run want.base, same domain and phase; n = 0: none, see */
	char base_why[160];         /* why it cannot be compared */
	int64_t loaded;             /* ns since 1970 */
	int64_t cost_ns;            /* time that loading took */
};

struct tui_alarms {
	struct tui_want want;       /* what was asked for */
	struct view_alarms list;
	int64_t cost_ns;
};

struct tui_spec {
	int64_t run, base;
	struct view_spec spec;
	struct view_spec base_spec; /* of run `base`; n_layer = 0 without one */
	int64_t loaded, cost_ns;
};

/* Read all figures; on -1 nothing is left allocated. */
int tui_data_load(struct reader *r, const struct tui_want *want, struct tui_data *out,
	struct moe_err *e);
void tui_data_free(struct tui_data *d);

int tui_alarms_load(struct reader *r, const struct tui_want *want, struct tui_alarms *out,
	struct moe_err *e);
void tui_alarms_free(struct tui_alarms *a);

int tui_same_want(const struct tui_want *a, const struct tui_want *b);

/* Of the whole run and all domains, whatever the filter. */
int tui_spec_load(struct reader *r, int64_t run, int64_t base, struct tui_spec *out,
	struct moe_err *e);
void tui_spec_free(struct tui_spec *s);

/* Buckets that cover the last window_ns before `now` of a live run, or before the last data of a
 * finished one; whole buckets, so up to one more than asked for. Pure. */
void tui_window_buckets(const struct run_info *run, int64_t n_buckets, int64_t window_ns,
	int64_t now, int64_t *bucket0, int64_t *bucket1);

/* The same for a selection: with `until` the window ends there. Pure. */
void tui_want_buckets(const struct tui_want *want, const struct run_info *run, int64_t n_buckets,
	int64_t now, int64_t *bucket0, int64_t *bucket1);

/* Load of an expert over its load in the baseline, NAN without one or without picks in both. */
double tui_base_ratio(const struct tui_data *d, size_t layer, size_t expert);

/* Share of a layer's picks over capacity `factor` if the selection were one batch: the sum of
 * max(0, c_e - ceil(T k / E * factor)) over all picks (docs/METRICS.md, Capacity). Pure. */
double tui_over_capacity(const struct view_layer *l, double factor);

#endif
