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
	MOE_WEIGHT_SIGMOID /* sigmoid of the selected score (likewise): sigmoids tie long before logits do */
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
 * Pure: equal inputs give equal bits, on every machine. The specification must have been checked. */
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

#endif
