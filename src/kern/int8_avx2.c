/*
 * int8_avx2.c - 8-bit products with AVX2: sixteen rows by four tokens at a time.
 *
 * Without VNNI a product of bytes is summed in pairs to 16 bits: one instruction for 32 products,
 * and one to add it to others, for as long as 16 bits hold the sum. Those of a block of 32 do where
 * codes have up to 4 bits. They do up to 6 bits in a block of 16, and 5 in one of 32, if codes have
 * an off: the sum of (w - off) x is small enough whatever wraps around on the way, so it starts
 * from -off * sum(x). Products of codes of 8 bits are too large for that: they become 16 bits wide,
 * as do activations, and sums 32.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "kern/int8.h"
#include "kern/table.h"

static inline float half(uint16_t h)
{
	return _cvtsh_ss(h);
}

#include "kern/int8_codes.h"

#define R 8
#define GM_TOK 4
#define GM_GROUPS 6
#define GM_PART 512 /* of 48 rows: three quarters of the L1 cache */
#define BIG_LOG2 7 /* this off means codes of 8 bits */
#define BIG(c) ((c)->off_log2 == BIG_LOG2) /* they are signed here: nothing to take off */
#define OFF_LOG2(c) (BIG(c) ? 0 : (c)->off_log2)
#define PART_OF(c) (BIG(c) ? GM_PART / 2 : GM_PART)
/* 1 if sums of a block fit into 16 bits without -off * sum(x). */
#define STARTS_LATE(c) (!(c)->has_min && !exact(c) && (c)->blk == 32 && (c)->bits <= 4)
#define TOKEN_TERMS(c) (STARTS_LATE(c) || ((c)->has_min && !exact(c)))
#define FINISH(c, g, n_group, len) widen(c, g, n_group, len)
typedef __m256i VI;

static inline VI vi_load(const void *p) { return _mm256_loadu_si256(p); }
static inline void vi_store(void *p, VI v) { _mm256_storeu_si256(p, v); }
static inline VI vf_zero(void) { return _mm256_setzero_si256(); }

static inline VI vi_pair(VI a, VI b) { return _mm256_blend_epi16(a, b, 0xaa); }

static inline VI vi_minus_shifted(const int16_t *p, unsigned log2)
{
	__m256i v = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)p));

	return log2 ? _mm256_slli_epi32(_mm256_sub_epi32(_mm256_setzero_si256(), v), (int)log2) :
		_mm256_setzero_si256();
}

/* Twice in a lane, as 16 bits: a scale is multiplied with two sums. */
static inline VI vi_int(VI v)
{
	v = _mm256_cvtps_epi32(_mm256_castsi256_ps(v));
	return _mm256_blend_epi16(v, _mm256_slli_epi32(v, 16), 0xaa);
}

#define PS(v) _mm256_castsi256_ps(v)
#define BITS(v) _mm256_castps_si256(v)

static inline VI vf_exact(VI acc, VI s, VI d, float dx)
{
	return BITS(_mm256_add_ps(PS(acc), _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(PS(d),
		_mm256_set1_ps(dx)))));
}

static inline VI vf_exact_min(VI acc, VI s, VI d, VI m, VI dmin, float dx)
{
	__m256 p = _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(PS(d), _mm256_set1_ps(dx)));

	p = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m), _mm256_mul_ps(PS(dmin), _mm256_set1_ps(dx)), p);
	return BITS(_mm256_add_ps(PS(acc), p));
}

static inline VI vf_halves(VI v, int by, float unit)
{
	v = _mm256_and_si256(_mm256_srli_epi32(v, by), _mm256_set1_epi32(0xffff));
	v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
	return BITS(_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_set1_ps(unit)));
}

static inline VI vf_chain(VI t, VI s, VI sc)
{
	return BITS(_mm256_fmadd_ps(_mm256_cvtepi32_ps(s), PS(sc), PS(t)));
}

static inline VI vf_chain_min(VI v, VI mn, float x)
{
	return BITS(_mm256_fmadd_ps(PS(mn), _mm256_set1_ps(x), PS(v)));
}

static inline VI vf_group(VI acc, VI t, float dx)
{
	return BITS(_mm256_add_ps(PS(acc), _mm256_mul_ps(PS(t), _mm256_set1_ps(dx))));
}

static inline VI vf_group_min(VI acc, VI t, VI v, float dx)
{
	return vf_group(acc, BITS(_mm256_sub_ps(PS(t), PS(v))), dx);
}

static inline __m256i first_lanes(size_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline void vf_store(float *y, VI v, size_t n)
{
	_mm256_maskstore_ps(y, first_lanes(n), _mm256_castsi256_ps(v));
}

static inline void transpose(__m256i v[8])
{
	__m256i t[8];

	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
		t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
	}
	for (int i = 0; i < 8; i += 4) {
		v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
		v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
		v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
		v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x20);
		t[i + 4] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x31);
	}
	memcpy(v, t, sizeof t);
}

#include "kern/int8_kinds.h"
#include "kern/int8_avx2_decode.h"
#include "kern/int8_avx2_fill.h"

struct gm;
static void widen(const struct codes *c, struct gm *g, size_t n_group, size_t len);

#include "kern/int8_body.h"
#include "kern/int8_few.h"

/* ---- prefill ---- */

/* Keeps the compiler from adding up later, when it would have to keep all terms until then. */
#define IN_ORDER(v) __asm__("" : "+x"(v))
/* Keeps it from having more in registers than there are. */
#define IN_MEMORY(v) __asm__("" : "+m"(v))

/* How a tile weighs its blocks' sums: by integers, with integer minima or without, or by floats. */
enum by { INTS, INTS_MIN, FLOATS, FLOATS_MIN };

/* How many pair sums are added in 16 bits: all of a block, four, or none of codes that are WIDE;
 * and whether a token's -off * sum(x) is there from the start (OFF) or once they are 32 bits wide
 * (LATE). */
enum add { ALL_OFF, ALL_LATE, ALL, FOUR, WIDE };

/* A filled tile's codes to 16 bits, the even ones of a vector before the odd ones; those with
 * integer scales as multiples of them (|code * scale| <= 128 * 255). What is behind len meets zeros.
 * Whole groups of 256 with scales in floating point were filled so. */
static void widen(const struct codes *c, struct gm *g, size_t n_group, size_t len)
{
	for (size_t i = BIG(c) && (exact(c) || len < 256) ? len / 4 : 0; i-- > 0;)
		for (size_t k = 0; k < n_group; k++) {
			VI v = vi_load(g->tile[i][k]), even, odd;

			even = wide_even(v);
			odd = wide_odd(v);
			if (exact(c)) {
				VI by = vi_load(g->sct[4 * i / c->blk][k]);

				even = _mm256_mullo_epi16(even, by);
				odd = _mm256_mullo_epi16(odd, by);
			}
			vi_store(g->tile[2 * i][k], even);
			vi_store(g->tile[2 * i + 1][k], odd);
		}
}

/* The same of 256 activations each, even before odd by vectors. */
static void widen_tokens(size_t n_tok, const struct gm_in *in, int16_t wide[GM_TOK][GM_PART / 2])
{
	for (size_t t = 0; t < n_tok; t++)
		for (size_t i = 0; i < GM_PART / 2; i += 32) {
			VI v = vi_load(in->q + t * in->np + i);

			vi_store(wide[t] + i, wide_even(v));
			vi_store(wide[t] + i + 16, wide_odd(v));
		}
}

/* What pair sums start from: for each block two integers of 16 bits, as each of a lane has a half of the
 * block's elements. */
typedef int32_t starts[GM_TOK][GM_BLOCKS];

static void set_starts(unsigned off_log2, size_t blk, size_t n256, const struct gm_in *in,
	size_t n_tok, starts start)
{
	const __m256i off = _mm256_set1_epi8((char)(1 << off_log2)), zero = _mm256_setzero_si256();

	for (size_t t = 0; t < n_tok; t++)
		for (size_t b = 0; b < n256; b++) {
			const int8_t *q = in->q + t * in->np + 256 * b;
			__m256i v[8];

			for (size_t j = 0; j < 8; j++)
				v[j] = _mm256_maddubs_epi16(off, vi_load(q + 32 * j));
			if (blk == 32) {
				for (size_t j = 0; j < 4; j++)
					v[j] = _mm256_add_epi16(_mm256_blend_epi32(v[j], v[j + 4], 0xf0),
						_mm256_permute2x128_si256(v[j], v[j + 4], 0x21));
				vi_store(start[t] + 8 * b, _mm256_sub_epi16(zero, sums_of_halves(v, 16)));
				continue;
			}
			for (size_t h = 0; h < 2; h++)
				vi_store(start[t] + 16 * b + 8 * h,
					_mm256_sub_epi16(zero, in_turn(sums_of_halves(v + 4 * h, 16))));
		}
}

/* What the sums of a group of 256, S or T in u and M or V in v, add to acc. */
ALWAYS VI add_group(const enum by by, const struct gm *g, size_t k, size_t b, VI acc, VI u, VI v,
	float dx)
{
	if (by == INTS)
		return vf_exact(acc, u, vi_load(g->dt[b][k]), dx);
	if (by == INTS_MIN)
		return vf_exact_min(acc, u, vi_load(g->dt[b][k]), v, vi_load(g->dmt[b][k]), dx);
	return by == FLOATS ? vf_group(acc, u, dx) : vf_group_min(acc, u, v, dx);
}

/* Instructions in the order written, with no copies between them: left to itself the compiler adds
 * later, when it has to keep all terms until then, or copies what it adds to. */
ALWAYS VI times(const enum add add, VI w, VI x)
{
	VI p;

	if (add == WIDE)
		__asm__ volatile("vpmaddwd %2, %1, %0" : "=x"(p) : "x"(w), "x"(x));
	else
		__asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(p) : "x"(w), "x"(x));
	return p;
}

ALWAYS VI plus(const enum add add, VI p, VI q)
{
	if (add == WIDE)
		__asm__ volatile("vpaddd %1, %0, %0" : "+x"(p) : "x"(q));
	else
		__asm__ volatile("vpaddw %1, %0, %0" : "+x"(p) : "x"(q));
	return p;
}

/* vf_chain of what is in memory. */
ALWAYS void chain_to(VI *t, VI s, VI sc)
{
	s = BITS(_mm256_cvtepi32_ps(s));
	__asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(s) : "x"(sc), "m"(*t));
	*t = s;
	IN_MEMORY(*t);
}

/* p = products of steps j .. j + n - 1 of nt tokens with ng groups, and what they start from,
 * unless that is NULL. x: token 0's activations of step 0, np bytes before token 1's. Two tokens at
 * a time: an addition right behind its product would wait for it. */
ALWAYS void steps_of(const size_t ng, const size_t nt, const enum add add,
	const uint8_t (*w)[GM_GROUPS][R][4], const int8_t *x, size_t np, size_t j, size_t n,
	const int32_t *start, VI p[GM_TOK][2])
{
#pragma GCC unroll 16
	for (size_t l = j; l < j + n; l++) {
		const int8_t *xl = x + 4 * (add == WIDE ? l / 2 + l % 2 * 8 : l);
		VI wl[2], pair[2][2];

		for (size_t k = 0; k < ng; k++)
			wl[k] = vi_load(w[l][k]);
		for (size_t t = 0; t < nt; t += 2) {
			for (size_t i = 0; i < 2 && t + i < nt; i++) {
				int32_t four;
				VI xi;

				memcpy(&four, xl + (t + i) * np, 4);
				xi = _mm256_set1_epi32(four);
				for (size_t k = 0; k < ng; k++)
					pair[i][k] = times(add, wl[k], xi);
			}
			for (size_t i = 0; i < 2 && t + i < nt; i++) {
				VI from = start && l == j ? _mm256_set1_epi32(start[(t + i) * GM_BLOCKS]) :
					vf_zero();

				for (size_t k = 0; k < ng; k++)
					p[t + i][k] = l > j ? plus(add, p[t + i][k], pair[i][k]) :
						start ? plus(add, pair[i][k], from) : pair[i][k];
			}
		}
	}
}

/* v: M of group b of 256, out of a token's sums. */
ALWAYS void minima_of(const size_t ng, const size_t per, const struct gm *g, size_t k0,
	const int16_t *sum, size_t b, VI v[2])
{
	const int16_t (*m)[GM_GROUPS][R][2] = g->mpt + b * (per / 2);

#pragma GCC unroll 8
	for (size_t i = 0; i < per / 2; i++) {
		int32_t two;

		memcpy(&two, sum + 2 * i, 4);
		for (size_t k = 0; k < ng; k++) {
			VI p = _mm256_madd_epi16(vi_load(m[i][k0 + k]), _mm256_set1_epi32(two));

			v[k] = i ? _mm256_add_epi32(v[k], p) : p;
			IN_ORDER(v[k]);
		}
	}
}

/* nt tokens against the ng groups from k0 on: y[t][0..8 ng - 1] continues its sum. A broadcast
 * activation serves ng products, a vector of weights nt. Sums of a block are in registers, the
 * others have to be in memory. x: activations, xs bytes a token; start: see there. */
ALWAYS void tile(const size_t ng, const size_t nt, const size_t blk, const enum by by,
	const enum add add, const struct gm *g, size_t k0, size_t n256, const struct gm_in *in,
	const int8_t *x, size_t xs, const int32_t *start, float *y, size_t ys)
{
	const size_t np = in->np, per = 256 / blk;
	const size_t all = add == WIDE ? 16 : blk / 4, steps = add == FOUR ? 4 : all;
	const uint8_t (*w)[GM_GROUPS][R][4] = (const void *)g->tile[0][k0];
	const float (*sc)[GM_GROUPS][R] = (const void *)g->sct[0][k0];
	const __m256i ones = _mm256_set1_epi16(1);

	for (size_t b = 0; b < n256; b++) {
		VI u[GM_TOK][2];

		for (size_t t = 0; t < nt; t++)
			for (size_t k = 0; k < ng; k++) {
				u[t][k] = vf_zero();
				IN_MEMORY(u[t][k]);
			}
#pragma GCC unroll 1 /* a copy a block would not fit where decoded instructions are kept */
		for (size_t i = 0; i < per; i++, w += all, sc++, start++, x += add == WIDE ? 64 : blk) {
			VI p[GM_TOK][2], s[GM_TOK][2], d[2];

#pragma GCC unroll 8
			for (size_t j = 0; j < all; j += steps) {
				steps_of(ng, nt, add, w, x, xs, j, steps, add == ALL_OFF ? start : NULL, p);
				for (size_t t = 0; t < nt; t++)
					for (size_t k = 0; k < ng && add != WIDE; k++)
						p[t][k] = _mm256_madd_epi16(p[t][k],
							by >= FLOATS ? ones : vi_load((*sc)[k]));
				for (size_t t = 0; t < nt; t++)
					for (size_t k = 0; k < ng; k++) {
						if (by < FLOATS) {
							u[t][k] = _mm256_add_epi32(p[t][k], u[t][k]);
							IN_MEMORY(u[t][k]);
						} else {
							s[t][k] = j ? _mm256_add_epi32(s[t][k], p[t][k]) : p[t][k];
						}
					}
			}
			for (size_t k = 0; k < ng && by >= FLOATS; k++) {
				d[k] = vi_load((*sc)[k]);
				IN_ORDER(d[k]);
			}
			for (size_t t = 0; t < nt && by >= FLOATS; t++)
				for (size_t k = 0; k < ng; k++) {
					if (add == ALL_LATE)
						s[t][k] = _mm256_add_epi32(s[t][k],
							_mm256_set1_epi32(start[t * GM_BLOCKS]));
					chain_to(&u[t][k], s[t][k], d[k]);
				}
		}
#pragma GCC unroll 4
		for (size_t t = 0; t < nt; t++) {
			VI v[2] = { vf_zero(), vf_zero() };

			if (by == INTS_MIN)
				minima_of(ng, per, g, k0, in->sum + t * (np / blk) + b * per, b, v);
			for (size_t i = b * per; by == FLOATS_MIN && i < (b + 1) * per; i++)
				for (size_t k = 0; k < ng; k++)
					v[k] = vf_chain_min(v[k], vi_load(g->mnt[i][k0 + k]), g->sx[t][i]);
			for (size_t k = 0; k < ng; k++)
				vi_store(y + t * ys + R * k, add_group(by, g, k0 + k, b,
					vi_load(y + t * ys + R * k), u[t][k], v[k], in->d[t * (np / 256) + b]));
		}
	}
}

/* The same of all ng groups, two at a time and then one: the tokens are in the L1 cache. */
ALWAYS void tiles_of(const size_t ng, const size_t nt, const size_t blk, const enum by by,
	const enum add add, unsigned off_log2, const struct gm *g, size_t n256, const struct gm_in *in,
	float *y, size_t ys)
{
	starts begin;
	int16_t wide[GM_TOK][GM_PART / 2];
	const int8_t *x = add == WIDE ? (const int8_t *)wide : in->q;
	const int32_t *start = add == ALL_LATE ? g->start[0] : begin[0];
	size_t xs = add == WIDE ? sizeof *wide : in->np, k = 0;

	if (add == WIDE)
		widen_tokens(nt, in, wide);
	if (add == ALL_OFF)
		set_starts(off_log2, blk, n256, in, nt, begin);
	for (; k + 2 <= ng; k += 2)
		tile(2, nt, blk, by, add, g, k, n256, in, x, xs, start, y + R * k, ys);
	if (k < ng)
		tile(1, nt, blk, by, add, g, k, n256, in, x, xs, start, y + R * k, ys);
}

#define T(blk, by, add) tiles_of(ng, nt, blk, by, add, c->off_log2, g, n256, in, y, ys)
ALWAYS void any_tiles(const size_t ng, const size_t nt, const struct codes *c, const struct gm *g,
	size_t n256, const struct gm_in *in, float *y, size_t ys)
{
	if (exact(c)) {
		if (BIG(c))
			T(32, INTS, WIDE);
		else if (!c->has_min && c->blk == 32)
			T(32, INTS, ALL_OFF);
		else if (!c->has_min)
			T(16, INTS, ALL_OFF);
		else if (c->blk == 16)
			T(16, INTS_MIN, ALL);
		else if (c->bits == 4)
			T(32, INTS_MIN, ALL);
		else
			T(32, INTS_MIN, FOUR);
	} else {
		if (BIG(c))
			T(32, FLOATS, WIDE);
		else if (STARTS_LATE(c))
			T(32, FLOATS, ALL_LATE);
		else if (!c->has_min && c->blk == 32)
			T(32, FLOATS, ALL_OFF);
		else if (!c->has_min)
			T(16, FLOATS, ALL_OFF);
		else if (c->bits == 4)
			T(32, FLOATS_MIN, ALL);
		else
			T(32, FLOATS_MIN, FOUR);
	}
}

/* As a tile_fn, of which the last group has nr rows: a masked store is slow. */
ALWAYS void groups(const size_t ng, const size_t nt, const struct codes *c, const struct gm *g, size_t n256,
	const struct gm_in *in, float *y, size_t ys, size_t nr, int first)
{
	float all[GM_TOK][GM_GROUPS * R];
	const size_t n = R * (ng - 1) + nr;

	for (size_t t = 0; t < nt && first; t++)
		memset(y + t * ys, 0, n * sizeof *y);
	if (nr == R) {
		any_tiles(ng, nt, c, g, n256, in, y, ys);
		return;
	}
	for (size_t t = 0; t < nt; t++)
		memcpy(all[t], y + t * ys, n * sizeof *y);
	any_tiles(ng, nt, c, g, n256, in, all[0], GM_GROUPS * R);
	for (size_t t = 0; t < nt; t++)
		memcpy(y + t * ys, all[t], n * sizeof *y);
}

#define TILE(ng, nt) \
static void tile##ng##_##nt(const struct codes *c, const struct gm *g, size_t n256, const struct gm_in *in, \
	float *y, size_t ys, size_t nr, int first) \
{ \
	groups(ng, nt, c, g, n256, in, y, ys, nr, first); \
}
TILE(6, 4)
TILE(6, 2)
TILE(6, 1)
TILE(2, 4)
TILE(2, 2)
TILE(2, 1)
TILE(1, 4)
TILE(1, 2)
TILE(1, 1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, const void *next,
	void *scratch)
{
	static const struct tile tiles[] = { { 4, tile6_4, 6 }, { 2, tile6_2, 6 }, { 1, tile6_1, 6 },
		{ 4, tile2_4, 2 }, { 2, tile2_2, 2 }, { 1, tile2_1, 2 }, { 4, tile1_4, 1 }, { 2, tile1_2, 1 },
		{ 1, tile1_1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, next, scratch);
}

/* ---- activations ---- */

static inline __m256 eight(const float *x, size_t left)
{
	return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(left));
}

static inline uint32_t highest(__m256i v)
{
	__m128i s = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
	return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* 256 elements, of which n are there, zeros behind them */
static void round_group(const float *x, size_t n, int8_t *q, float *d, int16_t *sum16, int16_t *sum32)
{
	const __m256i mask = _mm256_set1_epi32(0x7fffffff), one = _mm256_set1_epi8(1);
	__m256i top = _mm256_setzero_si256(), v[8];
	__m256 inv = _mm256_setzero_ps();
	uint32_t bits;
	float amax;

	for (size_t i = 0; i < n; i += 8)
		top = _mm256_max_epu32(top, _mm256_and_si256(BITS(eight(x + i, n - i)), mask));
	bits = highest(top);
	memcpy(&amax, &bits, 4);
	*d = bits >= 0x7f800000 ? NAN : 0;
	if (bits < 0x7f800000 && amax >= 0x1p-100f) {
		*d = amax / 127.0f;
		inv = _mm256_set1_ps(127.0f / amax);
	}
	for (size_t i = 0; i < 256; i += 32) {
		for (size_t j = 0; j < 4; j++)
			v[j] = *d > 0 && n > i + 8 * j ? _mm256_cvtps_epi32(_mm256_mul_ps(eight(x + i + 8 * j,
				n - i - 8 * j), inv)) : _mm256_setzero_si256();
		vi_store(q + i, in_turn(_mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]),
			_mm256_packs_epi32(v[2], v[3]))));
	}
	for (size_t j = 0; j < 8; j++)
		v[j] = _mm256_maddubs_epi16(one, vi_load(q + 32 * j));
	v[0] = in_turn(sums_of_halves(v, 2));
	v[1] = in_turn(sums_of_halves(v + 4, 2));
	v[2] = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
	vi_store(sum16, v[2]);
	v[2] = _mm256_packs_epi32(widened(v[2]), v[2]);
	_mm_storeu_si128((__m128i *)sum32, _mm256_castsi256_si128(_mm256_permute4x64_epi64(v[2], 0x08)));
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 256)
			round_group(x + r * xs + (i < n ? i : 0), i >= n ? 0 : n - i < 256 ? n - i : 256, o.q + i,
				o.d + i / 256, o.sum16 + i / 16, o.sum32 + i / 32);
	}
}

static int supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__builtin_cpu_supports("f16c");
}

const struct int8_kern int8_avx2 = { "avx2", supported, round_rows, gemm };
#else
typedef int int8_avx2_unused; /* ISO C wants a translation unit to declare something */
#endif
