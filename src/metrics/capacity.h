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

#endif
