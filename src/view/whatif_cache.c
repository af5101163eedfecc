/*
 * whatif_cache.c - experts in a fast memory that holds only some of them.
 *
 * Accesses go token after token as in generation with batch size one; a cache lives over the ends of
 * sequences. Prefill of whole batches loads each expert once a batch, which is another question:
 * ask with the filter's phase set to decode where a run generated.
 *
 * Belady's bound needs the future, so the choices are held in memory, 2 bytes each, at most
 * HOLD_BYTES; a longer trace is answered from its first tokens, and `why` says so. All policies see
 * the same accesses. Cache-aware routing streams: its memory is that of its caches.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/walk.h"
#include "view/whatif.h"

#define HOLD_BYTES ((size_t)128 << 20)
#define KEYS_MOST ((size_t)64 << 20) /* accesses of one simulation, 8 bytes each with their next use */

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

struct held {
	uint16_t *id;          /* [tokens][k_row] */
	uint8_t *nan;          /* [tokens][n_layer] */
	size_t k_row, tokens, room;
	int cut;               /* were there more? */
};

static int hold(struct reader *r, const struct load_filter *f, const struct run_info *u,
	uint32_t batch, struct held *h, struct moe_err *e)
{
	struct walk *w = walk_open(r, f, batch, 0, e);
	const struct walk_batch *b;
	size_t each = u->n_moe_layer, most;
	int got = -1;

	if (!w)
		return -1;
	for (uint32_t l = 0; l < u->n_moe_layer; l++)
		h->k_row += u->layers[l].k;
	each += h->k_row * sizeof *h->id;
	most = HOLD_BYTES / each < KEYS_MOST / h->k_row ? HOLD_BYTES / each : KEYS_MOST / h->k_row;
	most = most ? most : 1;
	while ((got = walk_next(w, &b, e)) > 0) {
		size_t n = b->n;

		if (h->tokens + n > most) {
			n = most - h->tokens;
			h->cut = 1;
		}
		if (h->tokens + n > h->room) {
			size_t room = h->room * 2 > h->tokens + n ? h->room * 2 : h->tokens + n;
			void *p, *q;

			room = room < most ? room : most;
			p = realloc(h->id, room * h->k_row * sizeof *h->id);
			h->id = p ? p : h->id;
			q = realloc(h->nan, room * u->n_moe_layer);
			h->nan = q ? q : h->nan;
			if (!p || !q) {
				got = err_nomem(e, room * each, "the trace's choices");
				break;
			}
			h->room = room;
		}
		memcpy(h->id + h->tokens * h->k_row, b->experts, n * h->k_row * sizeof *h->id);
		for (size_t i = 0; i < n * u->n_moe_layer; i++)
			h->nan[h->tokens * u->n_moe_layer + i] = (b->flags[i] & MOE_EV_NAN) != 0;
		h->tokens += n;
		if (h->cut) {
			got = 0;
			break;
		}
	}
	walk_close(w);
	return got < 0 ? -1 : 0;
}

/* Accesses of layers l0 <= l < l1 in order, keys numbered through from l0. Returns how many. */
static size_t keys_of(const struct held *h, const struct run_info *u, size_t l0, size_t l1,
	uint32_t *keys)
{
	size_t n = 0;

	for (size_t t = 0; t < h->tokens; t++) {
		size_t at = 0;
		uint32_t base = 0;

		for (size_t l = 0; l < l1; l++) {
			if (l >= l0 && !h->nan[t * u->n_moe_layer + l])
				for (unsigned i = 0; i < u->layers[l].k; i++)
					keys[n++] = base + h->id[t * h->k_row + at + i];
			at += u->layers[l].k;
			base += l >= l0 ? u->layers[l].n_expert : 0;
		}
	}
	return n;
}

/* All policies at one size over a layer, or over all with a global budget: rows out [SIM_N_CACHE]. */
static int run_policies(const uint32_t *keys, size_t n, size_t n_key, size_t slots, int layer,
	size_t tokens, double bytes, struct whatif_hit *out, struct moe_err *e)
{
	for (int p = 0; p < SIM_N_CACHE; p++) {
		struct whatif_hit *h = out + p;

		*h = (struct whatif_hit){ .layer = layer, .policy = (enum sim_cache_policy)p,
			.slots = slots < n_key ? slots : n_key, .experts = n_key, .tokens = tokens,
			.accesses = n };
		if (sim_cache_run(h->policy, keys, n, n_key, slots, &h->hits, e))
			return -1;
		h->budget_bytes = (double)h->slots * bytes;
		h->bytes_per_token = tokens ? (double)(n - h->hits) * bytes / (double)tokens : NAN;
	}
	return 0;
}

/* Rows [slot sizes][n_layer + 1][policies]. */
static int cache_rows(const struct held *h, const struct run_info *u, const struct whatif_opt *o,
	struct whatif_hits *out, struct moe_err *e)
{
	size_t n_layer = o->global ? 0 : u->n_moe_layer, n_key = 0, n, n_slots, at;
	unsigned slots[WHATIF_LIST];
	uint32_t *keys = malloc((h->tokens * h->k_row + 1) * sizeof *keys);
	int status = -1;

	n_slots = choose_slots(o, u->layers[0].n_expert, u->layers[0].k, slots);
	out->n = n_slots * (n_layer + 1) * SIM_N_CACHE;
	out->row = calloc(out->n + 1, sizeof *out->row);
	if (!keys || !out->row) {
		err_nomem(e, h->tokens * h->k_row * sizeof *keys, "accesses");
		goto out;
	}
	for (size_t s = 0; s < n_slots; s++)
		for (int p = 0; p < SIM_N_CACHE; p++)
			out->row[(s * (n_layer + 1) + n_layer) * SIM_N_CACHE + (size_t)p] = (struct whatif_hit){
				.layer = -1, .policy = (enum sim_cache_policy)p, .tokens = h->tokens };
	for (size_t l = 0; l < n_layer; l++) {
		n = keys_of(h, u, l, l + 1, keys);
		for (size_t s = 0; s < n_slots; s++) {
			struct whatif_hit *all = out->row + (s * (n_layer + 1) + n_layer) * SIM_N_CACHE;

			at = (s * (n_layer + 1) + l) * SIM_N_CACHE;
			if (run_policies(keys, n, u->layers[l].n_expert, slots[s], u->layers[l].layer,
			    h->tokens, out->expert_bytes, out->row + at, e))
				goto out;
			for (int p = 0; p < SIM_N_CACHE; p++) {
				all[p].slots += out->row[at + (size_t)p].slots;
				all[p].experts += out->row[at + (size_t)p].experts;
				all[p].accesses += n;
				all[p].hits += out->row[at + (size_t)p].hits;
				all[p].budget_bytes += out->row[at + (size_t)p].budget_bytes;
				all[p].bytes_per_token += out->row[at + (size_t)p].bytes_per_token;
			}
		}
	}
	if (o->global) {
		for (uint32_t l = 0; l < u->n_moe_layer; l++)
			n_key += u->layers[l].n_expert;
		n = keys_of(h, u, 0, u->n_moe_layer, keys);
		for (size_t s = 0; s < n_slots; s++) /* the same memory as that many slots a layer */
			if (run_policies(keys, n, n_key, (size_t)slots[s] * u->n_moe_layer, -1, h->tokens,
			    out->expert_bytes, out->row + s * SIM_N_CACHE, e))
				goto out;
	}
	status = 0;
out:
	free(keys);
	return status;
}

int whatif_cache(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_hits *out, struct moe_err *e)
{
	struct held h = { 0 };
	struct run_info *u = NULL;
	size_t len;
	int can, status = -1;

	memset(out, 0, sizeof *out);
	can = whatif_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	out->expert_bytes = whatif_expert_bytes(u, o);
	if (hold(r, f, u, o->batch, &h, e))
		goto out;
	if (!h.tokens) {
		snprintf(out->why, sizeof out->why, "no decisions in this selection");
		status = 0;
		goto out;
	}
	if (cache_rows(&h, u, o, out, e))
		goto out;
	if (h.cut)
		snprintf(out->why, sizeof out->why, "the first %zu tokens only: Belady's bound needs every "
			"access in memory", h.tokens);
	len = strlen(out->why);
	if (isnan(out->expert_bytes))
		snprintf(out->why + len, sizeof out->why - len, "%sno bytes: the size of an expert is unknown "
			"(give it)", len ? "; " : "");
	else if (!(o->expert_bytes > 0))
		snprintf(out->why + len, sizeof out->why - len, "%san expert of %.3g MB, estimated from the "
			"model's size and active parameters", len ? "; " : "", out->expert_bytes / 1e6);
	status = 0;
out:
	free(h.id);
	free(h.nan);
	free(u);
	if (status)
		whatif_hits_free(out);
	return status;
}

void whatif_hits_free(struct whatif_hits *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}

/* ---- max-rank routing ---- */

struct aware {
	struct whatif_aware *row;   /* [n_slots][n_rank][n_layer + 1] */
	struct sim_cache **cache;   /* as row */
	size_t n_slots, n_rank, n_layer;
	unsigned slots[WHATIF_LIST], rank[WHATIF_LIST];
	double *kl, *kl0;           /* as row */
	uint64_t *same, *shared;    /* as row; experts in common */
	uint64_t recorded;          /* decisions whose recorded set is the top k of the logits */
	uint64_t decisions;
};

static int aware_layer(void *ctx, size_t layer, const struct walk_layer *l,
	const struct walk_batch *b, struct moe_err *e)
{
	struct aware *s = ctx;
	uint16_t rank[MOE_MAX_EXPERT], set[MOE_MAX_EXPERT];
	uint8_t own[MOE_MAX_EXPERT] = { 0 };
	double p[MOE_MAX_EXPERT];
	unsigned most = 0;

	(void)b;
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
		s->decisions++;
		s->recorded += l->k == l->n_expert || z[rank[l->k]] <= least;
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

static int aware_init(struct aware *s, const struct run_info *u, const struct whatif_opt *o,
	struct whatif_awares *out, struct moe_err *e)
{
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
	out->row = s->row = calloc(n + 1, sizeof *s->row);
	s->cache = calloc(n + 1, sizeof *s->cache);
	s->kl = calloc(n + 1, sizeof *s->kl);
	s->kl0 = calloc(n + 1, sizeof *s->kl0);
	s->same = calloc(n + 1, sizeof *s->same);
	s->shared = calloc(n + 1, sizeof *s->shared);
	if (!s->row || !s->cache || !s->kl || !s->kl0 || !s->same || !s->shared)
		return err_nomem(e, n * sizeof *s->row, "figures of cache-aware routing");
	out->n = n;
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

static void aware_finish(struct aware *s, const struct run_info *u, double bytes)
{
	for (size_t i = 0; i < s->n_slots * s->n_rank * (s->n_layer + 1); i++) {
		size_t l = i % (s->n_layer + 1), all = i - l + s->n_layer;
		struct whatif_aware *d = s->row + i, *a = s->row + all;
		double n = d->tokens ? (double)d->tokens : NAN, picks = d->accesses ? (double)d->accesses : NAN;

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
	for (size_t i = 0; i < s->n_slots * s->n_rank; i++) { /* pooled tokens: of the layer with most */
		struct whatif_aware *d = s->row + i * (s->n_layer + 1);

		d[s->n_layer].tokens = 0;
		for (size_t l = 0; l < s->n_layer; l++)
			if (d[l].tokens > d[s->n_layer].tokens)
				d[s->n_layer].tokens = d[l].tokens;
	}
}

int whatif_cache_routing(struct reader *r, const struct load_filter *f, const struct whatif_opt *o,
	struct whatif_awares *out, struct moe_err *e)
{
	struct aware s = { 0 };
	struct run_info *u = NULL;
	int can, status = -1;

	memset(out, 0, sizeof *out);
	can = whatif_begin(r, f, 1, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	if (aware_init(&s, u, o, out, e) || walk_each(r, f, u, o->batch, 1, aware_layer, &s, e))
		goto out;
	aware_finish(&s, u, whatif_expert_bytes(u, o));
	if (!s.decisions) {
		snprintf(out->why, sizeof out->why, "no decisions with scores in this selection");
		for (size_t i = 0; i < out->n; i++)
			sim_cache_free(s.cache[i]);
		free(s.cache);
		s.cache = NULL;
		whatif_awares_free(out);
	} else if ((double)s.recorded < .99 * (double)s.decisions) {
		snprintf(out->why, sizeof out->why, "only %.0f %% of the recorded choices are the top k of the "
			"logits (a selection bias or groups): ranks beyond k go by logits all the same",
			100 * (double)s.recorded / (double)s.decisions);
	}
	status = 0;
out:
	for (size_t i = 0; s.cache && i < s.n_slots * s.n_rank * (s.n_layer + 1); i++)
		sim_cache_free(s.cache[i]);
	free(s.cache);
	free(s.kl);
	free(s.kl0);
	free(s.same);
	free(s.shared);
	free(u);
	if (status)
		whatif_awares_free(out);
	return status;
}

void whatif_awares_free(struct whatif_awares *v)
{
	free(v->row);
	v->row = NULL;
	v->n = 0;
}
