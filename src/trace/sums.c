/*
 * sums.c - see sums.h.
 *
 * A decision flagged NaN, or whose logits have no finite maximum, counts its picks and nothing
 * else. Definitions: softmax over all logits; lse2 = logsumexp^2 (ST-MoE's z-loss); entropy in
 * nats; confidence = softmax mass of the picked experts.
 */
#include "trace/sums.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"

size_t sums_bytes(const struct layout *l)
{
	return sizeof(struct sums) + (8 * l->n + 3 * l->e_row) * sizeof(uint64_t);
}

struct sums *sums_new(const struct layout *l)
{
	struct sums *s = calloc(1, sums_bytes(l));
	uint64_t *u;
	double *d;

	if (!s)
		return NULL;
	u = (uint64_t *)(s + 1);
	s->tokens = u;
	s->n_margin = u + l->n;
	s->n_nan = u + 2 * l->n;
	s->n_edited = u + 3 * l->n;
	s->counts = u + 4 * l->n;
	d = (double *)(s->counts + l->e_row);
	s->lse2 = d;
	s->entropy = d + l->n;
	s->confidence = d + 2 * l->n;
	s->margin = d + 3 * l->n;
	s->weights = d + 4 * l->n;
	s->probs = s->weights + l->e_row;
	return s;
}

void sums_free(struct sums *s)
{
	free(s);
}

static int check_ids(const struct layout *l, const struct block_head *h,
	const struct block_rows *r, struct moe_err *e)
{
	const uint16_t *id = r->experts, *before = h->edited ? r->before : r->experts;

	for (uint32_t t = 0; t < h->n; t++)
		for (size_t i = 0; i < l->n; i++)
			for (uint16_t k = 0; k < l->layer[i].k; k++, id++, before++)
				if (*id >= l->layer[i].n_expert || *before >= l->layer[i].n_expert)
					return err_set(e, MOE_ERR_INPUT,
						"sequence %llu, position %u, layer %d, rank %d: expert %d of %d",
						(unsigned long long)h->seq, h->pos + t, l->layer[i].layer, k,
						*id >= l->layer[i].n_expert ? *id : *before, l->layer[i].n_expert);
	return 0;
}

/* The softmax figures of one decision. */
static void add_scores(struct sums *s, size_t li, const float *logit, size_t n, double *probs,
	const uint16_t *pick, size_t k, float *prob)
{
	float max = -INFINITY;
	double z = 0, dot = 0, inv, lse, mass = 0;
	size_t i;

	for (i = 0; i < n; i++)
		max = logit[i] > max ? logit[i] : max;
	if (!isfinite(max))
		return;
	for (i = 0; i < n; i++) {
		prob[i] = expf(logit[i] - max);
		z += prob[i];
	}
	if (!isfinite(z)) /* a NaN that the router did not flag */
		return;
	inv = 1 / z;
	for (i = 0; i < n; i++)
		if (prob[i] > 0) {
			double p = prob[i] * inv;

			dot += p * (logit[i] - max);
			probs[i] += p;
		}
	for (i = 0; i < k; i++)
		mass += prob[pick[i]] * inv;
	lse = max + log(z);
	s->lse2[li] += lse * lse;
	s->entropy[li] += log(z) - dot;
	s->confidence[li] += mass;
}

int sums_add(struct sums *s, const struct layout *l, const struct block_head *h,
	const struct block_rows *r, float *prob, struct moe_err *e)
{
	if (check_ids(l, h, r, e))
		return -1;
	s->dirty = 1;
	for (size_t i = 0; i < l->n; i++) {
		size_t k = l->layer[i].k, n = l->layer[i].n_expert, at = l->e_at[i];

		s->tokens[i] += h->n;
		for (uint32_t t = 0; t < h->n; t++) {
			const uint16_t *pick = r->experts + t * l->k_row + l->k_at[i];
			const float *w = r->weights + t * l->k_row + l->k_at[i];
			uint8_t flags = r->flags[t * l->n + i];
			float margin = r->margins[t * l->n + i];

			for (size_t j = 0; j < k; j++) {
				s->counts[at + pick[j]]++;
				s->weights[at + pick[j]] += w[j];
			}
			s->n_edited[i] += (flags & MOE_EV_EDITED) != 0;
			if (flags & MOE_EV_NAN) {
				s->n_nan[i]++;
				continue;
			}
			if (isfinite(margin)) {
				s->margin[i] += margin;
				s->n_margin[i]++;
			}
			if (h->has_logits)
				add_scores(s, i, r->logits + t * l->e_row + at, n, s->probs + at, pick, k, prob);
		}
	}
	return 0;
}
