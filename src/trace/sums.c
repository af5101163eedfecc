/*
 * sums.c - see sums.h.
 *
 * A decision flagged NaN counts its picks and nothing else. Of the softmax: scores.h.
 */
#include "trace/sums.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "trace/scores.h"

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

static unsigned largest(const uint16_t *id, size_t n)
{
	uint16_t lane[8] = { 0 }, most = 0;
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (size_t j = 0; j < 8; j++)
			lane[j] = id[i + j] > lane[j] ? id[i + j] : lane[j];
	for (; i < n; i++)
		most = id[i] > most ? id[i] : most;
	for (size_t j = 0; j < 8; j++)
		most = lane[j] > most ? lane[j] : most;
	return most;
}

/* The first one that is wrong is named. */
static int bad_id(const struct layout *l, size_t li, const struct block_head *h,
	const struct block_rows *r, struct moe_err *e)
{
	size_t i = 0, k = l->layer[li].k, n = l->layer[li].n_expert;

	while (r->experts[i] < n && (!h->edited || r->before[i] < n))
		i++;
	return err_set(e, MOE_ERR_INPUT,
		"sequence %llu, position %zu, layer %d, rank %zu: expert %d of %zu",
		(unsigned long long)h->seq, h->pos + i / k, l->layer[li].layer, i % k,
		r->experts[i] >= n ? r->experts[i] : r->before[i], n);
}

static int check_ids(const struct block_shape *shape, struct block_head *h, struct moe_err *e)
{
	const struct layout *l = shape->lay;
	struct block_rows r;

	for (size_t i = 0; i < l->n; i++) {
		size_t n = h->n * l->layer[i].k;

		block_rows(shape, h, i, &r);
		if (largest(r.experts, n) >= l->layer[i].n_expert ||
			(h->edited && largest(r.before, n) >= l->layer[i].n_expert))
			return bad_id(l, i, h, &r, e);
	}
	return 0;
}

/* What a layer's n decisions add: picks, and figures of those that no NaN spoils. */
static void add_layer(struct sums *s, const struct layout *l, size_t li, const struct block_head *h,
	const struct block_rows *r)
{
	size_t k = l->layer[li].k, at = l->e_at[li], n = h->n;
	uint64_t *counts = s->counts + at;
	double *weights = s->weights + at, margin = s->margin[li];

	s->tokens[li] += n;
	for (size_t i = 0; i < n * k; i++) {
		counts[r->experts[i]]++;
		weights[r->experts[i]] += r->weights[i];
	}
	for (size_t t = 0; t < n; t++) {
		int nan = r->flags[t] & MOE_EV_NAN, counts_too = !nan && isfinite(r->margins[t]);

		s->n_edited[li] += (r->flags[t] & MOE_EV_EDITED) != 0;
		s->n_nan[li] += nan != 0;
		margin += counts_too ? r->margins[t] : 0;
		s->n_margin[li] += (uint64_t)counts_too;
	}
	s->margin[li] = margin;
}

int sums_add(struct sums *s, const struct block_shape *shape, struct block_head *h,
	struct moe_err *e)
{
	const struct layout *l = shape->lay;
	scores_add *add_scores = scores_pick(0);

	if (check_ids(shape, h, e))
		return -1;
	s->dirty = 1;
	for (size_t i = 0; i < l->n; i++) {
		struct scores x = { s->lse2[i], s->entropy[i], s->confidence[i] };
		struct block_rows r;

		block_rows(shape, h, i, &r);
		add_layer(s, l, i, h, &r);
		if (!h->has_logits)
			continue;
		add_scores(r.logits, h->n, l->layer[i].n_expert, r.experts, l->layer[i].k, r.flags,
			s->probs + l->e_at[i], &x);
		s->lse2[i] = x.lse2;
		s->entropy[i] = x.entropy;
		s->confidence[i] = x.confidence;
	}
	return 0;
}
