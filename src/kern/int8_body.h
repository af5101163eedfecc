/*
 * int8_body.h - the loops of the 8-bit products, written once and compiled for each instruction set.
 *
 * Prefill: R weight rows are unpacked, interleaved by four bytes so that a vector lane is a row, and
 * used against some tokens at a time; integer sums of a block stay in registers. Decode: rows are
 * read one after the other as they lie, integer sums come out with a lane per block, and they are
 * turned to a lane per row before they become floats. Both add in the order of int8.h.
 *
 * The including file has included int8_codes.h and defines R (lanes of 32 bits), GM_TOK (tokens of a
 * tile, at most), VI (a vector of R int32, or of R floats), kinds (as int8_kinds.h), and, as static
 * inline functions:
 *	vi_load(p), vi_store(p, v), transpose(VI v[R])     R x R lanes
 *	vi_pair(a, b)                                      lanes of two int16: a's and b's integers
 *	vi_int(v)                                          floats to integers
 *	vi_minus_shifted(p, log2)                          -p[i] * 2^log2, or 0 for log2 0, of R int16
 *	vf_zero(), vf_store(y, v, n)                       n: store the first n of them
 *	vf_exact(acc, s, d, dx)                            acc + float(s) * (d * dx)
 *	vf_exact_min(acc, s, d, m, dm, dx)                 acc + fma(-float(m), dm * dx, the product above)
 *	vf_chain(t, s, sc)                                 fma(float(s), sc, t)
 *	vf_chain_min(v, mn, x)                             fma(mn, x, v)
 *	vf_halves(v, by, unit)                             float(the half float in the 16 bits of each lane
 *	                                                   from bit `by` on) * unit
 *	vf_group(acc, t, dx), vf_group_min(acc, t, v, dx)  acc + t * dx, acc + (t - v) * dx
 *	prepare(kind, c, row, len, part)                   codes, scales and minima, if sums_of_row needs
 *	                                                   them
 *	sums_of_row(kind, c, row, len, part, in, n_tok, out, os)
 *	                                                   of a row with n_tok tokens, os integers apart:
 *	                                                   kinds with scales in floating point: sum_b(w x) by
 *	                                                   blocks up to a multiple of R and of 256
 *	                                                   elements, and the scales and minima to part,
 *	                                                   zeros behind len; with integer scales: S and
 *	                                                   M of each group of 256
 *	fill_raw(kind, row, len, tile, sct, mnt, mpt, halves) and
 *	scales(kind, c, row, len, sc, mn)                  tiles without unpacking rows one by one; tells by
 *	                                                   flags what it filled
 *	OFF_LOG2(c)                                        log2 of the off that tiles must be freed from
 * A kind is a constant that says how a row is read: KINDS lists X(kind), kind_of(type, len) picks one,
 * an unpacked one for len 0; exact_of(kind), min_of(kind) and blk_of(kind) tell about it. It may define
 * besides
 *	GM_GROUPS, GM_PART                                 groups of R rows, and elements, of a tile
 *	PART_OF(c)                                         fewer elements of some types
 *	TOKEN_TERMS(c)                                     0 if tiles need neither start nor sx
 *	TILE_ASKS                                          1: tiles ask for gm_in.next on the way, not
 *	                                                   before they begin
 *	PAIRS                                              1: integer scales are in pairs of blocks, as
 *	                                                   minima are
 *	HALVED(kind, len, nr)                              elements of nr rows that sums_of_row does; the
 *	                                                   last R / 2 blocks are for end_of_two, if fewer
 *	                                                   than len
 *	end_of_two(kind, c, row, row_bytes, i, len, part, in, n_tok, out, os)
 *	                                                   the same from element i on: R / 2 blocks of
 *	                                                   this row, then of the one R / 2 behind it
 *	transpose_halves(VI v[R])                          R / 2 of such -> R / 2 lanes by row
 *	FINISH(c, g, n_group, len)                         what else is to do with a tile that was filled
 *	ARRANGED(kind), arrange(kind, q, n, out)           an order of activations that it wants, and
 *	                                                   bytes that 256 of them take (0: none)
 *	WIDE(kind), wide_row(kind, c, rows, r, n_row, in, n_tok)
 *	                                                   kinds with integer scales, and what leaves
 *	                                                   R lanes of each 256 of row r (or 2), to be
 *	                                                   added up: to S, or half to S and half to M
 *	vi_sums(v), vi_two_sums(v, s, m)                   how that is done for R rows, a lane each
 * After this, the file defines its tiles and their table, and its gemm calls gemm_body.
 */
/* ---- one token, or a few ---- */

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

#ifndef HALVED
#define HALVED(kind, len, nr) (len)
#define end_of_two(...) ((void)0)
#define transpose_halves(v) ((void)(v))
#endif

/* Bytes of 256 elements of a type with integer scales. */
ALWAYS size_t super_bytes(const struct codes *c)
{
	return qtype_row_bytes((uint32_t)(c - codes), 256);
}

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
	const uint8_t *end;              /* of the rows to do */
	struct asked asked[R];           /* of each row; of parts, as set_asked says */
};

/* acc[r] continues with row r's groups, in order, of which s holds S and M. */
ALWAYS VI add_exact(int min, const struct gv *g, int32_t s[R][GV_BLOCKS], size_t n_group, const float *dx,
	VI acc)
{
	for (size_t i = 0; i < 2 * n_group; i += R) {
		VI v[R];

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
ALWAYS VI add_wide(int min, const struct gv *g, int32_t s[][R], size_t n_group, const float *dx,
	VI acc)
{
	for (size_t k = 0; k < n_group; k++) {
		VI sum, m;

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

/* R vectors `step` bytes apart, of them half as halves of two rows -> lanes by row. */
ALWAYS void by_row(VI v[R], const void *at, size_t step, const int half)
{
	for (size_t r = 0; r < (half ? R / 2 : R); r++)
		v[r] = vi_load((const char *)at + r * step);
	if (half)
		transpose_halves(v);
	else
		transpose(v);
}

/* The same of sums of blocks, per of which make a group. xsum: of the token's blocks. */
struct chain { VI acc, t, u; };

/* R blocks from block b on, or half as many. */
ALWAYS void chain_blocks(int min, size_t per, const struct gv *g, int32_t s[R][GV_BLOCKS], size_t b,
	const int half, const float *dx, const int16_t *xsum, struct chain *h)
{
	VI v[R], sc[R], mn[R];

	by_row(v, &s[0][b], sizeof s[0], half);
	by_row(sc, &g->sc[0][b], sizeof g->sc[0], half);
	if (min)
		by_row(mn, &g->mn[0][b], sizeof g->mn[0], half);
	for (size_t i = 0; i < (half ? R / 2 : R); i++) {
		h->t = vf_chain(h->t, v[i], sc[i]);
		if (min)
			h->u = vf_chain_min(h->u, mn[i], (float)xsum[b + i]);
		if ((b + i + 1) % per == 0) {
			float d = dx[(b + i) / per];

			h->acc = min ? vf_group_min(h->acc, h->t, h->u, d) : vf_group(h->acc, h->t, d);
			h->t = h->u = vf_zero();
		}
	}
}

/* n_block blocks; behind them, if there is a half, half of R. */
ALWAYS VI add_chains(int min, size_t per, const struct gv *g, int32_t s[R][GV_BLOCKS],
	size_t n_block, int half, const float *dx, const int16_t *xsum, VI acc)
{
	struct chain h = { acc, vf_zero(), vf_zero() };

	for (size_t b = 0; b < n_block; b += R)
		chain_blocks(min, per, g, s, b, 0, dx, xsum, &h);
	if (half)
		chain_blocks(min, per, g, s, n_block, 1, dx, xsum, &h);
	return h.acc;
}

/* d and dmin of R rows, as they lie, as floats. */
ALWAYS void super_floats(const struct codes *c, int min, const uint32_t halves[R], float *d, float *dmin)
{
	VI v = vi_load(halves);

	vi_store(d, vf_halves(v, 0, c->d_unit));
	if (min)
		vi_store(dmin, vf_halves(v, 16, 1));
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

/* How far ahead rows are asked for that lie one behind another. Intel's processors: an ask that memory
 * must answer keeps one of few places through which all that is read must pass; so once, and as far as
 * the hardware itself reads ahead of what is used. */
ALWAYS struct asked asked_rows(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_is("intel"))
		return (struct asked){ 0, AHEAD_ONCE };
#endif
	return (struct asked){ AHEAD, AHEAD_NEAR };
}

static void set_asked(struct asked asked[R], size_t bytes, size_t at, size_t row_bytes, size_t nr)
{
	const struct asked whole = asked_rows();

	for (size_t r = 0; r < nr; r++)
		asked[r] = (struct asked){
			whole.far ? far_of(r, (size_t)whole.far, bytes, at, row_bytes, nr) : 0,
			far_of(r, (size_t)whole.near, bytes, at, row_bytes, nr) };
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

/* A row is prepared while the one before it is used: what was stored has reached the cache by then. */
ALWAYS void sums_of_rows(enum kind kind, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t len, const struct gv_in *in, size_t n_tok)
{
	const size_t n256 = exact_of(kind) ? super_bytes(c) : 0;
	const size_t bytes = UNPACKED(kind) ? qtype_row_bytes((uint32_t)(c - codes), len) : 0;
	const size_t whole = HALVED(kind, len, nr);
	struct part part[R];

	for (size_t r = 0; r < R; r++)
		part[r] = (struct part){ g->code[r & 1], g->sc[r], g->mn[r], g->end, g->asked[r] };
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
		sums_of_row(kind, c, row, whole, part[r], in, n_tok, g->s[0][r], R * GV_BLOCKS);
	}
	for (size_t r = 0; whole < len && r < R / 2; r++)
		end_of_two(kind, c, rows + r * row_bytes, row_bytes, whole, len, part[r], in, n_tok,
			g->s[0][r], R * GV_BLOCKS);
}

ALWAYS void gemv_rows(int kind, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t i, size_t len, const struct act8 *a, size_t np,
	size_t n_tok, VI acc[GV_TOK])
{
	const size_t blk = blk_of(kind), xb = ARRANGED(kind), whole = HALVED(kind, len, nr);
	const size_t per = 256 / blk, up = per > R ? per : R;
	const size_t n_block = (whole / blk + up - 1) / up * up;
	const struct gv_in in = { a->q + i, xb ? g->x + i / 256 * xb : a->q + i, a->d + i / 256,
		(blk == 32 ? a->sum32 : a->sum16) + i / blk, np, xb ? np / 256 * xb : np };
	const struct part_rows part = { rows, row_bytes, nr, len / 256, g->asked, g->end, g->halves[0],
		g->wide[0][0], R * GV_SUPER * R };

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
			acc[t] = add_chains(min_of(kind), per, g, g->s[t], n_block, whole < len, dx,
				in.sum + t * np / blk, acc[t]);
	}
}

#define X(kind) \
static void gemv_##kind(const struct codes *c, struct gv *g, const uint8_t *rows, size_t row_bytes, \
	size_t nr, size_t i, size_t len, const struct act8 *a, size_t np, size_t n_tok, VI *acc) \
{ \
	gemv_rows(kind, c, g, rows, row_bytes, nr, i, len, a, np, n_tok, acc); \
}
GEMV_KINDS
#undef X

typedef void gemv_fn(const struct codes *, struct gv *, const uint8_t *, size_t, size_t, size_t, size_t,
	const struct act8 *, size_t, size_t, VI *);
static gemv_fn *const gemv_kinds[] = {
#define X(kind) [kind] = gemv_##kind,
GEMV_KINDS
#undef X
};

static void gemv_body(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const struct act8 *a, size_t n_tok, float *y, size_t ys, struct gv *g)
{
	const struct codes *c = &codes[type];
	const enum kind most = gemv_kind_of(type, n);
	size_t np = act8_pad(n), n_part = (n + GV_PART - 1) / GV_PART;
	size_t step = act8_pad((n + n_part - 1) / n_part);
	int fits = np / 256 * ARRANGED(most) * n_tok <= GV_X;

	g->end = rows + r1 * row_bytes;
	for (size_t r = 0; r < R; r++)
		g->asked[r] = asked_rows();
	if (ARRANGED(most) && fits)
		arrange(most, a->q, np * n_tok, g->x);
	for (size_t r = r0; r < r1; r += R) {
		size_t nr = r1 - r < R ? r1 - r : R;
		VI acc[GV_TOK];

		for (size_t t = 0; t < n_tok; t++)
			acc[t] = vf_zero();
		for (size_t i = 0; i < n; i += step) {
			size_t len = n - i < step ? n - i : step;
			enum kind kind = gemv_kind_of(type, len);

			if (ARRANGED(kind) && !fits)
				kind = kind_of(type, 0);
			if (len < act8_pad(len) && !LIES(kind) && (n_part > 1 || r == r0))
				/* a page may be untouched: not for nothing */
				end_rows(g, blk_of(kind), len);
			if (n_part > 1)
				set_asked(g->asked, qtype_row_bytes(type, len), qtype_row_bytes(type, i), row_bytes,
					nr);
			gemv_kinds[kind](c, g, rows + r * row_bytes + qtype_row_bytes(type, i), row_bytes, nr, i, len,
				a, np, n_tok, acc);
		}
		for (size_t t = 0; t < n_tok; t++)
			vf_store(y + t * ys + r, acc[t], nr);
	}
}

/* ---- many tokens ---- */

#ifndef GM_GROUPS
#define GM_GROUPS 1
#endif
#ifndef GM_PART
#define GM_PART 1024               /* half the L1 cache */
#endif
#define GM_BLOCKS (GM_PART / 16)
#define GM_SUPER (GM_PART / 256)
#ifndef PART_OF
#define PART_OF(c) GM_PART
#endif
#ifndef TOKEN_TERMS
#define TOKEN_TERMS(c) (!(c)->has_min || !exact(c))
#endif
#ifndef PAIRS
#define PAIRS 0
#endif
#ifndef TILE_ASKS
#define TILE_ASKS 0
#endif
#ifndef FINISH
#define FINISH(c, g, n_group, len) ((void)0)
#endif

/* Groups of R rows, GM_PART elements of each. Scales are floats or integers, as the type's are. */
struct gm {
	uint8_t code[R][GM_PART];      /* of rows that are unpacked, and scales not yet turned */
	float sc[R][GM_BLOCKS], mn[R][GM_BLOCKS];
	/* what lies together is used together, and does not fall on the same lines of the L1 cache */
	uint8_t tile[GM_PART / 4][GM_GROUPS][R][4];           /* or half as many, if packed */
	float sct[GM_BLOCKS][GM_GROUPS][R], mnt[GM_BLOCKS][GM_GROUPS][R];
	int16_t mpt[GM_BLOCKS / 2][GM_GROUPS][R][2];          /* integer minima, in pairs of blocks */
	uint32_t halves[GM_SUPER][R];                         /* of one group: d and dmin as they lie */
	float dt[GM_SUPER][GM_GROUPS][R], dmt[GM_SUPER][GM_GROUPS][R]; /* d and dmin, if integers */
	int32_t start[GM_TOK][GM_BLOCKS]; /* what a block's integer sum starts from: -off * sum(x) */
	float sx[GM_TOK][GM_BLOCKS];      /* float(sum(x)), for minima in floating point */
	int packed;                       /* codes of four bits, two a byte (FILLED_PACKED) */
};

_Static_assert(sizeof(struct gm) <= INT8_SCRATCH && sizeof(struct gv) <= INT8_SCRATCH, "scratch");

/* Rows that will be wanted: `n` parts of `bytes`, `step` apart. */
struct next { const uint8_t *p; size_t n, step, bytes; };

/* What a tile needs of its tokens, which are np, np / 256, np / blk behind each other. */
struct gm_in { const int8_t *q; const float *d; const int16_t *sum; const uint8_t *fits; size_t np;
	struct next next; /* to be asked for meanwhile, if TILE_ASKS */
};

/* n_group * R rows (the last group: nr) against its tokens: n256 groups of 256 elements. */
typedef void tile_fn(const struct codes *c, const struct gm *g, size_t n256, const struct gm_in *in,
	float *y, size_t ys, size_t nr, int first);

/* A table of tiles: by groups, most first, then by tokens, most first; down to one group and token. */
struct tile { size_t n_tok; tile_fn *fn; size_t n_group; };

/* R rows of scales or minima -> a lane per row, n_block of them, GM_GROUPS * R apart. */
ALWAYS void flip(const float in[R][GM_BLOCKS], float (*out)[R], size_t n_block, int to_int)
{
	for (size_t b = 0; b < n_block; b += R) {
		VI v[R];

		for (int r = 0; r < R; r++)
			v[r] = vi_load(&in[r][b]);
		transpose(v);
		for (size_t i = 0; i < R; i++)
			vi_store(out[(b + i) * GM_GROUPS], to_int ? vi_int(v[i]) : v[i]);
	}
}

/* R rows of len elements as group `to`; rows from nr on repeat the last, and nobody looks at them. */
ALWAYS void fill_rows(int kind, const struct codes *c, struct gm *g, size_t to, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t len)
{
	const size_t n_block = len / blk_of(kind), n_all = (len + 255) / 256 * 256 / blk_of(kind);
	const size_t n256 = exact_of(kind) ? super_bytes(c) : 0;
	const uint8_t *row[R];
	int filled;

	for (size_t r = 0; r < R; r++)
		row[r] = rows + (r < nr ? r : nr - 1) * row_bytes;
	filled = fill_raw(kind, row, len, &g->tile[0][to], &g->sct[0][to], &g->mnt[0][to], &g->mpt[0][to],
		g->halves);
	g->packed = (filled & FILLED_PACKED) != 0;
	for (size_t k = 0; exact_of(kind) && k < len / 256; k++) {
		for (size_t r = 0; r < R && !(filled & FILLED_SUPER); r++)
			g->halves[k][r] = super_halves(kind, c, row[r] + k * n256);
		super_floats(c, min_of(kind), g->halves[k], g->dt[k][to], g->dmt[k][to]);
	}
	if (!(filled & FILLED_SCALES)) {
		for (size_t r = 0; r < R; r++) {
			if (filled & FILLED_CODES)
				scales(kind, c, row[r], len, g->sc[r], g->mn[r]);
			else
				prepare(kind, c, row[r], len,
					(struct part){ g->code[r], g->sc[r], g->mn[r], NULL, { 0, 0 } });
			for (size_t b = n_block; b < n_all; b++)
				g->sc[r][b] = g->mn[r][b] = 0;
		}
		flip(g->sc, &g->sct[0][to], n_all, exact_of(kind));
		if (min_of(kind))
			flip(g->mn, &g->mnt[0][to], n_all, exact_of(kind));
		for (size_t b = 0; PAIRS && exact_of(kind) && b < n_block; b += 2)
			vi_store(g->sct[b / 2][to],
				vi_pair(vi_load(g->sct[b][to]), vi_load(g->sct[b + 1][to])));
		for (size_t b = 0; exact_of(kind) && min_of(kind) && b < n_block; b += 2)
			vi_store(g->mpt[b / 2][to], vi_pair(vi_load(g->mnt[b][to]), vi_load(g->mnt[b + 1][to])));
	}
	for (size_t i = 0; i < len && !(filled & FILLED_CODES); i += 4 * R) {
		VI v[R];

		for (int r = 0; r < R; r++)
			v[r] = vi_load(g->code[r] + i);
		transpose(v);
		for (size_t k = 0; k < R; k++)
			vi_store(g->tile[i / 4 + k][to], v[k]);
	}
}

#define X(kind) \
static void fill_##kind(const struct codes *c, struct gm *g, size_t to, const uint8_t *rows, \
	size_t row_bytes, size_t nr, size_t len) \
{ \
	fill_rows(kind, c, g, to, rows, row_bytes, nr, len); \
}
KINDS
#undef X

typedef void fill_fn(const struct codes *, struct gm *, size_t, const uint8_t *, size_t, size_t, size_t);
static fill_fn *const fill_kinds[] = {
#define X(kind) [kind] = fill_##kind,
KINDS
#undef X
};

/* What the tokens of a tile contribute to a block of their own, of len elements from element `at` of
 * the rounded rows on: nothing that a tile needs where minima are integers, which is the commonest. */
static void token_terms(const struct codes *c, struct gm *g, const struct act8 *a, size_t np, size_t at,
	size_t len, size_t n_tok)
{
	size_t n_block = (len + 255) / 256 * 256 / c->blk;

	if (!TOKEN_TERMS(c))
		return;
	for (size_t t = 0; t < n_tok; t++, at += np) {
		const int16_t *restrict sum = c->blk == 32 ? a->sum32 + at / 32 : a->sum16 + at / 16;
		int32_t *restrict start = g->start[t];
		float *restrict sx = g->sx[t];

		for (size_t b = 0; b < n_block && !c->has_min; b += R)
			vi_store(start + b, vi_minus_shifted(sum + b, OFF_LOG2(c)));
		for (size_t b = 0; b < n_block && c->has_min; b++)
			sx[b] = (float)sum[b];
	}
}

/* Asks for `bytes` bytes of rows `from` to `to` of them: the second-level cache, or if wanted now,
 * the first. */
ALWAYS void fetch_rows(const struct next *next, size_t from, size_t to, size_t bytes, int now)
{
	for (size_t r = from; r < to && r < next->n; r++) {
		uintptr_t p = (uintptr_t)next->p + r * next->step;

		for (uintptr_t i = p & ~(uintptr_t)63; i < p + bytes; i += 64) {
			if (now)
				__builtin_prefetch((const void *)i, 0, 3);
			else
				__builtin_prefetch((const void *)i, 0, 2);
		}
	}
}

/* All tokens against the tile of n_group groups that g holds; tiles begins with tiles of that many. The
 * next rows are asked for on the way, a few with each tile: memory is not left idle, nor flooded. */
static void against_tokens(const struct tile *tiles, const struct codes *c, struct gm *g, size_t n,
	size_t i, size_t len, const struct act8 *a, size_t n_tok, float *y, size_t ys, size_t nr,
	const struct next *next)
{
	size_t np = act8_pad(n), step = (next->n * tiles->n_tok + n_tok - 1) / n_tok;
	struct next part = *next;

	for (size_t t = 0; t < n_tok; t += tiles->n_tok) {
		size_t at = t * np + i;
		struct gm_in in = { a->q + at, a->d + at / 256, c->blk == 32 ? a->sum32 + at / 32 : a->sum16 + at / 16,
			a->fits + at / 256, np, part };

		in.next.n = part.n < step ? part.n : step;
		if (!TILE_ASKS)
			fetch_rows(&in.next, 0, step, next->bytes, 0);
		part.n -= in.next.n;
		part.p += in.next.n * next->step;
		while (tiles->n_tok > n_tok - t)
			tiles++;
		token_terms(c, g, a, np, at, len, tiles->n_tok);
		tiles->fn(c, g, (len + 255) / 256, &in, y + t * ys, ys, nr, i == 0);
	}
}

ALWAYS void gemm_body(const struct tile *tiles, uint32_t type, const uint8_t *rows, size_t row_bytes,
	size_t n, size_t r0, size_t r1, struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	const struct codes *c = &codes[type];
	struct gm *g = scratch;
	size_t n_row;

	if (n_tok <= GV_TOK) {
		gemv_body(type, rows, row_bytes, n, r0, r1, &a, n_tok, y, ys, scratch);
		return;
	}
	for (size_t r = r0; r < r1; r += n_row) {
		while ((tiles->n_group - 1) * R >= r1 - r)
			tiles++;
		n_row = r1 - r < tiles->n_group * R ? r1 - r : tiles->n_group * R;
		for (size_t i = 0; i < n; i += PART_OF(c)) {
			size_t len = n - i < PART_OF(c) ? n - i : PART_OF(c);
			const uint8_t *p = rows + r * row_bytes + qtype_row_bytes(type, i);
			fill_fn *fill = fill_kinds[kind_of(type, len)];
			struct next next = { p, n_row, row_bytes,
				qtype_row_bytes(type, n < PART_OF(c) ? n : PART_OF(c)) };

			fetch_rows(&next, 0, R, next.bytes, 1);
			for (size_t k = 0; k * R < n_row; k++) {
				fetch_rows(&next, (k + 1) * R, (k + 2) * R, next.bytes, 1);
				fill(c, g, k, p + k * R * row_bytes, row_bytes,
					n_row - k * R < R ? n_row - k * R : R, len);
			}
			FINISH(c, g, tiles->n_group, len);
			/* then the rest of these rows, or the rows after them, if only for another thread */
			if (i + len < n)
				next.p += next.bytes;
			else
				next.p += n_row * row_bytes - qtype_row_bytes(type, i);
			against_tokens(tiles, c, g, n, i, len, &a, n_tok, y + r, ys, n_row - (tiles->n_group - 1) * R,
				&next);
		}
	}
}
