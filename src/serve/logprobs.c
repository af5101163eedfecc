/* logprobs.c - see logprobs.h. */
#include "serve/logprobs.h"

#include <math.h>

/* The logarithm of the sum of e^x. */
static double log_sum(const float *x, size_t n)
{
	double sum = 0;
	float max = -INFINITY;

	for (size_t i = 0; i < n; i++)
		if (x[i] > max)
			max = x[i];
	if (!isfinite(max))
		return max;
	for (size_t i = 0; i < n; i++)
		if (!isnan(x[i]))
			sum += exp((double)x[i] - (double)max);
	return log(sum) + (double)max;
}

static float value(float x, double all)
{
	float v = (float)((double)x - all);

	return isfinite(v) ? v : (float)LOGPROBS_NONE;
}

void logprobs_of(
	const float *logits, size_t n_vocab, int32_t id, unsigned top, struct logprobs *out)
{
	double all = log_sum(logits, n_vocab);

	out->n = 0;
	out->chosen = (struct logprob){ id, value(logits[id], all) };
	if (top > LOGPROBS_MOST)
		top = LOGPROBS_MOST;
	for (size_t i = 0; i < n_vocab && top; i++) {
		unsigned at = out->n;

		if (isnan(logits[i]))
			continue;
		while (at && logits[out->top[at - 1].id] < logits[i])
			at--;
		if (at == top)
			continue;
		if (out->n < top)
			out->n++;
		for (unsigned k = out->n - 1; k > at; k--)
			out->top[k] = out->top[k - 1];
		out->top[at].id = (int32_t)i;
	}
	for (unsigned k = 0; k < out->n; k++)
		out->top[k].v = value(logits[out->top[k].id], all);
}
