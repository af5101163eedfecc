/* sets.c - see sets.h. */
#include "metrics/sets.h"

#include <math.h>

#include <moescope/event.h>

unsigned metrics_overlap(const uint16_t *a, const uint16_t *b, unsigned k)
{
	uint64_t seen[MOE_MAX_EXPERT / 64] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < k; i++)
		seen[a[i] / 64 % (MOE_MAX_EXPERT / 64)] |= UINT64_C(1) << a[i] % 64;
	for (unsigned i = 0; i < k; i++) {
		uint64_t *word = &seen[b[i] / 64 % (MOE_MAX_EXPERT / 64)];
		uint64_t bit = UINT64_C(1) << b[i] % 64;

		n += !!(*word & bit);
		*word &= ~bit; /* an id that a damaged trace repeats counts once */
	}
	return n;
}

void metrics_locality_add(struct metrics_locality *s, const uint16_t *prev, const uint16_t *cur,
	unsigned k)
{
	unsigned m = metrics_overlap(prev, cur, k);

	s->pairs++;
	s->first += prev[0] == cur[0];
	s->any += m > 0;
	s->overlap += (double)m / k;
	s->jaccard += (double)m / (2 * k - m);
}

void metrics_locality_rates(const struct metrics_locality *s, struct metrics_locality_rates *out)
{
	double n = s->pairs ? (double)s->pairs : NAN;

	out->first = (double)s->first / n;
	out->any = (double)s->any / n;
	out->overlap = s->overlap / n;
	out->jaccard = s->jaccard / n;
}

static double log_choose(double n, double k)
{
	return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1);
}

void metrics_locality_uniform(size_t n_expert, unsigned k, struct metrics_locality_rates *out)
{
	double e = (double)n_expert, kk = k, all = log_choose(e, kk), p;

	out->first = 1 / e;
	out->overlap = kk / e;
	out->any = 0;
	out->jaccard = 0;
	for (unsigned m = 1; m <= k; m++) {
		if (kk - m > e - kk) /* more left over than there are other experts */
			continue;
		p = exp(log_choose(kk, m) + log_choose(e - kk, kk - m) - all);
		out->any += p;
		out->jaccard += p * m / (2 * kk - m);
	}
}

void metrics_coact_add(uint64_t *pairs, size_t n_expert, const uint16_t *set, unsigned k)
{
	for (unsigned i = 0; i < k; i++)
		for (unsigned j = 0; j < k; j++)
			if (i != j)
				pairs[set[i] * n_expert + set[j]]++;
}

void metrics_coact_add_adjacent(uint64_t *pairs, size_t n_expert, const uint16_t *set, unsigned k)
{
	for (unsigned r = 0; r + 1 < k; r++) {
		pairs[set[r] * n_expert + set[r + 1]]++;
		pairs[set[r + 1] * n_expert + set[r]]++;
	}
}

void metrics_coact_add_half(uint64_t *all, uint64_t *adjacent, size_t n_expert, const uint16_t *set,
	unsigned k)
{
	for (unsigned i = 0; i + 1 < k; i++) {
		uint64_t *row = all + set[i] * n_expert;

		if (adjacent)
			adjacent[set[i] * n_expert + set[i + 1]]++;
		for (unsigned j = i + 1; j < k; j++)
			row[set[j]]++;
	}
}

void metrics_coact_mirror(uint64_t *table, size_t n_expert)
{
	for (size_t i = 0; i < n_expert; i++) {
		table[i * n_expert + i] *= 2; /* an id that a damaged trace repeats counts both ways */
		for (size_t j = i + 1; j < n_expert; j++)
			table[i * n_expert + j] = table[j * n_expert + i] += table[i * n_expert + j];
	}
}

void metrics_cross_add(uint64_t *table, size_t n_b, const uint16_t *a, unsigned k_a,
	const uint16_t *b, unsigned k_b)
{
	for (unsigned i = 0; i < k_a; i++)
		for (unsigned j = 0; j < k_b; j++)
			table[a[i] * n_b + b[j]]++;
}

double metrics_coact_uniform(size_t n_expert, unsigned k)
{
	return n_expert > 1 ? (k - 1.0) / ((double)n_expert - 1) : NAN;
}

int metrics_diff_add(struct metrics_diff *s, const uint16_t *a, const uint16_t *b, unsigned k)
{
	unsigned m = metrics_overlap(a, b, k);

	s->n++;
	s->differ += m != k;
	s->overlap += (double)m / k;
	return m != k;
}
