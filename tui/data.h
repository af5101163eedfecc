/*
 * data.h - what the screens show, as plain data taken from the views in one go.
 *
 * A snapshot is made by a loader (data.c), handed over whole and then only read; drawing never
 * touches the database. Alarms and specialisation are snapshots of their own because on a large
 * database they cost much more than the figures.
 */
#ifndef TUI_DATA_H
#define TUI_DATA_H

#include "view/live.h"
#include "view/request.h"
#include "view/view.h"

/* What the user wants to see. */
struct tui_want {
	int64_t run;       /* 0 = the newest */
	int64_t domain;    /* -1 = all, 0 = sequences without one, else domain_info.id */
	int64_t window_ns; /* 0 = the whole run */
	int phase;         /* 0 = both, 1 = prefill, 2 = decode: enum moe_phase + 1 */
	int64_t until;     /* as it was at the end of this bucket - 1; 0 = now */
	/* Only this request: sequence.id; 0 = all, TUI_NEWEST = the newest one, TUI_NUMBERED(n) = the
	 * one that the engine gave the number n. */
	int64_t sequence;
	int64_t base;      /* run to compare with; 0 = none, TUI_NEWEST = the newest of the other
	                      file */
};
#define TUI_NEWEST INT64_C(-1)
#define TUI_NUMBERED(n) (-2 - (n)) /* and back */
#define TUI_NO_DOMAIN INT64_C(-2)

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
	struct view_request request; /* the one that all figures are of; id 0 = they are of all */
	/* The whole baseline run, same domain (by name), phase and request (by number); n = 0:
	 * none, see */
	struct view_layers base;
	char base_why[160];         /* why it cannot be compared */
	int64_t base_run;           /* its id */
	int64_t loaded;             /* ns since 1970 */
	int64_t cost_ns;            /* time that loading took */
};

struct tui_alarms {
	struct tui_want want;       /* what was asked for */
	struct view_alarms list;
	struct view_alarms base;    /* of the whole baseline run, same domain and phase */
	int with_base;              /* 0 = there is none */
	int64_t cost_ns;
};

struct tui_spec {
	int64_t run, base;
	struct view_spec spec;
	struct view_spec base_spec; /* of run `base` of the baseline's file; n_layer = 0 without one */
	int64_t loaded, cost_ns;
};

/* Where a thread reads, and what it keeps between two snapshots. */
struct tui_source {
	struct reader *r;               /* the caller's, set before each load */
	const char *base_path;          /* another file that the baseline is in; NULL = the same */
	struct reader *base;            /* opened when it is asked for; NULL with base_path NULL */
	struct view_live *live;
	struct view_alarm_memory *alarms;
	struct tui_want base_want;      /* of: */
	struct view_layers base_layers;
	struct view_alarms base_alarms;
	int base_state;                 /* 0 = not read, 1 = layers, 2 = alarms */
	int64_t base_run;               /* id of the run that they are of */
};
int tui_source_init(struct tui_source *s, const char *base_path, struct moe_err *e);
/* The file is another one than at the last load. */
void tui_source_forget(struct tui_source *s);
void tui_source_free(struct tui_source *s);
/* The reader for the baseline; NULL with the error. */
struct reader *tui_source_base(struct tui_source *s, struct moe_err *e);

/* The domain of run `run` in run `base_run` of the baseline's file, by name;
 * TUI_NO_DOMAIN = it has none. */
int64_t tui_source_domain(struct tui_source *s, int64_t run, int64_t domain, int64_t base_run);

/* Read all figures; on -1 nothing is left allocated. */
int tui_data_load(struct tui_source *s, const struct tui_want *want, struct tui_data *out,
	struct moe_err *e);
void tui_data_free(struct tui_data *d);

int tui_alarms_load(struct tui_source *s, const struct tui_want *want, struct tui_alarms *out,
	struct moe_err *e);
void tui_alarms_free(struct tui_alarms *a);

int tui_same_want(const struct tui_want *a, const struct tui_want *b);

/* Of the whole run and all domains, whatever the filter. */
int tui_spec_load(struct tui_source *s, int64_t run, int64_t base, struct tui_spec *out,
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
