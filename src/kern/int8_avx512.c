/* int8_avx512.c - 8-bit products with AVX-512 VNNI: sixteen rows, twelve tokens at a time. */
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

/* ---- decode ---- */

/* Lane l of each of eight vectors: four-element sums. -> sums of blocks of 32, in order. */
static inline __m512i sums32(const __m512i v[8])
{
	const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
	__m512i s[4], x, y;

	for (int i = 0; i < 4; i++)
		s[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
			_mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	x = _mm512_add_epi32(_mm512_unpacklo_epi64(s[0], s[1]), _mm512_unpackhi_epi64(s[0], s[1]));
	y = _mm512_add_epi32(_mm512_unpacklo_epi64(s[2], s[3]), _mm512_unpackhi_epi64(s[2], s[3]));
	x = _mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xdd));
	return _mm512_permutexvar_epi32(order, x);
}

/* The same for four vectors and blocks of 16. */
static inline __m512i sums16(const __m512i v[4])
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
	__m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));

	return _mm512_permutexvar_epi32(order,
		_mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t)));
}

static inline __attribute__((always_inline)) void products(const struct codes *c, const size_t blk,
	const int min, size_t len, const uint8_t *code, const float *sc, const float *mn, const int8_t *q,
	const float *d, const int32_t *sum, float *out)
{
	const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

	for (size_t i = 0; i < len; i += blk * 16) {
		__m512i v[8], s, xs = _mm512_loadu_si512(sum);
		__m512 dx, p;

		for (size_t j = 0; j < blk / 4; j++)
			v[j] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(code + i + 64 * j),
				_mm512_loadu_si512(q + i + 64 * j));
		s = blk == 32 ? sums32(v) : sums16(v);
		dx = blk == 32 ? _mm512_loadu_ps(d) : _mm512_permutexvar_ps(twice,
			_mm512_castps256_ps512(_mm256_loadu_ps(d)));
		if (!min && c->off_log2)
			s = _mm512_sub_epi32(s, _mm512_slli_epi32(xs, c->off_log2));
		p = _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(_mm512_loadu_ps(sc), dx));
		if (min)
			p = _mm512_fnmadd_ps(_mm512_loadu_ps(mn), _mm512_mul_ps(_mm512_cvtepi32_ps(xs), dx), p);
		_mm512_storeu_ps(out, p);
		d += blk / 2;
		sum += 16;
		sc += 16;
		mn += 16;
		out += 16;
	}
}

#include "kern/int8_body.h"

/* ---- prefill ---- */

/* nt tokens against the tile: y[t][0..15] continues its sum (from 0 if first). */
ALWAYS void tile(const size_t nt, const size_t blk, const int min, const struct gm *g, size_t n_block,
	const int8_t *q, const float *d, size_t np, float *y, size_t ys, size_t nr, int first)
{
	__mmask16 m = (__mmask16)((1u << nr) - 1);
	__m512 acc[GM_TOK];

	for (size_t t = 0; t < nt; t++)
		acc[t] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(m, y + t * ys);
	for (size_t b = 0; b < n_block; b++) {
		const uint8_t (*w)[R][4] = g->tile + b * (blk / 4);
		const int8_t *qb = q + b * blk;
		__m512 sc = _mm512_loadu_ps(g->sct[b]);
		__m512i s[GM_TOK];

		for (size_t t = 0; t < nt; t++)
			s[t] = _mm512_set1_epi32(g->start[t][b]);
		for (size_t j = 0; j < blk / 4; j++) {
			__m512i wv = _mm512_loadu_si512(w[j]);

			for (size_t t = 0; t < nt; t++) {
				int32_t four;

				memcpy(&four, qb + t * np + 4 * j, 4);
				s[t] = _mm512_dpbusd_epi32(s[t], wv, _mm512_set1_epi32(four));
			}
		}
		for (size_t t = 0; t < nt; t++) {
			__m512 dx = _mm512_set1_ps(d[t * (np / 32) + b * blk / 32]);
			__m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps(s[t]), _mm512_mul_ps(sc, dx));

			if (min)
				p = _mm512_fnmadd_ps(_mm512_loadu_ps(g->mnt[b]), _mm512_set1_ps(g->sx[t][b]), p);
			acc[t] = _mm512_add_ps(acc[t], p);
		}
	}
	for (size_t t = 0; t < nt; t++)
		_mm512_mask_storeu_ps(y + t * ys, m, acc[t]);
}

#define TILE(nt) \
static void tile##nt(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q, \
	const float *d, size_t np, float *y, size_t ys, size_t nr, int first) \
{ \
	if (c->blk == 32 && !c->has_min) \
		tile(nt, 32, 0, g, n_block, q, d, np, y, ys, nr, first); \
	else if (c->blk == 32) \
		tile(nt, 32, 1, g, n_block, q, d, np, y, ys, nr, first); \
	else if (!c->has_min) \
		tile(nt, 16, 0, g, n_block, q, d, np, y, ys, nr, first); \
	else \
		tile(nt, 16, 1, g, n_block, q, d, np, y, ys, nr, first); \
}
TILE(12)
TILE(8)
TILE(4)
TILE(2)
TILE(1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	static const struct tile tiles[] = { { 12, tile12 }, { 8, tile8 }, { 4, tile4 }, { 2, tile2 },
		{ 1, tile1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
}

/* ---- activations ---- */

static void round_block(const float *x, __mmask16 m0, __mmask16 m1, int8_t *q, float *d,
	int32_t *sum16, int32_t *sum32)
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
				o.sum32 + i / 32);
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
