/* expert.c - see expert.h. */
#include "view/expert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"

#define VOCAB_MOST ((size_t)1 << 21) /* ids beyond are not listed */

/* Sums over the documents of a domain: x = picks, n = tokens of a document. */
struct ratio { double x, n, xx, xn, nn; uint64_t docs; };

struct who {
	struct view_expert *v;
	size_t li, n_vocab, n_domain;
	struct domain_info *domain;
	struct ratio *ratio;             /* [n_domain] */
	uint32_t *seen, *picked, *before_any, *before; /* [n_vocab] tokens; those that follow */
	uint64_t *same, *up, *down;      /* [MOE_MAX_EXPERT] together with the expert */
	uint64_t *same_all, *up_all, *down_all;
	uint64_t up_tokens, down_tokens, up_picks, down_picks; /* decisions that count */
	double weight, margin;
	uint64_t n_weight, n_margin;
	int64_t document, sequence;      /* of the token before */
	size_t at;                       /* domain of the document */
	double doc_x, doc_n;
	uint32_t pos;
	int last_picked;                 /* did the token before pick the expert? -1 = there is none */
};

static void who_free(struct who *w)
{
	free(w->domain);
	free(w->ratio);
	free(w->seen);
	free(w->same);
}

static int who_init(struct who *w, const struct run_info *u, struct moe_err *e)
{
	size_t n = u->n_vocab && u->n_vocab < VOCAB_MOST ? u->n_vocab : VOCAB_MOST;

	w->n_vocab = n;
	w->sequence = w->document = -1;
	w->last_picked = -1;
	w->seen = calloc(n * 4, sizeof *w->seen);
	w->same = calloc((size_t)MOE_MAX_EXPERT * 6, sizeof *w->same);
	w->ratio = calloc(w->n_domain + 1, sizeof *w->ratio);
	w->v->rank = calloc(w->v->k, sizeof *w->v->rank);
	if (!w->seen || !w->same || !w->ratio || !w->v->rank)
		return err_nomem(e, n * 4 * sizeof *w->seen, "the tokens of an expert");
	w->picked = w->seen + n;
	w->before_any = w->picked + n;
	w->before = w->before_any + n;
	w->up = w->same + MOE_MAX_EXPERT;
	w->down = w->up + MOE_MAX_EXPERT;
	w->same_all = w->down + MOE_MAX_EXPERT;
	w->up_all = w->same_all + MOE_MAX_EXPERT;
	w->down_all = w->up_all + MOE_MAX_EXPERT;
	return 0;
}

/* ---- counting ---- */

static void end_document(struct who *w)
{
	struct ratio *s = &w->ratio[w->at];

	if (w->document >= 0 && w->doc_n > 0 && w->at < w->n_domain) {
		s->x += w->doc_x;
		s->n += w->doc_n;
		s->xx += w->doc_x * w->doc_x;
		s->xn += w->doc_x * w->doc_n;
		s->nn += w->doc_n * w->doc_n;
		s->docs++;
	}
	w->doc_x = w->doc_n = 0;
}

static void count_set(const uint16_t *set, unsigned k, int picked, uint64_t *together,
	uint64_t *all)
{
	for (unsigned i = 0; i < k; i++) {
		all[set[i]]++;
		together[set[i]] += (unsigned)picked;
	}
}

/* A neighbouring layer of token t; from = its index. */
static void count_layer(const struct cursor_chunk *c, uint32_t t, size_t from, int picked,
	uint64_t *together, uint64_t *all, uint64_t *tokens, uint64_t *picks)
{
	if (c->flags && c->flags[t * c->n_layer + from] & MOE_EV_NAN)
		return;
	count_set(c->experts + t * c->k_row + c->k_at[from], c->layers[from].k, picked, together, all);
	++*tokens;
	*picks += (unsigned)picked;
}

static void count_pick(struct who *w, const struct cursor_chunk *c, uint32_t t, unsigned rank)
{
	float weight = c->weights[t * c->k_row + c->k_at[w->li] + rank];
	float margin = c->margins[t * c->n_layer + w->li];

	w->v->picks++;
	w->v->rank[rank]++;
	if (isfinite(weight))
		w->weight += weight, w->n_weight++;
	if (isfinite(margin))
		w->margin += margin, w->n_margin++;
}

static void count_token(struct who *w, const struct cursor_chunk *c, uint32_t t)
{
	const uint16_t *set = c->experts + t * c->k_row + c->k_at[w->li];
	size_t id = (size_t)c->tokens[t];
	unsigned rank = 0, k = w->v->k;
	int picked, next = w->last_picked >= 0 && w->sequence == c->sequence &&
		c->pos + t == w->pos + 1;

	if (next && c->tokens[t] >= 0 && id < w->n_vocab) {
		w->before_any[id]++;
		w->before[id] += w->last_picked == 1;
	}
	w->sequence = c->sequence;
	w->pos = c->pos + t;
	w->last_picked = -1;
	if (c->flags && c->flags[t * c->n_layer + w->li] & MOE_EV_NAN)
		return;
	while (rank < k && set[rank] != w->v->expert)
		rank++;
	picked = w->last_picked = rank < k;
	w->v->tokens++;
	w->doc_n++;
	w->doc_x += picked;
	if (picked)
		count_pick(w, c, t, rank);
	if (c->tokens[t] >= 0 && id < w->n_vocab) {
		w->seen[id]++;
		w->picked[id] += (unsigned)picked;
	}
	count_set(set, k, picked, w->same, w->same_all);
	if (w->li)
		count_layer(c, t, w->li - 1, picked, w->up, w->up_all, &w->up_tokens, &w->up_picks);
	if (w->li + 1 < c->n_layer)
		count_layer(c, t, w->li + 1, picked, w->down, w->down_all, &w->down_tokens, &w->down_picks);
}

/* Read up to `most` tokens of what the filter selects. */
static int read_some(struct who *w, struct reader *r, const struct load_filter *f, uint64_t most,
	struct moe_err *e)
{
	struct cursor *cur = cursor_open(r, f, e);
	struct cursor_chunk c;
	uint64_t n = 0;
	int got = cur ? 1 : -1;

	while (n < most && got > 0 && (got = cursor_next(cur, &c, e)) > 0) {
		if (c.document != w->document) {
			end_document(w);
			w->document = c.document;
			w->at = view_decisions_domain(w->domain, w->n_domain, c.domain);
		}
		for (uint32_t t = 0; t < c.n; t++)
			count_token(w, &c, t);
		n += c.n;
	}
	end_document(w);
	w->document = -1;
	cursor_close(cur);
	return got < 0 ? -1 : 0;
}

static int read_all(struct who *w, struct reader *r, const struct load_filter *f, uint64_t most,
	struct moe_err *e)
{
	struct load_filter one = *f;
	uint64_t tokens = 0;
	size_t n = 0;

	for (size_t i = 0; i < w->n_domain; i++)
		if (f->domain < 0 || w->domain[i].id == f->domain)
			tokens += w->domain[i].n_tokens, n++;
	if (!most || tokens <= most || !n)
		return read_some(w, r, f, UINT64_MAX, e);
	snprintf(w->v->why, sizeof w->v->why, "from the first %llu of %llu tokens%s",
		(unsigned long long)(most / n * n), (unsigned long long)tokens,
		n > 1 ? ", as many of each domain" : "");
	for (size_t i = 0; i < w->n_domain; i++) {
		one.domain = w->domain[i].id;
		if ((f->domain < 0 || one.domain == f->domain) && read_some(w, r, &one, most / n, e))
			return -1;
	}
	return 0;
}

/* ---- the lists ---- */

static int by_excess(const void *pa, const void *pb)
{
	const struct view_expert_token *a = pa, *b = pb;

	if (a->excess != b->excess)
		return a->excess < b->excess ? 1 : -1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* The best of all ids, kept sorted; returns how many. */
static size_t list_tokens(struct view_expert_token *out, const uint32_t *seen,
	const uint32_t *picked, size_t n_vocab)
{
	uint64_t all = 0, picks = 0;
	size_t n = 0;

	for (size_t i = 0; i < n_vocab; i++)
		all += seen[i], picks += picked[i];
	for (size_t i = 0; i < n_vocab && all; i++) {
		struct view_expert_token x = { .id = (int32_t)i, .picks = picked[i], .seen = seen[i],
			.excess = picked[i] - (double)seen[i] * (double)picks / (double)all, .len = -1 };
		size_t j;

		if (!picked[i] || x.excess <= 0 ||
		    (n == VIEW_EXPERT_LIST && by_excess(&x, &out[n - 1]) >= 0))
			continue;
		n += n < VIEW_EXPERT_LIST;
		for (j = n - 1; j > 0 && by_excess(&x, &out[j - 1]) < 0; j--)
			out[j] = out[j - 1];
		out[j] = x;
	}
	return n;
}

static int name_tokens(struct reader *r, int64_t model, struct view_expert_token *t, size_t n,
	struct moe_err *e)
{
	for (size_t i = 0; i < n; i++)
		if (reader_token(r, model, t[i].id, t[i].bytes, sizeof t[i].bytes, &t[i].len, e))
			return -1;
	return 0;
}

static size_t list_peers(struct view_expert_peer *out, const uint64_t *together,
	const uint64_t *all, uint64_t picks, uint64_t tokens, unsigned without)
{
	size_t n = 0;

	for (unsigned i = 0; i < MOE_MAX_EXPERT && picks; i++) {
		struct view_expert_peer x = { i, together[i], (double)together[i] / (double)picks,
			(double)all[i] / (double)tokens };
		double d = x.given - x.alone;
		size_t j;

		if (i == without || !together[i] ||
		    (n == VIEW_EXPERT_LIST && d <= out[n - 1].given - out[n - 1].alone))
			continue;
		n += n < VIEW_EXPERT_LIST;
		for (j = n - 1; j > 0 && d > out[j - 1].given - out[j - 1].alone; j--)
			out[j] = out[j - 1];
		out[j] = x;
	}
	return n;
}

static int by_rel(const void *pa, const void *pb)
{
	const struct view_expert_domain *a = pa, *b = pb;

	if (a->rel != b->rel)
		return a->rel < b->rel ? 1 : -1;
	return strcmp(a->info.name, b->info.name);
}

static int list_domains(struct who *w, struct moe_err *e)
{
	struct view_expert *v = w->v;
	double fair = (double)v->k / v->n_expert;

	v->domain = calloc(w->n_domain + 1, sizeof *v->domain);
	if (!v->domain)
		return err_nomem(e, w->n_domain * sizeof *v->domain, "domains");
	for (size_t i = 0; i < w->n_domain; i++) {
		const struct ratio *s = &w->ratio[i];
		struct view_expert_domain *d = &v->domain[v->n_domain];
		double m = (double)s->docs, p, half;

		if (!w->domain[i].id || s->n <= 0)
			continue;
		p = s->x / s->n;
		half = m < 2 ? NAN : 1.959964 * sqrt(fmax(0, m / (m - 1) *
			(s->xx - 2 * p * s->xn + p * p * s->nn))) / s->n;
		*d = (struct view_expert_domain){ w->domain[i], s->docs, (uint64_t)s->n, (uint64_t)s->x,
			p / fair, isnan(half) ? NAN : fmax(0, p - half) / fair, (p + half) / fair };
		v->n_domain++;
	}
	qsort(v->domain, v->n_domain, sizeof *v->domain, by_rel);
	return 0;
}

static int fill(struct who *w, struct reader *r, const struct run_info *u, struct moe_err *e)
{
	struct view_expert *v = w->v;

	v->mean_weight = w->n_weight ? w->weight / (double)w->n_weight : NAN;
	v->mean_margin = w->n_margin ? w->margin / (double)w->n_margin : NAN;
	v->n_token = list_tokens(v->token, w->seen, w->picked, w->n_vocab);
	v->n_next = list_tokens(v->next, w->before_any, w->before, w->n_vocab);
	v->n_partner = list_peers(v->partner, w->same, w->same_all, v->picks, v->tokens, v->expert);
	v->n_up = list_peers(v->up, w->up, w->up_all, w->up_picks, w->up_tokens, UINT32_MAX);
	v->n_down = list_peers(v->down, w->down, w->down_all, w->down_picks, w->down_tokens,
		UINT32_MAX);
	return name_tokens(r, u->model, v->token, v->n_token, e) ||
		name_tokens(r, u->model, v->next, v->n_next, e) || list_domains(w, e) ? -1 : 0;
}

int view_expert(struct reader *r, const struct load_filter *f, size_t li, unsigned expert,
	uint64_t most, struct view_expert *out, struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	struct who w = { .v = out, .li = li };
	int status = -1;

	memset(out, 0, sizeof *out);
	out->up_layer = out->down_layer = -1;
	if (!u) {
		err_nomem(e, sizeof *u, "a run");
		goto out;
	}
	if (reader_run(r, f->run, u, e))
		goto out;
	if (li >= u->n_moe_layer || expert >= u->layers[li].n_expert) {
		err_set(e, MOE_ERR_USAGE, "run %lld has no expert %u in its MoE layer number %zu",
			(long long)u->id, expert, li);
		goto out;
	}
	out->layer = u->layers[li].layer, out->n_expert = u->layers[li].n_expert;
	out->k = u->layers[li].k, out->expert = expert;
	out->up_layer = li ? u->layers[li - 1].layer : -1;
	out->down_layer = li + 1 < u->n_moe_layer ? u->layers[li + 1].layer : -1;
	out->mean_weight = out->mean_margin = NAN;
	if (view_decisions_missing(u, out->why, sizeof out->why)) {
		status = 0;
		goto out;
	}
	if (!reader_domains(r, f->run, &w.domain, &w.n_domain, e) && !who_init(&w, u, e) &&
	    !read_all(&w, r, f, most, e) && !fill(&w, r, u, e))
		status = 0;
out:
	who_free(&w);
	free(u);
	if (status)
		view_expert_free(out);
	return status;
}

void view_expert_free(struct view_expert *v)
{
	free(v->rank);
	free(v->domain);
	memset(v, 0, sizeof *v);
}
