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

/* How a row is read: unpacked first (elements that share a scale, with minimum or without), or as it
 * lies, 64 codes at a time. */
enum kind { B32, B32_MIN, B16, B16_MIN, Q8_0, Q4_0, Q5_0, IQ4_NL, MXFP4, Q4_K, Q5_K, Q6_K };
#define KINDS X(B32) X(B32_MIN) X(B16) X(B16_MIN) X(Q8_0) X(Q4_0) X(Q5_0) X(IQ4_NL) X(MXFP4) \
	X(Q4_K) X(Q5_K) X(Q6_K)

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

static enum kind kind_of(uint32_t type, size_t len)
{
	static const enum kind direct[QT_MAX] = { [QT_Q8_0] = Q8_0, [QT_Q4_0] = Q4_0, [QT_Q5_0] = Q5_0,
		[QT_IQ4_NL] = IQ4_NL, [QT_MXFP4] = MXFP4, [QT_Q4_K] = Q4_K, [QT_Q5_K] = Q5_K, [QT_Q6_K] = Q6_K };

	if (direct[type] && len % 64 == 0)
		return direct[type];
	return codes[type].blk == 32 ? codes[type].has_min ? B32_MIN : B32 :
		codes[type].has_min ? B16_MIN : B16;
}

/* Scales in half precision, `bytes` apart. */
ALWAYS void half_scales(const uint8_t *p, size_t bytes, size_t n_block, float *sc)
{
	size_t b = 0;

	for (; b + 8 <= n_block; b += 8, p += 8 * bytes)
		_mm256_storeu_ps(sc + b, _mm256_cvtph_ps(_mm_set_epi16((short)rd16(p + 7 * bytes),
			(short)rd16(p + 6 * bytes), (short)rd16(p + 5 * bytes), (short)rd16(p + 4 * bytes),
			(short)rd16(p + 3 * bytes), (short)rd16(p + 2 * bytes), (short)rd16(p + bytes),
			(short)rd16(p))));
	for (; b < n_block; b++, p += bytes)
		sc[b] = half(rd16(p));
}

ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	switch (kind) {
	case B32: case B32_MIN: case B16: case B16_MIN:
		c->fn(row, len, part.code, part.sc, part.mn);
		break;
	case Q8_0:
		half_scales(row, 34, len / 32, part.sc);
		break;
	case Q4_0: case IQ4_NL:
		half_scales(row, 18, len / 32, part.sc);
		break;
	case Q5_0:
		half_scales(row, 22, len / 32, part.sc);
		break;
	case MXFP4:
		for (size_t b = 0; b < len / 32; b++)
			part.sc[b] = mxfp4_scale(row[17 * b]);
		break;
	case Q4_K: case Q5_K:
		for (size_t i = 0; i < len / 256; i++)
			k_scales(row + i * (kind == Q4_K ? 144 : 176), part.sc + 8 * i, part.mn + 8 * i);
		break;
	case Q6_K:
		for (size_t i = 0; i < len / 256; i++)
			_mm512_storeu_ps(part.sc + 16 * i, _mm512_mul_ps(_mm512_set1_ps(half(rd16(row + 210 * i + 208))),
				_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
				_mm_loadu_si128((const __m128i *)(row + 210 * i + 192))))));
		break;
	}
}

/* 16 bytes at a and at b -> low and high nibbles of a, low and high nibbles of b */
ALWAYS __m512i two_nibbles(const uint8_t *a, const uint8_t *b)
{
	const __m512i shift = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
		0x0004000400040004, 0x0004000400040004);
	__m512i v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)a));

	v = _mm512_mask_broadcast_i32x4(v, 0xff00, _mm_loadu_si128((const __m128i *)b));
	return _mm512_and_si512(_mm512_srlv_epi16(v, shift), _mm512_set1_epi8(15));
}

/* 32 bytes twice, as 16-bit words shifted right by lo in the first copy and by hi in the second */
ALWAYS __m512i twice_shifted(const uint8_t *p, unsigned lo, unsigned hi)
{
	const __m512i shift = _mm512_inserti64x4(_mm512_set1_epi16((short)lo), _mm256_set1_epi16((short)hi), 1);

	return _mm512_srlv_epi16(_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p)), shift);
}

/* Bytes of 256 elements of the kinds that are read as they lie. */
ALWAYS size_t bytes256(enum kind kind)
{
	switch (kind) {
	case Q8_0: return 8 * 34;
	case Q4_0: case IQ4_NL: return 8 * 18;
	case Q5_0: return 8 * 22;
	case MXFP4: return 8 * 17;
	case Q4_K: return 144;
	case Q5_K: return 176;
	case Q6_K: return 210;
	default: return 0;
	}
}

/* Codes 64 j .. 64 j + 63 (j < 4) of 256 that lie at p, or unpacked at code. */
ALWAYS VI fetch(enum kind kind, const uint8_t *p, const uint8_t *code, size_t j)
{
	static const uint8_t mxfp4[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 };
	const __m512i low4 = _mm512_set1_epi8(15), bit5 = _mm512_set1_epi8(16);
	__m512i v, h;
	uint32_t b0, b1;

	switch (kind) {
	case B32: case B32_MIN: case B16: case B16_MIN:
		return vi_load(code + 64 * j);
	case Q8_0:
		p += 68 * j;
		v = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(p + 2))),
			_mm256_loadu_si256((const __m256i *)(p + 36)), 1);
		return _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80));
	case Q4_0:
		p += 36 * j;
		return two_nibbles(p + 2, p + 20);
	case IQ4_NL:
		p += 36 * j;
		v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)iq4_table));
		return _mm512_shuffle_epi8(v, two_nibbles(p + 2, p + 20));
	case MXFP4:
		p += 34 * j;
		v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)mxfp4));
		return _mm512_shuffle_epi8(v, two_nibbles(p + 1, p + 18));
	case Q5_0:
		p += 44 * j;
		memcpy(&b0, p + 2, 4);
		memcpy(&b1, p + 24, 4);
		v = two_nibbles(p + 6, p + 28);
		return _mm512_mask_add_epi8(v, (__mmask64)b0 | (__mmask64)b1 << 32, v, bit5);
	case Q4_K:
		return _mm512_and_si512(twice_shifted(p + 16 + 32 * j, 0, 4), low4);
	case Q5_K:
		v = _mm512_and_si512(twice_shifted(p + 48 + 32 * j, 0, 4), low4);
		h = _mm512_slli_epi16(twice_shifted(p + 16, 2 * (unsigned)j, 2 * (unsigned)j + 1), 4);
		return _mm512_or_si512(v, _mm512_and_si512(h, bit5));
	case Q6_K:
		v = _mm512_loadu_si512(p + 64 * (j / 2));
		h = j % 2 ? _mm512_slli_epi16(twice_shifted(p + 128 + 32 * (j / 2), 4, 6), 4) :
			_mm512_slli_epi16(twice_shifted(p + 128 + 32 * (j / 2), 0, 2), 4);
		v = _mm512_and_si512(j % 2 ? _mm512_srli_epi16(v, 4) : v, low4);
		return _mm512_or_si512(v, _mm512_and_si512(h, _mm512_set1_epi8(0x30)));
	}
	return _mm512_setzero_si512();
}

/* Sixteen products: 512 elements in blocks of 32 or 256 in blocks of 16, of which n64 * 64 are there. */
ALWAYS __m512 sixteen(enum kind kind, const struct codes *c, const uint8_t *p, const uint8_t *code,
	size_t n64, const float *sc, const float *mn, const int8_t *q, const float *d, const int32_t *sum)
{
	const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	const size_t blk = kind == B16 || kind == B16_MIN || kind == Q6_K ? 16 : 32;
	const int min = kind == B32_MIN || kind == B16_MIN || kind == Q4_K || kind == Q5_K;
	__m512i v[8], s, xs = _mm512_loadu_si512(sum);
	__m512 dx, y;

#pragma GCC unroll 8
	for (size_t j = 0; j < blk / 4; j++)
		v[j] = j >= n64 ? _mm512_setzero_si512() : _mm512_dpbusd_epi32(_mm512_setzero_si512(),
			fetch(kind, p + j / 4 * bytes256(kind), code + j / 4 * 256, j % 4),
			_mm512_loadu_si512(q + 64 * j));
	s = blk == 32 ? sums32(v) : sums16(v);
	dx = blk == 32 ? _mm512_loadu_ps(d) : _mm512_permutexvar_ps(twice,
		_mm512_castps256_ps512(_mm256_loadu_ps(d)));
	if (!min && c->off_log2)
		s = _mm512_sub_epi32(s, _mm512_slli_epi32(xs, c->off_log2));
	y = _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(_mm512_loadu_ps(sc), dx));
	if (min)
		y = _mm512_fnmadd_ps(_mm512_loadu_ps(mn), _mm512_mul_ps(_mm512_cvtepi32_ps(xs), dx), y);
	return y;
}

ALWAYS void products(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part, const int8_t *q, const float *d, const int32_t *sum, float *out)
{
	const size_t blk = kind == B16 || kind == B16_MIN || kind == Q6_K ? 16 : 32, step = blk * 16;
	size_t i = 0, b = 0;

	for (; i + step <= len; i += step, b += 16) {
		ahead(row + i / 256 * bytes256(kind), step / 256 * bytes256(kind), part.end);
		_mm512_storeu_ps(out + b, sixteen(kind, c, row + i / 256 * bytes256(kind), part.code + i,
			step / 64, part.sc + b, part.mn + b, q + i, d + i / 32, sum + b));
	}
	for (; i < act8_pad(len); i += step, b += 16) { /* the rest of a row, and zeros */
		size_t n64 = i < len ? kind > B16_MIN ? (len - i) / 64 : step / 64 : 0;

		_mm512_storeu_ps(out + b, sixteen(kind, c, row + i / 256 * bytes256(kind), part.code + i, n64,
			part.sc + b, part.mn + b, q + i, d + i / 32, sum + b));
	}
}

#include "kern/int8_body.h"

/* ---- prefill ---- */

/* nt tokens against the tile: y[t][0..15] continues its sum (from 0 if first). */
ALWAYS void tile(const size_t nt, const size_t blk, const int min, const struct gm *g, size_t n_block,
	const int8_t *q, const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first)
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
			s[t] = min ? _mm512_setzero_si512() : _mm512_set1_epi32(g->start[t][b]);
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
				p = _mm512_fnmadd_ps(_mm512_loadu_ps(g->mnt[b]), _mm512_set1_ps(sx[t * sxs + b]), p);
			acc[t] = _mm512_add_ps(acc[t], p);
		}
	}
	for (size_t t = 0; t < nt; t++)
		_mm512_mask_storeu_ps(y + t * ys, m, acc[t]);
}

#define TILE(nt) \
static void tile##nt(const struct codes *c, const struct gm *g, size_t n_block, const int8_t *q, \
	const float *d, const float *sx, size_t sxs, size_t np, float *y, size_t ys, size_t nr, int first) \
{ \
	if (c->blk == 32 && !c->has_min) \
		tile(nt, 32, 0, g, n_block, q, d, sx, sxs, np, y, ys, nr, first); \
	else if (c->blk == 32) \
		tile(nt, 32, 1, g, n_block, q, d, sx, sxs, np, y, ys, nr, first); \
	else if (!c->has_min) \
		tile(nt, 16, 0, g, n_block, q, d, sx, sxs, np, y, ys, nr, first); \
	else \
		tile(nt, 16, 1, g, n_block, q, d, sx, sxs, np, y, ys, nr, first); \
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
