/* snap.c - see snap.h. */
#include "tui/snap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

static int load_timeline(struct tui_source *src, const struct load_filter *f,
const struct tui_query *k,
	struct tui_snap *s, struct moe_err *e)
{
	(void)k;
	return view_timeline(src->r, f, TUI_SLOTS, &s->u.timeline, e);
}

static int load_expert(struct tui_source *src, const struct load_filter *f,
	const struct tui_query *k, struct tui_snap *s, struct moe_err *e)
{
	return view_expert(src->r, f, k->layer, k->expert, TUI_EXPERT_MOST, &s->u.expert, e);
}

/* The request of the same number in the baseline, over the same positions:
 * do its tokens choose alike? */
static void load_base_stream(struct tui_source *src, const struct tui_query *k, struct tui_snap *s)
{
	const struct view_stream *v = &s->u.stream;
	struct run_info *u = malloc(sizeof *u);
	struct moe_err e = { 0 };
	struct reader *r = u ? tui_source_base(src, &e) : NULL;
	struct load_filter f = { .domain = -1, .phase = -1 };
	int64_t id = 0;
	int got = -1;

	if (r && !reader_run(r, k->base == TUI_NEWEST ? 0 : k->base, u, &e)) {
		f.run = u->id;
		got = view_request_number(r, u->id, v->seq, &id, &e);
		if (!got)
			snprintf(e.msg, sizeof e.msg, "run %lld has no request %llu", (long long)u->id,
				(unsigned long long)v->seq);
	}
	if (got > 0 && (k->layer >= u->n_moe_layer || u->layers[k->layer].layer != v->layer ||
	    u->layers[k->layer].n_expert != v->n_expert))
		got = err_set(&e, MOE_ERR_INPUT, "run %lld has a model of another shape", (long long)u->id);
	if (got > 0 && !view_stream(r, &f, id, v->n ? v->token[v->n - 1].pos : k->pos, k->layer,
	    TUI_STREAM_MOST, &s->base.stream, &e))
		s->with_base = 1;
	else
		snprintf(s->base_why, sizeof s->base_why, "%.150s", e.msg);
	free(u);
}

static int load_stream(struct tui_source *src, const struct load_filter *f,
	const struct tui_query *k, struct tui_snap *s, struct moe_err *e)
{
	int64_t id = k->sequence > 0 ? k->sequence : 0;

	if (k->sequence < TUI_NEWEST) {
		int got = view_request_number(src->r, f->run, (uint64_t)TUI_NUMBERED(k->sequence), &id, e);

		if (got <= 0)
			return got < 0 ? -1 : err_set(e, MOE_ERR_INPUT, "there is no request %lld",
				(long long)TUI_NUMBERED(k->sequence));
	}
	if (view_stream(src->r, f, id, k->pos, k->layer, TUI_STREAM_MOST,
		&s->u.stream, e))
		return -1;
	if (k->base && s->u.stream.sequence)
		load_base_stream(src, k, s);
	return 0;
}

/* Cache sizes from k to all experts, doubling with a step between. */
static void choose_slots(struct whatif_opt *o, unsigned k, unsigned n_expert)
{
	unsigned at = k ? k : 1;

	for (o->n_slots = 0; at < n_expert && o->n_slots < 12; at += at < 4 ? 1 : at / 3)
		o->slots[o->n_slots++] = at;
	o->slots[o->n_slots++] = n_expert;
}

/* At most so many picks: every n-th request, so that all of the run is seen. */
static void choose_sample(const struct run_info *u, uint64_t most, struct load_filter *f,
	struct tui_whatif *w)
{
	uint64_t picks = 0, tokens;

	for (uint32_t i = 0; i < u->n_moe_layer; i++)
		picks += u->layers[i].k;
	w->n_all = w->tokens = u->n_prompt + u->n_generated;
	tokens = picks ? most / picks : most;
	tokens = tokens < 1024 ? 1024 : tokens;
	if (tokens >= w->n_all)
		return;
	f->every = (w->n_all + tokens - 1) / tokens;
	f->most = tokens;
	w->tokens = tokens;
}

/* The curves of one run. */
static int make_curves(struct reader *r, const struct load_filter *filter, uint64_t most,
	struct tui_whatif *w, struct moe_err *e)
{
	static const double factor[] = { .5, .75, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8 };
	static const size_t ranks[TUI_DEGREES] = { 2, 4, 8, 16, 32 };
	struct run_info *u = malloc(sizeof *u);
	struct load_filter f = *filter;
	struct whatif_opt o;
	int status = -1;

	whatif_opt_init(&o);
	memcpy(o.factor, factor, sizeof factor);
	o.n_factor = sizeof factor / sizeof *factor;
	if (!u || reader_run(r, f.run, u, e))
		goto out;
	w->run = f.run = u->id;
	choose_sample(u, most, &f, w);
	if (u->n_moe_layer)
		choose_slots(&o, u->layers[0].k, u->layers[0].n_expert);
	if (whatif_capacity(r, &f, &o, &w->drops, e) || whatif_cache(r, &f, &o, &w->hits, e))
		goto out;
	for (size_t i = 0; i < TUI_DEGREES && u->n_moe_layer; i++) {
		o.ranks = ranks[i];
		o.nodes = 1;
		if (ranks[i] > u->layers[0].n_expert || u->layers[0].n_expert % ranks[i])
			continue;
		if (whatif_placement(r, &f, &o, &w->places[w->n_degree], e))
			goto out;
		w->ranks[w->n_degree++] = ranks[i];
	}
	for (size_t i = 0; i < w->drops.n && w->tokens < w->n_all; i++) /* what it came to */
		if (w->drops.row[i].layer >= 0 && w->drops.row[i].tokens)
			w->tokens = w->drops.row[i].tokens;
	status = 0;
out:
	free(u);
	return status;
}

static void free_curves(struct tui_whatif *w)
{
	whatif_drops_free(&w->drops);
	whatif_hits_free(&w->hits);
	for (size_t i = 0; i < w->n_degree; i++)
		whatif_places_free(&w->places[i]);
	memset(w, 0, sizeof *w);
}

static int load_whatif(struct tui_source *src, const struct load_filter *f,
	const struct tui_query *k, struct tui_snap *s, struct moe_err *e)
{
	uint64_t most = s->more ? TUI_WHATIF_FIRST : TUI_WHATIF_MOST;
	struct load_filter base = { .run = k->base == TUI_NEWEST ? 0 : k->base, .phase = f->phase };
	struct moe_err why = { 0 };
	struct reader *r;

	if (make_curves(src->r, f, most, &s->u.whatif, e))
		return -1;
	s->more = s->more && s->u.whatif.tokens < s->u.whatif.n_all;
	if (!k->base)
		return 0;
	r = tui_source_base(src, &why);
	base.domain = tui_source_domain(src, f->run, f->domain, base.run);
	if (base.domain == TUI_NO_DOMAIN) {
		snprintf(s->base_why, sizeof s->base_why, "it has no such domain");
		return 0;
	}
	if (r && !make_curves(r, &base, most, &s->base.whatif, &why)) {
		s->with_base = 1;
		return 0;
	}
	free_curves(&s->base.whatif);
	snprintf(s->base_why, sizeof s->base_why, "%.150s", why.msg);
	return 0;
}

static void free_whatif(struct tui_snap *s)
{
	free_curves(&s->u.whatif);
	if (s->with_base)
		free_curves(&s->base.whatif);
}

static void free_timeline(struct tui_snap *s) { view_timeline_free(&s->u.timeline); }
static void free_expert(struct tui_snap *s) { view_expert_free(&s->u.expert); }

static void free_stream(struct tui_snap *s)
{
	view_stream_free(&s->u.stream);
	if (s->with_base)
		view_stream_free(&s->base.stream);
}

/* Columns of the key that a part looks at. */
enum { DOMAIN = 1, PHASE = 2, LAYER = 4, EXPERT = 8, SEQUENCE = 16, BASE = 32 };
static const struct {
	int uses;
	int (*load)(struct tui_source *src, const struct load_filter *f, const struct tui_query *k,
		struct tui_snap *s, struct moe_err *e);
	void (*free)(struct tui_snap *s);
} parts[TUI_N_PART] = {
	[TUI_TIMELINE] = { DOMAIN | PHASE, load_timeline, free_timeline },
	[TUI_EXPERT] = { DOMAIN | PHASE | LAYER | EXPERT, load_expert, free_expert },
	[TUI_STREAM] = { DOMAIN | LAYER | SEQUENCE | BASE, load_stream, free_stream },
	[TUI_WHATIF] = { DOMAIN | PHASE | BASE, load_whatif, free_whatif },
};

struct tui_query tui_query_for(enum tui_part part, const struct tui_query *k)
{
	int uses = parts[part].uses;

	return (struct tui_query){ .run = k->run, .domain = uses & DOMAIN ? k->domain : 0,
		.phase = uses & PHASE ? k->phase : 0, .layer = uses & LAYER ? k->layer : 0,
		.expert = uses & EXPERT ? k->expert : 0, .sequence = uses & SEQUENCE ? k->sequence : 0,
		.pos = uses & SEQUENCE ? k->pos : 0, .base = uses & BASE ? k->base : 0 };
}

int tui_query_same(const struct tui_query *a, const struct tui_query *b)
{
	return a->run == b->run && a->domain == b->domain && a->phase == b->phase &&
		a->layer == b->layer && a->expert == b->expert && a->sequence == b->sequence &&
		a->pos == b->pos && a->base == b->base;
}

struct tui_snap *tui_snap_load(struct tui_source *src, enum tui_part part,
	const struct tui_query *k, int first)
{
	struct tui_snap *s = calloc(1, sizeof *s);
	struct load_filter f = { .run = k->run, .domain = k->domain, .phase = k->phase - 1 };
	int64_t start = clock_mono();
	struct moe_err e = { 0 };

	if (!s)
		return NULL;
	s->part = part;
	s->key = tui_query_for(part, k);
	s->more = first && part == TUI_WHATIF;
	f.domain = parts[part].uses & DOMAIN ? k->domain : -1;
	if (parts[part].load(src, &f, &s->key, s, &e))
		snprintf(s->error, sizeof s->error, "%.250s", e.msg[0] ? e.msg : "out of memory");
	s->cost_ns = clock_mono() - start;
	return s;
}

void tui_snap_free(struct tui_snap *s)
{
	if (!s)
		return;
	parts[s->part].free(s);
	free(s);
}
