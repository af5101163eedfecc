/*
 * rope.c - see rope.h. Angles are computed in double and rounded once.
 *
 * Pair i of position p turns by p * base^(-2i/n_rot), over factor i if the model has factors. A
 * context stretched by f divides that by f; YaRN does so for the slow pairs only, with a ramp between
 * the pairs that turn `fast` and `slow` times within the original context (arXiv 2309.00071).
 */
#include "model/rope.h"

#include <math.h>

/* The pair, as a real number, that turns n times within the original context. */
static double pair_of(const struct rope_par *r, double n)
{
	return r->n_rot * log(r->ctx / (n * 2 * 3.14159265358979323846)) / (2 * log(r->base));
}

/* Share of the unstretched angle in pair i. */
static double share(const struct rope_par *r, uint32_t i)
{
	double low, high, y;

	if (r->ext == 0)
		return 0;
	low = fmax(0, floor(pair_of(r, r->fast)));
	high = fmin(r->n_rot - 1, ceil(pair_of(r, r->slow)));
	y = (i - low) / fmax(0.001, high - low);
	return r->ext * (1 - fmin(1, fmax(0, y)));
}

/* 1 if pair i turns with the position in the text: with sections for several kinds of position, a
 * text's fourth kind is always 0. */
static int turns(const struct rope_par *r, uint32_t i)
{
	const uint32_t *s = r->section;
	uint32_t sum = s[0] + s[1] + s[2] + s[3];

	if (!sum)
		return 1;
	i %= sum;
	return r->mixed ? i < 3 * s[i % 3] : i < s[0] + s[1] + s[2];
}

void rope_table(const struct rope_par *r, uint32_t n_ctx, uint32_t from, uint32_t to, float *cs)
{
	const float *div = r->freqs ? r->freqs : n_ctx > r->ctx ? r->longer : r->shorter;

	for (uint32_t i = 0; i < r->n_rot / 2; i++) {
		double f = pow(r->base, -2.0 * i / r->n_rot) / (div ? div[i] : 1), mix = share(r, i);

		f = turns(r, i) ? f / r->factor * (1 - mix) + f * mix : 0;
		for (uint32_t p = from; p < to; p++) {
			float *at = cs + (size_t)p * r->n_rot + 2 * i;

			at[0] = (float)(cos(p * f) * r->gain);
			at[1] = (float)(sin(p * f) * r->gain);
		}
	}
}

void rope_apply(enum rope pairs, const float *cs, size_t n_rot, float *x, size_t n_head, size_t stride)
{
	size_t half = n_rot / 2, a, b;

	for (size_t h = 0; h < n_head; h++, x += stride)
		for (size_t i = 0; i < half; i++) {
			float c = cs[2 * i], sn = cs[2 * i + 1], x0, x1;

			a = pairs == ROPE_NEOX ? i : 2 * i;
			b = pairs == ROPE_NEOX ? i + half : 2 * i + 1;
			x0 = x[a];
			x1 = x[b];
			x[a] = x0 * c - x1 * sn;
			x[b] = x0 * sn + x1 * c;
		}
}
