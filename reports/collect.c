/*
 * collect.c - asks the views everything that a report says; see report.h.
 *
 * Questions that replay single decisions cost far more than sums. On a long run they are asked of a
 * sample that is stated on the page: whole sequences, every n-th, or where there are too few of
 * these the first tokens.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "reports/show.h"
#include "view/whatif.h"

#define SAMPLE_PICKS 800000.0   /* about a second and a half of replaying */
#define MOST_PAIRS 2000000      /* of experts, over all layers, that co-activation counts */
enum { WINDOWS = 40, WORDS = 5, WORD_LAYERS = 8, PAIRS = 5 };
enum { LEAST_SEQUENCES = 8 }; /* of a run, so that its halves say something */

static void step(const struct report_data *d, const char *what)
{
	if (d->opt.step)
		d->opt.step(d->opt.ctx, what);
}

/* ---- a sample of single decisions ---- */

static void sample(const struct view_summary *s, struct load_filter *f)
{
	const struct run_info *u = &s->run;
	double picks = 0, tokens = (double)(u->n_prompt + u->n_generated), times;

	tokens = fmax(tokens, (double)s->tokens);
	for (uint32_t l = 0; l < u->n_moe_layer; l++)
		picks += u->layers[l].k;
	times = tokens * picks / SAMPLE_PICKS;
	if (times <= 1)
		return;
	if ((double)u->n_seq >= 8 * times)
		f->every = (uint64_t)ceil(times);
	else
		f->most = (uint64_t)(tokens / times);
}

/* ---- tables ---- */

/* Rows of src behind those of dst; src is left empty. */
static int append(struct view_table *dst, struct view_table *src, struct moe_err *e)
{
	struct view_cell *p;

	if (!dst->cols) {
		*dst = *src;
		memset(src, 0, sizeof *src);
		return 0;
	}
	p = realloc(dst->cells, (dst->n_row + src->n_row + 1) * dst->n_col * sizeof *p);
	if (!p)
		return err_nomem(e, (dst->n_row + src->n_row) * dst->n_col * sizeof *p, "a table");
	dst->cells = p;
	if (src->n_row)
		memcpy(p + dst->n_row * dst->n_col, src->cells, src->n_row * src->n_col * sizeof *p);
	dst->n_row += src->n_row;
	dst->cap = dst->n_row;
	src->n_row = 0;
	view_table_free(src);
	return 0;
}

static int get_course(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	return view_course(r, f, WINDOWS, out, e);
}

static int get_words(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	return view_words(r, f, WORDS, WORD_LAYERS, out, e);
}

static int get_capacity(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	static const double factor[] = { 1, 1.25, 1.5, 2, 2.5, 3 };
	struct whatif_opt o;

	whatif_opt_init(&o);
	memcpy(o.factor, factor, sizeof factor);
	o.n_factor = sizeof factor / sizeof *factor;
	o.layers = 1;
	return whatif_table(r, f, &o, WHATIF_CAPACITY, out, e);
}

static int get_prune(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct whatif_opt o;

	whatif_opt_init(&o);
	o.layers = 1;
	return whatif_table(r, f, &o, WHATIF_PRUNE, out, e);
}

static int get_caches(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct whatif_opt o;

	whatif_opt_init(&o);
	return whatif_table(r, f, &o, WHATIF_CACHE, out, e);
}

static int get_aware(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct whatif_opt o;

	whatif_opt_init(&o);
	return whatif_table(r, f, &o, WHATIF_AWARE, out, e);
}

/* One table per degree of expert parallelism; a degree that does not suit the model is left out. */
static int get_places(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	unsigned experts = 0;
	int bad = !u ? err_nomem(e, sizeof *u, "a run") : reader_run(r, f->run, u, e);

	memset(out, 0, sizeof *out);
	for (uint32_t l = 0; !bad && l < u->n_moe_layer; l++)
		experts = !l || u->layers[l].n_expert < experts ? u->layers[l].n_expert : experts;
	free(u);
	for (unsigned ranks = 2; !bad && ranks <= 64 && (ranks <= experts || ranks == 2); ranks *= 2) {
		struct view_table t = { 0 };
		struct whatif_opt o;

		whatif_opt_init(&o);
		o.ranks = ranks;
		if (!whatif_table(r, f, &o, WHATIF_PLACE, &t, e)) {
			bad = append(out, &t, e);
			view_table_free(&t);
		} else {
			bad = e->code != MOE_ERR_USAGE;
		}
	}
	if (bad)
		view_table_free(out);
	return bad ? -1 : 0;
}

/* How much more often a pair is picked together than its experts' own rates would give. */
static double lift(const struct view_layers *l, const struct view_table *t, size_t row)
{
	const struct view_cell *c = t->cells + row * t->n_col;
	double given = NAN;
	int64_t layer = -1, j = -1;

	for (size_t i = 0; i < t->n_col; i++)
		if (!strcmp(t->cols[i].key, "layer"))
			layer = c[i].i;
		else if (!strcmp(t->cols[i].key, "j"))
			j = c[i].i;
		else if (!strcmp(t->cols[i].key, "p_j_given_i") && c[i].set)
			given = c[i].r;
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *v = &l->layer[i];

		if (v->layer == layer && j >= 0 && j < v->n_expert && v->tokens && v->counts[j])
			return given / ((double)v->counts[j] / (double)v->tokens);
	}
	return 0;
}

/* Of each layer the PAIRS pairs that stand out most. */
static void keep_pairs(const struct view_layers *l, struct view_table *t)
{
	size_t at = 0, key = 0, count = 0, kept = 0;

	for (size_t i = 0; i < t->n_col; i++) {
		if (!strcmp(t->cols[i].key, "layer"))
			key = i;
		if (!strcmp(t->cols[i].key, "count"))
			count = i;
	}
	while (at < t->n_row) {
		size_t end = at, n = 0, best[PAIRS];
		double top[PAIRS];

		while (end < t->n_row && t->cells[end * t->n_col + key].i ==
		    t->cells[at * t->n_col + key].i)
			end++;
		for (size_t r = at; r < end; r++) {
			double x = t->cells[r * t->n_col + count].i >= 20 ? lift(l, t, r) : 0;
			size_t k;

			if (!(x > 0) || (n == PAIRS && x <= top[n - 1]))
				continue;
			k = n < PAIRS ? n++ : n - 1;
			for (; k > 0 && top[k - 1] < x; k--)
				top[k] = top[k - 1], best[k] = best[k - 1];
			top[k] = x, best[k] = r;
		}
		for (size_t k = 1; k < n; k++) /* back in the table's order, so that rows can move up */
			for (size_t i = k; i > 0 && best[i - 1] > best[i]; i--) {
				size_t x = best[i];

				best[i] = best[i - 1], best[i - 1] = x;
			}
		for (size_t k = 0; k < n; k++, kept++)
			if (kept != best[k])
				for (size_t i = 0; i < t->n_col; i++) {
					struct view_cell x = t->cells[kept * t->n_col + i];

					t->cells[kept * t->n_col + i] = t->cells[best[k] * t->n_col + i];
					t->cells[best[k] * t->n_col + i] = x;
				}
		at = end;
	}
	for (size_t i = kept * t->n_col; i < t->n_row * t->n_col; i++) {
		free(t->cells[i].s);
		t->cells[i].s = NULL;
	}
	t->n_row = kept;
}

/* The tables by enum report_table. sampled: replays decisions. */
static const struct {
	const char *key, *what;
	int (*get)(struct reader *, const struct load_filter *, struct view_table *, struct moe_err *);
	int sampled;
} tables[REPORT_N_TABLE] = {
	[REPORT_COURSE] = { "over_time", "balance over time", get_course, 0 },
	[REPORT_CAPACITY] = { "capacity", "capacity limits", get_capacity, 1 },
	[REPORT_LOCALITY] = { "locality", "locality", view_stat_locality, 0 },
	[REPORT_COACTIVATION] = { "coactivation", "co-activation", view_stat_coactivation, 1 },
	[REPORT_CROSS] = { "cross_layer", "flow from layer to layer", view_stat_cross, 1 },
	[REPORT_VOCABULARY] = { "vocabulary", "vocabulary", view_stat_vocabulary, 1 },
	[REPORT_WORDS] = { "words", "tokens of each expert", get_words, 1 },
	[REPORT_SPREAD] = { "margins", "margins", view_spread, 1 },
	[REPORT_PRUNE] = { "prune", "pruning", get_prune, 1 },
	[REPORT_CACHES] = { "caches", "expert caches", get_caches, 1 },
	[REPORT_AWARE] = { "cache_routing", "cache-aware routing", get_aware, 1 },
	[REPORT_PLACES] = { "placement", "placement", get_places, 1 },
	[REPORT_PACE] = { "pace", "times of sequences", view_pace, 0 },
	[REPORT_ENERGY] = { "energy", "energy", view_stat_energy, 0 },
	[REPORT_SETTINGS] = { "settings", "settings", view_stat_settings, 0 },
	[REPORT_CACHE_USE] = { "cache", "expert cache", view_stat_cache, 0 },
};

const char *report_table_key(enum report_table t)
{
	return tables[t].key;
}

static double n_pairs(const struct run_info *u)
{
	double pairs = 0;

	for (uint32_t l = 0; l < u->n_moe_layer; l++)
		pairs += (double)u->layers[l].n_expert * u->layers[l].n_expert;
	return pairs;
}

/* One table of a run; sampled as f says where it replays decisions. */
static int collect_table(struct reader *r, const struct view_summary *s, int i,
	const struct load_filter *f, struct view_table *out, struct moe_err *e)
{
	double pairs = n_pairs(&s->run);

	if (i == REPORT_COACTIVATION && pairs > MOST_PAIRS) {
		snprintf(out->why, sizeof out->why, "%.1f million pairs of experts are too many for a "
			"page; `stat --coactivation` lists them", pairs / 1e6);
		return 0;
	}
	return tables[i].get(r, f, out, e) ? err_wrap(e, "%s", tables[i].what) : 0;
}

static int collect_tables(struct reader *r, struct report_data *d, const struct load_filter *f,
	struct moe_err *e)
{
	struct load_filter some = *f;

	sample(&d->sum, &some);
	d->every = some.every, d->most = some.most;
	for (int i = 0; i < REPORT_N_TABLE; i++) {
		step(d, tables[i].what);
		if (collect_table(r, &d->sum, i, tables[i].sampled ? &some : f, &d->table[i], e))
			return -1;
		if (i == REPORT_COACTIVATION)
			keep_pairs(&d->layers, &d->table[i]);
	}
	return 0;
}

/* Tables that only the JSON form prints. */
static int collect_json(struct reader *r, struct report_data *d, const struct load_filter *f,
	struct moe_err *e)
{
	step(d, "tables");
	return view_runs(r, &d->runs, e) || view_stat(r, f, &d->stat, e) ||
		view_stat_domain(r, f, &d->by_domain, e) ||
		view_alarms_table(&d->alarms, &d->alarm_table, e) ||
		view_stat_specialisation(r, f, &d->by_layer_spec, e) ? -1 : 0;
}

/* Rows of t whose layer, i and j are those of a row of `wanted`. */
static void keep_same_pairs(const struct view_table *wanted, struct view_table *t)
{
	size_t col[3] = { 0, 0, 0 }, kept = 0;
	static const char *const key[] = { "layer", "i", "j" };

	if (!t->cols || !wanted->cols)
		return;
	for (size_t i = 0; i < t->n_col; i++)
		for (int k = 0; k < 3; k++)
			if (!strcmp(t->cols[i].key, key[k]))
				col[k] = i;
	for (size_t r = 0; r < t->n_row; r++) {
		const struct view_cell *c = t->cells + r * t->n_col;
		int found = 0;

		for (size_t w = 0; w < wanted->n_row && !found; w++) {
			const struct view_cell *x = wanted->cells + w * wanted->n_col;

			found = x[col[0]].i == c[col[0]].i && x[col[1]].i == c[col[1]].i &&
				x[col[2]].i == c[col[2]].i;
		}
		for (size_t i = 0; found && kept != r && i < t->n_col; i++) {
			struct view_cell x = t->cells[kept * t->n_col + i];

			t->cells[kept * t->n_col + i] = t->cells[r * t->n_col + i];
			t->cells[r * t->n_col + i] = x;
		}
		kept += (size_t)found;
	}
	for (size_t i = kept * t->n_col; i < t->n_row * t->n_col; i++) {
		free(t->cells[i].s);
		t->cells[i].s = NULL;
	}
	t->n_row = kept;
}

/* Every table again on one half of a run's sequences: how much does it vary by itself?
 * (beside.c) */
static int collect_half(struct reader *r, const struct report_data *d, const struct view_summary *s,
	const struct load_filter *f, int half, struct view_table *out, struct moe_err *e)
{
	struct load_filter some = *f;

	sample(s, &some);
	some.half = half;
	some.most = (some.most + 1) / 2;
	for (int i = 0; i < REPORT_N_TABLE; i++) {
		struct load_filter all = *f;

		all.half = half;
		if (!report_beside_halves((enum report_table)i))
			continue;
		if (collect_table(r, s, i, tables[i].sampled ? &some : &all, &out[i], e))
			return -1;
		if (i == REPORT_COACTIVATION)
			keep_same_pairs(&d->table[i], &out[i]);
	}
	return 0;
}

/* The other run's side of the sections; the same sample rule as for this run. */
static int collect_beside(struct reader *o, const struct load_filter *g, struct reader *r,
	const struct load_filter *f, struct report_data *d, struct moe_err *e)
{
	struct report_base *b = &d->base;
	struct load_filter some = *g, phase = *g;

	sample(&b->sum, &some);
	for (int i = 0; i < REPORT_N_TABLE; i++) {
		if (collect_table(o, &b->sum, i, tables[i].sampled ? &some : g, &b->table_of[i], e))
			return -1;
		if (i == REPORT_COACTIVATION)
			keep_same_pairs(&d->table[i], &b->table_of[i]);
	}
	for (phase.phase = 0; phase.phase < 2; phase.phase++)
		if (view_layers(o, &phase, &b->phase[phase.phase], e))
			return -1;
	if (reader_domains(o, g->run, &b->domain, &b->n_domain, e) ||
	    view_specialisation(o, g, 0, 0, REPORT_SEED, &b->spec, e))
		return -1;
	if (b->sum.run.n_seq < LEAST_SEQUENCES || d->sum.run.n_seq < LEAST_SEQUENCES)
		return 0;
	step(d, "noise between the runs");
	for (int h = 0; h < 2; h++)
		if (collect_half(o, d, &b->sum, g, h + 1, b->half[0][h], e) ||
		    collect_half(r, d, &d->sum, f, h + 1, b->half[1][h], e))
			return -1;
	b->tested = 1;
	return 0;
}

/* The other run's side; figures that need both are the diff's. */
static int collect_base(struct reader *r, struct report_data *d, const struct load_filter *f,
	struct moe_err *e)
{
	struct load_filter g = { .run = d->opt.base_run, .domain = -1, .phase = -1 };
	struct report_base *b = &d->base;
	struct view_alarms a = { 0 };
	struct reader *o = d->opt.base;
	struct run_info *u;
	int bad;

	if (!o)
		return 0;
	step(d, "baseline");
	u = malloc(sizeof *u);
	if (!u)
		return err_nomem(e, sizeof *u, "a run");
	bad = reader_run(o, g.run, u, e);
	g.run = bad ? 0 : u->id;
	free(u);
	if (!bad)
		bad = view_summary(o, &g, &b->sum, e) || view_layers(o, &g, &b->layers, e) ||
			view_alarms(o, &g, &a, e) || view_stat_settings(o, &g, &b->settings, e) ||
			view_stat(o, &g, &b->stat, e) || collect_beside(o, &g, r, f, d, e);
	if (!bad && view_diff(o, &g, r, f, 0.01, &b->diff, e)) {
		bad = e->code == MOE_ERR_SYS;
		memset(&b->diff, 0, sizeof b->diff);
		snprintf(b->diff.why, sizeof b->diff.why, "%.300s", e->msg); /* runs of different shapes */
	} else if (!bad)
		bad = view_diff_table(&b->diff, &b->table, e);
	b->n_alarm = a.n;
	view_alarms_free(&a);
	b->on = !bad;
	return bad ? err_wrap(e, "the baseline") : 0;
}

int report_collect(struct reader *r, const struct report_opt *o, struct report_data *d,
	struct moe_err *e)
{
	struct load_filter f = { .run = o->run, .domain = -1, .phase = -1 };
	struct run_info run;

	memset(d, 0, sizeof *d);
	d->opt = *o;
	step(d, "run");
	if (reader_run(r, o->run, &run, e))
		return -1;
	f.run = run.id;
	step(d, "load");
	if (view_summary(r, &f, &d->sum, e) || view_layers(r, &f, &d->layers, e) ||
	    view_alarms(r, &f, &d->alarms, e) ||
	    reader_domains(r, f.run, &d->domain, &d->n_domain, e) ||
	    view_stat_expert(r, &f, &d->experts, e) || collect_tables(r, d, &f, e) ||
	    collect_base(r, d, &f, e))
		goto bad;
	if (o->format == REPORT_JSON) {
		if (collect_json(r, d, &f, e))
			goto bad;
		return 0;
	}
	for (int p = 0; p < 2; p++) {
		struct load_filter g = f;

		g.phase = p;
		if (view_layers(r, &g, &d->phase[p], e))
			goto bad;
	}
	step(d, "specialisation");
	if (view_specialisation(r, &f, 0, 0, REPORT_SEED, &d->spec, e))
		goto bad;
	return 0;
bad:
	report_data_free(d);
	return -1;
}

void report_data_free(struct report_data *d)
{
	view_layers_free(&d->layers);
	view_layers_free(&d->phase[0]);
	view_layers_free(&d->phase[1]);
	view_alarms_free(&d->alarms);
	view_spec_free(&d->spec);
	free(d->domain);
	view_table_free(&d->experts);
	view_table_free(&d->runs);
	view_table_free(&d->stat);
	view_table_free(&d->by_domain);
	view_table_free(&d->by_layer_spec);
	view_table_free(&d->alarm_table);
	for (int i = 0; i < REPORT_N_TABLE; i++)
		view_table_free(&d->table[i]);
	for (int i = 0; i < REPORT_N_TABLE; i++) {
		view_table_free(&d->base.table_of[i]);
		for (int h = 0; h < 4; h++)
			view_table_free(&d->base.half[h / 2][h % 2][i]);
	}
	view_layers_free(&d->base.phase[0]);
	view_layers_free(&d->base.phase[1]);
	view_spec_free(&d->base.spec);
	free(d->base.domain);
	view_layers_free(&d->base.layers);
	view_table_free(&d->base.settings);
	view_table_free(&d->base.stat);
	view_table_free(&d->base.table);
	view_diff_free(&d->base.diff);
	memset(d, 0, sizeof *d);
}
