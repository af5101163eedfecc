/* run.c - the run itself: times by domain, energy, its expert cache, its settings. */
#include <math.h>

#include "reports/show.h"

/* ---- latency by domain ---- */

#define PACE_DRAWN 60 /* domains that the picture shows */
#define PACE_ROWS 200 /* and the table */
static const char *const pace_key[] = { "ms_per_token_p10", "ms_per_token_p50", "ms_per_token_p90",
	"ms_per_token_max" };

static void pace_draw(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot)
{
	static const char *names[PACE_DRAWN];
	const struct view_table *t = &d->table[REPORT_PACE];
	size_t n = t->n_row < PACE_DRAWN ? t->n_row : PACE_DRAWN;
	double least = INFINITY, most = 0;
	int logarithmic;

	(void)arg;
	buf_str(&plot->tics, "set ytics (");
	for (size_t r = 0; r < n; r++) {
		buf_printf(&plot->tics, "%s'LABEL%03zu' %zu", r ? ", " : "", r, r);
		names[r] = report_at_text(t, r, "domain");
		buf_printf(&plot->data, "%zu", r);
		for (int i = 0; i < 4; i++) {
			double ms = report_at(t, r, pace_key[i]);

			buf_printf(&plot->data, " %.6g", ms);
			least = fmin(least, ms), most = fmax(most, ms);
		}
		buf_char(&plot->data, '\n');
	}
	buf_str(&plot->tics, ")\n");
	plot->label = names;
	plot->n_label = n;
	plot->label_columns = narrow ? 11 : 18;
	plot->height = 62 + (unsigned)n * 24;
	logarithmic = least > 0 && most > 10 * least;
	report_plot_var(plot, "LEFT", narrow ? 92 : 142);
	report_plot_var(plot, "N", (double)n);
	report_plot_var(plot, "LOGX", logarithmic);
	report_plot_var(plot, "LOW", logarithmic ? least / 1.2 : 0);
	report_plot_var(plot, "TOP", logarithmic ? most * 1.2 : most > 0 ? most * 1.06 : 1);
}

static void pace_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = { { "Domain", NULL, 0 }, { "Sequences", NULL, 1 },
		{ "Tokens", NULL, 1 }, { "ms/token, 10 %", NULL, 1 }, { "median", NULL, 1 },
		{ "90 %", NULL, 1 }, { "slowest", NULL, 1 } };
	const struct view_table *t = &p->d->table[REPORT_PACE];

	(void)arg;
	report_csv_link(p, "pace.csv", t);
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t r = 0; r < t->n_row && r < PACE_ROWS; r++) {
		report_row_open(p, 0);
		report_cell_text(p, report_at_text(t, r, "domain"));
		report_cell(p, REPORT_COUNT, report_at(t, r, "sequences"));
		report_cell(p, REPORT_COUNT, report_at(t, r, "tokens"));
		for (int i = 0; i < 4; i++)
			report_cell(p, REPORT_SHARE, report_at(t, r, pace_key[i]));
		report_row_close(p);
	}
	report_table_close(p);
}

void report_pace(struct report_page *p)
{
	static const struct report_figure f = { "latency", "Spans: milliseconds per token of the "
		"sequences of each domain, from the tenth to the ninth of ten, with median and slowest",
		REPORT_PLOT_SPANS, pace_draw, pace_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_PACE];
	size_t slow = t->n_row, fast = t->n_row;
	struct buf finding, caption;

	for (size_t r = 0; r < t->n_row; r++) {
		double ms = report_at(t, r, pace_key[1]);

		if (slow == t->n_row || ms > report_at(t, slow, pace_key[1]))
			slow = r;
		if (fast == t->n_row || ms < report_at(t, fast, pace_key[1]))
			fast = r;
	}
	if (slow == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	if (slow != fast) {
		buf_str(&finding, "The slowest domain is ");
		report_text(&finding, report_at_text(t, slow, "domain"));
		buf_printf(&finding, " with %.3g ms per token of its median sequence, the fastest ",
			report_at(t, slow, pace_key[1]));
		report_text(&finding, report_at_text(t, fast, "domain"));
		buf_printf(&finding, " with %.3g ms", report_at(t, fast, pace_key[1]));
	} else {
		buf_printf(&finding, "The median sequence takes %.3g ms per token",
			report_at(t, slow, pace_key[1]));
	}
	buf_str(&caption, "<span class=\"key main\"></span> median sequence of the domain, <span "
		"class=\"key pale\"></span> from 10 to 90 % of them, a line at the slowest. Wall time from "
		"the begin of a sequence to its end over its tokens. Sequences that share batches wait for "
		"each other, so this is latency, not work.");
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- energy, the expert cache, settings ---- */

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
	buf_printf(p->b, "<p>%.3g J per token. This is what the processor packages of the whole "
		"machine used while the run computed, by their RAPL counters: other programs, and an idle "
		"machine's own share, are in it; memory, accelerators and power supply are not.</p>\n",
		report_joule_per_token(t));
	report_csv_link(p, "energy.csv", t);
	report_table_open(p, (const struct report_col[]){ { "Phase", NULL, 0 }, { "Tokens", NULL, 1 },
		{ "Energy, J", NULL, 1 }, { "Time", NULL, 1 }, { "J per token", NULL, 1 },
		{ "Power, W", NULL, 1 },
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
		buf_str(p->b, "<h3>Expert cache</h3>\n<p>Experts stayed in the model file; a bounded cache "
			"held those in use.</p>\n");
		report_view_table(p, c, NULL, 10);
	} else
		buf_str(p->b, "<p>The run recorded no expert cache.</p>\n");
	if (s->n_row) {
		buf_str(p->b, "<h3>Settings</h3>\n");
		report_view_table(p, s, NULL, 200);
	} else
		report_why(p, s);
}
