/* domain.c - see domain.h. */
#include "metrics/domain.h"

#include <math.h>
#include <string.h>

static double row_sum(const double *row, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += row[i];
	return s;
}

static double xlog2x(double x)
{
	return x > 0 ? x * log2(x) : 0;
}

/* With all in picks: MI = (sum n log n - sum_d log - sum_e log) / N + log N. */
double metrics_mi(const double *table, size_t n_domain, size_t n_expert)
{
	double total = row_sum(table, n_domain * n_expert), cells = 0, rows = 0, cols = 0, col;

	if (!(total > 0))
		return NAN;
	for (size_t d = 0; d < n_domain; d++) {
		rows += xlog2x(row_sum(table + d * n_expert, n_expert) / total);
		for (size_t e = 0; e < n_expert; e++)
			cells += xlog2x(table[d * n_expert + e] / total);
	}
	for (size_t e = 0; e < n_expert; e++) {
		col = 0;
		for (size_t d = 0; d < n_domain; d++)
			col += table[d * n_expert + e];
		cols += xlog2x(col / total);
	}
	return fmax(0, cells - rows - cols); /* below 0 only by rounding */
}

double metrics_domain_entropy(const double *table, size_t n_domain, size_t n_expert)
{
	double total = row_sum(table, n_domain * n_expert), h = 0;

	if (!(total > 0))
		return NAN;
	for (size_t d = 0; d < n_domain; d++)
		h -= xlog2x(row_sum(table + d * n_expert, n_expert) / total);
	return h;
}

/* JSD in bits and the mean entropy of the two rows in bits. */
static double jsd(const double *a, const double *b, size_t n_expert, double *mean_h)
{
	double na = row_sum(a, n_expert), nb = row_sum(b, n_expert), hm = 0, h = 0;

	if (!(na > 0) || !(nb > 0))
		return NAN;
	for (size_t e = 0; e < n_expert; e++) {
		double p = a[e] / na, q = b[e] / nb;

		hm -= xlog2x((p + q) / 2);
		h -= (xlog2x(p) + xlog2x(q)) / 2;
	}
	*mean_h = h;
	return fmax(0, hm - h);
}

double metrics_jsd(const double *a, const double *b, size_t n_expert)
{
	double h;

	return jsd(a, b, n_expert, &h);
}

double metrics_jsd_norm(const double *a, const double *b, size_t n_expert)
{
	double h, j = jsd(a, b, n_expert, &h), room;

	if (isnan(j))
		return NAN;
	room = log2((double)n_expert) - h; /* the ratio is the same in bits and in nats */
	return room > 1e-12 ? j / room : NAN;
}

double metrics_mi_bias(size_t n_domain, size_t n_expert, double n)
{
	if (!(n > 0) || !n_domain || !n_expert)
		return NAN;
	return (double)(n_domain - 1) * (double)(n_expert - 1) / (2 * n * log(2));
}

double metrics_npmi(const double *table, size_t n_domain, size_t n_expert, size_t d, size_t e)
{
	double total = row_sum(table, n_domain * n_expert), pd, pe = 0, p;

	p = table[d * n_expert + e] / total;
	pd = row_sum(table + d * n_expert, n_expert) / total;
	for (size_t i = 0; i < n_domain; i++)
		pe += table[i * n_expert + e] / total;
	if (!(pd > 0) || !(pe > 0) || !(p < 1))
		return NAN;
	return p > 0 ? log2(p / (pd * pe)) / -log2(p) : -1;
}

struct metrics_interval metrics_risk_difference(uint64_t a, uint64_t n, uint64_t b, uint64_t m)
{
	struct metrics_interval out = { NAN, NAN, NAN };
	double p, q, se;

	if (!n || !m)
		return out;
	p = (double)a / (double)n;
	q = (double)b / (double)m;
	se = sqrt(p * (1 - p) / (double)n + q * (1 - q) / (double)m);
	out.value = p - q;
	out.lo = out.value - 1.959963984540054 * se;
	out.hi = out.value + 1.959963984540054 * se;
	return out;
}

double metrics_quantile(const double *x, size_t n, double q)
{
	double at, part;
	size_t i;

	if (!n)
		return NAN;
	at = q * (double)(n - 1);
	i = (size_t)at;
	if (i + 1 >= n)
		return x[n - 1];
	part = at - (double)i;
	return x[i] + part * (x[i + 1] - x[i]);
}

void metrics_group(const uint32_t *label, size_t n_doc, size_t n_domain, size_t *start,
	size_t *order)
{
	size_t at = 0;

	for (size_t d = 0; d < n_domain; d++) {
		start[d] = at;
		for (size_t i = 0; i < n_doc; i++)
			if (label[i] == d)
				order[at++] = i;
	}
	start[n_domain] = at;
}

void metrics_draw(struct rng *r, const size_t *start, const size_t *order, size_t n_domain,
	uint32_t *weight, size_t n_doc)
{
	memset(weight, 0, n_doc * sizeof *weight);
	for (size_t d = 0; d < n_domain; d++) {
		size_t n = start[d + 1] - start[d];

		for (size_t i = 0; i < n; i++)
			weight[order[start[d] + rng_below(r, n)]]++;
	}
}

/* Fisher and Yates. */
void metrics_shuffle(struct rng *r, uint32_t *label, size_t n_doc)
{
	for (size_t i = n_doc; i > 1; i--) {
		size_t j = rng_below(r, i);
		uint32_t t = label[i - 1];

		label[i - 1] = label[j];
		label[j] = t;
	}
}

void metrics_tabulate(const uint32_t *docs, size_t n_doc, size_t width, const uint32_t *label,
	const uint32_t *weight, size_t n_domain, double *table)
{
	memset(table, 0, n_domain * width * sizeof *table);
	for (size_t i = 0; i < n_doc; i++) {
		const uint32_t *doc = docs + i * width;
		double w = weight ? weight[i] : 1, *row = table + label[i] * width;

		if (w > 0)
			for (size_t e = 0; e < width; e++)
				row[e] += w * doc[e];
	}
}
