/*
 * int8_body.h - the loops of the 8-bit products of many tokens, written once and compiled for each
 * instruction set; those of one token, or of a few, are in int8_few.h.
 *
 * R weight rows are unpacked, interleaved by four bytes so that a vector lane is a row, and used
 * against some tokens at a time. Sums are added in the order of int8.h.
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
 *	prepare(kind, c, row, len, part)                   codes, scales and minima of what is not read as
 *	                                                   it lies
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
 *	FINISH(c, g, n_group, len)                         what else is to do with a tile that was filled
 *	AS_CODES(c, v)                                     codes of four bytes a lane as tiles want them
 * After this, the file defines its tiles and their table, and its gemm calls gemm_many, or gemm_body of
 * int8_few.h.
 */
/* Bytes of 256 elements of a type with integer scales. */
ALWAYS size_t super_bytes(const struct codes *c)
{
	return qtype_row_bytes((uint32_t)(c - codes), 256);
}

/* d and dmin of R rows, as they lie, as floats. */
ALWAYS void super_floats(const struct codes *c, int min, const uint32_t halves[R], float *d, float *dmin)
{
	VI v = vi_load(halves);

	vi_store(d, vf_halves(v, 0, c->d_unit));
	if (min)
		vi_store(dmin, vf_halves(v, 16, 1));
}

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
#ifndef AS_CODES
#define AS_CODES(c, v) (v)
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

_Static_assert(sizeof(struct gm) <= INT8_SCRATCH, "scratch");

/* Rows that will be wanted: `n` parts of `bytes`, `step` apart. */
struct next { const uint8_t *p; size_t n, step, bytes; };

/* What a tile needs of its tokens, which are np, np / 256, np / blk behind each other. */
struct gm_in { const int8_t *q; const float *d; const int16_t *sum; const uint8_t *fits; size_t np, n_tok;
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
					(struct part){ g->code[r], g->sc[r], g->mn[r], NULL, { 0, 0 }, NULL });
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
			vi_store(g->tile[i / 4 + k][to], AS_CODES(c, v[k]));
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
			a->fits + at / 256, np, 0, part };

		in.next.n = part.n < step ? part.n : step;
		if (!TILE_ASKS)
			fetch_rows(&in.next, 0, step, next->bytes, 0);
		part.n -= in.next.n;
		part.p += in.next.n * next->step;
		while (tiles->n_tok > n_tok - t)
			tiles++;
		in.n_tok = tiles->n_tok;
		token_terms(c, g, a, np, at, len, tiles->n_tok);
		tiles->fn(c, g, (len + 255) / 256, &in, y + t * ys, ys, nr, i == 0);
	}
}

ALWAYS void gemm_many(const struct tile *tiles, uint32_t type, const uint8_t *rows, size_t row_bytes,
	size_t n, size_t r0, size_t r1, struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	const struct codes *c = &codes[type];
	struct gm *g = scratch;
	size_t n_row;

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
