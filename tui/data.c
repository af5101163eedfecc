/* data.c - see data.h. */
#include "tui/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
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
		a->phase == b->phase && a->until == b->until && a->sequence == b->sequence &&
		a->base == b->base;
}

/* ---- sources ---- */

int tui_source_init(struct tui_source *s, const char *base_path, struct moe_err *e)
{
	memset(s, 0, sizeof *s);
	s->base_path = base_path;
	s->live = view_live_new(e);
	s->alarms = s->live ? view_alarm_memory_new(e) : NULL;
	if (s->alarms)
		return 0;
	tui_source_free(s);
	return -1;
}

static void forget_base(struct tui_source *s)
{
	view_layers_free(&s->base_layers);
	view_alarms_free(&s->base_alarms);
	s->base_state = 0;
}

void tui_source_forget(struct tui_source *s)
{
	forget_base(s);
	if (s->live)
		view_live_forget(s->live);
	if (s->alarms)
		view_alarm_memory_forget(s->alarms);
}

void tui_source_free(struct tui_source *s)
{
	forget_base(s);
	view_live_free(s->live);
	view_alarm_memory_free(s->alarms);
	if (s->base)
		reader_close(s->base);
	memset(s, 0, sizeof *s);
}

struct reader *tui_source_base(struct tui_source *s, struct moe_err *e)
{
	if (!s->base_path)
		return s->r;
	if (!s->base)
		s->base = reader_open(s->base_path, e);
	return s->base;
}

/* The selection that a wish comes to now; the domain, phase and time of it are never the
 * request's. */
static int select_buckets(struct reader *r, const struct tui_want *want, const struct run_info *run,
	struct load_filter *f, struct moe_err *e)
{
	int64_t n_buckets = 0;

	if ((want->window_ns || want->until) && reader_n_buckets(r, run->id, &n_buckets, e))
		return -1;
	*f = (struct load_filter){ .run = run->id, .domain = want->domain,
		.phase = want->phase - 1 };
	tui_want_buckets(want, run, n_buckets, clock_wall(), &f->bucket0, &f->bucket1);
	return 0;
}

/* ---- the baseline: whole runs, read once ---- */

int64_t tui_source_domain(struct tui_source *s, int64_t run, int64_t domain, int64_t base_run)
{
	struct domain_info *d = NULL, *b = NULL;
	struct moe_err ignored;
	struct reader *r = tui_source_base(s, &ignored);
	size_t n = 0, n_base = 0;
	int64_t id = TUI_NO_DOMAIN;

	if (!s->base_path || domain <= 0 || !r)
		return domain;
	if (!reader_domains(s->r, run, &d, &n, &ignored) &&
	    !reader_domains(r, base_run, &b, &n_base, &ignored))
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; d[i].id == domain && k < n_base; k++)
				if (!strcmp(d[i].name, b[k].name))
					id = b[k].id;
	free(d);
	free(b);
	return id;
}

/* The run and the filter: 0, or -1 with the reason. */
static int base_filter(struct tui_source *s, const struct tui_want *want, int64_t run,
	struct load_filter *f, struct run_info *u, struct moe_err *e)
{
	struct reader *r = tui_source_base(s, e);

	if (!r || reader_run(r, want->base == TUI_NEWEST ? 0 : want->base, u, e))
		return -1;
	*f = (struct load_filter){ .run = u->id, .phase = want->phase - 1,
		.domain = tui_source_domain(s, run, want->domain, u->id) };
	return f->domain == TUI_NO_DOMAIN ? err_set(e, MOE_ERR_INPUT, "it has no such domain") : 0;
}

/* The figures of the baseline into s->base_layers. */
static int base_read(struct tui_source *s, const struct tui_want *want, const struct tui_data *d,
	struct run_info *u, struct moe_err *e)
{
	struct load_filter f;
	struct view_request q = { 0 };
	struct load_set load = { 0 };
	int got;

	if (base_filter(s, want, d->sum.run.id, &f, u, e))
		return -1;
	if (!d->request.id)
		return view_layers(tui_source_base(s, e), &f, &s->base_layers, e);
	got = view_request_number(tui_source_base(s, e), u->id, d->request.seq, &q.id, e);
	if (!got)
		err_set(e, MOE_ERR_INPUT, "run %lld has no request %llu", (long long)u->id,
			(unsigned long long)d->request.seq);
	if (got <= 0 || view_request_load(tui_source_base(s, e), u, &f, &q, &load, e))
		return -1;
	return view_layers_of(&load, &s->base_layers, e);
}

static int copy_layers(const struct view_layers *x, struct view_layers *out)
{
	memset(out, 0, sizeof *out);
	out->layer = calloc(x->n + 1, sizeof *out->layer);
	for (; out->layer && out->n < x->n; out->n++) {
		struct view_layer *a = &out->layer[out->n];
		const struct view_layer *b = &x->layer[out->n];

		*a = *b;
		a->rel = malloc((b->n_expert + 1u) * sizeof *a->rel);
		a->counts = malloc((b->n_expert + 1u) * sizeof *a->counts);
		a->weights = malloc((b->n_expert + 1u) * sizeof *a->weights);
		if (!a->rel || !a->counts || !a->weights) {
			out->n++;
			view_layers_free(out);
			return -1;
		}
		memcpy(a->rel, b->rel, b->n_expert * sizeof *a->rel);
		memcpy(a->counts, b->counts, b->n_expert * sizeof *a->counts);
		memcpy(a->weights, b->weights, b->n_expert * sizeof *a->weights);
	}
	return out->layer ? 0 : -1;
}

/* The baseline as it was read last fits this wish, too. */
static int base_known(const struct tui_source *s, const struct tui_want *want, int state)
{
	return s->base_state == state && s->base_want.base == want->base &&
		s->base_want.domain == want->domain && s->base_want.phase == want->phase &&
		s->base_want.sequence == want->sequence && s->base_want.run == want->run;
}

/* The run to compare with; one that does not fit is said, not an error. */
static void base_load(struct tui_source *s, struct tui_data *d)
{
	struct run_info *u = calloc(1, sizeof *u);
	struct moe_err e = { 0 };
	int same;

	if (!d->want.base || !u)
		goto out;
	d->base_run = d->want.base;
	if (!base_known(s, &d->want, 1) || d->want.sequence == TUI_NEWEST) {
		forget_base(s);
		if (base_read(s, &d->want, d, u, &e)) {
			snprintf(d->base_why, sizeof d->base_why, "no baseline: %.140s", e.msg);
			goto out;
		}
		s->base_want = d->want;
		s->base_state = !strcmp(u->state, "live") ? 0 : 1; /* a live one is read again */
		s->base_run = u->id;
	}
	d->base_run = s->base_run;
	same = s->base_layers.n == d->layers.n;
	for (size_t i = 0; same && i < d->layers.n; i++)
		same = s->base_layers.layer[i].layer == d->layers.layer[i].layer &&
			s->base_layers.layer[i].n_expert == d->layers.layer[i].n_expert;
	if (!same)
		snprintf(d->base_why, sizeof d->base_why, "baseline run %lld has a model of another "
			"shape: loads are not compared",
			(long long)d->base_run);
	else if (copy_layers(&s->base_layers, &d->base))
		snprintf(d->base_why, sizeof d->base_why, "no baseline: out of memory");
out:
	free(u);
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

/* The load of one request; without it 0 tokens. Speed is that of batches, which requests share. */
static int request_load(struct tui_source *s, struct tui_data *d, const struct run_info *run,
	struct load_set *load, struct moe_err *e)
{
	int64_t id = d->want.sequence;
	int got = 1;

	if (id < TUI_NEWEST) {
		got = view_request_number(s->r, run->id, (uint64_t)TUI_NUMBERED(id), &id, e);
		if (!got)
			return err_set(e, MOE_ERR_INPUT, "run %lld has no request %lld: a shows all again",
				(long long)run->id, (long long)TUI_NUMBERED(d->want.sequence));
	}
	if (got >= 0)
		got = view_request_find(s->r, &d->filter, id == TUI_NEWEST ? 0 : id, &d->request, e);
	if (got < 0)
		return -1;
	return view_request_load(s->r, run, &d->filter, &d->request, load, e);
}

/* Share of the time that looking at every sequence of the run may take, while it runs. */
#define RUN_SHARE .001

int tui_data_load(struct tui_source *s, const struct tui_want *want, struct tui_data *out,
	struct moe_err *e)
{
	int64_t start = clock_mono(), buckets;
	const struct run_info *run;
	const struct domain_info *domain;
	struct load_filter *f = &out->filter;
	struct load_set load = { 0 };

	memset(out, 0, sizeof *out);
	out->want = *want;
	out->loaded = clock_wall();
	if (view_live_run(s->live, s->r, want->run, RUN_SHARE, &run, &domain, &out->n_domain, e) ||
	    select_buckets(s->r, want, run, f, e))
		return -1;
	buckets = f->bucket1 - f->bucket0;
	out->window_ns = !buckets ? 0 : buckets > INT64_MAX / run->bucket_ns ? INT64_MAX :
		buckets * run->bucket_ns;
	out->domain = malloc((out->n_domain + 1) * sizeof *out->domain);
	if (!out->domain)
		return err_nomem(e, out->n_domain * sizeof *out->domain, "domains");
	if (out->n_domain)
		memcpy(out->domain, domain, out->n_domain * sizeof *domain);
	if (want->sequence ? request_load(s, out, run, &load, e) :
	    view_live_load(s->live, s->r, f, &load, e))
		goto fail;
	if (view_live_summary(s->live, s->r, f, &load, &out->sum, e))
		goto fail;
	if (want->sequence)
		out->sum.prefill_tps = out->sum.decode_tps = out->sum.bpb = NAN;
	if (view_layers_of(&load, &out->layers, e) || reader_runs(s->r, &out->runs, &out->n_runs, e))
		goto fail;
	base_load(s, out);
	out->cost_ns = clock_mono() - start;
	return 0;
fail:
	load_set_free(&load);
	tui_data_free(out);
	return -1;
}

void tui_data_free(struct tui_data *d)
{
	view_layers_free(&d->layers);
	view_layers_free(&d->base);
	free(d->domain);
	free(d->runs);
	memset(d, 0, sizeof *d);
}

static void base_alarms(struct tui_source *s, int64_t run, struct tui_alarms *a)
{
	struct run_info *u = calloc(1, sizeof *u);
	struct moe_err e = { 0 };
	struct load_filter f;

	if (!u || !a->want.base)
		goto out;
	if (!base_known(s, &a->want, 2)) {
		forget_base(s);
		if (base_filter(s, &a->want, run, &f, u, &e) ||
		    view_alarms(tui_source_base(s, &e), &f, &s->base_alarms, &e))
			goto out; /* the figures' thread says why */
		s->base_want = a->want;
		s->base_state = 2;
	}
	a->base.alarm = malloc((s->base_alarms.n + 1) * sizeof *a->base.alarm);
	if (!a->base.alarm)
		goto out;
	a->base.n = s->base_alarms.n;
	if (a->base.n)
		memcpy(a->base.alarm, s->base_alarms.alarm, a->base.n * sizeof *a->base.alarm);
	a->with_base = 1;
out:
	free(u);
}

int tui_alarms_load(struct tui_source *s, const struct tui_want *want, struct tui_alarms *out,
	struct moe_err *e)
{
	int64_t start = clock_mono();
	const struct domain_info *d;
	const struct run_info *run;
	struct load_filter f;
	size_t n;

	memset(out, 0, sizeof *out);
	out->want = *want;
	if (view_live_run(s->live, s->r, want->run, RUN_SHARE, &run, &d, &n, e) ||
	    select_buckets(s->r, want, run, &f, e) ||
	    view_alarms_follow(s->r, &f, s->alarms, &out->list, e))
		return -1;
	base_alarms(s, run->id, out);
	out->cost_ns = clock_mono() - start;
	return 0;
}

void tui_alarms_free(struct tui_alarms *a)
{
	view_alarms_free(&a->list);
	view_alarms_free(&a->base);
	memset(a, 0, sizeof *a);
}

int tui_spec_load(struct tui_source *s, int64_t run, int64_t base, struct tui_spec *out,
	struct moe_err *e)
{
	struct load_filter f = { .run = run, .domain = -1, .phase = -1 };
	struct moe_err ignored = { 0 };
	struct run_info *u = NULL;
	int64_t start = clock_mono();
	struct reader *r;

	memset(out, 0, sizeof *out);
	out->run = run;
	out->loaded = clock_wall();
	if (view_specialisation(s->r, &f, 0, 0, 1, &out->spec, e))
		return -1;
	out->base = base;
	r = base ? tui_source_base(s, &ignored) : NULL;
	u = r ? malloc(sizeof *u) : NULL;
	if (u && !reader_run(r, base == TUI_NEWEST ? 0 : base, u, &ignored)) {
		f.run = u->id;
		if (view_specialisation(r, &f, 0, 0, 1, &out->base_spec, &ignored))
			memset(&out->base_spec, 0, sizeof out->base_spec); /* the figures' thread says why */
	}
	free(u);
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
