/* int8_avx512.c - 8-bit products with AVX-512 VNNI: 48 rows against 4 tokens, or 16 against 12. */
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

#define R 16
#define GM_TOK 12
#define GM_GROUPS 3
#define GM_PART 512 /* of 48 rows: three quarters of the L1 cache */
#define OFF_LOG2(c) ((c)->off_log2)
typedef __m512i VI;

static inline VI vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, VI v) { _mm512_storeu_si512(p, v); }
static inline VI vf_zero(void) { return _mm512_setzero_si512(); }

static inline VI vf_add(VI a, VI b)
{
	return _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}

static inline void vf_store(float *y, VI v, size_t n)
{
	_mm512_mask_storeu_ps(y, (__mmask16)((1u << n) - 1), _mm512_castsi512_ps(v));
}

static inline void transpose(__m512i v[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) {
		v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
	}
	for (int i = 0; i < 8; i++) {
		v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
	}
}

#include "kern/int8_avx512_decode.h"
#include "kern/int8_avx512_fill.h"
#define FILL_RAW

#include "kern/int8_body.h"

/* ---- prefill ---- */

/* nt tokens against ng groups of rows: y[t][0..16 ng - 1] continues its sum (from 0 if first). A
 * broadcast activation serves ng products, a vector of weights nt. */
ALWAYS void tile(const size_t ng, const size_t nt, const size_t blk, const int min, const struct gm *g,
	size_t n_block, const int8_t *q, const float *d, const float *sx, size_t sxs, size_t np, float *y,
	size_t ys, size_t nr, int first)
{
	__mmask16 m = (__mmask16)((1u << nr) - 1);
	__m512 acc[GM_GROUPS][GM_TOK];

	for (size_t t = 0; t < nt; t++)
		for (size_t k = 0; k < ng; k++)
			acc[k][t] = first ? _mm512_setzero_ps() :
				_mm512_maskz_loadu_ps(k + 1 < ng ? 0xffff : m, y + t * ys + 16 * k);
	for (size_t b = 0; b < n_block; b++) {
		const int8_t *qb = q + b * blk;
		__m512i s[GM_GROUPS][GM_TOK];

		for (size_t t = 0; t < nt; t++)
			for (size_t k = 0; k < ng; k++)
				s[k][t] = min ? _mm512_setzero_si512() : _mm512_set1_epi32(g->start[t][b]);
#pragma GCC unroll 8
		for (size_t j = 0; j < blk / 4; j++) {
			__m512i w[GM_GROUPS];

			for (size_t k = 0; k < ng; k++)
				w[k] = _mm512_load_si512(g->tile[b * (blk / 4) + j][k]);
			for (size_t t = 0; t < nt; t++) {
				int32_t four;
				__m512i x;

				memcpy(&four, qb + t * np + 4 * j, 4);
				x = _mm512_set1_epi32(four);
				for (size_t k = 0; k < ng; k++)
					s[k][t] = _mm512_dpbusd_epi32(s[k][t], w[k], x);
			}
		}
		for (size_t t = 0; t < nt; t++) {
			__m512 dx = _mm512_set1_ps(d[t * (np / 32) + b * blk / 32]);

			for (size_t k = 0; k < ng; k++) {
				__m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps(s[k][t]),
					_mm512_mul_ps(_mm512_load_ps(g->sct[b][k]), dx));

				if (min)
					p = _mm512_fnmadd_ps(_mm512_load_ps(g->mnt[b][k]),
						_mm512_set1_ps(sx[t * sxs + b]), p);
				acc[k][t] = _mm512_add_ps(acc[k][t], p);
			}
		}
	}
	for (size_t t = 0; t < nt; t++)
		for (size_t k = 0; k < ng; k++)
			_mm512_mask_storeu_ps(y + t * ys + 16 * k, k + 1 < ng ? 0xffff : m, acc[k][t]);
}

#define T(ng, nt, blk, min) tile(ng, nt, blk, min, g, n_block, q, d, sx, sxs, np, y, ys, nr, first)
#define TILE(ng, nt) \
static void tile##ng##_##nt(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q, \
	const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first) \
{ \
	if (c->blk == 32 && !c->has_min) \
		T(ng, nt, 32, 0); \
	else if (c->blk == 32) \
		T(ng, nt, 32, 1); \
	else if (!c->has_min) \
		T(ng, nt, 16, 0); \
	else \
		T(ng, nt, 16, 1); \
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
	struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	static const struct tile tiles[] = { { 4, tile3_4, 3 }, { 3, tile3_3, 3 }, { 2, tile3_2, 3 },
		{ 1, tile3_1, 3 }, { 12, tile1_12, 1 }, { 6, tile1_6, 1 }, { 3, tile1_3, 1 }, { 1, tile1_1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
}

/* ---- activations ---- */

static void round_block(const float *x, __mmask16 m0, __mmask16 m1, int8_t *q, float *d,
	int32_t *sum16, int32_t *sum32, float *s32)
{
	const __m512i mask = _mm512_set1_epi32(0x7fffffff);
	__m512 a = _mm512_maskz_loadu_ps(m0, x), b = _mm512_maskz_loadu_ps(m1, x + 16);
	uint32_t top = _mm512_reduce_max_epu32(_mm512_max_epu32(
		_mm512_and_si512(_mm512_castps_si512(a), mask), _mm512_and_si512(_mm512_castps_si512(b), mask)));
	__m512i qa = _mm512_setzero_si512(), qb = qa;
	float amax;

	memcpy(&amax, &top, 4);
	*d = top >= 0x7f800000 ? NAN : 0;
	if (top < 0x7f800000 && amax >= 0x1p-100f) {
		__m512 inv = _mm512_set1_ps(127.0f / amax);

		*d = amax / 127.0f;
		qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inv));
		qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inv));
	}
	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(qa));
	_mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(qb));
	sum16[0] = _mm512_reduce_add_epi32(qa);
	sum16[1] = _mm512_reduce_add_epi32(qb);
	*sum32 = sum16[0] + sum16[1];
	*s32 = (float)*sum32 * *d;
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 32) {
			size_t left = i < n ? n - i : 0;
			__mmask16 m0 = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
			__mmask16 m1 = left >= 32 ? 0xffff : left > 16 ? (__mmask16)((1u << (left - 16)) - 1) : 0;

			round_block(x + r * xs + (left ? i : 0), m0, m1, o.q + i, o.d + i / 32, o.sum16 + i / 16,
				o.sum32 + i / 32, o.s32 + i / 32);
		}
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
