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
	struct tui_spec spec;
	struct tui_state state;
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
		"SELECT expert, count(*) FROM routing WHERE run=14 AND layer=2 GROUP BY 1 ORDER BY 2 DESC" };
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
	s->data.want = (struct tui_want){ 0, -1, 0 };
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
	s->spec.run = 14;
	s->state.now = SAMPLE_NOW;
	s->state.path = "run.db";
	s->state.want.domain = -1;
	snprintf(s->state.verdict, sizeof s->state.verdict, "Routing has collapsed in layer 2: two "
		"experts take 48.8 %% of the picks; the other 5 layers are balanced.");
	return s;
}

static void sample_free(struct sample *s)
{
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
