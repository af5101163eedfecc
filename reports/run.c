/* run.c - the run itself: times by domain, energy, its expert cache, its settings. */
#include <math.h>

#include "reports/show.h"

void report_pace(struct report_page *p)
{
	const struct view_table *t = &p->d->table[REPORT_PACE];
	size_t slow = t->n_row, fast = t->n_row;

	for (size_t r = 0; r < t->n_row; r++) {
		if (slow == t->n_row || report_at(t, r, "ms_per_token_p50") > report_at(t, slow, "ms_per_token_p50"))
			slow = r;
		if (fast == t->n_row || report_at(t, r, "ms_per_token_p50") < report_at(t, fast, "ms_per_token_p50"))
			fast = r;
	}
	if (slow == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_str(p->b, "<p>");
	if (slow != fast) {
		buf_str(p->b, "The slowest domain is ");
		report_text(p->b, report_at_text(t, slow, "domain"));
		buf_printf(p->b, " with %.3g ms per token of its median sequence, the fastest ",
			report_at(t, slow, "ms_per_token_p50"));
		report_text(p->b, report_at_text(t, fast, "domain"));
		buf_printf(p->b, " with %.3g ms. ", report_at(t, fast, "ms_per_token_p50"));
	}
	buf_str(p->b, "Wall time from the begin of a sequence to its end over its tokens. Sequences that "
		"share batches wait for each other, so this is latency, not work.</p>\n");
	report_csv_link(p, "pace.csv", t);
	report_table_open(p, (const struct report_col[]){ { "Domain", NULL, 0 }, { "Sequences", NULL, 1 },
		{ "Tokens", NULL, 1 }, { "ms/token, 10 %", NULL, 1 }, { "median", NULL, 1 },
		{ "90 %", NULL, 1 }, { "slowest", NULL, 1 } }, 7, NULL);
	for (size_t r = 0; r < t->n_row && r < 200; r++) {
		static const char *const key[] = { "ms_per_token_p10", "ms_per_token_p50", "ms_per_token_p90",
			"ms_per_token_max" };

		report_row_open(p, 0);
		report_cell_text(p, report_at_text(t, r, "domain"));
		report_cell(p, REPORT_COUNT, report_at(t, r, "sequences"));
		report_cell(p, REPORT_COUNT, report_at(t, r, "tokens"));
		for (int i = 0; i < 4; i++)
			report_cell(p, REPORT_SHARE, report_at(t, r, key[i]));
		report_row_close(p);
	}
	report_table_close(p);
}

/* Joules per token of both phases together, NAN without a measurement. */
double report_joule_per_token(const struct view_table *t)
{
	double joule = 0, tokens = 0;

	for (size_t r = 0; r < t->n_row; r++)
		joule += report_at(t, r, "joule"), tokens += report_at(t, r, "tokens");
	return tokens > 0 ? joule / tokens : NAN;
}

void report_energy(struct report_page *p)
{
	const struct view_table *t = &p->d->table[REPORT_ENERGY];

	if (!t->n_row) {
		buf_str(p->b, "<p>Energy per token is ");
		report_text_or(p->b, t->why, "unavailable");
		buf_str(p->b, ".</p>\n");
		return;
	}
	buf_printf(p->b, "<p>%.3g J per token. This is what the processor packages of the whole machine used "
		"while the run computed, by their RAPL counters: other programs, and an idle machine's own "
		"share, are in it; memory, accelerators and power supply are not.</p>\n",
		report_joule_per_token(t));
	report_csv_link(p, "energy.csv", t);
	report_table_open(p, (const struct report_col[]){ { "Phase", NULL, 0 }, { "Tokens", NULL, 1 },
		{ "Energy, J", NULL, 1 }, { "Time", NULL, 1 }, { "J per token", NULL, 1 }, { "Power, W", NULL, 1 },
		{ "Counters", NULL, 0 } }, 7, NULL);
	for (size_t r = 0; r < t->n_row; r++) {
		report_row_open(p, 0);
		report_cell_text(p, report_at_text(t, r, "phase"));
		report_cell(p, REPORT_COUNT, report_at(t, r, "tokens"));
		buf_printf(p->b, "<td>%.3g</td>", report_at(t, r, "joule"));
		report_cell(p, REPORT_DURATION, report_at(t, r, "seconds"));
		buf_printf(p->b, "<td>%.3g</td>", report_at(t, r, "joule_per_token"));
		report_cell(p, REPORT_TENTH, report_at(t, r, "watt"));
		report_cell_text(p, report_at_text(t, r, "counters"));
		report_row_close(p);
	}
	report_table_close(p);
}

void report_run(struct report_page *p)
{
	const struct view_table *c = &p->d->table[REPORT_CACHE_USE], *s = &p->d->table[REPORT_SETTINGS];

	if (c->n_row) {
		buf_str(p->b, "<h3>Expert cache</h3>\n<p>Experts stayed in the model file; a bounded cache held "
			"those in use.</p>\n");
		report_view_table(p, c, NULL, 10);
	} else
		buf_str(p->b, "<p>The run recorded no expert cache.</p>\n");
	if (s->n_row) {
		buf_str(p->b, "<h3>Settings</h3>\n");
		report_view_table(p, s, NULL, 200);
	} else
		report_why(p, s);
}
