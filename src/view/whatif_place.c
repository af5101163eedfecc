/*
 * whatif_place.c - experts spread over the ranks of a cluster: balance, traffic, energy.
 *
 * The placements are made from the same decisions that judge them: a bound on what a placement
 * from earlier traffic would do. Model of the traffic: tokens live on all ranks evenly; a token is
 * sent once to every distinct other rank that holds one of its experts, and the results come back;
 * of what leaves the node, one copy goes to each other node and is handed on inside it. So per
 * token and layer, both ways, with R ranks, N nodes, width d and b bytes an activation:
 *
 *	a2a   = 2 d b * (distinct ranks) * (R - 1) / R
 *	cross = 2 d b * (distinct nodes) * (N - 1) / N
 *	time  = (a2a / link + cross / net) * (max / mean load) / R
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "metrics/balance.h"
#include "metrics/domain.h"
#include "metrics/sets.h"
#include "view/walk.h"
#include "view/whatif.h"

#define PAIR_BYTES ((size_t)512 << 20) /* co-activation counts of all layers */

struct places {
	struct whatif_places *out;
	struct whatif_place *row;   /* [SIM_N_PLACE][n_layer + 1] */
	struct sim_where *where;    /* as row, of layers */
	size_t n_layer;
	uint64_t **pairs;           /* [n_layer][n_expert^2] or NULL */
	uint64_t *turn;             /* [n_layer] decisions so far */
	uint64_t *ranks, *nodes;    /* as row */
	double *load;               /* [SIM_N_PLACE][n_layer][ranks] */
	size_t n_rank;
	uint64_t tokens;            /* of all layers */
};

static int pair_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct places *s = ctx;

	(void)worker;
	(void)e;
	for (uint32_t t = 0; t < l->n; t++)
		metrics_coact_add_half(s->pairs[layer], NULL, l->n_expert, l->experts + (size_t)t * l->k,
			l->k);
	return 0;
}

static int reach_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct places *s = ctx;
	unsigned ranks, nodes;

	(void)worker;
	(void)e;
	for (int p = 0; p < SIM_N_PLACE; p++) {
		size_t at = (size_t)p * (s->n_layer + 1) + layer;

		if (!s->where[at].start)
			continue;
		for (uint32_t t = 0; t < l->n; t++) {
			sim_reach(s->where + at, l->experts + (size_t)t * l->k, l->k, s->turn[layer] + t,
				&ranks, &nodes);
			s->ranks[at] += ranks;
			s->nodes[at] += nodes;
		}
		s->row[at].tokens += l->n;
	}
	s->turn[layer] += l->n;
	return 0;
}

static struct sim_cluster cluster_of(const struct whatif_opt *o, size_t n_expert)
{
	return (struct sim_cluster){ .n_expert = n_expert, .physical = n_expert + o->spare,
		.groups = o->groups, .nodes = o->nodes, .ranks = o->ranks };
}

/* Pair counts, where they fit and decisions are there. Sets pairs to NULL otherwise. */
static int count_pairs(struct places *s, const struct whatif_case *c, struct moe_err *e)
{
	const struct walk_opt w = { .batch = c->o->batch, .threads = c->o->threads };
	const struct run_info *u = c->u;
	size_t bytes = 0;

	for (size_t l = 0; l < s->n_layer; l++)
		bytes += (size_t)u->layers[l].n_expert * u->layers[l].n_expert * sizeof **s->pairs;
	if (bytes > PAIR_BYTES)
		return 0;
	s->pairs = calloc(s->n_layer + 1, sizeof *s->pairs);
	if (!s->pairs)
		return err_nomem(e, bytes, "pairs of experts");
	for (size_t l = 0; l < s->n_layer; l++) {
		s->pairs[l] = calloc((size_t)u->layers[l].n_expert * u->layers[l].n_expert, 8);
		if (!s->pairs[l])
			return err_nomem(e, bytes, "pairs of experts");
	}
	if (walk_each(c->r, c->f, u, &w, pair_layer, s, e))
		return -1;
	for (size_t l = 0; l < s->n_layer; l++)
		metrics_coact_mirror(s->pairs[l], u->layers[l].n_expert);
	return 0;
}

/* Place one layer under one policy and weigh its ranks. */
static int place_layer(struct places *s, const struct whatif_opt *o, const struct layer_load *y,
	size_t layer, enum sim_place p, struct moe_err *e)
{
	size_t at = (size_t)p * (s->n_layer + 1) + layer;
	struct sim_cluster c = cluster_of(o, y->n_expert);
	struct whatif_place *d = s->row + at;
	double load[MOE_MAX_EXPERT], sum = 0, max = 0,
		*rank = s->load + ((size_t)p * s->n_layer + layer) * s->n_rank;
	unsigned replicas[MOE_MAX_EXPERT];

	d->slots = sim_place_slots(&c, p);
	if (!d->slots || (p == SIM_COACTIVE && !s->pairs))
		return 0;
	for (unsigned x = 0; x < y->n_expert; x++)
		load[x] = (double)y->counts[x];
	d->map = malloc(d->slots * sizeof *d->map);
	if (!d->map)
		return err_nomem(e, d->slots * sizeof *d->map, "a placement");
	if (sim_place(&c, p, load, s->pairs ? s->pairs[layer] : NULL, d->map, e) ||
	    sim_where_init(s->where + at, &c, d->map, d->slots, e))
		return -1;
	sim_rank_load(&c, d->map, d->slots, load, replicas, rank);
	for (size_t x = 0; x < c.ranks; x++) {
		sum += rank[x];
		max = rank[x] > max ? rank[x] : max;
	}
	d->max_mean = sum > 0 ? max * (double)c.ranks / sum : NAN;
	return 0;
}

static void costs(struct whatif_place *d, const struct whatif_opt *o)
{
	double both = o->width ? 2.0 * o->width * o->act_bytes : NAN;
	double r = (double)o->ranks, n = (double)o->nodes;

	d->a2a_bytes = both * d->ranks_per_token * (r - 1) / r;
	d->cross_bytes = both * d->nodes_per_token * (n - 1) / n;
	d->cross_share = d->nodes_per_token * (n - 1) / n / (d->ranks_per_token * (r - 1) / r);
	d->us = (d->a2a_bytes / o->link + d->cross_bytes / o->net) / 1e3 * d->max_mean / r;
	d->joule = (d->a2a_bytes * o->link_pj + d->cross_bytes * o->net_pj) * 8e-12;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The pooled row of a policy: engines' figures over layers, how far a token reaches in a layer on
 * average, sums of what it moves. */
static void pool(struct places *s, const struct whatif_opt *o, int p)
{
	size_t base = (size_t)p * (s->n_layer + 1);
	struct whatif_place *all = s->row + base + s->n_layer;
	double *load = s->load + (size_t)p * s->n_layer * s->n_rank, even[MOE_MAX_LAYER], sum = 0;
	double least_us = 0;
	size_t n = 0;

	all->sglang = all->pooled = all->least = all->p50 = all->p90 = all->mean = all->max_mean = NAN;
	all->a2a_bytes = all->cross_bytes = all->joule = 0;
	for (size_t l = 0; l < s->n_layer; l++) {
		struct whatif_place *d = s->row + base + l;

		d->ranks_per_token = d->tokens ? (double)s->ranks[base + l] / (double)d->tokens : NAN;
		d->nodes_per_token = d->tokens ? (double)s->nodes[base + l] / (double)d->tokens : NAN;
		d->sglang = d->pooled = d->least = d->p50 = d->p90 = d->mean = NAN;
		if (!d->map)
			d->max_mean = NAN;
		costs(d, o);
		all->tokens = d->tokens > all->tokens ? d->tokens : all->tokens;
		all->slots += d->slots;
		all->ranks_per_token += d->ranks_per_token;
		all->nodes_per_token += d->nodes_per_token;
		all->a2a_bytes += d->a2a_bytes, all->cross_bytes += d->cross_bytes;
		all->joule += d->joule;
		least_us += d->us;
		if (isfinite(d->max_mean)) {
			even[n] = 1 / d->max_mean;
			sum += even[n++];
		}
	}
	all->us = least_us;
	all->ranks_per_token /= (double)s->n_layer;
	all->nodes_per_token /= (double)s->n_layer;
	all->cross_share = all->ranks_per_token > 0 ? all->nodes_per_token *
		(1 - 1 / (double)o->nodes) / (all->ranks_per_token * (1 - 1 / (double)o->ranks)) : NAN;
	if (!n || n < s->n_layer)
		return;
	qsort(even, n, sizeof *even, by_value);
	all->sglang = metrics_balancedness_sglang(load, s->n_layer, s->n_rank);
	all->pooled = metrics_balancedness_pooled(load, s->n_layer, s->n_rank);
	all->max_mean = 1 / all->pooled;
	all->least = even[0];
	all->p50 = metrics_quantile(even, n, .5);
	all->p90 = metrics_quantile(even, n, .1); /* vLLM's p90: nine of ten layers are better */
	all->mean = sum / (double)n;
}

/* The shape of the cluster must suit every layer before anything is computed. */
static int check_cluster(const struct run_info *u, const struct whatif_opt *o, struct moe_err *e)
{
	for (uint32_t l = 0; l < u->n_moe_layer; l++) {
		struct sim_cluster c = cluster_of(o, u->layers[l].n_expert);

		if (sim_cluster_check(&c, e))
			return err_wrap(e, "placement of layer %u", u->layers[l].layer);
		if (c.ranks > MOE_MAX_EXPERT || c.physical > 4 * MOE_MAX_EXPERT)
			return err_set(e, MOE_ERR_USAGE, "%zu ranks, %zu slots: at most %d and %d", c.ranks,
				c.physical, MOE_MAX_EXPERT, 4 * MOE_MAX_EXPERT);
	}
	return 0;
}

static void places_why(const struct places *s, const struct whatif_opt *o, int can, char *why,
	size_t size)
{
	if (!can)
		snprintf(why, size, "detail `counts`: balance only; ranks per token and traffic need "
			"detail `routes`");
	else if (!s->pairs)
		snprintf(why, size, "no co-activation placement: the pairs of experts take more than %zu "
			"MiB", PAIR_BYTES >> 20);
	else if (!o->width)
		snprintf(why, size, "no bytes, time or energy: the model's width is not in the log (give "
			"it)");
	else
		snprintf(why, size, "%g B an activation, %g GB/s in a node, %g GB/s between nodes, %g and "
			"%g pJ a bit: assumptions", o->act_bytes, o->link, o->net, o->link_pj, o->net_pj);
}

static int places_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct places *s = ctx;
	const struct run_info *u = c->u;
	const struct whatif_opt *o = c->o;
	struct load_set set = { 0 };
	int status = -1;
	size_t n = SIM_N_PLACE * (u->n_moe_layer + (size_t)1);

	if (check_cluster(u, o, e))
		return -1;
	s->n_layer = u->n_moe_layer;
	s->n_rank = o->ranks;
	s->out->row = s->row = calloc(n, sizeof *s->row);
	s->where = calloc(n, sizeof *s->where);
	s->ranks = calloc(n, sizeof *s->ranks);
	s->nodes = calloc(n, sizeof *s->nodes);
	s->turn = calloc(s->n_layer, sizeof *s->turn);
	s->load = calloc(SIM_N_PLACE * s->n_layer * s->n_rank, sizeof *s->load);
	if (!s->row || !s->where || !s->ranks || !s->nodes || !s->turn || !s->load)
		return err_nomem(e, n * sizeof *s->row, "placements");
	s->out->n = n;
	for (size_t i = 0; i < n; i++) {
		size_t l = i % (s->n_layer + 1);

		s->row[i].layer = l < s->n_layer ? u->layers[l].layer : -1;
		s->row[i].policy = (enum sim_place)(i / (s->n_layer + 1));
	}
	if (reader_load(c->r, c->f, &set, e) || (c->singles && count_pairs(s, c, e)))
		goto out;
	for (size_t l = 0; l < s->n_layer; l++) {
		s->tokens += set.layer[l].tokens;
		for (int p = 0; p < SIM_N_PLACE; p++)
			if (place_layer(s, o, set.layer + l, l, (enum sim_place)p, e))
				goto out;
	}
	status = 0;
out:
	load_set_free(&set);
	return status;
}

static void places_finish(void *ctx, const struct whatif_case *c)
{
	struct places *s = ctx;

	for (int p = 0; p < SIM_N_PLACE; p++)
		pool(s, c->o, p);
	if (s->tokens) {
		places_why(s, c->o, c->singles, c->why, c->why_size);
	} else {
		snprintf(c->why, c->why_size, "no decisions in this selection");
		whatif_places_free(s->out);
	}
}

static void places_close(void *ctx)
{
	struct places *s = ctx;

	for (size_t i = 0; s->where && i < SIM_N_PLACE * (s->n_layer + 1); i++)
		sim_where_free(s->where + i);
	for (size_t l = 0; s->pairs && l < s->n_layer; l++)
		free(s->pairs[l]);
	free(s->pairs);
	free(s->where);
	free(s->ranks);
	free(s->nodes);
	free(s->turn);
	free(s->load);
}

int whatif_placement(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_places *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .counts = 1, .open = places_open, .layer = reach_layer,
		.finish = places_finish, .close = places_close };
	struct places s = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_places_free(out);
	return -1;
}

void whatif_places_free(struct whatif_places *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->row[i].map);
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
