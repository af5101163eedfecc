/* expert.c - screen 4: who is this expert? Its domains, words, company and history on one card. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"
#include "tui/token.h"
#include "view/table.h"

/* The null of a domain at this layer: what its strongest expert reaches with shuffled labels. */
static double null_of(const struct tui_ctx *c, uint16_t layer, int64_t domain)
{
	const struct view_spec *sp = c->spec ? &c->spec->spec : NULL;

	for (size_t i = 0; sp && i < sp->n_layer; i++)
		for (size_t d = 0; sp->layer[i].layer == layer && d < sp->n_domain; d++)
			if (sp->domain[d].id == domain)
				return sp->layer[i].cell[d].null_p95;
	return NAN;
}

static void draw_domains(struct tui_ctx *c, struct tui_rect r, const struct view_expert *v)
{
	struct tui_rect in = tui_frame(c->g, r, "Domains", r.w >= 44 ? "\xc3\x97 fair       95 %    "
		"null" : "\xc3\x97 fair       95 %");
	int wide = r.w >= 44, x = in.x + in.w - (wide ? 26 : 19);

	if (in.h < 1)
		return;
	if (!v->n_domain)
		tui_text(c->g, in.x + 1, in.y, in.w - 2, TUI_DIM, "no named domains in this selection");
	for (size_t i = 0; i < v->n_domain && (int)i < in.h; i++) {
		const struct view_expert_domain *d = &v->domain[i];
		double null = null_of(c, v->layer, d->info.id);
		int above = d->lo > 1, below = d->hi < 1, y = in.y + (int)i;
		enum tui_style st = above ? TUI_ABOVE : below ? TUI_BELOW : TUI_DIM;
		char t[64];

		if ((int)i == in.h - 1 && i + 1 < v->n_domain) {
			tui_textf(c->g, in.x, y, in.w, TUI_DIM, "and %zu more, none above %.2f\xc3\x97",
				v->n_domain - i, d->rel);
			break;
		}
		tui_put(c->g, in.x, y, d->lo > null ? TUI_GOOD : TUI_DIM, d->lo > null ? 0x2713 : ' ');
		tui_text(c->g, in.x + 2, y, x - in.x - 2, above || below ? TUI_TEXT : TUI_DIM,
			d->info.name);
		tui_textf(c->g, x, y, 6, st, "%5.2f\xc3\x97", d->rel);
		if (isnan(d->lo))
			snprintf(t, sizeof t, "one text");
		else
			snprintf(t, sizeof t, "%.2f\xe2\x80\x93%.2f", d->lo, d->hi);
		tui_right(c->g, x + 7, y, 11, st, t);
		if (wide && !isnan(null))
			tui_textf(c->g, x + 19, y, 7, TUI_DIM, "%5.2f\xc3\x97", null);
	}
}

static void draw_tokens(struct tui_ctx *c, struct tui_rect r, const char *title,
	const struct view_expert_token *list, size_t n)
{
	struct tui_rect in = tui_frame(c->g, r, title, "picks     of");
	char t[TUI_FMT];

	if (in.h < 1)
		return;
	if (!n)
		tui_text(c->g, in.x + 1, in.y, in.w - 2, TUI_DIM, "none stands out");
	for (size_t i = 0; i < n && (int)i < in.h; i++) {
		const struct view_expert_token *k = &list[i];
		int y = in.y + (int)i, w = in.w - 18;

		tui_token(c->g, in.x + 1, y, w, TUI_TEXT, k->id, k->bytes, k->len);
		tui_right(c->g, in.x + in.w - 17, y, 9, TUI_STRONG, tui_fmt_count(t, sizeof t, k->picks));
		tui_right(c->g, in.x + in.w - 7, y, 6, TUI_DIM, tui_fmt_percent(t, sizeof t,
			(double)k->picks / (double)k->seen));
	}
}

/* One list of company: "E7  62 % (alone 12 %)". */
static void draw_peers(struct tui_grid *g, struct tui_rect r, const char *title,
	const struct view_expert_peer *list, size_t n)
{
	tui_text(g, r.x, r.y, r.w, TUI_TITLE, title);
	for (size_t i = 0; i < n && (int)i + 1 < r.h; i++) {
		const struct view_expert_peer *p = &list[i];
		enum tui_style st = p->given > p->alone * 1.15 ? TUI_ABOVE : p->given < p->alone / 1.15 ?
			TUI_BELOW : TUI_TEXT;
		int x = r.x, end = r.x + r.w, y = r.y + 1 + (int)i;
		char t[TUI_FMT];

		x += tui_textf(g, x, y, 5, TUI_TEXT, "E%-4u", p->expert);
		x += tui_textf(g, x, y, end - x, st, "%5s", tui_fmt_percent(t, sizeof t, p->given));
		tui_fmt_percent(t, sizeof t, p->alone);
		if (end - x >= tui_columns(g, t) + 3)
			tui_textf(g, x, y, end - x, TUI_DIM, " (%s)", t);
	}
}

static void draw_company(struct tui_ctx *c, struct tui_rect r, const struct view_expert *v)
{
	struct tui_rect in = tui_frame(c->g, r, "Company: share of its tokens", r.w >= 52 ?
		"(of all tokens)" : NULL);
	int w = in.w / 3;
	char up[24], down[24];

	if (in.h < 1)
		return;
	snprintf(up, sizeof up, v->up_layer < 0 ? "first layer" : "from L%d", v->up_layer);
	snprintf(down, sizeof down, v->down_layer < 0 ? "last layer" : "to L%d", v->down_layer);
	draw_peers(c->g, (struct tui_rect){ in.x + 1, in.y, w - 1, in.h }, "partners", v->partner,
		v->n_partner);
	draw_peers(c->g, (struct tui_rect){ in.x + w + 1, in.y, w - 1, in.h }, up, v->up, v->n_up);
	draw_peers(c->g, (struct tui_rect){ in.x + 2 * w + 1, in.y, in.w - 2 * w - 1, in.h }, down,
		v->down, v->n_down);
}

/* A column per slot of the timeline, as high as the relative load;
 * fair share is the dotted line. */
static void draw_history(struct tui_ctx *c, struct tui_rect r)
{
	const struct tui_snap *s = tui_part(c, TUI_TIMELINE, 1);
	const struct view_timeline *t = s && !s->error[0] ? &s->u.timeline : NULL;
	struct tui_rect in = tui_frame(c->g, r, "History: load over the run, in fair shares", NULL);
	double full = 2;
	size_t at, n, cell;
	char text[TUI_FMT];

	if (in.h < 1 || in.w < 20)
		return;
	if (!t || !t->n || c->s->layer >= t->n_layer) {
		tui_text(c->g, in.x + 1, in.y, in.w - 2, TUI_DIM, t ? "no load yet" :
			"reading the timeline \xe2\x80\xa6");
		return;
	}
	at = t->e_at[c->s->layer] + c->s->expert;
	n = t->n < (size_t)(in.w - 8) ? t->n : (size_t)(in.w - 8);
	for (size_t i = 0; i < n; i++)
		full = fmax(full, t->rel[i * t->e_at[t->n_layer] + at]); /* fmax skips NAN */
	cell = (size_t)(in.w - 8) / n > 4 ? 4 : (size_t)(in.w - 8) / n;
	tui_right(c->g, in.x, in.y, 7, TUI_DIM, tui_fmt_rel(text, sizeof text, full));
	if (in.h > 1)
		tui_right(c->g, in.x, in.y + in.h - 1, 7, TUI_DIM, "0");
	for (size_t i = 0; i < n; i++) {
		double rel = t->rel[i * t->e_at[t->n_layer] + at];
		int eighths = isnan(rel) ? 0 : (int)lround(rel / full * in.h * 8);
		int level = tui_heat_level(rel), x = in.x + 8 + (int)(i * cell);
		enum tui_style st = level > TUI_HEAT_FAIR ? TUI_BAR_OVER : TUI_BAR;

		if (isnan(rel))
			tui_put(c->g, x, in.y + in.h - 1, TUI_NODATA, 0xb7);
		for (int y = 0; y < in.h; y++) {
			int part = eighths - (in.h - 1 - y) * 8;

			if (part > 0)
				tui_fill(c->g, (struct tui_rect){ x, in.y + y, (int)cell, 1 }, st,
					!c->g->look.utf8 ? '#' : 0x2580u + (uint32_t)(part > 8 ? 8 : part));
		}
	}
}

static void draw_head(struct tui_ctx *c, struct tui_rect r, const struct view_expert *v)
{
	const struct view_layer *l = &c->d->layers.layer[c->s->layer];
	size_t e = c->s->expert;
	char share[TUI_FMT], fair[TUI_FMT], rel[TUI_FMT], n[TUI_FMT];
	int x = r.x, level = l->tokens ? tui_heat_level(l->rel[e]) : -1;

	x += tui_textf(c->g, x, r.y, r.w, TUI_STRONG, "Expert %zu of layer %u", e, l->layer) + 2;
	if (level >= 0)
		x += tui_textf(c->g, x, r.y, r.x + r.w - x, level > TUI_HEAT_FAIR ? TUI_ABOVE :
			level < TUI_HEAT_FAIR ? TUI_BELOW : TUI_STRONG, "%s\xc3\x97 its fair share",
			tui_fmt_rel(rel, sizeof rel, l->rel[e]));
	if (l->tokens && !isnan(tui_base_ratio(c->d, c->s->layer, e)))
		x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_STRONG, ", %s\xc3\x97 the baseline",
			tui_fmt_rel(rel, sizeof rel, tui_base_ratio(c->d, c->s->layer, e)));
	if (l->tokens)
		tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, ", %s of picks (fair %s), %s picks",
			tui_fmt_percent(share, sizeof share, (double)l->counts[e] / ((double)l->tokens * l->k)),
			tui_fmt_percent(fair, sizeof fair, 1.0 / l->n_expert),
			tui_fmt_count(n, sizeof n, l->counts[e]));
	if (!v || r.h < 2)
		return;
	x = r.x + tui_text(c->g, r.x, r.y + 1, r.w, TUI_DIM, "picked as choice ");
	for (unsigned i = 0; i < v->k && v->picks && i < 8; i++)
		x += tui_textf(c->g, x, r.y + 1, r.x + r.w - x, TUI_TEXT, "%u: %s   ", i + 1,
			tui_fmt_percent(n, sizeof n, (double)v->rank[i] / (double)v->picks));
	x = r.x;
	if (!isnan(v->mean_weight) && r.h > 2)
		x += tui_textf(c->g, x, r.y + 2, r.w, TUI_DIM, "mean gate weight %.3f", v->mean_weight) + 3;
	if (!isnan(v->mean_margin) && r.h > 2)
		x += tui_textf(c->g, x, r.y + 2, r.x + r.w - x, TUI_DIM, "mean margin %.3f",
			v->mean_margin) + 3;
	if (v->why[0])
		tui_text(c->g, x, r.y + 2, r.x + r.w - x, TUI_WARN, v->why);
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct tui_snap *s = tui_part(c, TUI_EXPERT, 0);
	const struct view_expert *v = s && !s->error[0] ? &s->u.expert : NULL;
	struct tui_card k = tui_layout_card(r);

	(void)mem;
	if (!c->d->layers.n)
		return;
	draw_head(c, (struct tui_rect){ r.x + 1, r.y, r.w - 2, k.head.h }, v && v->tokens ? v : NULL);
	if (k.history.h > 0)
		draw_history(c, k.history);
	if (!v || !v->tokens) {
		tui_say(c->g, (struct tui_rect){ r.x, r.y + k.head.h, r.w, k.history.h > 0 ?
			k.history.y - r.y - k.head.h : r.h - k.head.h }, TUI_DIM, !s ?
			"reading this expert's decisions \xe2\x80\xa6" : s->error[0] ? s->error :
			v->why[0] ? v->why : "no decisions in this selection");
		return;
	}
	if (k.domains.h > 0)
		draw_domains(c, k.domains, v);
	if (k.tokens.h > 0)
		draw_tokens(c, k.tokens, "Tokens it is picked for", v->token, v->n_token);
	if (k.peers.h > 0)
		draw_company(c, k.peers, v);
	if (k.next.h > 0)
		draw_tokens(c, k.next, "Tokens that follow", v->next, v->n_next);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	const struct view_layers *l = &c->d->layers;

	(void)mem;
	if (!l->n)
		return 0;
	if (k == TUI_KEY_ENTER) {
		c->s->screen = TUI_SCREEN_STREAM;
		return 1;
	}
	return tui_move(k, &c->s->expert, l->layer[c->s->layer].n_expert, &c->s->layer, l->n, 8);
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "layer", "", VIEW_INT, 0 },
		{ "expert", "", VIEW_INT, 0 },
		{ "domain", "", VIEW_TEXT, 0 }, { "documents", "", VIEW_INT, 0 },
		{ "tokens", "", VIEW_INT, 0 },
		{ "picks", "", VIEW_INT, 0 }, { "rel", "", VIEW_REAL, 4 }, { "lo", "", VIEW_REAL, 4 },
		{ "hi", "", VIEW_REAL, 4 } };
	const struct tui_snap *s = tui_part(c, TUI_EXPERT, 0);

	(void)mem;
	view_table_init(t, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; s && !s->error[0] && i < s->u.expert.n_domain; i++) {
		const struct view_expert_domain *d = &s->u.expert.domain[i];
		struct view_cell *row = view_table_row(t, e);

		if (!row || view_set_text(row + 2, d->info.name, e))
			return -1;
		view_set_int(row, s->u.expert.layer);
		view_set_int(row + 1, s->u.expert.expert);
		view_set_int(row + 3, (int64_t)d->docs);
		view_set_int(row + 4, (int64_t)d->tokens);
		view_set_int(row + 5, (int64_t)d->picks);
		view_set_real(row + 6, d->rel);
		view_set_real(row + 7, d->lo);
		view_set_real(row + 8, d->hi);
	}
	return 0;
}

const struct tui_panel tui_panel_expert = {
	.name = "Expert",
	.question = "Who is this expert?",
	.min_w = 44, .min_h = 14,
	.applies = TUI_BY_DOMAIN | TUI_BY_PHASE,
	.instead = "but for the first line the card is of the whole run",
	.hints = { { "\xe2\x86\x90\xe2\x86\x92", "expert" }, { "\xe2\x86\x91\xe2\x86\x93", "layer" },
		{ 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
