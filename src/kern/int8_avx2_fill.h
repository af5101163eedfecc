/*
 * int8_avx2_fill.h - eight rows as a tile: lane r of tile vector i has codes 4i .. 4i + 3 of row r.
 *
 * Rows are turned by four bytes before their bits are taken apart, so that four-bit codes are
 * turned two at a time, and what is then taken apart is eight rows at once.
 */

typedef uint8_t lanes[8][4];
#define G(i) ((i) * GM_GROUPS) /* vectors, scales and minima of a group are that far apart */

/* 16 bytes at `at` of each row: v[i] has the i-th four of row r in lane r. */
ALWAYS void turned(const uint8_t *const row[8], size_t at, __m256i v[4])
{
	__m256i a, b, c, d;

	for (size_t i = 0; i < 4; i++)
		v[i] = two16(row[i] + at, row[i + 4] + at);
	a = _mm256_unpacklo_epi32(v[0], v[1]);
	b = _mm256_unpackhi_epi32(v[0], v[1]);
	c = _mm256_unpacklo_epi32(v[2], v[3]);
	d = _mm256_unpackhi_epi32(v[2], v[3]);
	v[0] = _mm256_unpacklo_epi64(a, c);
	v[1] = _mm256_unpackhi_epi64(a, c);
	v[2] = _mm256_unpacklo_epi64(b, d);
	v[3] = _mm256_unpackhi_epi64(b, d);
}

/* Four bytes at `at` of each row, in its lane. */
ALWAYS __m256i turned4(const uint8_t *const row[8], size_t at)
{
	return _mm256_setr_epi32(four_bytes(row[0] + at), four_bytes(row[1] + at),
		four_bytes(row[2] + at), four_bytes(row[3] + at), four_bytes(row[4] + at),
		four_bytes(row[5] + at), four_bytes(row[6] + at), four_bytes(row[7] + at));
}

/* Bits 4 i .. 4 i + 3 of each lane of h, as 16 times a byte each. */
ALWAYS __m256i fifth(__m256i h, size_t i)
{
	const __m256i bits = _mm256_set1_epi32(i & 1 ? (int)0x80402010u : 0x08040201);
	const __m256i byte = _mm256_add_epi8(_mm256_set1_epi8((char)(i / 2)), _mm256_setr_epi32(0,
		0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c));

	h = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(h, byte), bits), bits);
	return _mm256_and_si256(h, _mm256_set1_epi8(16));
}

/* Bytes 0 and 2, and 1 and 3, of each lane as 16 bits. */
static inline __m256i wide_even(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
static inline __m256i wide_odd(__m256i v) { return _mm256_srai_epi16(v, 8); }

/* Kinds whose codes are made 16 bits wide here, even ones before odd ones. */
#define FILLED_WIDE(kind) ((kind) == Q8_0 || (kind) == IQ4_NL)

ALWAYS void store_codes(enum kind kind, lanes *tile, size_t i, __m256i v)
{
	if (FILLED_WIDE(kind)) {
		vi_store(tile[G(2 * i)], wide_even(v));
		vi_store(tile[G(2 * i + 1)], wide_odd(v));
	} else {
		vi_store(tile[G(i)], v);
	}
}

/* Blocks of 32 in `bytes` each, codes from `at` on: nibbles of 16 bytes, or 32 bytes. Codes of eight bits
 * are signed. */
ALWAYS void fill_blocks(enum kind kind, const uint8_t *const row[8], size_t bytes, size_t at,
	size_t n_block, lanes *tile)
{
	const __m256i low4 = _mm256_set1_epi8(15), top = _mm256_set1_epi8((char)0x80);
	const __m256i table = kind == MXFP4 ? _mm256_broadcastsi128_si256(load128(mxfp4_codes)) :
		_mm256_xor_si256(_mm256_broadcastsi128_si256(load128(iq4_table)), top);

	for (size_t b = 0; b < n_block; b++, at += bytes, tile += G(FILLED_WIDE(kind) ? 16 : 8)) {
		__m256i v[4], u[4], h = top;

		turned(row, at, v);
		if (kind == Q5_0 || kind == Q5_1)
			h = turned4(row, at - 4);
		if (kind == Q8_0)
			turned(row, at + 16, u);
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			__m256i lo = _mm256_and_si256(v[i], low4);
			__m256i hi = _mm256_and_si256(_mm256_srli_epi16(v[i], 4), low4);

			if (kind == Q8_0) {
				lo = v[i];
				hi = u[i];
			} else if (kind == Q5_0 || kind == Q5_1) {
				lo = _mm256_or_si256(lo, fifth(h, i));
				hi = _mm256_or_si256(hi, fifth(h, i + 4));
			} else if (kind == IQ4_NL || kind == IQ4_XS || kind == MXFP4) {
				lo = _mm256_shuffle_epi8(table, lo);
				hi = _mm256_shuffle_epi8(table, hi);
			}
			store_codes(kind, tile, i, lo);
			store_codes(kind, tile, 4 + i, hi);
		}
	}
}

typedef int16_t pairs[8][2];

/* Lanes of two 16-bit integers: bytes j and i of each lane of v. */
ALWAYS __m256i two_bytes(__m256i v, unsigned j, unsigned i)
{
	return _mm256_shuffle_epi8(v, _mm256_add_epi32(_mm256_setr_epi32(0, 0x00040004, 0x00080008, 0x000c000c,
		0, 0x00040004, 0x00080008, 0x000c000c), _mm256_set1_epi32((int)(0x80008000 | j | i << 16))));
}

/* Q4_K, Q5_K: d and dmin, then the twelve bytes of scales and minima, are a block's first 16. */
ALWAYS void fill_k_scales(const uint8_t *const row[8], size_t at, float (*sct)[8], pairs *mpt,
	uint32_t halves[8])
{
	const __m256i six = _mm256_set1_epi8(0x3f), low4 = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
	__m256i v[4], s[2], m[2];

	turned(row, at, v);
	vi_store(halves, v[0]);
	s[0] = _mm256_and_si256(v[1], six);
	m[0] = _mm256_and_si256(v[2], six);
	s[1] = and_or(_mm256_srli_epi16(v[1], 2), two, _mm256_and_si256(v[3], low4));
	m[1] = and_or(_mm256_srli_epi16(v[2], 2), two,
		_mm256_and_si256(_mm256_srli_epi16(v[3], 4), low4));
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++)
		vi_store(sct[G(j)], two_bytes(s[j / 4], j % 4, j % 4));
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		vi_store(mpt[G(j)], two_bytes(m[j / 2], 2 * (j % 2), 2 * (j % 2) + 1));
}

/* Q6_K: sixteen signed bytes of scales behind the codes. */
ALWAYS void fill_q6_scales(const uint8_t *const row[8], size_t at, float (*sct)[8])
{
	__m256i v[4];

	turned(row, at + 192, v);
#pragma GCC unroll 16
	for (unsigned j = 0; j < 16; j++) {
		__m256i k = two_bytes(v[j / 4], j % 4, j % 4);

		vi_store(sct[G(j)], _mm256_srai_epi16(_mm256_slli_epi16(k, 8), 8));
	}
}

/* Q2_K: sixteen bytes of a scale and a minimum before the codes. */
ALWAYS void fill_q2_scales(const uint8_t *const row[8], size_t at, float (*sct)[8], pairs *mpt)
{
	const __m256i low4 = _mm256_set1_epi8(15);
	__m256i v[4];

	turned(row, at, v);
#pragma GCC unroll 16
	for (unsigned j = 0; j < 16; j++)
		vi_store(sct[G(j)], two_bytes(_mm256_and_si256(v[j / 4], low4), j % 4, j % 4));
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++)
		vi_store(mpt[G(j)], two_bytes(_mm256_and_si256(_mm256_srli_epi16(v[j / 2], 4), low4), 2 * (j % 2),
			2 * (j % 2) + 1));
}

ALWAYS void fill_k(enum kind kind, const uint8_t *const row[8], size_t at, lanes *tile)
{
	const __m256i low4 = _mm256_set1_epi8(15), bit5 = _mm256_set1_epi8(16);

	for (size_t j = 0; j < 2; j++) { /* first or second 16 of a sub-block */
		__m256i h[4], v[4];

		if (kind == Q5_K)
			turned(row, at + 16 + 16 * j, h);
#pragma GCC unroll 4
		for (int c = 0; c < 4; c++) {
			lanes *o = tile + G(16 * (size_t)c + 4 * j);

			turned(row, at + (kind == Q4_K ? 16 : 48) + 32 * (size_t)c + 16 * j, v);
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++) {
				__m256i lo = _mm256_and_si256(v[i], low4);
				__m256i hi = _mm256_and_si256(_mm256_srli_epi16(v[i], 4), low4);

				if (kind == Q5_K) { /* bits 2 c and 2 c + 1 */
					__m256i g = _mm256_srli_epi16(h[i], 2 * c);

					lo = and_or(_mm256_slli_epi16(g, 4), bit5, lo);
					hi = and_or(_mm256_slli_epi16(g, 3), bit5, hi);
				}
				vi_store(o[G(i)], lo);
				vi_store(o[G(8 + i)], hi);
			}
		}
	}
}

ALWAYS void fill_q6_k(const uint8_t *const row[8], size_t at, lanes *tile)
{
	const __m256i low4 = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);

	for (size_t b = 0; b < 2; b++)
		for (size_t j = 0; j < 2; j++) {
			lanes *o = tile + G(32 * b + 4 * j);
			__m256i x[4], y[4], h[4];

			turned(row, at + 64 * b + 16 * j, x);
			turned(row, at + 64 * b + 32 + 16 * j, y);
			turned(row, at + 128 + 32 * b + 16 * j, h);
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++) {
				vi_store(o[G(i)], and_or(_mm256_slli_epi16(h[i], 4), two,
					_mm256_and_si256(x[i], low4)));
				vi_store(o[G(8 + i)], and_or(_mm256_slli_epi16(h[i], 2), two,
					_mm256_and_si256(y[i], low4)));
				vi_store(o[G(16 + i)], and_or(h[i], two,
					_mm256_and_si256(_mm256_srli_epi16(x[i], 4), low4)));
				vi_store(o[G(24 + i)], and_or(_mm256_srli_epi16(h[i], 2), two,
					_mm256_and_si256(_mm256_srli_epi16(y[i], 4), low4)));
			}
		}
}

/* Two bits, and of Q3_K a third: quarter t of half b of 256 has bits 2t of 32 bytes. */
ALWAYS void fill_low_k(enum kind kind, const uint8_t *const row[8], size_t at, lanes *tile)
{
	const __m256i two = _mm256_set1_epi8(3), bit3 = _mm256_set1_epi8(4);

	for (size_t j = 0; j < 2; j++) {
		__m256i h[4], v[4];

		if (kind == Q3_K)
			turned(row, at + 16 * j, h);
		for (int b = 0; b < 2; b++) {
			turned(row, at + (kind == Q3_K ? 32 : 16) + 32 * (size_t)b + 16 * j, v);
#pragma GCC unroll 4
			for (int t = 0; t < 4; t++)
#pragma GCC unroll 4
				for (size_t i = 0; i < 4; i++) {
					__m256i w = _mm256_and_si256(_mm256_srli_epi16(v[i], 2 * t), two);

					if (kind == Q3_K)
						w = and_or(_mm256_slli_epi16(_mm256_srli_epi16(h[i], 4 * b + t), 2), bit3,
							w);
					vi_store(tile[G((size_t)(32 * b + 8 * t) + 4 * j + i)], w);
				}
		}
	}
}

/* What of a tile could be filled, of 8 rows of len elements. Integer scales are pairs of the same. */
ALWAYS int fill_raw(enum kind kind, const uint8_t *const row[8], size_t len, lanes *tile,
	float (*sct)[8], float (*mnt)[8], pairs *mpt, uint32_t (*halves)[8])
{
	(void)mnt;
	if (UNPACKED(kind))
		return 0;
	if (!exact_of(kind)) {
		fill_blocks(kind, row, bytes256(kind) / 8, codes_at(kind), len / 32, tile);
		return FILLED_CODES;
	}
	for (size_t i = 0; i < len / 256; i++, tile += G(64)) {
		size_t at = i * bytes256(kind);

		switch (kind) {
		case Q4_K: case Q5_K:
			fill_k_scales(row, at, sct + G(8 * i), mpt + G(4 * i), halves[i]);
			fill_k(kind, row, at, tile);
			break;
		case Q6_K:
			fill_q6_scales(row, at, sct + G(16 * i));
			fill_q6_k(row, at, tile);
			break;
		case IQ4_XS:
			fill_blocks(kind, row, 16, at + codes_at(kind), 8, tile);
			break;
		case Q2_K:
			fill_q2_scales(row, at, sct + G(16 * i), mpt + G(8 * i));
			fill_low_k(kind, row, at, tile);
			break;
		default:
			fill_low_k(kind, row, at, tile);
		}
	}
	if (kind == Q4_K || kind == Q5_K)
		return FILLED_CODES | FILLED_SCALES | FILLED_SUPER;
	return kind == IQ4_XS || kind == Q3_K ? FILLED_CODES : FILLED_CODES | FILLED_SCALES;
}
