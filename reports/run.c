/* run.c - the run itself: times by domain, energy, its expert cache, its settings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

void report_energy(struct report_page *p)
{
	const struct view_table *t = &p->d->table[REPORT_SETTINGS];
	double tokens = (double)(p->d->sum.run.n_prompt + p->d->sum.run.n_generated);

	for (size_t r = 0; r < t->n_row; r++) {
		double joule;

		if (strcmp(report_at_text(t, r, "key"), "energy_j"))
			continue;
		joule = strtod(report_at_text(t, r, "value"), NULL);
		if (!(joule > 0) || !(tokens > 0) || !isfinite(joule))
			continue;
		buf_printf(p->b, "<p>%.3g J per token: %.4g J over %s tokens, as the run recorded it.</p>\n",
			joule / tokens, joule, report_num(REPORT_COUNT, tokens).s);
		return;
	}
	buf_str(p->b, "<p>Unavailable: the run recorded no energy counter (setting <code>energy_j</code>, "
		"for instance the difference of the machine's RAPL counter).</p>\n");
}

void report_run(struct report_page *p)
{
	const struct view_table *c = &p->d->table[REPORT_CACHE_USE], *s = &p->d->table[REPORT_SETTINGS];

	if (c->n_row) {
		buf_str(p->b, "<h3>Expert cache</h3>\n<p>Experts stayed in the model file; a bounded cache held "
			"those in use.</p>\n");
		report_view_table(p, c, NULL, 10);
	} else
		buf_str(p->b, "<p>The run used no expert cache: all experts were in memory.</p>\n");
	if (s->n_row) {
		buf_str(p->b, "<h3>Settings</h3>\n");
		report_view_table(p, s, NULL, 200);
	} else
		report_why(p, s);
}
