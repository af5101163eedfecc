/* int8_avx512_scales.h - loads, and the scales of sixteen blocks of a row, as they lie. */

static inline __m256i load256(const void *p) { return _mm256_loadu_si256(p); }
static inline __m128i load128(const void *p) { return _mm_loadu_si128(p); }

/* What is taken off codes that are magnitudes and an off (off_log2 of int8_codes.h). */
ALWAYS int off_of(enum kind kind)
{
	switch (kind) {
	case Q8_0: case IQ4_NL: case IQ4_XS: return 128;
	case Q6_K: return 32;
	case Q5_0: case MXFP4: case NVFP4: return 16;
	case Q4_0: return 8;
	case Q3_K: return 4;
	default: return 0;
	}
}

/* The 16-bit words at p + b * bytes of eight blocks; bytes is even. Two bytes less than the blocks
 * have behind p are read. */
ALWAYS __m128i eight_words(const uint8_t *p, size_t bytes)
{
	const size_t per = bytes <= 18 ? 8 : 4; /* blocks that begin in 128 bytes */
	const short s = (short)(bytes / 2);
	__m128i part[2];

	for (size_t k = 0; k < 8 / per; k++) {
		size_t at = per * k * bytes, last = 8 * bytes - 130, base = at < last ? at : last;
		__m128i i = _mm_add_epi16(_mm_set1_epi16((short)((at - base) / 2)),
			_mm_setr_epi16(0, s, (short)(2 * s), (short)(3 * s), (short)(4 * s), (short)(5 * s),
			(short)(6 * s), (short)(7 * s)));

		part[k] = _mm512_castsi512_si128(_mm512_permutex2var_epi16(_mm512_loadu_si512(p + base),
			_mm512_castsi128_si512(i), _mm512_loadu_si512(p + base + 64)));
	}
	return per == 8 ? part[0] : _mm_unpacklo_epi64(part[0], part[1]);
}

/* The same of eight at p and, for n256 2, eight at p1, else zeros. */
ALWAYS __m256i block_words(const uint8_t *p, const uint8_t *p1, size_t bytes, size_t n256)
{
	__m128i more = n256 > 1 ? eight_words(p1, bytes) : _mm_setzero_si128();

	return _mm256_set_m128i(more, eight_words(p, bytes));
}

/* The words with the exponents of eight blocks of MXFP4: 17 bytes, so every second one's is the
 * high byte. */
ALWAYS __m128i mxfp4_words(const uint8_t *p)
{
	const __m512i i = _mm512_castsi128_si512(_mm_setr_epi16(0, 8, 17, 25, 34, 42, 51, 59));

	return _mm512_castsi512_si128(_mm512_permutex2var_epi16(_mm512_loadu_si512(p), i,
		_mm512_loadu_si512(p + 64)));
}

/* Words of exponents of MXFP4 -> the upper words of the floats that are half their powers of two,
 * as mxfp4_scale has it: (e - 1) << 7, or 0x20 << e, which is more where e is less than 2. */
static inline __m512i mxfp4_tops(__m512i e)
{
	const __m512i one = _mm512_set1_epi16(1);

	return _mm512_max_epi16(_mm512_slli_epi16(_mm512_sub_epi16(e, one), 7),
		_mm512_slli_epi16(_mm512_add_epi16(e, one), 5));
}

ALWAYS __m512 mxfp4_scales(const uint8_t *p, const uint8_t *p1, size_t n256)
{
	__m128i more = n256 > 1 ? mxfp4_words(p1) : _mm_setzero_si128();
	__m512i e = _mm512_cvtepu16_epi32(_mm256_set_m128i(more, mxfp4_words(p)));

	e = _mm512_and_si512(_mm512_mask_srli_epi32(e, 0xaaaa, e, 8), _mm512_set1_epi32(255));
	return _mm512_castsi512_ps(_mm512_slli_epi32(mxfp4_tops(e), 16));
}

/* Sixteen scales of six bits, from the twelve bytes of Q3_K. */
ALWAYS __m128i q3_k_bytes(const uint8_t *p)
{
	__m128i s = _mm_loadl_epi64((const void *)p), h;
	int32_t high;

	memcpy(&high, p + 8, 4);
	s = _mm_and_si128(_mm_unpacklo_epi64(s, _mm_srli_epi16(s, 4)), _mm_set1_epi8(15));
	h = _mm_rolv_epi32(_mm_set1_epi32(high), _mm_setr_epi32(4, 2, 0, 30));
	h = _mm_and_si128(h, _mm_set1_epi8(0x30));
	return _mm_sub_epi8(_mm_or_si128(s, h), _mm_set1_epi8(32));
}

/* Eight scales of IQ4_XS: low bits in four bytes, high ones in two. */
ALWAYS __m128i iq4_xs_bytes(const uint8_t *p)
{
	__m256i low, high = _mm256_set1_epi32(rd16(p) << 4);
	int32_t s;

	memcpy(&s, p + 2, 4);
	low = _mm256_srlv_epi32(_mm256_set1_epi32(s), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
	high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
	low = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
		_mm256_and_si256(high, _mm256_set1_epi32(0x30)));
	return _mm256_cvtepi32_epi8(_mm256_sub_epi32(low, _mm256_set1_epi32(32)));
}

struct scales { __m512i sc, mn; }; /* integers, or the bits of floats */

/* Of 16 blocks: 256 elements in blocks of 16 at p, or n256 (1 or 2) times 256 in blocks of 32, at p
 * and p1; zeros behind one. */
ALWAYS struct scales scales_at(enum kind kind, const uint8_t *p, const uint8_t *p1, size_t n256)
{
	const __m512i zero = _mm512_setzero_si512(), minus = _mm512_set1_epi32((int)0x80000000);
	const size_t bytes = bytes256(kind) / 8;
	struct scales s = { zero, zero };

	switch (kind) {
	case Q8_0: case Q4_0: case Q4_1: case Q5_0: case Q5_1: case IQ4_NL:
		s.sc = _mm512_castps_si512(_mm512_cvtph_ps(block_words(p, p1, bytes, n256)));
		if (kind == Q4_1 || kind == Q5_1)
			s.mn = _mm512_xor_si512(minus,
				_mm512_castps_si512(_mm512_cvtph_ps(block_words(p + 2, p1 + 2, bytes, n256))));
		break;
	case MXFP4:
		s.sc = _mm512_castps_si512(mxfp4_scales(p, p1, n256));
		break;
	case IQ4_XS:
		s.sc = _mm512_cvtepi8_epi32(_mm_unpacklo_epi64(iq4_xs_bytes(p + 2),
			iq4_xs_bytes((n256 > 1 ? p1 : p) + 2)));
		break;
	case Q3_K:
		s.sc = _mm512_cvtepi8_epi32(q3_k_bytes(p + 96));
		break;
	default:
		break;
	}
	if (n256 == 1 && blk_of(kind) == 32) {
		s.sc = _mm512_maskz_mov_epi32(0xff, s.sc);
		s.mn = _mm512_maskz_mov_epi32(0xff, s.mn);
	}
	return s;
}

/* Scales of a whole row of a kind that lies as it lies, as floats, for a tile. */
ALWAYS void scales(enum kind kind, const struct codes *c, const uint8_t *row, size_t len, float *sc,
	float *mn)
{
	const size_t step = blk_of(kind) * 16;
	size_t i = 0, b = 0;

	for (; i < len / 256 * 256; i += step, b += 16) {
		const uint8_t *p = row + i / 256 * bytes256(kind);
		struct scales s = scales_at(kind, p, p + bytes256(kind), len - i < step ? 1 : step / 256);

		_mm512_storeu_ps(sc + b,
			exact_of(kind) ? _mm512_cvtepi32_ps(s.sc) : _mm512_castsi512_ps(s.sc));
		_mm512_storeu_ps(mn + b,
			exact_of(kind) ? _mm512_cvtepi32_ps(s.mn) : _mm512_castsi512_ps(s.mn));
	}
	if (len % 256) { /* fewer than eight blocks of 32 */
		uint8_t code[256];

		i = len / 256 * 256;
		c->fn(row + i / 256 * bytes256(kind), len - i, code, sc + i / 32, mn + i / 32);
	}
}

/* What is not read as it lies: all, or what is behind the last 256 elements. */
ALWAYS void prepare(enum kind kind, const struct codes *c, const uint8_t *row, size_t len,
	struct part part)
{
	size_t whole = UNPACKED(kind) ? 0 : len / 256 * 256, b = whole / blk_of(kind);

	if (whole < len)
		c->fn(row + whole / 256 * bytes256(kind), len - whole, part.code + whole, part.sc + b,
			part.mn + b);
}
