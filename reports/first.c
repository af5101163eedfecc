/*
 * first.c - the first page: a verdict, five figures, the alarms, and who made it from what.
 *
 * Each figure is <data value="..."> with all digits, so that a program can read the page too.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/page.h"

#define SHOWN_ALARMS 4 /* the others unfold */

/* One of the five: open with the label, then the number, then the reading goes into p->b. */
static void figure_open(struct report_page *p, const char *id, const char *label, double value,
	const char *shown, const char *unit)
{
	buf_printf(p->b, "<div class=\"card\"><h3>%s</h3>\n<p class=\"big\"><data id=\"%s\" value=\"",
		label, id);
	if (isfinite(value))
		buf_printf(p->b, "%.17g", value);
	buf_printf(p->b, "\">%s</data>%s%s%s</p>\n<p>", shown, *unit ? " <small>" : "", unit,
		*unit ? "</small>" : "");
}

static void figure_close(struct report_page *p)
{
	buf_str(p->b, "</p></div>\n");
}

static void busiest(struct report_page *p, const struct view_layer *w)
{
	figure_open(p, "fig-max-mean", "Busiest expert", w ? w->max_mean : NAN,
		report_num(REPORT_TIMES, w ? w->max_mean : NAN).s, w ? "fair share" : "");
	if (w) {
		buf_printf(p->b, "Expert %u of layer %u takes %s its ", w->top_expert, w->layer,
			report_num(REPORT_TIMES, w->max_mean).s);
		report_term(p->b, "fair", "fair share");
		buf_printf(p->b, " of %s. Perfect balance is 1.00×.",
			report_num(REPORT_PERCENT, 1.0 / w->n_expert).s);
	} else
		buf_str(p->b, "No decisions were logged.");
	figure_close(p);
}

static void dead(struct report_page *p)
{
	const struct view_layers *l = &p->d->layers;
	unsigned n = 0, of = 0;
	double expected = 0;
	char unit[96];

	for (size_t i = 0; i < l->n; i++) {
		if (!l->layer[i].tokens)
			continue;
		n += l->layer[i].n_dead;
		of += l->layer[i].n_expert;
		expected += l->layer[i].p_dead_chance * l->layer[i].n_expert;
	}
	snprintf(unit, sizeof unit, "of %s experts", report_num(REPORT_COUNT, of).s);
	figure_open(p, "fig-dead", "Never picked", of ? n : NAN,
		report_num(REPORT_COUNT, of ? n : NAN).s, of ? unit : "");
	if (!of)
		buf_str(p->b, "No decisions were logged.");
	else if (!n)
		buf_printf(p->b, "Every expert of every layer was picked at least once in %s tokens.",
			report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	else {
		report_term(p->b, "dead", n == 1 ? "One expert" : "These experts");
		if (expected < 0.01)
			buf_str(p->b, " got no token. Under even routing chance would not explain even one.");
		else
			buf_printf(p->b, " got no token. Under even routing %s would by chance%s",
				report_num(REPORT_TENTH, expected).s, expected >= 0.5 * n ?
				": too few tokens to conclude anything." : ".");
	}
	figure_close(p);
}

static void effective(struct report_page *p)
{
	const struct view_layers *l = &p->d->layers;
	const struct view_layer *w = NULL; /* the one with the smallest part of its experts at work */
	char unit[64] = "";

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens && isfinite(l->layer[i].n_eff) &&
		    (!w || l->layer[i].n_eff / l->layer[i].n_expert < w->n_eff / w->n_expert))
			w = &l->layer[i];
	if (w)
		snprintf(unit, sizeof unit, "of %u experts", w->n_expert);
	figure_open(p, "fig-effective", "At work in the narrowest layer", w ? w->n_eff : NAN,
		report_num(REPORT_TENTH, w ? w->n_eff : NAN).s, unit);
	if (w) {
		buf_printf(p->b, "Layer %u spreads its picks as if ", w->layer);
		report_term(p->b, "effective", "that many experts");
		buf_str(p->b, " were equally busy and the others idle.");
	} else
		buf_str(p->b, "No decisions were logged.");
	figure_close(p);
}

static void overflow(struct report_page *p)
{
	double v = p->d->sum.dropped_at_cf125;

	figure_open(p, "fig-dropped", "Over capacity", v, report_num(REPORT_PERCENT, v).s,
		isnan(v) ? "" : "of picks");
	if (isnan(v))
		buf_str(p->b, "No decisions were logged.");
	else {
		buf_str(p->b, "With ");
		report_term(p->b, "capacity", "capacity factor 1.25");
		buf_str(p->b, v > 0 ?
			" at least this share of the worst layer's picks would be dropped; more with "
			"small batches." :
			" no layer would drop a pick if all tokens were one batch; small batches drop more.");
	}
	figure_close(p);
}

/* "expert 7 of layer 3 takes 4.1 times its fair share on medical text (95 % interval ...)" */
static void strongest(struct report_page *p)
{
	const struct view_spec *s = &p->d->spec;
	const struct view_spec_cell *best = NULL;
	size_t n = 0, at_layer = 0, at_domain = 0;
	char unit[64] = "";

	for (size_t i = 0; i < s->n_layer; i++)
		for (size_t j = 0; j < s->n_domain; j++) {
			const struct view_spec_cell *c = &s->layer[i].cell[j];

			if (!c->proven)
				continue;
			n++;
			if (!best || view_spec_lead(c) > view_spec_lead(best))
				best = c, at_layer = i, at_domain = j;
		}
	if (s->n_layer)
		snprintf(unit, sizeof unit, "of %zu claims", s->n_layer * s->n_domain);
	figure_open(p, "fig-proven", "Specialisation proven", s->n_layer ? (double)n : NAN,
		report_num(REPORT_COUNT, s->n_layer ? (double)n : NAN).s, unit);
	if (!s->n_layer) {
		buf_str(p->b, "Cannot be said: ");
		report_text_or(p->b, s->why, "there are no decisions to compare");
		buf_char(p->b, '.');
	} else if (!best) {
		buf_str(p->b, "No expert is busier on any domain than with ");
		report_term(p->b, "null", "shuffled labels");
		buf_char(p->b, '.');
	} else {
		buf_printf(p->b, "Clearest: expert %u of layer %u takes %s its fair share on ",
			best->expert,
			s->layer[at_layer].layer, report_num(REPORT_TIMES, best->rel).s);
		report_domain(p->b, &s->domain[at_domain]);
		buf_printf(p->b, " (95 %% interval %s; ",
			report_interval(REPORT_TIMES, best->lo, best->hi).s);
		report_term(p->b, "null", "shuffled labels");
		buf_printf(p->b, " reach %s); on all text it takes %s.",
			report_num(REPORT_TIMES, best->null_p95).s, report_num(REPORT_TIMES,
			report_overall(p->d, s->layer[at_layer].layer, best->expert)).s);
		if (isfinite(best->token_control)) {
			buf_str(p->b, " On ");
			report_term(p->b, "control", "tokens that other domains have too");
			buf_printf(p->b, ": %s here, %s elsewhere.",
				report_num(REPORT_TIMES, best->token_rel).s,
				report_num(REPORT_TIMES, best->token_control).s);
		}
	}
	figure_close(p);
}

static void alarm(struct report_page *p, const struct view_alarm *x)
{
	static const char *const cls[] = { "info", "warning", "alarm" };
	static const char *const word[] = { "Note", "Warning", "Alarm" };
	unsigned s = (unsigned)x->severity < 3 ? (unsigned)x->severity : 2;

	buf_printf(p->b, "<div class=\"alarm-row %s\"><p><b>%s:</b> ", cls[s], word[s]);
	report_text(p->b, x->text);
	buf_printf(p->b, "</p>\n<details><summary>Evidence</summary><p>Since %s. Figure %.4g, "
		"threshold %.4g, rule <code>", report_date(x->since).s, x->value, x->threshold);
	report_text(p->b, x->kind);
	buf_str(p->b, "</code>.</p>");
	if (x->sql[0]) {
		buf_str(p->b, "<pre>");
		report_text(p->b, x->sql);
		buf_str(p->b, "</pre>");
	}
	buf_str(p->b, "</details></div>\n");
}

static void alarms(struct report_page *p)
{
	const struct view_alarms *a = &p->d->alarms;

	buf_str(p->b, "<section id=\"alarms\" aria-label=\"Alarms\">\n");
	if (!a->n)
		buf_str(p->b, p->d->sum.tokens ?
			"<p class=\"alarm-row ok\"><b>No alarms.</b> No rule found anything to report.</p>\n" :
			"<p class=\"alarm-row info\"><b>No alarms,</b> for want of data.</p>\n");
	for (size_t i = 0; i < a->n; i++) { /* worst first */
		if (i == SHOWN_ALARMS && a->n > SHOWN_ALARMS + 1)
			buf_printf(p->b, "<details class=\"more\"><summary>%zu more</summary>\n", a->n - i);
		alarm(p, &a->alarm[i]);
	}
	if (a->n > SHOWN_ALARMS + 1)
		buf_str(p->b, "</details>\n");
	buf_str(p->b, "</section>\n");
}

static void fact_open(struct report_page *p, const char *name)
{
	buf_printf(p->b, "<div><dt>%s</dt><dd>", name);
}

static void fact_close(struct report_page *p)
{
	buf_str(p->b, "</dd></div>\n");
}

static void fact(struct report_page *p, const char *name, const char *untrusted,
	const char *if_empty)
{
	fact_open(p, name);
	report_text_or(p->b, untrusted, if_empty);
	fact_close(p);
}

static void made_from(struct report_page *p)
{
	const struct run_info *r = &p->d->sum.run;

	buf_str(p->b, "<section id=\"made\" aria-label=\"What was measured\">\n<dl class=\"facts\">\n");
	fact_open(p, "Model");
	report_text_or(p->b, r->model_name, "no name");
	if (r->n_params) {
		buf_printf(p->b, "<br>%s parameters", report_num(REPORT_AMOUNT, (double)r->n_params).s);
		if (r->n_params_active)
			buf_printf(p->b, ", %s active per token",
				report_num(REPORT_AMOUNT, (double)r->n_params_active).s);
	}
	fact_close(p);
	fact_open(p, "SHA-256");
	if (r->hash[0]) {
		buf_str(p->b, "<code class=\"hash\">");
		report_text(p->b, r->hash);
		buf_str(p->b, "</code>");
	} else
		buf_str(p->b, "not computed");
	fact_close(p);
	fact(p, "Architecture", r->arch, "unknown");
	fact(p, "Router", r->router, "unknown");
	fact(p, "Quantisation", r->quant, "unknown");
	fact_open(p, "Run");
	buf_printf(p->b, "%lld, ", (long long)r->id);
	report_text(p->b, r->state);
	if (r->command[0]) {
		buf_str(p->b, ", by <code>");
		report_text(p->b, r->command);
		buf_str(p->b, "</code>");
	}
	fact_close(p);
	fact_open(p, "Tokens");
	buf_printf(p->b, "%s (%s read, %s generated) in %s sequence%s",
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s,
		report_num(REPORT_COUNT, (double)r->n_prompt).s,
		report_num(REPORT_COUNT, (double)r->n_generated).s,
		report_num(REPORT_COUNT, (double)r->n_seq).s, report_plural(r->n_seq));
	fact_close(p);
	fact_open(p, "Decisions");
	buf_printf(p->b, "%s at %u layer%s; detail level <code>",
		report_num(REPORT_COUNT, (double)p->d->sum.decisions).s, r->n_moe_layer,
		report_plural(r->n_moe_layer));
	report_text(p->b, r->detail);
	buf_str(p->b, "</code>");
	fact_close(p);
	fact_open(p, "Dates");
	if (!r->ended)
		buf_printf(p->b, "since %s", report_date(r->started).s);
	else /* one day is said once */
		buf_printf(p->b, "%s to %s", report_date(r->started).s, report_date(r->ended).s +
			(strncmp(report_date(r->started).s, report_date(r->ended).s, 10) ? 0 : 11));
	fact_close(p);
	fact(p, "Engine", r->engine, "unknown");
	buf_str(p->b, "</dl>\n</section>\n");
}

/* Cut s after its first sentence; returns the rest. */
static char *first_sentence(char *s)
{
	char *p = strstr(s, ". ");

	while (p && !(p[2] >= 'A' && p[2] <= 'Z'))
		p = strstr(p + 1, ". ");
	if (!p)
		return s + strlen(s);
	p[1] = 0;
	return p + 2;
}

void report_first_page(struct report_page *p)
{
	const struct report_data *d = p->d;
	size_t worst = report_worst_layer(&d->layers);
	const struct view_layer *w = worst < d->layers.n ? &d->layers.layer[worst] : NULL;
	char verdict[1024] = "", *rest;

	view_verdict(&d->sum, &d->layers, &d->alarms, &d->spec, verdict, sizeof verdict);
	rest = first_sentence(verdict);
	buf_str(p->b, "<header>\n<p class=\"kicker\">moescope · routing report · ");
	report_text_or(p->b, d->sum.run.model_name, "model without a name");
	buf_printf(p->b, " · run %lld</p>\n<h1>", (long long)d->sum.run.id);
	report_text_or(p->b, verdict, "Nothing was logged yet.");
	buf_str(p->b, "</h1>\n");
	if (*rest) {
		buf_str(p->b, "<p class=\"lead\">");
		report_text(p->b, rest);
		buf_str(p->b, "</p>\n");
	}
	if (!d->sum.run.ended && !strcmp(d->sum.run.state, "live"))
		buf_printf(p->b, "<p class=\"note\">The run was not finished: this is what it had written "
			"by %s, and figures read a moment apart may differ slightly.</p>\n",
			report_date(d->sum.run.heartbeat).s);
	buf_str(p->b, "</header>\n<div class=\"cards\">\n");
	busiest(p, w);
	dead(p);
	effective(p);
	overflow(p);
	strongest(p);
	buf_str(p->b, "</div>\n");
	alarms(p);
	made_from(p);
}
