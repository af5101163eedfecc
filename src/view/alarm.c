/*
 * alarm.c - what needs somebody's attention, each with the evidence.
 *
 * Every rule (view/alarm_rules.c) is put to every layer or to the run. Work is bounded: the load of
 * the selection once, the notes of the run once (view/alarm_scene.c), at most ALARM_WINDOWS further
 * sums to find out since when (view/alarm_since.c), and one pass over the first ALARM_SCAN tokens
 * for the rules about single decisions (view/alarm_scan.c). The same code serves live screens and
 * `check`, which may ask for a longer pass and other thresholds (view/alarm_limits.c).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "view/alarm.h"
#include "view/table.h"

const char *const alarm_severity[] = { "note", "warning", "alarm" };

/* Apply one rule to one layer (or to the run, layer -1): 1 if it fires. */
static int apply(struct alarm_scene *s, const struct alarm_rule *rule, int layer,
	struct view_alarm *out)
{
	struct alarm_finding x = { .s = s, .layer = layer, .most = VIEW_ALARM, .out = out };

	memset(out, 0, sizeof *out);
	if ((layer >= 0 && !s->load.layer[layer].tokens) || !rule->measure(&x))
		return 0;
	if (x.value >= rule->alarm)
		out->severity = VIEW_ALARM, out->threshold = rule->alarm;
	else if (x.value >= rule->warning)
		out->severity = VIEW_WARNING, out->threshold = rule->warning;
	else if (x.value >= rule->note)
		out->severity = VIEW_NOTE, out->threshold = rule->note;
	else
		return 0; /* also where the value is NaN */
	if ((int)out->severity > x.most) {
		out->severity = (enum view_severity)x.most;
		out->threshold = isfinite(rule->warning) ? rule->warning : rule->alarm;
	}
	snprintf(out->kind, sizeof out->kind, "%s", rule->kind);
	out->layer = layer < 0 ? -1 : s->load.layer[layer].layer;
	out->value = x.value;
	rule->describe(&x);
	if (layer >= 0)
		out->since = alarm_since(s, rule, layer);
	return 1;
}

/* Worst first; then what exceeds its threshold most; then by layer. */
static int worse(const void *a, const void *b)
{
	const struct view_alarm *x = a, *y = b;
	double p = x->value / x->threshold, q = y->value / y->threshold;
	int kind = strcmp(x->kind, y->kind);

	if (x->severity != y->severity)
		return x->severity < y->severity ? 1 : -1;
	if (kind)
		return kind;
	if (p != q)
		return p < q ? 1 : -1;
	return (x->layer > y->layer) - (x->layer < y->layer);
}

/* mine: [ALARM_RULES]; most: tokens of the scan. */
static int judge(struct reader *r, const struct load_filter *f, const struct alarm_rule *mine,
	uint64_t most, struct view_alarm_memory *memory, struct view_alarms *out, struct moe_err *e)
{
	struct alarm_scene *s = calloc(1, sizeof *s);
	int status = -1;

	memset(out, 0, sizeof *out);
	if (!s)
		return err_nomem(e, sizeof *s, "alarms");
	s->memory = memory;
	if (alarm_scene_init(s, r, f, e))
		goto out;
	if (s->routing && s->tokens && alarm_scan(s, most ? most : ALARM_SCAN, e))
		goto out;
	if (memory)
		s->began = malloc(ALARM_RULES * (s->load.n + 1) * sizeof *s->began);
	out->alarm = calloc(ALARM_RULES * (s->load.n + 1), sizeof *out->alarm);
	if (!out->alarm) {
		err_nomem(e, ALARM_RULES * (s->load.n + 1) * sizeof *out->alarm, "alarms");
		goto out;
	}
	for (size_t i = 0; i < ALARM_RULES; i++) {
		if (!mine[i].per_layer)
			out->n += (size_t)apply(s, mine + i, -1, out->alarm + out->n);
		else
			for (size_t l = 0; l < s->load.n; l++)
				out->n += (size_t)apply(s, mine + i, (int)l, out->alarm + out->n);
	}
	qsort(out->alarm, out->n, sizeof *out->alarm, worse);
	if (memory)
		alarm_keep(s);
	status = 0;
out:
	if (status)
		view_alarms_free(out);
	alarm_scene_free(s);
	free(s);
	return status;
}

int view_alarms_with(struct reader *r, const struct load_filter *f,
	const struct view_limits *limits, uint64_t most, struct view_alarms *out, struct moe_err *e)
{
	struct alarm_rule mine[ALARM_RULES];

	alarm_with_limits(limits, mine);
	return judge(r, f, mine, most, NULL, out, e);
}

int view_alarms_follow(struct reader *r, const struct load_filter *f, struct view_alarm_memory *m,
	struct view_alarms *out, struct moe_err *e)
{
	return judge(r, f, alarm_rules, 0, m, out, e);
}

int view_alarms(struct reader *r, const struct load_filter *f, struct view_alarms *out,
	struct moe_err *e)
{
	return view_alarms_with(r, f, NULL, 0, out, e);
}

void view_alarms_free(struct view_alarms *v)
{
	free(v->alarm);
	memset(v, 0, sizeof *v);
}

/* ---- the table of `stat --alarms` ---- */

static const struct view_col cols[] = {
	{ "severity", "severity", VIEW_TEXT, 0 }, { "kind", "kind", VIEW_TEXT, 0 },
	{ "layer", "layer", VIEW_INT, 0 }, { "since", "since (UTC)", VIEW_TEXT, 0 },
	{ "value", "value", VIEW_REAL, 3 }, { "threshold", "threshold", VIEW_REAL, 3 },
	{ "text", "what", VIEW_TEXT, 0 }, { "sql", NULL, VIEW_TEXT, 0 },
};

int view_alarms_table(const struct view_alarms *v, struct view_table *out, struct moe_err *e)
{
	struct view_cell *c;
	char at[32];

	view_table_init(out, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; i < v->n; i++) {
		const struct view_alarm *a = v->alarm + i;
		time_t s = (time_t)(a->since / 1000000000);
		struct tm tm;

		c = view_table_row(out, e);
		if (!c)
			goto fail;
		if (a->layer >= 0)
			view_set_int(c + 2, a->layer);
		if (a->since && gmtime_r(&s, &tm) && strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm) &&
		    view_set_text(c + 3, at, e))
			goto fail;
		view_set_real(c + 4, a->value);
		view_set_real(c + 5, a->threshold);
		if (view_set_text(c, alarm_severity[a->severity], e) || view_set_text(c + 1, a->kind, e) ||
		    view_set_text(c + 6, a->text, e) || view_set_text(c + 7, a->sql, e))
			goto fail;
	}
	return 0;
fail:
	view_table_free(out);
	return -1;
}
