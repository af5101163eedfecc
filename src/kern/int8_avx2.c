/*
 * int8_avx2.c - 8-bit products with AVX2: eight rows by four tokens at a time.
 *
 * Without VNNI a product of bytes is summed in pairs to 16 bits, which must not overflow: pairs of
 * codes of up to 4 bits can be added eight times before they are widened, 5 bits four times, 6 bits
 * twice. Codes of 8 bits are made signed, and their sign is moved to the activation (never -128).
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
#define GM_GROUPS 4
#define GM_PART 512 /* of 32 rows: half the L1 cache */
#define BIG_LOG2 7 /* this off means codes of 8 bits: signed here, so there is nothing to take off */
#define OFF_LOG2(c) ((c)->off_log2 == BIG_LOG2 ? 0 : (c)->off_log2)
typedef __m256i VI;

static inline VI vi_load(const void *p) { return _mm256_loadu_si256(p); }
static inline void vi_store(void *p, VI v) { _mm256_storeu_si256(p, v); }
static inline VI vf_zero(void) { return _mm256_setzero_si256(); }

static inline VI vf_add(VI a, VI b)
{
	return _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
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

#include "kern/int8_avx2_decode.h"
#include "kern/int8_avx2_fill.h"
#define FILL_RAW

#include "kern/int8_body.h"

/* ---- prefill ---- */

/* Keeps the compiler from adding up later, when it would have to keep all terms until then. */
#define IN_ORDER(v) __asm__("" : "+x"(v))

/* nt tokens against group k, `steps` pair sums added in 16 bits (1: signed codes of 8 bits):
 * y[t][0..7] continues its sum (from 0 if first). */
ALWAYS void tile(const size_t nt, const size_t blk, const int min, const size_t steps,
	const struct gm *g, size_t k, size_t n_block, const int8_t *q, const float *d, const float *sx,
	size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first)
{
	const __m256i ones = _mm256_set1_epi16(1), m = first_lanes(nr);
	__m256 acc[GM_TOK];

	for (size_t t = 0; t < nt; t++)
		acc[t] = first ? _mm256_setzero_ps() : _mm256_maskload_ps(y + t * ys, m);
	for (size_t b = 0; b < n_block; b++) {
		const uint8_t (*w)[GM_GROUPS][R][4] = g->tile + b * (blk / 4);
		const int8_t *qb = q + b * blk;
		__m256 sc = _mm256_loadu_ps(g->sct[b][k]);
		__m256i s[GM_TOK];

		for (size_t t = 0; t < nt; t++)
			s[t] = min ? _mm256_setzero_si256() : _mm256_set1_epi32(g->start[t][b]);
		for (size_t j = 0; j < blk / 4; j += steps) {
			__m256i pair[GM_TOK];

			for (size_t i = 0; i < steps; i++) {
				__m256i wv = vi_load(w[j + i][k]), wa = wv;

				if (steps == 1) {
					wv = _mm256_xor_si256(wv, _mm256_set1_epi8((char)0x80));
					wa = _mm256_abs_epi8(wv);
				}
				for (size_t t = 0; t < nt; t++) {
					int32_t four;
					__m256i x, p;

					memcpy(&four, qb + t * np + 4 * (j + i), 4);
					x = _mm256_set1_epi32(four);
					p = _mm256_maddubs_epi16(wa, steps == 1 ? _mm256_sign_epi8(x, wv) : x);
					pair[t] = i ? _mm256_add_epi16(pair[t], p) : p;
					IN_ORDER(pair[t]);
				}
			}
			for (size_t t = 0; t < nt; t++)
				s[t] = _mm256_add_epi32(s[t], _mm256_madd_epi16(pair[t], ones));
		}
		for (size_t t = 0; t < nt; t++) {
			__m256 dx = _mm256_set1_ps(d[t * (np / 32) + b * blk / 32]);
			__m256 p = _mm256_mul_ps(_mm256_cvtepi32_ps(s[t]), _mm256_mul_ps(sc, dx));

			if (min)
				p = _mm256_fnmadd_ps(_mm256_loadu_ps(g->mnt[b][k]), _mm256_set1_ps(sx[t * sxs + b]), p);
			acc[t] = _mm256_add_ps(acc[t], p);
		}
	}
	for (size_t t = 0; t < nt; t++)
		_mm256_maskstore_ps(y + t * ys, m, acc[t]);
}

/* ng groups one after the other, while the tokens are in the L1 cache; the last has nr rows. */
#define T(nt, blk, min, steps) \
	for (size_t k = 0; k < ng; k++) \
		tile(nt, blk, min, steps, g, k, n_block, q, d, sx, sxs, np, y + R * k, ys, k + 1 < ng ? R : nr, first)
ALWAYS void groups(const size_t ng, const size_t nt, const struct codes *c, const struct gm *g,
	size_t n_block, const int8_t *q, const float *d, const float *sx, size_t sxs, size_t np, float *y,
	size_t ys, size_t nr, int first)
{
	if (c->bits == 8 && c->blk == 32)
		T(nt, 32, 0, 1);
	else if (c->bits == 8)
		T(nt, 16, 0, 1);
	else if (c->blk == 16 && !c->has_min)
		T(nt, 16, 0, 2);
	else if (c->blk == 16)
		T(nt, 16, 1, 4);
	else if (c->bits == 5 && !c->has_min)
		T(nt, 32, 0, 4);
	else if (c->bits == 5)
		T(nt, 32, 1, 4);
	else if (!c->has_min)
		T(nt, 32, 0, 8);
	else
		T(nt, 32, 1, 8);
}

#define TILE(ng, nt) \
static void tile##ng##_##nt(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q, \
	const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first) \
{ \
	groups(ng, nt, c, g, n_block, q, d, sx, sxs, np, y, ys, nr, first); \
}
TILE(4, 4)
TILE(4, 2)
TILE(4, 1)
TILE(1, 4)
TILE(1, 2)
TILE(1, 1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, void *scratch)
{
	static const struct tile tiles[] = { { 4, tile4_4, 4 }, { 2, tile4_2, 4 }, { 1, tile4_1, 4 },
		{ 4, tile1_4, 1 }, { 2, tile1_2, 1 }, { 1, tile1_1, 1 } };

	gemm_body(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
}

/* ---- activations ---- */

static inline __m256 eight(const float *x, size_t left)
{
	return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(left));
}

static inline int32_t across(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static inline uint32_t highest(__m256i v)
{
	__m128i s = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
	return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static void round_block(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16, int32_t *sum32, float *s32)
{
	__m256i i[4] = { { 0 } }, top = _mm256_setzero_si256();
	__m256 v[4];
	uint32_t bits;
	float amax;

	for (size_t j = 0; j < 4; j++) {
		v[j] = n > 8 * j ? eight(x + 8 * j, n - 8 * j) : _mm256_setzero_ps();
		top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(v[j]),
			_mm256_set1_epi32(0x7fffffff)));
	}
	bits = highest(top);
	memcpy(&amax, &bits, 4);
	*d = bits >= 0x7f800000 ? NAN : 0;
	if (bits < 0x7f800000 && amax >= 0x1p-100f) {
		__m256 inv = _mm256_set1_ps(127.0f / amax);

		*d = amax / 127.0f;
		for (int j = 0; j < 4; j++)
			i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], inv));
	}
	top = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
	_mm256_storeu_si256((__m256i *)q,
		_mm256_permutevar8x32_epi32(top, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
	sum16[0] = across(_mm256_add_epi32(i[0], i[1]));
	sum16[1] = across(_mm256_add_epi32(i[2], i[3]));
	*sum32 = sum16[0] + sum16[1];
	*s32 = (float)*sum32 * *d;
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	size_t np = act8_pad(n);

	for (size_t r = r0; r < r1; r++) {
		struct act8 o = act8_at(a, n, r);

		for (size_t i = 0; i < np; i += 32)
			round_block(x + r * xs + (i < n ? i : 0), i < n ? n - i : 0, o.q + i, o.d + i / 32,
				o.sum16 + i / 16, o.sum32 + i / 32, o.s32 + i / 32);
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
