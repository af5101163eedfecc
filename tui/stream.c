/*
 * stream.c - screen 6: what is happening to this text? Each token in the colour of its top expert
 * at the chosen layer. The eight colours stand for the experts that are busiest in what is shown;
 * the legend names them, all others are plain.
 *
 * Token text is hostile: it is escaped before it comes here and again cell by cell in the grid, and
 * a token's own line breaks do not break lines.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/panel.h"
#include "tui/token.h"
#include "view/table.h"

enum { MARGINS, BACK, ROOM }; /* in mem: show margins; tokens behind the newest; tokens that fit */

/* The colour of each expert: 0..7 for the busiest, -1 for the rest. */
struct colours { int of[MOE_MAX_EXPERT]; unsigned expert[TUI_EXPERT_COLOURS]; size_t n; };

static void choose_colours(const struct view_stream *v, size_t first, struct colours *k)
{
	uint32_t *count = calloc(MOE_MAX_EXPERT, sizeof *count);

	k->n = 0;
	for (size_t i = 0; i < MOE_MAX_EXPERT; i++)
		k->of[i] = -1;
	for (size_t i = first; count && i < v->n; i++)
		count[v->token[i].expert]++;
	while (count && k->n < TUI_EXPERT_COLOURS) {
		unsigned best = 0;

		for (unsigned i = 1; i < MOE_MAX_EXPERT; i++)
			best = count[i] > count[best] ? i : best;
		if (!count[best])
			break;
		count[best] = 0;
		k->expert[k->n] = best;
		k->of[best] = (int)k->n++;
	}
	free(count);
}

/* Bytes that a character begun at the end of s[0..n-1] still lacks; 0 = it ends whole. */
static int lacks(const char *s, int n)
{
	for (int back = 1; back <= 3 && back <= n; back++) {
		unsigned char ch = (unsigned char)s[n - back];
		int want = ch >= 0xf0 ? 4 : ch >= 0xe0 ? 3 : ch >= 0xc0 ? 2 : 1;

		if (ch < 0x80 || ch >= 0xc0)
			return want > back ? want - back : 0;
	}
	return 0;
}

static int leading(const struct view_stream_token *t, int most)
{
	int n = 0;

	while (n < most && n < t->len && ((unsigned char)t->bytes[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* The bytes of token i with those of the next ones that complete its last character, without those
 * that completed one begun before; a character is never longer than four tokens. */
static int whole(const struct view_stream *v, size_t i, char *out, size_t size)
{
	const struct view_stream_token *t = v->token;
	int owed = 0, from = 0, n;

	for (size_t j = i > 3 ? i - 3 : 0; j <= i; j++) {
		from = leading(&t[j], owed);
		if (t[j].len < 0 || (from < owed && from < t[j].len))
			owed = 0;
		else
			owed -= from;
		if (from < t[j].len)
			owed = lacks(t[j].bytes + from, t[j].len - from);
	}
	n = t[i].len - from;
	memcpy(out, t[i].bytes + from, (size_t)n);
	for (size_t j = i + 1; n > 0 && owed > 0 && j < v->n && j < i + 4; j++) {
		int k = leading(&t[j], owed);

		if (!k || n + k > (int)size)
			break;
		memcpy(out + n, t[j].bytes, (size_t)k);
		n += k;
		owed -= k;
		if (k < t[j].len)
			break;
	}
	return n;
}

/* The top expert of the same token in the baseline: the same place and id there; -1 = it has none.
 * Both are ordered by position. */
static int base_expert(const struct view_stream *b, const struct view_stream_token *t)
{
	size_t lo = 0, hi = b ? b->n : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (b->token[mid].pos < t->pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return b && lo < b->n && b->token[lo].pos == t->pos && b->token[lo].id == t->id ?
		b->token[lo].expert : -1;
}

/* As the token stands on the screen: its text; with `margins` its expert and margin behind it;
 * beside a baseline its expert where that had another. */
static void spell(const struct view_stream *v, const struct view_stream *base, size_t i,
	int margins, char *out, size_t size)
{
	const struct view_stream_token *t = &v->token[i];
	int was = base_expert(base, t);
	char text[96], bytes[VIEW_STREAM_BYTES + 4];
	int len = t->len < 0 ? -1 : whole(v, i, bytes, sizeof bytes);

	tui_token_text(text, sizeof text, t->id, bytes, len);
	if (was >= 0 && was != t->expert)
		snprintf(out, size, "%s[E%u was E%d] ", text, t->expert, was);
	else if (!margins)
		snprintf(out, size, "%s", text);
	else if (isnan(t->margin))
		snprintf(out, size, "%s[E%u] ", text, t->expert);
	else
		snprintf(out, size, "%s[E%u %.2f] ", text, t->expert, t->margin);
}

static int breaks_line(const struct view_stream_token *t)
{
	return t->len > 0 && memchr(t->bytes, '\n', (size_t)t->len) != NULL;
}

/* Lay the tokens first .. end out in the rectangle. */
static void flow(struct tui_ctx *c, struct tui_rect r, const struct tui_snap *s, size_t first,
	size_t end, const struct colours *k, int margins)
{
	const struct view_stream *v = &s->u.stream;
	int x = 0, y = 0, phase = c->s->want.phase;

	for (size_t i = first; i < end; i++) {
		const struct view_stream_token *t = &v->token[i];
		char text[160];
		int w;

		spell(v, s->with_base ? &s->base.stream : NULL, i, margins, text, sizeof text);
		w = tui_columns(c->g, text);
		if (x && x + w > r.w)
			x = 0, y++;
		if (y < r.h)
			tui_text(c->g, r.x + x, r.y + y, r.w - x, phase && t->phase + 1 != phase ? TUI_FRAME :
				k->of[t->expert] < 0 ? TUI_DIM : (enum tui_style)(TUI_EXPERT_COLOUR +
				k->of[t->expert]), text);
		x += w < r.w ? w : r.w;
		if (breaks_line(t))
			x = 0, y++;
	}
}

/* Lines that tokens of these widths take; a negative one also ends its line.
 * As flow() lays them out. */
static int lines(const int *width, size_t n, int w)
{
	int x = 0, y = 0;

	for (size_t i = 0; i < n; i++) {
		int one = abs(width[i]);

		if (x && x + one > w)
			x = 0, y++;
		x += one < w ? one : w;
		if (width[i] < 0)
			x = 0, y++;
	}
	return y + (x > 0);
}

/* The first token so that all from it to `end` fit on h lines. No more are looked at than could. */
static size_t fitting(struct tui_ctx *c, struct tui_rect r, const struct tui_snap *s, size_t end,
	int margins)
{
	const struct view_stream *v = &s->u.stream;
	size_t most = (size_t)(r.w * r.h), lo = end > most ? end - most : 0, at = lo, first;
	int *width = malloc((end - lo + 1) * sizeof *width), room = r.w * r.h;
	char text[160];

	if (!width)
		return end ? end - 1 : 0;
	/* from behind: what is wider than the screen ends it */
	for (at = end; at > lo && room > 0; at--) {
		spell(v, s->with_base ? &s->base.stream : NULL, at - 1, margins, text, sizeof text);
		width[at - 1 - lo] = tui_columns(c->g, text);
		room -= width[at - 1 - lo] > 0 ? width[at - 1 - lo] : 1;
		if (breaks_line(&v->token[at - 1]))
			width[at - 1 - lo] = -width[at - 1 - lo];
	}
	first = at;
	while (first + 1 < end && lines(width + (first - lo), end - first, r.w) > r.h) {
		size_t cut = 1, line = 0; /* leave out the first line at a time */

		while (first + cut + 1 < end && (int)line < r.w && width[first + cut - 1 - lo] >= 0)
			line += (size_t)width[first + cut++ - lo];
		first += cut;
	}
	free(width);
	return first;
}

static void draw_legend(struct tui_ctx *c, struct tui_rect r, const struct view_stream *v,
	const struct colours *k)
{
	int x = r.x + tui_textf(c->g, r.x, r.y, r.w, TUI_DIM, "top expert at layer %u: ", v->layer);

	for (size_t i = 0; i < k->n && x + 8 < r.x + r.w; i++)
		x += tui_textf(c->g, x, r.y, 8, (enum tui_style)(TUI_EXPERT_COLOUR + i), "E%u",
			k->expert[i]) + 2;
	tui_text(c->g, x, r.y, r.x + r.w - x, TUI_DIM, "others");
}

static void draw_head(struct tui_ctx *c, struct tui_rect r, const struct view_stream *v)
{
	char n[TUI_FMT], m[TUI_FMT];
	double margin = 0;
	size_t k = 0;
	int x = r.x;

	for (size_t i = 0; i < v->n; i++)
		if (isfinite(v->token[i].margin))
			margin += v->token[i].margin, k++;
	x += tui_textf(c->g, x, r.y, r.w, TUI_STRONG, "Request %llu", (unsigned long long)v->seq) + 1;
	if (v->open)
		x += tui_text(c->g, x, r.y, 2, TUI_GOOD, "\xe2\x97\x8f") + 1;
	x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, "of %s", tui_fmt_count(n, sizeof n,
		v->n_seq)) + 2;
	x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, "%s tokens",
		tui_fmt_count(n, sizeof n, v->n_all)) + 2;
	if (k)
		x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, "mean margin %s",
			tui_fmt_unit(m, sizeof m, margin / (double)k)) + 2;
	if (v->domain[0])
		x += tui_text(c->g, x, r.y, r.x + r.w - x, TUI_TEXT, v->domain) + 2;
	if (v->name[0] && r.x + r.w - x > 6)
		tui_text(c->g, x, r.y, r.x + r.w - x, TUI_DIM, v->name);
}

/* The third line: how this text went in the baseline, and what was not logged. */
static void draw_notes(struct tui_ctx *c, struct tui_rect r, const struct tui_snap *s)
{
	const struct view_stream *v = &s->u.stream;
	size_t both = 0, other = 0;
	int x = r.x;

	for (size_t i = 0; i < v->n && s->with_base; i++) {
		int was = base_expert(&s->base.stream, &v->token[i]);

		both += was >= 0;
		other += was >= 0 && was != v->token[i].expert;
	}
	if (s->key.base && !s->with_base)
		x += tui_textf(c->g, x, r.y, r.w, TUI_WARN, "no baseline: %s", s->base_why) + 2;
	else if (s->key.base && !both)
		x += tui_text(c->g, x, r.y, r.w, TUI_WARN, "the baseline's request has other tokens") + 2;
	else if (s->key.base)
		x += tui_textf(c->g, x, r.y, r.w, TUI_STRONG, "baseline: another top expert for %zu of %zu "
			"tokens", other, both) + 2;
	if (!v->with_text && v->n && x < r.x + r.w)
		tui_text(c->g, x, r.y, r.x + r.w - x, TUI_WARN,
			"token text was not logged, these are ids; log with --log-text");
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct tui_snap *s = tui_part(c, TUI_STREAM, 1);
	const struct view_stream *v = s && !s->error[0] ? &s->u.stream : NULL;
	struct tui_rect in = { r.x + 1, r.y + 3, r.w - 2, r.h - 3 };
	struct colours *k = calloc(1, sizeof *k);
	size_t end, first;

	if (!v || !v->n || !k) {
		tui_say(c->g, r, TUI_DIM, !s ? "reading the newest sequence \xe2\x80\xa6" : s->error[0] ?
			s->error : v->why[0] ? v->why : "no tokens yet");
		free(k);
		return;
	}
	mem[BACK] = mem[BACK] < 0 ? 0 : (size_t)mem[BACK] >= v->n ? (int)v->n - 1 : mem[BACK];
	end = v->n - (size_t)mem[BACK];
	first = fitting(c, in, s, end, mem[MARGINS]);
	mem[ROOM] = (int)(end - first);
	choose_colours(v, first, k);
	draw_head(c, (struct tui_rect){ in.x, r.y, in.w, 1 }, v);
	draw_legend(c, (struct tui_rect){ in.x, r.y + 1, in.w, 1 }, v, k);
	draw_notes(c, (struct tui_rect){ in.x, r.y + 2, in.w, 1 }, s);
	flow(c, in, s, first, end, k, mem[MARGINS]);
	free(k);
}

/* Another sequence; the newest of all again when the last has been passed. */
static void go(struct tui_ctx *c, int64_t to, int *mem)
{
	c->s->sequence = to;
	mem[BACK] = 0;
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	const struct tui_snap *s = tui_part(c, TUI_STREAM, 1);
	const struct view_stream *v = s ? &s->u.stream : NULL;
	int page = mem[ROOM] > 4 ? mem[ROOM] / 2 : 2;

	if ((k == 'n' || k == 'N') && c->s->want.sequence) {
		mem[BACK] = 0;
		return 0; /* the selection moves on all screens */
	}
	if (k == 'n')
		go(c, v && v->after ? v->after : 0, mem);
	else if (k == 'N')
		go(c, v && v->before ? v->before : v ? v->sequence : 0, mem);
	else if (k == 'm')
		mem[MARGINS] = !mem[MARGINS];
	else if (k == TUI_KEY_UP || k == 'k' || k == TUI_KEY_PGUP)
		mem[BACK] += page;
	else if (k == TUI_KEY_DOWN || k == 'j' || k == TUI_KEY_PGDN)
		mem[BACK] -= page;
	else if (k == TUI_KEY_END || k == 'G')
		mem[BACK] = 0;
	else
		return tui_move(k, &c->s->layer, c->d->layers.n, NULL, 0, 0);
	return 1;
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "request", "", VIEW_INT, 0 },
		{ "pos", "", VIEW_INT, 0 },
		{ "token", "", VIEW_INT, 0 }, { "text", "", VIEW_TEXT, 0 }, { "layer", "", VIEW_INT, 0 },
		{ "expert", "", VIEW_INT, 0 }, { "weight", "", VIEW_REAL, 6 },
		{ "margin", "", VIEW_REAL, 6 }, { "baseline_expert", "", VIEW_INT, 0 } };
	const struct tui_snap *s = tui_part(c, TUI_STREAM, 1);

	(void)mem;
	view_table_init(t, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; s && !s->error[0] && i < s->u.stream.n; i++) {
		const struct view_stream_token *k = &s->u.stream.token[i];
		struct view_cell *row = view_table_row(t, e);
		char text[160];

		tui_token_text(text, sizeof text, k->id, k->bytes, k->len);
		if (!row || (k->len >= 0 && view_set_text(row + 3, text, e)))
			return -1;
		view_set_int(row, (int64_t)s->u.stream.seq);
		view_set_int(row + 1, k->pos);
		view_set_int(row + 2, k->id);
		view_set_int(row + 4, s->u.stream.layer);
		view_set_int(row + 5, k->expert);
		view_set_real(row + 6, k->weight);
		view_set_real(row + 7, k->margin);
		if (base_expert(s->with_base ? &s->base.stream : NULL, k) >= 0)
			view_set_int(row + 8, base_expert(&s->base.stream, k));
	}
	return 0;
}

const struct tui_panel tui_panel_stream = {
	.name = "Stream",
	.question = "What is happening to this text?",
	.min_w = 40, .min_h = 10,
	.applies = TUI_BY_DOMAIN | TUI_BY_PHASE | TUI_BY_REQUEST,
	.instead = "a request is shown as a whole",
	.hints = { { "\xe2\x86\x90\xe2\x86\x92", "layer" },
		{ "\xe2\x86\x91\xe2\x86\x93", "back, forth" },
		{ "n N", "request" }, { "m", "margins" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
