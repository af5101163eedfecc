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
	int weights;               /* does the run keep them: else they are NAN */
	struct whatif_drops *out;
	struct whatif_drop *row;   /* [factor][policy][n_layer + 1], the last is pooled */
	double *lost;              /* as row: gate weight of the dropped */
	double *weight, (*of)[10]; /* [n_layer + 1]: gate weight of all picks, picks by decile */
	int workers;
	struct drops_room { struct sim_room sim; uint8_t *fate; uint16_t *to; } *room; /* [workers] */
};

static size_t drop_at(const struct drops *s, size_t factor, enum sim_drop p, size_t layer)
{
	return (factor * N_DROP + (size_t)p) * (s->n_layer + 1) + layer;
}

/* One token lost some of its picks. */
static void drop_token(struct whatif_drop *d, const struct walk_layer *l, uint32_t t, unsigned lost)
{
	d->dropped += lost;
	d->tokens_lost += lost == l->k;
	d->decile[(uint64_t)t * 10 / l->n] += lost;
}

/* What all limits drop, from the places in the queues; no place below `least` is. */
static void drop_places(struct drops *s, enum sim_drop p, size_t layer, const struct walk_layer *l,
	const uint32_t *place, const uint64_t *cap, uint64_t least)
{
	for (uint32_t t = 0; t < l->n; t++) {
		unsigned lost[WHATIF_LIST], any = 0;

		for (unsigned r = 0; r < l->k; r++) {
			size_t i = (size_t)t * l->k + r;

			if (place[i] < least)
				continue;
			if (!any++)
				memset(lost, 0, sizeof lost);
			for (size_t c = 0; c < s->o->n_factor; c++)
				if (place[i] >= cap[c]) {
					lost[c]++;
					s->lost[drop_at(s, c, p, layer)] += l->weights[i];
				}
		}
		for (size_t c = 0; any && c < s->o->n_factor; c++)
			drop_token(s->row + drop_at(s, c, p, layer), l, t, lost[c]);
	}
}

static void drop_fates(struct drops *s, size_t at, const struct walk_layer *l, const uint8_t *fate)
{
	struct whatif_drop *d = s->row + at;

	for (uint32_t t = 0; t < l->n; t++) {
		unsigned lost = 0;

		for (unsigned r = 0; r < l->k; r++) {
			size_t i = (size_t)t * l->k + r;

			d->moved += fate[i] == SIM_MOVED;
			if (fate[i] == SIM_DROPPED) {
				s->lost[at] += l->weights[i];
				lost++;
			}
		}
		if (lost)
			drop_token(d, l, t, lost);
	}
}

static void drop_total(struct drops *s, size_t layer, const struct walk_layer *l)
{
	for (uint32_t t = 0; t < l->n; t++)
		s->of[layer][(uint64_t)t * 10 / l->n] += l->k;
	for (size_t i = 0; i < (size_t)l->n * l->k; i++)
		s->weight[layer] += l->weights[i];
	for (size_t c = 0; c < s->o->n_factor; c++)
		for (int p = 0; p < N_DROP; p++) {
			struct whatif_drop *d = s->row + drop_at(s, c, (enum sim_drop)p, layer);

			if (p == SIM_DROP_WEIGHT && !s->weights)
				continue;
			d->tokens += l->n;
			d->picks += (uint64_t)l->n * l->k;
		}
}

static int drop_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct drops *s = ctx;
	struct drops_room *m = &s->room[worker];
	struct sim_batch one = { .n = l->n, .k = l->k, .n_expert = l->n_expert, .experts = l->experts,
		.weights = l->weights, .logits = l->logits };
	uint64_t cap[WHATIF_LIST], least = UINT64_MAX;
	uint32_t all[MOE_MAX_EXPERT], most = 0;

	(void)e;
	for (size_t c = 0; c < s->o->n_factor; c++) {
		cap[c] = metrics_capacity(l->n, l->n_expert, l->k, s->o->factor[c]);
		least = cap[c] < least ? cap[c] : least;
	}
	drop_total(s, layer, l);
	sim_queue(&one, SIM_DROP_POSITION, &m->sim);
	memcpy(all, m->sim.used, l->n_expert * sizeof *all);
	for (unsigned x = 0; x < l->n_expert; x++)
		most = all[x] > most ? all[x] : most;
	if (most <= least)
		return 0;
	drop_places(s, SIM_DROP_POSITION, layer, l, m->sim.place, cap, least);
	for (size_t c = 0; c < s->o->n_factor; c++) {
		if (most <= cap[c])
			continue;
		for (unsigned x = 0; x < l->n_expert; x++)
			m->sim.used[x] = all[x] < cap[c] ? all[x] : (uint32_t)cap[c];
		sim_reroute(&one, cap[c], &m->sim, m->fate, m->to);
		drop_fates(s, drop_at(s, c, SIM_DROP_REROUTE, layer), l, m->fate);
	}
	if (s->weights) {
		sim_queue(&one, SIM_DROP_WEIGHT, &m->sim);
		drop_places(s, SIM_DROP_WEIGHT, layer, l, m->sim.place, cap, least);
	}
	return 0;
}

static void drop_pool(struct drops *s)
{
	for (size_t l = 0; l < s->n_layer; l++) {
		s->weight[s->n_layer] += s->weight[l];
		for (int t = 0; t < 10; t++)
			s->of[s->n_layer][t] += s->of[l][t];
	}
	for (size_t i = 0; i < s->out->n; i++) {
		size_t l = i % (s->n_layer + 1), pooled = i - l + s->n_layer;
		struct whatif_drop *d = s->row + i, *all = s->row + pooled;
		double share = d->picks ? (double)d->dropped / (double)d->picks : 0;

		if (d == all)
			continue;
		all->tokens = d->tokens > all->tokens ? d->tokens : all->tokens;
		all->picks += d->picks, all->dropped += d->dropped, all->moved += d->moved;
		all->tokens_lost += d->tokens_lost;
		s->lost[pooled] += s->lost[i];
		if (all->worst < 0 || share > all->worst_share)
			all->worst = d->layer, all->worst_share = share;
		for (int t = 0; t < 10; t++)
			all->decile[t] += d->decile[t];
	}
	for (size_t i = 0; i < s->out->n; i++) {
		size_t l = i % (s->n_layer + 1);
		struct whatif_drop *d = s->row + i;

		d->lost_weight = d->picks && s->weight[l] > 0 ? s->lost[i] / s->weight[l] : NAN;
		for (int t = 0; t < 10; t++)
			d->decile[t] = d->picks && s->of[l][t] > 0 ? d->decile[t] / s->of[l][t] : NAN;
	}
}

static int drop_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct drops *s = ctx;
	size_t n = c->o->n_factor * N_DROP * (c->n_layer + 1), picks = (size_t)c->o->batch * c->k;

	s->o = c->o;
	s->n_layer = c->n_layer;
	s->weights = c->weights;
	s->workers = c->workers;
	s->out->row = s->row = calloc(n, sizeof *s->row);
	s->lost = calloc(n, sizeof *s->lost);
	s->weight = calloc(c->n_layer + 1, sizeof *s->weight);
	s->of = calloc(c->n_layer + 1, sizeof *s->of);
	s->room = calloc((size_t)c->workers, sizeof *s->room);
	if (!s->row || !s->weight || !s->lost || !s->of || !s->room)
		return err_nomem(e, n * sizeof *s->row, "figures of capacity");
	for (int i = 0; i < c->workers; i++) {
		struct drops_room *m = &s->room[i];

		m->fate = malloc(picks);
		m->to = malloc(picks * sizeof *m->to);
		if (!m->fate || !m->to)
			return err_nomem(e, picks * 3, "a batch's picks");
		if (sim_room_init(&m->sim, c->o->batch, c->k, c->n_expert, e))
			return -1;
	}
	for (size_t i = 0; i < n; i++) {
		size_t l = i % (s->n_layer + 1), cell = i / (s->n_layer + 1);

		s->row[i].layer = l < s->n_layer ? c->u->layers[l].layer : -1;
		s->row[i].factor = s->o->factor[cell / N_DROP];
		s->row[i].policy = (enum sim_drop)(cell % N_DROP);
		s->row[i].worst = -1;
	}
	s->out->n = n;
	return 0;
}

static void drop_finish(void *ctx, const struct whatif_case *c)
{
	struct drops *s = ctx;
	int none = !c->weights, blind = !c->full;

	drop_pool(s);
	if (!s->row[s->n_layer].picks) {
		snprintf(c->why, c->why_size, "no decisions in this selection");
		whatif_drops_free(s->out);
	} else if (none || blind) {
		snprintf(c->why, c->why_size, "%s%s%s", none ? "the run keeps no gate weights: no `probs`, "
			"no lost weight" : "", none && blind ? "; " : "", blind ? "without router scores "
			"(detail `full`), `reroute` sends a pick to the emptiest expert instead of the next "
			"best" : "");
	}
}

static void drop_close(void *ctx)
{
	struct drops *s = ctx;

	for (int i = 0; s->room && i < s->workers; i++) {
		sim_room_free(&s->room[i].sim);
		free(s->room[i].fate);
		free(s->room[i].to);
	}
	free(s->room);
	free(s->weight);
	free(s->lost);
	free(s->of);
}

int whatif_capacity(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_drops *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .want = SCAN_WEIGHTS | SCAN_LOGITS, .open = drop_open,
		.layer = drop_layer, .finish = drop_finish, .close = drop_close };
	struct drops s = { .out = out };

	memset(out, 0, sizeof *out);
	out->batch = o->batch;
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_drops_free(out);
	return -1;
}

void whatif_drops_free(struct whatif_drops *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}

/* ---- top-k ---- */

struct ks {
	struct whatif_ks *out;
	struct whatif_k *row;      /* [n_new][n_layer + 1] */
	unsigned k_new[WHATIF_LIST], most; /* most: the largest */
	size_t n_new, n_layer;
	double *weight;            /* [n_layer + 1] */
	double *lost, *mass;       /* as row */
	uint64_t *count;           /* [n_new][n_layer][MOE_MAX_EXPERT] */
	uint64_t *scored;          /* as row: tokens behind mass */
};

static void k_token(struct ks *s, size_t layer, const struct walk_layer *l, uint32_t t)
{
	const uint16_t *set = l->experts + (size_t)t * l->k;
	const float *w = l->weights + (size_t)t * l->k;
	uint16_t rank[MOE_MAX_EXPERT];
	double p[MOE_MAX_EXPERT];

	if (l->logits) {
		const float *z = l->logits + (size_t)t * l->n_expert;

		whatif_softmax(z, l->n_expert, p);
		whatif_ranking(set, l->k, z, l->n_expert, s->most > l->k ? s->most : l->k, rank);
	}
	for (unsigned j = 0; j < l->k; j++)
		s->weight[layer] += w[j];
	for (size_t i = 0; i < s->n_new; i++) {
		size_t at = i * (s->n_layer + 1) + layer;
		unsigned n = s->k_new[i] < l->n_expert ? s->k_new[i] : l->n_expert;
		uint64_t *count = s->count + (i * s->n_layer + layer) * MOE_MAX_EXPERT;
		const uint16_t *best = l->logits ? rank : set;

		if (n > l->k && !l->logits)
			continue;
		for (unsigned j = n; j < l->k; j++)
			s->lost[at] += w[j];
		for (unsigned j = 0; j < n; j++) {
			count[best[j]]++;
			s->mass[at] += l->logits ? p[best[j]] : 0;
		}
		s->scored[at] += l->logits != NULL;
		s->row[at].tokens++;
	}
}

static int k_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	(void)worker;
	(void)e;
	for (uint32_t t = 0; t < l->n; t++)
		k_token(ctx, layer, l, t);
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

static void k_pool(struct ks *s, const struct run_info *u)
{
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance bal;

	for (size_t l = 0; l < s->n_layer; l++)
		s->weight[s->n_layer] += s->weight[l];
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
				s->lost[all] += s->lost[at];
				s->mass[all] += s->mass[at], s->scored[all] += s->scored[at];
			} else {
				d->max_mean = NAN;
			}
			d->lost_weight = d->tokens && s->weight[l] > 0 && d->k_new <= d->k ?
				s->lost[at] / s->weight[l] : NAN;
			d->mass = s->scored[at] ? s->mass[at] / (double)s->scored[at] : NAN;
		}
	}
}

static int k_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct ks *s = ctx;
	struct whatif_ks *out = s->out;

	choose_k(s, c->u, c->o, c->full);
	for (size_t i = 0; i < s->n_new; i++)
		s->most = s->k_new[i] > s->most ? s->k_new[i] : s->most;
	s->n_layer = c->n_layer;
	out->n = s->n_new * (s->n_layer + 1);
	out->row = s->row = calloc(out->n + 1, sizeof *s->row);
	s->weight = calloc(s->n_layer + 1, sizeof *s->weight);
	s->lost = calloc(out->n + 1, sizeof *s->lost);
	s->mass = calloc(out->n + 1, sizeof *s->mass);
	s->scored = calloc(out->n + 1, sizeof *s->scored);
	s->count = calloc(s->n_new * s->n_layer * MOE_MAX_EXPERT + 1, sizeof *s->count);
	if (!s->row || !s->weight || !s->lost || !s->mass || !s->scored || !s->count)
		return err_nomem(e, out->n * (sizeof *s->row + MOE_MAX_EXPERT * 8), "figures of top-k");
	for (size_t i = 0; i < out->n; i++) {
		size_t l = i % (s->n_layer + 1);

		s->row[i].layer = l < s->n_layer ? c->u->layers[l].layer : -1;
		s->row[i].k = c->u->layers[l < s->n_layer ? l : 0].k;
		s->row[i].k_new = s->k_new[i / (s->n_layer + 1)];
	}
	return 0;
}

static void k_finish(void *ctx, const struct whatif_case *c)
{
	struct ks *s = ctx;
	int any = 0;

	k_pool(s, c->u);
	for (size_t i = 0; i < s->n_new; i++)
		any |= s->row[i * (s->n_layer + 1) + s->n_layer].tokens > 0;
	if (!any) {
		snprintf(c->why, c->why_size, "no decisions in this selection, or none of these k can "
			"be answered without router scores");
		whatif_ks_free(s->out);
	} else if (!c->full) {
		snprintf(c->why, c->why_size, "%swithout router scores (detail `full`) only a smaller k "
			"can be answered, and `mass` not at all", c->weights ? "" : "the run keeps no gate "
			"weights: no lost weight; ");
	}
}

static void k_close(void *ctx)
{
	struct ks *s = ctx;

	free(s->weight);
	free(s->lost);
	free(s->mass);
	free(s->scored);
	free(s->count);
}

int whatif_topk(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_ks *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .want = SCAN_WEIGHTS | SCAN_LOGITS, .open = k_open,
		.layer = k_layer, .finish = k_finish, .close = k_close };
	struct ks s = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_ks_free(out);
	return -1;
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
	struct whatif_cuts *out;
	struct whatif_cut *row;    /* [n_n][n_layer + 1] */
	unsigned n[WHATIF_LIST];
	size_t n_n, n_layer;
	uint16_t *order;           /* [n_layer][MOE_MAX_EXPERT] rank of each expert, coldest = 0 */
	double *mass;              /* as row */
	uint64_t *touched, *lost, *tokens, *scored; /* as row */
	double *w_all, *w_lost;    /* as row */
};

static int cut_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct cuts *s = ctx;
	const uint16_t *cold = s->order + layer * MOE_MAX_EXPERT;
	double p[MOE_MAX_EXPERT];

	(void)worker;
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
			uint8_t mark[MOE_MAX_EXPERT];
			unsigned gone = 0;
			double mass = 0;

			for (unsigned j = 0; j < l->k; j++)
				gone += cold[set[j]] < s->n[i];
			s->touched[at] += gone > 0;
			s->lost[at] += gone == l->k;
			s->tokens[at]++;
			if (!z || !(own > 0))
				continue;
			memset(mark, 0, l->n_expert);
			for (unsigned j = 0; j < l->k; j++) {
				mark[set[j]] = 1;
				mass += cold[set[j]] < s->n[i] ? 0 : p[set[j]];
			}
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

static void cut_pool(struct cuts *s)
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

static int cut_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct cuts *s = ctx;
	unsigned most = c->u->layers[0].n_expert;
	struct load_set set = { 0 };
	size_t n;
	int bad;

	s->n_layer = c->u->n_moe_layer;
	s->n_n = c->o->n_prune;
	memcpy(s->n, c->o->prune, sizeof s->n);
	if (!s->n_n)
		for (unsigned d = 16; d >= 2; d /= 2)
			if (most / d > (s->n_n ? s->n[s->n_n - 1] : 0))
				s->n[s->n_n++] = most / d;
	n = s->n_n * (s->n_layer + 1);
	s->out->row = s->row = calloc(n + 1, sizeof *s->row);
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

		s->row[i].layer = l < s->n_layer ? c->u->layers[l].layer : -1;
	}
	s->out->n = n;
	bad = reader_load(c->r, c->f, &set, e) || cut_loads(s, &set, e);
	load_set_free(&set);
	return bad ? -1 : 0;
}

static void cut_finish(void *ctx, const struct whatif_case *c)
{
	struct cuts *s = ctx;

	cut_pool(s);
	if (!s->out->n) {
		snprintf(c->why, c->why_size, "one expert a layer: nothing can be pruned");
	} else if (!s->row[s->n_layer].picks) {
		snprintf(c->why, c->why_size, "no decisions in this selection");
		whatif_cuts_free(s->out);
	} else if (!c->singles) {
		snprintf(c->why, c->why_size, "detail `counts`: shares of picks and weight only; which "
			"tokens lose picks needs detail `routes`, what would take their place `full`");
	} else if (!c->full) {
		snprintf(c->why, c->why_size, "no router scores: `mass`, what the next best experts "
			"would make up for, needs detail `full`");
	}
}

static void cut_close(void *ctx)
{
	struct cuts *s = ctx;

	free(s->order);
	free(s->mass);
	free(s->touched);
	free(s->lost);
	free(s->tokens);
	free(s->scored);
	free(s->w_all);
	free(s->w_lost);
}

int whatif_prune(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_cuts *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .counts = 1, .want = SCAN_LOGITS, .open = cut_open,
		.layer = cut_layer, .finish = cut_finish, .close = cut_close };
	struct cuts s = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_cuts_free(out);
	return -1;
}

void whatif_cuts_free(struct whatif_cuts *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->row[i].experts);
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
