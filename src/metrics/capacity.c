/* capacity.c - see capacity.h. */
#include "metrics/capacity.h"

#include <math.h>

uint64_t metrics_capacity(uint64_t tokens, size_t n_expert, unsigned k, double factor)
{
	double c = (double)tokens * k * factor / (double)n_expert, whole = nearbyint(c);

	if (!(c > 0))
		return 0;
	if (c >= 0x1p63)
		return UINT64_MAX;
	return (uint64_t)(fabs(c - whole) <= 1e-12 * c ? whole : ceil(c));
}

double metrics_dropped(const uint64_t *counts, size_t n_expert, uint64_t tokens, unsigned k,
	double factor)
{
	uint64_t cap = metrics_capacity(tokens, n_expert, k, factor), over = 0, sum = 0;

	for (size_t i = 0; i < n_expert; i++) {
		sum += counts[i];
		over += counts[i] > cap ? counts[i] - cap : 0;
	}
	return sum ? (double)over / (double)sum : NAN;
}

/* KL(a || q) of two coins, nats. */
static double coins(double a, double q)
{
	return (a > 0 ? a * log(a / q) : 0) + (a < 1 ? (1 - a) * log((1 - a) / (1 - q)) : 0);
}

double metrics_late_chance(double rate, uint64_t late, uint64_t tokens, size_t n_expert, unsigned k,
	double factor)
{
	double picks = (double)tokens * k, share = 1 / (double)n_expert, q;
	double full = (double)metrics_capacity(tokens, n_expert, k, factor) / picks;

	if (!(picks > 0) || n_expert < 2 || !(full > share))
		return 1;
	q = full > 1 ? 0 : exp(-picks * coins(full, share));
	if (!(rate > q))
		return 1;
	return q > 0 ? exp(-(double)late * coins(rate, q)) : 0;
}
