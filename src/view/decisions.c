/*
 * decisions.c - the tables that read every decision: locality and co-activation.
 *
 * One scan; memory is bounded by the model's shape, not by the trace. Decisions whose logits held a
 * NaN are not choices and are left out. Needs detail `routes` or more.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "metrics/sets.h"
#include "trace/scan.h"
#include "view/decisions.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))

int view_decisions_missing(const struct run_info *u, char *why, size_t size)
{
	if (strcmp(u->detail, "counts"))
		return 0;
	snprintf(why, size, "run %lld was logged at detail `counts`, which keeps no single decisions; "
		"log with detail `routes` or `full`", (long long)u->id);
	return 1;
}

int view_decisions_begin(struct reader *r, const struct load_filter *f, int logits,
	struct run_info **u, char *why, size_t size, struct moe_err *e)
{
	*u = malloc(sizeof **u);
	if (!*u)
		return err_nomem(e, sizeof **u, "a run");
	if (reader_run(r, f->run, *u, e)) {
		free(*u);
		*u = NULL;
		return -1;
	}
	if (!(*u)->n_moe_layer) {
		snprintf(why, size, "the run's model has no MoE layer");
		return 0;
	}
	if (view_decisions_missing(*u, why, size))
		return 0;
	if (logits && strcmp((*u)->detail, "full")) {
		snprintf(why, size, "run %lld keeps no router scores (detail `%s`); this needs detail "
			"`full`", (long long)(*u)->id, (*u)->detail);
		return 0;
	}
	return 1;
}

/* ---- locality ---- */

static const struct view_col locality_cols[] = {
	VIEW_HEAD,
	{ "layer", "layer", VIEW_INT, 0 }, { "pairs", "pairs", VIEW_INT, 0 },
	{ "first", "first", VIEW_REAL, 4 }, { "first_uniform", "(uniform)", VIEW_REAL, 4 },
	{ "any", "any", VIEW_REAL, 4 }, { "any_uniform", "(uniform)", VIEW_REAL, 4 },
	{ "overlap", "overlap/k", VIEW_REAL, 4 }, { "overlap_uniform", "(uniform)", VIEW_REAL, 4 },
	{ "jaccard", "Jaccard", VIEW_REAL, 4 }, { "jaccard_uniform", "(uniform)", VIEW_REAL, 4 },
};

/* One layer: its sums and the token before. */
struct locality {
	struct metrics_locality sum;
	uint16_t *last;   /* [k] its choices */
	int64_t sequence; /* -1 = none */
	uint32_t pos;
	int nan;          /* were those no choices? */
};

/* A chunk in which some decision is none: token by token. */
static void locality_gaps(struct locality *s, const struct scan_block *b, int next)
{
	const uint16_t *last = s->last, *set = b->experts;
	unsigned k = b->layer.k;

	for (uint32_t t = 0; t < b->chunk->n; t++, set += k) {
		int nan = b->flags[t] & MOE_EV_NAN;

		if ((t || next) && !nan && !s->nan)
			metrics_locality_add(&s->sum, last, set, k);
		s->nan = nan;
		last = set;
	}
}

static void locality_block(void *ctx, const struct scan_block *b)
{
	struct locality *s = (struct locality *)ctx + b->li;
	const struct scan_chunk *c = b->chunk;
	unsigned k = b->layer.k;
	int next = s->sequence == c->sequence && c->pos == s->pos + 1, nan = 0;

	for (uint32_t t = 0; b->flags && t < c->n; t++)
		nan |= b->flags[t] & MOE_EV_NAN;
	if (nan)
		locality_gaps(s, b, next);
	else {
		metrics_locality_run(&s->sum, next && !s->nan ? s->last : NULL, b->experts, c->n,
			b->layer.n_expert, k);
		s->nan = 0;
	}
	memcpy(s->last, b->experts + (size_t)(c->n - 1) * k, k * sizeof *s->last);
	s->sequence = c->sequence;
	s->pos = c->pos + c->n - 1;
}

static void locality_free(struct locality *s, size_t n)
{
	for (size_t l = 0; s && l < n; l++)
		free(s[l].last);
	free(s);
}

/* One per layer, NULL on error. */
static struct locality *locality_scan(struct reader *r, const struct load_filter *f,
	const struct run_info *u, struct moe_err *e)
{
	struct locality *s = calloc(u->n_moe_layer + 1u, sizeof *s);
	struct scan_calls calls = { .ctx = s, .block = locality_block };

	if (!s) {
		err_nomem(e, u->n_moe_layer * sizeof *s, "locality sums");
		return NULL;
	}
	for (uint32_t l = 0; l < u->n_moe_layer; l++) {
		s[l].sequence = -1;
		s[l].last = calloc(u->layers[l].k, sizeof *s[l].last);
		if (!s[l].last) {
			err_nomem(e, u->layers[l].k * sizeof *s[l].last, "a token's choices");
			goto fail;
		}
	}
	if (!scan_run(r, f, 0, &calls, e))
		return s;
fail:
	locality_free(s, u->n_moe_layer);
	return NULL;
}

static int locality_row(const struct load_filter *f, const char *domain,
	const struct moe_layer_desc *d, const struct metrics_locality *s, struct view_table *out,
	struct moe_err *e)
{
	struct metrics_locality_rates got, uni;
	struct view_cell *c = view_table_row(out, e);

	if (!c || view_table_head(c, f->run, domain, f->phase, e))
		return -1;
	metrics_locality_rates(s, &got);
	metrics_locality_uniform(d->n_expert, d->k, &uni);
	c += VIEW_N_HEAD;
	view_set_int(c, d->layer);
	view_set_int(c + 1, (int64_t)s->pairs);
	view_set_real(c + 2, got.first);
	view_set_real(c + 3, uni.first);
	view_set_real(c + 4, got.any);
	view_set_real(c + 5, uni.any);
	view_set_real(c + 6, got.overlap);
	view_set_real(c + 7, uni.overlap);
	view_set_real(c + 8, got.jaccard);
	view_set_real(c + 9, uni.jaccard);
	return 0;
}

int view_stat_locality(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = NULL;
	struct locality *s = NULL;
	char name[64];
	const char *domain;
	uint64_t pairs = 0;
	int status = -1;

	view_table_init(out, locality_cols, N_COLS(locality_cols));
	status = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (status <= 0)
		goto out;
	status = -1;
	s = locality_scan(r, f, u, e);
	if (!s)
		goto out;
	domain = view_domain_name(r, f, name, sizeof name);
	for (uint32_t l = 0; l < u->n_moe_layer; l++) {
		if (locality_row(f, domain, u->layers + l, &s[l].sum, out, e))
			goto out;
		pairs += s[l].sum.pairs;
	}
	if (!pairs)
		snprintf(out->why, sizeof out->why, "no two consecutive tokens of one sequence in this "
			"selection");
	else if (f->bucket0 < f->bucket1)
		snprintf(out->why, sizeof out->why, DECISIONS_NO_TIME);
	status = 0;
out:
	locality_free(s, u ? u->n_moe_layer : 0);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}

/* ---- co-activation ---- */

#define COACT_BYTES ((size_t)64 << 20) /* pair counts held at a time; more layers = more passes */
#define COACT_ROWS 200000              /* rows of the table; beyond it the weakest pairs go */

static const struct view_col coact_cols[] = {
	VIEW_HEAD,
	{ "layer", "layer", VIEW_INT, 0 }, { "i", "i", VIEW_INT, 0 }, { "j", "j", VIEW_INT, 0 },
	{ "count", "together", VIEW_INT, 0 }, { "p_j_given_i", "P(j|i)", VIEW_REAL, 4 },
	{ "p_adjacent", "adjacent ranks", VIEW_REAL, 4 },
	{ "p_uniform", "(uniform)", VIEW_REAL, 4 },
};

struct pair { uint64_t count; uint16_t i, j; };

/* Most frequent first, then by id, so that the order is the same everywhere. */
static int by_count(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	if (x->i != y->i)
		return x->i < y->i ? -1 : 1;
	return (x->j > y->j) - (x->j < y->j);
}

/* Pair counts of layers l0 <= l < l1 in one pass; both (as metrics_coact_add_both), all, adjacent:
 * [layer - l0][n_expert^2] packed at `at`; picked [l - l0][MOE_MAX_EXPERT]; since [l - l0]: tokens
 * in both, which is emptied into the others before its 32 bits could run over. */
struct coact {
	size_t l0, l1;
	const size_t *at; /* [l1 - l0 + 1] */
	uint64_t *both, *all, *adjacent, *picked, *since;
};

static void coact_empty(const struct coact *s, size_t l)
{
	for (size_t i = s->at[l]; i < s->at[l + 1]; i++) {
		s->all[i] += (uint32_t)s->both[i];
		s->adjacent[i] += s->both[i] >> 32;
		s->both[i] = 0;
	}
	s->since[l] = 0;
}

static void coact_block(void *ctx, const struct scan_block *b)
{
	const struct coact *s = ctx;
	const uint16_t *set = b->experts;
	uint64_t *both, *picked;
	unsigned k = b->layer.k;
	size_t l = b->li - s->l0;

	if (b->li < s->l0 || b->li >= s->l1)
		return;
	if ((s->since[l] += b->chunk->n) > UINT32_MAX / (k * k + 1)) {
		coact_empty(s, l);
		s->since[l] = b->chunk->n;
	}
	both = s->both + s->at[l];
	picked = s->picked + l * MOE_MAX_EXPERT;
	for (uint32_t t = 0; t < b->chunk->n; t++, set += k) {
		if (b->flags && b->flags[t] & MOE_EV_NAN)
			continue;
		metrics_coact_add_both(both, b->layer.n_expert, set, k);
		for (unsigned i = 0; i < k; i++)
			picked[set[i]]++;
	}
}

/* Rows of one layer, the strongest `most` pairs. Returns how many were left out, -1 on error. */
static int64_t coact_rows(const struct load_filter *f, const char *domain,
	const struct moe_layer_desc *d, const struct coact *s, size_t l, size_t most,
	struct view_table *out, struct moe_err *e)
{
	size_t n_expert = d->n_expert, n = 0;
	const uint64_t *all = s->all + s->at[l], *adj = s->adjacent + s->at[l];
	const uint64_t *picked = s->picked + l * MOE_MAX_EXPERT;
	struct pair *p = malloc(n_expert * n_expert * sizeof *p);
	int64_t status = -1;

	if (!p)
		return err_nomem(e, n_expert * n_expert * sizeof *p, "pairs of experts");
	for (size_t ij = 0; ij < n_expert * n_expert; ij++)
		if (all[ij])
			p[n++] = (struct pair){ all[ij], (uint16_t)(ij / n_expert),
				(uint16_t)(ij % n_expert) };
	qsort(p, n, sizeof *p, by_count);
	for (size_t x = 0; x < n && x < most; x++) {
		struct view_cell *c = view_table_row(out, e);
		double base = (double)picked[p[x].i];

		if (!c || view_table_head(c, f->run, domain, f->phase, e))
			goto out;
		c += VIEW_N_HEAD;
		view_set_int(c, d->layer);
		view_set_int(c + 1, p[x].i);
		view_set_int(c + 2, p[x].j);
		view_set_int(c + 3, (int64_t)p[x].count);
		view_set_real(c + 4, (double)p[x].count / base);
		view_set_real(c + 5, (double)adj[p[x].i * n_expert + p[x].j] / base);
		view_set_real(c + 6, metrics_coact_uniform(n_expert, d->k));
	}
	status = n > most ? (int64_t)(n - most) : 0;
out:
	free(p);
	return status;
}

/* One pass over as many layers from l0 on as the memory allows; *l1 = where the next begins. */
static int coact_pass(struct reader *r, const struct load_filter *f, const char *domain,
	const struct run_info *u, size_t l0, size_t *l1, int64_t *left_out, struct view_table *out,
	struct moe_err *e)
{
	size_t at[MOE_MAX_LAYER + 1] = { 0 }, l = l0, n = 0;
	struct coact s = { .l0 = l0, .at = at };
	struct scan_calls calls = { .ctx = &s, .block = coact_block };
	int64_t left;
	int status = -1;

	while (l < u->n_moe_layer) {
		size_t more = (size_t)u->layers[l].n_expert * u->layers[l].n_expert;

		if (l > l0 && (n + more) * 3 * sizeof *s.all > COACT_BYTES)
			break;
		at[l++ - l0] = n;
		n += more;
	}
	at[l - l0] = n;
	*l1 = s.l1 = l;
	s.both = calloc(n, sizeof *s.both);
	s.all = calloc(n, sizeof *s.all);
	s.adjacent = calloc(n, sizeof *s.adjacent);
	s.picked = calloc((l - l0) * MOE_MAX_EXPERT, sizeof *s.picked);
	s.since = calloc(l - l0, sizeof *s.since);
	if (!s.both || !s.all || !s.adjacent || !s.picked || !s.since) {
		err_nomem(e, n * 3 * sizeof *s.all, "counts of pairs");
		goto out;
	}
	if (scan_run(r, f, 0, &calls, e))
		goto out;
	for (l = l0; l < s.l1; l++) {
		coact_empty(&s, l - l0);
		metrics_coact_mirror(s.all + at[l - l0], u->layers[l].n_expert);
		metrics_coact_mirror(s.adjacent + at[l - l0], u->layers[l].n_expert);
		left = coact_rows(f, domain, u->layers + l, &s, l - l0, COACT_ROWS / u->n_moe_layer,
			out, e);
		if (left < 0)
			goto out;
		*left_out += left;
	}
	status = 0;
out:
	free(s.both);
	free(s.all);
	free(s.adjacent);
	free(s.picked);
	free(s.since);
	return status;
}

int view_stat_coactivation(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = NULL;
	int64_t left_out = 0;
	const char *domain;
	char name[64];
	int status = -1;

	view_table_init(out, coact_cols, N_COLS(coact_cols));
	status = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (status <= 0)
		goto out;
	status = 0;
	domain = view_domain_name(r, f, name, sizeof name);
	for (size_t l = 0; l < u->n_moe_layer && !status;)
		status = coact_pass(r, f, domain, u, l, &l, &left_out, out, e);
	if (!status && left_out)
		snprintf(out->why, sizeof out->why, "the %lld rarest pairs are not listed; the most "
			"frequent %u of each layer are", (long long)left_out,
			COACT_ROWS / u->n_moe_layer);
	else if (!status && !out->n_row)
		snprintf(out->why, sizeof out->why, "no token in this selection picks two experts");
	else if (!status && f->bucket0 < f->bucket1)
		snprintf(out->why, sizeof out->why, DECISIONS_NO_TIME);
out:
	free(u);
	if (status)
		view_table_free(out);
	return status;
}
