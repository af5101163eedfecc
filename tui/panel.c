/* panel.c - the table of screens, and what all of them share: head, tabs, last line, keys. */
#include "tui/panel.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"

/* To add a screen: a file in tui/, a declaration and a row here; the order is that of its key. */
extern const struct tui_panel tui_panel_overview, tui_panel_heatmap, tui_panel_layer,
	tui_panel_expert, tui_panel_domains, tui_panel_stream, tui_panel_whatif, tui_panel_alarms;
const struct tui_panel *const tui_panels[] = {
	&tui_panel_overview,
	&tui_panel_heatmap,
	&tui_panel_layer,
	&tui_panel_expert,
	&tui_panel_domains,
	&tui_panel_stream,
	&tui_panel_whatif,
	&tui_panel_alarms,
	NULL,
};

#define SECOND INT64_C(1000000000)
const struct tui_window tui_windows[] = {
	{ "whole run", 0 },
	{ "10 min", 600 * SECOND },
	{ "1 min", 60 * SECOND },
	{ "10 s", 10 * SECOND },
	{ NULL, 0 },
};

static int n_panels(void)
{
	int n = 0;

	while (tui_panels[n])
		n++;
	return n;
}

/* ---- a line of pieces of which the least important give way ---- */

struct piece {
	int rank; /* 0 = always; the highest rank goes first */
	enum tui_style label_style, style;
	char label[32], text[192];
};
struct line {
	struct piece piece[24];
	size_t n;
};

static void add(struct line *l, int rank, enum tui_style style, const char *label, const char *fmt,
	...) __attribute__((format(printf, 5, 6)));
static void add(struct line *l, int rank, enum tui_style style, const char *label, const char *fmt,
	...)
{
	struct piece *p;
	va_list ap;

	if (l->n == sizeof l->piece / sizeof l->piece[0])
		return;
	p = &l->piece[l->n++];
	p->rank = rank;
	p->style = style;
	p->label_style = TUI_DIM;
	snprintf(p->label, sizeof p->label, "%s", label);
	va_start(ap, fmt);
	vsnprintf(p->text, sizeof p->text, fmt, ap);
	va_end(ap);
}

static int piece_columns(const struct tui_grid *g, const struct piece *p)
{
	int a = tui_columns(g, p->label), b = tui_columns(g, p->text);

	return a + b + (a && b);
}

static int line_columns(const struct tui_grid *g, const struct line *l, int gap)
{
	int w = 0;

	for (size_t i = 0; i < l->n; i++)
		w += piece_columns(g, &l->piece[i]) + (i ? gap : 0);
	return w;
}

static void line_fit(const struct tui_grid *g, struct line *l, int w, int gap)
{
	while (line_columns(g, l, gap) > w) {
		size_t worst = 0;

		for (size_t i = 0; i < l->n; i++)
			if (l->piece[i].rank >= l->piece[worst].rank)
				worst = i;
		if (!l->n || !l->piece[worst].rank)
			return;
		memmove(&l->piece[worst], &l->piece[worst + 1],
			(l->n - worst - 1) * sizeof l->piece[0]);
		l->n--;
	}
}

static void line_draw(struct tui_grid *g, int x, int y, int w, const struct line *l, int gap)
{
	int end = x + w;

	for (size_t i = 0; i < l->n; i++) {
		const struct piece *p = &l->piece[i];

		x += tui_text(g, x, y, end - x, p->label_style, p->label);
		x += p->label[0] && p->text[0];
		x += tui_text(g, x, y, end - x, p->style, p->text) + gap;
	}
}

/* ---- head ---- */

static void run_state(struct tui_ctx *c, struct line *l)
{
	const struct run_info *run = &c->d->sum.run;
	int64_t beat = tui_elapsed(c->s->now, run->heartbeat);
	char ago[TUI_FMT], t[TUI_FMT];

	if (!strcmp(run->state, "live")) {
		tui_fmt_ago(ago, sizeof ago, beat);
		if (beat < 10 * SECOND)
			add(l, 0, TUI_GOOD, "", "\xe2\x97\x8f live");
		else
			add(l, 0, TUI_ALARM, "", "\xe2\x96\xb2 stopped without closing, %s ago", ago);
	} else {
		const char *word = !strcmp(run->state, "done") ? "finished" : run->state;

		tui_fmt_ago(ago, sizeof ago, tui_elapsed(c->s->now,
			run->ended ? run->ended : run->heartbeat));
		add(l, 0, strcmp(run->state, "failed") ? TUI_TEXT : TUI_ALARM, "", "%s %s ago", word, ago);
	}
	add(l, 2, TUI_STRONG, "", "%s", tui_fmt_clock(t, sizeof t, c->d->sum.elapsed_s));
}

static void head_run(struct tui_ctx *c, int y, int w)
{
	const struct run_info *run = &c->d->sum.run;
	struct line left = { 0 }, right = { 0 };
	const struct moe_layer_desc *m = run->layers;
	int alike = 1, used;

	if (c->s->paused)
		add(&right, 0, TUI_WARN, "", "\xe2\x80\x96 paused");
	if (c->d->want.until)
		add(&right, 0, TUI_WARN, "", "\xe2\x97\x80 rewound");
	if (c->d->n_runs > 1)
		add(&right, 3, TUI_TEXT, "run", "%lld of %zu", (long long)run->id, c->d->n_runs);
	else
		add(&right, 3, TUI_TEXT, "run", "%lld", (long long)run->id);
	run_state(c, &right);
	line_fit(c->g, &right, w - 2, 2);
	used = line_columns(c->g, &right, 2);
	add(&left, 5, TUI_KEY, "", "moescope");
	add(&left, 1, TUI_STRONG, "", "%s", run->model_name[0] ? run->model_name : "unnamed model");
	for (uint32_t i = 1; i < run->n_moe_layer; i++)
		alike &= m[i].n_expert == m[0].n_expert && m[i].k == m[0].k;
	add(&left, 4, TUI_TEXT, "", "%s", run->arch);
	add(&left, 3, TUI_TEXT, "", "%u MoE layers", (unsigned)run->n_moe_layer);
	if (run->n_moe_layer && alike) {
		add(&left, 3, TUI_TEXT, "", "%u experts", (unsigned)m[0].n_expert);
		add(&left, 3, TUI_TEXT, "", "top-%u", (unsigned)m[0].k);
	}
	add(&left, 6, TUI_TEXT, "", "%s", run->score);
	line_fit(c->g, &left, w - used - 4, 2);
	line_draw(c->g, 1, y, w - used - 3, &left, 2);
	line_draw(c->g, w - used - 1 > 1 ? w - used - 1 : 1, y, w - 2, &right, 2);
}

static const char *domain_name(const struct tui_data *d, int64_t id)
{
	if (id < 0)
		return "all";
	for (size_t i = 0; i < d->n_domain; i++)
		if (d->domain[i].id == id && id)
			return d->domain[i].name;
	return id ? "unknown" : "without a domain";
}

/* "run 2", with the file's name where it is another. */
static void add_baseline(struct tui_ctx *c, struct line *l)
{
	const char *file = c->s->base_path ? strrchr(c->s->base_path, '/') : NULL;

	file = file ? file + 1 : c->s->base_path;
	if (!c->d->base.n)
		add(l, 1, TUI_WARN, "baseline", "none");
	else if (file)
		add(l, 1, TUI_WARN, "baseline", "%.40s run %lld", file, (long long)c->d->base_run);
	else
		add(l, 1, TUI_WARN, "baseline", "run %lld", (long long)c->d->base_run);
}

static void head_figures(struct tui_ctx *c, int y, int w)
{
	const struct view_summary *s = &c->d->sum;
	char t[TUI_FMT], u[TUI_FMT];
	struct line l = { 0 };

	add(&l, 2, TUI_STRONG, "prefill", "%s%s", tui_fmt_rate(t, sizeof t, s->prefill_tps),
		isnan(s->prefill_tps) ? "" : " t/s");
	add(&l, 2, TUI_STRONG, "decode", "%s%s", tui_fmt_rate(t, sizeof t, s->decode_tps),
		isnan(s->decode_tps) ? "" : " t/s");
	add(&l, 1, TUI_STRONG, "tokens", "%s", tui_fmt_count(t, sizeof t, s->tokens));
	add(&l, 5, TUI_STRONG, "decisions", "%s", tui_fmt_count(t, sizeof t, s->decisions));
	if (c->d->request.id)
		add(&l, 1, TUI_WARN, "only request", "%llu%s", (unsigned long long)c->d->request.seq,
			c->d->request.tokens < c->d->request.n_all ? " (its first tokens)" : "");
	else if (s->run.n_seq_open)
		add(&l, 3, TUI_STRONG, "in flight", "%s of %s requests", tui_fmt_count(t, sizeof t,
			s->run.n_seq_open), tui_fmt_count(u, sizeof u, s->run.n_seq));
	else
		add(&l, 5, TUI_STRONG, "requests", "%s", tui_fmt_count(t, sizeof t, s->run.n_seq));
	if (s->cache.hits + s->cache.misses)
		add(&l, 1, TUI_STRONG, "cache hits", "%.1f %%", 100 * view_hit_rate(&s->cache));
	if (s->edited)
		add(&l, 1, TUI_WARN, "changed by a hook", "%s", tui_fmt_count(t, sizeof t, s->edited));
	if (!strcmp(s->run.state, "live"))
		add(&l, 4, s->lag_ms > 2000 ? TUI_WARN : TUI_STRONG, "lag", "%s ms",
			tui_fmt_rate(t, sizeof t, s->lag_ms));
	add(&l, s->run.n_gap ? 1 : 4, s->run.n_gap ? TUI_ALARM : TUI_STRONG, "gaps", "%s",
		tui_fmt_count(t, sizeof t, s->run.n_gap));
	if (!c->d->window_ns && c->d->want.window_ns)
		add(&l, 1, TUI_WARN, "window", "whole run (shorter)");
	else if (c->d->window_ns)
		add(&l, 1, TUI_WARN, "window", c->d->want.until ? "%s" : "last %s",
			tui_fmt_ago(t, sizeof t, c->d->window_ns));
	else
		add(&l, 6, TUI_STRONG, "window", "whole run");
	if (c->d->want.phase)
		add(&l, 1, TUI_WARN, "phase", "%s", c->d->want.phase == 1 ? "prefill" : "decode");
	if (c->d->want.base)
		add_baseline(c, &l);
	add(&l, c->d->want.domain < 0 ? 6 : 1, c->d->want.domain < 0 ? TUI_STRONG : TUI_WARN, "domain",
		"%s", domain_name(c->d, c->d->want.domain));
	line_fit(c->g, &l, w - 2, 2);
	line_draw(c->g, 1, y, w - 2, &l, 2);
}

/* ---- tabs and last line ---- */

static void count_alarms(const struct view_alarms *a, size_t *alarms, size_t *warnings)
{
	*alarms = *warnings = 0;
	for (size_t i = 0; a && i < a->n; i++) {
		*alarms += a->alarm[i].severity == VIEW_ALARM;
		*warnings += a->alarm[i].severity == VIEW_WARNING;
	}
}

static void draw_tabs(struct tui_ctx *c, struct tui_rect r)
{
	size_t alarms, warnings;
	char badge[32] = "";
	int x = r.x + 1, wide = 2, tight = 0;

	count_alarms(c->alarms, &alarms, &warnings);
	if (alarms + warnings)
		snprintf(badge, sizeof badge, "\xe2\x96\xb2%zu", alarms + warnings);
	for (int i = 0; tui_panels[i]; i++)
		wide += (int)strlen(tui_panels[i]->name) + 5;
	wide += tui_columns(c->g, badge) + 1;
	/* closer together, as htop has its keys; if that is not enough, numbers only */
	if (wide > r.w) {
		tight = 1;
		wide -= 3 * n_panels();
	}
	for (int i = 0; tui_panels[i]; i++) {
		int on = i == c->s->screen, x0 = x;
		enum tui_style st = on ? TUI_TAB_ON : TUI_TAB;

		if (on && !tight)
			tui_put(c->g, x, r.y, st, ' ');
		x += !tight;
		x += tui_textf(c->g, x, r.y, 3, on ? st : TUI_KEY, "%d", i + 1);
		if (on || wide <= r.w) {
			if (!tight)
				tui_put(c->g, x++, r.y, st, ' ');
			x += tui_text(c->g, x, r.y, r.x + r.w - x, st, tui_panels[i]->name);
		}
		if (on && !tight)
			tui_put(c->g, x, r.y, st, ' ');
		tui_hit(c, &(struct tui_hit){ { x0, r.y, x - x0 + 1, 1 }, TUI_HIT_SCREEN, (size_t)i, 0, 0,
			0 });
		x += 1;
	}
	if (badge[0])
		tui_hit(c, &(struct tui_hit){ { x + 1, r.y, 6, 1 }, TUI_HIT_SCREEN, TUI_SCREEN_ALARMS, 0, 0,
			0 });
	if (badge[0])
		x += 2 + tui_text(c->g, x + 1, r.y, r.x + r.w - x - 1,
			alarms ? TUI_ALARM : TUI_WARN, badge);
	if (x + 8 < r.x + r.w) {
		tui_text(c->g, r.x + r.w - 7, r.y, 1, TUI_KEY, "?");
		tui_text(c->g, r.x + r.w - 5, r.y, 4, TUI_DIM, "help");
		tui_hit(c, &(struct tui_hit){ { r.x + r.w - 7, r.y, 6, 1 }, TUI_HIT_KEY, '?', 0, 0, 0 });
	}
}

static void hint(struct line *l, int rank, const char *key, const char *what)
{
	add(l, rank, TUI_DIM, key, "%s", what);
	l->piece[l->n - 1].label_style = TUI_KEY;
}

static void draw_foot(struct tui_ctx *c, struct tui_rect r)
{
	const struct tui_panel *p = tui_panels[c->s->screen];
	struct line l = { 0 };

	if (c->s->finding) {
		int n = tui_text(c->g, r.x + 1, r.y, 8, TUI_KEY, "find: ");

		n += tui_text(c->g, r.x + 1 + n, r.y, r.w - 2 - n, TUI_STRONG, c->s->find);
		tui_put(c->g, r.x + 1 + n, r.y, TUI_CURSOR, ' ');
		tui_text(c->g, r.x + 4 + n, r.y, r.w - 5 - n, TUI_DIM,
			"L3, E7, L3 E7, #12 (request), or part of a name; Enter, Esc");
		return;
	}
	if (c->s->note[0]) {
		tui_text(c->g, r.x + 1, r.y, r.w - 2, TUI_STRONG, c->s->note);
		return;
	}
	if (c->d && c->d->base_why[0] && !c->s->message[0]) {
		tui_text(c->g, r.x + 1, r.y, r.w - 2, TUI_WARN, c->d->base_why);
		return;
	}
	if (c->s->message[0] && c->d) {
		tui_text(c->g, r.x + 1, r.y, r.w - 2, TUI_WARN, c->s->message);
		return;
	}
	for (int i = 0; i < 6 && p->hints[i].key && !c->s->timing; i++)
		hint(&l, 2, p->hints[i].key, p->hints[i].what);
	if (c->s->timing) {
		hint(&l, 2, "\xe2\x86\x90\xe2\x86\x92", "rewind");
		hint(&l, 2, "Space", c->s->playing ? "stop" : "play");
		hint(&l, 2, "End", "now");
		hint(&l, 2, "Esc", "leave the timeline");
	}
	hint(&l, 3, "p", c->s->paused ? "resume" : "pause");
	hint(&l, 3, "w", "window");
	hint(&l, 3, "d", "domain");
	hint(&l, 4, "t", "time");
	hint(&l, 4, "/", "find");
	hint(&l, 4, "r", "run");
	hint(&l, 5, "f", "phase");
	hint(&l, 6, "a", c->s->want.sequence ? "all requests" : "one request");
	hint(&l, 5, "b", "baseline");
	hint(&l, 5, "s", "save");
	hint(&l, 1, "?", "help");
	hint(&l, 0, "q", "quit");
	line_fit(c->g, &l, r.w - 2, 3);
	line_draw(c->g, r.x + 1, r.y, r.w - 2, &l, 3);
}

/* ---- the whole screen ---- */

static void clamp_cursors(struct tui_ctx *c)
{
	struct tui_state *s = c->s;
	size_t n = c->d->layers.n;

	s->layer = n ? (s->layer < n ? s->layer : n - 1) : 0;
	n = n ? c->d->layers.layer[s->layer].n_expert : 0;
	s->expert = n ? (s->expert < n ? s->expert : n - 1) : 0;
	if (n && !s->chosen && (s->screen == TUI_SCREEN_LAYER || s->screen == TUI_SCREEN_EXPERT))
		s->expert = c->d->layers.layer[s->layer].top_expert; /* rather than the first by number */
	n = c->alarms ? c->alarms->n : 0;
	s->alarm = n ? (s->alarm < n ? s->alarm : n - 1) : 0;
	n = c->spec ? c->spec->spec.n_domain : 0;
	s->domain = n ? (s->domain < n ? s->domain : n - 1) : 0;
}

static void draw_empty(struct tui_ctx *c, struct tui_rect r)
{
	char text[256];

	if (c->d->want.sequence)
		snprintf(text, sizeof text, "Request %llu has no decisions in this selection. Press n or N "
			"for another, a for all.", (unsigned long long)c->d->request.seq);
	else if (c->d->window_ns || c->d->want.domain >= 0)
		snprintf(text, sizeof text, "No decisions in this selection (domain %s, window %s). "
			"Press d or w for another.", domain_name(c->d, c->d->want.domain),
			tui_windows[c->s->window].name);
	else
		snprintf(text, sizeof text, "Run %lld has no decisions yet.",
			(long long)c->d->sum.run.id);
	tui_say(c->g, r, TUI_DIM, text);
}

/* Which filters are on that this screen does not follow; the line that says so.
 * Returns its height. */
static int draw_ignored(struct tui_ctx *c, struct tui_rect r, const struct tui_panel *p)
{
	const struct tui_want *w = &c->d->want;
	const struct { int on; unsigned bit; const char *name; } filter[] = {
		{ c->d->window_ns || w->until, TUI_BY_WINDOW, "time" },
		{ w->domain >= 0, TUI_BY_DOMAIN, "domain" },
		{ w->phase, TUI_BY_PHASE, "phase" }, { w->sequence != 0, TUI_BY_REQUEST, "request" } };
	char text[64] = "", line[200];
	size_t n = 0;

	for (size_t i = 0; i < sizeof filter / sizeof *filter; i++)
		if (filter[i].on && !(p->applies & filter[i].bit))
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "", filter[i].name);
	if (!n || r.h < 4)
		return 0;
	snprintf(line, sizeof line, "not filtered by %s here: %s", text, p->instead);
	tui_text(c->g, r.x + 1, r.y, r.w - 2, TUI_WARN, line);
	return 1;
}

static void draw_body(struct tui_ctx *c, struct tui_rect r)
{
	const struct tui_panel *p = tui_panels[c->s->screen];
	char text[600];
	int n;

	if (!c->d) {
		snprintf(text, sizeof text, "%s",
			c->s->message[0] ? c->s->message : "reading the database \xe2\x80\xa6");
		tui_say(c->g, r, TUI_TEXT, text);
	} else if (c->g->w < p->min_w || c->g->h < p->min_h) {
		snprintf(text, sizeof text, "needs %d\xc3\x97%d for: %s", p->min_w, p->min_h, p->name);
		tui_say(c->g, r, TUI_WARN, text);
	} else if (!c->d->sum.tokens && !p->empty) {
		draw_empty(c, r);
	} else {
		n = draw_ignored(c, r, p);
		p->draw(c, (struct tui_rect){ r.x, r.y + n, r.w, r.h - n }, c->s->mem[c->s->screen]);
	}
}

void tui_render(struct tui_ctx *c)
{
	struct tui_layout l = tui_layout(c->g->w, c->g->h, c->s->timing);

	tui_grid_clear(c->g);
	c->s->n_hit = 0;
	c->s->asks = 0;
	if (c->d)
		clamp_cursors(c);
	draw_body(c, l.body);
	if (c->d && l.head.h > 0)
		head_run(c, l.head.y, l.head.w);
	if (c->d && l.head.h > 1)
		head_figures(c, l.head.y + 1, l.head.w);
	if (!c->d && l.head.h > 0)
		tui_textf(c->g, 1, 0, l.head.w - 2, TUI_KEY, "moescope top  %s", c->s->path);
	if (l.tabs.h > 0)
		draw_tabs(c, l.tabs);
	if (c->d && l.time.h > 0)
		tui_time_draw(c, l.time);
	if (l.foot.h > 0)
		draw_foot(c, l.foot);
	if (c->s->help)
		tui_help(c);
}

/* ---- keys ---- */

static void next_domain(struct tui_ctx *c, int step)
{
	int64_t *want = &c->s->want.domain;
	int n = (int)c->d->n_domain, at = -1; /* -1 = all */

	for (int i = 0; i < n; i++)
		if (c->d->domain[i].id == *want)
			at = i;
	at += step;
	at = at < -1 ? n - 1 : at >= n ? -1 : at;
	*want = at < 0 ? -1 : c->d->domain[at].id;
	c->s->want.sequence = c->s->sequence = 0;
}

/* Only one request, or all again: the one in the stream, or the newest. */
static void toggle_request(struct tui_ctx *c)
{
	const struct tui_snap *s = c->snap[TUI_STREAM];
	struct tui_state *x = c->s;

	if (x->want.sequence) {
		x->sequence = x->want.sequence > 0 ? x->want.sequence : 0;
		x->want.sequence = 0;
		return;
	}
	if (s && s->key.run == c->d->sum.run.id && x->sequence && !s->error[0])
		x->want.sequence = s->u.stream.sequence;
	x->want.sequence = x->want.sequence ? x->want.sequence : x->sequence ? x->sequence : TUI_NEWEST;
}

/* The next or the previous one; beyond the last is the newest, whichever that becomes. */
static void next_request(struct tui_ctx *c, int step)
{
	const struct view_request *q = &c->d->request;

	if (!c->s->want.sequence)
		toggle_request(c);
	else if (step > 0)
		c->s->want.sequence = q->after ? q->after : TUI_NEWEST;
	else
		c->s->want.sequence = q->before ? q->before : q->id ? q->id : TUI_NEWEST;
}

static void next_run(struct tui_ctx *c, int step)
{
	size_t n = c->d->n_runs, at = 0;

	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		if (c->d->runs[i] == c->d->sum.run.id)
			at = i;
	c->s->want.run = c->d->runs[(at + n + (size_t)step) % n];
	c->s->want.domain = -1;
	c->s->want.sequence = c->s->sequence = 0;
}

static void next_window(struct tui_state *s, int step)
{
	int n = 0;

	while (tui_windows[n].name)
		n++;
	s->window = (s->window + n + step) % n;
	s->want.window_ns = tui_windows[s->window].ns;
}

/* On and off; without a named one, the run before the one that is shown. */
static void toggle_base(struct tui_ctx *c)
{
	struct tui_state *s = c->s;

	if (!s->base && s->base_path)
		s->base = TUI_NEWEST;
	if (!s->base)
		for (size_t i = 0; i < c->d->n_runs && c->d->runs[i] < c->d->sum.run.id; i++)
			s->base = c->d->runs[i];
	if (!s->base) {
		snprintf(s->note, sizeof s->note,
			"no earlier run to compare with; name one: --baseline RUN");
		return;
	}
	s->want.base = s->want.base ? 0 : s->base;
}

/* Keys that change what is read: 1 if it did. */
static int key_selection(struct tui_ctx *c, int key)
{
	struct tui_want old = c->s->want;

	if (key == 'w' || key == 'W' || key == TUI_KEY_F8 || key == TUI_KEY_F7)
		next_window(c->s, key == 'w' || key == TUI_KEY_F8 ? 1 : -1);
	if (key == 'f' || key == 'F')
		c->s->want.phase = (c->s->want.phase + (key == 'f' ? 1 : 2)) % 3;
	if (c->d && (key == 'b' || key == TUI_KEY_F5))
		toggle_base(c);
	if (c->d && key == 'a')
		toggle_request(c);
	if (c->d && (key == 'n' || key == 'N'))
		next_request(c, key == 'n' ? 1 : -1);
	if (c->d && (key == 'd' || key == 'D' || key == TUI_KEY_F4))
		next_domain(c, key == 'D' ? -1 : 1);
	if (c->d && (key == 'r' || key == 'R'))
		next_run(c, key == 'r' ? 1 : -1);
	return !tui_same_want(&old, &c->s->want);
}

/* ---- the search line and the mouse ---- */

static void key_find(struct tui_ctx *c, int key)
{
	struct tui_state *s = c->s;
	size_t n = strlen(s->find);

	if (key == TUI_KEY_ESC) {
		s->finding = 0;
	} else if (key == TUI_KEY_ENTER) {
		s->finding = 0;
		if (!c->d || !tui_find(c))
			snprintf(s->note, sizeof s->note, "not found: %s", s->find);
	} else if (key == TUI_KEY_BACKSPACE) {
		s->find[n ? n - 1 : 0] = 0;
	} else if (key >= ' ' && key < 256 && key != 127 && n + 1 < sizeof s->find) {
		s->find[n] = (char)key;
		s->find[n + 1] = 0;
	}
}

static const struct tui_hit *hit_at(const struct tui_state *s, int x, int y)
{
	for (size_t i = s->n_hit; i-- > 0;) {
		const struct tui_rect *r = &s->hit[i].r;

		if (x >= r->x && x < r->x + r->w && y >= r->y && y < r->y + r->h)
			return &s->hit[i];
	}
	return NULL;
}

/* A click on what is chosen already is Enter. */
static int click(struct tui_ctx *c)
{
	struct tui_state *s = c->s;
	const struct tui_hit *h = hit_at(s, s->mouse_x, s->mouse_y);
	size_t step, a, b, old[4] = { s->layer, s->expert, s->domain, s->alarm };

	if (!h)
		return 0;
	step = h->cell > 0 ? (size_t)((s->mouse_x - h->r.x) / h->cell * h->group) : 0;
	a = h->a + (h->kind == TUI_HIT_SLOT || h->kind == TUI_HIT_DOMAIN ? step : 0);
	b = h->b + (h->kind == TUI_HIT_CELL ? step : 0);
	switch (h->kind) {
	case TUI_HIT_SCREEN:
		s->screen = (int)a;
		return 0;
	case TUI_HIT_KEY:
		return tui_key(c, (int)a);
	case TUI_HIT_SLOT:
		tui_time_go(c, a);
		return 1;
	case TUI_HIT_CELL:
		s->layer = a, s->expert = b;
		break;
	case TUI_HIT_DOMAIN:
		s->domain = h->a, s->layer = b + step;
		break;
	case TUI_HIT_ALARM:
		s->alarm = a;
		break;
	}
	if (old[0] == s->layer && old[1] == s->expert && old[2] == s->domain && old[3] == s->alarm)
		return tui_key(c, TUI_KEY_ENTER);
	return 0;
}

void tui_hit(struct tui_ctx *c, const struct tui_hit *h)
{
	if (c->s->n_hit < TUI_HITS)
		c->s->hit[c->s->n_hit++] = *h;
}

/* ---- what single screens ask for ---- */

struct tui_ask tui_asking(const struct tui_ctx *c)
{
	const struct tui_state *s = c->s;

	return (struct tui_ask){ s->asks, { .domain = s->want.domain, .phase = s->want.phase,
		.layer = (uint32_t)s->layer, .expert = (uint32_t)s->expert, .pos = s->pos,
		.sequence = s->want.sequence ? s->want.sequence : s->sequence, .base = s->want.base } };
}

const struct tui_snap *tui_part(struct tui_ctx *c, enum tui_part part, int any)
{
	const struct tui_snap *s = c->snap[part];
	struct tui_query now = tui_asking(c).key;

	c->s->asks |= 1u << part;
	if (!s || !c->d)
		return NULL;
	now.run = c->d->sum.run.id;
	now = tui_query_for(part, &now);
	return s->key.run == now.run && (any || tui_query_same(&s->key, &now)) ? s : NULL;
}

/* F-keys mean what they mean in htop, where it has them. */
static int plain_key(int key)
{
	switch (key) {
	case TUI_KEY_F1: return '?';
	case TUI_KEY_F2: return 't';
	case TUI_KEY_F3: return '/';
	case TUI_KEY_F6: return 'o';
	case TUI_KEY_F9: return 's';
	case TUI_KEY_F10: return 'q';
	case TUI_KEY_WHEEL_UP: return TUI_KEY_UP;
	case TUI_KEY_WHEEL_DOWN: return TUI_KEY_DOWN;
	default: return key;
	}
}

/* Keys that every screen has: 1 if it was one. */
static int key_common(struct tui_ctx *c, int key)
{
	struct tui_state *s = c->s;

	if (key >= '1' && key < '1' + n_panels() && key <= '9')
		s->screen = key - '1';
	else if (key == TUI_KEY_TAB)
		s->screen = (s->screen + 1) % n_panels();
	else if (key == TUI_KEY_BACKTAB)
		s->screen = (s->screen + n_panels() - 1) % n_panels();
	else if (key == 'p')
		s->paused = !s->paused;
	else if (key == 's' || key == 'S' || key == 'P')
		s->save = key;
	else if (key == 'u') {
		s->again = !s->paused;
		snprintf(s->note, sizeof s->note, s->paused ? "paused: p goes on" :
			"all is being computed again, the specialisation, too");
	} else if (key == 'c')
		s->palette = (s->palette + 1) % TUI_PALETTES, s->repaint = 1;
	else if (key == '/')
		s->finding = 1, s->find[0] = 0;
	else
		return 0;
	return 1;
}

static int act(struct tui_ctx *c, int key)
{
	struct tui_state *s = c->s;
	const struct tui_panel *p = tui_panels[s->screen];
	struct tui_want old = s->want;

	s->note[0] = 0;
	if (s->finding && key != TUI_KEY_CLICK) {
		key_find(c, key);
		return !tui_same_want(&old, &s->want);
	}
	key = plain_key(key);
	if (key == 'q') {
		s->quit = 1;
		return 0;
	}
	if (s->help || key == '?') { /* any key closes it */
		s->help = !s->help;
		return 0;
	}
	if (key == TUI_KEY_CLICK)
		return click(c);
	if (c->d && tui_time_key(c, key))
		return !tui_same_want(&old, &s->want);
	if (key_common(c, key))
		return 0;
	if (c->d && p->key && p->key(c, key, s->mem[s->screen]))
		return !tui_same_want(&old, &s->want);
	return key_selection(c, key);
}

int tui_key(struct tui_ctx *c, int key)
{
	size_t layer = c->s->layer, expert = c->s->expert;
	int changed = act(c, key);

	c->s->chosen |= c->s->layer != layer || c->s->expert != expert;
	return changed;
}

int tui_move(int key, size_t *x, size_t nx, size_t *y, size_t ny, size_t page)
{
	if (x && nx && (key == TUI_KEY_LEFT || key == 'h'))
		*x -= *x > 0;
	else if (x && nx && (key == TUI_KEY_RIGHT || key == 'l'))
		*x += *x + 1 < nx;
	else if (x && nx && key == TUI_KEY_HOME)
		*x = 0;
	else if (x && nx && key == TUI_KEY_END)
		*x = nx - 1;
	else if (y && ny && (key == TUI_KEY_UP || key == 'k'))
		*y -= *y > 0;
	else if (y && ny && (key == TUI_KEY_DOWN || key == 'j'))
		*y += *y + 1 < ny;
	else if (y && ny && key == TUI_KEY_PGUP)
		*y -= *y > page ? page : *y;
	else if (y && ny && key == TUI_KEY_PGDN)
		*y = *y + page < ny ? *y + page : ny - 1;
	else if (y && ny && (key == TUI_KEY_HOME || key == 'g'))
		*y = 0;
	else if (y && ny && (key == TUI_KEY_END || key == 'G'))
		*y = ny - 1;
	else
		return 0;
	return 1;
}

/* ---- shared drawing ---- */

void tui_say(struct tui_grid *g, struct tui_rect r, enum tui_style style, const char *text)
{
	int w = r.w > 4 ? r.w - 4 : r.w, lines, need;

	if (r.w < 1 || r.h < 1)
		return;
	if (w > 72)
		w = 72;
	need = tui_columns(g, text);
	lines = (need + w - 1) / w;
	if (need < w)
		w = need;
	tui_wrap(g, (struct tui_rect){ r.x + (r.w - w) / 2, r.y + (r.h > lines ? (r.h - lines) / 2 : 0),
		w, r.h - (r.h > lines ? (r.h - lines) / 2 : 0) }, style, text);
}

enum tui_style tui_severity(enum view_severity s, uint32_t *sign)
{
	*sign = s == VIEW_NOTE ? 0xb7 : 0x25b2;
	return s == VIEW_ALARM ? TUI_ALARM : s == VIEW_WARNING ? TUI_WARN : TUI_DIM;
}

int tui_alarm(struct tui_ctx *c, struct tui_rect r, const struct view_alarm *a)
{
	uint32_t sign;
	enum tui_style st = tui_severity(a->severity, &sign);
	char t[TUI_FMT], more[128];
	int n;

	if (r.h < 1)
		return 0;
	tui_put(c->g, r.x, r.y, st, sign);
	n = tui_wrap(c->g, (struct tui_rect){ r.x + 2, r.y, r.w - 2, r.h > 1 ? r.h - 1 : 1 },
		a->severity == VIEW_NOTE ? TUI_TEXT : TUI_STRONG, a->text);
	if (n >= r.h)
		return n;
	snprintf(more, sizeof more, "since %s", tui_fmt_time(t, sizeof t, a->since, c->s->now));
	if (!isnan(a->value) && !isnan(a->threshold))
		snprintf(more + strlen(more), sizeof more - strlen(more), ", %.4g against %.4g",
			a->value, a->threshold);
	tui_text(c->g, r.x + 2, r.y + n, r.w - 2, TUI_DIM, more);
	return n + 1;
}
