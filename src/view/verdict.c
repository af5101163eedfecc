/*
 * verdict.c - the sentences that a report opens with, from the same figures as its tables.
 *
 * Plain words with figures; what the data cannot tell is said as such. No figure is computed here.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "view/view.h"

struct words { char *out; size_t size, len; };

static void add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct words *w, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (w->len >= w->size)
		return;
	va_start(ap, fmt);
	n = vsnprintf(w->out + w->len, w->size - w->len, fmt, ap);
	va_end(ap);
	w->len += n > 0 ? (size_t)n : 0;
}

/* 1234567 -> "1,234,567" */
static const char *grouped(uint64_t n, char out[32])
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = 0;
	return out;
}

/* The layer whose busiest expert is furthest above its fair share; NULL without data. */
static const struct view_layer *worst_layer(const struct view_layers *l)
{
	const struct view_layer *worst = NULL;

	for (size_t i = 0; i < l->n; i++)
		if (!isnan(l->layer[i].max_mean) &&
		    (!worst || l->layer[i].max_mean > worst->max_mean))
			worst = l->layer + i;
	return worst;
}

static void balance(struct words *w, const struct view_summary *s, const struct view_layers *l,
	const struct view_alarms *a)
{
	const struct view_layer *v = worst_layer(l);
	size_t alarms = 0, warnings = 0, n;
	unsigned dead = 0, experts = 0;
	const char *state;
	char tokens[32];

	for (size_t i = 0; i < a->n; i++)
		if (!strcmp(a->alarm[i].kind, "collapse")) {
			alarms += a->alarm[i].severity == VIEW_ALARM;
			warnings += a->alarm[i].severity == VIEW_WARNING;
		}
	for (size_t i = 0; i < l->n; i++) {
		dead += l->layer[i].n_dead;
		experts += l->layer[i].n_expert;
	}
	state = alarms && alarms >= l->n ? "has collapsed" : alarms ? "has collapsed in part" :
		warnings ? "is uneven" : v->max_mean < 1.5 ? "is balanced" : v->max_mean < 2 ?
		"shows no collapse" :
		"cannot be judged yet, on so few tokens"; /* else there would be a warning */
	add(w, "Routing %s: ", state);
	n = alarms ? alarms : warnings;
	if (n && l->n == 1)
		add(w, "the one MoE layer loads single experts far above their fair share; ");
	else if (n && n >= l->n)
		add(w, "all %zu MoE layers load single experts far above their fair share; ", l->n);
	else if (n)
		add(w, "%zu of %zu MoE layers load%s single experts far above their fair share%s; ", n,
			l->n, n == 1 ? "s" : "", alarms && warnings ? ", others are uneven" : "");
	add(w, "the busiest expert of the worst layer (expert %u of layer %u) takes %.2f times its "
		"fair share over %s tokens", v->top_expert, v->layer, v->max_mean,
		grouped(v->tokens, tokens));
	if (dead)
		add(w, ", and %u of %u experts were never picked", dead, experts);
	add(w, ". ");
	if (s->dropped_at_cf125 > 0.0005)
		add(w, "With a capacity factor of 1.25 at least %.1f %% of the picks of the worst layer "
			"would be dropped. ", 100 * s->dropped_at_cf125);
}

static void specialisation(struct words *w, const struct view_spec *sp)
{
	const struct view_spec_cell *best = NULL;
	const struct view_spec_layer *layer = NULL;
	const char *domain = "";
	size_t proven = 0, cells = sp->n_layer * sp->n_domain;

	for (size_t l = 0; l < sp->n_layer; l++)
		for (size_t d = 0; d < sp->n_domain; d++) {
			const struct view_spec_cell *c = sp->layer[l].cell + d;

			proven += c->proven != 0;
			if (c->proven && (!best || view_spec_lead(c) > view_spec_lead(best)))
				best = c, layer = sp->layer + l, domain = sp->domain[d].name;
		}
	if (!cells) {
		add(w, "Whether experts specialise by domain cannot be told: %s. ", *sp->why ? sp->why :
			"no domains were compared");
	} else if (!best) {
		add(w, "Experts do not specialise by domain as far as these documents can tell: none of "
			"%zu layer-and-domain cells beats shuffled labels. ", cells);
	} else {
		add(w, "Experts specialise by domain: %zu of %zu layer-and-domain cells beat shuffled "
			"labels; clearest, expert %u of layer %u takes %.1f times its fair share on %s text "
			"(95 %% interval %.1f-%.1f; shuffled labels reach %.1f). ", proven, cells,
			best->expert, layer->layer, best->rel, domain, best->lo, best->hi,
			best->null_p95);
		if (isfinite(best->token_control))
			add(w, "On the tokens that other domains have too (%.0f %% of that text) it takes "
				"%.1f times its fair share, where the same tokens take %.1f elsewhere. ",
				100 * best->token_share, best->token_rel, best->token_control);
	}
}

/* What concerns the log itself, worst first. */
static void log_state(struct words *w, const struct view_alarms *a)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->alarm[i].layer < 0 && a->alarm[i].severity >= VIEW_WARNING) {
			add(w, "Note on the log: %s. ", a->alarm[i].text);
			return;
		}
}

int view_verdict(const struct view_summary *s, const struct view_layers *l,
	const struct view_alarms *a, const struct view_spec *sp, char *out, size_t size)
{
	struct words w = { out, size, 0 };

	if (!size)
		return -1;
	*out = 0;
	if (!worst_layer(l)) {
		add(&w, "Nothing can be said yet: no routing decisions in this selection. ");
	} else {
		balance(&w, s, l, a);
		if (sp)
			specialisation(&w, sp);
	}
	log_state(&w, a);
	if (w.len && w.len < size)
		out[w.len - 1] = 0; /* the last blank */
	return w.len < size ? 0 : -1;
}
