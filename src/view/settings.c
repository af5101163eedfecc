/* settings.c - what a run was made with beyond its model, and what its expert cache did. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))

static const struct view_col setting_cols[] = {
	{ "run", NULL, VIEW_INT, 0 }, { "key", "setting", VIEW_TEXT, 0 },
	{ "value", "value", VIEW_TEXT, 0 },
};

int view_stat_settings(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct setting *s = NULL;
	size_t n = 0;
	int bad = 0;

	view_table_init(out, setting_cols, N_COLS(setting_cols));
	if (reader_settings(r, f->run, &s, &n, e))
		return -1;
	for (size_t i = 0; i < n && !bad; i++) {
		struct view_cell *c = view_table_row(out, e);

		bad = !c || view_set_text(c + 1, s[i].key, e) || view_set_text(c + 2, s[i].value, e);
		if (!bad)
			view_set_int(c, f->run);
	}
	free(s);
	if (bad)
		view_table_free(out);
	else if (!n)
		snprintf(out->why, sizeof out->why, "run %lld has no settings: an engine or a version of "
			"the program that records none", (long long)f->run);
	return bad ? -1 : 0;
}

double view_hit_rate(const struct moe_cache_use *c)
{
	return c->hits + c->misses ? (double)c->hits / (double)(c->hits + c->misses) : NAN;
}

static const struct view_col cache_cols[] = {
	{ "run", NULL, VIEW_INT, 0 }, { "phase", "phase", VIEW_TEXT, 0 },
	{ "tokens", "tokens", VIEW_INT, 0 },
	{ "hits", "hits", VIEW_INT, 0 }, { "misses", "misses", VIEW_INT, 0 },
	{ "hit_rate", "hit rate", VIEW_REAL, 3 }, { "read_bytes", "bytes read", VIEW_INT, 0 },
	{ "bytes_per_token", "bytes/token", VIEW_REAL, 0 }, { "stall_s", "stall s", VIEW_REAL, 2 },
	{ "stall_share", "of the time", VIEW_REAL, 3 },
};

static int cache_row(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct moe_cache_use u;
	struct pace_info p;
	struct view_cell *c;

	if (reader_cache(r, f, &u, e) || reader_pace(r, f, &p, e))
		return -1;
	if (!(u.hits + u.misses))
		return 0;
	c = view_table_row(out, e);
	if (!c || view_set_text(c + 1, f->phase == MOE_DECODE ? "decode" : "prefill", e))
		return -1;
	view_set_int(c, f->run);
	view_set_int(c + 2, (int64_t)p.tokens);
	view_set_int(c + 3, (int64_t)u.hits);
	view_set_int(c + 4, (int64_t)u.misses);
	view_set_real(c + 5, view_hit_rate(&u));
	view_set_int(c + 6, (int64_t)u.bytes);
	view_set_real(c + 7, p.tokens ? (double)u.bytes / (double)p.tokens : NAN);
	view_set_real(c + 8, (double)u.stall_ns * 1e-9);
	view_set_real(c + 9, p.busy_ns ? (double)u.stall_ns / (double)p.busy_ns : NAN);
	return 0;
}

int view_stat_cache(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct load_filter one = *f;

	view_table_init(out, cache_cols, N_COLS(cache_cols));
	for (one.phase = MOE_PREFILL; one.phase <= MOE_DECODE; one.phase++)
		if ((f->phase < 0 || f->phase == one.phase) && cache_row(r, &one, out, e)) {
			view_table_free(out);
			return -1;
		}
	if (!out->n_row)
		snprintf(out->why, sizeof out->why, "run %lld used no expert cache", (long long)f->run);
	return 0;
}
