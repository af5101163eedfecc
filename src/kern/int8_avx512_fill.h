/*
 * int8_avx512_fill.h - sixteen rows as a tile: lane r of tile vector i has codes 4i .. 4i + 3 of row r.
 *
 * Rows are turned by four bytes before their bits are taken apart, so that four-bit codes are turned
 * two at a time, and what is then taken apart is sixteen rows at once.
 */

typedef uint8_t lanes[16][4];
#define G(i) ((i) * GM_GROUPS) /* vectors, scales and minima of a group are that far apart */

/* Four vectors of four rows' 16 bytes (0 4 8 12, 1 5 9 13, ...) -> four-byte groups 0 to 3 of 16 rows. */
ALWAYS void turn4(__m512i v[4])
{
	__m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
	__m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);

	v[0] = _mm512_unpacklo_epi64(a, c);
	v[1] = _mm512_unpackhi_epi64(a, c);
	v[2] = _mm512_unpacklo_epi64(b, d);
	v[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 bytes at `at` of each row, turned. */
ALWAYS void turned(const uint8_t *const row[16], size_t at, __m512i v[4])
{
	for (size_t i = 0; i < 4; i++) {
		v[i] = _mm512_broadcast_i32x4(load128(row[i] + at));
		v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x00f0, load128(row[i + 4] + at));
		v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x0f00, load128(row[i + 8] + at));
		v[i] = _mm512_mask_broadcast_i32x4(v[i], 0xf000, load128(row[i + 12] + at));
	}
	turn4(v);
}

/* Bits 4 i .. 4 i + 3 of each lane of h, as 16 times a byte each, added to w. */
ALWAYS __m512i fifth(__m512i h, size_t i, __m512i w)
{
	const __m512i bits = _mm512_set1_epi32(i & 1 ? (int)0x80402010u : 0x08040201);
	const __m512i byte = _mm512_add_epi8(_mm512_set1_epi8((char)(i / 2)), _mm512_setr_epi32(0, 0x04040404,
		0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808,
		0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c));

	return _mm512_mask_add_epi8(w, _mm512_test_epi8_mask(_mm512_shuffle_epi8(h, byte), bits), w,
		_mm512_set1_epi8(16));
}

/* Four-bit codes that need no table stay two a byte: a tile of half the size, and taking them apart
 * costs the products nothing, as other ports do it. */
ALWAYS int packs(enum kind kind)
{
	return PACKED_TILES && (kind == Q4_0 || kind == Q4_1 || kind == Q4_K);
}

/* A vector of a tile. */
ALWAYS void put_codes(enum kind kind, void *to, __m512i v)
{
	if (SIGNED_TILES && off_of(kind))
		v = _mm512_sub_epi8(v, _mm512_set1_epi8((char)off_of(kind)));
	vi_store(to, v);
}

/* Types with blocks of 32 of their own: nibbles of 16 bytes, or 32 bytes. */
ALWAYS void fill_blocks(enum kind kind, const uint8_t *const row[16], size_t len, lanes *tile)
{
	const __m512i low4 = _mm512_set1_epi8(15), top = _mm512_set1_epi8((char)0x80);
	const __m512i table = _mm512_broadcast_i32x4(load128(kind == MXFP4 ? mxfp4_codes : iq4_table));
	const size_t bytes = bytes256(kind) / 8, at = kind == Q4_1 ? 4 : kind == Q5_0 ? 6 : kind == Q5_1 ? 8 :
		kind == MXFP4 ? 1 : 2;

	for (size_t b = 0; b < len / 32; b++, tile += packs(kind) ? G(4) : G(8)) {
		__m512i v[4], h[4];

		turned(row, b * bytes + at, v);
		if (kind == Q5_0 || kind == Q5_1)
			turned(row, b * bytes + at - 4, h);
		if (kind == Q8_0)
			turned(row, b * bytes + at + 16, h);
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			__m512i lo = _mm512_and_si512(v[i], low4);
			__m512i hi = _mm512_and_si512(_mm512_srli_epi16(v[i], 4), low4);

			if (packs(kind)) {
				vi_store(tile[G(i)], v[i]);
				continue;
			}
			if (kind == Q8_0) {
				lo = _mm512_xor_si512(v[i], top);
				hi = _mm512_xor_si512(h[i], top);
			} else if (kind == Q5_0 || kind == Q5_1) {
				lo = fifth(h[0], i, lo);
				hi = fifth(h[0], i + 4, hi);
			} else if (kind == IQ4_NL || kind == MXFP4) {
				lo = _mm512_shuffle_epi8(table, lo);
				hi = _mm512_shuffle_epi8(table, hi);
			}
			put_codes(kind, tile[G(i)], lo);
			put_codes(kind, tile[G(4 + i)], hi);
		}
	}
}

typedef int16_t pairs[16][2];

/* Lanes of two scales or minima as 16-bit integers: bytes j and j + 1, j even, of a lane of m. */
ALWAYS __m512i min_pair(__m512i m, unsigned j)
{
	m = _mm512_srli_epi32(m, 8 * j);
	return and_or(_mm512_slli_epi32(m, 8), _mm512_set1_epi32(0x00ff0000),
		_mm512_and_si512(m, _mm512_set1_epi32(255)));
}

/* The same of two scales that are signed bytes. */
ALWAYS __m512i scale_pair(__m512i s, unsigned j)
{
	const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
	__m512i a = _mm512_srai_epi32(_mm512_slli_epi32(s, 24 - 8 * j), 24);
	__m512i b = _mm512_srai_epi32(_mm512_slli_epi32(s, 16 - 8 * j), 8);

	return _mm512_ternarylogic_epi32(upper, b, a, 0xca);
}

/* Q4_K, Q5_K: d and dmin, then the twelve bytes of scales and minima, are the first 16 of a block. */
ALWAYS void fill_k_scales(const uint8_t *const row[16], size_t at, float (*sct)[16], pairs *mpt,
	uint32_t halves[16])
{
	const __m512i six = _mm512_set1_epi8(0x3f), low4 = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);
	__m512i v[4], s[2], m[2];

	turned(row, at, v);
	vi_store(halves, v[0]);
	s[0] = _mm512_and_si512(v[1], six);
	m[0] = _mm512_and_si512(v[2], six);
	s[1] = and_or(_mm512_srli_epi16(v[1], 2), two, _mm512_and_si512(v[3], low4));
	m[1] = and_or(_mm512_srli_epi16(v[2], 2), two, _mm512_and_si512(_mm512_srli_epi16(v[3], 4), low4));
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		vi_store(sct[G(j)], min_pair(s[j / 2], 2 * (j % 2)));
		vi_store(mpt[G(j)], min_pair(m[j / 2], 2 * (j % 2)));
	}
}

/* Q6_K: sixteen signed bytes of scales behind the codes. */
ALWAYS void fill_q6_scales(const uint8_t *const row[16], size_t at, float (*sct)[16])
{
	__m512i v[4];

	turned(row, at + 192, v);
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++)
		vi_store(sct[G(j)], scale_pair(v[j / 2], 2 * (j % 2)));
}

/* Q2_K: sixteen bytes of a scale and a minimum before the codes. */
ALWAYS void fill_q2_scales(const uint8_t *const row[16], size_t at, float (*sct)[16], pairs *mpt)
{
	const __m512i low4 = _mm512_set1_epi8(15);
	__m512i v[4];

	turned(row, at, v);
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++) {
		vi_store(sct[G(j)], min_pair(_mm512_and_si512(v[j / 2], low4), 2 * (j % 2)));
		vi_store(mpt[G(j)], min_pair(_mm512_and_si512(_mm512_srli_epi16(v[j / 2], 4), low4), 2 * (j % 2)));
	}
}

/* A byte has codes of two blocks, the i-th of each; packed, it is left so. */
ALWAYS void fill_q4_k(const uint8_t *const row[16], size_t at, lanes *tile)
{
	const __m512i low4 = _mm512_set1_epi8(15);

	for (size_t c = 0; c < 8; c++) {
		lanes *o = tile + (packs(Q4_K) ? G(4 * c) : G(16 * (c / 2) + 4 * (c % 2)));
		__m512i v[4];

		turned(row, at + 16 + 16 * c, v);
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			if (packs(Q4_K)) {
				vi_store(o[G(i)], v[i]);
				continue;
			}
			put_codes(Q4_K, o[G(i)], _mm512_and_si512(v[i], low4));
			put_codes(Q4_K, o[G(8 + i)], _mm512_and_si512(_mm512_srli_epi16(v[i], 4), low4));
		}
	}
}

ALWAYS void fill_q5_k(const uint8_t *const row[16], size_t at, lanes *tile)
{
	const __m512i low4 = _mm512_set1_epi8(15), bit5 = _mm512_set1_epi8(16);

	for (size_t j = 0; j < 2; j++) { /* first or second 16 of a sub-block */
		__m512i h[4], v[4];

		turned(row, at + 16 + 16 * j, h);
		for (size_t c = 0; c < 4; c++) {
			lanes *o = tile + G(16 * c + 4 * j);

			turned(row, at + 48 + 32 * c + 16 * j, v);
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++) {
				__m512i lo = _mm512_and_si512(v[i], low4);
				__m512i hi = _mm512_and_si512(_mm512_srli_epi16(v[i], 4), low4);
				__m512i g = _mm512_srli_epi16(h[i], (unsigned)(2 * c)); /* bits 2 c and 2 c + 1 */

				put_codes(Q5_K, o[G(i)], and_or(_mm512_slli_epi16(g, 4), bit5, lo));
				put_codes(Q5_K, o[G(8 + i)], and_or(_mm512_slli_epi16(g, 3), bit5, hi));
			}
		}
	}
}

ALWAYS void fill_q6_k(const uint8_t *const row[16], size_t at, lanes *tile)
{
	const __m512i low4 = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);

	for (size_t b = 0; b < 2; b++)
		for (size_t j = 0; j < 2; j++) {
			lanes *o = tile + G(32 * b + 4 * j);
			__m512i x[4], y[4], h[4];

			turned(row, at + 64 * b + 16 * j, x);
			turned(row, at + 64 * b + 32 + 16 * j, y);
			turned(row, at + 128 + 32 * b + 16 * j, h);
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++) {
				put_codes(Q6_K, o[G(i)], and_or(_mm512_slli_epi16(h[i], 4), two,
					_mm512_and_si512(x[i], low4)));
				put_codes(Q6_K, o[G(8 + i)], and_or(_mm512_slli_epi16(h[i], 2), two,
					_mm512_and_si512(y[i], low4)));
				put_codes(Q6_K, o[G(16 + i)], and_or(h[i], two,
					_mm512_and_si512(_mm512_srli_epi16(x[i], 4), low4)));
				put_codes(Q6_K, o[G(24 + i)], and_or(_mm512_srli_epi16(h[i], 2), two,
					_mm512_and_si512(_mm512_srli_epi16(y[i], 4), low4)));
			}
		}
}

/* Two bits, and of Q3_K a third: quarter t of half b of 256 has bits 2t of 32 bytes. */
ALWAYS void fill_low_k(enum kind kind, const uint8_t *const row[16], size_t at, lanes *tile)
{
	const __m512i two = _mm512_set1_epi8(3), bit3 = _mm512_set1_epi8(4);

	for (size_t j = 0; j < 2; j++) {
		__m512i h[4], v[4];

		if (kind == Q3_K)
			turned(row, at + 16 * j, h);
		for (size_t b = 0; b < 2; b++) {
			turned(row, at + (kind == Q3_K ? 32 : 16) + 32 * b + 16 * j, v);
#pragma GCC unroll 4
			for (unsigned t = 0; t < 4; t++)
#pragma GCC unroll 4
				for (size_t i = 0; i < 4; i++) {
					__m512i w = _mm512_and_si512(_mm512_srli_epi16(v[i], 2 * t), two);

					if (kind == Q3_K)
						w = and_or(_mm512_slli_epi16(_mm512_srli_epi16(h[i], (unsigned)(4 * b) + t), 2),
							bit3, w);
					put_codes(kind, tile[G(32 * b + 8 * t + 4 * j + i)], w);
				}
		}
	}
}

ALWAYS void fill_iq4_xs(const uint8_t *const row[16], size_t at, lanes *tile)
{
	const __m512i low4 = _mm512_set1_epi8(15), table = _mm512_broadcast_i32x4(load128(iq4_table));

	for (size_t b = 0; b < 8; b++) {
		__m512i v[4];

		turned(row, at + 8 + 16 * b, v);
		for (size_t i = 0; i < 4; i++) {
			put_codes(IQ4_XS, tile[G(8 * b + i)], _mm512_shuffle_epi8(table, _mm512_and_si512(v[i], low4)));
			put_codes(IQ4_XS, tile[G(8 * b + 4 + i)], _mm512_shuffle_epi8(table,
				_mm512_and_si512(_mm512_srli_epi16(v[i], 4), low4)));
		}
	}
}

/* What of a tile could be filled, of 16 rows of len elements. */
ALWAYS int fill_raw(enum kind kind, const uint8_t *const row[16], size_t len, lanes *tile,
	float (*sct)[16], float (*mnt)[16], pairs *mpt, uint32_t (*halves)[16])
{
	(void)mnt;
	if (UNPACKED(kind))
		return 0;
	if (!exact_of(kind)) {
		fill_blocks(kind, row, len, tile);
		return packs(kind) ? FILLED_CODES | FILLED_PACKED : FILLED_CODES;
	}
	for (size_t i = 0; i < len / 256; i++, tile += packs(kind) ? G(32) : G(64)) {
		size_t at = i * bytes256(kind);

		switch (kind) {
		case Q4_K: case Q5_K:
			fill_k_scales(row, at, sct + G(4 * i), mpt + G(4 * i), halves[i]);
			if (kind == Q4_K)
				fill_q4_k(row, at, tile);
			else
				fill_q5_k(row, at, tile);
			break;
		case Q6_K:
			fill_q6_scales(row, at, sct + G(8 * i));
			fill_q6_k(row, at, tile);
			break;
		case IQ4_XS:
			fill_iq4_xs(row, at, tile);
			break;
		case Q2_K:
			fill_q2_scales(row, at, sct + G(8 * i), mpt + G(8 * i));
			fill_low_k(kind, row, at, tile);
			break;
		default:
			fill_low_k(kind, row, at, tile);
		}
	}
	if (kind == Q4_K || kind == Q5_K)
		return FILLED_CODES | FILLED_SCALES | FILLED_SUPER | (packs(kind) ? FILLED_PACKED : 0);
	return kind == IQ4_XS || kind == Q3_K ? FILLED_CODES : FILLED_CODES | FILLED_SCALES;
}
