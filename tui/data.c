/* data.c - see data.h. */
#include "tui/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tui/fmt.h"

void tui_window_buckets(const struct run_info *run, int64_t n_buckets, int64_t window_ns,
	int64_t now, int64_t *bucket0, int64_t *bucket1)
{
	int64_t end = n_buckets, n;

	*bucket0 = *bucket1 = 0;
	if (window_ns <= 0 || run->bucket_ns <= 0)
		return;
	if (run->alive) {
		int64_t current = tui_elapsed(now, run->started) / run->bucket_ns + 1;

		end = current > end ? current : end;
	}
	/* The last bucket is usually not full: one more, so that the window is covered. */
	n = (window_ns - 1) / run->bucket_ns + 2;
	if (n >= end)
		return;
	*bucket0 = end - n;
	*bucket1 = end;
}

void tui_want_buckets(const struct tui_want *want, const struct run_info *run, int64_t n_buckets,
	int64_t now, int64_t *bucket0, int64_t *bucket1)
{
	struct run_info past = *run;

	if (!want->until) {
		tui_window_buckets(run, n_buckets, want->window_ns, now, bucket0, bucket1);
		return;
	}
	past.alive = 0;
	tui_window_buckets(&past, want->until, want->window_ns, now, bucket0, bucket1);
	*bucket1 = want->until; /* a window longer than that begins with the run */
}

int tui_same_want(const struct tui_want *a, const struct tui_want *b)
{
	return a->run == b->run && a->domain == b->domain && a->window_ns == b->window_ns &&
		a->phase == b->phase && a->until == b->until && a->base == b->base;
}

/* The selection that a wish comes to now. */
static int select_load(struct reader *r, const struct tui_want *want, struct run_info *run,
	struct load_filter *f, struct moe_err *e)
{
	int64_t n_buckets = 0;

	if (reader_run(r, want->run, run, e))
		return -1;
	if ((want->window_ns || want->until) && reader_n_buckets(r, run->id, &n_buckets, e))
		return -1;
	*f = (struct load_filter){ .run = run->id, .domain = want->domain,
		.phase = want->phase - 1 };
	tui_want_buckets(want, run, n_buckets, clock_wall(), &f->bucket0, &f->bucket1);
	return 0;
}

/* The run to compare with; one that does not fit is said, not an error. */
static void base_load(struct reader *r, struct tui_data *d)
{
	struct load_filter f = { .run = d->want.base, .domain = d->want.domain,
		.phase = d->want.phase - 1 };
	struct moe_err e = { 0 };
	int same;

	if (!d->want.base)
		return;
	if (view_layers(r, &f, &d->base, &e)) {
		snprintf(d->base_why, sizeof d->base_why, "no baseline: %.140s", e.msg);
		return;
	}
	same = d->base.n == d->layers.n;
	for (size_t i = 0; same && i < d->base.n; i++)
		same = d->base.layer[i].layer == d->layers.layer[i].layer &&
			d->base.layer[i].n_expert == d->layers.layer[i].n_expert;
	if (same)
		return;
	view_layers_free(&d->base);
	snprintf(d->base_why, sizeof d->base_why, "no baseline: run %lld has a model of another shape",
		(long long)d->want.base);
}

double tui_base_ratio(const struct tui_data *d, size_t layer, size_t expert)
{
	const struct view_layer *a, *b;

	if (!d->base.n)
		return NAN;
	a = &d->layers.layer[layer];
	b = &d->base.layer[layer];
	if (!a->tokens || !b->tokens || !(a->rel[expert] + b->rel[expert] > 0))
		return NAN;
	return a->rel[expert] / b->rel[expert];
}

int tui_data_load(struct reader *r, const struct tui_want *want, struct tui_data *out,
	struct moe_err *e)
{
	int64_t start = clock_mono(), buckets;
	struct run_info *run = &out->sum.run;
	struct load_filter *f = &out->filter;

	memset(out, 0, sizeof *out);
	out->want = *want;
	out->loaded = clock_wall();
	if (select_load(r, want, run, f, e))
		return -1;
	buckets = f->bucket1 - f->bucket0;
	out->window_ns = !buckets ? 0 : buckets > INT64_MAX / run->bucket_ns ? INT64_MAX :
		buckets * run->bucket_ns;
	if (view_summary(r, f, &out->sum, e) || view_layers(r, f, &out->layers, e) ||
	    reader_runs(r, &out->runs, &out->n_runs, e) ||
	    reader_domains(r, run->id, &out->domain, &out->n_domain, e)) {
		tui_data_free(out);
		return -1;
	}
	base_load(r, out);
	out->cost_ns = clock_mono() - start;
	return 0;
}

void tui_data_free(struct tui_data *d)
{
	view_layers_free(&d->layers);
	view_layers_free(&d->base);
	free(d->domain);
	free(d->runs);
	memset(d, 0, sizeof *d);
}

int tui_alarms_load(struct reader *r, const struct tui_want *want, struct tui_alarms *out,
	struct moe_err *e)
{
	int64_t start = clock_mono();
	struct load_filter f;
	struct run_info run;

	memset(out, 0, sizeof *out);
	out->want = *want;
	if (select_load(r, want, &run, &f, e) || view_alarms(r, &f, &out->list, e))
		return -1;
	out->cost_ns = clock_mono() - start;
	return 0;
}

void tui_alarms_free(struct tui_alarms *a)
{
	view_alarms_free(&a->list);
	memset(a, 0, sizeof *a);
}

int tui_spec_load(struct reader *r, int64_t run, int64_t base, struct tui_spec *out,
	struct moe_err *e)
{
	struct load_filter f = { .run = run, .domain = -1, .phase = -1 };
	struct moe_err ignored = { 0 };
	int64_t start = clock_mono();

	memset(out, 0, sizeof *out);
	out->run = run;
	out->loaded = clock_wall();
	if (view_specialisation(r, &f, 0, 0, 1, &out->spec, e))
		return -1;
	out->base = base;
	f.run = base;
	if (base && view_specialisation(r, &f, 0, 0, 1, &out->base_spec, &ignored))
		memset(&out->base_spec, 0, sizeof out->base_spec); /* the figures' thread says why */
	out->cost_ns = clock_mono() - start;
	return 0;
}

void tui_spec_free(struct tui_spec *s)
{
	view_spec_free(&s->spec);
	view_spec_free(&s->base_spec);
	memset(s, 0, sizeof *s);
}

double tui_over_capacity(const struct view_layer *l, double factor)
{
	double picks = (double)l->tokens * l->k, over = 0, cap;

	if (!l->tokens || !l->n_expert)
		return NAN;
	cap = ceil(picks / l->n_expert * factor);
	for (size_t i = 0; i < l->n_expert; i++)
		if ((double)l->counts[i] > cap)
			over += (double)l->counts[i] - cap;
	return over / picks;
}
