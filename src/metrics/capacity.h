/*
 * capacity.h - what a capacity limit per expert would drop. Pure functions.
 *
 * Capacity is a property of ONE batch: an engine gives every expert room for C picks of a batch.
 * Figures over a whole corpus at once even out what batches do not, so they understate the drops;
 * callers say which they print.
 */
#ifndef METRICS_CAPACITY_H
#define METRICS_CAPACITY_H

#include <stddef.h>
#include <stdint.h>

/* C = ceil(T k / E * factor), the general form of Switch Transformer's (k = 1). A product that
 * misses a whole number only by rounding counts as that number. */
uint64_t metrics_capacity(uint64_t tokens, size_t n_expert, unsigned k, double factor);

/* sum max(0, c_e - C) / S of one batch: counts [n_expert], S = their sum. NAN where S = 0. */
double metrics_dropped(const uint64_t *counts, size_t n_expert, uint64_t tokens, unsigned k,
	double factor);

/* Upper bound on the probability that uniform routing drops a share of `rate` or more of the picks
 * of the last `late` tokens of batches of `tokens` (of all batches together), first come first
 * served. A late pick finds its expert full with at most q = exp(-T k KL(C / (T k) || 1/E))
 * (Chernoff, the whole batch before it); tokens are independent, so at most exp(-late KL(rate ||
 * q)). 1 where rate <= q. */
double metrics_late_chance(double rate, uint64_t late, uint64_t tokens, size_t n_expert, unsigned k,
	double factor);

#endif
