/* snap.c - see snap.h. */
#include "tui/snap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static int load_timeline(struct reader *r, const struct load_filter *f, const struct tui_query *k,
	struct tui_snap *s, struct moe_err *e)
{
	(void)k;
	return view_timeline(r, f, TUI_SLOTS, &s->u.timeline, e);
}

static int load_expert(struct reader *r, const struct load_filter *f, const struct tui_query *k,
	struct tui_snap *s, struct moe_err *e)
{
	return view_expert(r, f, k->layer, k->expert, TUI_EXPERT_MOST, &s->u.expert, e);
}

static int load_stream(struct reader *r, const struct load_filter *f, const struct tui_query *k,
	struct tui_snap *s, struct moe_err *e)
{
	return view_stream(r, f, k->sequence, k->pos, k->layer, TUI_STREAM_MOST, &s->u.stream, e);
}

/* Cache sizes from k to all experts, doubling with a step between. */
static void choose_slots(struct whatif_opt *o, unsigned k, unsigned n_expert)
{
	unsigned at = k ? k : 1;

	for (o->n_slots = 0; at < n_expert && o->n_slots < 12; at += at < 4 ? 1 : at / 3)
		o->slots[o->n_slots++] = at;
	o->slots[o->n_slots++] = n_expert;
}

static int load_whatif(struct reader *r, const struct load_filter *f, const struct tui_query *k,
	struct tui_snap *s, struct moe_err *e)
{
	static const double factor[] = { .5, .75, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8 };
	static const size_t ranks[TUI_DEGREES] = { 2, 4, 8, 16, 32 };
	struct run_info *u = malloc(sizeof *u);
	struct tui_whatif *w = &s->u.whatif;
	struct whatif_opt o;
	int status = -1;

	(void)k;
	whatif_opt_init(&o);
	memcpy(o.factor, factor, sizeof factor);
	o.n_factor = sizeof factor / sizeof *factor;
	if (!u || reader_run(r, f->run, u, e))
		goto out;
	if (u->n_moe_layer)
		choose_slots(&o, u->layers[0].k, u->layers[0].n_expert);
	if (whatif_capacity(r, f, &o, &w->drops, e) || whatif_cache(r, f, &o, &w->hits, e))
		goto out;
	for (size_t i = 0; i < TUI_DEGREES && u->n_moe_layer; i++) {
		o.ranks = ranks[i];
		o.nodes = 1;
		if (ranks[i] > u->layers[0].n_expert || u->layers[0].n_expert % ranks[i])
			continue;
		if (whatif_placement(r, f, &o, &w->places[w->n_degree], e))
			goto out;
		w->ranks[w->n_degree++] = ranks[i];
	}
	status = 0;
out:
	free(u);
	return status;
}

static void free_whatif(struct tui_snap *s)
{
	whatif_drops_free(&s->u.whatif.drops);
	whatif_hits_free(&s->u.whatif.hits);
	for (size_t i = 0; i < s->u.whatif.n_degree; i++)
		whatif_places_free(&s->u.whatif.places[i]);
}

static void free_timeline(struct tui_snap *s) { view_timeline_free(&s->u.timeline); }
static void free_expert(struct tui_snap *s) { view_expert_free(&s->u.expert); }
static void free_stream(struct tui_snap *s) { view_stream_free(&s->u.stream); }

/* Columns of the key that a part looks at. */
enum { DOMAIN = 1, PHASE = 2, LAYER = 4, EXPERT = 8, SEQUENCE = 16 };
static const struct {
	int uses;
	int (*load)(struct reader *r, const struct load_filter *f, const struct tui_query *k,
		struct tui_snap *s, struct moe_err *e);
	void (*free)(struct tui_snap *s);
} parts[TUI_N_PART] = {
	[TUI_TIMELINE] = { DOMAIN | PHASE, load_timeline, free_timeline },
	[TUI_EXPERT] = { DOMAIN | PHASE | LAYER | EXPERT, load_expert, free_expert },
	[TUI_STREAM] = { DOMAIN | LAYER | SEQUENCE, load_stream, free_stream },
	[TUI_WHATIF] = { DOMAIN | PHASE, load_whatif, free_whatif },
};

struct tui_query tui_query_for(enum tui_part part, const struct tui_query *k)
{
	int uses = parts[part].uses;

	return (struct tui_query){ .run = k->run, .domain = uses & DOMAIN ? k->domain : 0,
		.phase = uses & PHASE ? k->phase : 0, .layer = uses & LAYER ? k->layer : 0,
		.expert = uses & EXPERT ? k->expert : 0, .sequence = uses & SEQUENCE ? k->sequence : 0,
		.pos = uses & SEQUENCE ? k->pos : 0 };
}

int tui_query_same(const struct tui_query *a, const struct tui_query *b)
{
	return a->run == b->run && a->domain == b->domain && a->phase == b->phase &&
		a->layer == b->layer && a->expert == b->expert && a->sequence == b->sequence &&
		a->pos == b->pos;
}

struct tui_snap *tui_snap_load(struct reader *r, enum tui_part part, const struct tui_query *k)
{
	struct tui_snap *s = calloc(1, sizeof *s);
	struct load_filter f = { .run = k->run, .domain = k->domain, .phase = k->phase - 1 };
	int64_t start = clock_mono();
	struct moe_err e = { 0 };

	if (!s)
		return NULL;
	s->part = part;
	s->key = tui_query_for(part, k);
	f.domain = parts[part].uses & DOMAIN ? k->domain : -1;
	if (parts[part].load(r, &f, &s->key, s, &e))
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
