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
#include "base/num.h"

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

/* Experts i, i + LANES, ... share a partial sum; the lanes are added in ascending order. */
#define LANES 8

struct lanes { double z[LANES], dot[LANES]; };

/* num_exp(x) for -110 <= x <= 0, and NaN for NaN, without a branch, so that lanes go together. */
static inline float exp_below(float x)
{
	const float magic = 12582912.0f;
	float t = x * 1.44269504f + magic, n = t - magic, p, s1, s2;
	int32_t i, h;

	p = num_exp_part(x, n);
	memcpy(&i, &t, 4);
	i -= 0x4b400000; /* the bits of magic: what was added to it */
	h = i >> 1;
	i = (i - h + 127) * (1 << 23);
	h = (h + 127) * (1 << 23);
	memcpy(&s1, &h, 4);
	memcpy(&s2, &i, 4);
	return p * s1 * s2;
}

/* n <= LANES experts: what the softmax is made of. A barred expert, at -inf, has no part. */
static inline void lane_scores(const float *logit, float max, size_t n, float *prob,
	struct lanes *s)
{
	float d[LANES];

	for (size_t j = 0; j < n; j++)
		d[j] = logit[j] - max;
	for (size_t j = 0; j < n; j++)
		d[j] = d[j] < -110.0f ? -110.0f : d[j]; /* e^-110 is 0 */
	for (size_t j = 0; j < n; j++)
		prob[j] = exp_below(d[j]);
	for (size_t j = 0; j < n; j++)
		s->z[j] += (double)prob[j];
	for (size_t j = 0; j < n; j++)
		s->dot[j] += (double)prob[j] * (double)d[j];
}

static inline void lane_max(const float *logit, size_t n, float *max)
{
	for (size_t j = 0; j < n; j++)
		max[j] = logit[j] > max[j] ? logit[j] : max[j];
}

static inline void lane_probs(const float *prob, double inv, size_t n, double *probs)
{
	for (size_t j = 0; j < n; j++)
		probs[j] += (double)prob[j] * inv;
}

static float max_of(const float *logit, size_t n)
{
	float lane[LANES], max = -INFINITY;
	size_t i;

	for (i = 0; i < LANES; i++)
		lane[i] = -INFINITY;
	for (i = 0; i + LANES <= n; i += LANES)
		lane_max(logit + i, LANES, lane);
	lane_max(logit + i, n - i, lane);
	lane_max(lane + LANES / 2, LANES / 2, lane);
	for (i = 0; i < LANES / 2; i++)
		max = lane[i] > max ? lane[i] : max;
	return max;
}

/* The softmax figures of one decision. */
static void add_scores(struct sums *s, size_t li, const float *logit, size_t n, double *probs,
	const uint16_t *pick, size_t k, float *prob)
{
	struct lanes lane;
	float max = max_of(logit, n);
	double z = 0, dot = 0, inv, log_z, mass = 0;
	size_t i;

	if (!isfinite(max))
		return;
	for (i = 0; i < LANES; i++)
		lane.z[i] = lane.dot[i] = 0;
	for (i = 0; i + LANES <= n; i += LANES)
		lane_scores(logit + i, max, LANES, prob + i, &lane);
	lane_scores(logit + i, max, n - i, prob + i, &lane);
	for (i = 0; i < LANES; i++) {
		z += lane.z[i];
		dot += lane.dot[i];
	}
	if (!isfinite(z)) /* a NaN that the router did not flag */
		return;
	inv = 1 / z;
	for (i = 0; i + LANES <= n; i += LANES)
		lane_probs(prob + i, inv, LANES, probs + i);
	lane_probs(prob + i, inv, n - i, probs + i);
	for (i = 0; i < k; i++)
		mass += prob[pick[i]] * inv;
	log_z = log(z);
	s->lse2[li] += (max + log_z) * (max + log_z);
	s->entropy[li] += log_z - dot * inv;
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
