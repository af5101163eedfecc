/*
 * int8_low.h - integer codes of the element types of few bits. Part of int8_codes.h: the same rules.
 * Block layouts are those of lowbit.h; what a point of a grid is, grid.h says.
 */
#include "kern/grid.h"
#include "kern/half.h"

static inline uint32_t rd32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static inline uint64_t rd64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* Four groups of seven signs -> of eight, the last of which makes their number even. */
static inline uint32_t even_signs(uint32_t seven)
{
	uint32_t s = (seven & 0x7f) | (seven << 1 & 0x7f00) | (seven << 2 & 0x7f0000) |
		(seven << 3 & 0x7f000000), odd = s ^ s >> 4;

	odd ^= odd >> 2;
	odd ^= odd >> 1;
	return s | (odd & GRID_ONES & 0xffffffff) << 7;
}

#ifdef __AVX2__
/* 0xff where bit j of the 32 is set */
ALWAYS __m256i bit_mask(uint32_t bits)
{
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);

	return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread),
		bit), bit);
}

/* Field j of two bits: first + (low bit ? one : 0) + (high bit ? two : 0) */
ALWAYS __m256i two_bits(uint64_t fields, __m256i first, int one, int two)
{
	const __m256i spread = _mm256_setr_epi32(0, 0x01010101, 0x02020202, 0x03030303, 0x04040404, 0x05050505,
		0x06060606, 0x07070707);
	const __m256i low = _mm256_set1_epi32(0x40100401), high = _mm256_set1_epi32((int)0x80200802);
	__m256i v = _mm256_shuffle_epi8(_mm256_set1_epi64x((long long)fields), spread);
	__m256i l = _mm256_cmpeq_epi8(_mm256_and_si256(v, low), low);
	__m256i h = _mm256_cmpeq_epi8(_mm256_and_si256(v, high), high);

	return _mm256_add_epi8(_mm256_add_epi8(first, _mm256_and_si256(l, _mm256_set1_epi8((char)one))),
		_mm256_and_si256(h, _mm256_set1_epi8((char)two)));
}

ALWAYS void put(__m256i v, uint8_t *restrict code)
{
	_mm256_storeu_si256((__m256i *)code, v);
}

ALWAYS void put_signed(__m256i v, uint32_t signs, int off, uint8_t *restrict code)
{
	const __m256i o = _mm256_set1_epi8((char)off);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
	put(_mm256_mask_sub_epi8(_mm256_add_epi8(o, v), (__mmask32)signs, o, v), code);
#else
	__m256i minus = bit_mask(signs);

	put(_mm256_add_epi8(_mm256_sub_epi8(_mm256_xor_si256(v, minus), minus), o), code);
#endif
}

/* even_signs of eight words. */
ALWAYS __m256i even_signs8(__m256i v)
{
	__m256i s = _mm256_and_si256(v, _mm256_set1_epi32(0x7f)), odd;

	s = _mm256_or_si256(s, _mm256_and_si256(_mm256_slli_epi32(v, 1), _mm256_set1_epi32(0x7f00)));
	s = _mm256_or_si256(s, _mm256_and_si256(_mm256_slli_epi32(v, 2), _mm256_set1_epi32(0x7f0000)));
	s = _mm256_or_si256(s, _mm256_and_si256(_mm256_slli_epi32(v, 3), _mm256_set1_epi32(0x7f000000)));
	odd = _mm256_xor_si256(s, _mm256_srli_epi32(s, 4));
	odd = _mm256_xor_si256(odd, _mm256_srli_epi32(odd, 2));
	odd = _mm256_xor_si256(odd, _mm256_srli_epi32(odd, 1));
	odd = _mm256_slli_epi32(_mm256_and_si256(odd, _mm256_set1_epi8(1)), 7);
	return _mm256_or_si256(s, odd);
}

/* Seven signs in the low bits of each of 32 16-bit words -> bytes of eight, in order. */
ALWAYS __m256i even_bytes(__m256i lo, __m256i hi)
{
	__m256i s = _mm256_permute4x64_epi64(_mm256_packus_epi16(lo, hi), 0xd8);
	__m256i odd = _mm256_xor_si256(s, _mm256_and_si256(_mm256_srli_epi16(s, 4), _mm256_set1_epi8(15)));

	odd = _mm256_xor_si256(odd, _mm256_srli_epi16(odd, 2));
	odd = _mm256_xor_si256(odd, _mm256_srli_epi16(odd, 1));
	return _mm256_or_si256(s, _mm256_slli_epi16(_mm256_and_si256(odd, _mm256_set1_epi8(1)), 7));
}

/* Four 16-bit words, those from 4 k on of the eight in v, each four times. */
ALWAYS __m256i four_each(__m128i v, const int k)
{
	const __m256i at = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5,
		6, 7, 6, 7, 6, 7, 6, 7);

	return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(v), _mm256_add_epi8(at,
		_mm256_set1_epi8((char)(8 * k))));
}

/* Sixteen bytes at q, and what is set in `high` besides, as numbers of points. */
ALWAYS void put_at(const uint8_t *q, __m256i high, uint16_t *at)
{
	_mm256_storeu_si256((__m256i *)at,
		_mm256_or_si256(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)q)), high));
}

/* 2 v + 1 of eight integers, as floats. */
ALWAYS void put_odd(__m256i v, float *restrict sc)
{
	v = _mm256_add_epi32(_mm256_add_epi32(v, v), _mm256_set1_epi32(1));
	_mm256_storeu_ps(sc, _mm256_cvtepi32_ps(v));
}

/* The same of the nibbles of n bytes (4 or 8), low ones first. */
ALWAYS void put_odd_nibbles(const uint8_t *restrict p, int n, float *restrict sc)
{
	__m128i v = _mm_cvtepu8_epi16(n == 8 ? _mm_loadl_epi64((const void *)p) : _mm_cvtsi32_si128((int)rd32(p)));

	v = _mm_and_si128(_mm_or_si128(v, _mm_slli_epi16(v, 4)), _mm_set1_epi8(15));
	put_odd(_mm256_cvtepu8_epi32(v), sc);
	if (n == 8)
		put_odd(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)), sc + 8);
}
#else
ALWAYS void put_signed(const uint8_t v[32], uint32_t signs, int off, uint8_t *restrict code)
{
	for (int j = 0; j < 32; j++)
		code[j] = (uint8_t)((signs >> j & 1 ? -v[j] : v[j]) + off);
}

ALWAYS void put_odd_nibbles(const uint8_t *restrict p, int n, float *restrict sc)
{
	for (int j = 0; j < 2 * n; j++)
		sc[j] = (float)(2 * (p[j / 2] >> 4 * (j & 1) & 15) + 1);
}
#endif

/* ---- points ---- */

/* Four points of eight two-bit coordinates (8, 25, 43) with their signs: 32 codes, off 128. */
ALWAYS void iq2_codes(const uint64_t *grid, unsigned a, unsigned b, unsigned c, unsigned d, uint32_t signs,
	uint8_t *restrict code)
{
#ifdef __AVX2__
	put_signed(_mm256_set_epi64x((long long)grid[d], (long long)grid[c], (long long)grid[b],
		(long long)grid[a]), signs, 128, code);
#else
	const uint64_t w[4] = { grid[a], grid[b], grid[c], grid[d] };
	uint8_t v[32];

	memcpy(v, w, sizeof v);
	put_signed(v, signs, 128, code);
#endif
}

/* Eight points of four values with their signs: 32 codes. */
#define IQ3_CODES(grid, at, signs, off, code) \
	iq3_codes((uint32_t[8]){ grid[(at)[0]], grid[(at)[1]], grid[(at)[2]], grid[(at)[3]], grid[(at)[4]], \
		grid[(at)[5]], grid[(at)[6]], grid[(at)[7]] }, signs, off, code)
ALWAYS void iq3_codes(const uint32_t v[8], uint32_t signs, int off, uint8_t *restrict code)
{
#ifdef __AVX2__
	put_signed(_mm256_setr_epi32((int)v[0], (int)v[1], (int)v[2], (int)v[3], (int)v[4], (int)v[5],
		(int)v[6], (int)v[7]), signs, off, code);
#else
	uint8_t bytes[32];

	memcpy(bytes, v, sizeof bytes);
	put_signed(bytes, signs, off, code);
#endif
}

/* Four points with coordinates 0, 1, 2 for -1, 0, 1, shifted by 1/8 up, or down where a byte of `down`
 * is 1: 32 codes of eighths, off 16. */
ALWAYS void iq1_codes(unsigned a, unsigned b, unsigned c, unsigned d, uint32_t down, uint8_t *restrict code)
{
	const uint64_t *g = kern_grid_bytes.iq1;
	const uint32_t first = 0x09090909u - 2 * down;
#ifdef __AVX2__
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303);

	put(_mm256_add_epi8(_mm256_shuffle_epi8(_mm256_set1_epi32((int)first), spread),
		_mm256_set_epi64x((long long)g[d], (long long)g[c], (long long)g[b], (long long)g[a])), code);
#else
	const uint64_t point[4] = { g[a], g[b], g[c], g[d] };

	for (int j = 0; j < 4; j++) {
		uint64_t v = point[j] + (first >> 8 * j & 255) * GRID_ONES;

		memcpy(code + 8 * j, &v, 8);
	}
#endif
}

static void codes_iq2_xxs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 66, sc += 8) {
		uint32_t signs[8];
#ifdef __AVX2__
		__m256 a = _mm256_loadu_ps((const void *)(p + 2)), b = _mm256_loadu_ps((const void *)(p + 34));
		__m256i s = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);

		_mm256_storeu_si256((__m256i *)signs, even_signs8(s));
		put_odd(_mm256_srli_epi32(s, 28), sc);
#else
		for (size_t g = 0; g < 8; g++) {
			uint32_t s = rd32(p + 6 + 8 * g);

			signs[g] = even_signs(s);
			sc[g] = (float)(2 * (s >> 28) + 1);
		}
#endif
		for (size_t g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 8 * g;

			iq2_codes(kern_grid_bytes.iq2_xxs, q[0], q[1], q[2], q[3], signs[g], code + i + 32 * g);
		}
	}
}

static void codes_iq2_xs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 74, sc += 16) {
		uint16_t at[32];
		uint32_t signs[8];
#ifdef __AVX2__
		__m256i a = _mm256_loadu_si256((const void *)(p + 2)), b = _mm256_loadu_si256((const void *)(p + 34));
		const __m256i nine = _mm256_set1_epi16(511);

		_mm256_storeu_si256((__m256i *)signs, even_bytes(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9)));
		_mm256_storeu_si256((__m256i *)at, _mm256_and_si256(a, nine));
		_mm256_storeu_si256((__m256i *)(at + 16), _mm256_and_si256(b, nine));
#else
		for (size_t g = 0; g < 8; g++) {
			uint32_t seven = 0;

			for (size_t j = 0; j < 4; j++) {
				uint16_t v = rd16(p + 2 + 8 * g + 2 * j);

				at[4 * g + j] = v & 511;
				seven |= (uint32_t)(v >> 9) << 7 * j;
			}
			signs[g] = even_signs(seven);
		}
#endif
		put_odd_nibbles(p + 66, 8, sc);
		for (size_t g = 0; g < 8; g++)
			iq2_codes(kern_grid_bytes.iq2_xs, at[4 * g], at[4 * g + 1], at[4 * g + 2], at[4 * g + 3], signs[g],
				code + i + 32 * g);
	}
}

static void codes_iq2_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 82, sc += 16) {
		uint16_t at[32];
#ifdef __AVX2__
		const __m256i up = _mm256_set1_epi64x(256 | 64 << 16 | 16ll << 32 | 4ll << 48);
		__m128i h = _mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)(p + 66)));

#pragma GCC unroll 2
		for (int k = 0; k < 2; k++)
			put_at(p + 2 + 16 * k, _mm256_and_si256(_mm256_mullo_epi16(four_each(h, k), up),
				_mm256_set1_epi16(0x300)), at + 16 * k);
#else
		for (size_t j = 0; j < 32; j++)
			at[j] = (uint16_t)(p[2 + j] | (p[66 + j / 4] >> 2 * (j % 4) & 3) << 8);
#endif
		put_odd_nibbles(p + 74, 8, sc);
		for (size_t g = 0; g < 8; g++)
			iq2_codes(kern_grid_bytes.iq2_s, at[4 * g], at[4 * g + 1], at[4 * g + 2], at[4 * g + 3],
				rd32(p + 34 + 4 * g), code + i + 32 * g);
	}
}

static void codes_iq3_xxs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 98, sc += 8) {
		uint32_t signs[8];
#ifdef __AVX2__
		__m256i s = _mm256_loadu_si256((const void *)(p + 66));

		_mm256_storeu_si256((__m256i *)signs, even_signs8(s));
		put_odd(_mm256_srli_epi32(s, 28), sc);
#else
		for (size_t g = 0; g < 8; g++) {
			uint32_t s = rd32(p + 66 + 4 * g);

			signs[g] = even_signs(s);
			sc[g] = (float)(2 * (s >> 28) + 1);
		}
#endif
		for (size_t g = 0; g < 8; g++)
			IQ3_CODES(kern_grid_bytes.iq3_xxs, p + 2 + 8 * g, signs[g], 128, code + i + 32 * g);
	}
}

static void codes_iq3_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 110, sc += 8) {
		uint16_t at[64];
#ifdef __AVX2__
		const __m256i bit = _mm256_broadcastsi128_si256(_mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128));

#pragma GCC unroll 4
		for (int k = 0; k < 4; k++) {
			__m256i h = _mm256_set_m128i(_mm_set1_epi16(p[67 + 2 * k]), _mm_set1_epi16(p[66 + 2 * k]));

			h = _mm256_cmpeq_epi16(_mm256_and_si256(h, bit), bit);
			put_at(p + 2 + 16 * k, _mm256_and_si256(h, _mm256_set1_epi16(256)), at + 16 * k);
		}
#else
		for (size_t j = 0; j < 64; j++)
			at[j] = (uint16_t)(p[2 + j] | (p[66 + j / 8] >> j % 8 & 1) << 8);
#endif
		put_odd_nibbles(p + 106, 4, sc);
		for (size_t g = 0; g < 8; g++)
			IQ3_CODES(kern_grid_bytes.iq3_s, at + 8 * g, rd32(p + 74 + 4 * g), 16, code + i + 32 * g);
	}
}

static void codes_iq1_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 50, sc += 8) {
		const uint8_t *qh = p + 34; /* of eight words: four times three high bits, a scale, a shift */
		uint16_t at[32];
#ifdef __AVX2__
		const __m256i up = _mm256_set1_epi64x(512 | 64 << 16 | 8ll << 32 | 1ll << 48);
		__m128i h = _mm_loadu_si128((const void *)qh);

#pragma GCC unroll 2
		for (int k = 0; k < 2; k++)
			put_at(p + 2 + 16 * k, _mm256_and_si256(_mm256_srli_epi16(_mm256_mullo_epi16(four_each(h, k), up),
				1), _mm256_set1_epi16(0x700)), at + 16 * k);
		put_odd(_mm256_and_si256(_mm256_cvtepu16_epi32(_mm_srli_epi16(h, 12)), _mm256_set1_epi32(7)), sc);
#else
		for (size_t j = 0; j < 32; j++)
			at[j] = (uint16_t)(p[2 + j] | (rd16(qh + j / 4 * 2) >> 3 * (j % 4) & 7) << 8);
		for (size_t g = 0; g < 8; g++)
			sc[g] = (float)(2 * (rd16(qh + 2 * g) >> 12 & 7) + 1);
#endif
		for (size_t g = 0; g < 8; g++)
			iq1_codes(at[4 * g], at[4 * g + 1], at[4 * g + 2], at[4 * g + 3],
				qh[2 * g + 1] >> 7 ? 0x01010101 : 0, code + i + 32 * g);
	}
}

static void codes_iq1_m(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 56, sc += 16) {
		const uint8_t *qh = p + 32, *s = p + 48; /* nibbles: three high bits, a shift; words: four scales */
		uint16_t at[32];
		uint32_t down[8];
#ifdef __AVX2__
		const __m256i up = _mm256_set1_epi64x(512 | 64 << 16 | 8ll << 32 | 1ll << 48);
		__m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)qh)), v;

		h = _mm256_and_si256(_mm256_or_si256(h, _mm256_slli_epi16(h, 4)), _mm256_set1_epi8(15));
		_mm256_storeu_si256((__m256i *)down, _mm256_and_si256(_mm256_srli_epi16(h, 3), _mm256_set1_epi8(1)));
		h = _mm256_and_si256(h, _mm256_set1_epi8(7));
		put_at(p, _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(h)), 8), at);
		put_at(p + 16, _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(h, 1)), 8), at + 16);
		v = _mm256_mullo_epi16(four_each(_mm_loadl_epi64((const void *)s), 0), up);
		v = _mm256_and_si256(_mm256_srli_epi16(v, 9), _mm256_set1_epi16(7));
		put_odd(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)), sc);
		put_odd(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)), sc + 8);
#else
		for (size_t j = 0; j < 32; j++) {
			unsigned nibble = qh[j / 2] >> 4 * (j & 1) & 15;

			at[j] = (uint16_t)(p[j] | (nibble & 7) << 8);
			down[j / 4] = (j % 4 ? down[j / 4] : 0) | (nibble >> 3) << 8 * (j % 4);
		}
		for (size_t j = 0; j < 16; j++)
			sc[j] = (float)(2 * (rd16(s + j / 4 * 2) >> 3 * (j % 4) & 7) + 1);
#endif
		for (size_t g = 0; g < 8; g++)
			iq1_codes(at[4 * g], at[4 * g + 1], at[4 * g + 2], at[4 * g + 3], down[g], code + i + 32 * g);
	}
}

/* ---- ternary and binary: codes are doubled, so that their middle is a power of two ---- */

static void codes_tq1_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	static const uint8_t pow3[5] = { 1, 3, 9, 27, 81 };

	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 54) {
		uint8_t *c = code + i;

		for (size_t b = 0; b < 8; b++)
			*sc++ = 1;
		for (size_t t = 0; t < 5; t++) { /* digits of bytes as fractions of 256: see trit of lowbit.h */
			for (size_t l = 0; l < 32; l++)
				c[32 * t + l] = (uint8_t)((uint8_t)(p[l] * pow3[t]) * 3 >> 8) << 1;
			for (size_t l = 0; l < 16; l++)
				c[160 + 16 * t + l] = (uint8_t)((uint8_t)(p[32 + l] * pow3[t]) * 3 >> 8) << 1;
		}
		for (size_t l = 0; l < 16; l++)
			c[240 + l] = (uint8_t)((uint8_t)(p[48 + l % 4] * pow3[l / 4]) * 3 >> 8) << 1;
	}
}

static void codes_tq2_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 66) {
		for (size_t b = 0; b < 8; b++)
			*sc++ = 1;
		for (size_t b = 0; b < 2; b++)
			for (size_t l = 0; l < 32; l++) {
				uint8_t q = p[32 * b + l], *c = code + i + 128 * b + l;

				c[0] = (uint8_t)(q << 1) & 6;
				c[32] = q >> 1 & 6;
				c[64] = q >> 3 & 6;
				c[96] = q >> 5 & 6;
			}
	}
}

static void codes_q1_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32) {
		const uint8_t *b = p + i / 128 * 18, *q = b + 2 + i % 128 / 8;

		*sc++ = 0.5f * half(rd16(b));
#ifdef __AVX2__
		_mm256_storeu_si256((__m256i *)(code + i), _mm256_and_si256(bit_mask(rd32(q)), _mm256_set1_epi8(4)));
#else
		for (size_t j = 0; j < 32; j++)
			code[i + j] = (uint8_t)((q[j / 8] >> j % 8 & 1) << 2);
#endif
	}
}

static void codes_q2_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 64, p += 18)
		for (size_t h = 0; h < 2; h++) {
			const uint8_t *q = p + 2 + 8 * h;
			uint8_t *c = code + i + 32 * h;

			*sc++ = 0.5f * half(rd16(p));
#ifdef __AVX2__
			uint64_t v;

			memcpy(&v, q, 8);
			_mm256_storeu_si256((__m256i *)c, two_bits(v, _mm256_setzero_si256(), 2, 4));
#else
			for (size_t j = 0; j < 32; j++)
				c[j] = (uint8_t)((q[j / 4] >> 2 * (j % 4) & 3) << 1);
#endif
		}
}

#ifdef __AVX2__
/* Halves of eight E4M3 numbers: half floats of the same exponent and mantissa, times 2^7. */
ALWAYS __m256 e4m3_halves(__m128i bytes)
{
	__m128i e = _mm_cvtepu8_epi16(bytes), h;

	h = _mm_and_si128(_mm_slli_epi16(e, 7), _mm_set1_epi16(0x3f80));
	h = _mm_andnot_si128(_mm_cmpeq_epi16(e, _mm_set1_epi16(0x7f)), h);
	return _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(128));
}
#endif

static void codes_nvfp4(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 64, p += 36, sc += 4) {
#ifdef __AVX2__
		const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)mxfp4_codes));
		__m128i e = _mm_cvtsi32_si128((int)rd32(p));
		__m256i v = _mm256_loadu_si256((const __m256i *)(p + 4)), lo, hi;

		_mm_storeu_ps(sc, _mm256_castps256_ps128(e4m3_halves(e)));
		lo = _mm256_shuffle_epi8(t, _mm256_and_si256(v, _mm256_set1_epi8(15)));
		hi = _mm256_shuffle_epi8(t, _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)));
		v = _mm256_unpacklo_epi64(lo, hi); /* groups 0 and 2, then 1 and 3 */
		hi = _mm256_unpackhi_epi64(lo, hi);
		_mm256_storeu_si256((__m256i *)(code + i), _mm256_permute2x128_si256(v, hi, 0x20));
		_mm256_storeu_si256((__m256i *)(code + i + 32), _mm256_permute2x128_si256(v, hi, 0x31));
#else
		for (size_t j = 0; j < 64; j++) {
			uint8_t q = p[4 + j / 16 * 8 + j % 8];

			code[i + j] = mxfp4_codes[j % 16 < 8 ? q & 15 : q >> 4];
			sc[j / 16] = ue4m3_half(p[j / 16]);
		}
#endif
	}
}
