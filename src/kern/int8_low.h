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

ALWAYS void put_signed(__m256i v, uint32_t signs, int off, uint8_t *restrict code)
{
	__m256i minus = bit_mask(signs);

	v = _mm256_sub_epi8(_mm256_xor_si256(v, minus), minus);
	_mm256_storeu_si256((__m256i *)code, _mm256_add_epi8(v, _mm256_set1_epi8((char)off)));
}
#else
ALWAYS void put_signed(const uint8_t v[32], uint32_t signs, int off, uint8_t *restrict code)
{
	for (int j = 0; j < 32; j++)
		code[j] = (uint8_t)((signs >> j & 1 ? -v[j] : v[j]) + off);
}
#endif

/* ---- points ---- */

/* Four points of eight two-bit coordinates (8, 25, 43) with their signs: 32 codes, off 128. */
ALWAYS void iq2_codes(const uint16_t *grid, unsigned a, unsigned b, unsigned c, unsigned d, uint32_t signs,
	uint8_t *restrict code)
{
#ifdef __AVX2__
	uint64_t v = grid[a] | (uint64_t)grid[b] << 16 | (uint64_t)grid[c] << 32 | (uint64_t)grid[d] << 48;

	put_signed(two_bits(v, _mm256_set1_epi8(8), 17, 35), signs, 128, code);
#else
	const uint64_t w[4] = { grid_iq2(grid[a]), grid_iq2(grid[b]), grid_iq2(grid[c]), grid_iq2(grid[d]) };
	uint8_t v[32];

	memcpy(v, w, sizeof v);
	put_signed(v, signs, 128, code);
#endif
}

/* Eight points of four nibbles, each a number in the table, with their signs: 32 codes. Bit j of
 * `high` is the ninth of the point's number q[j]. */
ALWAYS void iq3_codes(const uint16_t *grid, const uint8_t *q, unsigned high, const uint8_t table[16],
	uint32_t signs, int off, uint8_t *restrict code)
{
#ifdef __AVX2__
	uint64_t point[2] = { 0, 0 }; /* put together in registers: small stores would hold up a wide load */
	__m128i v, lo, hi, t = _mm_loadu_si128((const __m128i *)table);

#pragma GCC unroll 8
	for (int j = 0; j < 8; j++)
		point[j / 4] |= (uint64_t)grid[q[j] | (high << (8 - j) & 256)] << 16 * (j % 4);
	v = _mm_set_epi64x((long long)point[1], (long long)point[0]);
	lo = _mm_shuffle_epi8(t, _mm_and_si128(v, _mm_set1_epi8(15)));
	hi = _mm_shuffle_epi8(t, _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15)));

	put_signed(_mm256_set_m128i(_mm_unpackhi_epi8(lo, hi), _mm_unpacklo_epi8(lo, hi)), signs, off, code);
#else
	uint8_t v[32];

	for (int j = 0; j < 32; j++)
		v[j] = table[grid[q[j / 4] | (high >> j / 4 & 1) << 8] >> 4 * (j % 4) & 15];
	put_signed(v, signs, off, code);
#endif
}

/* Four points with coordinates 0, 1, 2 for -1, 0, 1, shifted by 1/8 up, or down where a byte of `down`
 * is 1: 32 codes of eighths, off 16. */
ALWAYS void iq1_codes(unsigned a, unsigned b, unsigned c, unsigned d, uint32_t down, uint8_t *restrict code)
{
	const uint16_t *g = kern_grid_iq1;
#ifdef __AVX2__
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303);
	uint64_t v = g[a] | (uint64_t)g[b] << 16 | (uint64_t)g[c] << 32 | (uint64_t)g[d] << 48;
	__m256i first = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(0x09090909u - 2 * down)), spread);

	_mm256_storeu_si256((__m256i *)code, two_bits(v, first, 8, 16));
#else
	const uint16_t point[4] = { g[a], g[b], g[c], g[d] };

	for (int j = 0; j < 32; j++)
		code[j] = (uint8_t)(9 - 2 * (down >> j / 8 * 8 & 1) + 8 * (point[j / 8] >> 2 * (j % 8) & 3));
#endif
}

static void codes_iq2_xxs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 66) {
		for (size_t g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 8 * g;
			uint32_t s = rd32(q + 4);

			*sc++ = (float)(2 * (s >> 28) + 1);
			iq2_codes(kern_grid_iq2_xxs, q[0], q[1], q[2], q[3], even_signs(s), code + i + 32 * g);
		}
	}
}

static void codes_iq2_xs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 74) {
		for (size_t g = 0; g < 8; g++) {
			uint32_t a = rd32(p + 2 + 8 * g), b = rd32(p + 6 + 8 * g), s = p[66 + g];
			uint32_t signs = (a >> 9 & 0x7f) | (a >> 25) << 7 | (b >> 9 & 0x7f) << 14 | (b >> 25) << 21;

			*sc++ = (float)(2 * (s & 15) + 1);
			*sc++ = (float)(2 * (s >> 4) + 1);
			iq2_codes(kern_grid_iq2_xs, a & 511, a >> 16 & 511, b & 511, b >> 16 & 511, even_signs(signs),
				code + i + 32 * g);
		}
	}
}

static void codes_iq2_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 82) {
		for (size_t g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 4 * g;
			unsigned h = p[66 + g], s = p[74 + g];

			*sc++ = (float)(2 * (s & 15) + 1);
			*sc++ = (float)(2 * (s >> 4) + 1);
			iq2_codes(kern_grid_iq2_s, q[0] | (h & 3) << 8, q[1] | (h & 12) << 6, q[2] | (h & 48) << 4,
				q[3] | (h & 192) << 2, rd32(p + 34 + 4 * g), code + i + 32 * g);
		}
	}
}

static void codes_iq3_xxs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	static const uint8_t table[16] = { 4, 12, 20, 28, 36, 44, 52, 62 };

	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 98) {
		for (size_t g = 0; g < 8; g++) {
			uint32_t s = rd32(p + 66 + 4 * g);

			*sc++ = (float)(2 * (s >> 28) + 1);
			iq3_codes(kern_grid_iq3_xxs, p + 2 + 8 * g, 0, table, even_signs(s), 128, code + i + 32 * g);
		}
	}
}

static void codes_iq3_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	static const uint8_t table[16] = { 1, 3, 5, 7, 9, 11, 13, 15 };

	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 110) {
		for (size_t g = 0; g < 8; g++) {
			*sc++ = (float)(1 + 2 * (p[106 + g / 2] >> 4 * (g & 1) & 15));
			iq3_codes(kern_grid_iq3_s, p + 2 + 8 * g, p[66 + g], table, rd32(p + 74 + 4 * g), 16,
				code + i + 32 * g);
		}
	}
}

static void codes_iq1_s(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 50) {
		for (size_t g = 0; g < 8; g++) {
			const uint8_t *q = p + 2 + 4 * g;
			unsigned h = rd16(p + 34 + 2 * g);

			*sc++ = (float)(2 * (h >> 12 & 7) + 1);
			iq1_codes(q[0] | (h & 7) << 8, q[1] | (h >> 3 & 7) << 8, q[2] | (h >> 6 & 7) << 8,
				q[3] | (h >> 9 & 7) << 8, h >> 15 ? 0x01010101 : 0, code + i + 32 * g);
		}
	}
}

static void codes_iq1_m(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 56) {
		const uint8_t *s = p + 48;

		for (size_t g = 0; g < 8; g++) {
			const uint8_t *q = p + 4 * g;
			unsigned h = rd16(p + 32 + 2 * g), three = (unsigned)rd16(s + 2 * (g / 2)) >> 6 * (g & 1);

			*sc++ = (float)(2 * (three & 7) + 1);
			*sc++ = (float)(2 * (three >> 3 & 7) + 1);
			iq1_codes(q[0] | (h & 7) << 8, q[1] | (h & 0x70) << 4, q[2] | (h & 0x700), q[3] | (h & 0x7000) >> 4,
				(h >> 3 & 1) | (h & 0x80) << 1 | (h & 0x800) << 5 | (h & 0x8000) << 9, code + i + 32 * g);
		}
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

static void codes_nvfp4(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	static const uint8_t table[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 };

	(void)mn;
	for (size_t i = 0; i < n; i += 64, p += 36, sc += 4) {
#ifdef __AVX2__
		/* Half of an E4M3 number, as a half float with its exponent and mantissa, times 2^7 */
		const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
		__m128i e = _mm_cvtepu8_epi16(_mm_cvtsi32_si128((int)rd32(p)));
		__m128i h = _mm_and_si128(_mm_slli_epi16(e, 7), _mm_set1_epi16(0x3f80));
		__m256i v = _mm256_loadu_si256((const __m256i *)(p + 4)), lo, hi;

		h = _mm_andnot_si128(_mm_cmpeq_epi16(e, _mm_set1_epi16(0x7f)), h);
		_mm_storeu_ps(sc, _mm_mul_ps(_mm_cvtph_ps(h), _mm_set1_ps(128)));
		lo = _mm256_shuffle_epi8(t, _mm256_and_si256(v, _mm256_set1_epi8(15)));
		hi = _mm256_shuffle_epi8(t, _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)));
		v = _mm256_unpacklo_epi64(lo, hi); /* groups 0 and 2, then 1 and 3 */
		hi = _mm256_unpackhi_epi64(lo, hi);
		_mm256_storeu_si256((__m256i *)(code + i), _mm256_permute2x128_si256(v, hi, 0x20));
		_mm256_storeu_si256((__m256i *)(code + i + 32), _mm256_permute2x128_si256(v, hi, 0x31));
#else
		for (size_t j = 0; j < 64; j++) {
			uint8_t q = p[4 + j / 16 * 8 + j % 8];

			code[i + j] = table[j % 16 < 8 ? q & 15 : q >> 4];
			sc[j / 16] = ue4m3_half(p[j / 16]);
		}
#endif
	}
}
