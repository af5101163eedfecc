/*
 * tui_sample.h - hand-made snapshots for the tests of the dashboard: any number of layers, experts
 * and domains, one collapsed layer, hostile names. Not from the views: drawing is tested alone.
 */
#ifndef TUI_SAMPLE_H
#define TUI_SAMPLE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/panel.h"

#define SAMPLE_NOW INT64_C(1763780000000000000)

/* Clears the screen, sets the title, writes the clipboard, turns text around, is not UTF-8. */
static const char *const hostile = "\033[2J\033]0;pwn\007\033]52;c;eA==\007\x9b" "31m\u202e\u200b"
	"a\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301\xff\n\t\u6f22\u5b57 and much more text here";

/* Copy, cut to what fits. */
static void sample_copy(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);

	n = n < size ? n : size - 1;
	memcpy(dst, src, n);
	dst[n] = 0;
}

struct sample {
	struct tui_data data;
	struct view_alarms alarms;
	const struct view_alarms *base_alarms; /* borrowed */
	struct tui_spec spec;
	struct tui_state state;
	struct tui_snap *snap[TUI_N_PART];
};

static void sample_layer(struct view_layer *l, int index, int n_expert, int k, int collapsed)
{
	double h = 0, max = 0;

	*l = (struct view_layer){ .layer = (uint16_t)index, .n_expert = (uint16_t)n_expert,
		.k = (uint16_t)k, .tokens = 184220, .aux_loss = NAN, .z_loss = NAN,
		.token_entropy = NAN, .mi_token = NAN, .confidence = NAN, .margin = .0321 };
	l->rel = calloc((size_t)n_expert, sizeof *l->rel);
	l->counts = calloc((size_t)n_expert, sizeof *l->counts);
	l->weights = calloc((size_t)n_expert, sizeof *l->weights);
	for (int e = 0; e < n_expert; e++) {
		double r = 1 + .6 * sin(index * 1.7 + e * 2.3) * (e % 3 ? .3 : 1);

		if (collapsed)
			r = e % 8 == 3 ? 3.9 : e % 8 == 5 ? 0 : .75 * r;
		l->rel[e] = r;
		l->counts[e] = (uint64_t)(r * 184220 * k / n_expert);
		l->weights[e] = (double)l->counts[e] * .47;
		l->n_dead += l->counts[e] == 0;
		if (r > max)
			max = r, l->top_expert = (unsigned)e;
		h -= r > 0 ? r / n_expert * log(r / n_expert) : 0;
	}
	l->max_mean = max;
	l->max_vio = max - 1;
	l->entropy_norm = n_expert > 1 ? h / log(n_expert) : 1;
	l->n_eff = exp(h);
	l->gini = .21;
	l->cv = .4;
	l->coverage90 = (unsigned)(n_expert * .8);
	l->top_rate = max * k / n_expert;
}

static void sample_alarms(struct view_alarms *a)
{
	a->n = 3;
	a->alarm = calloc(3, sizeof *a->alarm);
	a->alarm[0] = (struct view_alarm){ VIEW_ALARM, "collapse", 2, SAMPLE_NOW - 754000000000,
		.488, .25, "layer 2: E3+E11 take 48.8 % of picks (fair share 12.5 %)",
		"SELECT expert, count(*) FROM routing WHERE run=14 AND layer=2 GROUP BY 1 ORDER BY 2 "
		"DESC" };
	a->alarm[1] = (struct view_alarm){ VIEW_WARNING, "dead", 2, SAMPLE_NOW - 93754000000000, 2, 0,
		"layer 2: 2 of 16 experts were never picked in 184,220 tokens", "SELECT 1" };
	a->alarm[2] = (struct view_alarm){ VIEW_NOTE, "gap", -1, SAMPLE_NOW - 1000000000, NAN, NAN,
		"", "" };
	snprintf(a->alarm[2].text, sizeof a->alarm[2].text, "gap in domain %s", hostile);
}

static void sample_spec(struct view_spec *sp, int n_layer, int n_expert, int n_domain)
{
	static const char *const names[] = { "c", "english", "finance", "french", "german",
		"legal_french", "mathematics", "medical" };

	sp->n_domain = (size_t)n_domain;
	sp->n_layer = (size_t)n_layer;
	sp->domain = calloc((size_t)n_domain + 1, sizeof *sp->domain);
	sp->layer = calloc((size_t)n_layer + 1, sizeof *sp->layer);
	for (int d = 0; d < n_domain; d++) {
		sp->domain[d].id = d + 1;
		sample_copy(sp->domain[d].name, sizeof sp->domain[d].name,
			d == 8 ? hostile : names[d % 8]);
	}
	for (int i = 0; i < n_layer; i++) {
		struct view_spec_layer *l = &sp->layer[i];

		*l = (struct view_spec_layer){ .layer = (uint16_t)i, .n_expert = (uint16_t)n_expert,
			.mi = .2 * i, .mi_lo = .19 * i, .mi_hi = .21 * i, .null_p95 = .013 };
		l->cell = calloc((size_t)n_domain + 1, sizeof *l->cell);
		for (int d = 0; d < n_domain; d++)
			l->cell[d] = (struct view_spec_cell){ (unsigned)((d * 5 + i * 3) % n_expert),
				1.1 + .4 * ((d * 3 + i * 2) % 11), 1 + .35 * ((d * 3 + i * 2) % 11),
				1.3 + .5 * ((d * 3 + i * 2) % 11), 1.25, (d * 3 + i * 2) % 11 > 0, .71, 1.9, 1.4 };
	}
}

/* Snapshots of single screens: a card whose texts are hostile, a stream that spells an attack over
 * two tokens, a timeline that worsens, what-if curves that can be told apart. */
static void sample_expert(struct view_expert *v, int n_layer, int n_expert, int k)
{
	*v = (struct view_expert){ .layer = 2, .n_expert = (uint16_t)n_expert, .k = (uint16_t)k,
		.expert = 3, .tokens = 1000, .picks = 390, .mean_weight = .47, .mean_margin = .03,
		.up_layer = n_layer > 1 ? 1 : -1, .down_layer = n_layer > 1 ? 3 : -1 };
	v->rank = calloc((size_t)k, sizeof *v->rank);
	v->rank[0] = 390;
	v->n_token = v->n_next = 3;
	for (int i = 0; i < 3; i++) {
		v->token[i] = (struct view_expert_token){ 40 + i, 100, 120, 55.5 - i, i ? 5 : -1, "cell" };
		v->next[i] = (struct view_expert_token){ 50 + i, 90, 300, 20 - i, 24, "" };
		memcpy(v->token[i].bytes, "\033[2Jx", 6);
		memcpy(v->next[i].bytes, hostile, 24);
	}
	v->n_partner = v->n_up = v->n_down = 2;
	for (int i = 0; i < 2; i++) {
		v->partner[i] = (struct view_expert_peer){ 11, 300, .77, .13 };
		v->up[i] = (struct view_expert_peer){ 5, 200, .51, .12 };
		v->down[i] = (struct view_expert_peer){ 9, 20, .05, .12 };
	}
	v->n_domain = 2;
	v->domain = calloc(2, sizeof *v->domain);
	v->domain[0] = (struct view_expert_domain){ { .id = 8 }, 20, 500, 300, 4.11, 3.81, 4.42 };
	v->domain[1] = (struct view_expert_domain){ { .id = 2 }, 1, 500, 90, .44, NAN, NAN };
	snprintf(v->domain[0].info.name, sizeof v->domain[0].info.name, "medical");
	sample_copy(v->domain[1].info.name, sizeof v->domain[1].info.name, hostile);
}

static void sample_timeline(struct view_timeline *t, int n_layer, int n_expert)
{
	t->n = 12;
	t->n_layer = (size_t)n_layer;
	t->bucket_ns = INT64_C(10000000000);
	t->started = SAMPLE_NOW - INT64_C(151000000000);
	t->slot = calloc(t->n, sizeof *t->slot);
	t->layers = calloc((size_t)n_layer + 1, sizeof *t->layers);
	t->e_at = calloc((size_t)n_layer + 1, sizeof *t->e_at);
	t->tokens = calloc(t->n * (size_t)n_layer + 1, sizeof *t->tokens);
	for (int i = 0; i < n_layer; i++) {
		t->layers[i] = (struct moe_layer_desc){ (uint16_t)i, (uint16_t)n_expert, 1 };
		t->e_at[i + 1] = t->e_at[i] + (size_t)n_expert;
	}
	t->rel = calloc(t->n * t->e_at[n_layer] + 1, sizeof *t->rel);
	for (size_t i = 0; i < t->n; i++) {
		t->slot[i] = (struct view_slot){ (int64_t)i, (int64_t)i + 1, i == 5 ? 0 : 1000,
			i == 5 ? NAN : 1.1 + .3 * (double)i, (uint16_t)(n_layer > 2 ? 2 : 0) };
		for (size_t j = 0; j < t->e_at[n_layer]; j++)
			t->rel[i * t->e_at[n_layer] + j] = i == 5 ? NAN : (float)(.5 + .2 * (double)i);
	}
}

static void sample_stream(struct view_stream *v, int n_expert)
{
	v->sequence = 7, v->before = 6, v->seq = 41, v->n_seq = 42, v->open = 1;
	v->n_all = v->n = 300;
	v->layer = 2, v->n_expert = (uint16_t)n_expert, v->k = 1, v->with_text = 1;
	sample_copy(v->name, sizeof v->name, hostile);
	sample_copy(v->domain, sizeof v->domain, "medical");
	v->token = calloc(v->n, sizeof *v->token);
	for (size_t i = 0; i < v->n; i++) {
		static const char *const part[] = { " The", " cell", "\033[", "2J", ".\n", "\xe2\x82",
			"\xac" };
		struct view_stream_token *t = &v->token[i];

		*t = (struct view_stream_token){ (int32_t)i, (uint32_t)i, i > 100, (uint16_t)(n_expert ?
			(int)(i * i) % n_expert : 0), .6, i % 3 ? .25 : NAN, -1, "" };
		if (i % 11 == 10)
			continue;
		t->len = (int)strlen(part[i % 7]);
		memcpy(t->bytes, part[i % 7], (size_t)t->len);
	}
}

static void sample_whatif(struct tui_whatif *w)
{
	static const double factor[] = { 1, 1.25, 2 };

	w->drops.n = 9, w->drops.batch = 512;
	w->drops.row = calloc(9, sizeof *w->drops.row);
	for (size_t i = 0; i < 9; i++)
		w->drops.row[i] = (struct whatif_drop){ -1, factor[i / 3], (enum sim_drop)(i % 3), 500,
			1000, 300 - 100 * (i / 3) - 10 * (i % 3), 0, 3, .2, { 0 }, 2, .38 };
	w->hits.n = 3 * SIM_N_CACHE, w->hits.expert_bytes = 1e6;
	w->hits.row = calloc(w->hits.n, sizeof *w->hits.row);
	for (size_t i = 0; i < w->hits.n; i++)
		w->hits.row[i] = (struct whatif_hit){ -1, (enum sim_cache_policy)(i % SIM_N_CACHE),
			(i / SIM_N_CACHE + 1) * 12, 96, 500, 1000,
			200 * (i / SIM_N_CACHE + 1) + 10 * (i % SIM_N_CACHE), 2e6, 12e6 };
	w->n_degree = 2;
	for (size_t d = 0; d < 2; d++) {
		w->ranks[d] = d ? 4 : 2;
		w->places[d].n = SIM_N_PLACE;
		w->places[d].row = calloc(SIM_N_PLACE, sizeof *w->places[d].row);
		for (int p = 0; p < SIM_N_PLACE; p++)
			w->places[d].row[p] = (struct whatif_place){ .layer = -1, .policy = (enum sim_place)p,
				.max_mean = p == SIM_EPLB ? NAN : 1.05 + .1 * p + .5 * (double)d,
				.ranks_per_token = 3 };
	}
}

static void sample_snaps(struct sample *s, int n_layer, int n_expert, int k)
{
	for (int i = 0; i < TUI_N_PART; i++) {
		s->snap[i] = calloc(1, sizeof *s->snap[i]);
		s->snap[i]->part = (enum tui_part)i;
	}
	sample_timeline(&s->snap[TUI_TIMELINE]->u.timeline, n_layer, n_expert);
	sample_expert(&s->snap[TUI_EXPERT]->u.expert, n_layer, n_expert, k ? k : 1);
	sample_stream(&s->snap[TUI_STREAM]->u.stream, n_expert);
	sample_whatif(&s->snap[TUI_WHATIF]->u.whatif);
}

/* A frame of the sample in g: every snapshot answers what is asked now. */
static struct tui_ctx sample_ctx(struct sample *s, struct tui_grid *g)
{
	struct tui_ctx c = { .g = g, .s = &s->state, .d = &s->data, .alarms = &s->alarms,
		.base_alarms = s->base_alarms, .spec = &s->spec };
	struct tui_query q = tui_asking(&c).key;

	q.run = s->data.sum.run.id;
	for (int i = 0; i < TUI_N_PART; i++) {
		s->snap[i]->key = tui_query_for((enum tui_part)i, &q);
		c.snap[i] = s->snap[i];
	}
	return c;
}

static struct sample *sample_make(int n_layer, int n_expert, int k, int n_domain)
{
	struct sample *s = calloc(1, sizeof *s);
	struct run_info *r = &s->data.sum.run;

	snprintf(r->model_name, sizeof r->model_name, "balanced.gguf");
	snprintf(r->arch, sizeof r->arch, "qwen3moe");
	snprintf(r->score, sizeof r->score, "softmax");
	snprintf(r->state, sizeof r->state, "live");
	r->id = 14;
	r->alive = 1;
	r->bucket_ns = INT64_C(10000000000);
	r->started = SAMPLE_NOW - INT64_C(151000000000);
	r->heartbeat = SAMPLE_NOW - 200000000;
	r->n_moe_layer = (uint32_t)n_layer;
	s->data.want = (struct tui_want){ .domain = -1 };
	s->data.sum.tokens = 184220;
	s->data.sum.decisions = 2210640;
	s->data.sum.prefill_tps = 8412;
	s->data.sum.decode_tps = NAN;
	s->data.sum.lag_ms = .3;
	s->data.sum.elapsed_s = 151;
	s->data.layers.n = (size_t)n_layer;
	s->data.layers.layer = calloc((size_t)n_layer + 1, sizeof *s->data.layers.layer);
	for (int i = 0; i < n_layer; i++) {
		r->layers[i] = (struct moe_layer_desc){ (uint16_t)i, (uint16_t)n_expert, (uint16_t)k };
		sample_layer(&s->data.layers.layer[i], i, n_expert, k, i == 2);
	}
	sample_alarms(&s->alarms);
	sample_spec(&s->spec.spec, n_layer, n_expert, n_domain);
	sample_snaps(s, n_layer, n_expert, k);
	s->spec.run = 14;
	s->state.pos = -1;
	s->state.now = SAMPLE_NOW;
	s->state.path = "run.db";
	s->state.want.domain = -1;
	snprintf(s->state.verdict, sizeof s->state.verdict, "Routing has collapsed in layer 2: two "
		"experts take 48.8 %% of the picks; the other 5 layers are balanced.");
	return s;
}

static void sample_free(struct sample *s)
{
	for (int i = 0; i < TUI_N_PART; i++)
		tui_snap_free(s->snap[i]);
	for (size_t i = 0; i < s->data.layers.n; i++) {
		free(s->data.layers.layer[i].rel);
		free(s->data.layers.layer[i].counts);
		free(s->data.layers.layer[i].weights);
	}
	for (size_t i = 0; i < s->spec.spec.n_layer; i++)
		free(s->spec.spec.layer[i].cell);
	free(s->data.layers.layer);
	free(s->alarms.alarm);
	free(s->spec.spec.layer);
	free(s->spec.spec.domain);
	free(s);
}

#endif
