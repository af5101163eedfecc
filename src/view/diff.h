/*
 * diff.h - two runs: base and fine-tune, F16 and Q4, one engine and another.
 *
 * Load shift needs two runs of the same shape. Set mismatch needs the same tokens in both:
 * decisions are matched by the engine's sequence number and the position, and count only where the
 * token id is the same. Evidence is counted in documents: intervals draw documents with
 * replacement; the null swaps the runs of whole documents at random where both have them, else
 * deals the documents to the runs anew. Fixed seed: the same databases give the same figures.
 */
#ifndef VIEW_DIFF_H
#define VIEW_DIFF_H

#include "view/view.h"

struct diff_expert { double rate_a, rate_b, shift, lo, hi; }; /* picks / tokens; B - A; 95 % */

struct diff_layer {
	int layer;                   /* -1 = all layers pooled */
	unsigned n_expert, k;
	uint64_t tokens_a, tokens_b; /* behind the loads */
	double jsd, l1;              /* of the experts' shares: bits; sum |p - q| */
	double null_p95, p_value;    /* JSD with runs shuffled by document; share of these >= jsd */
	unsigned top;                /* expert whose rate moved most */
	struct diff_expert *expert;  /* [n_expert]; NULL when pooled */
	uint64_t compared, differ;   /* decisions on the same token */
	double mismatch, lo, hi;     /* differ / compared, 95 % by document */
	double saturation;           /* mean |A and B| / k */
	double explained;            /* share of the differing decisions whose margin in A is <
	                                epsilon */
	double margin_flips, margin_all; /* mean finite margin in A of those, of all */
};

struct diff {
	struct run_info a, b;
	size_t n;                    /* layers; layer[n] is the pooled row */
	struct diff_layer *layer;    /* [n + 1] */
	uint64_t tokens_a, tokens_b, matched; /* tokens in order; on both sides with the same id */
	uint64_t touched;            /* matched tokens with a differing set at some layer */
	int first;                   /* lowest layer at which any set differs, -1 = none */
	double first_mean;           /* mean over the touched tokens of their first layer; NAN */
	size_t documents;            /* that the evidence is counted in */
	int paired;                  /* do both have the same documents? */
	double epsilon;
	char why[320];
};

/* fa, fb select a run of each database; ra and rb may be the same reader. */
int view_diff(struct reader *ra, const struct load_filter *fa, struct reader *rb,
	const struct load_filter *fb, double epsilon, struct diff *out, struct moe_err *e);
void view_diff_free(struct diff *d);
int view_diff_table(const struct diff *d, struct view_table *out, struct moe_err *e);
int view_diff_experts(const struct diff *d, struct view_table *out, struct moe_err *e);

#endif
