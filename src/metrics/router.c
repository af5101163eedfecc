/* router.c - see router.h. */
#include "metrics/router.h"

#include <math.h>

void metrics_router(const struct metrics_router_sums *s, struct metrics_router *out)
{
	double e = (double)s->n_expert, n = 0, picks = 0, fp = 0, h = 0;

	*out = (struct metrics_router){ .aux_loss = NAN, .z_loss = NAN, .token_entropy = NAN,
		.mi_token = NAN, .confidence = NAN, .margin = NAN };
	if (s->n_margin)
		out->margin = s->margin / (double)s->n_margin;
	for (size_t i = 0; i < s->n_expert; i++) {
		n += s->probs[i];
		picks += (double)s->counts[i];
	}
	if (!(n > 0.5)) /* no token had scores; also a NaN from a damaged database */
		return;
	out->scored = n;
	for (size_t i = 0; i < s->n_expert; i++) {
		double p = s->probs[i] / n;

		fp += (double)s->counts[i] * p;
		h -= p > 0 ? p * log(p) : 0;
	}
	out->aux_loss = picks > 0 ? e * fp / picks : NAN;
	out->z_loss = s->lse2 / n;
	out->token_entropy = s->n_expert > 1 ? s->entropy / n / log(e) : NAN;
	out->mi_token = fmax(0, (h - s->entropy / n) / log(2));
	out->confidence = s->confidence / n;
}

void metrics_bias_step(const uint64_t *counts, size_t n_expert, double u, double *bias)
{
	double mean = 0;

	for (size_t i = 0; i < n_expert; i++)
		mean += (double)counts[i] / (double)n_expert;
	for (size_t i = 0; i < n_expert; i++) {
		double d = mean - (double)counts[i];

		bias[i] += d > 0 ? u : d < 0 ? -u : 0;
	}
}
