/*
 * view.h - the questions that people ask of a trace, answered as plain data.
 *
 * `stat`, the dashboard, the report and --json only print what these functions return, so a number
 * has one source. Definitions: docs/METRICS.md. Every view takes a filter and computes afresh; it
 * holds no state but the reader it is given and no read transaction after it returns. Views that
 * read single decisions (specialisation, locality, co-activation) ignore the filter's buckets and
 * say so in `why`.
 *
 * A figure that the data cannot give is NAN in a struct and an empty cell in a table (null in
 * JSON), never zero; `why` says what is missing.
 */
#ifndef VIEW_VIEW_H
#define VIEW_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "trace/reader.h"

/* ---- plain tables: what CLI, JSON, CSV, HTML and Markdown print ---- */

enum view_type { VIEW_INT, VIEW_REAL, VIEW_TEXT };
struct view_col {
	const char *key;   /* JSON and CSV key, as docs/METRICS.md */
	const char *title; /* column heading for people; NULL = only in JSON and CSV */
	enum view_type type;
	int digits;        /* VIEW_REAL: digits after the point when printed for people */
};
struct view_cell {
	int set;    /* 0 = nothing to say: blank, null */
	int64_t i;
	double r;
	char *s;    /* owned by the table */
};
struct view_table {
	const struct view_col *cols; /* static */
	size_t n_col, n_row, cap;
	struct view_cell *cells;     /* [n_row][n_col] */
	char why[256];               /* "" or what cannot be said and why */
	void *own;                   /* memory of columns that are not static, else NULL */
};
void view_table_free(struct view_table *t);

enum view_format { VIEW_PRETTY, VIEW_JSON, VIEW_CSV };
/* Print to a stream. VIEW_JSON: one array of objects, a row each. Text from the database is escaped
 * for where it goes (terminal, JSON, CSV with formula guard). */
int view_table_print(const struct view_table *t, enum view_format f, void *file, struct moe_err *e);

/* The rows of `stat`; JSON keys in docs/METRICS.md. */
int view_runs(struct reader *r, struct view_table *out, struct moe_err *e);
int view_stat(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e); /* a row per layer */
int view_stat_expert(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
int view_stat_domain(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
int view_stat_specialisation(struct reader *r, const struct load_filter *f,
	struct view_table *out, struct moe_err *e);
int view_stat_locality(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
int view_stat_coactivation(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);

/* Cross-layer routes: what the experts of one MoE layer say about those of the next. */
int view_stat_cross(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
/* Vocabulary specialisation: does a token id go to one expert wherever it stands? */
int view_stat_vocabulary(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
/* Association of every (layer, domain, expert): nPMI and risk difference, from load counts. */
int view_stat_npmi(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
int view_stat_settings(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e); /* ignores all of f but the run */
int view_stat_cache(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e); /* a row per phase; ignores the domain */

/* Energy per token, a row per phase: of the machine's processor packages, all that it did meanwhile
 * counted; ignores all of f but run and phase. Without a measurement no rows, and `why`. */
int view_stat_energy(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);

/* ---- tables that the report draws; keys in docs/METRICS.md, "In the report" ---- */

/* Balance over time: a row per layer and window, at most `windows` of equal length. */
int view_course(struct reader *r, const struct load_filter *f, unsigned windows,
	struct view_table *out, struct moe_err *e);
/* Quantiles of margins and token entropies, a row per layer; the sample of f counts. */
int view_spread(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);
/* The `top` (<= 16) token ids that each expert is most the expert of, of the first `layers` MoE
 * layers (0 = all); text where the run kept it. The sample of f counts only for the tokens. */
int view_words(struct reader *r, const struct load_filter *f, unsigned top, unsigned layers,
	struct view_table *out, struct moe_err *e);
/* Wall time per token of finished sequences, a row per domain; ignores all of f but the run. */
int view_pace(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e);

/* hits / (hits + misses), NAN without either. */
double view_hit_rate(const struct moe_cache_use *c);

/* ---- typed views: what the dashboard and the report draw ---- */

/* Balance of one layer (reference: Load balance and Router in docs/METRICS.md). */
struct view_layer {
	uint16_t layer, n_expert, k;
	uint64_t tokens;
	double max_mean, max_vio, cv, gini, entropy_norm, n_eff, n2;
	double dead, cold;          /* fractions of the experts */
	unsigned n_dead, n_cold, coverage90, top_expert;
	double top_rate;            /* picks of the busiest expert / tokens */
	double p_dead_chance;       /* probability that one given expert stays unpicked by chance */
	double aux_loss, z_loss, token_entropy, mi_token, confidence, margin; /* NAN without scores */
	double *rel;                /* [n_expert] relative load, 1 = fair share */
	uint64_t *counts;           /* [n_expert] */
	double *weights;            /* [n_expert] sum of gate weights */
};
struct view_layers { size_t n; struct view_layer *layer; };
int view_layers(struct reader *r, const struct load_filter *f, struct view_layers *out,
	struct moe_err *e);
/* The same from load that was read already; takes over what is in s, also on -1. */
int view_layers_of(struct load_set *s, struct view_layers *out, struct moe_err *e);
void view_layers_free(struct view_layers *v);

/* Does the model specialise, and is it real? One per (MoE layer); needs detail >= routes and at
 * least two domains with two documents each, else n = 0 and why says so. */
struct view_spec_cell {          /* layer x domain */
	unsigned expert;             /* strongest expert of this domain at this layer */
	double rel, lo, hi;          /* its relative load in the domain; 95 % bootstrap by document */
	double null_p95;             /* what the strongest reaches with labels shuffled by document */
	int proven;                  /* lo > null_p95 */
	/* Is it the domain or only its token ids? On the share token_share of the domain's tokens
	 * whose ids other domains have too: this expert's relative load, and what it would be if
	 * they were routed as those ids are in the other domains. NAN where it cannot be told. */
	double token_share, token_rel, token_control;
};
struct view_spec_layer {
	uint16_t layer, n_expert, k;
	double mi, mi_lo, mi_hi;     /* MI(domain; expert), bits, with bootstrap interval */
	double nmi, null_mean, null_p95, bias; /* bias: Miller-Madow, bits */
	double *jsd;                 /* [n_domain][n_domain], bits */
	double *rel;                 /* [n_domain][n_expert] */
	struct view_spec_cell *cell; /* [n_domain] */
};
struct view_spec {
	size_t n_domain, n_layer;
	struct domain_info *domain;  /* [n_domain] */
	struct view_spec_layer *layer;
	unsigned n_boot, n_shuffle;
	char why[256];
};
/* n_boot = n_shuffle = 0 takes the defaults (200, 200); results are the same for the same seed. */
int view_specialisation(struct reader *r, const struct load_filter *f, unsigned n_boot,
	unsigned n_shuffle, uint64_t seed, struct view_spec *out, struct moe_err *e);
void view_spec_free(struct view_spec *v);
/* How clear a claim is: its relative load over what shuffled labels reach; 0 without a null. In a
 * collapsed layer one expert is busy in every domain, and so in every shuffled one. */
double view_spec_lead(const struct view_spec_cell *c);
/* The layer (index) of a domain's clearest claim, a proven one before any other; -1 if none. */
int view_spec_clearest(const struct view_spec *v, size_t domain);

/* Alarms: rules in one table (src/view/alarm_rules.c), each with its evidence. */
enum view_severity { VIEW_NOTE, VIEW_WARNING, VIEW_ALARM };
struct view_alarm {
	enum view_severity severity;
	char kind[24];        /* "collapse", "dead", "gap", "nan", ... */
	int layer;            /* -1 = none */
	int64_t since;        /* ns since 1970, start of the first bucket of the present spell */
	double value, threshold;
	char text[192];       /* "layer 2: E3+E11 take 71 % of picks (fair share 12.5 %)" */
	char sql[480];        /* shows the evidence in `moescope sql` */
};
struct view_alarms { size_t n; struct view_alarm *alarm; }; /* worst first */
int view_alarms(struct reader *r, const struct load_filter *f, struct view_alarms *out,
	struct moe_err *e);
/* The same for a screen that asks again and again: what is known is not read again. One thread uses
 * a memory, with readers of one file; _forget when that was replaced. */
struct view_alarm_memory;
struct view_alarm_memory *view_alarm_memory_new(struct moe_err *e);
void view_alarm_memory_forget(struct view_alarm_memory *m);
void view_alarm_memory_free(struct view_alarm_memory *m);
int view_alarms_follow(struct reader *r, const struct load_filter *f, struct view_alarm_memory *m,
	struct view_alarms *out, struct moe_err *e);
void view_alarms_free(struct view_alarms *v);

/* The same with other thresholds, and with more tokens read by the rules that look at single
 * decisions (0 = the few thousand that a live screen affords). */
/* INFINITY = off */
struct view_limit { char kind[24]; enum view_severity severity; double value; };
struct view_limits { size_t n; struct view_limit *limit; };
int view_alarms_with(struct reader *r, const struct load_filter *f,
	const struct view_limits *limits, uint64_t scan, struct view_alarms *out, struct moe_err *e);
/* Reads "kind severity value" lines, '#' begins a comment, value "off" turns it off; appends.
 * `name` is for errors, which name the line. */
int view_limits_parse(const char *text, const char *name, struct view_limits *out,
	struct moe_err *e);
void view_limits_free(struct view_limits *l);
/* The rules and their thresholds, changed by limits (may be NULL). */
int view_rules_table(const struct view_limits *limits, struct view_table *out, struct moe_err *e);
int view_alarms_table(const struct view_alarms *v, struct view_table *out, struct moe_err *e);

/* The head line of every screen and page. */
struct view_summary {
	struct run_info run;
	uint64_t tokens, decisions;      /* in the filter; a decision = one token at one layer */
	double prefill_tps, decode_tps;  /* tokens / busy second over the filter's buckets; NAN */
	uint64_t edited;                 /* decisions that a hook changed */
	struct moe_cache_use cache;      /* of the filter's phase and buckets; zeros without one */
	double lag_ms;                   /* oldest undelivered decision at the last commit */
	double elapsed_s;
	size_t n_domain;
	double bpb;                      /* bits per byte of scored text, NAN */
	double dropped_at_cf125;         /* worst layer: share of picks over capacity 1.25 if the
	                                    whole selection were one batch (a lower bound) */
};
int view_summary(struct reader *r, const struct load_filter *f, struct view_summary *out,
	struct moe_err *e);
/* The fields that follow from the run and its load. */
void view_summary_load(const struct load_set *s, struct view_summary *out);

/* The sentence that a report opens with, from the same figures: "Routing is balanced ...". */
int view_verdict(const struct view_summary *s, const struct view_layers *l,
	const struct view_alarms *a, const struct view_spec *sp, char *out, size_t size);

#endif
