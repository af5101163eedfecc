/*
 * whatif.c - screen 7: what would a change do? Three sliders over curves that were computed before:
 * a key moves along a curve, it computes nothing. Before and after stand side by side.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/panel.h"
#include "view/table.h"

/* Sliders; in mem: which one is chosen, then the place on each, + 1 so that 0 is "not touched". */
enum { CAPACITY, CACHE, PLACE, N_SLIDER };
enum { CHOSEN, AT };

static const char *const drop_name[] = { "first come", "largest weight", "next best" };
static const char *const cache_name[] = { "LRU", "LFU", "LFU aged", "hottest kept",
	"Belady (best)" };
static const char *const place_name[] = { "round robin", "contiguous", "greedy", "EPLB",
	"EPLB nodes", "co-active" };
#define N_OF(a) (sizeof(a) / sizeof *(a))

/* Distinct values of the pooled rows, in order. */
static size_t factors(const struct tui_whatif *w, double *out)
{
	size_t n = 0;

	for (size_t i = 0; i < w->drops.n; i++) {
		const struct whatif_drop *d = &w->drops.row[i];
		size_t j = 0;

		while (j < n && out[j] != d->factor)
			j++;
		if (d->layer < 0 && j == n && n < WHATIF_LIST)
			out[n++] = d->factor;
	}
	return n;
}

static size_t sizes(const struct tui_whatif *w, size_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < w->hits.n; i++) {
		const struct whatif_hit *h = &w->hits.row[i];
		size_t j = 0;

		while (j < n && out[j] != h->slots)
			j++;
		if (h->layer < 0 && j == n && n < WHATIF_LIST)
			out[n++] = h->slots;
	}
	return n;
}

static const struct whatif_drop *drop_at(const struct tui_whatif *w, double factor, size_t policy)
{
	for (size_t i = 0; i < w->drops.n; i++)
		if (w->drops.row[i].layer < 0 && w->drops.row[i].factor == factor &&
		    (size_t)w->drops.row[i].policy == policy)
			return &w->drops.row[i];
	return NULL;
}

static const struct whatif_hit *hit_with(const struct tui_whatif *w, size_t slots, size_t policy)
{
	for (size_t i = 0; i < w->hits.n; i++)
		if (w->hits.row[i].layer < 0 && w->hits.row[i].slots == slots &&
		    (size_t)w->hits.row[i].policy == policy)
			return &w->hits.row[i];
	return NULL;
}

static const struct whatif_place *place_with(const struct tui_whatif *w, size_t degree,
	size_t policy)
{
	for (size_t i = 0; degree < w->n_degree && i < w->places[degree].n; i++)
		if (w->places[degree].row[i].layer < 0 &&
		    (size_t)w->places[degree].row[i].policy == policy)
			return &w->places[degree].row[i];
	return NULL;
}

/* Steps of a slider, and where it stands when it was not touched. */
struct range { size_t n, start; };

static struct range range_of(const struct tui_whatif *w, int slider)
{
	double f[WHATIF_LIST];
	size_t s[WHATIF_LIST];
	struct range r = { 0, 0 };

	if (slider == CAPACITY) {
		r.n = factors(w, f);
		while (r.start + 1 < r.n && f[r.start] < 1.25)
			r.start++;
	} else if (slider == CACHE) {
		r.n = sizes(w, s);
		r.start = r.n / 2;
	} else {
		r.n = w->n_degree;
		r.start = r.n > 2 ? 2 : 0;
	}
	return r;
}

static size_t stand(const struct range *r, int mem)
{
	size_t at = mem ? (size_t)mem - 1 : r->start;

	return at < r->n ? at : r->n ? r->n - 1 : 0;
}

static void draw_slider(struct tui_ctx *c, struct tui_rect r, const char *name, const char *value,
	const struct range *range, size_t at, int chosen)
{
	int x = r.x, w = (int)range->n * 2 - 1;

	tui_put(c->g, x, r.y, chosen ? TUI_KEY : TUI_TEXT, chosen ? '>' : ' ');
	x += 2 + tui_textf(c->g, x + 2, r.y, 30, chosen ? TUI_STRONG : TUI_TEXT, "%-27s", name);
	tui_put(c->g, x++, r.y, TUI_DIM, '[');
	for (int i = 0; i < w && x + i < r.x + r.w; i++)
		tui_put(c->g, x + i, r.y, (size_t)i == at * 2 ? TUI_CURSOR : TUI_DIM,
			(size_t)i == at * 2 ? 0x25cf : 0x2500);
	tui_put(c->g, x + w, r.y, TUI_DIM, ']');
	tui_text(c->g, x + w + 2, r.y, r.x + r.w - x - w - 2, TUI_STRONG, value);
}

/* A line of a small table: name, before, after, and after in the baseline ("" = none). Returns
 * where more text may begin. */
static int line(struct tui_grid *g, struct tui_rect r, int y, enum tui_style st, const char *name,
	const char *before, const char *after, const char *base)
{
	if (y >= r.h)
		return r.x + r.w;
	tui_text(g, r.x + 4, r.y + y, 24, st == TUI_TITLE ? TUI_DIM : TUI_TEXT, name);
	tui_right(g, r.x + 28, r.y + y, 13, TUI_DIM, before);
	tui_right(g, r.x + 42, r.y + y, r.w - 42 > 10 ? 10 : r.w - 42, st, after);
	if (!*base)
		return r.x + 56;
	tui_right(g, r.x + 53, r.y + y, r.w - 53 > 10 ? 10 : r.w - 53, TUI_DIM, base);
	return r.x + 67;
}

/* What else there is to say, if it fits whole. */
static void more(struct tui_grid *g, struct tui_rect r, int x, int y, const char *text)
{
	if (y < r.h && x + tui_columns(g, text) <= r.x + r.w)
		tui_text(g, x, r.y + y, r.x + r.w - x, TUI_DIM, text);
}

static int draw_capacity(struct tui_ctx *c, struct tui_rect r, const struct tui_whatif *w,
	const struct tui_whatif *base, int *mem)
{
	struct range k = range_of(w, CAPACITY);
	double f[WHATIF_LIST];
	size_t at = stand(&k, mem[AT + CAPACITY]);
	char value[48], t[TUI_FMT], u[TUI_FMT], note[96];
	int y = 1, x;

	factors(w, f);
	snprintf(value, sizeof value, "%.2f\xc3\x97 the fair share", k.n ? f[at] : NAN);
	draw_slider(c, (struct tui_rect){ r.x, r.y, r.w, 1 }, "capacity of an expert", k.n ? value :
		w->drops.why, &k, at, mem[CHOSEN] == CAPACITY);
	if (!k.n)
		return 1;
	snprintf(note, sizeof note, "picks dropped, batch %u", w->drops.batch);
	line(c->g, r, y++, TUI_TITLE, note, "as logged", "then", base ? "baseline" : "");
	for (size_t p = 0; p < N_OF(drop_name) && y < r.h; p++) {
		const struct whatif_drop *d = drop_at(w, f[at], p);
		const struct whatif_drop *b = base ? drop_at(base, f[at], p) : NULL;
		double share = d && d->picks ? (double)d->dropped / (double)d->picks : NAN;

		if (!d || isnan(share))
			continue;
		x = line(c->g, r, y, share > .05 ? TUI_ABOVE : TUI_STRONG, drop_name[p], "0 %",
			tui_fmt_percent(t, sizeof t, share), !base ? "" : tui_fmt_percent(u, sizeof u,
			b && b->picks ? (double)b->dropped / (double)b->picks : NAN));
		snprintf(note, sizeof note, "%s of gate weight; worst L%d: %s",
			tui_fmt_percent(t, sizeof t, d->lost_weight), d->worst,
			tui_fmt_percent(u, sizeof u, d->worst_share));
		more(c->g, r, x, y++, note);
	}
	return y;
}

static int draw_cache(struct tui_ctx *c, struct tui_rect r, const struct tui_whatif *w,
	const struct tui_whatif *base, int *mem)
{
	struct range k = range_of(w, CACHE);
	size_t s[WHATIF_LIST], at = stand(&k, mem[AT + CACHE]);
	const struct whatif_hit *h, *b;
	char value[64], t[TUI_FMT], u[TUI_FMT], note[64];
	int y = 1, x;

	sizes(w, s);
	h = k.n ? hit_with(w, s[at], 0) : NULL;
	snprintf(value, sizeof value, "%zu of %zu experts", h ? h->slots : 0, h ? h->experts : 0);
	if (h && isfinite(h->budget_bytes))
		snprintf(value + strlen(value), sizeof value - strlen(value), ", %.1f MiB",
			h->budget_bytes / 1048576);
	draw_slider(c, (struct tui_rect){ r.x, r.y, r.w, 1 }, "expert cache, all layers", h ? value :
		w->hits.why, &k, at, mem[CHOSEN] == CACHE);
	if (!h)
		return 1;
	line(c->g, r, y++, TUI_TITLE, "found in the cache", "all held", "then", base ? "baseline" : "");
	for (size_t p = 0; p < N_OF(cache_name) && y < r.h; p++) {
		h = hit_with(w, s[at], p);
		if (!h || !h->accesses)
			continue;
		b = base ? hit_with(base, s[at], p) : NULL;
		x = line(c->g, r, y, TUI_STRONG, cache_name[p], "100 %", tui_fmt_percent(t, sizeof t,
			(double)h->hits / (double)h->accesses), !base ? "" : tui_fmt_percent(u, sizeof u,
			b && b->accesses ? (double)b->hits / (double)b->accesses : NAN));
		snprintf(note, sizeof note, "%.2f MiB loaded a token", h->bytes_per_token / 1048576);
		if (isfinite(h->bytes_per_token))
			more(c->g, r, x, y, note);
		y++;
	}
	return y;
}

static int draw_place(struct tui_ctx *c, struct tui_rect r, const struct tui_whatif *w,
	const struct tui_whatif *other, int *mem)
{
	struct range steps = range_of(w, PLACE);
	size_t at = stand(&steps, mem[AT + PLACE]);
	const struct whatif_place *base = place_with(w, at, SIM_CONTIGUOUS);
	char value[48], before[TUI_FMT], t[TUI_FMT], u[TUI_FMT], note[64];
	int y = 1, x;

	snprintf(value, sizeof value, "%zu devices", steps.n ? w->ranks[at] : 0);
	draw_slider(c, (struct tui_rect){ r.x, r.y, r.w, 1 }, "experts spread over", steps.n ? value :
		"no number of devices divides the experts", &steps, at, mem[CHOSEN] == PLACE);
	if (!steps.n)
		return 1;
	if (!w->places[at].n) {
		tui_text(c->g, r.x + 4, r.y + 1, r.w - 4, TUI_DIM, w->places[at].why);
		return 2;
	}
	line(c->g, r, y++, TUI_TITLE, "busiest device / mean", "contiguous", "then",
		other ? "baseline" : "");
	snprintf(before, sizeof before, "%.2f\xc3\x97", base ? base->max_mean : NAN);
	for (size_t p = 0; p < N_OF(place_name) && y < r.h; p++) {
		const struct whatif_place *k = place_with(w, at, p);
		const struct whatif_place *b = other ? place_with(other, at, p) : NULL;

		if (!k || isnan(k->max_mean) || p == SIM_CONTIGUOUS)
			continue;
		snprintf(t, sizeof t, "%.2f\xc3\x97", k->max_mean);
		snprintf(u, sizeof u, b && !isnan(b->max_mean) ? "%.2f\xc3\x97" : "\xe2\x80\x93",
			b ? b->max_mean : NAN);
		x = line(c->g, r, y, k->max_mean > 1.15 ? TUI_ABOVE : TUI_STRONG, place_name[p],
			base ? before : "", t, other ? u : "");
		snprintf(note, sizeof note, "a token visits %.1f devices a layer", k->ranks_per_token);
		if (isfinite(k->ranks_per_token))
			more(c->g, r, x, y, note);
		y++;
	}
	return y;
}

static const struct tui_whatif *curves(struct tui_ctx *c, const struct tui_snap **s)
{
	*s = tui_part(c, TUI_WHATIF, 0);
	return *s && !(*s)->error[0] ? &(*s)->u.whatif : NULL;
}

/* What the curves are made from, where that is not everything, and why there is no baseline;
 * lines used. */
static int draw_sample(struct tui_ctx *c, struct tui_rect r, const struct tui_snap *s)
{
	const struct tui_whatif *w = &s->u.whatif;
	char some[TUI_FMT], all[TUI_FMT];
	int n = 0;

	if (w->tokens < w->n_all)
		tui_textf(c->g, r.x, r.y + n++, r.w, TUI_WARN, "A sample: %s of %s tokens, whole requests "
			"from all of the run%s", tui_fmt_count(some, sizeof some, w->tokens), tui_fmt_count(all,
			sizeof all, w->n_all), s->more ? "; reading a larger one \xe2\x80\xa6" : ".");
	if (s->base_why[0])
		tui_textf(c->g, r.x, r.y + n++, r.w, TUI_WARN, "no baseline: %s", s->base_why);
	return n;
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	static int (*const part[N_SLIDER])(struct tui_ctx *, struct tui_rect, const struct tui_whatif *,
		const struct tui_whatif *, int *) = { draw_capacity, draw_cache, draw_place };
	const struct tui_snap *s;
	const struct tui_whatif *w = curves(c, &s);
	struct tui_rect in = { r.x + 1, r.y, r.w - 2, r.h };
	int air = r.h >= 24, n;

	if (!w) {
		tui_say(c->g, r, TUI_DIM, s ? s->error : "replaying the logged decisions with other "
			"capacities, caches and placements; on a large run this takes a while \xe2\x80\xa6");
		return;
	}
	n = draw_sample(c, (struct tui_rect){ in.x, in.y, in.w, in.h }, s);
	in.y += n;
	in.h -= n;
	for (int i = 0; i < N_SLIDER && in.h > 0; i++) {
		/* leave at least two lines for each that follows */
		int left = (N_SLIDER - 1 - i) * 2;
		struct tui_rect one = { in.x, in.y, in.w, in.h - left > 1 ? in.h - left : 1 };

		n = part[i](c, one, w, s->with_base ? &s->base.whatif : NULL, mem) + air;
		in.y += n;
		in.h -= n;
	}
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	const struct tui_snap *s;
	const struct tui_whatif *w = curves(c, &s);
	struct range r;
	size_t at, chosen = (size_t)mem[CHOSEN];
	int done;

	if (!w)
		return 0;
	r = range_of(w, mem[CHOSEN]);
	at = stand(&r, mem[AT + mem[CHOSEN]]);
	done = tui_move(k, &at, r.n, &chosen, N_SLIDER, 1);
	if (done && (int)chosen == mem[CHOSEN])
		mem[AT + mem[CHOSEN]] = (int)at + 1;
	mem[CHOSEN] = (int)chosen;
	return done;
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "question", "", VIEW_TEXT, 0 },
		{ "policy", "", VIEW_TEXT, 0 }, { "setting", "", VIEW_REAL, 2 },
		{ "value", "", VIEW_REAL, 6 } };
	const struct tui_snap *s;
	const struct tui_whatif *w = curves(c, &s);
	struct view_cell *row;

	(void)mem;
	view_table_init(t, cols, N_OF(cols));
	for (size_t i = 0; w && i < w->drops.n; i++) {
		const struct whatif_drop *d = &w->drops.row[i];

		if (d->layer >= 0 || !d->picks)
			continue;
		row = view_table_row(t, e);
		if (!row || view_set_text(row, "capacity factor: share dropped", e) ||
		    view_set_text(row + 1, sim_drop_name(d->policy), e))
			return -1;
		view_set_real(row + 2, d->factor);
		view_set_real(row + 3, (double)d->dropped / (double)d->picks);
	}
	for (size_t i = 0; w && i < w->hits.n; i++) {
		const struct whatif_hit *h = &w->hits.row[i];

		if (h->layer >= 0 || !h->accesses)
			continue;
		row = view_table_row(t, e);
		if (!row || view_set_text(row, "cache slots: hit rate", e) ||
		    view_set_text(row + 1, sim_cache_name(h->policy), e))
			return -1;
		view_set_real(row + 2, (double)h->slots);
		view_set_real(row + 3, (double)h->hits / (double)h->accesses);
	}
	for (size_t d = 0; w && d < w->n_degree; d++)
		for (size_t i = 0; i < w->places[d].n; i++) {
			const struct whatif_place *p = &w->places[d].row[i];

			if (p->layer >= 0)
				continue;
			row = view_table_row(t, e);
			if (!row || view_set_text(row, "devices: busiest / mean", e) ||
			    view_set_text(row + 1, sim_place_name(p->policy), e))
				return -1;
			view_set_real(row + 2, (double)w->ranks[d]);
			view_set_real(row + 3, p->max_mean);
		}
	return 0;
}

const struct tui_panel tui_panel_whatif = {
	.name = "What-if",
	.question = "What would a change do?",
	.min_w = 62, .min_h = 14,
	.applies = TUI_BY_DOMAIN | TUI_BY_PHASE,
	.instead = "the whole run is replayed",
	.hints = { { "\xe2\x86\x91\xe2\x86\x93", "choose" }, { "\xe2\x86\x90\xe2\x86\x92", "change" },
		{ 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
