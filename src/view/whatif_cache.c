/*
 * whatif_cache.c - experts in a fast memory that holds only some of them.
 *
 * Accesses go token after token as in generation with batch size one; a cache lives over the ends
 * of sequences. Prefill of whole batches loads each expert once a batch, which is another question:
 * ask with the filter's phase set to decode where a run generated.
 *
 * A cache for each layer streams: all policies and sizes at once (sim/stack.h), memory that of the
 * caches. One cache for all layers goes token by token through them, and its lists would be too
 * long for that way: its accesses are held in memory, 6 bytes each, at most HOLD of them; a longer
 * trace is answered from its first tokens, and `why` says so. All policies see the same accesses.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"
#include "sim/stack.h"
#include "view/whatif.h"

#define HOLD ((size_t)32 << 20)

/* Cache sizes: k (one token's need), an eighth, a quarter, half, three quarters of the experts. */
static size_t choose_slots(const struct whatif_opt *o, unsigned n_expert, unsigned k, unsigned *out)
{
	const unsigned some[] = { k, n_expert / 8, n_expert / 4, n_expert / 2, n_expert * 3 / 4 };
	size_t n = o->n_slots;

	memcpy(out, o->slots, WHATIF_LIST * sizeof *out);
	if (n)
		return n;
	for (size_t i = 0; i < sizeof some / sizeof *some; i++)
		if (some[i] >= k && (!n || some[i] > out[n - 1]))
			out[n++] = some[i];
	return n;
}

/* ---- policies ---- */

struct hits {
	struct whatif_hits *out;
	unsigned slots[WHATIF_LIST];
	size_t n_slots, n_layer;
	struct sim_stack **stack; /* [n_layer] a cache each */
	uint64_t *tokens;         /* [n_layer] */
};

static int hits_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct hits *s = ctx;
	const struct moe_layer_desc *l = c->u->layers;

	s->out->expert_bytes = whatif_expert_bytes(c->u, c->o);
	s->n_slots = choose_slots(c->o, l[0].n_expert, l[0].k, s->slots);
	s->n_layer = c->n_layer;
	s->stack = calloc(c->n_layer, sizeof *s->stack);
	s->tokens = calloc(c->n_layer, sizeof *s->tokens);
	s->out->n = s->n_slots * (s->n_layer + 1) * SIM_N_CACHE;
	s->out->row = calloc(s->out->n, sizeof *s->out->row);
	if (!s->stack || !s->tokens || !s->out->row)
		return err_nomem(e, s->out->n * sizeof *s->out->row, "figures of expert caches");
	for (size_t i = 0; i < c->n_layer; i++) {
		s->stack[i] = sim_stack_new(l[i].n_expert, s->slots, s->n_slots, e);
		if (!s->stack[i])
			return -1;
	}
	return 0;
}

static int hits_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct hits *s = ctx;

	(void)worker;
	(void)e;
	sim_stack_add(s->stack[layer], l->experts, (size_t)l->n * l->k);
	s->tokens[layer] += l->of;
	return 0;
}

static struct whatif_hit hit_row(int layer, int policy, size_t slots, size_t n_key, uint64_t tokens,
	uint64_t accesses, uint64_t hits, double bytes)
{
	struct whatif_hit h = { .layer = layer, .policy = (enum sim_cache_policy)policy,
		.slots = slots < n_key ? slots : n_key, .experts = n_key, .tokens = tokens,
		.accesses = accesses, .hits = hits };

	h.budget_bytes = (double)h.slots * bytes;
	h.bytes_per_token = tokens ? (double)(accesses - hits) * bytes / (double)tokens : NAN;
	return h;
}

/* What is to be known about the bytes, behind what `why` says already. */
static void hits_why(const struct whatif_case *c, double bytes)
{
	size_t len = strlen(c->why);

	if (isnan(bytes))
		snprintf(c->why + len, c->why_size - len, "%sno bytes: the size of an expert is unknown "
			"(give it)", len ? "; " : "");
	else if (!(c->o->expert_bytes > 0))
		snprintf(c->why + len, c->why_size - len, "%san expert of %.3g MB, estimated from the "
			"model's size and active parameters", len ? "; " : "", bytes / 1e6);
}

/* Rows [slot sizes][n_layer + 1][policies]. */
static void hits_finish(void *ctx, const struct whatif_case *c)
{
	struct hits *s = ctx;
	struct whatif_hits *out = s->out;

	if (!s->tokens[0]) {
		snprintf(c->why, c->why_size, "no decisions in this selection");
		whatif_hits_free(out);
		return;
	}
	for (size_t i = 0; i < out->n; i++) {
		size_t p = i % SIM_N_CACHE, l = i / SIM_N_CACHE % (s->n_layer + 1);
		size_t size = i / SIM_N_CACHE / (s->n_layer + 1);
		struct whatif_hit *all = out->row + (i / SIM_N_CACHE - l + s->n_layer) * SIM_N_CACHE + p;

		if (l == s->n_layer)
			continue;
		out->row[i] = hit_row(c->u->layers[l].layer, (int)p, s->slots[size],
			c->u->layers[l].n_expert, s->tokens[l], sim_stack_accesses(s->stack[l]),
			sim_stack_hits(s->stack[l], (enum sim_cache_policy)p, size), out->expert_bytes);
		all->layer = -1, all->policy = (enum sim_cache_policy)p, all->tokens = s->tokens[0];
		all->slots += out->row[i].slots;
		all->experts += out->row[i].experts;
		all->accesses += out->row[i].accesses;
		all->hits += out->row[i].hits;
		all->budget_bytes += out->row[i].budget_bytes;
		all->bytes_per_token += out->row[i].bytes_per_token;
	}
	hits_why(c, out->expert_bytes);
}

static void hits_close(void *ctx)
{
	struct hits *s = ctx;

	for (size_t i = 0; s->stack && i < s->n_layer; i++)
		sim_stack_free(s->stack[i]);
	free(s->stack);
	free(s->tokens);
}

/* ---- one cache for all layers ---- */

struct global {
	struct whatif_hits *out;
	const struct whatif_case *c;
	unsigned slots[WHATIF_LIST];
	size_t n_slots, n_key, k_row;
	size_t *k_at, *key_at;    /* [n_layer] */
	uint16_t *id;             /* [tokens][k_row] */
	uint8_t *nan;             /* [tokens][n_layer] */
	uint32_t *keys;           /* the accesses in order */
	size_t tokens, room, n;
	int cut;                  /* were there more tokens? */
	atomic_int failed;        /* some row had no memory */
};

static int global_chunk(void *ctx, struct scan_chunk *ch)
{
	struct global *s = ctx;

	if (s->tokens + ch->n > s->room) {
		s->cut = 1;
		return 0;
	}
	ch->tag = s->tokens;
	s->tokens += ch->n;
	return 1;
}

static void global_block(void *ctx, const struct scan_block *b)
{
	struct global *s = ctx;
	size_t k = b->layer.k, n_layer = s->c->n_layer;

	for (size_t t = 0; t < b->chunk->n; t++) {
		size_t row = b->chunk->tag + t;

		memcpy(s->id + row * s->k_row + s->k_at[b->li], b->experts + t * k, k * sizeof *s->id);
		s->nan[row * n_layer + b->li] = b->flags && b->flags[t] & MOE_EV_NAN;
	}
}

/* Room for the selection's tokens, HOLD accesses at most. */
static int global_room(struct global *s, struct moe_err *e)
{
	const struct whatif_case *c = s->c;
	struct load_set set = { 0 };
	uint64_t most = 0;

	if (reader_load_counts(c->r, c->f, &set, e))
		return -1;
	for (size_t l = 0; l < set.n; l++)
		most = set.layer[l].tokens > most ? set.layer[l].tokens : most;
	load_set_free(&set);
	s->k_at = calloc(c->n_layer, sizeof *s->k_at);
	s->key_at = calloc(c->n_layer, sizeof *s->key_at);
	if (!s->k_at || !s->key_at)
		return err_nomem(e, c->n_layer * 2 * sizeof *s->k_at, "layers");
	for (size_t l = 0; l < c->n_layer; l++) {
		s->k_at[l] = s->k_row, s->key_at[l] = s->n_key;
		s->k_row += c->u->layers[l].k, s->n_key += c->u->layers[l].n_expert;
	}
	s->room = HOLD / s->k_row > 128 ? HOLD / s->k_row : 128;
	s->room = most + 128 < s->room ? (size_t)most + 128 : s->room; /* a live run grows meanwhile */
	s->id = malloc(s->room * s->k_row * sizeof *s->id);
	s->nan = malloc(s->room * c->n_layer);
	s->keys = malloc(s->room * s->k_row * sizeof *s->keys);
	if (!s->id || !s->nan || !s->keys)
		return err_nomem(e, s->room * (s->k_row * 6 + c->n_layer), "the trace's choices");
	return 0;
}

static void global_keys(struct global *s)
{
	const struct whatif_case *c = s->c;

	for (size_t t = 0; t < s->tokens; t++)
		for (size_t l = 0; l < c->n_layer; l++)
			for (unsigned i = 0; i < c->u->layers[l].k && !s->nan[t * c->n_layer + l]; i++)
				s->keys[s->n++] = (uint32_t)(s->key_at[l] + s->id[t * s->k_row + s->k_at[l] + i]);
}

/* Unit of work: a size and a policy. */
static void global_row(void *ctx, size_t i, int worker)
{
	struct global *s = ctx;
	/* the memory of so many a layer */
	size_t slots = (size_t)s->slots[i / SIM_N_CACHE] * s->c->n_layer;
	int p = (int)(i % SIM_N_CACHE);
	uint64_t hits;
	struct moe_err e;

	(void)worker;
	if (sim_cache_run((enum sim_cache_policy)p, s->keys, s->n, s->n_key, slots, &hits, &e))
		s->failed = 1;
	else
		s->out->row[i] = hit_row(-1, p, slots, s->n_key, s->tokens, s->n, hits,
			s->out->expert_bytes);
}

static int global_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct global *s = ctx;
	struct scan_calls calls = { .ctx = s, .chunk = global_chunk, .block = global_block };
	struct load_filter f = *c->f;
	struct pool *pool;

	s->c = c;
	s->out->expert_bytes = whatif_expert_bytes(c->u, c->o);
	s->n_slots = choose_slots(c->o, c->u->layers[0].n_expert, c->u->layers[0].k, s->slots);
	if (global_room(s, e))
		return -1;
	f.most = s->room + 1; /* ends with the first chunk that does not fit */
	if (scan_run(c->r, &f, c->o->threads, &calls, e))
		return -1;
	if (!s->tokens) {
		snprintf(c->why, c->why_size, "no decisions in this selection");
		return 0;
	}
	global_keys(s);
	s->out->n = s->n_slots * SIM_N_CACHE;
	s->out->row = calloc(s->out->n + 1, sizeof *s->out->row);
	pool = s->out->row ? pool_new(c->workers, e) : NULL;
	if (!s->out->row)
		return err_nomem(e, s->out->n * sizeof *s->out->row, "rows");
	if (!pool)
		return -1;
	pool_run(pool, global_row, s, s->out->n);
	pool_free(pool);
	if (s->failed)
		return err_nomem(e, s->n * 8, "a simulated cache");
	if (s->cut)
		snprintf(c->why, c->why_size, "the first %zu tokens only: one cache for all layers needs "
			"every access in memory", s->tokens);
	hits_why(c, s->out->expert_bytes);
	return 0;
}

static void global_close(void *ctx)
{
	struct global *s = ctx;

	free(s->k_at);
	free(s->key_at);
	free(s->id);
	free(s->nan);
	free(s->keys);
}

int whatif_cache(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_hits *out, struct moe_err *e)
{
	static const struct whatif_kind each = { .open = hits_open, .layer = hits_layer,
		.finish = hits_finish, .close = hits_close };
	static const struct whatif_kind one = { .open = global_open, .close = global_close };
	struct hits s = { .out = out };
	struct global g = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(o->global ? &one : &each, o->global ? (void *)&g : &s, r, f, o, out->why,
	    sizeof out->why, e))
		return 0;
	whatif_hits_free(out);
	return -1;
}

void whatif_hits_free(struct whatif_hits *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}

/* ---- max-rank routing ---- */

struct aware {
	struct whatif_awares *out;
	struct whatif_aware *row;   /* [n_slots][n_rank][n_layer + 1] */
	struct sim_cache **cache;   /* as row */
	size_t n_slots, n_rank, n_layer;
	unsigned slots[WHATIF_LIST], rank[WHATIF_LIST];
	double *kl, *kl0;           /* as row */
	uint64_t *same, *shared;    /* as row; experts in common */
	uint64_t *recorded;         /* [n_layer] decisions whose recorded set is the top k of the
	                               logits */
	uint64_t *decisions;        /* [n_layer] */
};

static int aware_layer(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e)
{
	struct aware *s = ctx;
	uint16_t rank[MOE_MAX_EXPERT], set[MOE_MAX_EXPERT];
	uint8_t own[MOE_MAX_EXPERT] = { 0 };
	double p[MOE_MAX_EXPERT];
	unsigned most = 0;

	(void)worker;
	(void)e;
	if (!l->logits)
		return 0;
	for (size_t i = 0; i < s->n_rank; i++)
		most = s->rank[i] > most ? s->rank[i] : most;
	for (uint32_t t = 0; t < l->n; t++) {
		const uint16_t *was = l->experts + (size_t)t * l->k;
		const float *z = l->logits + (size_t)t * l->n_expert;
		double p0 = 0;
		float least = INFINITY;

		whatif_softmax(z, l->n_expert, p);
		/* one more than M, and k more where M holds none */
		whatif_ranking(was, l->k, z, l->n_expert, most + l->k, rank);
		for (unsigned i = 0; i < l->k; i++) {
			own[was[i]] = 1;
			p0 += p[was[i]];
			least = z[was[i]] < least ? z[was[i]] : least;
		}
		s->decisions[layer]++;
		s->recorded[layer] += l->k == l->n_expert || z[rank[l->k]] <= least;
		for (size_t i = 0; i < s->n_slots * s->n_rank; i++) {
			size_t at = i * (s->n_layer + 1) + layer;
			struct whatif_aware *d = s->row + at;
			unsigned m = d->rank < l->n_expert ? d->rank : l->n_expert, shared = 0;
			double q = 0;

			sim_max_rank(s->cache[at], rank, l->n_expert, l->k, d->keep < l->k ? d->keep : l->k,
				m > l->k ? m : l->k, 0, set);
			for (unsigned j = 0; j < l->k; j++) {
				d->hits += (uint64_t)sim_cache_access(s->cache[at], set[j]);
				shared += own[set[j]];
				q += p[set[j]];
			}
			d->tokens++;
			d->accesses += l->k;
			s->shared[at] += shared;
			s->same[at] += shared == l->k;
			s->kl[at] -= log(q);
			s->kl0[at] -= log(p0);
		}
		for (unsigned i = 0; i < l->k; i++)
			own[was[i]] = 0;
	}
	return 0;
}

static int aware_open(void *ctx, const struct whatif_case *c, struct moe_err *e)
{
	struct aware *s = ctx;
	const struct run_info *u = c->u;
	const struct whatif_opt *o = c->o;
	unsigned k = u->layers[0].k, n_expert = u->layers[0].n_expert;
	unsigned keep = o->keep ? o->keep : k / 2 ? k / 2 : 1;
	const unsigned some[] = { k, k + (k + 1) / 2, 2 * k, 4 * k, n_expert };
	size_t n;

	s->n_layer = u->n_moe_layer;
	s->n_slots = o->n_slots;
	memcpy(s->slots, o->slots, sizeof s->slots);
	if (!s->n_slots)
		s->slots[s->n_slots++] = n_expert / 2 > k ? n_expert / 2 : k;
	s->n_rank = o->n_rank;
	memcpy(s->rank, o->rank, sizeof s->rank);
	for (size_t i = 0; !o->n_rank && i < sizeof some / sizeof *some; i++)
		if (some[i] <= n_expert && (!s->n_rank || some[i] > s->rank[s->n_rank - 1]))
			s->rank[s->n_rank++] = some[i];
	n = s->n_slots * s->n_rank * (s->n_layer + 1);
	s->out->row = s->row = calloc(n + 1, sizeof *s->row);
	s->recorded = calloc(s->n_layer, sizeof *s->recorded);
	s->decisions = calloc(s->n_layer, sizeof *s->decisions);
	s->cache = calloc(n + 1, sizeof *s->cache);
	s->kl = calloc(n + 1, sizeof *s->kl);
	s->kl0 = calloc(n + 1, sizeof *s->kl0);
	s->same = calloc(n + 1, sizeof *s->same);
	s->shared = calloc(n + 1, sizeof *s->shared);
	if (!s->row || !s->recorded || !s->decisions || !s->cache || !s->kl || !s->kl0 || !s->same ||
	    !s->shared)
		return err_nomem(e, n * sizeof *s->row, "figures of cache-aware routing");
	s->out->n = n;
	for (size_t i = 0; i < n; i++) {
		size_t l = i % (s->n_layer + 1), cell = i / (s->n_layer + 1);
		struct whatif_aware *d = s->row + i;

		d->layer = l < s->n_layer ? u->layers[l].layer : -1;
		d->slots = s->slots[cell / s->n_rank];
		d->rank = s->rank[cell % s->n_rank];
		d->keep = keep;
		if (l < s->n_layer) {
			s->cache[i] = sim_cache_new(SIM_LRU, u->layers[l].n_expert, d->slots, e);
			if (!s->cache[i])
				return -1;
		}
	}
	return 0;
}

static void aware_pool(struct aware *s, const struct run_info *u, double bytes)
{
	for (size_t i = 0; i < s->n_slots * s->n_rank * (s->n_layer + 1); i++) {
		size_t l = i % (s->n_layer + 1), all = i - l + s->n_layer;
		struct whatif_aware *d = s->row + i, *a = s->row + all;
		double n = d->tokens ? (double)d->tokens : NAN,
			picks = d->accesses ? (double)d->accesses : NAN;

		if (l < s->n_layer) {
			a->tokens += d->tokens, a->accesses += d->accesses, a->hits += d->hits;
			s->shared[all] += s->shared[i], s->same[all] += s->same[i];
			s->kl[all] += s->kl[i], s->kl0[all] += s->kl0[i];
		}
		d->agreement = (double)s->shared[i] / picks;
		d->same = (double)s->same[i] / n;
		d->kl = s->kl[i] / n;
		d->kl_recorded = s->kl0[i] / n;
		d->bytes_per_token = (double)(d->accesses - d->hits) * bytes / n *
			(l == s->n_layer ? u->n_moe_layer : 1); /* pooled: n counts every layer */
	}
	/* pooled tokens: of the layer with most */
	for (size_t i = 0; i < s->n_slots * s->n_rank; i++) {
		struct whatif_aware *d = s->row + i * (s->n_layer + 1);

		d[s->n_layer].tokens = 0;
		for (size_t l = 0; l < s->n_layer; l++)
			if (d[l].tokens > d[s->n_layer].tokens)
				d[s->n_layer].tokens = d[l].tokens;
	}
}

static void aware_finish(void *ctx, const struct whatif_case *c)
{
	struct aware *s = ctx;
	uint64_t recorded = 0, decisions = 0;

	aware_pool(s, c->u, whatif_expert_bytes(c->u, c->o));
	for (size_t l = 0; l < s->n_layer; l++)
		recorded += s->recorded[l], decisions += s->decisions[l];
	if (!decisions) {
		snprintf(c->why, c->why_size, "no decisions with scores in this selection");
		whatif_awares_free(s->out);
	} else if ((double)recorded < .99 * (double)decisions) {
		snprintf(c->why, c->why_size, "only %.0f %% of the recorded choices are the top k of the "
			"logits (a selection bias or groups): ranks beyond k go by logits all the same",
			100 * (double)recorded / (double)decisions);
	}
}

static void aware_close(void *ctx)
{
	struct aware *s = ctx;

	for (size_t i = 0; s->cache && i < s->n_slots * s->n_rank * (s->n_layer + 1); i++)
		sim_cache_free(s->cache[i]);
	free(s->cache);
	free(s->recorded);
	free(s->decisions);
	free(s->kl);
	free(s->kl0);
	free(s->same);
	free(s->shared);
}

int whatif_cache_routing(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_awares *out, struct moe_err *e)
{
	static const struct whatif_kind kind = { .scores = 1, .want = SCAN_LOGITS, .open = aware_open,
		.layer = aware_layer, .finish = aware_finish, .close = aware_close };
	struct aware s = { .out = out };

	memset(out, 0, sizeof *out);
	if (!whatif_answer(&kind, &s, r, f, o, out->why, sizeof out->why, e))
		return 0;
	whatif_awares_free(out);
	return -1;
}

void whatif_awares_free(struct whatif_awares *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
