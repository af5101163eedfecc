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
 *	products(c, blk, min, len, code, sc, mn, q, d, sum, out)
 *	    p_b of one row against one token; len % ACT8_PAD == 0, blk and min are constants
 *	OFF_LOG2(c)                                        log2 of the off that sums must be freed from
 * After it, the file defines its tiles and their table, and gemm calls gemm_body with it.
 */
#define ALWAYS static inline __attribute__((always_inline))

/* ---- one token, or a few ---- */

#define GV_PART 4096                /* elements of a row at a time */
#define GV_TOK 4                    /* tokens that share the unpacked codes */
#define GV_BLOCKS (GV_PART / 16)    /* products of a row's part, at most */

struct gv {
	uint8_t code[GV_PART];
	float sc[GV_BLOCKS], mn[GV_BLOCKS];
	float p[GV_TOK][R][GV_BLOCKS];
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

ALWAYS void gemv_rows(size_t blk, int min, const struct codes *c, struct gv *g, const uint8_t *rows,
	size_t row_bytes, size_t nr, size_t i, size_t len, struct act8 a, size_t np, size_t n_tok)
{
	size_t pad = act8_pad(len);

	memset(g->code + len, 0, pad - len);
	for (size_t b = len / blk; b < pad / blk; b++)
		g->sc[b] = g->mn[b] = 0;
	for (size_t r = 0; r < nr; r++) {
		c->fn(rows + r * row_bytes, len, g->code, g->sc, g->mn);
		for (size_t t = 0; t < n_tok; t++) {
			size_t at = t * np + i;

			products(c, blk, min, pad, g->code, g->sc, g->mn, a.q + at, a.d + at / 32,
				blk == 32 ? a.sum32 + at / 32 : a.sum16 + at / 16, g->p[t][r]);
		}
	}
}

static void gemv_part(const struct codes *c, struct gv *g, const uint8_t *rows, size_t row_bytes,
	size_t nr, size_t i, size_t len, struct act8 a, size_t np, size_t n_tok)
{
	if (c->blk == 32 && !c->has_min)
		gemv_rows(32, 0, c, g, rows, row_bytes, nr, i, len, a, np, n_tok);
	else if (c->blk == 32)
		gemv_rows(32, 1, c, g, rows, row_bytes, nr, i, len, a, np, n_tok);
	else if (!c->has_min)
		gemv_rows(16, 0, c, g, rows, row_bytes, nr, i, len, a, np, n_tok);
	else
		gemv_rows(16, 1, c, g, rows, row_bytes, nr, i, len, a, np, n_tok);
}

static void gemv_body(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, struct act8 a, size_t n_tok, float *y, size_t ys, struct gv *g)
{
	const struct codes *c = &codes[type];
	size_t np = act8_pad(n);

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

			gemv_part(c, g, rows + r * row_bytes + qtype_row_bytes(type, i), row_bytes, nr, i, len, a, np,
				n_tok);
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
	float sx[GM_TOK][GM_BLOCKS];      /* sum(x) * dx, for minima */
};

_Static_assert(sizeof(struct gm) <= INT8_SCRATCH && sizeof(struct gv) <= INT8_SCRATCH, "scratch");

typedef void tile_fn(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q,
	const float *d, size_t np, float *y, size_t ys, size_t nr, int first);

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

/* R rows of len elements as a tile; rows from nr on are zeros. */
static void fill_tile(const struct codes *c, struct gm *g, const uint8_t *rows, size_t row_bytes,
	size_t nr, size_t len)
{
	size_t pad = (len + 4 * R - 1) / (4 * R) * (4 * R);

	for (size_t r = 0; r < R; r++) {
		if (r < nr) {
			c->fn(rows + r * row_bytes, len, g->code[r], g->sc[r], g->mn[r]);
			memset(g->code[r] + len, 0, pad - len);
		} else {
			memset(g->code[r], 0, pad);
			memset(g->sc[r], 0, sizeof g->sc[r]);
			memset(g->mn[r], 0, sizeof g->mn[r]);
		}
	}
	for (size_t i = 0; i < pad; i += 4 * R) {
		VI v[R];

		for (int r = 0; r < R; r++)
			v[r] = vi_load(&g->code[r][i]);
		transpose(v);
		for (size_t j = 0; j < R; j++)
			vi_store(g->tile[i / 4 + j], v[j]);
	}
	flip(g->sc, g->sct, (len / c->blk + R - 1) / R * R);
	if (c->has_min)
		flip(g->mn, g->mnt, (len / c->blk + R - 1) / R * R);
}

static void token_terms(const struct codes *c, struct gm *g, struct act8 a, size_t np, size_t i,
	size_t len, size_t n_tok)
{
	for (size_t t = 0; t < n_tok; t++) {
		size_t at = t * np + i, n_block = len / c->blk;
		const int32_t *sum = c->blk == 32 ? a.sum32 + at / 32 : a.sum16 + at / 16;
		const float *d = a.d + at / 32;

		for (size_t b = 0; b < n_block; b++)
			g->start[t][b] = OFF_LOG2(c) ? -(sum[b] * (1 << OFF_LOG2(c))) : 0;
		if (c->has_min)
			for (size_t b = 0; b < n_block; b++)
				g->sx[t][b] = (float)sum[b] * d[c->blk == 32 ? b : b / 2];
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

			fill_tile(c, g, rows + r * row_bytes + qtype_row_bytes(type, i), row_bytes, nr, len);
			for (size_t t = 0, k = 0; t < n_tok; t += tiles[k].n_tok) {
				while (tiles[k].n_tok > n_tok - t)
					k++;
				token_terms(c, g, act8_at(a, n, t), np, i, len, tiles[k].n_tok);
				tiles[k].fn(c, g, len / c->blk, a.q + t * np + i, a.d + (t * np + i) / 32, np,
					y + t * ys + r, ys, nr, i == 0);
			}
		}
	}
}
