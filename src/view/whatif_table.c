/*
 * whatif_table.c - the answers of whatif.h as tables. Keys are those of docs/METRICS.md and do not
 * change. A pooled row has no layer (null); with layers = 0 only pooled rows are listed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "view/table.h"
#include "view/whatif.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
#define HEAD VIEW_HEAD, { "layer", "layer", VIEW_INT, 0 }

/* What the rows of one table share. */
struct ctx {
	const struct load_filter *f;
	const struct whatif_opt *o;
	const char *domain;
	struct view_table *t;
};

/* A new row with its head, or NULL and *skip where the row is not listed. */
static struct view_cell *row(struct ctx *x, int layer, int *skip, struct moe_err *e)
{
	struct view_cell *c;

	*skip = layer >= 0 && !x->o->layers;
	if (*skip)
		return NULL;
	c = view_table_row(x->t, e);
	if (!c || view_table_head(c, x->f->run, x->domain, x->f->phase, e))
		return NULL;
	c += VIEW_N_HEAD;
	if (layer >= 0)
		view_set_int(c, layer);
	return c + 1;
}

static double share(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : NAN;
}

/* ---- capacity ---- */

static const struct view_col drop_cols[] = {
	HEAD, { "batch", NULL, VIEW_INT, 0 }, { "factor", "factor", VIEW_REAL, 2 },
	{ "policy", "policy", VIEW_TEXT, 0 }, { "tokens", "tokens", VIEW_INT, 0 },
	{ "picks", NULL, VIEW_INT, 0 }, { "dropped", "dropped", VIEW_REAL, 4 },
	{ "moved", "moved", VIEW_REAL, 4 }, { "lost_weight", "lost weight", VIEW_REAL, 4 },
	{ "tokens_lost", "lose all", VIEW_REAL, 5 }, { "worst_layer", "worst layer", VIEW_INT, 0 },
	{ "worst_dropped", "dropped there", VIEW_REAL, 4 },
	{ "decile0", "first tenth", VIEW_REAL, 4 }, { "decile1", NULL, VIEW_REAL, 4 },
	{ "decile2", NULL, VIEW_REAL, 4 }, { "decile3", NULL, VIEW_REAL, 4 },
	{ "decile4", NULL, VIEW_REAL, 4 }, { "decile5", NULL, VIEW_REAL, 4 },
	{ "decile6", NULL, VIEW_REAL, 4 }, { "decile7", NULL, VIEW_REAL, 4 },
	{ "decile8", NULL, VIEW_REAL, 4 }, { "decile9", "last tenth", VIEW_REAL, 4 },
};

static int drop_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_drops v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, drop_cols, N_COLS(drop_cols));
	if (whatif_capacity(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_drop *d = v.row + i;
		uint64_t decisions = d->layer < 0 ? 0 : d->tokens;

		for (size_t j = i; d->layer < 0 && j-- > 0 && v.row[j].layer >= 0;)
			decisions += v.row[j].tokens;
		if (!d->picks) /* a policy that this run's weights do not allow */
			continue;
		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c || view_set_text(c + 2, sim_drop_name(d->policy), e))
			goto out;
		view_set_int(c, v.batch);
		view_set_real(c + 1, d->factor);
		view_set_int(c + 3, (int64_t)d->tokens);
		view_set_int(c + 4, (int64_t)d->picks);
		view_set_real(c + 5, share(d->dropped, d->picks));
		view_set_real(c + 6, share(d->moved, d->picks));
		view_set_real(c + 7, d->lost_weight);
		view_set_real(c + 8, share(d->tokens_lost, decisions));
		if (d->layer < 0 && d->worst >= 0) {
			view_set_int(c + 9, d->worst);
			view_set_real(c + 10, d->worst_share);
		}
		for (int t = 0; t < 10; t++)
			view_set_real(c + 11 + t, d->decile[t]);
	}
	status = 0;
out:
	whatif_drops_free(&v);
	return status;
}

/* ---- top-k ---- */

static const struct view_col k_cols[] = {
	HEAD, { "k", "k", VIEW_INT, 0 }, { "k_new", "new k", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "experts_read", "experts read", VIEW_REAL, 3 },
	{ "lost_weight", "lost weight", VIEW_REAL, 4 }, { "mass", "softmax mass", VIEW_REAL, 4 },
	{ "max_mean", "max/mean", VIEW_REAL, 3 },
};

static int k_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_ks v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, k_cols, N_COLS(k_cols));
	if (whatif_topk(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_k *d = v.row + i;

		if (!d->tokens)
			continue;
		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c)
			goto out;
		view_set_int(c, d->k);
		view_set_int(c + 1, d->k_new);
		view_set_int(c + 2, (int64_t)d->tokens);
		view_set_real(c + 3, (double)d->k_new / d->k);
		view_set_real(c + 4, d->lost_weight);
		view_set_real(c + 5, d->mass);
		view_set_real(c + 6, d->max_mean);
	}
	status = 0;
out:
	whatif_ks_free(&v);
	return status;
}

/* ---- pruning ---- */

static const struct view_col cut_cols[] = {
	HEAD, { "pruned", "pruned", VIEW_INT, 0 }, { "experts", "of", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "memory_saved", "memory saved", VIEW_REAL, 3 },
	{ "lost_picks", "lost picks", VIEW_REAL, 4 }, { "lost_weight", "lost weight", VIEW_REAL, 4 },
	{ "tokens_touched", "tokens touched", VIEW_REAL, 4 },
	{ "tokens_lost", "lose all", VIEW_REAL, 5 },
	{ "mass", "mass kept", VIEW_REAL, 4 }, { "which", NULL, VIEW_TEXT, 0 },
};

static int cut_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_cuts v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, cut_cols, N_COLS(cut_cols));
	if (whatif_prune(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_cut *d = v.row + i;

		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c || view_set_text(c + 9, d->experts, e))
			goto out;
		view_set_int(c, d->n);
		view_set_int(c + 1, d->n_expert);
		view_set_int(c + 2, (int64_t)d->tokens);
		view_set_real(c + 3, share(d->n, d->n_expert));
		view_set_real(c + 4, d->lost_picks);
		view_set_real(c + 5, d->lost_weight);
		view_set_real(c + 6, d->touched);
		view_set_real(c + 7, d->lost_tokens);
		view_set_real(c + 8, d->mass);
	}
	status = 0;
out:
	whatif_cuts_free(&v);
	return status;
}

/* ---- caches ---- */

static const struct view_col hit_cols[] = {
	HEAD, { "scope", "scope", VIEW_TEXT, 0 }, { "slots", "slots", VIEW_INT, 0 },
	{ "experts", "of", VIEW_INT, 0 }, { "policy", "policy", VIEW_TEXT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "accesses", NULL, VIEW_INT, 0 },
	{ "hits", NULL, VIEW_INT, 0 }, { "hit_rate", "hit rate", VIEW_REAL, 4 },
	{ "uniform", "(uniform)", VIEW_REAL, 4 },
	{ "misses_per_token", "misses/token", VIEW_REAL, 3 }, { "cache_bytes", NULL, VIEW_REAL, 0 },
	{ "bytes_per_token", "bytes/token", VIEW_REAL, 0 },
};

static int hit_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_hits v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, hit_cols, N_COLS(hit_cols));
	if (whatif_cache(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_hit *d = v.row + i;

		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c || view_set_text(c, x->o->global ? "global" : "layer", e) ||
		    view_set_text(c + 3, sim_cache_name(d->policy), e))
			goto out;
		view_set_int(c + 1, (int64_t)d->slots);
		view_set_int(c + 2, (int64_t)d->experts);
		view_set_int(c + 4, (int64_t)d->tokens);
		view_set_int(c + 5, (int64_t)d->accesses);
		view_set_int(c + 6, (int64_t)d->hits);
		view_set_real(c + 7, share(d->hits, d->accesses));
		view_set_real(c + 8, share(d->slots, d->experts));
		view_set_real(c + 9, share(d->accesses - d->hits, d->tokens));
		view_set_real(c + 10, d->budget_bytes);
		view_set_real(c + 11, d->bytes_per_token);
	}
	status = 0;
out:
	whatif_hits_free(&v);
	return status;
}

static const struct view_col aware_cols[] = {
	HEAD, { "slots", "slots", VIEW_INT, 0 }, { "keep", "J", VIEW_INT, 0 },
	{ "rank", "M", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "hit_rate", "hit rate", VIEW_REAL, 4 },
	{ "agreement", "agreement", VIEW_REAL, 4 }, { "same_set", "same set", VIEW_REAL, 4 },
	{ "kl", "KL nats", VIEW_REAL, 4 }, { "kl_recorded", "(recorded)", VIEW_REAL, 4 },
	{ "bytes_per_token", "bytes/token", VIEW_REAL, 0 },
};

static int aware_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_awares v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, aware_cols, N_COLS(aware_cols));
	if (whatif_cache_routing(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_aware *d = v.row + i;

		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c)
			goto out;
		view_set_int(c, (int64_t)d->slots);
		view_set_int(c + 1, d->keep);
		view_set_int(c + 2, d->rank);
		view_set_int(c + 3, (int64_t)d->tokens);
		view_set_real(c + 4, share(d->hits, d->accesses));
		view_set_real(c + 5, d->agreement);
		view_set_real(c + 6, d->same);
		view_set_real(c + 7, d->kl);
		view_set_real(c + 8, d->kl_recorded);
		view_set_real(c + 9, d->bytes_per_token);
	}
	status = 0;
out:
	whatif_awares_free(&v);
	return status;
}

/* ---- placement ---- */

static const struct view_col place_cols[] = {
	HEAD, { "policy", "policy", VIEW_TEXT, 0 }, { "ranks", NULL, VIEW_INT, 0 },
	{ "nodes", NULL, VIEW_INT, 0 }, { "slots", "slots", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "max_mean", "max/mean", VIEW_REAL, 3 },
	{ "balancedness_sglang", "sglang", VIEW_REAL, 4 },
	{ "balancedness_pooled", "pooled", VIEW_REAL, 4 },
	{ "balancedness_min", "min", VIEW_REAL, 4 }, { "balancedness_p50", NULL, VIEW_REAL, 4 },
	{ "balancedness_p90", NULL, VIEW_REAL, 4 }, { "balancedness_avg", NULL, VIEW_REAL, 4 },
	{ "ranks_per_token", "ranks/token/layer", VIEW_REAL, 3 },
	{ "nodes_per_token", "nodes/token/layer", VIEW_REAL, 3 },
	{ "cross_share", "cross-node", VIEW_REAL, 4 },
	{ "a2a_bytes_per_token", "a2a B/token", VIEW_REAL, 0 },
	{ "cross_bytes_per_token", "cross B/token", VIEW_REAL, 0 },
	{ "us_per_token", "us/token", VIEW_REAL, 4 }, { "joule_per_token", NULL, VIEW_REAL, 9 },
	{ "map", NULL, VIEW_TEXT, 0 },
};

/* "0 3 5 7": slot by slot. */
static int map_text(struct view_cell *c, const uint16_t *map, size_t n, struct moe_err *e)
{
	struct buf b;
	int status;

	buf_init(&b, 1 << 20);
	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%u", i ? " " : "", map[i]);
	status = b.failed ? err_nomem(e, b.cap, "a placement") : view_set_text(c, b.data, e);
	buf_free(&b);
	return status;
}

static int place_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_places v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, place_cols, N_COLS(place_cols));
	if (whatif_placement(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_place *d = v.row + i;
		const double real[] = { d->max_mean, d->sglang, d->pooled, d->least, d->p50, d->p90,
			d->mean, d->ranks_per_token, d->nodes_per_token, d->cross_share, d->a2a_bytes,
			d->cross_bytes, d->us, d->joule };

		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c || view_set_text(c, sim_place_name(d->policy), e) ||
		    (d->map && map_text(c + 19, d->map, d->slots, e)))
			goto out;
		view_set_int(c + 1, (int64_t)x->o->ranks);
		view_set_int(c + 2, (int64_t)x->o->nodes);
		if (d->slots)
			view_set_int(c + 3, (int64_t)d->slots);
		view_set_int(c + 4, (int64_t)d->tokens);
		for (size_t j = 0; j < N_COLS(real); j++)
			view_set_real(c + 5 + j, real[j]);
	}
	status = 0;
out:
	whatif_places_free(&v);
	return status;
}

/* ---- other routers ---- */

static const struct view_col route_cols[] = {
	HEAD, { "preset", "router", VIEW_TEXT, 0 }, { "k", "k", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "picks_per_token", "picks/token", VIEW_REAL, 3 },
	{ "dropped", "dropped", VIEW_REAL, 4 }, { "lost_weight", "lost weight", VIEW_REAL, 4 },
	{ "tokens_lost", "no expert", VIEW_REAL, 4 }, { "changed", "changed", VIEW_REAL, 4 },
	{ "same_set", "same set", VIEW_REAL, 4 }, { "mass", "softmax mass", VIEW_REAL, 4 },
	{ "max_mean", "max/mean", VIEW_REAL, 3 }, { "entropy_norm", "H norm", VIEW_REAL, 4 },
};

static int route_table(struct ctx *x, struct reader *r, struct moe_err *e)
{
	struct whatif_routes v;
	struct view_cell *c;
	int skip = 0, status = -1;

	view_table_init(x->t, route_cols, N_COLS(route_cols));
	if (whatif_reroute(r, x->f, x->o, &v, e))
		return -1;
	memcpy(x->t->why, v.why, sizeof v.why);
	for (size_t i = 0; i < v.n; i++) {
		const struct whatif_route *d = v.row + i;
		uint64_t decisions = d->layer < 0 ? 0 : d->tokens;

		for (size_t j = i; d->layer < 0 && j-- > 0 && v.row[j].layer >= 0;)
			decisions += v.row[j].tokens;
		c = row(x, d->layer, &skip, e);
		if (!c && skip)
			continue;
		if (!c || view_set_text(c, d->preset, e))
			goto out;
		view_set_int(c + 1, d->k);
		view_set_int(c + 2, (int64_t)d->tokens);
		view_set_real(c + 3, d->per_token);
		view_set_real(c + 4, share(d->dropped, d->picks));
		view_set_real(c + 5, d->lost_weight);
		view_set_real(c + 6, share(d->tokens_lost, decisions));
		view_set_real(c + 7, d->changed);
		view_set_real(c + 8, d->same);
		view_set_real(c + 9, d->mass);
		view_set_real(c + 10, d->max_mean);
		view_set_real(c + 11, d->entropy_norm);
	}
	status = 0;
out:
	whatif_routes_free(&v);
	return status;
}

/* To add a section: a row here and in the enum, a function above; an option in src/cmd/whatif.c. */
static const struct {
	const char *title;
	int (*table)(struct ctx *, struct reader *, struct moe_err *);
} sections[WHATIF_N] = {
	[WHATIF_CAPACITY] = { "Capacity limits", drop_table },
	[WHATIF_TOPK] = { "Fewer or more experts per token", k_table },
	[WHATIF_PRUNE] = { "Pruning the coldest experts", cut_table },
	[WHATIF_CACHE] = { "Expert cache", hit_table },
	[WHATIF_AWARE] = { "Cache-aware routing (max-rank)", aware_table },
	[WHATIF_PLACE] = { "Expert-parallel placement", place_table },
	[WHATIF_ROUTE] = { "Other routers on the same scores", route_table },
};

const char *whatif_section_title(enum whatif_section s)
{
	return sections[s].title;
}

int whatif_table(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	enum whatif_section s, struct view_table *out, struct moe_err *e)
{
	char name[64];
	struct ctx x = { f, o, view_domain_name(r, f, name, sizeof name), out };

	if (!sections[s].table(&x, r, e))
		return 0;
	view_table_free(out);
	return -1;
}
