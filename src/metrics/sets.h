/*
 * sets.h - how the sets of experts of tokens relate: locality in time and co-activation.
 *
 * A set is k distinct expert ids < n_expert in rank order (best first), as an event has them. All
 * accumulators are plain sums: start from zero, add, read out.
 */
#ifndef METRICS_SETS_H
#define METRICS_SETS_H

#include <stddef.h>
#include <stdint.h>

/* ---- locality: consecutive tokens of a sequence (Mixtral, arXiv 2401.04088, table 5) ---- */

struct metrics_locality {
	uint64_t pairs;   /* pairs of consecutive tokens */
	uint64_t first;   /* of these: same first choice */
	uint64_t any;     /* of these: at least one expert in common */
	double overlap;   /* sum of |A and B| / k */
	double jaccard;   /* sum of |A and B| / |A or B| */
};

/* Size of the intersection of a [k] and b [k]; ids < MOE_MAX_EXPERT. */
unsigned metrics_overlap(const uint16_t *a, const uint16_t *b, unsigned k);

void metrics_locality_add(struct metrics_locality *s, const uint16_t *prev, const uint16_t *cur,
	unsigned k);

/* The same sums for n sets in a row, sets [n][k] of ids < n_expert <= MOE_MAX_EXPERT: every set but
 * the first meets the one before it, the first meets prev [k] unless that is NULL. The sums of
 * fractions come from counts of pairs by |A and B|, so they can differ from metrics_locality_add's
 * in rounding. */
void metrics_locality_run(struct metrics_locality *s, const uint16_t *prev, const uint16_t *sets,
	size_t n, size_t n_expert, unsigned k);

struct metrics_locality_rates { double first, any, overlap, jaccard; };
/* Means over the pairs; NAN without pairs. */
void metrics_locality_rates(const struct metrics_locality *s, struct metrics_locality_rates *out);

/* What uniform, independent routing gives: 1/E; 1 - C(E-k,k)/C(E,k); k/E; the mean of m/(2k-m)
 * with m hypergeometric. k = E gives first = 1/E and 1 for the others. */
void metrics_locality_uniform(size_t n_expert, unsigned k, struct metrics_locality_rates *out);

/* ---- co-activation (OLMoE, arXiv 2409.02060, eq. 6) ---- */

/* All ordered pairs i != j of the set: pairs [n_expert][n_expert] += 1. Symmetric. */
void metrics_coact_add(uint64_t *pairs, size_t n_expert, const uint16_t *set, unsigned k);

/* The variant of that paper's released script, which counts neighbours in rank only (and so finds
 * k/2 times fewer pairs than the definition in the paper): (r, r+1) and (r+1, r). */
void metrics_coact_add_adjacent(uint64_t *pairs, size_t n_expert, const uint16_t *set, unsigned k);

/* Both tables for many tokens, at half the work: add to the cells of better then worse rank only,
 * all [n_expert][n_expert] for every pair, adjacent (or NULL) for neighbours in rank; afterwards
 * mirror each table once. The result is that of the two functions above. */
void metrics_coact_add_half(uint64_t *all, uint64_t *adjacent, size_t n_expert, const uint16_t *set,
	unsigned k);
/* The same with both counts in one cell, all in the lower and adjacent in the upper 32 bits: a cell
 * is written once per pair. Where a damaged trace repeats ids, a decision adds up to k (k - 1) / 2
 * to a half of a cell: empty the table before 32 bits run over. */
void metrics_coact_add_both(uint64_t *both, size_t n_expert, const uint16_t *set, unsigned k);
void metrics_coact_mirror(uint64_t *table, size_t n_expert);

/* Cross-layer routes of one token (OLMoE's analysis): table [n_a][n_b] += 1 for every i of its set
 * in one layer and j of its set in the next; metrics_mi of the table is their mutual information.
 * n_b: experts of the second layer. */
void metrics_cross_add(uint64_t *table, size_t n_b, const uint16_t *a, unsigned k_a,
	const uint16_t *b, unsigned k_b);

/* ---- two runs over the same tokens (saturation: OLMoE, arXiv 2409.02060, eq. 5) ---- */

struct metrics_diff {
	uint64_t n;       /* decisions compared */
	uint64_t differ;  /* of these: the sets are not the same */
	double overlap;   /* sum of |A and B| / k; its mean is the saturation */
};
/* 1 if the sets a, b [k] differ. */
int metrics_diff_add(struct metrics_diff *s, const uint16_t *a, const uint16_t *b, unsigned k);

/* P(j is picked | i is picked) under uniform routing: (k-1)/(E-1); NAN for E = 1. */
double metrics_coact_uniform(size_t n_expert, unsigned k);

#endif
