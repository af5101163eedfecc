/*
 * int8_vbmi.c - rows of the IQ types against one token or a few, with AVX-512 VBMI and GFNI.
 *
 * The number of a point is an index of bytes: the point's codes, packed, are two bytes, each of
 * which comes for 64 points at once out of tables that lie in as many vectors as there are 64
 * points. 64 points are 256 elements, where a point has four, or those of two rows, where it has
 * eight. One affine operation on bits takes a code out of each byte and makes a magnitude of it; so
 * products come in four vectors, each of another coordinate of all points (of points of eight: of
 * two), and activations are arranged likewise. Signs go to the activations, under masks.
 *
 * Of IQ1, with 2048 points, tables would take longer to permute than memory to gather from.
 *
 * In all of these vectors, 32-bit lane j belongs to elements 16 j to 16 j + 15.
 */
#if defined(__x86_64__)
#include "kern/int8_avx512.h"

#include "kern/grid.h"
#include "kern/int8_avx512_lanes.h"
#include "kern/int8_vbmi.h"

/* Types whose points have four coordinates; others have eight. */
#define FOUR(type) ((type) == QT_IQ3_XXS || (type) == QT_IQ3_S)

/* Types whose points are gathered: their shift, not signs, is with them. */
#define GATHERED(type) ((type) == QT_IQ1_S || (type) == QT_IQ1_M)

static inline __m512i load512(const void *p) { return _mm512_loadu_si512(p); }
static inline __m512i load256(const void *p)
{
	return _mm512_castsi256_si512(_mm256_loadu_si256(p));
}
static inline __m512i load128(const void *p)
{
	return _mm512_castsi128_si512(_mm_loadu_si128(p));
}

/* 32 bytes. */
static inline __m512i bytes_as_words(const void *p)
{
	return _mm512_cvtepu8_epi16(_mm256_loadu_si256(p));
}

ALWAYS __m512i all16(int v) { return _mm512_set1_epi16((short)v); }
ALWAYS __m512i all32(uint32_t v) { return _mm512_set1_epi32((int)v); }
ALWAYS __m512i all64(uint64_t v) { return _mm512_set1_epi64((long long)v); }

/* 256 elements of a row: packed points, the first two codes of each four and the others, or all
 * four; bytes of signs, that of each of them, or shifts, which are 2 or 0; scales. */
struct row { __m512i at[2], sign, sc; };

/* ---- points ---- */

/* For which numbers v, whose bits 8 are apart, each 64 of a table of n times 64 bytes are: m[k] is
 * set for those of the k-th, and may be for some of later ones. */
ALWAYS void masks_of(__m512i v, const size_t n, __mmask64 bit8, __mmask64 m[8])
{
	m[1] = _mm512_test_epi8_mask(v, all16(0x4040));
	m[2] = _mm512_movepi8_mask(v);
	m[3] = m[1] & m[2];
	m[4] = bit8;
	for (size_t k = 5; k < n; k++)
		m[k] = m[4] & m[k - 4];
}

ALWAYS __m512i bytes_at(const uint8_t *table, const size_t n, __m512i v, const __mmask64 m[8])
{
	__m512i w = _mm512_permutexvar_epi8(v, load512(table));

#pragma GCC unroll 8
	for (size_t k = 1; k < n; k++)
		w = _mm512_mask_permutexvar_epi8(w, m[k], v, load512(table + 64 * k));
	return w;
}

/* Lower and upper bytes of some of n points. Of their numbers, bits 8 and 9 are apart. */
ALWAYS void points_at(const uint8_t *lower, const uint8_t *upper, const size_t n, __m512i v,
	__mmask64 bit8, __mmask64 bit9, __m512i out[2])
{
	const size_t most = n < 512 ? n / 64 : 8;
	__mmask64 m[8];

	masks_of(v, most, bit8, m);
	out[0] = bytes_at(lower, most, v, m);
	out[1] = bytes_at(upper, most, v, m);
	if (n == 1024) {
		out[0] = _mm512_mask_mov_epi8(out[0], bit9, bytes_at(lower + 512, most, v, m));
		out[1] = _mm512_mask_mov_epi8(out[1], bit9, bytes_at(upper + 512, most, v, m));
	}
}

/* ---- signs and scales ---- */

/* Bytes whose bits from `from` (0 or 1) on are seven signs: with the eighth, which makes the number
 * of those set even. */
ALWAYS __m512i with_eighth(__m512i v, unsigned from)
{
	return _mm512_gf2p8affine_epi64_epi8(v, all64(0x010204081020407fu << from), 0);
}

/* 64-bit lanes with four times seven signs from bit `from` on -> each where its points are. */
ALWAYS __m512i sevens(uint32_t type, __m512i v, unsigned from)
{
	const uint64_t at = FOUR(type) ? 0x15150e0e07070000 : 0x150e150e07000700;

	return with_eighth(_mm512_multishift_epi64_epi8(all64(at + from * GRID_ONES), v), 0);
}

/* Scales k, which lie from bit 1 of the lanes on, up to the top bit of the mask -> 2 k + 1. */
ALWAYS __m512i odd_scales(__m512i v, uint32_t mask)
{
	return and_or(v, all32(mask), all32(1));
}

/* Of sixteen nibbles, one a lane. */
ALWAYS __m512i nibble_scales(const uint8_t *p)
{
	const __m512i at = _mm512_setr_epi32(63, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55,
		59);

	return odd_scales(_mm512_multishift_epi64_epi8(at, all64(rd64(p))), 30);
}

/* ---- rows ---- */

/* Of a row whose 64 numbers are 256 elements. */
ALWAYS void read_one(uint32_t type, const uint8_t *p, struct row *o)
{
	const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	const __m512i nibble = _mm512_setr_epi32(63, 63, 3, 3, 7, 7, 11, 11, 15, 15, 19, 19, 23, 23, 27,
		27);
	const struct grid_halves *g = &kern_grid_halves;
	__m512i v = load512(p + 2), s;

	if (type == QT_IQ3_XXS) {
		points_at(g->iq3_xxs[0], g->iq3_xxs[1], 256, v, 0, 0, o->at);
		s = _mm512_permutexvar_epi32(twice, load256(p + 66));
		o->sign = sevens(type, s, 0);
		o->sc = odd_scales(_mm512_srli_epi32(s, 27), 30);
		return;
	}
	points_at(g->iq3_s[0], g->iq3_s[1], 512, v, rd64(p + 66), 0, o->at);
	s = bytes_as_words(p + 74);
	o->sign = _mm512_or_si512(s, _mm512_slli_epi16(s, 8));
	o->sc = odd_scales(_mm512_multishift_epi64_epi8(nibble, all32(rd32(p + 106))), 30);
}

/* Of a row of IQ1: numbers of eleven bits, of which three and a shift lie apart, in a word for four
 * points. */
ALWAYS void read_gathered(uint32_t type, const uint8_t *p, struct row *o)
{
	const __m512i up = all64(type == QT_IQ1_S ? 0x0900060003000000 : 0x0c00080004000000);
	const __m512i third = _mm512_setr_epi32(63, 2, 5, 8, 15, 18, 21, 24, 31, 34, 37, 40, 47, 50, 53,
		56);
	const uint32_t *g = kern_grid_halves.iq1;
	const __m512i words = _mm512_setr_epi64(W(0), W(1), W(2), W(3), W(4), W(5), W(6), W(7));
	__m512i v = bytes_as_words(p + (type == QT_IQ1_S ? 2 : 0)), odd;
	__m512i h = _mm512_permutexvar_epi16(words, load128(p + (type == QT_IQ1_S ? 34 : 32)));

	v = and_or(_mm512_multishift_epi64_epi8(up, h), all16(0x0700), v);
	odd = _mm512_i32gather_epi32(_mm512_srli_epi32(v, 16), g, 4);
	v = _mm512_i32gather_epi32(_mm512_and_si512(v, all32(0xffff)), g, 4);
	o->at[0] = _mm512_or_si512(v, _mm512_slli_epi32(odd, 8));
	if (type == QT_IQ1_S) {
		o->sign = _mm512_andnot_si512(_mm512_srai_epi16(h, 15), all16(0x0202));
		o->sc = odd_scales(_mm512_srli_epi32(h, 27), 14);
		return;
	}
	h = _mm512_multishift_epi64_epi8(all64(0x0c080c0804000400), h); /* bit 3: minus */
	o->sign = _mm512_gf2p8affine_epi64_epi8(h, all64(0x0008000000000000), 2);
	o->sc = odd_scales(_mm512_multishift_epi64_epi8(third, all64(rd64(p + 48))), 14);
}

/* 32 bytes at p and q: eight of those, eight of these, and so on. */
ALWAYS __m512i eights(const uint8_t *p, const uint8_t *q)
{
	return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7),
		_mm512_inserti64x4(load256(p), _mm256_loadu_si256((const void *)q), 1));
}

/* Of two rows, whose numbers are put together: eight of the one, eight of the other. */
ALWAYS void read_two(uint32_t type, const uint8_t *p, const uint8_t *q, struct row o[2])
{
	const struct grid_halves *g = &kern_grid_halves;
	__m512i a = load512(p + 2), b = load512(q + 2), v, h, s = a, at[2];

	switch (type) {
	case QT_IQ2_XXS: /* four numbers, four times seven signs and a scale, eight times */
		v = _mm512_castps_si512(_mm512_shuffle_ps(PS(a), PS(b), 0x88));
		points_at(g->iq2_xxs[0], g->iq2_xxs[1], 256, v, 0, 0, at);
		o[0].sign = sevens(type, a, 32);
		o[1].sign = sevens(type, b, 32);
		o[0].sc = odd_scales(_mm512_srli_epi32(_mm512_shuffle_epi32(a, _MM_PERM_DDBB), 27), 30);
		o[1].sc = odd_scales(_mm512_srli_epi32(_mm512_shuffle_epi32(b, _MM_PERM_DDBB), 27), 30);
		break;
	case QT_IQ2_XS: /* words of nine bits and seven signs */
		v = _mm512_packus_epi16(_mm512_and_si512(a, all16(255)), _mm512_and_si512(b, all16(255)));
		h = _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8));
		points_at(g->iq2_xs[0], g->iq2_xs[1], 512, v, _mm512_test_epi8_mask(h, all16(0x0101)), 0,
			at);
		s = with_eighth(h, 1);
		break;
	default: /* IQ2_S: two more bits of four numbers in a byte */
		v = eights(p + 2, q + 2);
		s = eights(p + 34, q + 34);
		h = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_set_epi64x((long long)rd64(q + 66),
			(long long)rd64(p + 66))), _mm512_setr_epi64(0x0101010100000000, 0x0909090908080808,
			0x0303030302020202, 0x0b0b0b0b0a0a0a0a, 0x0505050504040404, 0x0d0d0d0d0c0c0c0c,
			0x0707070706060606, 0x0f0f0f0f0e0e0e0e));
		points_at(g->iq2_s[0], g->iq2_s[1], 1024, v, _mm512_test_epi8_mask(h, all32(0x40100401)),
			_mm512_test_epi8_mask(h, all32(0x80200802)), at);
	}
	o[0].at[0] = _mm512_unpacklo_epi16(at[0], at[1]);
	o[1].at[0] = _mm512_unpackhi_epi16(at[0], at[1]);
	if (type == QT_IQ2_XXS)
		return;
	o[0].sign = _mm512_unpacklo_epi16(s, s);
	o[1].sign = _mm512_unpackhi_epi16(s, s);
	o[0].sc = nibble_scales(p + (type == QT_IQ2_XS ? 66 : 74));
	o[1].sc = nibble_scales(q + (type == QT_IQ2_XS ? 66 : 74));
}

/* ---- sums ---- */

/* Magnitudes of coordinate t of points: of those of eight, and of coordinate t + 4. */
ALWAYS __m512i magnitudes(uint32_t type, const struct row *o, unsigned t)
{
	const __m512i v = o->at[FOUR(type) ? t / 2 : 0];

	switch (type) {
	case QT_IQ3_XXS: /* 4 + 8 c, and 2 if bit 3 is set */
		return _mm512_gf2p8affine_epi64_epi8(v, all64(0x0008000102040000u << 4 * (t % 2)), 4);
	case QT_IQ3_S: /* 1 + 2 c */
		return _mm512_gf2p8affine_epi64_epi8(v, all64(0x0001020400000000u << 4 * (t % 2)), 1);
	case QT_IQ1_S: case QT_IQ1_M: /* 8 c and the shift */
		return _mm512_xor_si512(o->sign,
			_mm512_gf2p8affine_epi64_epi8(v, all64(0x0000000102000000u << 2 * t), 0));
	default: /* 8, 25 or 43 */
		return _mm512_gf2p8affine_epi64_epi8(v, all64(0x0302000001020000u << 2 * t), 8);
	}
}

/* Where sums of 16 products start: points of IQ1 are read as 9 more than they are. */
ALWAYS __m512i first_of(uint32_t type, const int16_t *xsum)
{
	if (!GATHERED(type))
		return _mm512_setzero_si512();
	return _mm512_mullo_epi32(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(load256(xsum))),
		all32((uint32_t)-9));
}

/* Lanes of S of a row. */
ALWAYS __m512i row_sums(uint32_t type, const struct row *o, const int8_t *x, __m512i s)
{
	const __m512i zero = _mm512_setzero_si512();

#pragma GCC unroll 4
	for (unsigned t = 0; t < 4; t++) {
		__m512i v = load512(x + 64 * t);

		if (!GATHERED(type))
			v = _mm512_mask_sub_epi8(v, _mm512_test_epi8_mask(o->sign,
				FOUR(type) ? all16(0x1001 << t) : all32(0x10100101u << t)), zero, v);
		s = _mm512_dpbusd_epi32(s, magnitudes(type, o, t), v);
	}
	return _mm512_mullo_epi32(s, o->sc);
}

/* d as it lies. */
ALWAYS uint32_t d_of(uint32_t type, const uint8_t *p)
{
	return type == QT_IQ1_M ? spread_half(p) : rd16(p);
}

/* 256 elements of sixteen rows, from element i on. */
ALWAYS void rows_256(uint32_t type, const size_t bytes, const uint8_t *p, size_t row_bytes,
	size_t i, const struct gv_in *in, size_t n_tok, struct asks *asks, VI acc[GV_TOK])
{
	__m512i s[GV_TOK][4], b[GV_TOK][4], first[GV_TOK], d;
	uint32_t halves[16];

	for (size_t t = 0; t < n_tok; t++)
		first[t] = first_of(type, in->sum + (t * in->np + i) / 16);
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
#pragma GCC unroll 2
		for (size_t l = 0; l < 4; l += 2) {
			const uint8_t *at = p + (4 * j + l) * row_bytes;
			struct row o[2];

			if (FOUR(type)) {
				read_one(type, at, &o[0]);
				read_one(type, at + row_bytes, &o[1]);
			} else if (GATHERED(type)) {
				read_gathered(type, at, &o[0]);
				read_gathered(type, at + row_bytes, &o[1]);
			} else {
				read_two(type, at, at + row_bytes, o);
			}
			for (size_t t = 0; t < n_tok; t++) {
				const int8_t *x = in->x + t * in->xp + i;

				s[t][l] = row_sums(type, &o[0], x, first[t]);
				if (t == 0)
					ask_nth(asks, bytes / 4, 4 * j + l, 16, &s[0][l]);
				s[t][l + 1] = row_sums(type, &o[1], x, first[t]);
				if (t == 0)
					ask_nth(asks, bytes / 4, 4 * j + l + 1, 16, &s[0][l + 1]);
			}
			halves[4 * j + l] = d_of(type, at);
			halves[4 * j + l + 1] = d_of(type, at + row_bytes);
		}
		for (size_t t = 0; t < n_tok; t++)
			b[t][j] = sums_of_four(s[t]);
	}
	d = vf_halves(vi_load(halves), 0, codes[type].d_unit);
	for (size_t t = 0; t < n_tok; t++)
		acc[t] = vf_exact(acc[t], lanes_of_four(b[t]), d, in->d[(t * in->np + i) / 256]);
}

/* All of sixteen rows. */
ALWAYS void rows_all(uint32_t type, const size_t bytes, const uint8_t *p, size_t row_bytes,
	size_t len, const struct gv_in *in, size_t n_tok, int twice, struct asks *asks, VI acc[GV_TOK])
{
	const ptrdiff_t next_rows = (ptrdiff_t)(16 * row_bytes + 2 * bytes - len / 256 * bytes);
	struct asks now = asks_now(*asks);

	for (size_t i = 0; i < len; i += 256, p += bytes) {
		if (twice)
			ask_again(p, row_bytes, i + 512 < len ? 2 * (ptrdiff_t)bytes : next_rows, bytes);
		rows_256(type, bytes, p, row_bytes, i, in, n_tok, &now, acc);
	}
	*asks = now;
}

void int8_vbmi_rows(uint32_t type, const uint8_t *p, size_t row_bytes, size_t len,
	const struct gv_in *in, size_t n_tok, int twice, struct asks *asks, __m512i acc[GV_TOK])
{
#define CASE(type, bytes) \
	case type: \
		if (n_tok == 1) /* the commonest: codes need not be kept */ \
			rows_all(type, bytes, p, row_bytes, len, in, 1, twice, asks, acc); \
		else \
			rows_all(type, bytes, p, row_bytes, len, in, n_tok, twice, asks, acc); \
		break;
	switch (type) {
	CASE(QT_IQ2_XXS, 66)
	CASE(QT_IQ2_XS, 74)
	CASE(QT_IQ2_S, 82)
	CASE(QT_IQ3_XXS, 98)
	CASE(QT_IQ3_S, 110)
	CASE(QT_IQ1_S, 50)
	CASE(QT_IQ1_M, 56)
	default: break;
	}
}

int int8_vbmi_supported(void)
{
	return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni");
}

int int8_vbmi_gathers(void)
{
	return int8_vbmi_supported() && __builtin_cpu_is("intel") &&
		__builtin_cpu_supports("avx512fp16");
}
#else
typedef int int8_vbmi_unused; /* ISO C wants a translation unit to declare something */
#endif
