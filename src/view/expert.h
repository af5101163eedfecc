/*
 * expert.h - who is one expert? One pass over the single decisions of its layer and its neighbours.
 *
 * Memory is bounded by the vocabulary and the model's shape. Where a selection has more tokens than
 * `most`, the first of each domain are read, as many of each, and `why` says so. Decisions whose
 * logits held a NaN are no choices and are left out. Needs detail `routes` or more.
 */
#ifndef VIEW_EXPERT_H
#define VIEW_EXPERT_H

#include "view/view.h"

enum { VIEW_EXPERT_LIST = 16, VIEW_TOKEN_BYTES = 24 };

/* A token id; those with the largest excess = picks - seen * (picks of all / tokens) come first. */
struct view_expert_token {
	int32_t id;
	uint64_t picks, seen;  /* decisions on this token that pick the expert, all */
	double excess;
	int len;               /* bytes of its text, -1 = the text was not logged */
	char bytes[VIEW_TOKEN_BYTES]; /* the beginning of it; hostile, may be cut inside a character */
};

/* Another expert; those with the largest given - alone come first. */
struct view_expert_peer {
	unsigned expert;
	uint64_t together;
	double given, alone;   /* share of this expert's tokens that pick it; of all tokens */
};

/* rel: share of the domain's tokens that pick the expert, in fair shares k/E. The interval
 * (normal, 95 %) takes documents as the units: ratio estimate, var = m/(m-1) * sum (x_i - r n_i)^2
 * / (sum n_i)^2 over m documents (Cochran, Sampling Techniques, 6.4); NAN for one document. */
struct view_expert_domain {
	struct domain_info info;
	uint64_t docs, tokens, picks;
	double rel, lo, hi;
};

struct view_expert {
	uint16_t layer, n_expert, k;
	unsigned expert;
	uint64_t tokens, picks;       /* decisions read, those that pick the expert */
	double mean_weight;           /* gate weight of its picks; NAN where none is kept */
	double mean_margin;           /* finite margins of the decisions that pick it; NAN */
	uint64_t *rank;               /* [k] picks at each rank */
	size_t n_token, n_next, n_partner, n_up, n_down, n_domain;
	struct view_expert_token token[VIEW_EXPERT_LIST]; /* read when it was picked */
	struct view_expert_token next[VIEW_EXPERT_LIST];  /* that followed; seen: how often in all */
	struct view_expert_peer partner[VIEW_EXPERT_LIST]; /* same layer */
	struct view_expert_peer up[VIEW_EXPERT_LIST], down[VIEW_EXPERT_LIST];
	int up_layer, down_layer;     /* the MoE layers before and after, -1 = none */
	struct view_expert_domain *domain; /* [n_domain], largest rel first; without named: n_domain
	                                      0 */
	char why[256];
};

/* li: index of the MoE layer. most 0 = all. The filter's buckets are ignored. */
int view_expert(struct reader *r, const struct load_filter *f, size_t li, unsigned expert,
	uint64_t most, struct view_expert *out, struct moe_err *e);
void view_expert_free(struct view_expert *v);

#endif
