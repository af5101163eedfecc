/* whatif.c - the same tokens under a capacity, without some experts, with a cache,
 * on more ranks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/show.h"

/* ---- capacity ---- */

static int first_come(const struct view_table *t, size_t r)
{
	return !strcmp(report_at_text(t, r, "policy"), "position");
}

static void drop_line(struct report_lines *x, const struct view_table *t, double layer)
{
	for (size_t r = 0; r < t->n_row; r++) {
		double l = report_at(t, r, "layer");

		if (first_come(t, r) && (isnan(layer) ? isnan(l) : l == layer))
			report_point(x, report_at(t, r, "factor"), 100 * report_at(t, r, "dropped"));
	}
}

/* Row of the pooled figure at a factor; n_row if there is none. */
static size_t drop_at(const struct view_table *t, double factor)
{
	for (size_t r = 0; r < t->n_row; r++)
		if (first_come(t, r) && report_want_pooled(t, r) && report_at(t, r, "factor") == factor)
			return r;
	return t->n_row;
}

static void capacity_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "capacity factor", "picks dropped, %",
		NULL, 1, 1, 0, 0 };
	const struct view_table *t = &d->table[REPORT_CAPACITY];
	struct report_lines x;

	(void)arg;
	(void)narrow;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < d->layers.n; i++) {
		report_line(&x, NULL, "PALE", 1, REPORT_SOLID, 0);
		drop_line(&x, t, d->layers.layer[i].layer);
	}
	report_line(&x, NULL, "MAIN", 2.5, REPORT_SOLID, 1);
	drop_line(&x, t, NAN);
	report_lines_close(&x, &axes);
}

static void capacity_table(struct report_page *p, size_t arg)
{
	const struct view_table *t = &p->d->table[REPORT_CAPACITY];

	(void)arg;
	report_csv_link(p, "capacity.csv", t);
	report_view_table(p, t, report_want_pooled, 100);
	report_view_table(p, t, report_want_layer, 400);
}

void report_capacity(struct report_page *p)
{
	static const struct report_figure f = { "capacity", "Lines: share of the picks that are "
		"dropped as the capacity factor grows, a line per layer and one for all", REPORT_PLOT_LINES,
		capacity_draw, capacity_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_CAPACITY];
	struct buf finding, caption;
	size_t at = drop_at(t, 1.25);

	if (at == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "In batches of %s tokens capacity factor 1.25 would drop %s of the picks",
		report_num(REPORT_COUNT, report_at(t, at, "batch")).s,
		report_num(REPORT_PERCENT, report_at(t, at, "dropped")).s);
	if (isfinite(report_at(t, at, "worst_layer")) && p->d->layers.n > 1)
		buf_printf(&finding, "; in layer %.0f, the worst, %s", report_at(t, at, "worst_layer"),
			report_num(REPORT_PERCENT, report_at(t, at, "worst_dropped")).s);
	buf_printf(&caption, "What an engine that limits each expert to <a class=\"term\" "
		"href=\"#def-capacity\">⌈T·k/E·CF⌉ picks of a batch</a> would drop, first come, first "
		"served. <span class=\"key main\"></span> all layers together. <span class=\"key "
		"pale\"></span> each layer. %s of the tokens would lose all their experts of a layer at "
		"1.25. n = %s tokens.", report_num(REPORT_PERCENT, report_at(t, at, "tokens_lost")).s,
		report_num(REPORT_COUNT, report_at(t, at, "tokens")).s);
	report_sampled(&caption, p->d);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- prune or replicate ---- */

static void prune_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "experts removed of each layer, coldest first, %",
		"share, %", NULL, 1, 1, 0, 0 };
	static const struct { const char *key, *name, *colour; enum report_dash dash; } line[] = {
		{ "lost_picks", "picks lost", "MAIN", REPORT_SOLID },
		{ "lost_weight", "gate weight lost", "LIMIT", REPORT_DASHED },
		{ "tokens_touched", "tokens touched", "INK", REPORT_DOTTED },
	};
	const struct view_table *t = &d->table[REPORT_PRUNE];
	struct report_lines x;

	(void)arg;
	(void)narrow;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
		report_line(&x, line[i].name, line[i].colour, 2, line[i].dash, 1);
		for (size_t r = 0; r < t->n_row; r++)
			if (report_want_pooled(t, r))
				report_point(&x, 100 * report_at(t, r, "memory_saved"),
					100 * report_at(t, r, line[i].key));
	}
	report_lines_close(&x, &axes);
}

static void prune_table(struct report_page *p, size_t arg)
{
	const struct view_table *t = &p->d->table[REPORT_PRUNE];

	(void)arg;
	report_csv_link(p, "prune.csv", t);
	report_view_table(p, t, report_want_pooled, 100);
}

struct busy { double rel; unsigned layer, expert; };

static int busier(const void *a, const void *b)
{
	const struct busy *x = a, *y = b;

	return x->rel < y->rel ? 1 : x->rel > y->rel ? -1 : x->layer != y->layer ?
		(x->layer > y->layer ? 1 : -1) : (x->expert > y->expert) - (x->expert < y->expert);
}

/* Experts above twice their share: what a second copy would relieve. */
static void put_replicas(struct report_page *p)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Expert", NULL, 1 }, { "Load", "fair", 1 },
		{ "With two copies each takes", NULL, 1 }, { "Copies to stay under 1.25×", NULL, 1 },
	};
	const struct view_layers *l = &p->d->layers;
	size_t n = 0, cap = 0;
	struct busy *x;

	for (size_t i = 0; i < l->n; i++)
		cap += l->layer[i].n_expert;
	x = malloc((cap + 1) * sizeof *x);
	if (!x) {
		p->b->failed = 1;
		return;
	}
	for (size_t i = 0; i < l->n; i++)
		for (unsigned e = 0; e < l->layer[i].n_expert && l->layer[i].tokens; e++)
			if (l->layer[i].rel[e] > 2)
				x[n++] = (struct busy){ l->layer[i].rel[e], l->layer[i].layer, e };
	qsort(x, n, sizeof *x, busier);
	if (!n)
		buf_str(p->b, "<p><b>To replicate:</b> none. No expert takes more than twice its fair "
			"share.</p>\n");
	else {
		buf_printf(p->b, "<p><b>To replicate:</b> %s expert%s take%s more than twice the fair "
			"share. The busiest:</p>\n", report_num(REPORT_COUNT, (double)n).s, report_plural(n),
			n == 1 ? "s" : "");
		report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
		for (size_t i = 0; i < n && i < 12; i++) {
			report_row_open(p, 0);
			report_cell_head(p, x[i].layer);
			report_cell(p, REPORT_COUNT, x[i].expert);
			report_cell(p, REPORT_TIMES, x[i].rel);
			report_cell(p, REPORT_TIMES, x[i].rel / 2);
			report_cell(p, REPORT_COUNT, ceil(x[i].rel / 1.25));
			report_row_close(p);
		}
		report_table_close(p);
	}
	free(x);
}

void report_prune(struct report_page *p)
{
	static const struct report_figure f = { "prune", "Lines: share of picks, gate weight and "
		"tokens that are touched as the coldest experts are removed", REPORT_PLOT_LINES, prune_draw,
		prune_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_PRUNE];
	size_t mid = t->n_row;
	struct buf finding, caption;

	for (size_t r = 0; r < t->n_row; r++) /* the cut nearest to a quarter */
		if (report_want_pooled(t, r) && (mid == t->n_row ||
		    fabs(report_at(t, r, "memory_saved") - 0.25) <
		    fabs(report_at(t, mid, "memory_saved") - 0.25)))
			mid = r;
	if (mid < t->n_row) {
		buf_init(&finding, 4096);
		buf_init(&caption, 4096);
		buf_printf(&finding, "Without the coldest %s of the experts, %s of the picks would be lost",
			report_num(REPORT_PERCENT, report_at(t, mid, "memory_saved")).s,
			report_num(REPORT_PERCENT, report_at(t, mid, "lost_picks")).s);
		buf_str(&caption, "Removing the least picked experts of every layer. Touched: tokens that "
			"lose at least one pick in some layer. A seldom expert can still be needed by the text "
			"that needs it: this counts picks, not quality.");
		report_sampled(&caption, p->d);
		report_figure(p, &f, &finding, &caption);
		buf_free(&finding);
		buf_free(&caption);
	} else
		report_why(p, t);
	put_replicas(p);
}

/* ---- expert caches ---- */

static const struct { const char *policy, *name, *colour; enum report_dash dash; } policies[] = {
	{ "belady", "best possible (Belady)", "INK", REPORT_DASHED },
	{ "lru", "LRU", "MAIN", REPORT_SOLID },
	{ "lfu", "LFU", "LIMIT", REPORT_SOLID }, { "static", "fixed best", "AXIS", REPORT_SOLID },
};

static void caches_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "experts that the cache holds, %", "hit rate, %", NULL,
		1, 100, 0, 0 };
	const struct view_table *t = &d->table[REPORT_CACHES];
	struct report_lines x;

	(void)arg;
	plot->height = narrow ? 280 : 340;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
		report_line(&x, policies[i].name, policies[i].colour, 2, policies[i].dash, 1);
		for (size_t r = 0; r < t->n_row; r++)
			if (report_want_pooled(t, r) &&
			    !strcmp(report_at_text(t, r, "policy"), policies[i].policy))
				report_point(&x, 100 * report_at(t, r, "slots") / report_at(t, r, "experts"),
					100 * report_at(t, r, "hit_rate"));
	}
	report_line(&x, "even routing", "FAIR", 1, REPORT_DOTTED, 0);
	report_point(&x, 0, 0);
	report_point(&x, 100, 100);
	report_lines_close(&x, &axes);
}

static void caches_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "caches.csv", &p->d->table[REPORT_CACHES]);
	report_view_table(p, &p->d->table[REPORT_CACHES], report_want_pooled, 200);
}

/* The row of a policy whose size is nearest to half of the experts. */
static size_t half_full(const struct view_table *t, const char *policy)
{
	size_t best = t->n_row;
	double gap = INFINITY;

	for (size_t r = 0; r < t->n_row; r++) {
		double x = fabs(report_at(t, r, "slots") / report_at(t, r, "experts") - 0.5);

		if (report_want_pooled(t, r) && !strcmp(report_at_text(t, r, "policy"), policy) && x < gap)
			gap = x, best = r;
	}
	return best;
}

void report_caches(struct report_page *p)
{
	static const struct report_figure f = { "caches", "Lines: hit rate of an expert cache against "
		"its size, by policy, with the best possible and the diagonal of even routing",
		REPORT_PLOT_LINES, caches_draw, caches_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_CACHES];
	size_t lru = half_full(t, "lru"), best = half_full(t, "belady");
	struct buf finding, caption;

	if (lru == t->n_row || best == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "A cache with %s of the experts would hit %s of the time with LRU; no "
		"policy can do better than %s", report_num(REPORT_PERCENT, report_at(t, lru, "slots") /
		report_at(t, lru, "experts")).s,
		report_num(REPORT_PERCENT, report_at(t, lru, "hit_rate")).s,
		report_num(REPORT_PERCENT, report_at(t, best, "hit_rate")).s);
	buf_printf(&caption, "Tokens one after another, a cache for each layer. Fixed best: the "
		"busiest experts of the run, never exchanged. Even routing would hit with the share that "
		"is held. n = %s accesses.", report_num(REPORT_COUNT, report_at(t, lru, "accesses")).s);
	report_sampled(&caption, p->d);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- cache-aware routing ---- */

static void aware_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "recorded choices that are kept, %", "hit rate, %",
		NULL, 0, 0, 0, 0 };
	const struct view_table *t = &d->table[REPORT_AWARE];
	struct report_lines x;

	(void)arg;
	(void)narrow;
	report_lines_open(&x, plot);
	report_line(&x, "the M best may be taken", "MAIN", 2, REPORT_SOLID, 1);
	for (size_t r = 0; r < t->n_row; r++)
		if (report_want_pooled(t, r))
			report_point(&x, 100 * report_at(t, r, "agreement"), 100 * report_at(t, r, "hit_rate"));
	report_lines_close(&x, &axes);
}

static void aware_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "cache-routing.csv", &p->d->table[REPORT_AWARE]);
	report_view_table(p, &p->d->table[REPORT_AWARE], report_want_pooled, 64);
}

void report_aware(struct report_page *p)
{
	static const struct report_figure f = { "aware", "Line: hit rate of an expert cache against "
		"the share of recorded choices that are kept, as the router may take more of its best "
		"experts", REPORT_PLOT_LINES, aware_draw, aware_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_AWARE];
	size_t plain = t->n_row, best = t->n_row;
	struct buf finding, caption;

	/* as recorded; the most hits that leave nine in ten as they were */
	for (size_t r = 0; r < t->n_row; r++) {
		if (!report_want_pooled(t, r))
			continue;
		if (plain == t->n_row || report_at(t, r, "rank") < report_at(t, plain, "rank"))
			plain = r;
		if (report_at(t, r, "agreement") >= 0.9 &&
		    (best == t->n_row || report_at(t, r, "hit_rate") > report_at(t, best, "hit_rate")))
			best = r;
	}
	if (plain == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	if (best < t->n_row && best != plain)
		buf_printf(&finding, "Preferring experts that a cache holds raises its hits from %s to %s "
			"and keeps %s of the choices",
			report_num(REPORT_PERCENT, report_at(t, plain, "hit_rate")).s,
			report_num(REPORT_PERCENT, report_at(t, best, "hit_rate")).s,
			report_num(REPORT_PERCENT, report_at(t, best, "agreement")).s);
	else
		buf_printf(&finding, "No preference for cached experts keeps nine in ten of the choices; "
			"without one a cache hits %s of the time",
			report_num(REPORT_PERCENT, report_at(t, plain, "hit_rate")).s);
	buf_printf(&caption, "Max-rank routing (arXiv 2412.00099): the best J = %s experts are always "
		"taken, the others of the k from the M best, those in a cache of %s experts a layer first. "
		"Each dot is one M; the first is the routing as recorded. KL, in the table: nats that the "
		"softmax over the taken set is away from that over all experts, beside the recorded set's. "
		"What it does to the text is not measured here. n = %s tokens.",
		report_num(REPORT_COUNT, report_at(t, plain, "keep")).s,
		report_num(REPORT_COUNT, report_at(t, plain, "slots")).s,
		report_num(REPORT_COUNT, report_at(t, plain, "tokens")).s);
	report_sampled(&caption, p->d);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- placement ---- */

static const char *const place_colour[] = { "AXIS", "LIMIT", "MAIN", "INK", "ALARM", "FAIR" };

/* Distinct policies in order of appearance: index of the row that names the nth, or n_row. */
static size_t nth_policy(const struct view_table *t, size_t nth)
{
	size_t n = 0;

	for (size_t r = 0; r < t->n_row; r++) {
		size_t q = 0;

		while (q < r && strcmp(report_at_text(t, q, "policy"), report_at_text(t, r, "policy")))
			q++;
		if (q == r && n++ == nth)
			return r;
	}
	return t->n_row;
}

static void places_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "ranks that share the experts",
		"busiest rank / mean", "set xtics (2, 4, 8, 16, 32, 64)\n", 0, 1.2, 1, 0 };
	const struct view_table *t = &d->table[REPORT_PLACES];
	struct report_lines x;

	(void)arg;
	(void)narrow;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < sizeof place_colour / sizeof *place_colour; i++) {
		size_t at = nth_policy(t, i);

		if (at == t->n_row)
			break;
		if (!strcmp(report_at_text(t, at, "policy"), "eplb-nodes"))
			continue; /* with one node it is eplb */
		report_line(&x, report_at_text(t, at, "policy"), place_colour[i], 2,
			(enum report_dash)(i % 3), 1);
		for (size_t r = 0; r < t->n_row; r++)
			if (report_want_pooled(t, r) &&
			    !strcmp(report_at_text(t, r, "policy"), report_at_text(t, at, "policy")))
				report_point(&x, report_at(t, r, "ranks"), report_at(t, r, "max_mean"));
	}
	report_lines_close(&x, &axes);
}

static void places_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Ranks", NULL, 1 }, { "Policy", NULL, 0 }, { "Busiest / mean", NULL, 1 },
		{ "Balancedness, pooled", NULL, 1 }, { "worst layer", NULL, 1 },
		{ "Ranks per token and layer", NULL, 1 },
	};
	const struct view_table *t = &p->d->table[REPORT_PLACES];

	(void)arg;
	report_csv_link(p, "placement.csv", t);
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t r = 0; r < t->n_row; r++) {
		report_row_open(p, 0);
		report_cell_head(p, (unsigned)report_at(t, r, "ranks"));
		report_cell_text(p, report_at_text(t, r, "policy"));
		report_cell(p, REPORT_TIMES, report_at(t, r, "max_mean"));
		report_cell(p, REPORT_SHARE, report_at(t, r, "balancedness_pooled"));
		report_cell(p, REPORT_SHARE, report_at(t, r, "balancedness_min"));
		report_cell(p, REPORT_SHARE, report_at(t, r, "ranks_per_token"));
		report_row_close(p);
	}
	report_table_close(p);
}

void report_places(struct report_page *p)
{
	static const struct report_figure f = { "placement", "Lines: load of the busiest rank over the "
		"mean against the number of ranks, by placement policy", REPORT_PLOT_LINES, places_draw,
		places_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_PLACES];
	size_t best = t->n_row, worst = t->n_row;
	struct buf finding, caption;
	double most = 0, gap = -1;

	for (unsigned ranks = 2; ranks <= 64; ranks *= 2) { /* where the placement matters most */
		double lo = INFINITY, hi = 0;

		for (size_t r = 0; r < t->n_row; r++)
			if (report_at(t, r, "ranks") == ranks && isfinite(report_at(t, r, "max_mean")))
				lo = fmin(lo, report_at(t, r, "max_mean")),
					hi = fmax(hi, report_at(t, r, "max_mean"));
		if (hi - lo > gap)
			gap = hi - lo, most = ranks;
	}
	for (size_t r = 0; r < t->n_row; r++) {
		if (report_at(t, r, "ranks") != most || isnan(report_at(t, r, "max_mean")))
			continue;
		if (best == t->n_row || report_at(t, r, "max_mean") < report_at(t, best, "max_mean"))
			best = r;
		if (worst == t->n_row || report_at(t, r, "max_mean") > report_at(t, worst, "max_mean"))
			worst = r;
	}
	if (best == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "On %.0f ranks the busiest carries %s the mean with placement “%s”, %s "
		"with “%s”", most, report_num(REPORT_TIMES, report_at(t, best, "max_mean")).s,
		report_at_text(t, best, "policy"),
		report_num(REPORT_TIMES, report_at(t, worst, "max_mean")).s,
		report_at_text(t, worst, "policy"));
	buf_printf(&caption, "Experts of every layer spread over ranks (expert parallelism), without "
		"replicas; 1 is perfect balance, and a layer waits for its busiest rank. The placements "
		"are made from the same tokens that they are judged by. n = %s tokens.",
		report_num(REPORT_COUNT, report_at(t, best, "tokens")).s);
	report_sampled(&caption, p->d);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}
