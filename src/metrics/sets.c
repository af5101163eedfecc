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

/* ---- many sets: a bit for each expert, so that two sets meet in a few words ---- */

enum { WORDS = MOE_MAX_EXPERT / 64 };

static void set_bits(uint64_t *bits, size_t words, const uint16_t *set, unsigned k)
{
	for (size_t w = 0; w < words; w++)
		bits[w] = 0;
	for (unsigned i = 0; i < k; i++)
		bits[set[i] / 64 % WORDS] |= UINT64_C(1) << set[i] % 64;
}

/* Bits set in x, without a processor's own instruction for it (Warren, Hacker's Delight, 5-1). */
static unsigned ones(uint64_t x)
{
	x -= x >> 1 & UINT64_C(0x5555555555555555);
	x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
	x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (unsigned)(x * UINT64_C(0x0101010101010101) >> 56);
}

/* Up to 64 experts, and up to 128: the sets stay in registers.
 * pairs [k + 1] counts by |A and B|. */
static void run_small(uint64_t *pairs, const uint16_t *prev, const uint16_t *sets, size_t n,
	unsigned k)
{
	uint64_t last[2] = { 0, 0 };

	if (prev)
		set_bits(last, 2, prev, k);
	for (size_t t = 0; t < n; t++, sets += k) {
		uint64_t lo = 0, hi = 0, both;

		for (unsigned i = 0; i < k; i++) {
			uint64_t bit = UINT64_C(1) << sets[i] % 64, up = 0 - (uint64_t)(sets[i] / 64 & 1);

			lo |= bit & ~up;
			hi |= bit & up;
		}
		both = (lo & last[0]) | (hi & last[1]);
		if (t || prev)
			pairs[!both ? 0 : ones(lo & last[0]) + ones(hi & last[1])]++;
		last[0] = lo, last[1] = hi;
	}
}

static void run_large(uint64_t *pairs, const uint16_t *prev, const uint16_t *sets, size_t n,
	size_t words, unsigned k)
{
	uint64_t a[WORDS], b[WORDS], *last = a, *now = b, *swap;

	if (prev)
		set_bits(last, words, prev, k);
	for (size_t t = 0; t < n; t++, sets += k) {
		unsigned m = 0;

		set_bits(now, words, sets, k);
		for (size_t w = 0; (t || prev) && w < words; w++)
			m += ones(now[w] & last[w]);
		if (t || prev)
			pairs[m]++;
		swap = last, last = now, now = swap;
	}
}

void metrics_locality_run(struct metrics_locality *s, const uint16_t *prev, const uint16_t *sets,
	size_t n, size_t n_expert, unsigned k)
{
	uint64_t pairs[MOE_MAX_EXPERT + 1];

	for (unsigned m = 0; m <= k; m++)
		pairs[m] = 0;
	if (n_expert <= 128)
		run_small(pairs, prev, sets, n, k);
	else
		run_large(pairs, prev, sets, n, (n_expert + 63) / 64, k);
	for (size_t t = 0; t < n; t++)
		if (t || prev)
			s->first += (t ? sets[(t - 1) * k] : prev[0]) == sets[t * k];
	for (unsigned m = 0; m <= k; m++) {
		s->pairs += pairs[m];
		s->any += m ? pairs[m] : 0;
		s->overlap += (double)pairs[m] * m / k;
		s->jaccard += (double)pairs[m] * m / (2 * k - m);
	}
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

void metrics_coact_add_both(uint64_t *both, size_t n_expert, const uint16_t *set, unsigned k)
{
	for (unsigned i = 0; i + 1 < k; i++) {
		uint64_t *row = both + set[i] * n_expert;

		row[set[i + 1]] += 1 | UINT64_C(1) << 32;
		for (unsigned j = i + 2; j < k; j++)
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
