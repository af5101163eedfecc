/*
 * int8_body.h - the loops of the 8-bit products, written once and compiled for each instruction set.
 *
 * Prefill: R weight rows are unpacked, interleaved by four bytes so that a vector lane is a row, and
 * used against some tokens at a time; integer sums of a block stay in registers. Decode: rows are
 * read one after the other as they lie, block sums come out with a lane per block, and the products
 * are turned to a lane per row before they are added up. Both add in the order of int8.h.
 *
 * The including file has included int8_codes.h and defines R (lanes of 32 bits), GM_TOK (tokens of a
 * tile, at most), VI (a vector of R int32) and, as static inline functions:
 *	vi_load(p), vi_store(p, v), transpose(VI v[R])     R x R lanes
 *	vf_zero(), vf_add(a, b)                            VI as R floats
 *	vf_store(y, v, n)                                  the first n of them
 *	prepare(kind, c, row, len, part)                   scales and minima, codes if fetch needs them
 *	bytes256(kind)                                     of 256 elements as they lie
 *	fetch(kind, p, code, j)                            codes 4R j .. 4R (j + 1) - 1 of 256 that lie at
 *	                                                   p, or were unpacked at code
 *	products(kind, c, row, len, part, q, d, sum, out)  p_b of a row against a token; zeros up to
 *	                                                   act8_pad(len)
 *	OFF_LOG2(c)                                        log2 of the off that sums must be freed from
 * A kind is a constant that says how a row is read: KINDS lists X(kind), kind_of(type, len) picks one.
 * After this, the file defines its tiles and their table, and its gemm calls gemm_body.
 */
/* ---- one token, or a few ---- */

#define GV_PART 4096                /* elements of a row at a time */
#define GV_TOK 4                    /* tokens that share the unpacked codes */
#define GV_BLOCKS (GV_PART / 16)    /* products of a row's part, at most */

struct gv {
	struct { uint8_t code[GV_PART]; float sc[GV_BLOCKS], mn[GV_BLOCKS]; } part[2];
	float p[GV_TOK][R][GV_BLOCKS];
	const uint8_t *end;    /* of the rows to do */
};

/* acc[r] continues with row r's products, in order. */
static VI add_up(float p[R][GV_BLOCKS], size_t n_block, VI acc)
{
	for (size_t b = 0; b < n_block; b += R) {
		VI v[R];

		for (int r = 0; r < R; r++)
			v[r] = vi_load(&p[r][b]);
		transpose(v);
		for (int i = 0; i < R; i++)
			acc = vf_add(acc, v[i]);
	}
	return acc;
}

/* A row is prepared while the one before it is used: what was stored has reached the cache by then. */
ALWAYS void gemv_rows(int kind, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t i, size_t len, struct act8 a, size_t np, size_t n_tok)
{
	struct part part[2];

	for (int j = 0; j < 2; j++) {
		part[j] = (struct part){ g->part[j].code, g->part[j].sc, g->part[j].mn, g->end };
		memset(part[j].code + len, 0, act8_pad(len) - len);
		for (size_t b = len / c->blk; b < act8_pad(len) / c->blk; b++)
			part[j].sc[b] = part[j].mn[b] = 0;
	}
	prepare(kind, c, rows, len, part[0]);
	for (size_t r = 0; r < nr; r++) {
		if (r + 1 < nr)
			prepare(kind, c, rows + (r + 1) * row_bytes, len, part[(r + 1) & 1]);
		for (size_t t = 0; t < n_tok; t++) {
			size_t at = t * np + i;

			products(kind, c, rows + r * row_bytes, len, part[r & 1], a.q + at, a.d + at / 32,
				c->blk == 32 ? a.sum32 + at / 32 : a.sum16 + at / 16, g->p[t][r]);
		}
	}
}

#define X(kind) \
static void gemv_##kind(const struct codes *c, struct gv *g, const uint8_t *rows, size_t row_bytes, \
	size_t nr, size_t i, size_t len, struct act8 a, size_t np, size_t n_tok) \
{ \
	gemv_rows(kind, c, g, rows, row_bytes, nr, i, len, a, np, n_tok); \
}
KINDS
#undef X

typedef void gemv_fn(const struct codes *, struct gv *, const uint8_t *, size_t, size_t, size_t, size_t,
	struct act8, size_t, size_t);
static gemv_fn *const gemv_kinds[] = {
#define X(kind) [kind] = gemv_##kind,
KINDS
#undef X
};

static void gemv_body(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, struct act8 a, size_t n_tok, float *y, size_t ys, struct gv *g)
{
	const struct codes *c = &codes[type];
	size_t np = act8_pad(n);

	g->end = rows + r1 * row_bytes;
	for (size_t r = r0; r < r1; r += R) {
		size_t nr = r1 - r < R ? r1 - r : R;
		VI acc[GV_TOK];

		for (size_t t = 0; t < n_tok; t++) {
			acc[t] = vf_zero();
			if (nr < R)
				memset(g->p[t], 0, sizeof g->p[t]);
		}
		for (size_t i = 0; i < n; i += GV_PART) {
			size_t len = n - i < GV_PART ? n - i : GV_PART;

			gemv_kinds[kind_of(type, len)](c, g, rows + r * row_bytes + qtype_row_bytes(type, i), row_bytes, nr, i,
				len, a, np, n_tok);
			for (size_t t = 0; t < n_tok; t++)
				acc[t] = add_up(g->p[t], act8_pad(len) / c->blk, acc[t]);
		}
		for (size_t t = 0; t < n_tok; t++)
			vf_store(y + t * ys + r, acc[t], nr);
	}
}

/* ---- many tokens ---- */

#define GM_PART 1024               /* elements of R rows at a time: half the L1 cache */
#define GM_BLOCKS (GM_PART / 16)

struct gm {
	uint8_t code[R][GM_PART];
	uint8_t tile[GM_PART / 4][R][4];
	float sc[R][GM_BLOCKS], mn[R][GM_BLOCKS];
	float sct[GM_BLOCKS][R], mnt[GM_BLOCKS][R];
	int32_t start[GM_TOK][GM_BLOCKS]; /* what a block's integer sum starts from: -off * sum(x) */
	float sx[GM_TOK][GM_BLOCKS];      /* sum(x) * dx by blocks of 16, for minima */
};

_Static_assert(sizeof(struct gm) <= INT8_SCRATCH && sizeof(struct gv) <= INT8_SCRATCH, "scratch");

typedef void tile_fn(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q,
	const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first);

static void flip(const float in[R][GM_BLOCKS], float out[GM_BLOCKS][R], size_t n_block)
{
	for (size_t b = 0; b < n_block; b += R) {
		VI v[R];

		for (int r = 0; r < R; r++)
			v[r] = vi_load(&in[r][b]);
		transpose(v);
		for (size_t i = 0; i < R; i++)
			vi_store(out[b + i], v[i]);
	}
}

/* R rows of len elements as a tile; rows from nr on repeat the last, and nobody looks at them. */
ALWAYS void fill_rows(int kind, const struct codes *c, struct gm *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t len)
{
	const uint8_t *row[R];

	for (size_t r = 0; r < R; r++) {
		row[r] = rows + (r < nr ? r : nr - 1) * row_bytes;
		prepare(kind, c, row[r], len, (struct part){ g->code[r], g->sc[r], g->mn[r], NULL });
	}
	for (size_t i = 0; i < len; i += 256) {
		size_t at = i / 256 * bytes256(kind);

#pragma GCC unroll 8
		for (size_t j = 0; j < 256 / (4 * R); j++) {
			VI v[R];

			if (i + 4 * R * j >= len)
				break;
			for (int r = 0; r < R; r++)
				v[r] = fetch(kind, row[r] + at, g->code[r] + i, j);
			transpose(v);
			for (size_t k = 0; k < R; k++)
				vi_store(g->tile[i / 4 + R * j + k], v[k]);
		}
	}
	flip(g->sc, g->sct, (len / c->blk + R - 1) / R * R);
	if (c->has_min)
		flip(g->mn, g->mnt, (len / c->blk + R - 1) / R * R);
}

#define X(kind) \
static void fill_##kind(const struct codes *c, struct gm *g, const uint8_t *rows, size_t row_bytes, \
	size_t nr, size_t len) \
{ \
	fill_rows(kind, c, g, rows, row_bytes, nr, len); \
}
KINDS
#undef X

typedef void fill_fn(const struct codes *, struct gm *, const uint8_t *, size_t, size_t, size_t);
static fill_fn *const fill_kinds[] = {
#define X(kind) [kind] = fill_##kind,
KINDS
#undef X
};

/* What the tokens of a tile contribute to a block of their own: nothing that a tile needs where blocks
 * have 32 elements and a minimum, which is the commonest. */
static void token_terms(const struct codes *c, struct gm *g, struct act8 a, size_t np, size_t i,
	size_t len, size_t n_tok)
{
	size_t n_block = len / c->blk;

	for (size_t t = 0; t < n_tok; t++) {
		size_t at = t * np + i;
		const int32_t *sum = c->blk == 32 ? a.sum32 + at / 32 : a.sum16 + at / 16;
		const float *d = a.d + at / 32;

		if (!c->has_min)
			for (size_t b = 0; b < n_block; b++)
				g->start[t][b] = OFF_LOG2(c) ? -(sum[b] * (1 << OFF_LOG2(c))) : 0;
		else if (c->blk == 16)
			for (size_t b = 0; b < n_block; b++)
				g->sx[t][b] = (float)sum[b] * d[b / 2];
	}
}

struct tile { size_t n_tok; tile_fn *fn; };

ALWAYS void gemm_body(const struct tile *tiles, uint32_t type, const uint8_t *rows, size_t row_bytes,
	size_t n, size_t r0, size_t r1, struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	const struct codes *c = &codes[type];
	size_t np = act8_pad(n);
	struct gm *g = scratch;

	if (n_tok <= GV_TOK) {
		gemv_body(type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
		return;
	}
	for (size_t r = r0; r < r1; r += R) {
		size_t nr = r1 - r < R ? r1 - r : R;

		for (size_t i = 0; i < n; i += GM_PART) {
			size_t len = n - i < GM_PART ? n - i : GM_PART;

			fill_kinds[kind_of(type, len)](c, g, rows + r * row_bytes + qtype_row_bytes(type, i),
				row_bytes, nr, len);
			for (size_t t = 0, k = 0; t < n_tok; t += tiles[k].n_tok) {
				while (tiles[k].n_tok > n_tok - t)
					k++;
				token_terms(c, g, act8_at(a, n, t), np, i, len, tiles[k].n_tok);
				tiles[k].fn(c, g, len / c->blk, a.q + t * np + i, a.d + (t * np + i) / 32,
					c->blk == 32 ? a.s32 + (t * np + i) / 32 : g->sx[0], c->blk == 32 ? np / 32 : GM_BLOCKS,
					np, y + t * ys + r, ys, nr, i == 0);
			}
		}
	}
}
