/* control.c - see control.h. */
#include "view/control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"

#define VOCAB_GUESS ((size_t)1 << 18)
#define CELLS_MOST ((size_t)16 << 20) /* token ids x domains */

int view_control_init(struct view_control *c, const struct run_info *u, size_t n_domain,
	struct moe_err *e)
{
	c->n_vocab = u->n_vocab ? u->n_vocab : VOCAB_GUESS;
	c->n_domain = n_domain;
	c->count = NULL;
	if (c->n_vocab > CELLS_MOST / n_domain)
		return 0;
	c->count = calloc(c->n_vocab * n_domain, sizeof *c->count);
	return c->count ? 0 : err_nomem(e, c->n_vocab * n_domain * sizeof *c->count,
		"tokens by domain");
}

void view_control_free(struct view_control *c)
{
	free(c->count);
	c->count = NULL;
}

void view_control_add(struct view_control *c, const struct scan_chunk *k, size_t domain)
{
	for (uint32_t t = 0; c->count && t < k->n; t++)
		if (k->tokens[t] >= 0 && (size_t)k->tokens[t] < c->n_vocab)
			c->count[(size_t)k->tokens[t] * c->n_domain + domain]++;
}

void view_control_keep(struct view_control *c, const size_t *kept, size_t n)
{
	for (size_t x = 0; c->count && x < c->n_vocab; x++)
		for (size_t d = 0; d < n; d++) /* kept[d] >= d: nothing is overwritten too early */
			c->count[x * n + d] = c->count[x * c->n_domain + kept[d]];
	c->n_domain = n;
}

/* Sums of the second pass. */
struct sums {
	uint64_t **star;          /* [n_layer][n_expert]: bit d = this is the cell's expert of domain
	                             d */
	double *matched, *tokens; /* [n_domain] tokens with ids that others have; all tokens */
	double *observed, *expected; /* [n_layer][n_domain] picks of the cell's expert */
	uint64_t *shared;         /* [n_vocab] bit d = others have tokens of this id, d has some too */
	double *all;              /* [n_vocab] tokens of this id */
};

static void sums_free(struct sums *s, size_t n_layer)
{
	for (size_t l = 0; s->star && l < n_layer; l++)
		free(s->star[l]);
	free(s->star);
	free(s->matched);
	free(s->tokens);
	free(s->observed);
	free(s->expected);
	free(s->shared);
	free(s->all);
}

static int sums_init(struct sums *s, const struct view_control *c, const struct view_spec *v,
	struct moe_err *e)
{
	size_t cells = v->n_layer * v->n_domain, bytes = cells * sizeof(double);

	s->star = calloc(v->n_layer, sizeof *s->star);
	s->matched = calloc(v->n_domain, sizeof *s->matched);
	s->tokens = calloc(v->n_domain, sizeof *s->tokens);
	s->observed = calloc(cells, sizeof *s->observed);
	s->expected = calloc(cells, sizeof *s->expected);
	s->shared = calloc(c->n_vocab, sizeof *s->shared);
	s->all = calloc(c->n_vocab, sizeof *s->all);
	if (!s->star || !s->matched || !s->tokens || !s->observed || !s->expected || !s->shared ||
	    !s->all)
		return err_nomem(e, bytes, "the token-matched control");
	for (size_t l = 0; l < v->n_layer; l++) {
		s->star[l] = calloc(v->layer[l].n_expert, sizeof **s->star);
		if (!s->star[l])
			return err_nomem(e, v->layer[l].n_expert * sizeof **s->star, "cells");
		for (size_t d = 0; d < v->n_domain; d++)
			s->star[l][v->layer[l].cell[d].expert] |= UINT64_C(1) << d;
	}
	for (size_t x = 0; x < c->n_vocab; x++) {
		const uint32_t *n = c->count + x * c->n_domain;
		double all = 0;

		for (size_t d = 0; d < v->n_domain; d++)
			all += n[d];
		s->all[x] = all;
		for (size_t d = 0; d < v->n_domain; d++) {
			int both = n[d] && all > n[d];

			s->tokens[d] += n[d];
			s->matched[d] += both ? n[d] : 0;
			s->shared[x] |= (uint64_t)both << d;
		}
	}
	return 0;
}

/* One token of domain `own` picks an expert of the cells `which`, a bit for each domain: they take
 * note. n [n_domain]: tokens of the same id by domain, `all` their sum. */
static void note(double *observed, double *expected, const uint32_t *n, double all, size_t own,
	uint64_t which)
{
	for (size_t d = 0; which; d++, which >>= 1) {
		if (!(which & 1))
			continue;
		if (d == own)
			observed[d]++;
		else
			expected[d] += n[d] / (all - n[d]);
	}
}

/* The second scan; a chunk's tag is its domain. */
struct second {
	struct sums *s;
	const struct view_control *c;
	const struct view_spec *v;
};

static int second_chunk(void *ctx, struct scan_chunk *k)
{
	const struct second *x = ctx;

	k->tag = view_decisions_domain(x->v->domain, x->v->n_domain, k->domain);
	return k->tag < x->v->n_domain;
}

static void second_block(void *ctx, const struct scan_block *b)
{
	const struct second *x = ctx;
	const struct view_control *c = x->c;
	const uint64_t *star = x->s->star[b->li];
	double *observed = x->s->observed + b->li * c->n_domain;
	double *expected = x->s->expected + b->li * c->n_domain;
	const uint16_t *set = b->experts;
	size_t k = b->layer.k;

	for (uint32_t t = 0; t < b->chunk->n; t++, set += k) {
		size_t id = (size_t)b->chunk->tokens[t];
		uint64_t shared;

		if (b->chunk->tokens[t] < 0 || id >= c->n_vocab || !(shared = x->s->shared[id]) ||
			(b->flags && b->flags[t] & MOE_EV_NAN))
			continue;
		for (size_t i = 0; i < k; i++)
			if (star[set[i]] & shared)
				note(observed, expected, c->count + id * c->n_domain, x->s->all[id],
					b->chunk->tag, star[set[i]] & shared);
	}
}

static void conclude(const struct sums *s, struct view_spec *v)
{
	for (size_t l = 0; l < v->n_layer; l++)
		for (size_t d = 0; d < v->n_domain; d++) {
			struct view_spec_cell *cell = v->layer[l].cell + d;
			double fair = (double)v->layer[l].k / v->layer[l].n_expert;
			double n = s->matched[d] > 0 ? s->matched[d] * fair : NAN;

			cell->token_share = s->tokens[d] > 0 ? s->matched[d] / s->tokens[d] : NAN;
			cell->token_rel = s->observed[l * v->n_domain + d] / n;
			cell->token_control = s->expected[l * v->n_domain + d] / n;
		}
}

int view_control_scan(const struct view_control *c, struct reader *r, const struct load_filter *f,
	struct view_spec *v, struct moe_err *e)
{
	struct sums s = { 0 };
	struct second x = { &s, c, v };
	struct scan_calls calls = { .ctx = &x, .chunk = second_chunk, .block = second_block };
	int status = -1;

	for (size_t l = 0; l < v->n_layer; l++)
		for (size_t d = 0; d < v->n_domain; d++)
			v->layer[l].cell[d].token_share = v->layer[l].cell[d].token_rel =
				v->layer[l].cell[d].token_control = NAN;
	if (!c->count)
		return 0;
	if (!sums_init(&s, c, v, e) && !scan_run(r, f, 0, &calls, e)) {
		conclude(&s, v);
		status = 0;
	}
	sums_free(&s, v->n_layer);
	return status;
}
