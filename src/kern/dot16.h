/*
 * dot16.h - weights of BF16 times activations rounded to BF16: kern_bf16 of kern.h, which defines it.
 *
 * The definition is what one instruction of the CPUs that have it computes, so that they can use it;
 * the others do two fused multiply-adds for it, with subnormal numbers switched off. Activations are
 * rounded once for all rows and laid down for the tiles, in groups of 32 elements.
 *
 * The including file defines DOT_R, DOT_T, PART_16BIT, vsum8() as for body.h, L and its functions as
 * for tile.h, and may define
 *	HAVE_FTZ: unsigned ftz_on(void), void ftz_off(unsigned): subnormal operands and results of
 *		floating-point instructions become zeros of their sign
 *	HAVE_DOT: W, DOT_X and dot_x(), dot_w(), dot_add() as below, with the instruction
 *	HAVE_DOT_OUT: void dot_out(const L *acc, size_t nr, size_t nt, float *y, size_t ys): as dot_trees(), where
 *		LANES is 16
 */
#include "kern/ahead.h"

#define DOT_BLOCK 64     /* tokens that share rows while they are in the cache */
#ifndef ALWAYS
#define ALWAYS static inline __attribute__((always_inline))
#endif

#ifndef HAVE_FTZ
static inline unsigned ftz_on(void) { return 0; }
static inline void ftz_off(unsigned was) { (void)was; }

static inline float flushed(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	if (!(bits & 0x7f800000))
		bits &= 0x80000000;
	memcpy(&f, &bits, 4);
	return f;
}

static inline L flush(L v)
{
	float f[LANES];

	lstore(f, v);
	for (int i = 0; i < LANES; i++)
		f[i] = flushed(f[i]);
	return lload(f);
}

static inline void dot_sum8(const float (*v)[16], float out[8])
{
	float f[16];

	for (int i = 0; i < 8; i++) {
		memcpy(f, v[i], sizeof f);
		for (int s = 8; s; s /= 2)
			for (int l = 0; l < s; l++)
				f[l] = flushed(f[l] + f[l + s]);
		out[i] = f[0];
	}
}
#else
static inline L flush(L v) { return v; }
static inline void dot_sum8(const float (*v)[16], float out[8]) { vsum8(v, out); }
#endif

#ifndef HAVE_DOT
#define DOT_X 4          /* bytes of an activation as it is laid down */

/* To nearest, ties to even; a subnormal number becomes 0, a NaN a quiet one. */
static inline float bf16_rounded(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	if ((bits & 0x7fffffff) > 0x7f800000)
		bits |= 0x400000;
	else if (bits & 0x7f800000)
		bits += 0x7fff + (bits >> 16 & 1);
	else
		bits &= 0x80000000;
	bits &= 0xffff0000;
	memcpy(&f, &bits, 4);
	return f;
}

/* A group of activations: those of odd number, then those of even number. */
static inline void dot_x(const float *x, uint8_t *out)
{
	float f[2][16];

	for (int i = 0; i < 16; i++) {
		f[0][i] = bf16_rounded(x[2 * i + 1]);
		f[1][i] = bf16_rounded(x[2 * i]);
	}
	memcpy(out, f, sizeof f);
}

#ifndef HAVE_DOT_W
typedef struct { L odd, even; } W; /* 2 * LANES weights */

static inline W dot_w(const uint8_t *p)
{
	uint32_t v[LANES], odd[LANES], even[LANES];
	float f[2][LANES];

	memcpy(v, p, sizeof v);
	for (int i = 0; i < LANES; i++) {
		odd[i] = v[i] & (v[i] & 0x7f800000 ? 0xffff0000 : 0x80000000);
		even[i] = v[i] << 16 & (v[i] & 0x7f80 ? 0xffffffff : 0x80000000);
	}
	memcpy(f[0], odd, sizeof odd);
	memcpy(f[1], even, sizeof even);
	return (W){ lload(f[0]), lload(f[1]) };
}
#endif

/* x: lanes of a group */
static inline L dot_add(W w, const uint8_t *x, L acc)
{
	acc = flush(lfma(w.odd, lload((const float *)(const void *)x), acc));
	return flush(lfma(w.even, lload((const float *)(const void *)(x + 64)), acc));
}
#endif

/* y[t][r] = the trees of sums[t * nr + r]. */
ALWAYS void dot_trees(float (*sums)[16], size_t nr, size_t n_tok, float *y, size_t ys)
{
	float out[DOT_BLOCK * DOT_R + 7];

	memset(sums[nr * n_tok], 0, sizeof sums[0] * 7);
	for (size_t k = 0; k < nr * n_tok; k += 8)
		dot_sum8((const float (*)[16])sums + k, out + k);
	for (size_t t = 0; t < n_tok; t++)
		memcpy(y + t * ys, out + t * nr, nr * 4);
}

/* 2 * LANES elements of nr rows and nt tokens. */
ALWAYS void dot_step(const uint8_t *w, size_t row_bytes, const uint8_t *x, size_t xs, size_t nr,
	size_t nt, L *acc)
{
	W wv[DOT_R];

	for (size_t r = 0; r < nr; r++)
		wv[r] = dot_w(w + r * row_bytes);
	for (size_t t = 0; t < nt; t++)
		for (size_t r = 0; r < nr; r++)
			acc[t * nr + r] = dot_add(wv[r], x + t * xs, acc[t * nr + r]);
}

/* nr rows times nt tokens over n groups; the rest as tile() of tile.h. Where there is dot_out() and these
 * groups are the last, y takes the trees of the sums; else y is NULL. */
ALWAYS void dot_tile(const uint8_t *w, size_t row_bytes, const uint8_t *x, size_t xs, size_t n, size_t nr,
	size_t nt, float (*sums)[16], int first, struct ahead ahead, float *y, size_t ys)
{
	const size_t wide = nr * nt <= FEW_SUMS ? 16 : LANES; /* lanes at once */

	for (size_t lane = 0; lane < 16; lane += wide) {
		L acc[DOT_R * DOT_T + FEW_SUMS * 16 / LANES];

#pragma GCC unroll 24
		for (size_t k = 0; k < nr * nt; k++)
#pragma GCC unroll 4
			for (size_t l = 0; l < wide; l += LANES)
				acc[l / LANES * nr * nt + k] = first ? lzero() : lload(sums[k] + lane + l);
		for (size_t g = 0; g < n; g++) {
			if (!lane)
				ahead_ask(ahead, g, nr);
#pragma GCC unroll 4
			for (size_t l = 0; l < wide; l += LANES)
				dot_step(w + 64 * g + 4 * (lane + l), row_bytes,
					x + DOT_X * (32 * g + lane + l), xs, nr, nt, acc + l / LANES * nr * nt);
		}
#ifdef HAVE_DOT_OUT
		if (y) {
			dot_out(acc, nr, nt, y, ys);
			return;
		}
#endif
		(void)y, (void)ys;
#pragma GCC unroll 24
		for (size_t k = 0; k < nr * nt; k++)
#pragma GCC unroll 4
			for (size_t l = 0; l < wide; l += LANES)
				lstore(sums[k] + lane + l, acc[l / LANES * nr * nt + k]);
	}
}

/* nr rows times the tokens of a block. `ahead` is the first tile's. */
ALWAYS void dot_tiles(const uint8_t *w, size_t row_bytes, const uint8_t *x, size_t xs, size_t n, size_t nr,
	size_t n_tok, float (*sums)[16], int first, struct ahead ahead, float *y, size_t ys)
{
	size_t t = 0;

	for (; t + DOT_T <= n_tok; t += DOT_T, ahead = ahead_next(ahead))
		dot_tile(w, row_bytes, x + t * xs, xs, n, nr, DOT_T, sums + t * nr, first, ahead, y ? y + t * ys : NULL,
			ys);
	x += t * xs;
	sums += t * nr;
	y = y ? y + t * ys : NULL;
	switch (n_tok - t) {
#define REST(k) case k: \
		dot_tile(w, row_bytes, x, xs, n, nr, k < DOT_T ? k : 1, sums, first, ahead, y, ys); \
		break;
	REST(1) REST(2) REST(3) REST(4) REST(5)
#undef REST
	}
}

ALWAYS void dot_group(const uint8_t *rows, size_t row_bytes, size_t n, size_t nr, const uint8_t *x,
	size_t xs, size_t n_tok, float *y, size_t ys, size_t left)
{
	float sums[DOT_BLOCK * DOT_R + 7][16] __attribute__((aligned(64)));
	const size_t most = PART_16BIT / 32, groups = n / 32;
	struct ahead ahead = ahead_of(rows, nr * row_bytes, nr, groups, n_tok / DOT_T, left);
	uint8_t last[DOT_R][64] = { { 0 } };
	float *out = NULL;

	if (!n)
		__builtin_unreachable(); /* else the compiler worries about sums of nothing */
	for (size_t g = 0; g < groups; g += most) {
		size_t len = groups - g < most ? groups - g : most;

#ifdef HAVE_DOT_OUT
		out = g + len == groups && n % 32 == 0 ? y : NULL;
#endif
		dot_tiles(rows + 64 * g, row_bytes, x + 32 * DOT_X * g, xs, len, nr, n_tok, sums, g == 0, ahead,
			out, ys);
		ahead = ahead_later(ahead, len);
	}
	if (n % 32) {
		for (size_t r = 0; r < nr; r++)
			memcpy(last[r], rows + r * row_bytes + 64 * groups, n % 32 * 2);
#ifdef HAVE_DOT_OUT
		out = y;
#endif
		dot_tiles(last[0], 64, x + 32 * DOT_X * groups, xs, 1, nr, n_tok, sums, groups == 0,
			(struct ahead){ 0 }, out, ys);
	}
	if (!out)
		dot_trees(sums, nr, n_tok, y, ys);
}

static __attribute__((noinline)) void dot_rows(const uint8_t *rows, size_t row_bytes, size_t n, size_t r0,
	size_t r1, const uint8_t *x, size_t xs, size_t n_tok, float *y, size_t ys)
{
	size_t r = r0;

	for (; n_tok == 1 && asks_once() && r < r1; r++)
		dot_group(rows + r * row_bytes, row_bytes, n, 1, x, xs, 1, y + r, ys, 0);
	for (; n_tok == 1 && r + AHEAD_ROWS <= r1; r += AHEAD_ROWS)
		dot_group(rows + r * row_bytes, row_bytes, n, AHEAD_ROWS, x, xs, 1, y + r, ys,
			(r1 - r - AHEAD_ROWS) * row_bytes);
	for (; r + DOT_R <= r1; r += DOT_R)
		dot_group(rows + r * row_bytes, row_bytes, n, DOT_R, x, xs, n_tok, y + r, ys,
			(r1 - r - DOT_R) * row_bytes);
	for (; r < r1; r++)
		dot_group(rows + r * row_bytes, row_bytes, n, 1, x, xs, n_tok, y + r, ys, 0);
}

/* Rows are laid 64 bytes further apart than they are long: lines of one place in every row would meet
 * in one set of the cache. */
static size_t dot_bytes(size_t n)
{
	return (n + 31) / 32 * 32 * DOT_X + 64;
}

static void dot_lay(const float *x, size_t n, void *laid)
{
	float rest[32] = { 0 };
	uint8_t *out = laid;
	size_t i = 0;

	for (; i + 32 <= n; i += 32, out += 32 * DOT_X)
		dot_x(x + i, out);
	if (i < n) {
		memcpy(rest, x + i, (n - i) * 4);
		dot_x(rest, out);
	}
}

static void dot_gemm(const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1, const void *laid,
	size_t n_tok, float *y, size_t ys)
{
	size_t xs = dot_bytes(n);
	unsigned was = ftz_on();

	for (size_t t = 0; t < n_tok; t += DOT_BLOCK)
		dot_rows(rows, row_bytes, n, r0, r1, (const uint8_t *)laid + t * xs, xs,
			n_tok - t < DOT_BLOCK ? n_tok - t : DOT_BLOCK, y + t * ys, ys);
	ftz_off(was);
}
