/*
 * balance.h - how evenly one MoE layer spreads its picks over its experts. Pure functions.
 *
 * Notation, per layer, never averaged over layers by expert index: T tokens, E routed experts,
 * k picks per token, c_e = picks of expert e, S = sum of c = T k, p_e = c_e / S. Standard
 * deviations are of the population, entropies in nats.
 *
 * Where a figure has no value (nothing was picked; the entropy of one expert cannot be
 * normalised) it is NAN, never 0.
 */
#ifndef METRICS_BALANCE_H
#define METRICS_BALANCE_H

#include <stddef.h>
#include <stdint.h>

struct metrics_balance {
	uint64_t picks;       /* S */
	double max_mean;      /* max c / mean c; 1 = perfectly even, E = one expert takes all */
	double max_vio;       /* max c / mean c - 1 (arXiv 2408.15664, eq. 4) */
	double cv;            /* sigma(c) / mean c */
	double gini;          /* 2 sum(i c_(i)) / (E S) - (E+1)/E, c ascending, i from 1 */
	double entropy_norm;  /* H / ln E; NAN for E = 1 */
	double n_eff;         /* e^H, effective experts */
	double n2;            /* 1 / sum p^2; CV^2 = E/N_2 - 1 */
	double dead, cold;    /* fractions of E: c_e = 0; c_e E / S < METRICS_COLD (dead ones too) */
	unsigned n_dead, n_cold;
	unsigned coverage90;  /* fewest experts that together take 90 % of the picks */
	unsigned top_expert;  /* busiest; the lowest id of equals */
};

#define METRICS_COLD 0.1 /* relative load below which an expert counts as cold */

/* counts [n_expert] -> *out. sorted: scratch [n_expert], afterwards the counts in ascending order.
 * n_expert > 0. All zero counts: every double is NAN, the integers are 0. */
void metrics_balance(const uint64_t *counts, size_t n_expert, uint64_t *sorted,
	struct metrics_balance *out);

/* Relative loads c_e E / S: counts [n_expert] -> rel [n_expert]; NAN where S = 0. */
void metrics_rel_load(const uint64_t *counts, size_t n_expert, double *rel);

/* Fewest experts that together take at least `share` (0..1] of the picks; sorted ascending. */
unsigned metrics_coverage(const uint64_t *sorted, size_t n_expert, double share);

/* Share of the picks that the n busiest experts take; sorted ascending; NAN where S = 0. */
double metrics_top_share(const uint64_t *sorted, size_t n_expert, size_t n);

/* Probability that one given expert stays unpicked in T tokens if every set of k is equally likely
 * and tokens are independent: (1 - k/E)^T. Tokens of a text are alike, so this is too small
 * rather than too large: allow for it before calling a zero evidence. */
double metrics_dead_chance(uint64_t tokens, size_t n_expert, unsigned k);

/* Upper bound on the probability that ANY expert reaches `picks` or more of T tokens (tail > 0), or
 * stays at `picks` or fewer (tail < 0), under the same assumption: E exp(-T KL(picks/T || k/E)),
 * Chernoff with a union bound, at most 1. 1 also on the wrong side of the mean. */
double metrics_load_chance(uint64_t picks, uint64_t tokens, size_t n_expert, unsigned k, int tail);

/* Serving engines' one figure over ranks (or experts): loads [n_layer][n] -> a number, NAN if it
 * has none. sglang: mean over layers of (mean + 1e-5)/(max + 1e-5). pooled (vLLM): sum over layers
 * of the means / sum of the maxima. */
double metrics_balancedness_sglang(const double *loads, size_t n_layer, size_t n);
double metrics_balancedness_pooled(const double *loads, size_t n_layer, size_t n);

#endif
