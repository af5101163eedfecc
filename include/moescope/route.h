/*
 * route.h - a router as a pure function: (specification, logits) -> choice.
 *
 * The engine, replay, explanation, simulators and tests all call moe_route(). Stages, in order:
 *
 *   score      logits -> scores, over ALL experts
 *   bias       selection score = score + bias[e]; the gate weight never sees the bias
 *   groups     per group the sum of its two best selection scores; only the best groups stay
 *   select     top-k by selection score, descending; ties go to the lowest expert id
 *   weights    from the unbiased scores of the selected experts
 *
 * Follows build_moe_ffn of llama.cpp, the loader that defines what a GGUF means in practice.
 * A NaN or +inf among the logits sets MOE_EV_NAN, selects experts 0..k-1 and gives them weight 0.
 */
#ifndef MOESCOPE_ROUTE_H
#define MOESCOPE_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

enum moe_score { MOE_SCORE_SOFTMAX, MOE_SCORE_SIGMOID, MOE_SCORE_SQRT_SOFTPLUS, MOE_SCORE_NONE };

enum moe_weight {
	MOE_WEIGHT_RAW,    /* the score itself */
	MOE_WEIGHT_NORM,   /* divided by the sum of the selected scores, that sum at least 2^-14 */
	MOE_WEIGHT_SOFTMAX, /* softmax over the selected scores (use with MOE_SCORE_NONE) */
	MOE_WEIGHT_SIGMOID /* sigmoid of the selected score (likewise): sigmoids tie long
	                      before logits do */
};

struct moe_route_spec {
	uint16_t n_expert;     /* 1..MOE_MAX_EXPERT */
	uint16_t k;            /* 1..n_expert */
	enum moe_score score;
	enum moe_weight weight;
	float scale;           /* multiplies the weights; 0 and 1 mean none */
	uint16_t n_group;      /* 0 or 1 = no groups; must divide n_expert */
	uint16_t n_group_used; /* 1..n_group */
};

/* One choice; arrays are the caller's. */
struct moe_choice {
	uint16_t *experts; /* [k], rank order */
	float *weights;    /* [k] */
	float margin;      /* selection score of rank k minus rank k+1 (masked groups excluded) */
	uint8_t flags;     /* MOE_EV_NAN or 0 */
};

/* Is the specification possible? -1 with the numbers in e if not. */
int moe_route_check(const struct moe_route_spec *s, struct moe_err *e);

/* Route one token. logits [n_expert]; bias [n_expert] or NULL; scratch [2 * n_expert] floats.
 * Pure: equal inputs give equal bits, on every machine. The specification must have been
 * checked. */
void moe_route(const struct moe_route_spec *s, const float *logits, const float *bias,
	float *scratch, struct moe_choice *out);

/* The scores of stage 1 alone, over all experts: scores [n_expert]. */
void moe_route_scores(const struct moe_route_spec *s, const float *logits, float *scores);

/* "softmax > top-2 of 16 > renormalised": one line for people and for the run's descriptor.
 * Returns what snprintf would. */
int moe_route_describe(const struct moe_route_spec *s, char *out, size_t size);

/* "softmax", "sigmoid", "sqrt_softplus", "none". */
const char *moe_route_score_name(enum moe_score s);

/* A preset by name ("mixtral", "olmoe", "qwen2moe", "qwen3moe", "deepseek-v3", "gpt-oss", ...):
 * fills score, weight and scale, keeps n_expert, k and groups as they are. -1 if unknown. */
int moe_route_preset(const char *name, struct moe_route_spec *s, struct moe_err *e);

/* Name of preset i, or NULL after the last. */
const char *moe_route_preset_name(size_t i);

/*
 * ---- routers that look at a batch ----
 *
 * The stages are the same, with other kinds of selection and a limit per expert at the end:
 *
 *	select    top-k; noisy top-k (Shazeer et al., arXiv 1701.06538, eq. 3-5: logits + noise times a
 *	          standard normal draw); top-2 with a random second (GShard, arXiv 2006.16668,
 *	          algorithm 1: the second is sent with probability 2 g2); two levels (arXiv
 *	          1701.06538, appendix B: best groups by their total, then the best inside each);
 *	          Sinkhorn (Clark et al., arXiv 2202.01169: scores made doubly stochastic, then
 *	          top-k); balanced assignment (BASE layers, arXiv 2103.16716: top-1, at most
 *	          ceil(n / E) tokens for each expert, the largest sum of logits; solved exactly);
 *	          expert choice (Zhou et al., arXiv 2202.09368: each expert takes its best tokens);
 *	          hash of the token id (arXiv 2106.04426)
 *	capacity  C = ceil(n k / E * factor) picks per expert; all first choices queue before all second
 *	          ones, each in order of position (GShard), or the largest weights stay
 */
enum moe_select { MOE_SELECT_TOPK, MOE_SELECT_NOISY, MOE_SELECT_RANDOM2, MOE_SELECT_TWO_LEVEL,
	MOE_SELECT_SINKHORN, MOE_SELECT_EXPERT_CHOICE, MOE_SELECT_HASH, MOE_SELECT_BALANCED };
enum moe_overflow { MOE_OVER_NONE, MOE_OVER_POSITION, MOE_OVER_WEIGHT };

struct moe_batch_spec {
	struct moe_route_spec route; /* two levels: n_group groups, k / n_group_used
	                                experts in each used */
	enum moe_select select;
	enum moe_overflow over;
	double factor;      /* capacity factor; > 0 for a limit and for expert choice */
	double noise;       /* noisy top-k: standard deviation */
	double bias_step;   /* > 0: after the batch bias[e] += bias_step * sign(mean - count[e]), the
	                       loss-free balancing of arXiv 2408.15664 */
	uint64_t seed;      /* of what is drawn and of the hash; the batch's number is mixed in */
};

/* unsent: a second choice that was not drawn */
enum moe_fate { MOE_SENT, MOE_DROPPED, MOE_UNSENT };

struct moe_batch_in {
	size_t n;
	uint64_t number;         /* of the batch, so that draws differ between batches */
	const float *logits;     /* [n][n_expert], finite or -inf */
	const int32_t *token;    /* [n]; needed by hash only */
};

struct moe_batch_out {       /* the caller's arrays; slots = moe_batch_slots() */
	uint16_t *n_pick;        /* [n] */
	uint16_t *experts;       /* [n][slots], rank order (expert choice: by weight) */
	float *weights;          /* [n][slots] */
	uint8_t *fate;           /* [n][slots] enum moe_fate */
};

int moe_batch_check(const struct moe_batch_spec *s, struct moe_err *e);
/* Most picks of one token: k, or n_expert for expert choice. */
size_t moe_batch_slots(const struct moe_batch_spec *s);
/* bias [n_expert]: selection bias, moved where bias_step says so; NULL = none. A token with a NaN
 * picks nothing. -1 only without memory. */
int moe_route_batch(const struct moe_batch_spec *s, const struct moe_batch_in *in, float *bias,
	struct moe_batch_out *out, struct moe_err *e);

/* "switch", "gshard", "glam", "noisy", "two-level", "base", "sinkhorn", "expert-choice", "hash",
 * "group-limited", "loss-free", or any name of moe_route_preset (no capacity): for a layer of
 * n_expert experts whose own choice is k. -1 if unknown or impossible for that shape. */
int moe_batch_preset(const char *name, unsigned n_expert, unsigned k, struct moe_batch_spec *s,
	struct moe_err *e);
/* NULL after the last; those of moe_route_preset not */
const char *moe_batch_preset_name(size_t i);

#endif
