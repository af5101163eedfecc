/* int8_avx512.c - 8-bit products with AVX-512 VNNI: 48 rows against 4 tokens, or 16 against 12. */
#if defined(__x86_64__)
#define GM_TOK 12
#define GM_GROUPS 3
#define GM_PART 2048 /* a row of most models: what is added up is in memory once */
#define TILE_ASKS 1
#define PACKED_TILES 1
#define SIGNED_TILES 0
#define TOKEN_TERMS(c) (!exact(c)) /* of the others, tiles know better */
#include "kern/int8_avx512.h"

#include "kern/int8_kinds.h"
#include "kern/int8_avx512_lanes.h"
#include "kern/int8_vbmi.h"
#include "kern/int8_gfni.h"
#include "kern/int8_avx512_scales.h"
#include "kern/int8_avx512_decode.h"
#include "kern/int8_avx512_fill.h"

#include "kern/int8_body.h"
#include "kern/int8_few.h"
#include "kern/int8_avx512_sums.h"

/* ---- prefill ---- */

/* Codes of a tile: a byte each; or two a byte, i and 16 + i of a block, or those of two blocks. */
enum packing { BYTES, HALVES, BLOCKS };

/* The low or the high four bits of 64 bytes. */
ALWAYS __m512i four_bits(const void *p, size_t high)
{
	__m512i v = _mm512_load_si512(p);

	return _mm512_and_si512(high ? _mm512_srli_epi16(v, 4) : v, _mm512_set1_epi8(15));
}

/* Vector j of the codes of a block, of group k. Sixteen times as much where that is cheaper and the
 * sum is to be shifted anyway. */
ALWAYS __m512i codes_at(const struct gm *g, const enum packing pack, size_t blk, size_t block,
	size_t odd, int times16, size_t j, size_t k)
{
	const __m512i *v = (const __m512i *)g->tile[4 * (block - odd) + j][k];
	const __m512i low4 = _mm512_set1_epi8(15);

	if (pack == HALVES)
		return four_bits(g->tile[4 * block + j % 4][k], j / 4);
	if (pack == BYTES)
		return _mm512_load_si512(g->tile[block * (blk / 4) + j][k]);
	if (times16 && odd)
		return _mm512_andnot_si512(low4, *v);
	return _mm512_and_si512(times16 ? *v :
		_mm512_srl_epi16(*v, _mm_cvtsi32_si128(4 * (int)odd)), low4);
}

/* What sums start from: -off sums of x a block, or of two blocks that share a lane, the even one
 * below; its half has half its range added, so that sums there, which fit 16 bits, carry nothing. */
static void starts(const struct codes *c, int small, const struct gm_in *in, size_t n_block,
	size_t nt, int32_t start[GM_TOK][GM_BLOCKS])
{
	for (size_t t = 0; t < nt; t++) {
		const int16_t *sum = in->sum + t * (in->np / c->blk);

		for (size_t b = 0; b < n_block && !small; b += 16)
			vi_store(start[t] + b, vi_minus_shifted(sum + b, c->off_log2));
		for (size_t b = 0; b < n_block && small; b += 32) { /* lanes beyond the last: not used */
			__m512i v = vi_load(sum + b);
			__m512i odd = _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000));
			__m512i both = _mm512_add_epi32(odd, _mm512_srai_epi32(_mm512_slli_epi32(v, 16), 16));

			vi_store(start[t] + b / 2, _mm512_sub_epi32(_mm512_set1_epi32(0x8000),
				_mm512_slli_epi32(both, c->off_log2)));
		}
	}
}

/* Asks the second-level cache for the b-th of n256 shares of what comes next: all at once, they
 * would have to wait for each other, and what follows for them. */
ALWAYS void ask_share(const struct next *next, size_t b, size_t n256)
{
	size_t share = (next->bytes + n256 - 1) / n256;

	for (size_t r = 0; r < next->n; r++)
		for (size_t i = 0; i < share; i += 64)
			_mm_prefetch((const char *)next->p + r * next->step + b * share + i, _MM_HINT_T1);
}

/* nt tokens against ng groups of rows: y[t][0..16 ng - 1] continues its sum (from 0 if first). A
 * broadcast activation serves ng products, a vector of weights nt. The sums of a block and those of a
 * group of 256 stay in registers; of the largest tile, y is in memory between groups. If small, the
 * sums of a block fit 16 bits, and integer scales are applied to two blocks at once. */
ALWAYS void tile(const size_t ng, const size_t nt, const size_t blk, const enum by by,
	const enum packing pack, const int small, const struct gm *g,
	const int32_t start[GM_TOK][GM_BLOCKS], size_t n256, const struct gm_in *in, float *y, size_t ys, size_t nr, int first)
{
	const size_t np = in->np, per = 256 / blk, step = small ? 2 : 1;
	const __mmask16 last = (__mmask16)((1u << nr) - 1);
	const __m512i zero = _mm512_setzero_si512();
	float sum[GM_TOK][GM_GROUPS][16];

	for (size_t t = 0; t < nt; t++)
		for (size_t k = 0; k < ng; k++)
			vi_store(sum[t][k], first ? zero : _mm512_maskz_loadu_epi32(k + 1 < ng ? 0xffff : last,
				y + t * ys + 16 * k));
	for (size_t b = 0; b < n256; b++) {
		ask_share(&in->next, b, n256);
		if (ng > 1 && nt > 2) /* else the compiler holds on to them, and spills what is needed sooner */
			__asm__("" : "+m"(sum));
		__m512i u[GM_GROUPS][GM_TOK], v[GM_GROUPS][GM_TOK];

		for (size_t t = 0; t < nt; t++)
			for (size_t k = 0; k < ng; k++)
				u[k][t] = zero;
#pragma GCC unroll 1 /* a copy a block would not fit where decoded instructions are kept */
		for (size_t i = b * per; i < (b + 1) * per; i += step) {
			__m512i s[GM_GROUPS][GM_TOK];

#pragma GCC unroll 2
			for (size_t h = 0; h < step; h++) { /* of two, the odd block first */
				const size_t odd = small ? 1 - h : i & 1, block = small ? i + odd : i;
				const int8_t *q = in->q + block * blk;

				for (size_t t = 0; t < nt; t++)
					for (size_t k = 0; k < ng; k++)
						if (!small)
							s[k][t] = by != INTS && by != FLOATS ? zero :
								_mm512_set1_epi32(start[t][block]);
						else if (odd) /* 16 times half the range that comes below, at 12 less */
							s[k][t] = pack == BLOCKS ? _mm512_set1_epi32(8) : zero;
						else
							s[k][t] = pack == BLOCKS ? _mm512_slli_epi32(s[k][t], 12) :
								_mm512_add_epi32(_mm512_slli_epi32(s[k][t], 16),
								_mm512_set1_epi32(by == INTS ? start[t][i / 2] : 0x8000));
#pragma GCC unroll 8
				for (size_t j = 0; j < blk / 4; j++) {
					__m512i w[GM_GROUPS];

					for (size_t k = 0; k < ng; k++)
						w[k] = codes_at(g, pack, blk, block, odd, small, j, k);
					for (size_t t = 0; t < nt; t++) {
						int32_t four;
						__m512i x;

						memcpy(&four, q + t * np + 4 * j, 4);
						x = _mm512_set1_epi32(four);
						for (size_t k = 0; k < ng; k++)
							s[k][t] = _mm512_dpbusd_epi32(s[k][t], w[k], x);
					}
				}
				for (size_t k = 0; k < ng && !small; k++) {
					__m512i sc = by >= FLOATS ? _mm512_load_si512(g->sct[i][k]) :
						one_of_pairs(g, g->sct[i / 2][k], odd);

					for (size_t t = 0; t < nt; t++)
						u[k][t] = by >= FLOATS ? vf_chain(u[k][t], s[k][t], sc) :
							_mm512_add_epi32(u[k][t], _mm512_mullo_epi32(s[k][t], sc));
				}
			}
			for (size_t k = 0; k < ng && small; k++) {
				__m512i sc = _mm512_load_si512(g->sct[i / 2][k]);

				for (size_t t = 0; t < nt; t++)
					u[k][t] = _mm512_dpwssd_epi32(u[k][t], sc, _mm512_xor_si512(s[k][t],
						_mm512_set1_epi32(0x8000)));
			}
		}
		for (size_t t = 0; t < nt; t++)
			for (size_t k = 0; k < ng; k++)
				v[k][t] = zero;
#pragma GCC unroll 8
		for (size_t i = 0; i < per && by == INTS_MIN; i += 2)
			for (size_t t = 0; t < nt; t++) {
				int32_t two;

				memcpy(&two, in->sum + t * (np / blk) + b * per + i, 4);
				for (size_t k = 0; k < ng; k++)
					v[k][t] = _mm512_dpwssd_epi32(v[k][t],
						_mm512_load_si512(g->mpt[(b * per + i) / 2][k]),
						_mm512_set1_epi32(two));
			}
#pragma GCC unroll 8
		for (size_t i = 0; i < per && by == FLOATS_MIN; i++)
			for (size_t t = 0; t < nt; t++)
				for (size_t k = 0; k < ng; k++)
					v[k][t] = vf_chain_min(v[k][t], _mm512_load_si512(g->mnt[b * per + i][k]),
						g->sx[t][b * per + i]);
#pragma GCC unroll 12
		for (size_t t = 0; t < nt; t++) {
			const float d = in->d[t * (np / 256) + b];

			for (size_t k = 0; k < ng; k++) {
				__m512i acc = vi_load(sum[t][k]);

				vi_store(sum[t][k], with_group(by, g, b, k, acc, u[k][t], v[k][t], d));
			}
		}
	}
	for (size_t t = 0; t < nt; t++)
		for (size_t k = 0; k < ng; k++)
			_mm512_mask_storeu_epi32(y + t * ys + 16 * k, k + 1 < ng ? 0xffff : last, vi_load(sum[t][k]));
}

/* 1 if sums of the type's blocks, with these tokens' n256 groups, fit 16 bits: see act8.fits. */
static int all_small(const struct codes *c, size_t n256, const struct gm_in *in, size_t nt)
{
	const unsigned most = c->off_log2 ? 1u << c->off_log2 : (1u << c->bits) - 1;
	const unsigned need = most <= 8 ? 0 : c->blk == 16 ? most <= 32 ? ACT8_SUM16 : 0 : !c->has_min ?
		most <= 16 ? ACT8_SUM32 : 0 : most <= 15 ? ACT8_SIDE15 : ACT8_SIDE31;
	unsigned all = need;

	if (most <= 8)
		return 1;
	for (size_t t = 0; t < nt; t++)
		for (size_t b = 0; b < n256; b++)
			all &= in->fits[t * (in->np / 256) + b];
	return all != 0;
}

#define T(ng, nt, blk, by, pack, small) \
	tile(ng, nt, blk, by, pack, small, g, g->start, n256, in, y, ys, nr, first)
/* The small ones of a few tokens, or of one, are rare: not worth their code. */
#define INTEGERS(ng, nt, blk, by, pack) do { \
	int32_t start[GM_TOK][GM_BLOCKS]; \
	int small = (ng) * (nt) > 8 && all_small(c, n256, in, nt); \
\
	if (by == INTS) \
		starts(c, small, in, n256 * (256 / blk), nt, start); \
	if (small) \
		tile(ng, nt, blk, by, pack, 1, g, (const int32_t (*)[GM_BLOCKS])start, n256, in, y, ys, \
			nr, first); \
	else \
		tile(ng, nt, blk, by, pack, 0, g, (const int32_t (*)[GM_BLOCKS])start, n256, in, y, ys, \
			nr, first); \
	} while (0)
#define TILE(ng, nt) \
static void tile##ng##_##nt(const struct codes *c, const struct gm *g, size_t n256, const struct gm_in *in, \
	float *y, size_t ys, size_t nr, int first) \
{ \
	if (g->packed) { \
		if (exact(c)) { \
			INTEGERS(ng, nt, 32, INTS_MIN, BLOCKS); \
		} else if (c->has_min) { \
			T(ng, nt, 32, FLOATS_MIN, HALVES, 0); \
		} else { \
			T(ng, nt, 32, FLOATS, HALVES, 0); \
		} \
	} else if (c->blk == 32 && exact(c)) { \
		if (c->has_min) { \
			INTEGERS(ng, nt, 32, INTS_MIN, BYTES); \
		} else { \
			INTEGERS(ng, nt, 32, INTS, BYTES); \
		} \
	} else if (c->blk == 32) { \
		if (c->has_min) \
			T(ng, nt, 32, FLOATS_MIN, BYTES, 0); \
		else \
			T(ng, nt, 32, FLOATS, BYTES, 0); \
	} else if (exact(c)) { \
		if (c->has_min) { \
			INTEGERS(ng, nt, 16, INTS_MIN, BYTES); \
		} else { \
			INTEGERS(ng, nt, 16, INTS, BYTES); \
		} \
	} else { \
		T(ng, nt, 16, FLOATS, BYTES, 0); \
	} \
}
TILE(3, 4)
TILE(3, 3)
TILE(3, 2)
TILE(3, 1)
TILE(1, 12)
TILE(1, 6)
TILE(1, 3)
TILE(1, 1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, const void *next,
	void *scratch)
{
	static const struct tile tiles[] = { { 4, tile3_4, 3 }, { 3, tile3_3, 3 }, { 2, tile3_2, 3 },
		{ 1, tile3_1, 3 }, { 12, tile1_12, 1 }, { 6, tile1_6, 1 }, { 3, tile1_3, 1 }, { 1, tile1_1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, next, scratch);
}

/* ---- activations ---- */

/* n <= 256 elements, zeros behind them */
static void round_group(const float *x, size_t n, int8_t *q, float *d, int16_t *sum16,
	int16_t *sum32, uint8_t *fits)
{
	const __m512i mask = _mm512_set1_epi32(0x7fffffff), order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13,
		2, 6, 10, 14, 3, 7, 11, 15);
	const __m512i ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
	__m512i top = zero, s[4], m[4];
	__m256i sums, sizes;
	__m512 v[16], inv = _mm512_setzero_ps();
	uint32_t bits;
	float amax;

	for (size_t i = 0; i < 16; i++) {
		v[i] = _mm512_maskz_loadu_ps(n >= 16 * i + 16 ? 0xffff : n > 16 * i ?
			(__mmask16)((1u << (n - 16 * i)) - 1) : 0, x + (n > 16 * i ? 16 * i : 0));
		top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v[i]), mask));
	}
	bits = _mm512_reduce_max_epu32(top);
	memcpy(&amax, &bits, 4);
	*d = bits >= 0x7f800000 ? NAN : 0;
	if (bits < 0x7f800000 && amax >= 0x1p-100f) {
		*d = amax / 127.0f;
		inv = _mm512_set1_ps(127.0f / amax);
	}
	for (size_t i = 0; i < 16; i++)
		_mm_storeu_si128((__m128i *)(q + 16 * i), *d > 0 ?
			_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[i], inv))) : _mm_setzero_si128());
	for (size_t i = 0; i < 4; i++) {
		s[i] = _mm512_dpbusd_epi32(zero, ones, vi_load(q + 64 * i));
		m[i] = _mm512_dpbusd_epi32(zero, _mm512_abs_epi8(vi_load(q + 64 * i)), ones);
	}
	sums = _mm512_cvtepi32_epi16(_mm512_permutexvar_epi32(order, sums_of_four(s)));
	sizes = _mm512_cvtepi32_epi16(_mm512_permutexvar_epi32(order, sums_of_four(m)));
	_mm256_storeu_si256((__m256i *)sum16, sums);
	*fits = _mm256_cmpgt_epi16_mask(sizes, _mm256_set1_epi16(1023)) ? 0 : ACT8_SUM16;
	sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
	sizes = _mm256_madd_epi16(sizes, _mm256_set1_epi16(1));
	_mm_storeu_si128((__m128i *)sum32, _mm256_cvtepi32_epi16(sums));
	*fits |= _mm256_cmpgt_epi32_mask(sizes, _mm256_set1_epi32(2047)) ? 0 : ACT8_SUM32;
	sizes = _mm256_add_epi32(sizes, _mm256_abs_epi32(sums)); /* twice the larger side */
	*fits |= _mm256_cmpgt_epi32_mask(sizes, _mm256_set1_epi32(2 * 2184)) ? 0 : ACT8_SIDE15;
	*fits |= _mm256_cmpgt_epi32_mask(sizes, _mm256_set1_epi32(2 * 1057)) ? 0 : ACT8_SIDE31;
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 256)
			round_group(x + r * xs + (i < n ? i : 0), i >= n ? 0 : n - i < 256 ? n - i : 256, o.q + i,
				o.d + i / 256, o.sum16 + i / 16, o.sum32 + i / 32, o.fits + i / 256);
	}
}

static int supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vnni");
}

const struct int8_kern int8_avx512 = { "avx512", supported, round_rows, gemm };
#else
typedef int int8_avx512_unused; /* ISO C wants a translation unit to declare something */
#endif
