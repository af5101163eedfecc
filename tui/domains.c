/*
 * domains.c - screen 5: does the model specialise, and is it real?
 *
 * Domain x layer: the expert that takes the most above its fair share there. What does not beat
 * its shuffled-label null is grey and gets no tick: it is not a finding.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"
#include "view/table.h"

#define NAME_W 18
#define CELL_W 11

enum { FIRST_ROW, FIRST_COL, PAGE, SORT }; /* in mem */
/* SORT: to add one, a row here and in tui_domain_order(). */
static const char *const sort_name[] = { "by name", "clearest first", "strongest in this layer "
	"first", "most text first" };
enum { BY_NAME, BY_CLEAREST = TUI_CLEAREST, BY_LAYER, BY_TEXT, N_SORT };

static const char *name_of(const struct view_spec *sp, size_t d)
{
	return sp->domain[d].name[0] ? sp->domain[d].name : "(none)";
}

static double sort_key(const struct view_spec *sp, size_t d, int sort, size_t layer)
{
	int best = view_spec_clearest(sp, d);
	const struct view_spec_cell *k;

	if (sort == BY_NAME)
		return 0; /* as they come */
	if (sort == BY_TEXT)
		return (double)sp->domain[d].n_tokens;
	if (sort == BY_LAYER)
		best = layer < sp->n_layer ? (int)layer : -1;
	if (best < 0)
		return -1;
	k = &sp->layer[best].cell[d];
	if (sort == BY_LAYER)
		return isnan(k->rel) ? -1 : k->rel + (k->proven ? 1e6 : 0);
	return k->proven ? 1 + view_spec_lead(k) : 0;
}

size_t *tui_domain_order(const struct view_spec *sp, int sort, size_t layer)
{
	size_t *row = malloc((sp->n_domain + 1) * sizeof *row);
	double *key = malloc((sp->n_domain + 1) * sizeof *key);

	for (size_t i = 0; row && key && i < sp->n_domain; i++) {
		size_t j = i;

		key[i] = sort_key(sp, i, sort, layer);
		while (j && key[row[j - 1]] < key[i])
			row[j] = row[j - 1], j--;
		row[j] = i;
	}
	if (!key) {
		free(row);
		row = NULL;
	}
	free(key);
	return row;
}

static void draw_cell(struct tui_grid *g, int x, int y, const struct view_spec_cell *k, int cursor)
{
	enum tui_style st = TUI_NODATA;
	char t[48];

	if (isnan(k->rel)) {
		tui_text(g, x, y, CELL_W - 1, cursor ? TUI_CURSOR : TUI_NODATA, "    \xc2\xb7     ");
		return;
	}
	st = !k->proven ? TUI_DIM : (enum tui_style)(TUI_HEAT + tui_heat_level(k->rel));
	snprintf(t, sizeof t, " E%-3u%4.*f%s", k->expert, k->rel < 99.95, k->rel,
		k->proven ? "\xc3\x97" : "?");
	tui_text(g, x, y, CELL_W - 1, cursor ? TUI_CURSOR : st, t);
}

/* What the same expert takes of the same domain in the baseline, behind the sentence. */
static void base_clause(const struct tui_ctx *c, char *t, size_t size, size_t layer)
{
	const struct view_spec *sp = &c->spec->spec, *b = &c->spec->base_spec;
	const struct view_spec_layer *l = &sp->layer[layer];
	unsigned expert = l->cell[c->s->domain].expert;
	size_t n = strlen(t);

	if (!c->spec->base || !c->d->base.n)
		return;
	for (size_t i = 0; i < b->n_layer; i++)
		for (size_t d = 0; d < b->n_domain && b->layer[i].rel; d++)
			if (b->layer[i].layer == l->layer && expert < b->layer[i].n_expert &&
			    !strcmp(b->domain[d].name, sp->domain[c->s->domain].name)) {
				snprintf(t + n, size - n, " In the baseline it takes %.2f.",
					b->layer[i].rel[d * b->layer[i].n_expert + expert]);
				return;
			}
	snprintf(t + n, size - n, " The baseline has no such domain.");
}

/* One sentence about the cell at the cursor. */
static void draw_cursor(struct tui_ctx *c, struct tui_rect r, const struct view_spec *sp,
	size_t layer)
{
	const struct view_spec_layer *l = &sp->layer[layer];
	const struct view_spec_cell *k = &l->cell[c->s->domain];
	char t[512];

	if (isnan(k->rel)) {
		snprintf(t, sizeof t, "No decisions of %s in layer %u.", name_of(sp, c->s->domain),
			l->layer);
		tui_wrap(c->g, r, TUI_NODATA, t);
		return;
	}
	snprintf(t, sizeof t, "Expert %u of layer %u takes %.2f times its fair share on %s (95 %% "
		"interval %.2f\xe2\x80\x93%.2f; shuffled labels reach %.2f): %s", k->expert, l->layer,
		k->rel, name_of(sp, c->s->domain), k->lo, k->hi, k->null_p95, k->proven ?
		"beats its null." : "not proven; more documents would be needed to tell.");
	base_clause(c, t, sizeof t, layer);
	r.y += tui_wrap(c->g, (struct tui_rect){ r.x, r.y, r.w, r.h - 1 },
		k->proven ? TUI_STRONG : TUI_TEXT, t);
	if (isnan(k->token_rel) || isnan(k->token_control))
		return;
	snprintf(t, sizeof t, "Only the words? On the %.0f %% of its tokens that other domains use "
		"too: %.2f; routed as there: %.2f.", k->token_share * 100, k->token_rel, k->token_control);
	tui_text(c->g, r.x, r.y, r.w, TUI_DIM, t);
}

/* Mutual information per layer under the columns, beside its shuffled null. */
static void draw_information(struct tui_grid *g, struct tui_rect r, const struct view_spec *sp,
	int first, int visible)
{
	tui_text(g, r.x, r.y, NAME_W - 1, TUI_TITLE, "information, bits");
	tui_text(g, r.x, r.y + 1, NAME_W - 1, TUI_DIM, "shuffled, p95");
	for (int i = 0; i < visible; i++) {
		const struct view_spec_layer *l = &sp->layer[first + i];
		int x = r.x + NAME_W + i * CELL_W;
		char t[TUI_FMT];

		snprintf(t, sizeof t, "%.3f", l->mi);
		tui_right(g, x, r.y, CELL_W - 2, l->mi_lo > l->null_p95 ? TUI_STRONG : TUI_DIM, t);
		snprintf(t, sizeof t, "%.3f", l->null_p95);
		tui_right(g, x, r.y + 1, CELL_W - 2, TUI_DIM, t);
	}
}

/* The layer in the specialisation that is the cursor's layer of the load, or the nearest above. */
static size_t spec_layer(const struct tui_ctx *c, const struct view_spec *sp)
{
	uint16_t want = c->d->layers.n ? c->d->layers.layer[c->s->layer].layer : 0;
	size_t i = 0;

	while (i + 1 < sp->n_layer && sp->layer[i].layer < want)
		i++;
	return i;
}

static void draw_matrix(struct tui_ctx *c, struct tui_rect r, const struct view_spec *sp,
	int *mem)
{
	size_t at = spec_layer(c, sp), *order, here = 0;
	int rows = r.h - 7, visible = (r.w - NAME_W) / CELL_W, shown;

	visible = visible < (int)sp->n_layer ? visible : (int)sp->n_layer;
	if (rows < 1 || visible < 1)
		return;
	order = tui_domain_order(sp, mem[SORT], at);
	if (!order)
		return;
	while (here + 1 < sp->n_domain && order[here] != c->s->domain)
		here++;
	mem[PAGE] = rows;
	mem[FIRST_ROW] = tui_scroll(mem[FIRST_ROW], (int)here, rows, (int)sp->n_domain);
	mem[FIRST_COL] = tui_scroll(mem[FIRST_COL], (int)at, visible, (int)sp->n_layer);
	tui_textf(c->g, r.x, r.y, NAME_W - 1, TUI_DIM, "%zu domains", sp->n_domain);
	for (int i = 0; i < visible; i++)
		tui_textf(c->g, r.x + NAME_W + i * CELL_W, r.y, CELL_W - 1, TUI_DIM, "%slayer %u",
			i == 0 && mem[FIRST_COL] ? "<" : " ", sp->layer[mem[FIRST_COL] + i].layer);
	if (mem[FIRST_COL] + visible < (int)sp->n_layer)
		tui_put(c->g, r.x + r.w - 1, r.y, TUI_KEY, '>');
	for (shown = 0; shown < rows && (size_t)(mem[FIRST_ROW] + shown) < sp->n_domain; shown++) {
		size_t d = order[mem[FIRST_ROW] + shown];

		tui_text(c->g, r.x, r.y + 1 + shown, NAME_W - 1,
			d == c->s->domain ? TUI_STRONG : TUI_TEXT, name_of(sp, d));
		for (int i = 0; i < visible; i++)
			draw_cell(c->g, r.x + NAME_W + i * CELL_W, r.y + 1 + shown,
				&sp->layer[mem[FIRST_COL] + i].cell[d],
				d == c->s->domain && (size_t)(mem[FIRST_COL] + i) == at);
		tui_hit(c, &(struct tui_hit){ { r.x + NAME_W, r.y + 1 + shown, visible * CELL_W, 1 },
			TUI_HIT_DOMAIN, d, (size_t)mem[FIRST_COL], CELL_W, 1 });
	}
	free(order);
	if (mem[FIRST_ROW] + shown < (int)sp->n_domain)
		tui_textf(c->g, r.x + NAME_W - 3, r.y + shown, 2, TUI_KEY, "\xe2\x86\x93");
	draw_information(c->g, (struct tui_rect){ r.x, r.y + 2 + shown, r.w, 2 }, sp, mem[FIRST_COL],
		visible);
	draw_cursor(c, (struct tui_rect){ r.x, r.y + r.h - 3, r.w, 3 }, sp, at);
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct view_spec *sp = c->spec ? &c->spec->spec : NULL;
	struct tui_rect in = { r.x + 1, r.y, r.w - 2, r.h };
	char t[160], at[TUI_FMT];
	int n;

	if (!sp || !sp->n_layer || !sp->n_domain) {
		tui_say(c->g, r, TUI_DIM, !sp ?
			"computing: bootstrap and shuffled labels take a moment \xe2\x80\xa6" :
			sp->why[0] ? sp->why : "this run has no domains");
		return;
	}
	n = tui_text(c->g, in.x, in.y, in.w, TUI_TITLE, "Strongest expert of each domain");
	tui_fmt_time(at, sizeof at, c->spec->loaded, c->s->now);
	snprintf(t, sizeof t, "%s; \xc3\x97 fair share; ? could be chance%s%s", sort_name[mem[SORT]],
		c->s->spec_busy ? "; recomputing" : c->d->sum.run.alive ? "; u renews, as of " : "",
		c->s->spec_busy || !c->d->sum.run.alive ? "" : at);
	tui_text(c->g, in.x + n + 2, in.y, in.w - n - 2, TUI_DIM, t);
	draw_matrix(c, (struct tui_rect){ in.x, in.y + 1, in.w, in.h - 1 }, sp, mem);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	size_t n = c->spec ? c->spec->spec.n_domain : 0, *order, at = 0;
	int done;

	if (k == 'o') {
		mem[SORT] = (mem[SORT] + 1) % N_SORT;
		return 1;
	}
	if (k == TUI_KEY_ENTER && c->spec && n && c->spec->spec.n_layer) {
		c->s->expert = c->spec->spec.layer[spec_layer(c, &c->spec->spec)].cell[c->s->domain].expert;
		c->s->screen = TUI_SCREEN_EXPERT;
		return 1;
	}
	order = n ? tui_domain_order(&c->spec->spec, mem[SORT], spec_layer(c, &c->spec->spec)) : NULL;
	while (order && at + 1 < n && order[at] != c->s->domain)
		at++;
	done = tui_move(k, &c->s->layer, c->d->layers.n, &at, n, (size_t)mem[PAGE]);
	if (done && order && k != TUI_KEY_LEFT && k != TUI_KEY_RIGHT && k != 'h' && k != 'l')
		c->s->domain = order[at];
	free(order);
	return done;
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "domain", "", VIEW_TEXT, 0 },
		{ "layer", "", VIEW_INT, 0 },
		{ "expert", "", VIEW_INT, 0 }, { "rel", "", VIEW_REAL, 4 }, { "lo", "", VIEW_REAL, 4 },
		{ "hi", "", VIEW_REAL, 4 }, { "null_p95", "", VIEW_REAL, 4 },
		{ "proven", "", VIEW_INT, 0 } };
	const struct view_spec *sp = c->spec ? &c->spec->spec : NULL;

	(void)mem;
	view_table_init(t, cols, sizeof cols / sizeof *cols);
	for (size_t d = 0; sp && d < sp->n_domain; d++)
		for (size_t i = 0; i < sp->n_layer; i++) {
			const struct view_spec_cell *k = &sp->layer[i].cell[d];
			struct view_cell *row = view_table_row(t, e);

			if (!row || view_set_text(row, sp->domain[d].name, e))
				return -1;
			view_set_int(row + 1, sp->layer[i].layer);
			view_set_int(row + 2, k->expert);
			view_set_real(row + 3, k->rel);
			view_set_real(row + 4, k->lo);
			view_set_real(row + 5, k->hi);
			view_set_real(row + 6, k->null_p95);
			view_set_int(row + 7, k->proven);
		}
	return 0;
}

const struct tui_panel tui_panel_domains = {
	.name = "Domains",
	.question = "Does the model specialise, and is it real?",
	.min_w = 50, .min_h = 13,
	.applies = 0,
	.instead = "all domains of the whole run are compared",
	.hints = { { "\xe2\x86\x90\xe2\x86\x92", "layer" }, { "\xe2\x86\x91\xe2\x86\x93", "domain" },
		{ "Enter", "expert" }, { "o", "sort" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
