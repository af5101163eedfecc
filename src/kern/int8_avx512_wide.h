/*
 * int8_avx512_wide.h - rows of the IQ types, read as they lie against one token or a few: the sums
 * of 256 products are left in sixteen lanes, which are added up for sixteen rows at once. They come
 * about as in int8_avx512_super.h.
 *
 * Four dot products of 64 codes each leave 64 sums of four, which fit into 16 bits: packed in pairs
 * of vectors, two products of words weigh them. A type's off is either 0 (what lies there are
 * magnitudes; the signs go to the activations) or taken off by the activations' sums.
 */

#define WIDE(kind) ((kind) >= IQ2_XXS && !LOOKED_UP(kind))
#define ARRANGED(kind) ((kind) == IQ4_XS || NIBBLES(kind) || QUARTERS(kind) || PLANES(kind) || \
	LOOKED_UP(kind) ? 256u : 0u)

/* 128-bit lane i of all four to out + step i. */
static inline void put_lanes(const __m512i v[4], int8_t *out, size_t step)
{
	__m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x88);
	__m512i b = _mm512_shuffle_i32x4(v[2], v[3], 0x88);
	__m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
	__m512i d = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);

	_mm512_storeu_si512(out, _mm512_shuffle_i32x4(a, b, 0x88));
	_mm512_storeu_si512(out + step, _mm512_shuffle_i32x4(c, d, 0x88));
	_mm512_storeu_si512(out + 2 * step, _mm512_shuffle_i32x4(a, b, 0xdd));
	_mm512_storeu_si512(out + 3 * step, _mm512_shuffle_i32x4(c, d, 0xdd));
}

/* Of 128 activations: the 16 that belong to bit 0 of 16 bytes of bits, then to bit 1, and so on. */
static void arrange_bits(const int8_t *q, int8_t *out)
{
	const __m512i pair = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5,
		13, 6, 14, 7, 15));
	const __m512i word = _mm512_add_epi16(_mm512_set1_epi64(0x0018001000080000),
		_mm512_setr_epi64(W(0), W(1), W(2), W(3), W(4), W(5), W(6), W(7)));
	const __m512i both = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
	__m512i v[2];

	for (size_t i = 0; i < 2; i++) /* 64-bit lane j: byte j of each of eight eights */
		v[i] = _mm512_permutexvar_epi16(word,
			_mm512_shuffle_epi8(_mm512_loadu_si512(q + 64 * i), pair));
	for (size_t i = 0; i < 2; i++)
		_mm512_storeu_si512(out + 64 * i, _mm512_permutex2var_epi64(v[0],
			_mm512_add_epi64(both, _mm512_set1_epi64(4 * (long long)i)), v[1]));
}

/* Of 64 activations, by fours: the first of each, or what else comes first in `coordinates`; and so
 * on. */
ALWAYS __m512i points_of(__m512i coordinates, const int8_t *q)
{
	return by_fours(_mm512_shuffle_epi8(_mm512_loadu_si512(q), coordinates));
}

/* Of 256 activations: those of one coordinate of points of four; or of points of eight in pairs,
 * coordinate t and t + 4. */
static void arrange_points(const __m512i coordinates, const int8_t *q, int8_t *out)
{
	__m512i v[4];

	for (size_t i = 0; i < 4; i++)
		v[i] = points_of(coordinates, q + 64 * i);
	put_lanes(v, out, 64);
}

/* The orders of activations: 16 each of four blocks; blocks in the order 0 2 1 3, as 64 bytes hold
 * the low nibbles of two and the high ones of those next to them; 32 each of two halves, as 64
 * bytes hold two bits each; 16 that belong to each bit of 16 bytes, or to each two; four eights
 * that are low nibbles of 32 bytes, and those that are high ones; coordinates of points. */
static void arrange(enum kind kind, const int8_t *q, size_t n, int8_t *out)
{
	const __m512i in_fours = bytes16(0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703);

	for (size_t i = 0; i < n; i += 256, q += 256, out += ARRANGED(kind)) {
		for (size_t b = 0; b < 8 && NIBBLES(kind); b++)
			memcpy(out + 32 * (b & 4) + 32 * (b / 2 % 2) + 64 * (b % 2), q + 32 * b, 32);
		for (size_t j = 0; j < 4 && kind == IQ4_XS; j++)
			_mm512_storeu_si512(out + 64 * j,
				four16((const uint8_t *)q + 128 * (j / 2) + 16 * (j % 2), 32));
		for (size_t t = 0; t < 4 && QUARTERS(kind); t++) {
			memcpy(out + 64 * t, q + 32 * t, 32);
			memcpy(out + 64 * t + 32, q + 128 + 32 * t, 32);
		}
		for (size_t j = 0; j < 256 && kind == Q1_0; j += 128)
			arrange_bits(q + j, out + j);
		for (size_t j = 0; j < 256 && kind == Q2_0; j += 64)
			_mm512_storeu_si512(out + j, points_of(in_fours, q + j));
		for (size_t t = 0; t < 32 && kind == NVFP4; t++)
			memcpy(out + 64 * (t / 8) + 32 * (t % 2) + 8 * (t / 2 % 4), q + 8 * t, 8);
		if (kind == POINTS4)
			arrange_points(in_fours, q, out);
		if (kind == POINTS8)
			arrange_points(bytes16(0x0c040800, 0x0d050901, 0x0e060a02, 0x0f070b03), q, out);
	}
}

/* ---- sums of lanes of sixteen rows ---- */

/* Lane r: the lanes of s[r] added up. */
static inline VI vi_sums(const int32_t s[16][16])
{
	__m512i v[4], b[4];

	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < 4; j++) {
			v[j] = vi_load(s[4 * i + j]);
			LOADED(v[j]);
		}
		b[i] = sums_of_four(v);
	}
	return lanes_of_four(b);
}

#define vi_two_sums(v, s, m) ((void)(s), (void)(m)) /* none of these has minima */

/* ---- codes ---- */

/* 256 elements: their codes, or magnitudes and signs; the scales of the words that two pairs of
 * vectors are packed to; scales, and the shifts of IQ1_S, in order. */
struct wide { __m512i w[4], k[2]; __mmask64 minus[4]; __m256i sc, mn; };

#define POINT8(grid, n, i) (long long)(grid)[n(i)]
#define POINTS8(grid, n) _mm512_setr_epi64(POINT8(grid, n, 0), POINT8(grid, n, 1), \
	POINT8(grid, n, 2), POINT8(grid, n, 3), POINT8(grid, n, 4), POINT8(grid, n, 5), \
	POINT8(grid, n, 6), POINT8(grid, n, 7))
#define POINT4(grid, n, i) (int)(grid)[n(i)]
#define POINTS16(grid, n) _mm512_setr_epi32(POINT4(grid, n, 0), POINT4(grid, n, 1), \
	POINT4(grid, n, 2), POINT4(grid, n, 3), POINT4(grid, n, 4), POINT4(grid, n, 5), \
	POINT4(grid, n, 6), POINT4(grid, n, 7), POINT4(grid, n, 8), POINT4(grid, n, 9), \
	POINT4(grid, n, 10), POINT4(grid, n, 11), POINT4(grid, n, 12), POINT4(grid, n, 13), \
	POINT4(grid, n, 14), POINT4(grid, n, 15))

/* Codes of IQ types: points, signs, scales. */
ALWAYS void read_points(enum kind kind, const uint8_t *p, const struct numbers *n, struct wide *o)
{
	const struct grid_bytes *g = &kern_grid_bytes;
	const __m512i spread = _mm512_setr_epi64(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303, 0x0404040404040404, 0x0505050505050505, 0x0606060606060606,
		0x0707070707070707);

	if (SIGNED(kind))
		memcpy(o->minus, signs_at(kind, p, n), 32);
	o->sc = point_scales(kind, p);
	if (kind == IQ1_S)
		o->mn = _mm256_castsi128_si256(shift_words(p, o->sc));
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
#define N(i) p[2 + 16 * j + (i) % 4 + (i) / 4 * 8]
		if (kind == IQ2_XXS)
			o->w[j] = POINTS8(g->iq2_xxs, N);
#undef N
#define N(i) p[2 + 16 * j + (i)]
		if (kind == IQ3_XXS)
			o->w[j] = POINTS16(g->iq3_xxs, N);
#undef N
#define N(i) n->at[16 * j + (i)]
		if (kind == IQ3_S)
			o->w[j] = POINTS16(g->iq3_s, N);
#undef N
#define N(i) n->at[8 * j + (i)]
		if (kind == IQ2_XS)
			o->w[j] = POINTS8(g->iq2_xs, N);
		if (kind == IQ2_S)
			o->w[j] = POINTS8(g->iq2_s, N);
		if (kind >= IQ1_S)
			o->w[j] = POINTS8(g->iq1, N);
#undef N
		if (kind == IQ1_M)
			o->w[j] = _mm512_add_epi8(o->w[j],
				_mm512_shuffle_epi8(_mm512_set1_epi64((long long)rd64(n->minus + 8 * j)), spread));
	}
}

ALWAYS void read_wide(enum kind kind, const uint8_t *p, const struct numbers *n, struct wide *o)
{
	__m512i i0, step, sc;

	read_points(kind, p, n, o);
	i0 = blk_of(kind) == 32 ?
		_mm512_setr_epi64(W(0), W(2), W(0), W(2), W(1), W(3), W(1), W(3)) :
		_mm512_setr_epi64(W(0), W(4), W(1), W(5), W(2), W(6), W(3), W(7));
	step = _mm512_set1_epi16(blk_of(kind) == 32 ? 4 : 8);
	sc = _mm512_castsi256_si512(o->sc);
	o->k[0] = _mm512_permutexvar_epi16(i0, sc);
	o->k[1] = _mm512_permutexvar_epi16(_mm512_add_epi16(i0, step), sc);
}

/* ---- sums ---- */

/* Where the sums start that are lanes of S: minus off times those of the activations. */
ALWAYS __m512i first_of(enum kind kind, const struct wide *o, const int16_t *xsum)
{
	__m256i x;

	switch (kind) {
	case IQ1_M:
		x = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(load256(xsum), 4));
		return _mm512_zextsi256_si512(_mm256_madd_epi16(x, o->sc));
	case IQ1_S:
		return _mm512_zextsi128_si512(_mm_madd_epi16(_mm256_castsi256_si128(o->mn), load128(xsum)));
	default:
		return _mm512_setzero_si512();
	}
}

ALWAYS __m512i wide_sum(enum kind kind, const struct wide *o, const int8_t *x, const int16_t *xsum)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s = first_of(kind, o, xsum), v[4];

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		__m512i q = _mm512_loadu_si512(x + 64 * j);

		if (SIGNED(kind))
			q = _mm512_mask_sub_epi8(q, o->minus[j], zero, q);
		v[j] = _mm512_dpbusd_epi32(zero, o->w[j], q);
	}
	s = _mm512_dpwssd_epi32(s, _mm512_packs_epi32(v[0], v[1]), o->k[0]);
	return _mm512_dpwssd_epi32(s, _mm512_packs_epi32(v[2], v[3]), o->k[1]);
}

/* Row r of them; n_row: 1, of these kinds. */
ALWAYS void wide_row(enum kind kind, const struct codes *c, const struct part_rows *rows, size_t r,
	const size_t n_row, const struct gv_in *in, size_t n_tok)
{
	const size_t blk = blk_of(kind), bytes = bytes256(kind);
	struct numbers n[GV_PART / 256];
	const uint8_t *p = wide_begin(kind, rows, r, n_row, n);

	for (size_t i = 0; i < rows->n256; i++, p += bytes) {
		int32_t *out = rows->out + R * (R * i + r);
		struct wide o;

		rows->halves[R * i + r] = super_halves(kind, c, p);
		read_wide(kind, p, &n[i], &o);
		for (size_t t = 0; t < n_tok; t++, out += rows->os)
			vi_store(out, wide_sum(kind, &o, in->x + t * in->xp + 256 * i,
				in->sum + (t * in->np + 256 * i) / blk));
	}
}
