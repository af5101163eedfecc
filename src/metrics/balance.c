/* balance.c - see balance.h. Sums run in index order, so that equal counts give equal bits. */
#include "metrics/balance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void metrics_balance(const uint64_t *counts, size_t n_expert, uint64_t *sorted,
	struct metrics_balance *out)
{
	double e = (double)n_expert, sum, mean, var = 0, h = 0, p2 = 0, ranked = 0;

	*out = (struct metrics_balance){ .max_mean = NAN, .max_vio = NAN, .cv = NAN, .gini = NAN,
		.entropy_norm = NAN, .n_eff = NAN, .n2 = NAN, .dead = NAN, .cold = NAN };
	memcpy(sorted, counts, n_expert * sizeof *sorted);
	qsort(sorted, n_expert, sizeof *sorted, by_value);
	for (size_t i = 0; i < n_expert; i++)
		out->picks += counts[i];
	if (!out->picks)
		return;
	sum = (double)out->picks;
	mean = sum / e;
	for (size_t i = 0; i < n_expert; i++) {
		double c = (double)counts[i], p = c / sum;

		var += (c - mean) * (c - mean);
		h -= p > 0 ? p * log(p) : 0;
		p2 += p * p;
		ranked += (double)(i + 1) * (double)sorted[i];
		out->n_dead += !counts[i];
		out->n_cold += c / mean < METRICS_COLD;
		if (counts[i] > counts[out->top_expert])
			out->top_expert = (unsigned)i;
	}
	out->max_mean = (double)sorted[n_expert - 1] / mean;
	out->max_vio = out->max_mean - 1;
	out->cv = sqrt(var / e) / mean;
	out->gini = 2 * ranked / (e * sum) - (e + 1) / e;
	out->entropy_norm = n_expert > 1 ? h / log(e) : NAN;
	out->n_eff = exp(h);
	out->n2 = 1 / p2;
	out->dead = out->n_dead / e;
	out->cold = out->n_cold / e;
	out->coverage90 = metrics_coverage(sorted, n_expert, 0.9);
}

void metrics_rel_load(const uint64_t *counts, size_t n_expert, double *rel)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n_expert; i++)
		sum += counts[i];
	for (size_t i = 0; i < n_expert; i++)
		rel[i] = sum ? (double)counts[i] * (double)n_expert / (double)sum : NAN;
}

unsigned metrics_coverage(const uint64_t *sorted, size_t n_expert, double share)
{
	uint64_t sum = 0, have = 0;
	unsigned n = 0;

	for (size_t i = 0; i < n_expert; i++)
		sum += sorted[i];
	while (n < n_expert && (double)have < share * (1 - 1e-12) * (double)sum) /* 0.9 rounds */
		have += sorted[n_expert - ++n];
	return n;
}

double metrics_top_share(const uint64_t *sorted, size_t n_expert, size_t n)
{
	uint64_t sum = 0, top = 0;

	for (size_t i = 0; i < n_expert; i++) {
		sum += sorted[i];
		top += n_expert - i <= n ? sorted[i] : 0;
	}
	return sum ? (double)top / (double)sum : NAN;
}

double metrics_dead_chance(uint64_t tokens, size_t n_expert, unsigned k)
{
	if (k >= n_expert)
		return tokens ? 0 : 1;
	return exp((double)tokens * log1p(-(double)k / (double)n_expert));
}

double metrics_load_chance(uint64_t picks, uint64_t tokens, size_t n_expert, unsigned k, int tail)
{
	double q = (double)k / (double)n_expert, a, kl;

	if (!tokens || q >= 1)
		return 1;
	a = (double)picks / (double)tokens;
	a = a > 1 ? 1 : a;
	if (tail > 0 ? a <= q : a >= q)
		return 1;
	kl = a > 0 ? a * log(a / q) : 0;
	kl += a < 1 ? (1 - a) * log((1 - a) / (1 - q)) : 0;
	return fmin(1, (double)n_expert * exp(-(double)tokens * kl));
}

static void mean_max(const double *x, size_t n, double *mean, double *max)
{
	double sum = 0;

	*max = x[0];
	for (size_t i = 0; i < n; i++) {
		sum += x[i];
		*max = x[i] > *max ? x[i] : *max;
	}
	*mean = sum / (double)n;
}

double metrics_balancedness_sglang(const double *loads, size_t n_layer, size_t n)
{
	double sum = 0, mean, max;

	if (!n_layer || !n)
		return NAN;
	for (size_t l = 0; l < n_layer; l++) {
		mean_max(loads + l * n, n, &mean, &max);
		sum += (mean + 1e-5) / (max + 1e-5);
	}
	return sum / (double)n_layer;
}

double metrics_balancedness_pooled(const double *loads, size_t n_layer, size_t n)
{
	double means = 0, maxima = 0, mean, max;

	for (size_t l = 0; n && l < n_layer; l++) {
		mean_max(loads + l * n, n, &mean, &max);
		means += mean;
		maxima += max;
	}
	return maxima > 0 ? means / maxima : NAN;
}
