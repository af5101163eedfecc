/*
 * tile.h - the products of kern.h for every type. Part of body.h, which includes it.
 *
 * Rows are taken a few at a time and a part of their length at a time, so that they stay in the L1
 * cache while the tokens pass by; between parts the lanes of every sum wait in memory, and their trees
 * are added eight at a time at the end. Weights of 16 and 32 bits are converted in registers; others
 * are unpacked a part at a time. Memory ahead of what is used is asked for early: see ahead.h.
 *
 * Where V is several registers, the including file may define HAVE_LANES and how to work on one of them
 * at a time, which leaves room for more rows and tokens:
 *	L, LANES: a vector of that many floats, a divisor of 16
 *	lzero() lload(const float *) lstore(float *, L) lfma(a, b, c) lf16(p) lbf16(p)
 */
#include "kern/ahead.h"

#ifndef HAVE_LANES
#define L V
#define LANES 16
#define lzero vzero
#define lload vload
#define lstore vstore
#define lfma vfma
#define lf16 vf16
#define lbf16 vbf16
#endif
#ifndef PART
#define PART 1024        /* elements of a row at a time: whole blocks of every type */
#define PART_16BIT 2048  /* the same of weights that are 16 bits long in the cache */
#endif
#define TOK_BLOCK 64     /* tokens that share an unpacked part: their activations stay in the L2 cache */
#define ALWAYS static inline __attribute__((always_inline))

/* Bytes of an element of the types that are read as they lie, else 0. */
ALWAYS size_t direct(uint32_t type)
{
	return type == QT_F32 ? 4 : type == QT_F16 || type == QT_BF16 ? 2 : 0;
}

/* Weights from p on. `type` is a constant wherever this is called. */
ALWAYS L weights(uint32_t type, const uint8_t *p)
{
	return type == QT_F16 ? lf16(p) : type == QT_BF16 ? lbf16(p) :
		lload((const float *)(const void *)p);
}

ALWAYS void ask_for(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 64)
		__builtin_prefetch(p + i, 0, 2);
}

/* LANES elements of nr rows and nt tokens. */
ALWAYS void step(uint32_t type, const uint8_t *w, size_t row_bytes, const float *x, size_t xs,
	size_t nr, size_t nt, L *acc)
{
	L v[TILE_R + TILE_T];

	if (nr < nt) {
#pragma GCC unroll 24
		for (size_t r = 0; r < nr; r++)
			v[r] = weights(type, w + r * row_bytes);
#pragma GCC unroll 24
		for (size_t t = 0; t < nt; t++) {
			L xv = lload(x + t * xs);

#pragma GCC unroll 24
			for (size_t r = 0; r < nr; r++)
				acc[t * nr + r] = lfma(v[r], xv, acc[t * nr + r]);
		}
		return;
	}
#pragma GCC unroll 24
	for (size_t t = 0; t < nt; t++)
		v[t] = lload(x + t * xs);
#pragma GCC unroll 24
	for (size_t r = 0; r < nr; r++) {
		L wv = weights(type, w + r * row_bytes);

#pragma GCC unroll 24
		for (size_t t = 0; t < nt; t++)
			acc[t * nr + r] = lfma(wv, v[t], acc[t * nr + r]);
	}
}

ALWAYS void steps(uint32_t type, const uint8_t *w, size_t row_bytes, const float *x, size_t xs,
	size_t nr, size_t nt, size_t wide, L *acc)
{
#pragma GCC unroll 4
	for (size_t l = 0; l < wide; l += LANES)
		step(type, w + direct(type) * l, row_bytes, x + l, xs, nr, nt, acc + l / LANES * nr * nt);
}

/* nr rows times nt tokens over n elements, a multiple of 16. sums[t * nr + r] goes on, or starts if
 * `first`. The numbers of rows and tokens are constants at every call, so the loops unroll into
 * registers. */
ALWAYS void tile(uint32_t type, const uint8_t *w, size_t row_bytes, const float *x, size_t xs, size_t n,
	size_t nr, size_t nt, float (*sums)[16], int first, struct ahead ahead)
{
	const size_t size = direct(type), line = 64 / size, n_sum = nr * nt;
	const size_t wide = n_sum <= FEW_SUMS ? 16 : LANES; /* lanes at once */

	for (size_t lane = 0; lane < 16; lane += wide) {
		L acc[TILE_R * TILE_T + FEW_SUMS * 16 / LANES];
		size_t i = 0;

#pragma GCC unroll 24
		for (size_t k = 0; k < n_sum; k++)
#pragma GCC unroll 4
			for (size_t l = 0; l < wide; l += LANES)
				acc[l / LANES * n_sum + k] = first ? lzero() : lload(sums[k] + lane + l);
		for (; i + line <= n; i += line) {
			if (!lane)
				ahead_ask(ahead, i / line, nr);
			for (size_t j = i + lane; j < i + line; j += 16)
				steps(type, w + size * j, row_bytes, x + j, xs, nr, nt, wide, acc);
		}
		for (i += lane; i < n; i += 16)
			steps(type, w + size * i, row_bytes, x + i, xs, nr, nt, wide, acc);
#pragma GCC unroll 24
		for (size_t k = 0; k < n_sum; k++)
#pragma GCC unroll 4
			for (size_t l = 0; l < wide; l += LANES)
				lstore(sums[k] + lane + l, acc[l / LANES * n_sum + k]);
	}
}

/* nr rows times the tokens of a block; the first tokens find the rows in memory. */
ALWAYS void tiles(uint32_t type, const uint8_t *w, size_t row_bytes, const float *x, size_t xs, size_t n,
	size_t nr, size_t n_tok, float (*sums)[16], int first, struct ahead ahead)
{
	size_t t = 0;

	for (; t + TILE_T <= n_tok; t += TILE_T, ahead = ahead_next(ahead))
		tile(type, w, row_bytes, x + t * xs, xs, n, nr, TILE_T, sums + t * nr, first, ahead);
	x += t * xs;
	sums += t * nr;
	switch (n_tok - t) {
#define REST(k) case k: \
		tile(type, w, row_bytes, x, xs, n, nr, k < TILE_T ? k : 1, sums, first, ahead); \
		break;
	REST(1) REST(2) REST(3) REST(4) REST(5)
#undef REST
	}
}
_Static_assert(TILE_T <= 6, "a case for every rest");
_Static_assert(TILE_R * PART <= KERN_UNPACKED, "kern_scratch() is enough");

/* The last n < 16 elements, padded with zeros: a fused 0*0 changes no lane. */
static void last(uint32_t type, const uint8_t *w, size_t row_bytes, const float *x, size_t xs, size_t n,
	size_t nr, size_t n_tok, float (*sums)[16], int first)
{
	float wt[TILE_R][16] = { { 0 } }, xt[16] = { 0 };

	for (size_t r = 0; r < nr; r++)
		unpack[type](w + r * row_bytes, wt[r], n);
	for (size_t t = 0; t < n_tok; t++) {
		memcpy(xt, x + t * xs, n * 4);
		for (size_t r = 0; r < nr; r++)
			tile(QT_F32, (const uint8_t *)wt[r], 0, xt, 0, 16, 1, 1, sums + t * nr + r, first, (struct ahead){ 0 });
	}
}

/* y[t][r] = the trees of sums[t * nr + r]. */
ALWAYS void add_lanes(const float (*sums)[16], size_t nr, size_t n_tok, float *y, size_t ys)
{
	float out[TOK_BLOCK * TILE_R + 8];
	size_t k = 0;

	for (; k + 8 <= nr * n_tok; k += 8)
		vsum8(sums + k, out + k);
	for (; k < nr * n_tok; k++)
		out[k] = vsum(vload(sums[k]));
	for (size_t t = 0; t < n_tok; t++)
		memcpy(y + t * ys, out + t * nr, nr * 4);
}

/* nr rows of a type against the tokens of a block. A constant `as` says that they are read as they lie;
 * else they are unpacked. */
ALWAYS void row_group(uint32_t type, uint32_t as, const uint8_t *rows, size_t row_bytes, size_t n,
	size_t nr, const float *x, size_t xs, size_t n_tok, float *y, size_t ys, float *scratch, size_t left)
{
	float sums[TOK_BLOCK * TILE_R][16] __attribute__((aligned(64)));
	const size_t most = direct(as) == 2 ? PART_16BIT : PART;
	const size_t far = left >= AHEAD_LEAST ? AHEAD_LEAST : 0;
	size_t whole = n & ~(size_t)15, part_bytes = qtype_row_bytes(type, most);
	struct ahead ahead = ahead_of(rows, nr * row_bytes, nr, n * direct(as) / 64, n_tok / TILE_T, left);

	for (size_t i = 0; i < whole; i += most) {
		size_t len = whole - i < most ? whole - i : most;
		const uint8_t *part = rows + i / most * part_bytes;

		if (direct(as)) {
			tiles(as, part, row_bytes, x + i, xs, len, nr, n_tok, sums, i == 0, ahead);
			ahead = ahead_later(ahead, len * direct(as) / 64);
			continue;
		}
		for (size_t r = 0; r < nr; r++) {
			if (far)
				ask_for(part + r * row_bytes + far, part_bytes);
			unpack[type](part + r * row_bytes, scratch + r * len, len);
		}
		tiles(QT_F32, (const uint8_t *)scratch, len * 4, x + i, xs, len, nr, n_tok, sums, i == 0, (struct ahead){ 0 });
	}
	if (whole < n)
		last(type, rows + whole * direct(type), row_bytes, x + whole, xs, n - whole, nr, n_tok, sums,
			whole == 0);
	add_lanes(sums, nr, n_tok, y, ys);
}

ALWAYS void row_groups(uint32_t type, uint32_t as, const uint8_t *rows, size_t row_bytes, size_t n,
	size_t r0, size_t r1, const float *x, size_t xs, size_t n_tok, float *y, size_t ys, float *scratch)
{
	size_t r = r0;

	for (; n_tok == 1 && !direct(as) && n > AHEAD_SHORT && r + AHEAD_ROWS <= r1; r += AHEAD_ROWS)
		row_group(type, as, rows + r * row_bytes, row_bytes, n, AHEAD_ROWS, x, xs, 1, y + r, ys, scratch,
			(r1 - r - AHEAD_ROWS) * row_bytes);
	for (; r + TILE_R <= r1; r += TILE_R)
		row_group(type, as, rows + r * row_bytes, row_bytes, n, TILE_R, x, xs, n_tok, y + r, ys, scratch,
			(r1 - r - TILE_R) * row_bytes);
	for (; r < r1; r++)
		row_group(type, as, rows + r * row_bytes, row_bytes, n, 1, x, xs, n_tok, y + r, ys, scratch, 0);
}

/* n results that end at y, the last ones of a line v: past the caches if they are all of it. */
static inline void put_results(float *y, const float v[16], size_t n)
{
#ifdef __AVX2__
	if (n == 16) {
		for (size_t i = 0; i < 16; i += 4)
			_mm_stream_ps(y - 16 + i, _mm_load_ps(v + i));
		return;
	}
#endif
	memcpy(y - n, v + 16 - n, n * sizeof *y);
}

/* One token and rows of whole sixteens, one after the other: each asks for what lies AHEAD_ONCE
 * bytes ahead, over its end too. Between two of them little is done: memory waits meanwhile. */
ALWAYS void rows_in_turn(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const float *x, float *y)
{
	const size_t size = direct(type), line = 64 / size;
	const int past = (r1 - r0) * row_bytes >= STORE_PAST;
	float out[16] __attribute__((aligned(64))); /* as a line of y */
	size_t n_out = 0;

	for (size_t r = r0; r < r1; r++) {
		const uint8_t *w = rows + r * row_bytes, *at = w + AHEAD_ONCE;
		const size_t place = (uintptr_t)(y + r) % 64 / sizeof *y;
		float sum[16] __attribute__((aligned(64)));
		L acc[16 / LANES];
		size_t i = 0;

#pragma GCC unroll 4
		for (size_t l = 0; l < 16; l += LANES)
			acc[l / LANES] = lzero();
		for (; i + line <= n; i += line, at += 64) {
			ask_here(at);
#pragma GCC unroll 2
			for (size_t j = i; j < i + line; j += 16)
				steps(type, w + size * j, 0, x + j, 0, 1, 1, 16, acc);
		}
		if (i < n)
			steps(type, w + size * i, 0, x + i, 0, 1, 1, 16, acc);
#pragma GCC unroll 4
		for (size_t l = 0; l < 16; l += LANES)
			lstore(sum + l, acc[l / LANES]);
		if (!past) {
			y[r] = vsum(vload(sum));
			continue;
		}
		out[place] = vsum(vload(sum));
		n_out++;
		if (place == 15) {
			put_results(y + r + 1, out, n_out);
			n_out = 0;
		}
	}
	for (size_t i = 0; i < n_out; i++) /* the beginning of a line */
		y[r1 - n_out + i] = out[(uintptr_t)(y + r1 - n_out + i) % 64 / sizeof *y];
}

/* One token and rows that are read as they lie. Each type has a function of its own: in one with
 * too many loops the compiler keeps the sums in memory. */
ALWAYS void token_rows(uint32_t type, const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const float *x, float *y)
{
	size_t r = r0;

	if (n <= AHEAD_SHORT)
		__builtin_unreachable(); /* else the compiler worries about sums of nothing */
	if (asks_once() && n % 16 == 0) {
		rows_in_turn(type, rows, row_bytes, n, r0, r1, x, y);
		return;
	}
	for (; r + AHEAD_ROWS <= r1; r += AHEAD_ROWS)
		row_group(type, type, rows + r * row_bytes, row_bytes, n, AHEAD_ROWS, x, 0, 1, y + r, 0,
			NULL, (r1 - r - AHEAD_ROWS) * row_bytes);
	for (; r < r1; r++)
		row_group(type, type, rows + r * row_bytes, row_bytes, n, 1, x, 0, 1, y + r, 0, NULL, 0);
}

#define TOKEN_ROWS(name) \
	static __attribute__((noinline)) void token_##name(const uint8_t *rows, size_t row_bytes, \
		size_t n, size_t r0, size_t r1, const float *x, float *y) \
	{ \
		token_rows(QT_##name, rows, row_bytes, n, r0, r1, x, y); \
	}
TOKEN_ROWS(F32)
TOKEN_ROWS(F16)
TOKEN_ROWS(BF16)
#undef TOKEN_ROWS
typedef void token_fn(const uint8_t *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	const float *x, float *y);

static void body_gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const float *x, size_t xs, size_t n_tok, float *y, size_t ys, float *scratch)
{
	static token_fn *const token[QT_MAX] = { [QT_F32] = token_F32, [QT_F16] = token_F16,
		[QT_BF16] = token_BF16 };

	if (n_tok == 1 && n > AHEAD_SHORT && token[type]) {
		token[type](rows, row_bytes, n, r0, r1, x, y);
		return;
	}
	for (size_t t = 0; t < n_tok; t += TOK_BLOCK, x += TOK_BLOCK * xs, y += TOK_BLOCK * ys) {
		size_t nt = n_tok - t < TOK_BLOCK ? n_tok - t : TOK_BLOCK;

		if (type == QT_F32)
			row_groups(type, QT_F32, rows, row_bytes, n, r0, r1, x, xs, nt, y, ys, NULL);
		else if (type == QT_F16)
			row_groups(type, QT_F16, rows, row_bytes, n, r0, r1, x, xs, nt, y, ys, NULL);
		else if (type == QT_BF16)
			row_groups(type, QT_BF16, rows, row_bytes, n, r0, r1, x, xs, nt, y, ys, NULL);
		else
			row_groups(type, QT_MAX, rows, row_bytes, n, r0, r1, x, xs, nt, y, ys, scratch);
	}
}
