/* sampler.c - see sampler.h. */
#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/rng.h"

#define MAX_LAST 4096

struct cand { float x; int32_t id; }; /* x: logit, later probability */

struct sampler {
	struct sampler_opt o;
	struct rng rng;
	uint32_t n_vocab;
	struct cand *c;        /* [n_vocab] */
	int32_t *last;         /* ring of the repeat_last most recent tokens */
	size_t n_last, at;
};

void sampler_defaults(struct sampler_opt *o)
{
	*o = (struct sampler_opt){ 0.8, 40, 0.95, 0.05, 1.0, 64, 0 };
}

struct sampler *sampler_new(const struct sampler_opt *o, uint32_t n_vocab, struct moe_err *e)
{
	struct sampler *s = calloc(1, sizeof *s);

	if (s) {
		s->c = malloc(n_vocab * sizeof *s->c);
		s->last = malloc(MAX_LAST * sizeof *s->last);
	}
	if (!s || !s->c || !s->last) {
		sampler_free(s);
		err_nomem(e, n_vocab * sizeof *s->c, "sampler");
		return NULL;
	}
	s->o = *o;
	if (s->o.repeat_last > MAX_LAST)
		s->o.repeat_last = MAX_LAST;
	s->n_vocab = n_vocab;
	rng_seed(&s->rng, o->seed);
	return s;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	free(s->c);
	free(s->last);
	free(s);
}

void sampler_seen(struct sampler *s, int32_t token)
{
	if (!s->o.repeat_last)
		return;
	s->last[s->at] = token;
	s->at = (s->at + 1) % s->o.repeat_last;
	if (s->n_last < s->o.repeat_last)
		s->n_last++;
}

static void penalise(struct sampler *s)
{
	float p = (float)s->o.repeat_penalty;

	if (s->o.repeat_penalty == 1)
		return;
	for (size_t i = 0; i < s->n_last; i++) {
		int32_t id = s->last[i];
		int again = 0;

		for (size_t j = 0; j < i; j++)
			again |= s->last[j] == id;
		if (!again && id >= 0 && (uint32_t)id < s->n_vocab)
			s->c[id].x = s->c[id].x > 0 ? s->c[id].x / p : s->c[id].x * p;
	}
}

/* Best first; equal logits in order of id, so that the outcome is defined. */
static int better_first(const void *a, const void *b)
{
	const struct cand *x = a, *y = b;

	if (x->x != y->x)
		return x->x > y->x ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t best(const struct sampler *s)
{
	size_t b = 0;

	for (size_t i = 1; i < s->n_vocab; i++)
		if (s->c[i].x > s->c[b].x)
			b = i;
	return s->c[b].id;
}

/* Probabilities of the first n candidates at the temperature. */
static void to_probabilities(struct sampler *s, size_t n)
{
	float max = s->c[0].x, t = (float)s->o.temperature, sum = 0;

	for (size_t i = 0; i < n; i++) {
		s->c[i].x = num_exp((s->c[i].x - max) / t);
		sum += s->c[i].x;
	}
	for (size_t i = 0; i < n; i++)
		s->c[i].x /= sum;
}

static size_t cut(const struct sampler *s, size_t n)
{
	float sum = 0;
	size_t m = n;

	if (s->o.top_p < 1)
		for (m = 0; m < n && sum < (float)s->o.top_p; m++)
			sum += s->c[m].x;
	while (m > 1 && s->c[m - 1].x < (float)s->o.min_p * s->c[0].x)
		m--;
	return m ? m : 1;
}

static int32_t draw(struct sampler *s, size_t n)
{
	double sum = 0, r;

	for (size_t i = 0; i < n; i++)
		sum += s->c[i].x;
	r = rng_unit(&s->rng) * sum;
	for (size_t i = 0; i + 1 < n; i++) {
		r -= s->c[i].x;
		if (r < 0)
			return s->c[i].id;
	}
	return s->c[n - 1].id;
}

int32_t sampler_next(struct sampler *s, const float *logits)
{
	size_t n = s->n_vocab;

	for (size_t i = 0; i < n; i++) /* NaN would break the ordering: never chosen */
		s->c[i] = (struct cand){ logits[i] == logits[i] ? logits[i] : -INFINITY, (int32_t)i };
	penalise(s);
	if (!((float)s->o.temperature > 0)) /* what single precision cannot hold is greedy too */
		return best(s);
	qsort(s->c, n, sizeof *s->c, better_first);
	if (!isfinite(s->c[0].x)) /* infinity minus infinity has no distribution */
		return s->c[0].id;
	if (s->o.top_k && s->o.top_k < n)
		n = s->o.top_k;
	to_probabilities(s, n);
	return draw(s, cut(s, n));
}
