/*
 * batch.c - routers that look at a batch of tokens; stages and papers in moescope/route.h.
 *
 * Not in the engine's path: it allocates its scratch. Sums run in ascending order, draws come from
 * base/rng.h in order of position, ties go to the lower expert id and the earlier token.
 */
#include <moescope/route.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <moescope/event.h>

#include "base/err.h"
#include "base/rng.h"
#include "route/assign.h"

#define SINKHORN_TOL 1e-4
#define SINKHORN_MOST 1000
#define GROUPS_ROOT 1 /* presets: at most as many groups as the root of the number of experts */

/* A pick with its weight; sorted heaviest first, ties by position. */
struct heavy { float w; uint32_t at; };

static int heavier(const void *a, const void *b)
{
	const struct heavy *x = a, *y = b;

	if (x->w != y->w)
		return x->w > y->w ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

struct scratch {
	float *pair;             /* [2 * n_expert] for moe_route and scores */
	float *z;                /* [n_expert] logits of one token as selection sees them */
	double *plan;            /* [n][n_expert] Sinkhorn */
	double *rows, *cols;     /* [n], [n_expert] */
	struct heavy *queue;     /* [n * k] */
	uint64_t *used;          /* [n_expert] */
	uint8_t *bad;            /* [n] tokens with a NaN */
};

static int scratch_init(struct scratch *x, const struct moe_batch_spec *s, size_t n,
	struct moe_err *e)
{
	size_t k = s->route.k, m = s->route.n_expert;
	size_t plan = s->select == MOE_SELECT_SINKHORN ? n * m : 0;

	memset(x, 0, sizeof *x);
	x->pair = malloc(2 * m * sizeof *x->pair);
	x->z = malloc(m * sizeof *x->z);
	x->plan = malloc((plan + 1) * sizeof *x->plan);
	x->rows = malloc((n + 1) * sizeof *x->rows);
	x->cols = malloc((m + 1) * sizeof *x->cols);
	x->queue = malloc((n * k + 1) * sizeof *x->queue);
	x->used = calloc(m + 1, sizeof *x->used);
	x->bad = calloc(n + 1, 1);
	if (x->pair && x->z && x->plan && x->rows && x->cols && x->queue && x->used && x->bad)
		return 0;
	return err_nomem(e, n * m * sizeof *x->plan, "routing a batch");
}

static void scratch_free(struct scratch *x)
{
	free(x->pair);
	free(x->z);
	free(x->plan);
	free(x->rows);
	free(x->cols);
	free(x->queue);
	free(x->used);
	free(x->bad);
}

int moe_batch_check(const struct moe_batch_spec *s, struct moe_err *e)
{
	const struct moe_route_spec *r = &s->route;

	if (moe_route_check(r, e))
		return -1;
	if ((s->over != MOE_OVER_NONE || s->select == MOE_SELECT_EXPERT_CHOICE) &&
	    !(s->factor > 0 && s->factor <= 1e6))
		return err_set(e, MOE_ERR_USAGE, "capacity factor %g: must be positive", s->factor);
	if (s->select == MOE_SELECT_RANDOM2 && r->k != 2)
		return err_set(e, MOE_ERR_USAGE, "a random second expert needs top-2, not top-%u", r->k);
	if (s->select == MOE_SELECT_BALANCED && r->k != 1)
		return err_set(e, MOE_ERR_USAGE, "a balanced assignment gives one expert, not %u", r->k);
	if (s->select == MOE_SELECT_TWO_LEVEL && (r->n_group < 2 || r->k % r->n_group_used ||
	    r->k / r->n_group_used > r->n_expert / r->n_group))
		return err_set(e, MOE_ERR_USAGE, "two levels: top-%u over %u of %u groups of %u experts is "
			"not possible", r->k, r->n_group_used, r->n_group,
			r->n_group ? r->n_expert / r->n_group : 0);
	return 0;
}

size_t moe_batch_slots(const struct moe_batch_spec *s)
{
	return s->select == MOE_SELECT_EXPERT_CHOICE ? s->route.n_expert : s->route.k;
}

/* ---- selection, one token ---- */

static uint64_t mix(uint64_t x) /* the finaliser of splitmix64 */
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* Standard normal by the polar method; the second value is thrown away, so that a draw costs no
 * memory of the last one. */
static double normal(struct rng *r)
{
	double u, v, s;

	do {
		u = 2 * rng_unit(r) - 1;
		v = 2 * rng_unit(r) - 1;
		s = u * u + v * v;
	} while (s >= 1 || s == 0);
	return u * sqrt(-2 * log(s) / s);
}

/* Weights of the k experts in c from the scores, as the specification wants them. */
static void weigh(const struct moe_route_spec *s, const float *scores, uint16_t *experts,
	float *weights)
{
	double sum = 0, max = -INFINITY;

	for (size_t i = 0; i < s->k; i++)
		max = fmax(max, scores[experts[i]]);
	for (size_t i = 0; i < s->k; i++) {
		double w = scores[experts[i]];

		w = s->weight == MOE_WEIGHT_SOFTMAX ? exp(w - max) : w;
		weights[i] = (float)w;
		sum += w;
	}
	sum = s->weight == MOE_WEIGHT_RAW ? 1 : fmax(sum, 6.103515625e-5);
	for (size_t i = 0; i < s->k; i++)
		weights[i] = (float)(weights[i] / sum * (s->scale != 0 ? s->scale : 1));
}

/* The best of x [n] among those with mark 0, lowest index of equals; n if there is none. */
static size_t best_of(const double *x, const uint8_t *mark, size_t n)
{
	size_t best = n;

	for (size_t i = 0; i < n; i++)
		if (!mark[i] && (best == n || x[i] > x[best]))
			best = i;
	return best;
}

/* Groups by the total of their softmax, then experts inside each; the weight is the product of a
 * softmax over the used groups' totals and one over the chosen experts of the group. */
static void two_level(const struct moe_route_spec *s, const float *z, struct scratch *x,
	uint16_t *experts, float *weights)
{
	size_t size = s->n_expert / s->n_group, each = s->k / s->n_group_used, n = 0;
	double total[MOE_MAX_EXPERT] = { 0 }, p[MOE_MAX_EXPERT], sum = 0, max = -INFINITY;
	uint8_t used[MOE_MAX_EXPERT] = { 0 }, taken[MOE_MAX_EXPERT] = { 0 };

	(void)x;
	for (size_t i = 0; i < s->n_expert; i++)
		max = fmax(max, z[i]);
	for (size_t i = 0; i < s->n_expert; i++) {
		p[i] = exp(z[i] - max);
		total[i / size] += p[i];
	}
	for (size_t u = 0; u < s->n_group_used; u++) {
		size_t g = best_of(total, used, s->n_group);
		double inside = 0;

		used[g] = 1;
		sum += total[g];
		for (size_t i = 0; i < each; i++) {
			size_t b = best_of(p + g * size, taken + g * size, size);

			taken[g * size + b] = 1;
			experts[n + i] = (uint16_t)(g * size + b);
			inside += p[g * size + b];
		}
		for (size_t i = 0; i < each; i++)
			weights[n + i] = inside > 0 ? (float)(total[g] * p[experts[n + i]] / inside) : 0;
		n += each;
	}
	for (size_t i = 0; i < s->k; i++)
		weights[i] = (float)(weights[i] / sum);
}

static void hash(const struct moe_batch_spec *s, int32_t token, uint16_t *experts, float *weights)
{
	unsigned n = 0;

	for (uint64_t i = 0; n < s->route.k; i++) { /* further draws until k are different */
		uint16_t e = (uint16_t)(mix(s->seed ^ ((uint64_t)(uint32_t)token | i << 32)) %
			s->route.n_expert);
		int has = 0;

		for (unsigned j = 0; j < n; j++)
			has |= experts[j] == e;
		if (!has) {
			experts[n] = e;
			weights[n++] = 1.0f / s->route.k;
		}
	}
}

static void one_token(const struct moe_batch_spec *s, const struct moe_batch_in *in, size_t t,
	const float *bias, struct rng *r, struct scratch *x, struct moe_batch_out *out)
{
	const struct moe_route_spec *q = &s->route;
	const float *z = in->logits + t * q->n_expert;
	struct moe_choice c = { out->experts + t * q->k, out->weights + t * q->k, 0, 0 };

	out->n_pick[t] = q->k;
	memset(out->fate + t * q->k, MOE_SENT, q->k);
	switch (s->select) {
	case MOE_SELECT_HASH:
		hash(s, in->token[t], c.experts, c.weights);
		return;
	case MOE_SELECT_TWO_LEVEL:
		two_level(q, z, x, c.experts, c.weights);
		return;
	case MOE_SELECT_NOISY:
		for (size_t i = 0; i < q->n_expert; i++)
			x->z[i] = (float)(z[i] + s->noise * normal(r));
		z = x->z;
		break;
	default:
		break;
	}
	moe_route(q, z, bias, x->pair, &c);
	if (s->select == MOE_SELECT_RANDOM2 && !(2 * (double)c.weights[1] > rng_unit(r)))
		out->fate[t * q->k + 1] = MOE_UNSENT;
}

/* ---- selection, whole batch ---- */

/* d0_i = 1 / (n sum_j d1_j c_ij), d1_j = 1 / (E sum_i d0_i c_ij), until d1 rests; then the best k
 * of d1_j c_ij. c = exp(logits - the row's largest): a factor of a row goes into d0. */
static void sinkhorn(const struct moe_batch_spec *s, const struct moe_batch_in *in,
	struct scratch *x, struct moe_batch_out *out)
{
	size_t m = s->route.n_expert, k = s->route.k, n = in->n;
	const double eps = 1e-8;

	for (size_t t = 0; t < n; t++) {
		double max = -INFINITY;

		for (size_t i = 0; i < m; i++)
			max = fmax(max, in->logits[t * m + i]);
		for (size_t i = 0; i < m; i++)
			x->plan[t * m + i] = x->bad[t] ? 0 : exp(in->logits[t * m + i] - max);
	}
	for (size_t i = 0; i < m; i++)
		x->cols[i] = 1;
	for (int round = 0; round < SINKHORN_MOST; round++) {
		double moved = 0;

		for (size_t t = 0; t < n; t++) {
			double sum = 0;

			for (size_t i = 0; i < m; i++)
				sum += x->cols[i] * x->plan[t * m + i];
			x->rows[t] = 1 / (double)n / (sum + eps);
		}
		for (size_t i = 0; i < m; i++) {
			double sum = 0, was = x->cols[i];

			for (size_t t = 0; t < n; t++)
				sum += x->rows[t] * x->plan[t * m + i];
			x->cols[i] = 1 / (double)m / (sum + eps);
			moved += fabs(x->cols[i] - was) / (double)m;
		}
		if (!(moved > SINKHORN_TOL))
			break;
	}
	for (size_t t = 0; t < n; t++) {
		uint8_t taken[MOE_MAX_EXPERT] = { 0 };
		double *p = x->plan + t * m;

		out->n_pick[t] = x->bad[t] ? 0 : (uint16_t)k;
		for (size_t i = 0; i < m; i++)
			p[i] *= x->cols[i];
		for (size_t r = 0; r < out->n_pick[t]; r++) {
			size_t b = best_of(p, taken, m);

			taken[b] = 1;
			out->experts[t * k + r] = (uint16_t)b;
			out->fate[t * k + r] = MOE_SENT;
		}
		if (out->n_pick[t]) {
			moe_route_scores(&s->route, in->logits + t * m, x->pair);
			weigh(&s->route, x->pair, out->experts + t * k, out->weights + t * k);
		}
	}
}

/* BASE: the even assignment of the largest total, top-1. */
static int balanced(const struct moe_batch_spec *s, const struct moe_batch_in *in,
	struct scratch *x, struct moe_batch_out *out, struct moe_err *e)
{
	size_t m = s->route.n_expert;

	if (route_assign(in->logits, x->bad, in->n, m, out->experts, e))
		return -1;
	for (size_t t = 0; t < in->n; t++) {
		out->n_pick[t] = !x->bad[t];
		if (x->bad[t])
			continue;
		out->fate[t] = MOE_SENT;
		moe_route_scores(&s->route, in->logits + t * m, x->pair);
		weigh(&s->route, x->pair, out->experts + t, out->weights + t);
	}
	return 0;
}

static size_t capacity(const struct moe_batch_spec *s, size_t n)
{
	double c = (double)n * s->route.k * s->factor / s->route.n_expert, whole = nearbyint(c);

	c = fabs(c - whole) <= 1e-12 * c ? whole : ceil(c);
	return c > (double)n ? n : (size_t)c; /* an expert cannot have a token twice */
}

/* Every expert takes the C tokens with the largest score for it. Experts come in ascending order,
 * and each is put into its token's list by weight. */
static void expert_choice(const struct moe_batch_spec *s, const struct moe_batch_in *in,
	struct scratch *x, struct moe_batch_out *out)
{
	size_t m = s->route.n_expert, n = in->n, c = capacity(s, n);
	/* [n][m]: read before it is overwritten, column by column below */
	float *scores = out->weights;

	for (size_t t = 0; t < n; t++) {
		out->n_pick[t] = 0;
		if (!x->bad[t])
			moe_route_scores(&s->route, in->logits + t * m, scores + t * m);
		memset(out->fate + t * m, MOE_UNSENT, m); /* first: mark what is chosen */
	}
	for (size_t i = 0; i < m; i++) {
		size_t have = 0;

		for (size_t t = 0; t < n; t++)
			if (!x->bad[t])
				x->queue[have++] = (struct heavy){ scores[t * m + i], (uint32_t)t };
		qsort(x->queue, have, sizeof *x->queue, heavier);
		for (size_t j = 0; j < have && j < c; j++)
			out->fate[x->queue[j].at * m + i] = MOE_SENT;
	}
	for (size_t t = 0; t < n; t++) {
		uint16_t *list = out->experts + t * m, k = 0;

		for (size_t i = 0; i < m; i++) {
			size_t at = k;

			if (out->fate[t * m + i] != MOE_SENT)
				continue;
			for (; at > 0 && scores[t * m + i] > scores[t * m + list[at - 1]]; at--)
				list[at] = list[at - 1];
			list[at] = (uint16_t)i;
			k++;
		}
		out->n_pick[t] = k;
		for (size_t r = 0; r < k; r++)
			x->z[r] = scores[t * m + list[r]];
		memcpy(out->weights + t * m, x->z, k * sizeof *x->z);
		memset(out->fate + t * m, MOE_SENT, k);
	}
}

/* ---- capacity ---- */

/* All first choices before all second ones, each by position. */
static void limit_by_position(const struct moe_batch_spec *s, size_t n, size_t cap,
	struct scratch *x, struct moe_batch_out *out)
{
	size_t k = s->route.k;

	for (size_t r = 0; r < k; r++)
		for (size_t t = 0; t < n; t++) {
			uint64_t *u = x->used + out->experts[t * k + r];

			if (r >= out->n_pick[t] || out->fate[t * k + r] != MOE_SENT)
				continue;
			out->fate[t * k + r] = *u < cap ? MOE_SENT : MOE_DROPPED;
			*u += *u < cap;
		}
}

/* The largest weights stay, ties by position. */
static void limit_by_weight(const struct moe_batch_spec *s, size_t n, size_t cap,
	struct scratch *x, struct moe_batch_out *out)
{
	size_t k = s->route.k, have = 0;

	for (size_t i = 0; i < n * k; i++)
		if (i % k < out->n_pick[i / k] && out->fate[i] == MOE_SENT)
			x->queue[have++] = (struct heavy){ out->weights[i], (uint32_t)i };
	qsort(x->queue, have, sizeof *x->queue, heavier);
	for (size_t i = 0; i < have; i++) {
		uint64_t *u = x->used + out->experts[x->queue[i].at];

		out->fate[x->queue[i].at] = *u < cap ? MOE_SENT : MOE_DROPPED;
		*u += *u < cap;
	}
}

/* Loss-free balancing counts what the router chose, before any limit. */
static void move_bias(const struct moe_batch_spec *s, size_t n, const struct moe_batch_out *out,
	float *bias)
{
	size_t k = moe_batch_slots(s), m = s->route.n_expert;
	uint64_t count[MOE_MAX_EXPERT] = { 0 }, sum = 0;

	for (size_t t = 0; t < n; t++)
		for (size_t r = 0; r < out->n_pick[t]; r++, sum++)
			count[out->experts[t * k + r]]++;
	for (size_t i = 0; i < m; i++) {
		double d = (double)sum / (double)m - (double)count[i];

		bias[i] += (float)(d > 0 ? s->bias_step : d < 0 ? -s->bias_step : 0);
	}
}

int moe_route_batch(const struct moe_batch_spec *s, const struct moe_batch_in *in, float *bias,
	struct moe_batch_out *out, struct moe_err *e)
{
	size_t m = s->route.n_expert;
	struct scratch x;
	struct rng r;
	int status = -1;

	if (scratch_init(&x, s, in->n, e))
		goto out;
	rng_seed(&r, mix(s->seed) ^ in->number);
	for (size_t t = 0; t < in->n; t++) {
		int some = 0; /* a finite logit */

		for (size_t i = 0; i < m; i++) {
			x.bad[t] |= !(in->logits[t * m + i] < INFINITY);
			some |= in->logits[t * m + i] > -INFINITY;
		}
		x.bad[t] |= !some;
	}
	if (s->select == MOE_SELECT_BALANCED) {
		if (balanced(s, in, &x, out, e))
			goto out;
	} else if (s->select == MOE_SELECT_SINKHORN)
		sinkhorn(s, in, &x, out);
	else if (s->select == MOE_SELECT_EXPERT_CHOICE)
		expert_choice(s, in, &x, out);
	else
		for (size_t t = 0; t < in->n; t++) {
			one_token(s, in, t, bias, &r, &x, out);
			out->n_pick[t] = x.bad[t] ? 0 : out->n_pick[t];
		}
	if (bias && s->bias_step > 0)
		move_bias(s, in->n, out, bias);
	if (s->select != MOE_SELECT_EXPERT_CHOICE && s->over == MOE_OVER_POSITION)
		limit_by_position(s, in->n, capacity(s, in->n), &x, out);
	else if (s->select != MOE_SELECT_EXPERT_CHOICE && s->over == MOE_OVER_WEIGHT)
		limit_by_weight(s, in->n, capacity(s, in->n), &x, out);
	status = 0;
out:
	scratch_free(&x);
	return status;
}

/* ---- presets ---- */

/*
 * To add one: a row. k 0 = the layer's own; groups: 0 none, else how many at most; half of them are
 * used (as in DeepSeek-V3: 4 of 8).
 * switch: arXiv 2101.03961, capacity factor 1.25. gshard: arXiv 2006.16668, capacity 2 N / E.
 * glam: arXiv 2112.06905, top-2, capacity factor 2. noisy: arXiv 1701.06538 with W_noise = 0, as it
 * is initialised: softplus(0) = ln 2. base: arXiv 2103.16716, weight sigmoid(logit). loss-free:
 * arXiv 2408.15664, u = 0.001.
 */
static const struct {
	const char *name;
	uint16_t k;
	enum moe_score score;
	enum moe_weight weight;
	enum moe_select select;
	enum moe_overflow over;
	double factor, noise, bias_step;
	uint16_t groups;
} presets[] = {
	{ "switch", 1, MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, MOE_SELECT_TOPK, MOE_OVER_POSITION, 1.25, 0, 0, 0 },
	{ "gshard", 2, MOE_SCORE_SOFTMAX, MOE_WEIGHT_NORM, MOE_SELECT_RANDOM2, MOE_OVER_POSITION, 1, 0, 0, 0 },
	{ "glam", 2, MOE_SCORE_SOFTMAX, MOE_WEIGHT_NORM, MOE_SELECT_TOPK, MOE_OVER_POSITION, 2, 0, 0, 0 },
	{ "noisy", 0, MOE_SCORE_NONE, MOE_WEIGHT_SOFTMAX, MOE_SELECT_NOISY, MOE_OVER_NONE, 0,
	  0.6931471805599453, 0, 0 },
	{ "two-level", 0, MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, MOE_SELECT_TWO_LEVEL, MOE_OVER_NONE, 0, 0, 0, GROUPS_ROOT },
	{ "base", 1, MOE_SCORE_SIGMOID, MOE_WEIGHT_RAW, MOE_SELECT_BALANCED, MOE_OVER_NONE, 0, 0, 0, 0 },
	{ "sinkhorn", 0, MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, MOE_SELECT_SINKHORN, MOE_OVER_NONE, 0, 0, 0, 0 },
	{ "expert-choice", 0, MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, MOE_SELECT_EXPERT_CHOICE, MOE_OVER_NONE, 1,
	  0, 0, 0 },
	{ "hash", 1, MOE_SCORE_SOFTMAX, MOE_WEIGHT_RAW, MOE_SELECT_HASH, MOE_OVER_NONE, 0, 0, 0, 0 },
	{ "group-limited", 0, MOE_SCORE_SIGMOID, MOE_WEIGHT_NORM, MOE_SELECT_TOPK, MOE_OVER_NONE, 0, 0, 0, 8 },
	{ "loss-free", 0, MOE_SCORE_SIGMOID, MOE_WEIGHT_NORM, MOE_SELECT_TOPK, MOE_OVER_NONE, 0, 0, .001, 0 },
};

/* The most groups that fit: at most `most`, dividing the experts, groups of two or more. */
static uint16_t groups_for(unsigned n_expert, unsigned most)
{
	for (unsigned g = most; g >= 2; g--)
		if (n_expert % g == 0 && n_expert / g >= 2)
			return (uint16_t)g;
	return 0;
}

int moe_batch_preset(const char *name, unsigned n_expert, unsigned k, struct moe_batch_spec *s,
	struct moe_err *e)
{
	memset(s, 0, sizeof *s);
	s->route.n_expert = (uint16_t)n_expert;
	s->route.k = (uint16_t)k;
	for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
		struct moe_route_spec *r = &s->route;

		if (strcmp(presets[i].name, name))
			continue;
		r->k = presets[i].k ? presets[i].k : r->k;
		r->score = presets[i].score, r->weight = presets[i].weight;
		s->select = presets[i].select, s->over = presets[i].over;
		s->factor = presets[i].factor, s->noise = presets[i].noise;
		s->bias_step = presets[i].bias_step;
		if (presets[i].groups) {
			r->n_group = groups_for(n_expert, presets[i].groups == GROUPS_ROOT ?
				(unsigned)sqrt((double)n_expert) : presets[i].groups);
			if (!r->n_group)
				return err_set(e, MOE_ERR_USAGE, "router '%s': %u experts have no groups", name,
					n_expert);
			r->n_group_used = (uint16_t)(r->n_group / 2);
			if (s->select == MOE_SELECT_TWO_LEVEL) /* two groups where k allows it */
				r->n_group_used = r->k % 2 ? 1 : 2;
		}
		if (moe_batch_check(s, e))
			return err_wrap(e, "router '%s'", name);
		return 0;
	}
	if (moe_route_preset(name, &s->route, e))
		return -1;
	return moe_batch_check(s, e);
}

const char *moe_batch_preset_name(size_t i)
{
	return i < sizeof presets / sizeof presets[0] ? presets[i].name : NULL;
}
