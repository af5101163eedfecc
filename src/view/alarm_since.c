/*
 * alarm_since.c - load over windows of time: since when a rule fires, and the thirds of a trend.
 *
 * A call asks for at most ALARM_WINDOWS sums; what it asked for stays in the scene, so that rules
 * and layers share it. Beyond that the answer is less exact, never missing: a spell is said to have
 * begun where the search had come to.
 */
#include <math.h>
#include <stdlib.h>

#include "metrics/balance.h"
#include "metrics/router.h"
#include "view/alarm.h"

#define TREND_TOKENS 1000 /* tokens of a third of the time, for a trend */

static double information_of(const struct layer_load *l)
{
	struct metrics_router_sums sums = { .n_expert = l->n_expert, .counts = l->counts,
		.probs = l->probs, .lse2 = l->lse2, .entropy = l->entropy,
		.confidence = l->confidence, .margin = l->margin, .n_margin = l->n_margin };
	struct metrics_router m;

	metrics_router(&sums, &m);
	return m.mi_token;
}

/* Figures of every layer over buckets a..b-1 (mi only with scores), from the scene's windows or
 * freshly read; NULL when the call has asked for enough. */
static const struct alarm_figures *look(struct alarm_scene *s, int64_t a, int64_t b, int scores)
{
	struct load_filter f = *s->f;
	struct load_set set = { 0 };
	uint64_t sorted[MOE_MAX_EXPERT];
	struct metrics_balance bal;
	struct moe_err ignored;
	struct alarm_window *w;

	for (int i = 0; i < s->n_windows; i++)
		if (s->window[i].a == a && s->window[i].b == b && s->window[i].scores >= scores) {
			s->window[i].used = 1;
			return s->window[i].layer;
		}
	f.bucket0 = a, f.bucket1 = b;
	if (s->n_windows == ALARM_WINDOWS ||
	    (scores ? reader_load : reader_load_counts)(s->r, &f, &set, &ignored))
		return NULL;
	w = s->window + s->n_windows;
	w->a = a, w->b = b, w->scores = scores, w->used = 1;
	w->layer = calloc(set.n + 1, sizeof *w->layer);
	for (size_t i = 0; w->layer && i < set.n && i < s->load.n; i++) {
		metrics_balance(set.layer[i].counts, set.layer[i].n_expert, sorted, &bal);
		w->layer[i] = (struct alarm_figures){ set.layer[i].tokens, set.layer[i].n_nan,
			set.layer[i].counts[bal.top_expert], bal.top_expert, bal.max_mean,
			information_of(set.layer + i) };
	}
	load_set_free(&set);
	s->n_windows += w->layer != NULL;
	return w->layer;
}

/* What the last call found out about the same alarm, or NULL. */
static const struct alarm_began *remembered(const struct alarm_scene *s,
	const struct alarm_rule *rule, int layer)
{
	for (size_t i = 0; s->memory && i < s->memory->n_began; i++)
		if (s->memory->began[i].rule == rule && s->memory->began[i].layer == layer)
			return &s->memory->began[i];
	return NULL;
}

/* The bucket in which the present spell began: walk back in windows that double while the value
 * holds and halve after the first that does not. Buckets without tokens do not end a spell. If the
 * latest bucket does not show it, there is no present spell: first. */
static int64_t spell(struct alarm_scene *s, const struct alarm_rule *rule, int layer, int64_t first,
	int64_t end)
{
	double least = fmin(rule->note, fmin(rule->warning, rule->alarm));
	int64_t lo = end, found = first, width = 1, a;
	const struct alarm_began *was = remembered(s, rule, layer);
	const struct alarm_figures *w;
	int shrinking = 0;

	if (was && was->bucket >= first) { /* does it go on in the buckets since the last call? */
		a = s->memory->n_buckets - 1;
		w = a >= s->n_buckets - 1 ? NULL : look(s, a > first ? a : first, end, 0);
		if (a >= s->n_buckets - 1 || (w && (!w[layer].tokens || rule->again(w + layer) >= least)))
			return was->bucket;
	}
	while (lo > first && width > 0) {
		a = lo - width > first ? lo - width : first;
		w = look(s, a, lo, 0);
		if (!w)
			break;
		if (!w[layer].tokens || rule->again(w + layer) >= least) {
			found = w[layer].tokens ? a : found;
			lo = a;
			width = shrinking || width > INT64_MAX / 2 ? width : width * 2;
		} else {
			shrinking = 1;
			width = (lo - a) / 2;
		}
	}
	return found;
}

int64_t alarm_bucket_time(const struct run_info *u, int64_t bucket)
{
	if (u->started < 0 || u->bucket_ns <= 0 || bucket < 0 ||
	    bucket > (INT64_MAX - u->started) / u->bucket_ns)
		return u->started;
	return u->started + bucket * u->bucket_ns;
}

int64_t alarm_since(struct alarm_scene *s, const struct alarm_rule *rule, int layer)
{
	int64_t first = s->f->bucket0, end = s->f->bucket1, n = s->n_buckets;

	if (first >= end) /* all buckets */
		first = 0, end = n;
	end = end < n ? end : n;
	if (rule->again && end > first)
		first = spell(s, rule, layer, first, end);
	if (s->began)
		s->began[s->n_began++] = (struct alarm_began){ rule, layer, first };
	return alarm_bucket_time(s->run, first);
}

const struct alarm_figures *alarm_third(const struct alarm_scene *s, int last, int layer)
{
	int64_t first = s->f->bucket0, end = s->f->bucket1, n = s->n_buckets, span;
	const struct alarm_figures *w;

	if (first >= end)
		first = 0, end = n;
	end = end < n ? end : n;
	span = (end - first) / 3;
	if (span < 1)
		return NULL;
	w = look((struct alarm_scene *)s, last ? end - span : first, last ? end : first + span, 1);
	return w && w[layer].tokens >= TREND_TOKENS ? w + layer : NULL;
}
