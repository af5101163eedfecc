/*
 * plan.h - sizing a deployment: memory, cost per token, speed bounds, traffic, cache; from a
 * model's sizes alone (uniform routing) and, where a trace is given, with the skew that it shows.
 *
 * Rows of one page, ready to print. A bound is what the arithmetic allows, not a promise.
 */
#ifndef VIEW_PLAN_H
#define VIEW_PLAN_H

#include "sim/model.h"
#include "view/view.h"

struct plan_opt {
	double bandwidth;   /* GB/s of the memory that holds the weights */
	double gpu_mem;     /* GB of one device; a tenth is kept for activations */
	double cache_mem;   /* GB of fast memory, if the experts do not fit */
	double slow;        /* GB/s from where experts are loaded otherwise */
	double act_bytes;   /* of an activation on the wire */
	double kv_bytes;    /* of a number in the KV cache */
	unsigned ctx, users; /* tokens of context, sequences at a time */
	const char *quant;  /* name of a row of plan_quant_name; NULL = as stored, else BF16 */
};
void plan_opt_init(struct plan_opt *o);

struct plan_in {
	struct sim_size size;
	const struct sim_model *preset; /* NULL: a model file */
	const char *title, *quant;      /* quant: as stored, for people */
	double stored_expert;           /* bytes of one routed expert as stored; NAN = no file */
	double stored_rest;             /* bytes of everything else */
};

enum plan_section { PLAN_SIZE, PLAN_MEMORY, PLAN_COST, PLAN_SPEED, PLAN_NETWORK, PLAN_CACHE };
struct plan_row {
	enum plan_section section;
	const char *item, *unit;        /* static */
	char what[48];                  /* which case: "Q4_K", "batch 8", "8 ranks"; "" */
	const char *basis;              /* "computed", "published", "uniform", "trace", "assumed",
	                                   ... */
	double value;                   /* never NaN: what cannot be said has no row */
};
struct plan { size_t n, cap; struct plan_row *row; char why[512]; };

/* r NULL = no trace. A trace of another shape is refused. */
int plan_make(const struct plan_in *in, const struct plan_opt *o, struct reader *r,
	const struct load_filter *f, struct plan *out, struct moe_err *e);
void plan_free(struct plan *p);
int plan_table(const struct plan *p, struct view_table *out, struct moe_err *e);
const char *plan_quant_name(size_t i); /* NULL after the last */

/* The table of presets: computed and published sizes, source, note. */
int plan_presets(struct view_table *out, struct moe_err *e);

/* "46.7 G", three digits and a unit of 1000. */
const char *plan_human(double x, char out[32]);

#endif
