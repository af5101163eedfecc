/* timeline.c - see timeline.h. */
#include "view/timeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int make_room(struct view_timeline *t, const struct run_info *u, int64_t buckets,
	size_t n_most, struct moe_err *e)
{
	int64_t width = (buckets + (int64_t)n_most - 1) / (int64_t)n_most;

	t->n = (size_t)((buckets + width - 1) / width);
	t->n_layer = u->n_moe_layer;
	t->bucket_ns = u->bucket_ns;
	t->started = u->started;
	t->slot = calloc(t->n, sizeof *t->slot);
	t->layers = calloc(t->n_layer + 1, sizeof *t->layers);
	t->e_at = calloc(t->n_layer + 1, sizeof *t->e_at);
	t->tokens = calloc(t->n * t->n_layer + 1, sizeof *t->tokens);
	if (!t->slot || !t->layers || !t->e_at || !t->tokens)
		return err_nomem(e, t->n * t->n_layer * sizeof *t->tokens, "the timeline");
	memcpy(t->layers, u->layers, t->n_layer * sizeof *t->layers);
	for (size_t l = 0; l < t->n_layer; l++)
		t->e_at[l + 1] = t->e_at[l] + t->layers[l].n_expert;
	t->rel = malloc((t->n * t->e_at[t->n_layer] + 1) * sizeof *t->rel);
	if (!t->rel)
		return err_nomem(e, t->n * t->e_at[t->n_layer] * sizeof *t->rel, "the timeline");
	for (size_t i = 0; i < t->n; i++) {
		t->slot[i].bucket0 = (int64_t)i * width;
		t->slot[i].bucket1 = (int64_t)(i + 1) * width < buckets ? (int64_t)(i + 1) * width :
			buckets;
	}
	return 0;
}

static void fill_layer(struct view_timeline *t, size_t i, size_t l, const struct layer_load *x)
{
	struct view_slot *s = &t->slot[i];
	float *rel = t->rel + i * t->e_at[t->n_layer] + t->e_at[l];
	double fair = (double)x->tokens * x->k / x->n_expert, max = 0;

	t->tokens[i * t->n_layer + l] = x->tokens;
	for (size_t e = 0; e < x->n_expert; e++) {
		double r = x->tokens ? (double)x->counts[e] / fair : NAN;

		rel[e] = (float)r;
		max = r > max ? r : max;
	}
	if (!x->tokens)
		return;
	s->tokens = x->tokens > s->tokens ? x->tokens : s->tokens;
	if (isnan(s->worst) || max > s->worst) {
		s->worst = max;
		s->layer = (uint16_t)l;
	}
}

static int fill_slot(struct reader *r, const struct load_filter *f, struct view_timeline *t,
	size_t i, struct moe_err *e)
{
	struct load_filter one = *f;
	struct load_set s = { 0 };

	one.bucket0 = t->slot[i].bucket0;
	one.bucket1 = t->slot[i].bucket1;
	t->slot[i].worst = NAN;
	if (reader_load_counts(r, &one, &s, e))
		return -1;
	for (size_t l = 0; l < s.n && l < t->n_layer; l++)
		if (s.layer[l].n_expert == t->layers[l].n_expert)
			fill_layer(t, i, l, &s.layer[l]);
	load_set_free(&s);
	return 0;
}

int view_timeline(struct reader *r, const struct load_filter *f, size_t n_most,
	struct view_timeline *out, struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	int64_t buckets = 0;
	int status = -1;

	memset(out, 0, sizeof *out);
	if (!u) {
		err_nomem(e, sizeof *u, "a run");
		goto out;
	}
	if (reader_run(r, f->run, u, e) || reader_n_buckets(r, f->run, &buckets, e))
		goto out;
	if (buckets > 0 && n_most && make_room(out, u, buckets, n_most, e))
		goto out;
	for (size_t i = 0; i < out->n; i++)
		if (fill_slot(r, f, out, i, e))
			goto out;
	status = 0;
out:
	free(u);
	if (status)
		view_timeline_free(out);
	return status;
}

void view_timeline_free(struct view_timeline *v)
{
	free(v->slot);
	free(v->layers);
	free(v->e_at);
	free(v->rel);
	free(v->tokens);
	memset(v, 0, sizeof *v);
}
