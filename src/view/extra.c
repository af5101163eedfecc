/*
 * extra.c - tables of `stat` about associations: layer with next layer, token id with expert,
 * domain with expert. Memory is bounded; what does not fit is left out and said.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "metrics/domain.h"
#include "metrics/sets.h"
#include "trace/scan.h"
#include "view/decisions.h"
#include "view/table.h"
#include "view/whatif.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
#define CROSS_BYTES ((size_t)512 << 20)
#define VOCAB_CELLS ((size_t)16 << 20) /* token ids x experts of all layers */
#define VOCAB_LEAST 8                  /* occurrences of an id that say something about it */
#define VOCAB_MOST ((size_t)1 << 20)   /* ids counted where the vocabulary is unknown */

/* ---- cross-layer ---- */

static const struct view_col cross_cols[] = {
	VIEW_HEAD, { "layer", "layer", VIEW_INT, 0 }, { "next_layer", "next", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "mi", "MI bits", VIEW_REAL, 4 },
	{ "mi_bias", "bias", VIEW_REAL, 5 }, { "i", "i", VIEW_INT, 0 }, { "j", "j", VIEW_INT, 0 },
	{ "count", NULL, VIEW_INT, 0 }, { "p_j_given_i", "P(j|i)", VIEW_REAL, 4 },
	{ "p_j", "P(j)", VIEW_REAL, 4 },
};

/* A layer with the next: pair [n_a][n_b]; tokens with i, with j. */
struct cross { uint64_t *pair, *a, *b, tokens; size_t n_b, k_b; };

struct crosses { struct cross *c; size_t n; };

static void cross_block(void *ctx, const struct scan_block *b)
{
	const struct crosses *s = ctx;
	struct cross *c = s->c + b->li;
	const uint16_t *x = b->experts, *y = b->next;
	size_t k, n_expert;

	if (b->li >= s->n)
		return;
	k = c->k_b, n_expert = c->n_b;
	for (uint32_t t = 0; t < b->chunk->n; t++, x += b->layer.k, y += k) {
		if ((b->flags && b->flags[t] & MOE_EV_NAN) ||
		    (b->next_flags && b->next_flags[t] & MOE_EV_NAN))
			continue;
		metrics_cross_add(c->pair, n_expert, x, b->layer.k, y, (unsigned)k);
		for (unsigned i = 0; i < b->layer.k; i++)
			c->a[x[i]]++;
		for (size_t i = 0; i < k; i++)
			c->b[y[i]]++;
		c->tokens++;
	}
}

/* The pair that stands out most: the largest P(j|i) over P(j) of those with enough tokens. */
static int cross_row(const struct load_filter *f, const char *domain, const struct run_info *u,
	const struct cross *c, size_t l, struct view_table *out, struct moe_err *e)
{
	size_t na = u->layers[l].n_expert, nb = u->layers[l + 1].n_expert, best = 0;
	struct view_cell *cell = view_table_row(out, e);
	double *table = malloc(na * nb * sizeof *table), lift = 0, picks;

	if (!cell || !table || view_table_head(cell, f->run, domain, f->phase, e)) {
		free(table);
		return cell && table ? -1 : err_nomem(e, na * nb * sizeof *table, "a table of routes");
	}
	for (size_t ij = 0; ij < na * nb; ij++) {
		double x = (double)c->pair[ij] * (double)c->tokens /
			((double)c->a[ij / nb] * (double)c->b[ij % nb]);

		table[ij] = (double)c->pair[ij];
		if (c->pair[ij] >= VOCAB_LEAST && x > lift)
			lift = x, best = ij;
	}
	picks = (double)c->tokens * u->layers[l].k * u->layers[l + 1].k;
	cell += VIEW_N_HEAD;
	view_set_int(cell, u->layers[l].layer);
	view_set_int(cell + 1, u->layers[l + 1].layer);
	view_set_int(cell + 2, (int64_t)c->tokens);
	view_set_real(cell + 3, metrics_mi(table, na, nb));
	view_set_real(cell + 4, metrics_mi_bias(na, nb, picks));
	if (lift > 0) {
		view_set_int(cell + 5, (int64_t)(best / nb));
		view_set_int(cell + 6, (int64_t)(best % nb));
		view_set_int(cell + 7, (int64_t)c->pair[best]);
		view_set_real(cell + 8, (double)c->pair[best] / (double)c->a[best / nb]);
		view_set_real(cell + 9, (double)c->b[best % nb] / (double)c->tokens);
	}
	free(table);
	return 0;
}

/* Tables for as many pairs of layers as fit; *n of them,
 * to be freed by cross_free() also after an error. */
static struct cross *cross_new(const struct run_info *u, size_t *n, struct moe_err *e)
{
	struct cross *c = calloc(u->n_moe_layer, sizeof *c);
	size_t bytes = 0;

	*n = 0;
	if (!c)
		err_nomem(e, u->n_moe_layer * sizeof *c, "layers");
	for (; c && *n + 1 < u->n_moe_layer; (*n)++) {
		const struct moe_layer_desc *a = u->layers + *n, *b = a + 1;
		size_t cells = (size_t)a->n_expert * b->n_expert;

		bytes += cells * 8;
		if (bytes > CROSS_BYTES && *n)
			break;
		c[*n].pair = calloc(cells, 8);
		c[*n].a = calloc(a->n_expert, 8);
		c[*n].b = calloc(b->n_expert, 8);
		c[*n].n_b = b->n_expert, c[*n].k_b = b->k;
	}
	return c;
}

static int cross_whole(const struct run_info *u, const struct cross *c, size_t n, struct moe_err *e)
{
	for (size_t l = 0; l < n; l++)
		if (!c[l].pair || !c[l].a || !c[l].b)
			return err_nomem(e, 8ull * u->layers[l].n_expert * u->layers[l + 1].n_expert,
				"routes from layer to layer");
	return 0;
}

static void cross_free(struct cross *c, size_t n)
{
	for (size_t l = 0; c && l < n; l++) {
		free(c[l].pair);
		free(c[l].a);
		free(c[l].b);
	}
	free(c);
}

int view_stat_cross(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = NULL;
	struct crosses s = { 0 };
	struct scan_calls calls = { .ctx = &s, .block = cross_block, .want = SCAN_NEXT };
	int status;
	char name[64];
	const char *domain;

	view_table_init(out, cross_cols, N_COLS(cross_cols));
	status = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (status <= 0)
		goto out;
	status = 0;
	if (u->n_moe_layer < 2) {
		snprintf(out->why, sizeof out->why, "one MoE layer: there is no next one");
		goto out;
	}
	status = -1;
	s.c = cross_new(u, &s.n, e);
	if (!s.c || cross_whole(u, s.c, s.n, e) || scan_run(r, f, 0, &calls, e))
		goto out;
	domain = view_domain_name(r, f, name, sizeof name);
	for (size_t l = 0; l < s.n && s.c[0].tokens; l++)
		if (cross_row(f, domain, u, s.c + l, l, out, e))
			goto out;
	if (!s.c[0].tokens)
		snprintf(out->why, sizeof out->why, "no decisions in this selection");
	else if (s.n + 1 < u->n_moe_layer)
		snprintf(out->why, sizeof out->why, "the first %zu of %u pairs of layers: their tables "
			"fill %zu MiB", s.n, u->n_moe_layer - 1, CROSS_BYTES >> 20);
	status = 0;
out:
	cross_free(s.c, s.n);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}

/* ---- vocabulary ---- */

static const struct view_col vocab_cols[] = {
	VIEW_HEAD, { "layer", "layer", VIEW_INT, 0 }, { "ids", "token ids", VIEW_INT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 }, { "first", "first choice", VIEW_REAL, 4 },
	{ "first_all", "(all ids)", VIEW_REAL, 4 }, { "any", "any choice", VIEW_REAL, 4 },
	{ "any_all", "(all ids)", VIEW_REAL, 4 }, { "next_ids", NULL, VIEW_INT, 0 },
	{ "next_tokens", NULL, VIEW_INT, 0 }, { "next_first", "next: first", VIEW_REAL, 4 },
	{ "next_first_all", "(all ids)", VIEW_REAL, 4 }, { "next_any", "next: any", VIEW_REAL, 4 },
	{ "next_any_all", "(all ids)", VIEW_REAL, 4 },
};

/* One layer's token before, whose choices belong to the id that follows it. */
struct before { uint16_t *set; uint64_t seq; uint32_t pos; int there; };

struct vocab {
	int next;                 /* 1 = by the id that follows a token, 0 = by its own */
	struct before *before;    /* [n_layer] */
	size_t n_id, n_kept, n_layer, width, *at;
	uint32_t *seen;           /* [n_id] occurrences */
	int32_t *slot;            /* [n_id] -1 = not kept */
	uint32_t *first, *any;    /* [n_kept][width] */
	uint32_t *decisions;      /* [n_kept][n_layer] */
};

struct frequent { uint32_t n; uint32_t id; };

static int more_frequent(const void *a, const void *b)
{
	const struct frequent *x = a, *y = b;

	if (x->n != y->n)
		return x->n < y->n ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* Which ids are kept: those that occur often enough, the most frequent where memory is short. */
static int vocab_choose(struct vocab *v, size_t n_layer, size_t *enough, struct moe_err *e)
{
	struct frequent *p;
	size_t most = VOCAB_CELLS / v->width, n = 0;

	for (size_t x = 0; x < v->n_id; x++)
		n += v->seen[x] >= VOCAB_LEAST;
	*enough = n;
	p = malloc((n + 1) * sizeof *p);
	v->slot = malloc((v->n_id + 1) * sizeof *v->slot);
	if (!p || !v->slot) {
		free(p);
		return err_nomem(e, n * sizeof *p, "token ids");
	}
	n = 0;
	for (size_t x = 0; x < v->n_id; x++) {
		v->slot[x] = -1;
		if (v->seen[x] >= VOCAB_LEAST)
			p[n++] = (struct frequent){ v->seen[x], (uint32_t)x };
	}
	qsort(p, n, sizeof *p, more_frequent);
	v->n_kept = n < most ? n : most;
	for (size_t i = 0; i < v->n_kept; i++)
		v->slot[p[i].id] = (int32_t)i;
	free(p);
	v->first = calloc(v->n_kept * v->width + 1, sizeof *v->first);
	v->any = calloc(v->n_kept * v->width + 1, sizeof *v->any);
	v->decisions = calloc(v->n_kept * n_layer + 1, sizeof *v->decisions);
	return v->first && v->any && v->decisions ? 0 : err_nomem(e, v->n_kept * v->width * 8,
		"choices by token id");
}

/* First pass: how often an id occurs. */
static int vocab_count(void *ctx, struct scan_chunk *c)
{
	struct vocab *v = ctx;

	for (uint32_t t = 0; t < c->n; t++)
		if (c->tokens[t] >= 0 && (size_t)c->tokens[t] < v->n_id)
			v->seen[c->tokens[t]]++;
	return 0;
}

static void vocab_add(struct vocab *v, size_t li, int32_t id, const uint16_t *set, unsigned k)
{
	size_t row;

	if (id < 0 || (size_t)id >= v->n_id || v->slot[id] < 0)
		return;
	row = (size_t)v->slot[id] * v->width + v->at[li];
	v->decisions[(size_t)v->slot[id] * v->n_layer + li]++;
	v->first[row + set[0]]++;
	for (unsigned i = 0; i < k; i++)
		v->any[row + set[i]]++;
}

/* Then: what the kept ones choose. Each layer has cells of its own. */
static void vocab_block(void *ctx, const struct scan_block *b)
{
	struct vocab *v = ctx;
	const struct scan_chunk *c = b->chunk;
	struct before *y = v->before + b->li;
	const uint16_t *set = b->experts, *last = y->set;
	unsigned k = b->layer.k;
	int there = y->there && y->seq == c->seq && y->pos + 1 == c->pos;

	for (uint32_t t = 0; t < c->n; t++, set += k) {
		int choice = !(b->flags && b->flags[t] & MOE_EV_NAN);

		if (v->next ? there : choice)
			vocab_add(v, b->li, c->tokens[t], v->next ? last : set, k);
		there = choice;
		last = set;
	}
	memcpy(y->set, last, k * sizeof *last);
	y->seq = c->seq, y->pos = c->pos + c->n - 1, y->there = there;
}

/* Mean over the ids of the share of their tokens that go to their favourite expert, and the same
 * for all these tokens taken as one id. */
static void vocab_figures(const struct run_info *u, const struct vocab *v, size_t l,
	struct view_cell *c)
{
	double sum[2] = { 0 }, all[2][MOE_MAX_EXPERT] = { { 0 } }, most[2] = { 0 };
	uint64_t tokens = 0;
	size_t ids = 0;

	for (size_t i = 0; i < v->n_kept; i++) {
		const uint32_t *row[2] = { v->first + i * v->width + v->at[l],
			v->any + i * v->width + v->at[l] };
		uint32_t n = v->decisions[i * u->n_moe_layer + l];

		if (!n)
			continue;
		ids++;
		tokens += n;
		for (int k = 0; k < 2; k++) {
			uint32_t top = 0;

			for (unsigned x = 0; x < u->layers[l].n_expert; x++) {
				top = row[k][x] > top ? row[k][x] : top;
				all[k][x] += row[k][x];
			}
			sum[k] += (double)top / n;
		}
	}
	for (int k = 0; k < 2; k++)
		for (unsigned x = 0; x < u->layers[l].n_expert; x++)
			most[k] = fmax(most[k], all[k][x]);
	view_set_int(c, (int64_t)ids);
	view_set_int(c + 1, (int64_t)tokens);
	view_set_real(c + 2, ids ? sum[0] / (double)ids : NAN);
	view_set_real(c + 3, tokens ? most[0] / (double)tokens : NAN);
	view_set_real(c + 4, ids ? sum[1] / (double)ids : NAN);
	view_set_real(c + 5, tokens ? most[1] / (double)tokens : NAN);
}

/* One pass by input or by next id, into its columns of every layer's row. */
static int vocab_pass(struct vocab *v, struct reader *r, const struct load_filter *f,
	const struct run_info *u, int next, struct view_table *out, struct moe_err *e)
{
	struct scan_calls choices = { .ctx = v, .block = vocab_block };

	v->next = next;
	memset(v->first, 0, v->n_kept * v->width * sizeof *v->first);
	memset(v->any, 0, v->n_kept * v->width * sizeof *v->any);
	memset(v->decisions, 0, v->n_kept * v->n_layer * sizeof *v->decisions);
	for (size_t l = 0; l < v->n_layer; l++)
		v->before[l].there = 0;
	if (scan_run(r, f, 0, &choices, e))
		return -1;
	for (size_t l = 0; l < v->n_layer; l++)
		vocab_figures(u, v, l, out->cells + l * out->n_col + VIEW_N_HEAD + (next ? 7 : 1));
	return 0;
}

static int vocab_rows(struct vocab *v, struct reader *r, const struct load_filter *f,
	const struct run_info *u, struct view_table *out, struct moe_err *e)
{
	char name[64];
	const char *domain = view_domain_name(r, f, name, sizeof name);

	v->before = calloc(v->n_layer, sizeof *v->before);
	if (!v->before)
		return err_nomem(e, v->n_layer * sizeof *v->before, "layers");
	for (size_t l = 0; l < v->n_layer; l++) {
		struct view_cell *c = view_table_row(out, e);

		v->before[l].set = calloc(u->layers[l].k, sizeof *v->before[l].set);
		if (!c || view_table_head(c, f->run, domain, f->phase, e))
			return -1;
		if (!v->before[l].set)
			return err_nomem(e, u->layers[l].k * sizeof *v->before[l].set, "a token's choices");
		view_set_int(c + VIEW_N_HEAD, u->layers[l].layer);
	}
	return vocab_pass(v, r, f, u, 0, out, e) || vocab_pass(v, r, f, u, 1, out, e) ? -1 : 0;
}

int view_stat_vocabulary(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = NULL;
	struct vocab v = { 0 };
	struct scan_calls count = { .ctx = &v, .chunk = vocab_count };
	size_t enough = 0;
	int can, status = -1;

	view_table_init(out, vocab_cols, N_COLS(vocab_cols));
	can = view_decisions_begin(r, f, 0, &u, out->why, sizeof out->why, e);
	if (can <= 0) {
		status = can;
		goto out;
	}
	v.n_id = u->n_vocab && u->n_vocab < VOCAB_MOST ? u->n_vocab : VOCAB_MOST;
	v.at = calloc(u->n_moe_layer + 1, sizeof *v.at);
	v.seen = calloc(v.n_id, sizeof *v.seen);
	if (!v.at || !v.seen) {
		err_nomem(e, v.n_id * sizeof *v.seen, "token ids");
		goto out;
	}
	for (uint32_t l = 0; l < u->n_moe_layer; l++) {
		v.at[l] = v.width;
		v.width += u->layers[l].n_expert;
	}
	v.n_layer = u->n_moe_layer;
	if (scan_run(r, f, 0, &count, e) || vocab_choose(&v, u->n_moe_layer, &enough, e) ||
	    (v.n_kept && vocab_rows(&v, r, f, u, out, e)))
		goto out;
	if (!v.n_kept)
		snprintf(out->why, sizeof out->why, "no token id occurs %d times in this selection",
			VOCAB_LEAST);
	else if (v.n_kept < enough)
		snprintf(out->why, sizeof out->why, "the %zu most frequent of %zu token ids", v.n_kept,
			enough);
	status = 0;
out:
	free(v.at);
	free(v.seen);
	free(v.slot);
	free(v.first);
	free(v.any);
	free(v.decisions);
	for (size_t l = 0; v.before && l < v.n_layer; l++)
		free(v.before[l].set);
	free(v.before);
	free(u);
	if (status)
		view_table_free(out);
	return status;
}

/* ---- domains and experts ---- */

static const struct view_col npmi_cols[] = {
	{ "run", NULL, VIEW_INT, 0 }, { "domain", "domain", VIEW_TEXT, 0 },
	{ "phase", NULL, VIEW_TEXT, 0 }, { "layer", "layer", VIEW_INT, 0 },
	{ "expert", "expert", VIEW_INT, 0 }, { "count", "picks", VIEW_INT, 0 },
	{ "npmi", "nPMI", VIEW_REAL, 4 }, { "risk_difference", "rate - others", VIEW_REAL, 4 },
	{ "risk_lo", "from", VIEW_REAL, 4 }, { "risk_hi", "to", VIEW_REAL, 4 },
};

static int npmi_layer(const struct load_filter *f, const struct domain_info *d, size_t n,
	const struct load_set *set, size_t l, struct view_table *out, struct moe_err *e)
{
	size_t n_expert = set[0].layer[l].n_expert;
	double *table = malloc(n * n_expert * sizeof *table);
	uint64_t all = 0;
	int status = -1;

	if (!table)
		return err_nomem(e, n * n_expert * sizeof *table, "picks by domain");
	for (size_t i = 0; i < n; i++) {
		all += set[i].layer[l].tokens;
		for (size_t x = 0; x < n_expert; x++)
			table[i * n_expert + x] = (double)set[i].layer[l].counts[x];
	}
	for (size_t i = 0; i < n; i++)
		for (size_t x = 0; x < n_expert; x++) {
			const struct layer_load *y = set[i].layer + l;
			struct metrics_interval risk;
			uint64_t picks = 0;
			struct view_cell *c = view_table_row(out, e);

			if (!c || view_table_head(c, f->run, d[i].id ? d[i].name : "(none)", f->phase, e))
				goto out;
			for (size_t k = 0; k < n; k++)
				picks += set[k].layer[l].counts[x];
			risk = metrics_risk_difference(y->counts[x], y->tokens, picks - y->counts[x],
				all - y->tokens);
			view_set_int(c + 3, y->layer);
			view_set_int(c + 4, (int64_t)x);
			view_set_int(c + 5, (int64_t)y->counts[x]);
			view_set_real(c + 6, metrics_npmi(table, n, n_expert, i, x));
			view_set_real(c + 7, risk.value);
			view_set_real(c + 8, risk.lo);
			view_set_real(c + 9, risk.hi);
		}
	status = 0;
out:
	free(table);
	return status;
}

int view_stat_npmi(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct load_filter one = *f;
	struct domain_info *d = NULL;
	struct load_set *set = NULL;
	size_t n = 0, have = 0;
	int status = -1;

	view_table_init(out, npmi_cols, N_COLS(npmi_cols));
	if (reader_domains(r, f->run, &d, &n, e))
		goto out;
	if (n < 2 || f->domain >= 0) {
		snprintf(out->why, sizeof out->why, f->domain >= 0 ? "one domain is selected: there is "
			"nothing to compare it with" : "the run has %zu domain%s: nothing to compare", n,
			n == 1 ? "" : "s");
		status = 0;
		goto out;
	}
	set = calloc(n, sizeof *set);
	if (!set) {
		err_nomem(e, n * sizeof *set, "domains");
		goto out;
	}
	for (; have < n; have++) {
		one.domain = d[have].id;
		if (reader_load(r, &one, set + have, e))
			goto out;
	}
	for (size_t l = 0; l < set[0].n; l++)
		if (npmi_layer(f, d, n, set, l, out, e))
			goto out;
	snprintf(out->why, sizeof out->why, "the intervals take tokens as independent, which those of "
		"a document are not: --specialisation tests by document");
	status = 0;
out:
	for (size_t i = 0; i < have; i++)
		load_set_free(set + i);
	free(set);
	free(d);
	if (status)
		view_table_free(out);
	return status;
}
