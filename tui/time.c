/*
 * time.c - the timeline: a bar over the whole run, a column per slot of time, as high and as red as
 * the worst layer's imbalance there; the figures are those up to the end of the chosen slot.
 */
#include <math.h>
#include <stdio.h>

#include "tui/fmt.h"
#include "tui/panel.h"

static const struct view_timeline *timeline(struct tui_ctx *c)
{
	const struct tui_snap *s = tui_part(c, TUI_TIMELINE, 1);

	return s && !s->error[0] && s->u.timeline.n ? &s->u.timeline : NULL;
}

/* The height says max/mean: 1 is the lowest, 4 and more the highest. */
static uint32_t height(double worst)
{
	int h = isnan(worst) ? 0 : (int)((worst - 1) / 3 * 8);

	return h < 0 ? 0x2581 : h > 7 ? 0x2588 : 0x2581 + (uint32_t)h;
}

static void draw_slot(struct tui_ctx *c, struct tui_rect r, const struct view_slot *s, int here)
{
	int level = s->tokens ? tui_heat_level(s->worst) : -1;
	enum tui_style st = here ? TUI_CURSOR : level < 0 ? TUI_NODATA : level > TUI_HEAT_FAIR + 1 ?
		TUI_ABOVE : TUI_BAR;
	uint32_t glyph = level < 0 ? 0xb7 : height(s->worst);

	if (!c->g->look.utf8 && level >= 0) /* one digit: max/mean */
		glyph = s->worst >= 9.5 ? '#' : (uint32_t)('0' + (int)lround(s->worst));
	tui_fill(c->g, r, st, glyph);
}

void tui_time_draw(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_timeline *t = timeline(c);
	const struct view_slot *s;
	int w = r.w - 20, cell, x = r.x + 10;
	char a[TUI_FMT], b[TUI_FMT];

	if (!t) {
		tui_text(c->g, r.x + 1, r.y, r.w - 2, TUI_DIM, "reading the timeline \xe2\x80\xa6");
		return;
	}
	c->s->slot = t->n - 1; /* a live run's slots grow wider: the time stays, not the number */
	while (c->s->want.until && c->s->slot && t->slot[c->s->slot - 1].bucket1 >= c->s->want.until)
		c->s->slot--;
	cell = w / (int)t->n > 0 ? w / (int)t->n : 1;
	cell = cell > 4 ? 4 : cell;
	tui_fmt_time(a, sizeof a, t->started, t->started);
	tui_textf(c->g, r.x + 1, r.y, 9, TUI_DIM, "%.8s", a);
	for (size_t i = 0; i < t->n && x + (int)(i + 1) * cell <= r.x + r.w - 9; i++)
		draw_slot(c, (struct tui_rect){ x + (int)i * cell, r.y, cell, 1 }, &t->slot[i],
			i == c->s->slot);
	tui_text(c->g, x + (int)t->n * cell + 1, r.y, 6, c->s->want.until ? TUI_DIM : TUI_GOOD, "now");
	tui_hit(c, &(struct tui_hit){ { x, r.y, (int)t->n * cell, 1 }, TUI_HIT_SLOT, 0, 0, cell, 1 });
	s = &t->slot[c->s->slot];
	tui_fmt_clock(a, sizeof a, (double)s->bucket1 * (double)t->bucket_ns / 1e9);
	if (s->tokens)
		tui_textf(c->g, r.x + 1, r.y + 1, r.w - 2, TUI_TEXT, "up to %s of the run; in this slot: "
			"layer %u is the most uneven, busiest expert %s\xc3\x97 fair share", a,
			t->layers[s->layer].layer, tui_fmt_rel(b, sizeof b, s->worst));
	else
		tui_textf(c->g, r.x + 1, r.y + 1, r.w - 2, TUI_DIM, "up to %s of the run; no tokens in "
			"this slot", a);
}

void tui_time_go(struct tui_ctx *c, size_t slot)
{
	const struct view_timeline *t = timeline(c);

	if (!t)
		return;
	c->s->slot = slot < t->n ? slot : t->n - 1;
	/* the last slot of a live run is now */
	c->s->want.until = c->s->slot + 1 == t->n ? 0 : t->slot[c->s->slot].bucket1;
}

static void leave(struct tui_state *s)
{
	s->timing = s->playing = 0;
	s->want.until = 0;
}

int tui_time_key(struct tui_ctx *c, int key)
{
	const struct view_timeline *t = timeline(c);
	struct tui_state *s = c->s;

	if (key == 't' || (s->timing && key == TUI_KEY_ESC)) {
		if (s->timing)
			leave(s);
		else
			s->timing = 1, s->slot = t ? t->n - 1 : TUI_SLOTS;
		return 1;
	}
	if (!s->timing || !t)
		return 0;
	if (key == TUI_KEY_LEFT)
		tui_time_go(c, s->slot ? s->slot - 1 : 0);
	else if (key == TUI_KEY_RIGHT)
		tui_time_go(c, s->slot + 1);
	else if (key == TUI_KEY_HOME)
		tui_time_go(c, 0);
	else if (key == TUI_KEY_END)
		tui_time_go(c, t->n);
	else if (key == ' ')
		s->playing = !s->playing;
	else
		return 0;
	if (key == ' ' && s->playing && s->slot + 1 >= t->n)
		tui_time_go(c, 0);
	else if (key != ' ')
		s->playing = 0;
	return 1;
}

int tui_tick(struct tui_ctx *c)
{
	const struct view_timeline *t;
	int64_t old = c->s->want.until;

	if (!c->s->playing || !c->d)
		return 0;
	t = timeline(c);
	tui_time_go(c, c->s->slot + 1);
	if (t && c->s->slot + 1 >= t->n)
		c->s->playing = 0;
	return old != c->s->want.until;
}
