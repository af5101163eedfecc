/*
 * alarm_scene.c - what all rules look at: load, balance and notes of a selection; and what a screen
 * that asks again and again keeps of it (struct view_alarm_memory, view/alarm.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/alarm.h"
#include "view/live.h"

static void where(struct alarm_scene *s)
{
	const struct load_filter *f = s->f;
	size_t n = 0;

	if (f->phase >= 0)
		n = (size_t)snprintf(s->where, sizeof s->where, " AND phase=%d", f->phase);
	if (f->domain >= 0)
		n += (size_t)snprintf(s->where + n, sizeof s->where - n, " AND domain=%lld",
			(long long)f->domain);
	s->routing = strcmp(s->run->detail, "counts") && f->bucket0 >= f->bucket1;
	if (f->bucket0 < f->bucket1) /* decisions have no time of their own; load has */
		snprintf(s->where + n, sizeof s->where - n, " AND bucket>=%lld AND bucket<%lld",
			(long long)f->bucket0, (long long)f->bucket1);
}

/* Keep the notes of the filter's buckets. */
static void select_notes(struct alarm_scene *s)
{
	int64_t from, to;
	size_t keep = 0;

	if (s->f->bucket0 >= s->f->bucket1)
		return;
	from = alarm_bucket_time(s->run, s->f->bucket0);
	to = alarm_bucket_time(s->run, s->f->bucket1);
	for (size_t i = 0; i < s->n_notes; i++)
		if (s->notes[i].time >= from && s->notes[i].time < to)
			s->notes[keep++] = s->notes[i];
	s->n_notes = keep;
}

/* ---- what is kept between two calls ---- */

static void forget(struct view_alarm_memory *m)
{
	for (int i = 0; i < m->n_windows; i++)
		free(m->window[i].layer);
	free(m->notes);
	free(m->tenth);
	free(m->late);
	free(m->began);
	*m = (struct view_alarm_memory){ .live = m->live };
}

struct view_alarm_memory *view_alarm_memory_new(struct moe_err *e)
{
	struct view_alarm_memory *m = calloc(1, sizeof *m);

	if (!m)
		err_nomem(e, sizeof *m, "alarms");
	else if (!(m->live = view_live_new(e))) {
		free(m);
		m = NULL;
	}
	return m;
}

void view_alarm_memory_forget(struct view_alarm_memory *m)
{
	forget(m);
	view_live_forget(m->live);
}

void view_alarm_memory_free(struct view_alarm_memory *m)
{
	if (!m)
		return;
	forget(m);
	view_live_free(m->live);
	free(m);
}

/* Run, load and notes, as far as they are known already. */
static int remember(struct alarm_scene *s, struct moe_err *e)
{
	struct view_alarm_memory *m = s->memory;
	const struct load_filter *f = s->f;
	const struct domain_info *d;
	const struct run_info *u;
	struct note *notes = NULL, *all;
	size_t n;

	if (view_live_run(m->live, s->r, f->run, .0005, &u, &d, &n, e))
		return -1;
	*s->run = *u;
	if (m->run != u->id || m->f.domain != f->domain || m->f.phase != f->phase ||
	    m->f.bucket0 != f->bucket0 || m->f.bucket1 != f->bucket1)
		forget(m);
	m->run = u->id;
	m->f = *f;
	if (view_live_load(m->live, s->r, f, &s->load, e) ||
	    reader_notes(s->r, u->id, m->n_notes ? m->notes[m->n_notes - 1].id : 0, &notes, &n, e))
		return -1;
	all = realloc(m->notes, (m->n_notes + n + 1) * sizeof *all);
	if (all) {
		m->notes = all;
		if (n)
			memcpy(all + m->n_notes, notes, n * sizeof *all);
		m->n_notes += n;
	}
	free(notes);
	s->notes = malloc((m->n_notes + 1) * sizeof *s->notes); /* select_notes() drops some */
	if (!all || !s->notes)
		return err_nomem(e, (m->n_notes + n) * sizeof *all, "notes");
	s->n_notes = m->n_notes;
	memcpy(s->notes, m->notes, m->n_notes * sizeof *s->notes);
	return 0;
}

/* Windows that still say what they said. */
static void recall_windows(struct alarm_scene *s)
{
	struct view_alarm_memory *m = s->memory;

	for (int i = 0; i < m->n_windows; i++)
		if (m->n_buckets == s->n_buckets || m->window[i].b < m->n_buckets)
			s->window[s->n_windows++] = m->window[i];
		else
			free(m->window[i].layer);
	for (int i = 0; i < s->n_windows; i++)
		s->window[i].used = 0;
	m->n_windows = 0;
}

void alarm_keep(struct alarm_scene *s)
{
	struct view_alarm_memory *m = s->memory;

	for (int i = 0; i < s->n_windows; i++)
		if (s->window[i].used)
			m->window[m->n_windows++] = s->window[i];
		else
			free(s->window[i].layer);
	s->n_windows = 0;
	free(m->began);
	m->began = s->began;
	m->n_began = s->n_began;
	s->began = NULL;
	m->n_buckets = s->n_buckets;
}

/* ---- a scene ---- */

int alarm_scene_init(struct alarm_scene *s, struct reader *r, const struct load_filter *f,
	struct moe_err *e)
{
	uint64_t sorted[MOE_MAX_EXPERT];

	s->r = r;
	s->f = f;
	s->run = malloc(sizeof *s->run);
	if (!s->run)
		return err_nomem(e, sizeof *s->run, "a run");
	if (s->memory ? remember(s, e) : reader_run(r, f->run, s->run, e) ||
	    reader_load(r, f, &s->load, e) ||
	    reader_notes(r, s->run->id, 0, &s->notes, &s->n_notes, e))
		return -1;
	if (reader_n_buckets(r, s->run->id, &s->n_buckets, e))
		return -1;
	if (s->memory)
		recall_windows(s);
	s->balance = calloc(s->load.n + 1, sizeof *s->balance);
	if (!s->balance)
		return err_nomem(e, s->load.n * sizeof *s->balance, "the layers' balance");
	for (size_t i = 0; i < s->load.n; i++) {
		const struct layer_load *l = s->load.layer + i;

		metrics_balance(l->counts, l->n_expert, sorted, s->balance + i);
		s->tokens = l->tokens > s->tokens ? l->tokens : s->tokens;
	}
	select_notes(s);
	where(s);
	return 0;
}

void alarm_scene_free(struct alarm_scene *s)
{
	for (int i = 0; i < s->n_windows; i++)
		free(s->window[i].layer);
	load_set_free(&s->load);
	free(s->balance);
	free(s->began);
	free(s->tenth);
	free(s->late);
	free(s->notes);
	free(s->run);
}
