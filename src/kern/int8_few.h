/*
 * int8_few.h - the loops of the 8-bit products of one token, or of a few: rows are read one after
 * the other as they lie, integer sums come out with a lane per block, or R lanes for each 256
 * elements, and are turned to a lane per row before they become floats.
 *
 * Included after int8_body.h, by a file that defines besides what that asks for:
 *	prepare(kind, c, row, len, part)      codes, scales and minima, if sums_of_row needs them
 *	sums_of_row(kind, c, row, len, part, in, n_tok, out, os)
 *	                                      of a row with n_tok tokens, os integers apart: kinds with
 *	                                      scales in floating point: sum_b(w x) by blocks up to a
 *	                                      multiple of R and of 256 elements, and the scales and
 *	                                      minima to part, zeros behind len; with integer scales: S
 *	                                      and M of each group of 256
 * It may define
 *	ACROSS_KINDS, ACROSS(kind), groups_across(kind, c, rows, row_bytes, len, in, n_tok, twice,
 *	asks, acc)
 *	                                      kinds of which R rows are taken at once, all of it, of any
 *	                                      length: no parts
 *	HERE(kind)                            what this CPU has instead of a kind of a few tokens
 *	ARRANGED(kind), arrange(kind, q, n, out)
 *	                                      an order of activations that it wants, and bytes that 256
 *	                                      of them take (0: none)
 *	EVENLY(kind)                          sums_of_row or wide_row asks for rows with part.asks
 *	WIDE(kind), wide_row(kind, c, rows, r, n_row, in, n_tok)
 *	                                      kinds with integer scales, and what leaves R lanes of each
 *	                                      256 of row r (or 2), to be added up: to S, or half to S
 *	                                      and half to M
 *	vi_sums(v), vi_two_sums(v, s, m)      how that is done for R rows, a lane each
 */
#include "kern/ahead.h"

#ifndef HERE
#define HERE(kind) (kind)
#endif

/* As kind_of, for a token or a few, on any CPU. */
static enum kind kind_anywhere(uint32_t type, size_t len)
{
#ifdef __AVX2__
	static const enum kind more[QT_MAX] = { [QT_Q1_0] = Q1_0, [QT_Q2_0] = Q2_0,
		[QT_NVFP4] = NVFP4, [QT_TQ1_0] = TQ1_0, [QT_TQ2_0] = TQ2_0,
		[QT_IQ2_XXS] = IQ2_XXS, [QT_IQ2_XS] = IQ2_XS, [QT_IQ2_S] = IQ2_S,
		[QT_IQ3_XXS] = IQ3_XXS, [QT_IQ3_S] = IQ3_S, [QT_IQ1_S] = IQ1_S,
		[QT_IQ1_M] = IQ1_M };

	if (more[type] && len >= 256)
		return more[type];
#endif
	return kind_of(type, len);
}

static enum kind gemv_kind_of(uint32_t type, size_t len)
{
	return HERE(kind_anywhere(type, len));
}

#define GV_BLOCKS (GV_PART / 16 + 16) /* sums of a row's part, and a line to spread rows */
#define GV_SUPER (GV_PART / 256)
#define GV_X ((size_t)96 << 10)     /* bytes of arranged activations; longer rows are unpacked */

#ifndef ARRANGED
#define ARRANGED(kind) 0
static inline void arrange(enum kind kind, const int8_t *q, size_t n, int8_t *out)
{
	(void)kind, (void)q, (void)n, (void)out;
}
#endif

#ifndef EVENLY
#define EVENLY(kind) 0
#endif

#ifndef ACROSS
#define ACROSS(kind) 0
#endif

struct gv {
	uint8_t code[2][GV_PART];
	float sc[R][GV_BLOCKS], mn[R][GV_BLOCKS];
	uint32_t halves[GV_SUPER][R];    /* d and dmin as they lie */
	float d[GV_SUPER][R], dmin[GV_SUPER][R];
	union {
		int32_t s[GV_TOK][R][GV_BLOCKS]; /* sums of blocks; or S, M of groups */
		int32_t wide[GV_TOK][R * GV_SUPER][R]; /* of groups, rows in turn: lanes of S, M */
	};
	int8_t x[GV_X];
	const uint8_t *end, *last;       /* of the rows to do, and of those to ask for */
	struct asked asked[R];           /* of each row; of parts, as set_asked says */
	struct asks asks;
};

/* What is left to ask for, evenly in n steps, of which this is the first. */
ALWAYS void ask_rest(struct asks *asks, size_t n)
{
	size_t lines = asks->at < asks->to ? (size_t)(asks->to - asks->at) / 64 / n : 0;

	asks->step = 64;
	for (; lines; lines--)
		ask(asks);
}

/* acc[r] continues with row r's groups, in order, of which s holds S and M. */
ALWAYS VI add_exact(int min, struct gv *g, int32_t s[R][GV_BLOCKS], size_t n_group, const float *dx,
	VI acc)
{
	for (size_t i = 0; i < 2 * n_group; i += R) {
		VI v[R];

		ask_rest(&g->asks, (2 * n_group - i + R - 1) / R);
		for (int r = 0; r < R; r++)
			v[r] = vi_load(&s[r][i]);
		transpose(v);
		for (size_t k = i / 2; k < i / 2 + R / 2 && k < n_group; k++) {
			VI sum = v[2 * k - i], m = v[2 * k - i + 1];

			acc = min ? vf_exact_min(acc, sum, vi_load(g->d[k]), m, vi_load(g->dmin[k]), dx[k]) :
				vf_exact(acc, sum, vi_load(g->d[k]), dx[k]);
		}
	}
	return acc;
}

#ifdef WIDE
/* All rows of a part: two at a time where they are to share what they load. */
ALWAYS void wide_rows(enum kind kind, const struct codes *c, const struct part_rows *rows,
	const struct gv_in *in, size_t n_tok)
{
	size_t r = 0;

	for (; n_tok == 1 && (kind == TQ1_0 || kind == TQ2_0) && r + 1 < rows->nr; r += 2)
		wide_row(kind, c, rows, r, 2, in, 1); /* activations are loaded once */
	for (; n_tok == 1 && r < rows->nr; r++) /* the commonest: codes need not be kept */
		wide_row(kind, c, rows, r, 1, in, 1);
	for (; r < rows->nr; r++)
		wide_row(kind, c, rows, r, 1, in, n_tok);
}

/* The same of S, or halves of S and M, still in R lanes: s[R * k + r] of group k and row r. */
ALWAYS VI add_wide(int min, struct gv *g, int32_t s[][R], size_t n_group, const float *dx, VI acc)
{
	for (size_t k = 0; k < n_group; k++) {
		VI sum, m;

		ask_rest(&g->asks, n_group - k);
		if (min) {
			vi_two_sums(s + R * k, &sum, &m);
			acc = vf_exact_min(acc, sum, vi_load(g->d[k]), m, vi_load(g->dmin[k]), dx[k]);
		} else {
			acc = vf_exact(acc, vi_sums(s + R * k), vi_load(g->d[k]), dx[k]);
		}
	}
	return acc;
}
#else
#define WIDE(kind) 0
#define add_wide(min, g, s, n_group, dx, acc) (acc)
#define wide_rows(kind, c, rows, in, n_tok) ((void)(rows), (void)(in))
#endif

/* The same of sums of blocks, per of which make a group. xsum: of the token's blocks. */
struct chain { VI acc, t, u; };

/* R blocks from block b on; `left` times as many are left. */
ALWAYS void chain_blocks(int min, size_t per, struct gv *g, int32_t s[R][GV_BLOCKS], size_t b,
	size_t left, const float *dx, const int16_t *xsum, struct chain *h)
{
	struct asks asks = asks_now(g->asks);
	const size_t line = asks.step, lines = line ? (size_t)(asks.to - asks.at) / 64 : 0;
	const size_t more = lines > R / 2 * left ? 64 : 0;
	VI v[R], sc[R], mn[R];

	for (size_t r = 0; r < R; r++) {
		v[r] = vi_load(&s[r][b]);
		sc[r] = vi_load(&g->sc[r][b]);
		mn[r] = vi_load(&g->mn[r][b]);
	}
	transpose(v);
	transpose(sc);
	if (min)
		transpose(mn);
	for (size_t i = 0; i < R; i++) {
		h->t = vf_chain(h->t, v[i], sc[i]);
		if (min)
			h->u = vf_chain_min(h->u, mn[i], (float)xsum[b + i]);
		if ((b + i + 1) % per == 0) {
			float d = dx[(b + i) / per];

			h->acc = min ? vf_group_min(h->acc, h->t, h->u, d) : vf_group(h->acc, h->t, d);
			h->t = h->u = vf_zero();
		}
		asks.step = i % 2 ? line : more;
		ask(&asks);
	}
	g->asks = asks;
}

ALWAYS VI add_chains(int min, size_t per, struct gv *g, int32_t s[R][GV_BLOCKS],
	size_t n_block, const float *dx, const int16_t *xsum, VI acc)
{
	struct chain h = { acc, vf_zero(), vf_zero() };

	for (size_t b = 0; b < n_block; b += R)
		chain_blocks(min, per, g, s, b, (n_block - b) / R, dx, xsum, &h);
	return h.acc;
}

/* Of parts of nr rows, `bytes` bytes at `at` of each, which are used one after the other before any
 * other part of the rows: how far from that of row r lies what is used about n bytes later. */
static ptrdiff_t far_of(size_t r, size_t n, size_t bytes, size_t at, size_t row_bytes, size_t nr)
{
	size_t k = (n + bytes - 1) / bytes;
	ptrdiff_t turn = at + bytes < row_bytes ? (ptrdiff_t)bytes - (ptrdiff_t)(nr * row_bytes) :
		-(ptrdiff_t)at;

	k = k < nr ? k : nr;
	return (ptrdiff_t)(k * row_bytes) + (r + k < nr ? 0 : turn);
}

/* How far ahead rows are asked for that lie one behind another: see ahead.h. */
ALWAYS struct asked asked_rows(void)
{
	return asks_once() ? (struct asked){ 0, AHEAD_ONCE } : (struct asked){ AHEAD, AHEAD_NEAR };
}

static void set_asked(struct asked asked[R], size_t bytes, size_t at, size_t row_bytes, size_t nr)
{
	const struct asked whole = asked_rows();

	for (size_t r = 0; r < nr; r++)
		asked[r] = (struct asked){
			whole.far ? far_of(r, (size_t)whole.far, bytes, at, row_bytes, nr) : 0,
			far_of(r, (size_t)whole.near, bytes, at, row_bytes, nr) };
}

static const uint8_t *min_at(const uint8_t *a, const uint8_t *b)
{
	return a < b ? a : b;
}

/* Rows are begun: what is used first is asked for at once, unless that was done at the end of the
 * call before, of which this is what the scratch still tells; anything else does as well. */
static void asks_begin(struct gv *g, const uint8_t *rows, size_t lead)
{
	const uint8_t *to = min_at(g->last, rows + lead);

	if ((uintptr_t)to - (uintptr_t)g->asks.at >= 64)
		g->asks.at = rows;
	g->asks = (struct asks){ g->asks.at, to, 64 };
	while (g->asks.at < to)
		ask(&g->asks);
	for (size_t r = 0; r < R; r++)
		g->asked[r].near = 0;
}

/* Rows before `row` are read next. With the last of them what is read after all of them is asked
 * for, as far as it is known. */
static void asks_go_on(struct gv *g, const uint8_t *row, size_t lead, const uint8_t *next)
{
	g->asks.to = min_at(g->last, row + lead);
	if (next && next != g->end && g->last - g->asks.at < 64) {
		g->asks.at = next;
		g->asks.to = next + lead;
	}
}

/* Zeros behind rows of len elements, up to where sums of their blocks are taken. */
static void end_rows(struct gv *g, size_t blk, size_t len)
{
	size_t pad = act8_pad(len), b = len / blk, n = (pad / blk - b) * sizeof(float);

	for (int j = 0; j < 2; j++)
		memset(g->code[j] + len, 0, pad - len);
	for (size_t r = 0; r < R; r++) {
		memset(g->sc[r] + b, 0, n);
		memset(g->mn[r] + b, 0, n);
	}
}

/* A row is prepared while the one before it is used: what was stored is in the cache by then. */
ALWAYS void sums_of_rows(enum kind kind, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t len, const struct gv_in *in, size_t n_tok)
{
	const size_t n256 = exact_of(kind) ? super_bytes(c) : 0;
	const size_t bytes = UNPACKED(kind) ? qtype_row_bytes((uint32_t)(c - codes), len) : 0;
	struct part part[R];

	for (size_t r = 0; r < R; r++)
		part[r] = (struct part){ g->code[r & 1], g->sc[r], g->mn[r], g->end, g->asked[r],
			&g->asks };
	if (!LIES(kind))
		prepare(kind, c, rows, len, part[0]);
	for (size_t r = 0; r < nr; r++) {
		const uint8_t *row = rows + r * row_bytes;

		if (!LIES(kind) && r + 1 < nr)
			prepare(kind, c, row + row_bytes, len, part[r + 1]);
		if (UNPACKED(kind) && bytes >= AHEAD_ROW) /* others ask as they read */
			ahead(row, bytes, g->asked[r], g->end);
		for (size_t k = 0; exact_of(kind) && k < len / 256; k++)
			g->halves[k][r] = super_halves(kind, c, row + k * n256);
		sums_of_row(kind, c, row, len, part[r], in, n_tok, g->s[0][r], R * GV_BLOCKS);
	}
}

ALWAYS void gemv_rows(int kind, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t i, size_t len, const struct act8 *a, size_t np,
	size_t n_tok, VI acc[GV_TOK])
{
	const size_t blk = blk_of(kind), xb = ARRANGED(kind);
	const size_t per = 256 / blk, up = per > R ? per : R;
	const size_t n_block = (len / blk + up - 1) / up * up;
	const struct gv_in in = { a->q + i, xb ? g->x + i / 256 * xb : a->q + i, a->d + i / 256,
		(blk == 32 ? a->sum32 : a->sum16) + i / blk, np, xb ? np / 256 * xb : np };
	const struct part_rows part = { rows, row_bytes, nr, len / 256, g->asked, &g->asks, g->end,
		g->halves[0], g->wide[0][0], R * GV_SUPER * R };

	if (WIDE(kind))
		wide_rows(kind, c, &part, &in, n_tok);
	else
		sums_of_rows(kind, c, g, rows, row_bytes, nr, len, &in, n_tok);
	for (size_t k = 0; exact_of(kind) && k < len / 256; k++)
		super_floats(c, min_of(kind), g->halves[k], g->d[k], g->dmin[k]);
	for (size_t t = 0; t < n_tok; t++) {
		const float *dx = in.d + t * np / 256;

		if (WIDE(kind))
			acc[t] = add_wide(min_of(kind), g, g->wide[t], len / 256, dx, acc[t]);
		else if (exact_of(kind))
			acc[t] = add_exact(min_of(kind), g, g->s[t], len / 256, dx, acc[t]);
		else
			acc[t] = add_chains(min_of(kind), per, g, g->s[t], n_block, dx,
				in.sum + t * np / blk, acc[t]);
	}
}

#define X(kind) \
static void gemv_##kind(const struct codes *c, struct gv *g, const uint8_t *rows, \
	size_t row_bytes, size_t nr, size_t i, size_t len, const struct act8 *a, size_t np, \
	size_t n_tok, VI *acc) \
{ \
	if (!ACROSS(kind)) \
		gemv_rows(kind, c, g, rows, row_bytes, nr, i, len, a, np, n_tok, acc); \
}
GEMV_KINDS
#undef X

typedef void gemv_fn(const struct codes *, struct gv *, const uint8_t *, size_t, size_t, size_t,
	size_t, const struct act8 *, size_t, size_t, VI *);
static gemv_fn *const gemv_kinds[] = {
#define X(kind) [kind] = gemv_##kind,
GEMV_KINDS
#undef X
};

/* The last nr of n lanes. */
ALWAYS void vf_store_last(float *y, VI v, size_t n, size_t nr)
{
	float all[R];

	if (n == nr) {
		vf_store(y, v, nr);
		return;
	}
	vi_store(all, v);
	memcpy(y, all + n - nr, nr * sizeof *y);
}

#ifdef ACROSS_KINDS
/* ---- R rows at once ---- */

/* What a call is to do: rows r0 to r1 of n columns with n_tok tokens, to y + t * ys + r. */
struct gv_call { const uint8_t *rows; size_t row_bytes, n, r0, r1; const struct act8 *a;
	size_t n_tok; float *y; size_t ys; const uint8_t *next; size_t lead; };

ALWAYS void across_rows(enum kind kind, const struct codes *c, struct gv *g,
	const struct gv_call *call, size_t n_tok)
{
	const size_t row_bytes = call->row_bytes, n = call->n, np = act8_pad(n), xb = ARRANGED(kind);
	const struct act8 *a = call->a;
	const struct gv_in in = { a->q, xb ? g->x : a->q, a->d,
		blk_of(kind) == 32 ? a->sum32 : a->sum16, np, xb ? np / 256 * xb : np };
	const int twice = g->asked[0].far != 0;
	const int past = (call->r1 - call->r0) * row_bytes >= STORE_PAST;

	for (size_t r = call->r0; r < call->r1; r += R) {
		const size_t nr = call->r1 - r < R ? call->r1 - r : R;
		const size_t first = r + nr - R; /* where R are wanted, some are done again */
		VI acc[GV_TOK];

		asks_go_on(g, call->rows + (r + nr) * row_bytes, call->lead,
			r + nr < call->r1 ? NULL : call->next);
		for (size_t t = 0; t < n_tok; t++)
			acc[t] = vf_zero();
		groups_across(kind, c, call->rows + first * row_bytes, row_bytes, n, &in, n_tok, twice,
			&g->asks, acc);
		ask_rest(&g->asks, 1);
		for (size_t t = 0; t < n_tok; t++) {
			float *y = call->y + t * call->ys + r;

			if (past && nr == R && !((uintptr_t)y % 64))
				vf_store_past(y, acc[t]);
			else
				vf_store_last(y, acc[t], R, nr);
		}
	}
}

#define X(kind) \
static void across_##kind(const struct codes *c, struct gv *g, const struct gv_call *call) \
{ \
	if (call->n_tok == 1) /* the commonest: codes need not be kept */ \
		across_rows(kind, c, g, call, 1); \
	else \
		across_rows(kind, c, g, call, call->n_tok); \
}
ACROSS_KINDS
#undef X

typedef void across_fn(const struct codes *, struct gv *, const struct gv_call *);
static across_fn *const across_kinds[] = {
#define X(kind) [kind] = across_##kind,
ACROSS_KINDS
#undef X
};
#endif

static void gemv_body(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const struct act8 *a, size_t n_tok, float *y, size_t ys, const uint8_t *next,
	struct gv *g)
{
	const struct codes *c = &codes[type];
	const enum kind most = gemv_kind_of(type, n);
	const size_t np = act8_pad(n);
	const int fits = np / 256 * ARRANGED(most) * n_tok <= GV_X;
	const int across = ACROSS(most) && r1 >= R && fits;
	size_t n_part = across ? 1 : (n + GV_PART - 1) / GV_PART;
	size_t step = act8_pad((n + n_part - 1) / n_part);
	const int evenly = across || (asks_once() && n_part == 1 && EVENLY(most));
	const size_t lead = across ? R * row_bytes + AHEAD_MORE : AHEAD_EVEN;
	const size_t part_bytes = n_part > 1 ? qtype_row_bytes(type, step) : row_bytes;

	g->end = rows + r1 * row_bytes;
	g->last = g->end + (evenly && next == g->end ? lead : 0); /* one piece */
	for (size_t r = 0; r < R; r++)
		g->asked[r] = asked_rows();
	if (evenly)
		asks_begin(g, rows + r0 * row_bytes, lead);
	else
		g->asks = (struct asks){ rows, rows, 0 };
	if (ARRANGED(most) && fits)
		arrange(most, a->q, np * n_tok, g->x);
#ifdef ACROSS_KINDS
	if (across) {
		across_kinds[most](c, g, &(struct gv_call){ rows, row_bytes, n, r0, r1, a, n_tok, y, ys,
			next, lead });
		return;
	}
#endif
	for (size_t r = r0; r < r1; r += R) {
		size_t nr = r1 - r < R ? r1 - r : R;
		VI acc[GV_TOK];

		if (evenly)
			asks_go_on(g, rows + (r + nr) * row_bytes, lead, r + nr < r1 ? NULL : next);
		for (size_t t = 0; t < n_tok; t++)
			acc[t] = vf_zero();
		for (size_t i = 0, at = 0; i < n; i += step, at += part_bytes) {
			size_t len = n - i < step ? n - i : step;
			enum kind kind = gemv_kind_of(type, len);

			if ((ARRANGED(kind) && !fits) || ACROSS(kind))
				kind = kind_anywhere(type, len);
			if ((ARRANGED(kind) && !fits) || ACROSS(kind))
				kind = kind_of(type, 0);
			if (len < act8_pad(len) && !LIES(kind) && (n_part > 1 || r == r0))
				/* a page may be untouched: not for nothing */
				end_rows(g, blk_of(kind), len);
			if (n_part > 1)
				set_asked(g->asked, qtype_row_bytes(type, len), at, row_bytes, nr);
			gemv_kinds[kind](c, g, rows + r * row_bytes + at, row_bytes, nr, i, len, a, np, n_tok,
				acc);
		}
		for (size_t t = 0; t < n_tok; t++)
			vf_store(y + t * ys + r, acc[t], nr);
	}
}

_Static_assert(sizeof(struct gv) <= INT8_SCRATCH, "scratch");

/* As gemm of struct int8_kern. */
ALWAYS void gemm_body(const struct tile *tiles, uint32_t type, const uint8_t *rows,
	size_t row_bytes, size_t n, size_t r0, size_t r1, struct act8 a, size_t n_tok, float *y,
	size_t ys, const void *next, void *scratch)
{
	if (n_tok <= GV_TOK)
		gemv_body(type, rows, row_bytes, n, r0, r1, &a, n_tok, y, ys, next, scratch);
	else
		gemm_many(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
}
