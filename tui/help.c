/* help.c - the page behind `?`: screens and their questions, keys, and what the words mean. */
#include <stdio.h>

#include "tui/panel.h"

static const struct tui_hint keys[] = {
	{ "1-8, Tab", "screens; Enter goes deeper, the mouse points" },
	{ "arrows, hjkl", "move; PgUp, PgDn, g, G go far; + - 0 zoom" },
	{ "p; u", "pause; compute all again now, the domains, too" },
	{ "t, F2", "timeline: left, right rewind, Space plays, Esc leaves" },
	{ "w W, F8 F7", "window: whole run, 10 min, 1 min, 10 s" },
	{ "d D, F4", "domain; f phase; r R run" },
	{ "a", "one request alone, or all; n N the next, the one before" },
	{ "b, F5", "compare with the baseline run, on and off" },
	{ "o, F6", "sort; / or F3 finds L3 E7, #12 (request), a domain, an alarm" },
	{ "s, F9; S; P", "save the view as text; as CSV; as a picture (PNG)" },
	{ "c", "colours: another palette, safe for the colour-blind" },
	{ "q, F10", "quit" },
	{ NULL, NULL },
};
static const struct tui_hint words[] = {
	{ "fair share", "what an expert would get if all got the same: 1\xc3\x97" },
	{ "max/mean", "load of the busiest expert, in fair shares; 1 is perfect" },
	{ "H_n", "entropy of the load, 1 = even, 0 = all on one expert" },
	{ "dead", "experts never picked in this selection" },
	{ "null", "what shuffled domain labels reach by chance (95 %)" },
	{ NULL, NULL },
};

static int list(struct tui_grid *g, struct tui_rect r, const struct tui_hint *h)
{
	int y = 0;

	for (; h->key && y < r.h; h++, y++) {
		tui_text(g, r.x, r.y + y, 13, TUI_KEY, h->key);
		tui_text(g, r.x + 14, r.y + y, r.w - 14, TUI_TEXT, h->what);
	}
	return y;
}

void tui_help(struct tui_ctx *c)
{
	int w = c->g->w < 78 ? c->g->w : 78, h = c->g->h < 30 ? c->g->h : 30, y, screens;
	struct tui_rect r = { (c->g->w - w) / 2, (c->g->h - h) / 2, w, h }, in;

	tui_fill(c->g, r, TUI_TEXT, ' ');
	in = tui_frame(c->g, r, "moescope top", "any key closes");
	if (in.h < 1)
		return;
	in.x++, in.w -= 2;
	/* where not all fits, the keys are what was asked for; the tabs name the screens */
	screens = in.h >= (int)(sizeof keys / sizeof *keys) + 8;
	for (y = 0; screens && tui_panels[y] && y < in.h; y++) {
		tui_textf(c->g, in.x, in.y + y, 13, TUI_KEY, "%d %s", y + 1, tui_panels[y]->name);
		tui_text(c->g, in.x + 14, in.y + y, in.w - 14, TUI_TEXT, tui_panels[y]->question);
	}
	y += screens;
	y += list(c->g, (struct tui_rect){ in.x, in.y + y, in.w, in.h - y }, keys) + 1;
	if (in.h - y < (int)(sizeof words / sizeof *words) - 1)
		tui_text(c->g, in.x, in.y + in.h - 1, in.w, TUI_DIM, screens ?
			"What the words mean: on a screen of 30 lines." :
			"Screens and what the words mean: on a screen of 30 lines.");
	else
		list(c->g, (struct tui_rect){ in.x, in.y + y, in.w, in.h - y }, words);
}
