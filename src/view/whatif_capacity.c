/*
 * whatif_capacity.c - limits of picks per expert, fewer or more experts per token, fewer experts:
 * what each would lose. One pass over the decisions, memory bounded by a batch.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "metrics/balance.h"
#include "metrics/capacity.h"
#include "view/walk.h"
#include "view/whatif.h"

enum { N_DROP = 3 };

/* ---- capacity ---- */

struct drops {
	const struct whatif_opt *o;
	size_t n_layer;
	int no_weights;            /* the run keeps none: weights are NAN */
	struct whatif_drop *row;   /* [factor][policy][n_layer + 1], the last is pooled */
	double *weight, *lost;     /* as row: gate weight of all picks, of the dropped */
	double (*of)[10];          /* as row: picks by decile */
	struct sim_room room;
	uint8_t *fate;
	uint16_t *to;
};

static void drop_add(struct drops *s, size_t at, const struct walk_layer *l)
{
	struct whatif_drop *d = s->row + at;

	for (uint32_t t = 0; t < l->n; t++) {
		unsigned lost = 0, tenth = (unsigned)((uint64_t)t * 10 / l->n);

		for (unsigned r = 0; r < l->k; r++) {
			size_t i = (size_t)t * l->k + r;

			s->weight[at] += l->weights[i];
			d->moved += s->fate[i] == SIM_MOVED;
			if (s->fate[i] == SIM_DROPPED) {
				s->lost[at] += l->weights[i];
				lost++;
			}
		}
		d->dropped += lost;
		d->tokens_lost += lost == l->k;
		d->decile[tenth] += lost;
		s->of[at][tenth] += l->k;
	}
	d->tokens += l->n;
	d->picks += (uint64_t)l->n * l->k;
}

static int drop_layer(void *ctx, size_t layer, const struct walk_layer *l,
	const struct walk_batch *b, struct moe_err *e)
{
	struct drops *s = ctx;
	struct sim_batch one = { .n = l->n, .k = l->k, .n_expert = l->n_expert, .experts = l->experts,
		.weights = l->weights, .logits = l->logits };

	(void)b;
	(void)e;
	for (size_t c = 0; c < s->o->n_factor; c++)
		for (size_t p = 0; p < N_DROP; p++) {
			if (p == SIM_DROP_WEIGHT && s->no_weights)
				continue;
			sim_capacity(&one, metrics_capacity(l->n, l->n_expert, l->k, s->o->factor[c]),
				(enum sim_drop)p, &s->room, s->fate, s->to);
			drop_add(s, (c * N_DROP + p) * (s->n_layer + 1) + layer, l);
		}
	return 0;
}

static void drop_pool(struct drops *s, struct whatif_drops *out)
{
	for (size_t i = 0; i < out->n; i++) {
		struct whatif_drop *d = out->row + i, *all = out->row + i / (s->n_layer + 1) *
			(s->n_layer + 1) + s->n_layer;
		size_t pooled = (size_t)(all - out->row);
		double share = d->picks ? (double)d->dropped / (double)d->picks : 0;

		if (d == all)
			continue;
		all->tokens = d->tokens > all->tokens ? d->tokens : all->tokens;
		all->picks += d->picks, all->dropped += d->dropped, all->moved += d->moved;
		all->tokens_lost += d->tokens_lost;
		s->weight[pooled] += s->weight[i], s->lost[pooled] += s->lost[i];
		if (all->worst < 0 || share > all->worst_share)
			all->worst = d->layer, all->worst_share = share;
		for (int t = 0; t < 10; t++) {
			all->decile[t] += d->decile[t];
			s->of[pooled][t] += s->of[i][t];
		}
	}
	for (size_t i = 0; i < out->n; i++) {
		struct whatif_drop *d = out->row + i;

		d->lost_weight = s->weight[i] > 0 ? s->lost[i] / s->weight[i] : NAN;
		for (int t = 0; t < 10; t++)
			d->decile[t] = s->of[i][t] > 0 ? d->decile[t] / s->of[i][t] : NAN;
	}
}

static int drops_init(struct drops *s, const struct run_info *u, struct whatif_drops *out,
	struct moe_err *e)
{
	size_t n = s->o->n_factor * N_DROP * (s->n_layer + 1), k = 1, n_expert = 1;

	for (size_t l = 0; l < s->n_layer; l++) {
		k = u->layers[l].k > k ? u->layers[l].k : k;
		n_expert = u->layers[l].n_expert > n_expert ? u->layers[l].n_expert : n_expert;
	}
	out->row = s->row = calloc(n, sizeof *s->row);
	s->weight = calloc(n, sizeof *s->weight);
	s->lost = calloc(n, sizeof *s->lost);
	s->of = calloc(n, sizeof *s->of);
	s->fate = malloc(s->o->batch * k);
	s->to = malloc(s->o->batch * k * sizeof *s->to);
	if (!s->row || !s->weight || !s->lost || !s->of || !s->fate || !s->to)
		return err_nomem(e, n * sizeof *s->row, "figures of capacity");
	for (size_t i = 0; i < n; i++) {
		size_t l = i % (s->n_layer + 1), cell = i / (s->n_layer + 1);

		s->row[i].layer = l < s->n_layer ? u->layers[l].layer : -1;
		s->row[i].factor = s->o->factor[cell / N_DROP];
		s->row[i].policy = (enum sim_drop)(cell % N_DROP);
		s->row[i].worst = -1;
	}
	out->n = n;
	return sim_room_init(&s->room, s->o->batch, (unsigned)k, n_expert, e);
}

int whatif_capacity(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_drops *out, struct moe_err *e)
{
	struct drops s = { .o = o };
	struct run_info *u = NULL;
	int can, status = -1, full;

	memset(out, 0, sizeof *out);
	out->batch = o->batch;
	can = whatif_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	full = !strcmp(u->detail, "full");
	s.n_layer = u->n_moe_layer;
	s.no_weights = !strcmp(u->weights, "none");
	if (drops_init(&s, u, out, e) || walk_each(r, f, u, o->batch, full, drop_layer, &s, e))
		goto out;
	drop_pool(&s, out);
	if (!out->row[s.n_layer].picks) {
		snprintf(out->why, sizeof out->why, "no decisions in this selection");
		whatif_drops_free(out);
	} else if (s.no_weights || !full) {
		snprintf(out->why, sizeof out->why, "%s%s%s", s.no_weights ? "the run keeps no gate weights: no "
			"`probs`, no lost weight" : "", s.no_weights && !full ? "; " : "", full ? "" : "without "
			"router scores (detail `full`), `reroute` sends a pick to the emptiest expert instead of the "
			"next best");
	}
	status = 0;
out:
	sim_room_free(&s.room);
	free(s.weight);
	free(s.lost);
	free(s.of);
	free(s.fate);
	free(s.to);
	free(u);
	if (status)
		whatif_drops_free(out);
	return status;
}

void whatif_drops_free(struct whatif_drops *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}

/* ---- top-k ---- */

struct ks {
	struct whatif_k *row;      /* [n_new][n_layer + 1] */
	unsigned k_new[WHATIF_LIST];
	size_t n_new, n_layer;
	double *weight, *lost, *mass; /* as row */
	uint64_t *count;           /* [n_new][n_layer][MOE_MAX_EXPERT] */
	uint64_t *scored;          /* as row: tokens behind mass */
};

static int k_layer(void *ctx, size_t layer, const struct walk_layer *l, const struct walk_batch *b,
	struct moe_err *e)
{
	struct ks *s = ctx;
	uint16_t rank[MOE_MAX_EXPERT];
	double p[MOE_MAX_EXPERT];
	unsigned most = l->k;

	(void)b;
	(void)e;
	for (size_t i = 0; i < s->n_new; i++)
		most = s->k_new[i] > most ? s->k_new[i] : most;
	for (uint32_t t = 0; t < l->n; t++) {
		const uint16_t *set = l->experts + (size_t)t * l->k;
		const float *w = l->weights + (size_t)t * l->k;

		if (l->logits) {
			const float *z = l->logits + (size_t)t * l->n_expert;

			whatif_softmax(z, l->n_expert, p);
			whatif_ranking(set, l->k, z, l->n_expert, most, rank);
		} else {
			memcpy(rank, set, l->k * sizeof *rank);
		}
		for (size_t i = 0; i < s->n_new; i++) {
			size_t at = i * (s->n_layer + 1) + layer;
			unsigned n = s->k_new[i] < l->n_expert ? s->k_new[i] : l->n_expert;

			if (n > l->k && !l->logits)
				continue;
			for (unsigned j = 0; j < l->k; j++) {
				s->weight[at] += w[j];
				s->lost[at] += j >= n ? w[j] : 0;
			}
			for (unsigned j = 0; j < n; j++) {
				s->count[(i * s->n_layer + layer) * MOE_MAX_EXPERT + rank[j]]++;
				s->mass[at] += l->logits ? p[rank[j]] : 0;
			}
			s->scored[at] += l->logits != NULL;
			s->row[at].tokens++;
		}
	}
	return 0;
}

/* 1..k-1 (halves of k where that is a long list) and twice k. */
static void choose_k(struct ks *s, const struct run_info *u, const struct whatif_opt *o, int full)
{
	unsigned k = u->layers[0].k;

	s->n_new = o->n_topk;
	memcpy(s->k_new, o->topk, sizeof s->k_new);
	if (s->n_new)
		return;
	if (k <= 8)
		for (unsigned n = 1; n <= k; n++)
			s->k_new[s->n_new++] = n;
	else
		for (unsigned n = k; n >= 1 && s->n_new < WHATIF_LIST - 1; n /= 2)
			s->k_new[s->n_new++] = n;
	if (full && 2 * k <= u->layers[0].n_expert)
		s->k_new[s->n_new++] = 2 * k;
}

static void k_finish(struct ks *s, const struct run_info *u)
{
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance bal;

	for (size_t i = 0; i < s->n_new; i++) {
		size_t all = i * (s->n_layer + 1) + s->n_layer;

		for (size_t l = 0; l <= s->n_layer; l++) {
			size_t at = i * (s->n_layer + 1) + l;
			struct whatif_k *d = s->row + at;

			if (l < s->n_layer) {
				metrics_balance(s->count + (i * s->n_layer + l) * MOE_MAX_EXPERT,
					u->layers[l].n_expert, sorted, &bal);
				d->max_mean = bal.max_mean;
				s->row[all].tokens = d->tokens > s->row[all].tokens ? d->tokens :
					s->row[all].tokens;
				s->weight[all] += s->weight[at], s->lost[all] += s->lost[at];
				s->mass[all] += s->mass[at], s->scored[all] += s->scored[at];
			} else {
				d->max_mean = NAN;
			}
			d->lost_weight = s->weight[at] > 0 && d->k_new <= d->k ? s->lost[at] / s->weight[at] :
				NAN;
			d->mass = s->scored[at] ? s->mass[at] / (double)s->scored[at] : NAN;
		}
	}
}

int whatif_topk(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_ks *out, struct moe_err *e)
{
	struct ks s = { 0 };
	struct run_info *u = NULL;
	int can, status = -1, full;

	memset(out, 0, sizeof *out);
	can = whatif_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	full = !strcmp(u->detail, "full");
	choose_k(&s, u, o, full);
	s.n_layer = u->n_moe_layer;
	out->n = s.n_new * (s.n_layer + 1);
	out->row = s.row = calloc(out->n + 1, sizeof *s.row);
	s.weight = calloc(out->n + 1, sizeof *s.weight);
	s.lost = calloc(out->n + 1, sizeof *s.lost);
	s.mass = calloc(out->n + 1, sizeof *s.mass);
	s.scored = calloc(out->n + 1, sizeof *s.scored);
	s.count = calloc(s.n_new * s.n_layer * MOE_MAX_EXPERT + 1, sizeof *s.count);
	if (!s.row || !s.weight || !s.lost || !s.mass || !s.scored || !s.count) {
		err_nomem(e, out->n * (sizeof *s.row + MOE_MAX_EXPERT * 8), "figures of top-k");
		goto out;
	}
	for (size_t i = 0; i < out->n; i++) {
		size_t l = i % (s.n_layer + 1);

		s.row[i].layer = l < s.n_layer ? u->layers[l].layer : -1;
		s.row[i].k = u->layers[l < s.n_layer ? l : 0].k;
		s.row[i].k_new = s.k_new[i / (s.n_layer + 1)];
	}
	if (walk_each(r, f, u, o->batch, full, k_layer, &s, e))
		goto out;
	k_finish(&s, u);
	if (!out->n || !s.row[s.n_layer].tokens) {
		snprintf(out->why, sizeof out->why, "no decisions in this selection, or none of these k can "
			"be answered without router scores");
		whatif_ks_free(out);
	} else if (!full) {
		snprintf(out->why, sizeof out->why, "%swithout router scores (detail `full`) only a smaller k "
			"can be answered, and `mass` not at all", strcmp(u->weights, "none") ? "" : "the run keeps no "
			"gate weights: no lost weight; ");
	}
	status = 0;
out:
	free(s.weight);
	free(s.lost);
	free(s.mass);
	free(s.scored);
	free(s.count);
	free(u);
	if (status)
		whatif_ks_free(out);
	return status;
}

void whatif_ks_free(struct whatif_ks *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}

/* ---- pruning ---- */

/* Softmax mass of `want` more experts: the best by logit of those that stay (cold >= n) and are
 * not marked; marks them. */
static double substitutes(const float *z, const double *p, const uint16_t *cold, unsigned n_expert,
	unsigned n, unsigned want, uint8_t *mark)
{
	double mass = 0;

	while (want--) {
		int best = -1;

		for (unsigned e = 0; e < n_expert; e++)
			if (!mark[e] && cold[e] >= n && (best < 0 || z[e] > z[best]))
				best = (int)e;
		if (best < 0)
			break;
		mark[best] = 1;
		mass += p[best];
	}
	return mass;
}

struct cuts {
	struct whatif_cut *row;    /* [n_n][n_layer + 1] */
	unsigned n[WHATIF_LIST];
	size_t n_n, n_layer;
	uint16_t *order;           /* [n_layer][MOE_MAX_EXPERT] rank of each expert, coldest = 0 */
	double *mass;              /* as row */
	uint64_t *touched, *lost, *tokens, *scored; /* as row */
	double *w_all, *w_lost;    /* as row */
};

static int cut_layer(void *ctx, size_t layer, const struct walk_layer *l,
	const struct walk_batch *b, struct moe_err *e)
{
	struct cuts *s = ctx;
	const uint16_t *cold = s->order + layer * MOE_MAX_EXPERT;
	double p[MOE_MAX_EXPERT];

	(void)b;
	(void)e;
	for (uint32_t t = 0; t < l->n; t++) {
		const uint16_t *set = l->experts + (size_t)t * l->k;
		const float *z = l->logits ? l->logits + (size_t)t * l->n_expert : NULL;
		double own = 0;

		if (z)
			whatif_softmax(z, l->n_expert, p);
		for (unsigned i = 0; i < l->k && z; i++)
			own += p[set[i]];
		for (size_t i = 0; i < s->n_n; i++) {
			size_t at = i * (s->n_layer + 1) + layer;
			uint8_t mark[MOE_MAX_EXPERT] = { 0 };
			unsigned gone = 0;
			double mass = 0;

			for (unsigned j = 0; j < l->k; j++) {
				int out = cold[set[j]] < s->n[i];

				gone += (unsigned)out;
				mark[set[j]] = 1;
				mass += z && !out ? p[set[j]] : 0;
			}
			s->touched[at] += gone > 0;
			s->lost[at] += gone == l->k;
			s->tokens[at]++;
			if (!z || !(own > 0))
				continue;
			mass += substitutes(z, p, cold, l->n_expert, s->n[i], gone, mark);
			s->mass[at] += mass / own;
			s->scored[at]++;
		}
	}
	return 0;
}

struct cold { uint64_t count; uint16_t e; };

static int colder(const void *a, const void *b)
{
	const struct cold *x = a, *y = b;

	return x->count != y->count ? (x->count < y->count ? -1 : 1) : (x->e > y->e) - (x->e < y->e);
}

/* From load sums: who is coldest, and the shares of picks and weight that go with them. */
static int cut_loads(struct cuts *s, const struct load_set *set, struct moe_err *e)
{
	for (size_t l = 0; l < s->n_layer; l++) {
		const struct layer_load *y = set->layer + l;
		struct cold c[MOE_MAX_EXPERT];
		uint64_t picks = 0;
		double weight = 0;

		for (unsigned x = 0; x < y->n_expert; x++) {
			c[x] = (struct cold){ y->counts[x], (uint16_t)x };
			picks += y->counts[x];
			weight += y->weights[x];
		}
		qsort(c, y->n_expert, sizeof *c, colder);
		for (unsigned x = 0; x < y->n_expert; x++)
			s->order[l * MOE_MAX_EXPERT + c[x].e] = (uint16_t)x;
		for (size_t i = 0; i < s->n_n; i++) {
			size_t at = i * (s->n_layer + 1) + l, all = i * (s->n_layer + 1) + s->n_layer;
			struct whatif_cut *d = s->row + at;
			struct buf names;
			double lost = 0;

			buf_init(&names, 1 << 16);
			d->n = s->n[i] < y->n_expert ? s->n[i] : y->n_expert;
			d->n_expert = y->n_expert;
			for (unsigned x = 0; x < d->n; x++) {
				buf_printf(&names, "%s%u", x ? " " : "", c[x].e);
				lost += (double)c[x].count;
				s->w_lost[at] += y->weights[c[x].e];
			}
			s->w_all[at] = weight;
			s->w_all[all] += weight;
			s->w_lost[all] += s->w_lost[at];
			d->experts = names.data ? names.data : NULL; /* the buffer's memory is handed over */
			if (names.failed)
				return err_nomem(e, names.cap, "names of experts");
			d->picks = picks;
			d->tokens = y->tokens;
			d->lost_picks = picks ? lost / (double)picks : NAN;
			d->lost_weight = weight > 0 ? s->w_lost[at] / weight : NAN;
			s->row[all].picks += picks;
			s->row[all].lost_picks += lost;
			s->row[all].n += d->n;
			s->row[all].n_expert += d->n_expert;
			s->row[all].tokens = y->tokens > s->row[all].tokens ? y->tokens : s->row[all].tokens;
		}
	}
	for (size_t i = 0; i < s->n_n; i++) {
		size_t all = i * (s->n_layer + 1) + s->n_layer;

		s->row[all].lost_picks = s->row[all].picks ? s->row[all].lost_picks /
			(double)s->row[all].picks : NAN;
		s->row[all].lost_weight = s->w_all[all] > 0 ? s->w_lost[all] / s->w_all[all] : NAN;
	}
	return 0;
}

static void cut_finish(struct cuts *s)
{
	for (size_t i = 0; i < s->n_n * (s->n_layer + 1); i++) {
		size_t all = i / (s->n_layer + 1) * (s->n_layer + 1) + s->n_layer;

		if (i != all) {
			s->touched[all] += s->touched[i], s->lost[all] += s->lost[i];
			s->tokens[all] += s->tokens[i], s->mass[all] += s->mass[i];
			s->scored[all] += s->scored[i];
		}
		s->row[i].touched = s->tokens[i] ? (double)s->touched[i] / (double)s->tokens[i] : NAN;
		s->row[i].lost_tokens = s->tokens[i] ? (double)s->lost[i] / (double)s->tokens[i] : NAN;
		s->row[i].mass = s->scored[i] ? s->mass[i] / (double)s->scored[i] : NAN;
	}
}

static int cuts_init(struct cuts *s, const struct run_info *u, const struct whatif_opt *o,
	struct whatif_cuts *out, struct moe_err *e)
{
	unsigned most = u->layers[0].n_expert;
	size_t n;

	s->n_layer = u->n_moe_layer;
	s->n_n = o->n_prune;
	memcpy(s->n, o->prune, sizeof s->n);
	if (!s->n_n)
		for (unsigned d = 16; d >= 2; d /= 2)
			if (most / d > (s->n_n ? s->n[s->n_n - 1] : 0))
				s->n[s->n_n++] = most / d;
	n = s->n_n * (s->n_layer + 1);
	out->row = s->row = calloc(n + 1, sizeof *s->row);
	s->order = calloc(s->n_layer * MOE_MAX_EXPERT, sizeof *s->order);
	s->mass = calloc(n + 1, sizeof *s->mass);
	s->touched = calloc(n + 1, sizeof *s->touched);
	s->lost = calloc(n + 1, sizeof *s->lost);
	s->tokens = calloc(n + 1, sizeof *s->tokens);
	s->scored = calloc(n + 1, sizeof *s->scored);
	s->w_all = calloc(n + 1, sizeof *s->w_all);
	s->w_lost = calloc(n + 1, sizeof *s->w_lost);
	if (!s->row || !s->order || !s->mass || !s->touched || !s->lost || !s->tokens || !s->scored ||
	    !s->w_all || !s->w_lost)
		return err_nomem(e, n * sizeof *s->row, "figures of pruning");
	for (size_t i = 0; i < n; i++) {
		size_t l = i % (s->n_layer + 1);

		s->row[i].layer = l < s->n_layer ? u->layers[l].layer : -1;
	}
	out->n = n;
	return 0;
}

int whatif_prune(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_cuts *out, struct moe_err *e)
{
	struct cuts s = { 0 };
	struct load_set set = { 0 };
	struct run_info *u = NULL;
	int can, status = -1;

	memset(out, 0, sizeof *out);
	can = whatif_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can < 0 || !u->n_moe_layer) {
		status = can;
		goto out;
	}
	if (cuts_init(&s, u, o, out, e) || reader_load(r, f, &set, e) || cut_loads(&s, &set, e))
		goto out;
	if (can && walk_each(r, f, u, o->batch, !strcmp(u->detail, "full"), cut_layer, &s, e))
		goto out;
	cut_finish(&s);
	if (!out->n) {
		snprintf(out->why, sizeof out->why, "one expert a layer: nothing can be pruned");
	} else if (!s.row[s.n_layer].picks) {
		snprintf(out->why, sizeof out->why, "no decisions in this selection");
		whatif_cuts_free(out);
	} else if (!can) {
		snprintf(out->why, sizeof out->why, "detail `counts`: shares of picks and weight only; which "
			"tokens lose picks needs detail `routes`, what would take their place `full`");
	} else if (strcmp(u->detail, "full")) {
		snprintf(out->why, sizeof out->why, "no router scores: `mass`, what the next best experts "
			"would make up for, needs detail `full`");
	}
	status = 0;
out:
	load_set_free(&set);
	free(s.order);
	free(s.mass);
	free(s.touched);
	free(s.lost);
	free(s.tokens);
	free(s.scored);
	free(s.w_all);
	free(s.w_lost);
	free(u);
	if (status)
		whatif_cuts_free(out);
	return status;
}

void whatif_cuts_free(struct whatif_cuts *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->row[i].experts);
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
