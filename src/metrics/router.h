/*
 * router.h - what the router's scores say, from sums over tokens. Pure functions.
 *
 * All of these need the full softmax over the router's logits, whatever score the model selects
 * with: softmax-after-top-k values are not comparable and are not used here.
 */
#ifndef METRICS_ROUTER_H
#define METRICS_ROUTER_H

#include <stddef.h>
#include <stdint.h>

/* Sums over the tokens of one layer; the arrays are borrowed. */
struct metrics_router_sums {
	size_t n_expert;
	const uint64_t *counts; /* [n_expert] picks */
	const double *probs;    /* [n_expert] sum of the softmax; its total is the number of tokens that
	                           had usable scores, for each token adds 1 */
	double lse2;            /* sum of logsumexp(logits)^2 */
	double entropy;         /* sum of the softmax's entropy, nats */
	double confidence;      /* sum of the selected softmax probabilities */
	double margin;          /* sum of the finite margins */
	uint64_t n_margin;      /* how many were finite */
};

struct metrics_router {
	double scored;        /* tokens with usable scores; 0 = every figure but margin is NAN */
	double aux_loss;      /* E sum f_e P_e, f_e = c_e / S, P_e = mean softmax; 1 = uniform. Switch
	                         Transformer (arXiv 2101.03961, eq. 4) with f over all k picks */
	double z_loss;        /* mean logsumexp^2 (ST-MoE, arXiv 2202.08906, eq. 5) */
	double token_entropy; /* mean H(p_t) / ln E, 0..1; NAN for E = 1 */
	double mi_token;      /* H(mean p) - mean H(p), bits: MI between token and expert */
	double confidence;    /* mean sum of the selected probabilities */
	double margin;        /* mean of s_(k) - s_(k+1) on the selection scores; NAN if k = E */
};

void metrics_router(const struct metrics_router_sums *s, struct metrics_router *out);

/* One step of loss-free balancing (arXiv 2408.15664, algorithm 1): bias [n_expert] moves by
 * u sign(mean c - c_e), in place. */
void metrics_bias_step(const uint64_t *counts, size_t n_expert, double u, double *bias);

#endif
