/*
 * whatif.h - what if the same tokens had met another capacity, top-k, cache, router or placement?
 *
 * Each question is a function from a reader, a filter and options to plain rows, and one that makes
 * a table of them. A row's layer is the layer's index in the model, -1 = all layers pooled
 * (sums over layers; never an average over experts by index). What a trace cannot answer is NAN in
 * a row, or no rows, and `why` says what is missing. Definitions: docs/METRICS.md, "What if".
 *
 * Batches are consecutive tokens of the log in order of sequence and position, across sequences.
 */
#ifndef VIEW_WHATIF_H
#define VIEW_WHATIF_H

#include "sim/cache.h"
#include "sim/capacity.h"
#include "sim/place.h"
#include "view/view.h"
#include "view/walk.h"

enum { WHATIF_LIST = 16, WHATIF_REROUTE = 16 };

struct whatif_opt {
	uint32_t batch;                  /* tokens; capacity and re-routing work per batch */
	double factor[WHATIF_LIST];      /* capacity factors */
	unsigned topk[WHATIF_LIST], prune[WHATIF_LIST], slots[WHATIF_LIST], rank[WHATIF_LIST];
	size_t n_factor, n_topk, n_prune, n_slots, n_rank; /* 0 = choose by the model's shape */
	unsigned keep;                   /* max-rank: J; 0 = half of k, at least 1 */
	int global;                      /* cache: one budget for all layers instead of one each */
	double expert_bytes;             /* 0 = estimate from the model's size */
	size_t ranks, nodes, groups, spare; /* cluster; spare = replicas beyond one of each expert */
	unsigned width;                  /* d_model; 0 = unknown: no bytes */
	double act_bytes;                /* bytes of one activation on the wire */
	double link, net;                /* GB/s of a rank: inside its node, to other nodes */
	double link_pj, net_pj;          /* pJ per bit */
	const char *reroute[WHATIF_REROUTE]; /* presets */
	size_t n_reroute;
	double capacity;                 /* factor of presets that have a capacity; 0 = the preset's */
	uint64_t seed;                   /* of routers that draw */
	int layers;                      /* 1 = tables list every layer, 0 = only pooled rows */
	int threads;                     /* as for scan_run(); the figures do not depend on it */
};
/* Defaults of everything that has one. */
void whatif_opt_init(struct whatif_opt *o);

/* ---- capacity ---- */

struct whatif_drop {
	int layer;
	double factor;
	enum sim_drop policy;
	uint64_t tokens, picks, dropped, moved, tokens_lost; /* lost: tokens with all picks dropped */
	double lost_weight;              /* dropped gate weight / all gate weight */
	double decile[10];               /* share of the picks dropped, by tenth of the batch */
	int worst;                       /* pooled rows: layer with the largest share dropped */
	double worst_share;
};
struct whatif_drops { size_t n; struct whatif_drop *row; uint32_t batch; char why[256]; };
int whatif_capacity(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_drops *out, struct moe_err *e);

/* ---- top-k ---- */

struct whatif_k {
	int layer;
	unsigned k, k_new;
	uint64_t tokens;
	double lost_weight;              /* k_new < k: gate weight of the ranks left out / all */
	double mass;                     /* mean softmax probability of the k_new best;
	                                    NAN without scores */
	double max_mean;                 /* balance of the new picks; NAN when pooled */
};
struct whatif_ks { size_t n; struct whatif_k *row; char why[256]; };
int whatif_topk(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_ks *out, struct moe_err *e);

/* ---- pruning ---- */

struct whatif_cut {
	int layer;
	unsigned n, n_expert;            /* the n coldest of the layer's experts go */
	uint64_t picks, tokens;
	double lost_picks, lost_weight;  /* shares of picks, of gate weight */
	double touched, lost_tokens;     /* share of tokens that lose a pick, all picks; NAN without
	                                    single decisions */
	double mass;                     /* mean of (softmax mass of the best k that stay) / (of the
	                                    recorded k); NAN without scores */
	char *experts;                   /* "3 7 12"; NULL when pooled */
};
struct whatif_cuts { size_t n; struct whatif_cut *row; char why[256]; };
int whatif_prune(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_cuts *out, struct moe_err *e);

/* ---- expert cache ---- */

struct whatif_hit {
	int layer;
	enum sim_cache_policy policy;
	size_t slots, experts;           /* held at most, of how many; over all layers when pooled */
	uint64_t tokens, accesses, hits;
	double bytes_per_token;          /* loaded; NAN where an expert's size is unknown */
	double budget_bytes;             /* slots * bytes of an expert */
};
struct whatif_hits { size_t n; struct whatif_hit *row; double expert_bytes; char why[256]; };
int whatif_cache(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_hits *out, struct moe_err *e);

/* ---- cache-aware routing ---- */

struct whatif_aware {
	int layer;
	size_t slots;
	unsigned keep, rank;             /* J, M; M = k is the recorded routing */
	uint64_t tokens, accesses, hits;
	double agreement;                /* mean |new set and recorded set| / k */
	double same;                     /* share of tokens with the same set */
	double kl, kl_recorded;          /* mean KL(softmax on the set || softmax), nats */
	double bytes_per_token;
};
struct whatif_awares { size_t n; struct whatif_aware *row; char why[256]; };
int whatif_cache_routing(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_awares *out, struct moe_err *e);

/* ---- expert parallelism ---- */

struct whatif_place {
	int layer;
	enum sim_place policy;
	size_t slots;
	uint64_t tokens;
	double max_mean;                 /* busiest rank over the mean; pooled: sum of maxima / of
	                                    means */
	double sglang, pooled, least, p50, p90, mean; /* balancedness of the layers, pooled rows only */
	double ranks_per_token, nodes_per_token; /* distinct, in a layer; pooled: their mean */
	double a2a_bytes, cross_bytes;   /* per token, both ways; pooled: summed; NAN without the
	                                    width */
	double cross_share;              /* cross_bytes / a2a_bytes */
	double us, joule;                /* per token: time on the wires, energy */
	uint16_t *map;                   /* [slots] slot -> expert; NULL when pooled */
};
struct whatif_places { size_t n; struct whatif_place *row; char why[256]; };
int whatif_placement(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_places *out, struct moe_err *e);

/* ---- other routers ---- */

struct whatif_route {
	int layer;
	const char *preset;              /* static */
	unsigned k;
	uint64_t tokens, picks, dropped, tokens_lost;
	double changed;                  /* 1 - mean |new set and recorded set| / |recorded set| */
	double same;                     /* share of tokens with the same set */
	double lost_weight;              /* gate weight of the dropped picks / of all */
	double per_token;                /* picks that are computed, per token */
	double max_mean, entropy_norm;   /* of the computed picks; pooled: the worst layer, NAN */
	double mass;                     /* mean softmax probability of the computed picks' experts */
};
struct whatif_routes { size_t n; struct whatif_route *row; char why[256]; };
int whatif_reroute(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_routes *out, struct moe_err *e);

/* ---- as tables; each frees nothing of its input ---- */

enum whatif_section { WHATIF_CAPACITY, WHATIF_TOPK, WHATIF_PRUNE, WHATIF_CACHE, WHATIF_AWARE,
	WHATIF_PLACE, WHATIF_ROUTE, WHATIF_N };
const char *whatif_section_title(enum whatif_section s);
/* Answer a section as a table. */
int whatif_table(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	enum whatif_section s, struct view_table *out, struct moe_err *e);

void whatif_drops_free(struct whatif_drops *v);
void whatif_ks_free(struct whatif_ks *v);
void whatif_cuts_free(struct whatif_cuts *v);
void whatif_hits_free(struct whatif_hits *v);
void whatif_awares_free(struct whatif_awares *v);
void whatif_places_free(struct whatif_places *v);
void whatif_routes_free(struct whatif_routes *v);

/* ---- shared by the files that answer; views only ---- */


/* What a question is asked of. */
struct whatif_case {
	struct reader *r;
	const struct load_filter *f;
	const struct whatif_opt *o;
	struct run_info *u;
	size_t n_layer;
	unsigned k, n_expert;            /* the largest of any layer */
	int singles, full, weights;      /* does the run keep single decisions, scores, gate weights */
	int workers;                     /* threads that call `layer`: each needs its own scratch */
	char *why;
	size_t why_size;
};
/* A question, of figures s that begin as zeros: open() makes room, layer() sees every batch of
 * every layer (NULL = none), finish() concludes. Each may be missing; close() is called in any
 * case. */
struct whatif_kind {
	int scores;                      /* 1 = no answer without router scores */
	int counts;                      /* 1 = some answer without single decisions */
	unsigned want;                   /* enum scan_want; SCAN_LOGITS only where the run has them */
	int (*open)(void *s, const struct whatif_case *c, struct moe_err *e);
	walk_fn *layer;
	void (*finish)(void *s, const struct whatif_case *c);
	void (*close)(void *s);
};
int whatif_answer(const struct whatif_kind *kind, void *s, struct reader *r,
	const struct load_filter *f, const struct whatif_opt *o, char *why, size_t size,
	struct moe_err *e);

/* Bytes of one routed expert, from the options or from the model's size; NAN if unknown. */
double whatif_expert_bytes(const struct run_info *u, const struct whatif_opt *o);
/* Experts of a layer that are not in its choice, best logit first, behind the choice: rank
 * [n_expert]; the first k are the recorded ones. Only `most` are put in order. */
void whatif_ranking(const uint16_t *set, unsigned k, const float *logits, unsigned n_expert,
	unsigned most, uint16_t *rank);
/* Softmax over logits [n] into p; -inf gives 0. */
void whatif_softmax(const float *logits, unsigned n, double *p);

#endif
