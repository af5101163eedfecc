/*
 * int8_points.h - the IQ types as x86 kernels read them in place: numbers of points, signs and
 * scales of 256 elements. What they are multiplied with, and how, is the including file's.
 */

/* Keeps the compiler from loading it once for each use. */
#ifdef __AVX512F__
#define LOADED(v) __asm__("" : "+v"(v))
#else
#define LOADED(v) __asm__("" : "+x"(v))
#endif

static inline void store256(void *p, __m256i v) { _mm256_storeu_si256(p, v); }

/* Types whose points are magnitudes, with signs. */
#define SIGNED(kind) ((kind) >= IQ2_XXS && (kind) <= IQ3_S)
#define POINTS(kind) ((kind) >= IQ2_XXS)

/* See int8_few.h. Looking up points takes longer than reading them: asks only cost. */
#define EVENLY(kind) (!UNPACKED(kind) && !POINTS(kind))

/* Of 256 elements: numbers of points, if they do not lie there as bytes, and bytes of eight signs,
 * or the 9 or 7 that is added to a point of IQ1_M. A row is done before its points are looked up,
 * so that nobody waits for them. */
struct numbers { uint16_t at[64]; uint8_t minus[32]; };

/* Bytes of eight signs, of which the last makes the number of seven even. */
ALWAYS __m256i with_eighth(__m256i s)
{
	const __m256i odd = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -128, -128, 0, -128, 0, 0,
		-128, -128, 0, 0, -128, 0, -128, -128, 0));
	const __m256i low4 = _mm256_set1_epi8(15);
	__m256i a = _mm256_shuffle_epi8(odd, _mm256_and_si256(s, low4));
	__m256i b = _mm256_shuffle_epi8(odd, _mm256_and_si256(_mm256_srli_epi16(s, 4), low4));

	return _mm256_xor_si256(s, _mm256_xor_si256(a, b));
}

/* Eight words of four groups of seven bits -> bytes. */
ALWAYS __m256i sevens(__m256i v)
{
	__m256i s = _mm256_and_si256(v, _mm256_set1_epi32(0x7f));
	__m256i a = _mm256_and_si256(_mm256_slli_epi32(v, 1), _mm256_set1_epi32(0x7f00));
	__m256i b = _mm256_and_si256(_mm256_slli_epi32(v, 2), _mm256_set1_epi32(0x7f0000));
	__m256i c = _mm256_and_si256(_mm256_slli_epi32(v, 3), _mm256_set1_epi32(0x7f000000));

	return _mm256_or_si256(_mm256_or_si256(s, a), _mm256_or_si256(b, c));
}

/* The eight words of IQ2_XXS (between numbers) or IQ3_XXS that hold signs and a scale. */
ALWAYS __m256i sign_words(enum kind kind, const uint8_t *p)
{
	const float *q = (const void *)(p + 2);

	if (kind == IQ3_XXS)
		return load256(p + 66);
	return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(_mm256_loadu_ps(q),
		_mm256_loadu_ps(q + 8), 0xdd)), 0xd8);
}

/* Three more bits of sixteen numbers each: bits 0, 3, 6, 9 of eight words. */
ALWAYS __m256i three_bits(__m128i v, const int k)
{
	const __m256i up = _mm256_set1_epi64x(512 | 64 << 16 | 8ll << 32 | 1ll << 48);

	return _mm256_mullo_epi16(four_each(v, k), up);
}

ALWAYS void number(enum kind kind, const uint8_t *p, struct numbers *o)
{
	const __m256i nine = _mm256_set1_epi16(511), three = _mm256_set1_epi16(0x700);
	const __m256i bit = _mm256_broadcastsi128_si256(_mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128));
	__m256i a, b;
	__m128i h;

	switch (kind) {
	case IQ2_XXS: case IQ3_XXS:
		store256(o->minus, with_eighth(sevens(sign_words(kind, p))));
		break;
	case IQ2_XS: /* words of nine bits and seven signs */
		a = load256(p + 2);
		b = load256(p + 34);
		LOADED(a);
		LOADED(b);
		store256(o->at, _mm256_and_si256(a, nine));
		store256(o->at + 16, _mm256_and_si256(b, nine));
		a = _mm256_packus_epi16(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9));
		store256(o->minus, with_eighth(_mm256_permute4x64_epi64(a, 0xd8)));
		break;
	case IQ2_S: /* two more bits each */
		h = _mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)(p + 66)));
#pragma GCC unroll 2
		for (int k = 0; k < 2; k++) {
			a = _mm256_mullo_epi16(four_each(h, k),
				_mm256_set1_epi64x(256 | 64 << 16 | 16ll << 32 | 4ll << 48));
			put_at(p + 2 + 16 * k, _mm256_and_si256(a, _mm256_set1_epi16(0x300)), o->at + 16 * k);
		}
		break;
	case IQ3_S: /* a bit each */
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++) {
			a = _mm256_setr_epi32(0x01000100, 0x01000100, 0x01000100, 0x01000100, 0x01010101,
				0x01010101, 0x01010101, 0x01010101);
			b = _mm256_set1_epi16((short)rd16(p + 66 + 2 * k));
			b = _mm256_and_si256(_mm256_shuffle_epi8(b, a), bit);
			b = _mm256_and_si256(_mm256_cmpeq_epi16(b, bit), _mm256_set1_epi16(256));
			put_at(p + 2 + 16 * k, b, o->at + 16 * k);
		}
		break;
	case IQ1_S: /* three more bits each, a scale and a shift of four */
		h = load128(p + 34);
#pragma GCC unroll 2
		for (int k = 0; k < 2; k++) {
			a = _mm256_srli_epi16(three_bits(h, k), 1);
			put_at(p + 2 + 16 * k, _mm256_and_si256(a, three), o->at + 16 * k);
		}
		break;
	default: /* IQ1_M: nibbles of three more bits and a shift */
		a = _mm256_cvtepu8_epi16(load128(p + 32));
		a = _mm256_and_si256(_mm256_or_si256(a, _mm256_slli_epi16(a, 4)), _mm256_set1_epi8(15));
		b = _mm256_and_si256(_mm256_srli_epi16(a, 2), _mm256_set1_epi8(2));
		store256(o->minus, _mm256_sub_epi8(_mm256_set1_epi8(9), b));
		b = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(a)), 8);
		put_at(p, _mm256_and_si256(b, three), o->at);
		b = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(a, 1)), 8);
		put_at(p + 16, _mm256_and_si256(b, three), o->at + 16);
	}
}

/* Where its signs lie. */
ALWAYS const uint8_t *signs_at(enum kind kind, const uint8_t *p, const struct numbers *n)
{
	return kind == IQ2_S ? p + 34 : kind == IQ3_S ? p + 74 : n->minus;
}

/* Scales as words, 2 k + 1, in order; eight of them where blocks have 32 elements. */
ALWAYS __m256i point_scales(enum kind kind, const uint8_t *p)
{
	const __m256i seven = _mm256_set1_epi16(7);
	__m256i v;
	__m128i h;

	switch (kind) {
	case IQ2_XXS: case IQ3_XXS:
		v = _mm256_srli_epi32(sign_words(kind, p), 28);
		v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
		break;
	case IQ2_XS: case IQ2_S: case IQ3_S: /* nibbles */
		h = kind == IQ3_S ? _mm_cvtsi32_si128((int)rd32(p + 106)) :
			_mm_loadl_epi64((const void *)(p + (kind == IQ2_XS ? 66 : 74)));
		h = _mm_cvtepu8_epi16(h);
		h = _mm_and_si128(_mm_or_si128(h, _mm_slli_epi16(h, 4)), _mm_set1_epi8(15));
		v = _mm256_cvtepu8_epi16(h);
		break;
	case IQ1_S:
		v = _mm256_and_si256(_mm256_castsi128_si256(_mm_srli_epi16(load128(p + 34), 12)), seven);
		break;
	default: /* IQ1_M: four of three bits in four words */
		v = three_bits(_mm_loadl_epi64((const void *)(p + 48)), 0);
		v = _mm256_and_si256(_mm256_srli_epi16(v, 9), seven);
	}
	return _mm256_add_epi16(_mm256_add_epi16(v, v), _mm256_set1_epi16(1));
}

/* What IQ1_S's sums of activations are weighed with: its points of 8 c + 1, or of 8 c - 1 if its
 * shift is down, with c from -1 on, are read as 8 (c + 1). */
ALWAYS __m128i shift_words(const uint8_t *p, __m256i sc)
{
	__m128i k = _mm256_castsi256_si128(sc), m = _mm_srai_epi16(load128(p + 34), 15);

	return _mm_sub_epi16(_mm_sub_epi16(_mm_xor_si128(k, m), m), _mm_slli_epi16(k, 3));
}

/* Row r of a part, or two of them: asks for what comes about then and, where points are looked up,
 * numbers all of them. Where the row begins. */
ALWAYS const uint8_t *wide_begin(enum kind kind, const struct part_rows *rows, size_t r,
	const size_t n_row, struct numbers n[GV_PART / 256])
{
	const size_t bytes = bytes256(kind);
	const uint8_t *p = rows->p + r * rows->bytes;

	if (kind >= TQ1_0) /* a line or so for each 256; others ask as they read */
		ahead(p, n_row * rows->n256 * bytes, rows->asked[r], rows->end);
	for (size_t i = 0; i < rows->n256 && POINTS(kind); i++)
		number(kind, p + i * bytes, &n[i]);
	return p;
}
