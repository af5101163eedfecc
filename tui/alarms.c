/* alarms.c - screen 8: what needs me? Since when, the figure against its threshold, the SQL. */
#include <stdio.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"

enum { FIRST, PAGE }; /* in mem */

/* Does the list have an alarm of the same kind about the same layer? */
static int holds(const struct view_alarms *list, const struct view_alarm *a)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->alarm[i].layer == a->layer && !strcmp(list->alarm[i].kind, a->kind))
			return 1;
	return 0;
}

/* One line about the baseline: how many are new, and which of its alarms are gone. */
static void draw_gone(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_alarms *b = c->base_alarms;
	size_t fresh = 0, gone = 0;
	int x = r.x;

	for (size_t i = 0; i < c->alarms->n; i++)
		fresh += !holds(b, &c->alarms->alarm[i]);
	for (size_t i = 0; i < b->n; i++)
		gone += !holds(c->alarms, &b->alarm[i]);
	x += tui_textf(c->g, x, r.y, r.w, TUI_STRONG, "against the baseline: %zu new, %zu gone", fresh,
		gone);
	for (size_t i = 0, n = 0; i < b->n && x + 14 < r.x + r.w; i++)
		if (!holds(c->alarms, &b->alarm[i]))
			x += b->alarm[i].layer < 0 ? tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, "%s%s",
				n++ ? ", " : ": ", b->alarm[i].kind) : tui_textf(c->g, x, r.y, r.x + r.w - x,
				TUI_DIM, "%s%s L%d", n++ ? ", " : ": ", b->alarm[i].kind, b->alarm[i].layer);
}

static void draw_row(struct tui_ctx *c, struct tui_rect r, const struct view_alarm *a, int here)
{
	uint32_t sign;
	enum tui_style st = tui_severity(a->severity, &sign);
	char t[TUI_FMT];
	int x = r.x + 2;

	tui_put(c->g, r.x, r.y, here ? TUI_KEY : TUI_TEXT, here ? '>' : ' ');
	tui_put(c->g, r.x + 1, r.y, st, sign);
	tui_fmt_time(t, sizeof t, a->since, c->s->now);
	x += 1 + tui_text(c->g, x + 1, r.y, 19, TUI_DIM, t);
	x += 1;
	tui_textf(c->g, x + 1, r.y, 10, st, "%s", a->kind);
	if (c->base_alarms) {
		tui_text(c->g, x + 12, r.y, 4, holds(c->base_alarms, a) ? TUI_DIM : TUI_WARN,
			holds(c->base_alarms, a) ? "same" : "new");
		x += 5;
	}
	tui_text(c->g, x + 12, r.y, r.x + r.w - x - 12, here ? TUI_STRONG : TUI_TEXT, a->text);
}

static void draw_detail(struct tui_ctx *c, struct tui_rect r, const struct view_alarm *a)
{
	struct tui_rect in = tui_frame(c->g, r, "Evidence", a->sql[0] ? "moescope sql DB" : NULL);
	int y;

	if (in.h < 1)
		return;
	in.x++, in.w -= 2;
	y = tui_alarm(c, in, a);
	if (y < in.h && a->sql[0])
		tui_wrap(c->g, (struct tui_rect){ in.x + 2, in.y + y, in.w - 2, in.h - y }, TUI_KEY,
			a->sql);
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct view_alarms *a = c->alarms;
	struct tui_rect in = { r.x + 1, r.y, r.w - 2, r.h };
	int detail, rows;

	if (!a) {
		tui_say(c->g, r, TUI_DIM, "looking for alarms \xe2\x80\xa6");
		return;
	}
	if (c->base_alarms && r.h > 4) {
		draw_gone(c, (struct tui_rect){ in.x + 1, in.y, in.w - 1, 1 });
		in.y++, in.h--, r.y++, r.h--;
	}
	if (!a->n) {
		char t[96], n[TUI_FMT];

		snprintf(t, sizeof t, "\xe2\x9c\x93 No alarm: no rule fires on these %s tokens.",
			tui_fmt_count(n, sizeof n, c->d->sum.tokens));
		tui_say(c->g, r, TUI_GOOD, t);
		return;
	}
	detail = r.h >= 10 ? (r.h >= 18 ? 8 : 6) : 0;
	rows = r.h - detail;
	mem[PAGE] = rows;
	mem[FIRST] = tui_scroll(mem[FIRST], (int)c->s->alarm, rows, (int)a->n);
	for (int i = 0; i < rows && (size_t)(mem[FIRST] + i) < a->n; i++) {
		tui_hit(c, &(struct tui_hit){ { in.x, in.y + i, in.w, 1 }, TUI_HIT_ALARM,
			(size_t)(mem[FIRST] + i), 0, 0, 0 });
		draw_row(c, (struct tui_rect){ in.x, in.y + i, in.w, 1 }, &a->alarm[mem[FIRST] + i],
			(size_t)(mem[FIRST] + i) == c->s->alarm);
	}
	if (detail)
		draw_detail(c, (struct tui_rect){ r.x, r.y + rows, r.w, detail }, &a->alarm[c->s->alarm]);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	if (k == TUI_KEY_ENTER && c->alarms && c->alarms->n) { /* to the layer that it is about */
		for (size_t i = 0; i < c->d->layers.n; i++)
			if (c->d->layers.layer[i].layer == c->alarms->alarm[c->s->alarm].layer) {
				c->s->layer = i;
				c->s->screen = TUI_SCREEN_LAYER;
			}
		return 1;
	}
	return tui_move(k, NULL, 0, &c->s->alarm, c->alarms ? c->alarms->n : 0, (size_t)mem[PAGE]);
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_alarms none;

	(void)mem;
	return view_alarms_table(c->alarms ? c->alarms : &none, t, e);
}

const struct tui_panel tui_panel_alarms = {
	.name = "Alarms",
	.question = "What needs me?",
	.min_w = 40, .min_h = 6,
	.applies = TUI_BY_DOMAIN | TUI_BY_PHASE | TUI_BY_WINDOW,
	.instead = "the rules look at all requests",
	.empty = 1,
	.hints = { { "\xe2\x86\x91\xe2\x86\x93", "choose" }, { "Enter", "its layer" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
