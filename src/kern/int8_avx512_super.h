/*
 * int8_avx512_super.h - sixteen rows at once of the types with integer scales under a d of 256
 * elements, whose scales are bytes (Q4_K to Q6_K) or six bits (IQ4_XS), against one token or a few.
 * Those of two or three bits: int8_avx512_quarters.h.
 *
 * Scales are taken apart for four rows at a time: lane l of vector j is of row 4 j + l. A row's 256
 * products are four dot products of 64 codes each, which leave 64 sums of four that fit into 16
 * bits: packed in pairs of vectors, two products of words weigh them, and the sixteen lanes that
 * are left are added up with those of the other rows. Sums of IQ4_XS take more than 16 bits, so
 * that products of 32 weigh them, which are dear: once the four lanes of a block are added up.
 */

#define SUPER(kind) ((kind) == Q4_K || (kind) == Q5_K || (kind) == Q6_K)
#define NIBBLES(kind) ((kind) == Q4_K || (kind) == Q5_K)

/* ---- scales ---- */

/* Of four rows, 16-bit words: scales, the first eight and the others, and minima. */
struct heads { __m512i sc[2], mn[2]; };

ALWAYS __m512i bytes16(int i, int j, int k, int l)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi32(i, j, k, l));
}

/* As k_bytes (int8_codes.h), of four rows. */
static inline __m512i k_bytes_of_four(__m512i v)
{
	const __m512i low = bytes16(0x07060504, 0x0f0e0d0c, 0x0b0a0908, 0x0f0e0d0c);
	const __m512i high = bytes16(-1, 0x07060504, -1, 0x0b0a0908);
	const __m512i keep = bytes16(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
	__m512i b = _mm512_srlv_epi32(_mm512_shuffle_epi8(v, low), bytes16(0, 0, 0, 4));
	__m512i h = _mm512_srli_epi32(_mm512_shuffle_epi8(v, high), 2);

	return and_or(h, _mm512_set1_epi8(0x30), _mm512_and_si512(b, keep));
}

/* Of the four rows at p; what lies at the first of their 16 bytes to *head. */
ALWAYS struct heads heads_of(enum kind kind, const uint8_t *p, size_t row_bytes, __m512i *head)
{
	const __m512i zero = _mm512_setzero_si512();
	struct heads h = { { zero, zero }, { zero, zero } };
	__m512i v = four16(p + (kind == Q6_K ? 192 : 0), row_bytes);

	*head = v;
	if (NIBBLES(kind)) {
		v = k_bytes_of_four(v);
		h.sc[0] = _mm512_unpacklo_epi8(v, zero);
		h.mn[0] = _mm512_unpackhi_epi8(v, zero);
	} else {
		h.sc[0] = _mm512_srai_epi16(_mm512_unpacklo_epi8(v, v), 8);
		h.sc[1] = _mm512_srai_epi16(_mm512_unpackhi_epi8(v, v), 8);
		h.mn[0] = h.sc[0]; /* what is taken off for `off` */
		h.mn[1] = h.sc[1];
	}
	return h;
}

/* The words that row l of the four weighs the sums of vectors 2 i and 2 i + 1 with, packed. */
ALWAYS __m512i weights_of(enum kind kind, const struct heads *h, size_t l, size_t i)
{
	const __m512i at = NIBBLES(kind) ?
		_mm512_setr_epi64(W(0), W(1), W(0), W(1), W(2), W(3), W(2), W(3)) :
		_mm512_setr_epi64(W(0), W(4), W(1), W(5), W(2), W(6), W(3), W(7));
	const size_t from = 8 * l + (NIBBLES(kind) ? 4 * i : 0);

	return _mm512_permutexvar_epi16(_mm512_add_epi16(at, _mm512_set1_epi16((short)from)),
		h->sc[NIBBLES(kind) ? 0 : i]);
}

/* Sums of the activations of sixteen blocks, or eight, in the order of the heads. */
ALWAYS void xsums_of(enum kind kind, const int16_t *xsum, __m512i xs[2])
{
	__m128i a = load128(xsum), b = blk_of(kind) == 16 ? load128(xsum + 8) : a;

	xs[0] = _mm512_broadcast_i32x4(a);
	xs[1] = _mm512_broadcast_i32x4(b);
}

/* ---- codes ---- */

/* How far the fifth bit of the codes of vector j, upper or lower half, is from its place. */
#define FIFTH(j, upper) ((4 - 4 * ((j) / 2) - 2 * (upper) - (j) % 2) & 63)

/* A half of the 256 of a row, as they lie: in vector j of it the blocks of 32 elements 4 h + j, and
 * two behind it, of nibbles; 64 elements from 128 h + 64 j on, of Q6_K. */
ALWAYS void super_codes(enum kind kind, const uint8_t *p, size_t h, __m512i w[2])
{
	const __m512i low4 = _mm512_set1_epi8(15);
	__m512i v, high;

	if (kind == Q6_K) {
		high = _mm512_broadcast_i64x4(load256(p + 128 + 32 * h));
		v = _mm512_loadu_si512(p + 64 * h);
		LOADED(v);
		w[0] = and_or(_mm512_rolv_epi64(high, _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2)),
			_mm512_set1_epi8(0x30), _mm512_and_si512(v, low4));
		w[1] = and_or(_mm512_rolv_epi64(high, _mm512_setr_epi64(0, 0, 0, 0, 62, 62, 62, 62)),
			_mm512_set1_epi8(0x30), _mm512_and_si512(_mm512_srli_epi16(v, 4), low4));
		return;
	}
	v = _mm512_loadu_si512(p + (kind == Q4_K ? 16 : 48) + 64 * h);
	LOADED(v);
	w[0] = _mm512_and_si512(v, low4);
	w[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low4);
	if (kind != Q5_K)
		return;
	high = _mm512_broadcast_i64x4(load256(p + 16));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const int j = 2 * (int)h + i;

		w[i] = and_or(_mm512_rolv_epi64(high, _mm512_setr_epi64(FIFTH(j, 0), FIFTH(j, 0),
			FIFTH(j, 0), FIFTH(j, 0), FIFTH(j, 1), FIFTH(j, 1), FIFTH(j, 1), FIFTH(j, 1))),
			_mm512_set1_epi8(16), w[i]);
	}
}

/* ---- sums ---- */

/* Dword n of the 16 bytes of each row, of which v has four rows a vector: a lane per row. */
ALWAYS __m512i dwords_of(const __m512i v[4], const int n)
{
	__m512i a[2];

#pragma GCC unroll 2
	for (size_t i = 0; i < 2; i++)
		a[i] = n / 2 ? _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]) :
			_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
	return n % 2 ? _mm512_unpackhi_epi64(a[0], a[1]) : _mm512_unpacklo_epi64(a[0], a[1]);
}

/* d in the lower half of a row's lane, dmin in the upper one. Of nibbles both begin the head, of
 * the others they are what ends 256 elements. */
ALWAYS __m512i super_d(enum kind kind, const uint8_t *p, size_t row_bytes, const __m512i head[4])
{
	__m512i end[4];

	if (NIBBLES(kind))
		return dwords_of(head, 0);
	for (size_t j = 0; j < 4; j++)
		end[j] = four16(p + 4 * j * row_bytes + bytes256(kind) - 16, row_bytes);
	return _mm512_srli_epi32(dwords_of(end, 3), 16);
}

/* Places where 256 elements of sixteen rows ask for others: in the heads and the sums of each four
 * rows, and where all is put together. */
#define IN_FOUR 17
#define IN_END 4

ALWAYS void ask_super(enum kind kind, struct asks *asks, size_t k, __m512i *v)
{
	ask_nth(asks, bytes256(kind) / 4, k, 4 * IN_FOUR + IN_END, v);
}

/* Half h of a row, of nibbles or Q6_K, with a token's activations at x, or xv if they are kept: on
 * with the sixteen lanes of its sum, the 16-bit words of which k weighs. */
ALWAYS void half_with(enum kind kind, __m512i w[2], size_t row, size_t h, const int8_t *x,
	const __m512i *xv, __m512i k, __m512i *s, struct asks *asks, const uint8_t **next,
	size_t row_bytes)
{
	const __m512i zero = _mm512_setzero_si512();
	const size_t at = 4 * row + 2 * h, ask = at + row / 4 + 1; /* heads come between fours */
	__m512i v[2], sum;

	if (asks)
		ask_super(kind, asks, ask, &w[0]);
	v[0] = xv ? _mm512_dpbusd_epi32(zero, w[0], xv[0]) : dot(zero, w[0], x);
	if (asks)
		next_lines(next, row_bytes, bytes256(kind), at, 64, &w[1]);
	v[1] = xv ? _mm512_dpbusd_epi32(zero, w[1], xv[1]) : dot(zero, w[1], x + 64);
	sum = _mm512_packs_epi32(v[0], v[1]);
	if (asks)
		ask_super(kind, asks, ask + 1, &sum);
	*s = h ? _mm512_dpwssd_epi32(*s, sum, k) : _mm512_madd_epi16(sum, k);
	if (asks)
		next_lines(next, row_bytes, bytes256(kind), at + 1, 64, s);
}

/* The j-th four of the rows of nibbles or Q6_K, at p, with heads h: to lane 4 l + i of b[t][j] a
 * quarter of the sum of row i. */
ALWAYS void four_of_halves(enum kind kind, const uint8_t *p, size_t row_bytes, size_t j,
	const struct heads *h, size_t i, const struct gv_in *in, size_t n_tok, __m512i b[GV_TOK][4],
	struct asks *asks, const uint8_t **next)
{
	__m512i s[GV_TOK][4], w[2], xv[4];

#pragma GCC unroll 4
	for (size_t q = 0; q < 4; q++) {
		xv[q] = _mm512_loadu_si512(in->x + i + 64 * q);
		LOADED(xv[q]);
	}
#pragma GCC unroll 4
	for (size_t l = 0; l < 4; l++) {
#pragma GCC unroll 2
		for (size_t half = 0; half < 2; half++) {
			const __m512i k = weights_of(kind, h, l, half);

			super_codes(kind, p, half, w);
			if (half)
				step_rows(&p, row_bytes);
			for (size_t t = 0; t < n_tok; t++)
				half_with(kind, w, 4 * j + l, half, in->x + t * in->xp + i + 128 * half,
					n_tok == 1 ? xv + 2 * half : NULL, k, &s[t][l], t ? NULL : asks, next,
					row_bytes);
		}
	}
	for (size_t t = 0; t < n_tok; t++)
		b[t][j] = sums_of_four(s[t]);
}

/* 256 elements of the sixteen rows at p with those of n_tok tokens, added to acc. */
ALWAYS void super_across(enum kind kind, const uint8_t *p, size_t row_bytes, size_t i,
	const struct gv_in *in, size_t n_tok, VI acc[GV_TOK], struct asks *asks, const uint8_t **next)
{
	const size_t blk = blk_of(kind), end = 4 * IN_FOUR;
	const uint8_t *row = p;
	__m512i head[4], m[GV_TOK][4], b[GV_TOK][4], d;

#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		struct heads h = heads_of(kind, row, row_bytes, &head[j]);

		ask_super(kind, asks, IN_FOUR * j, &h.sc[0]);
		for (size_t t = 0; t < n_tok; t++) {
			__m512i xs[2];

			xsums_of(kind, in->sum + (t * in->np + i) / blk, xs);
			m[t][j] = _mm512_madd_epi16(h.mn[0], xs[0]);
			if (blk == 16)
				m[t][j] = _mm512_dpwssd_epi32(m[t][j], h.mn[1], xs[1]);
		}
		four_of_halves(kind, row, row_bytes, j, &h, i, in, n_tok, b, asks, next);
		step_rows(&row, 4 * row_bytes);
	}
	d = super_d(kind, p, row_bytes, head);
	ask_super(kind, asks, end, &d);
	for (size_t t = 0; t < n_tok; t++) {
		const float dx = in->d[(t * in->np + i) / 256];
		__m512i sum = by_fours(lanes_of_four(b[t])), min = sums_of_four(m[t]);

		for (size_t k = 1; t == 0 && k < IN_END; k++)
			ask_super(kind, asks, end + k, k % 2 ? &sum : &min);
		if (min_of(kind))
			acc[t] = vf_exact_min(acc[t], sum, vf_halves(d, 0, 1), min, vf_halves(d, 16, 1), dx);
		else
			acc[t] = vf_exact(acc[t], _mm512_sub_epi32(sum,
				_mm512_mullo_epi32(min, _mm512_set1_epi32(off_of(kind)))), vf_halves(d, 0, 1), dx);
	}
}

/* Scales of IQ4_XS, of which heads hold upper and lower bits: to lane 4 l + i of k[j][h] that of
 * block 4 h + l of row 4 j + i. */
ALWAYS void iq4_xs_scales(const __m512i head[4], __m512i k[4][2])
{
	const __m512i l = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const __m512i upper = dwords_of(head, 0), lower = dwords_of(head, 1);

#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		const __m512i at = bytes16(j, 4 + j, 8 + j, 12 + j);
		const __m512i u = _mm512_permutexvar_epi32(at, upper);
		const __m512i v = _mm512_permutexvar_epi32(at, lower);

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			const __m512i from = _mm512_add_epi32(l, _mm512_set1_epi32(4 * h));
			const __m512i by2 = _mm512_add_epi32(_mm512_slli_epi32(from, 1), _mm512_set1_epi32(12));
			const __m512i low = _mm512_and_si512(_mm512_set1_epi32(15),
				_mm512_srlv_epi32(v, _mm512_slli_epi32(from, 2)));
			const __m512i high = _mm512_srlv_epi32(u, by2);

			k[j][h] = _mm512_sub_epi32(and_or(high, _mm512_set1_epi32(0x30), low),
				_mm512_set1_epi32(32));
		}
	}
}

/* Where sums of the blocks of either half start: a quarter of what is taken off in each lane. */
ALWAYS void iq4_xs_starts(const int16_t *xsum, __m512i start[2])
{
	const __m512i l = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const __m512i quarter = _mm512_set1_epi32(-off_of(IQ4_XS) / 4);
	const __m512i x = _mm512_cvtepi16_epi32(_mm256_castsi128_si256(load128(xsum)));

	for (int h = 0; h < 2; h++)
		start[h] = _mm512_mullo_epi32(quarter,
			_mm512_permutexvar_epi32(_mm512_add_epi32(l, _mm512_set1_epi32(4 * h)), x));
}

/* As super_across, of IQ4_XS. */
ALWAYS void iq4_xs_across(const uint8_t *p, size_t row_bytes, size_t i, const struct gv_in *in,
	size_t n_tok, VI acc[GV_TOK], struct asks *asks, const uint8_t **next)
{
	const __m512i low4 = _mm512_set1_epi8(15), table = _mm512_broadcast_i32x4(load128(iq4_table));
	__m512i head[4], k[4][2], start[GV_TOK][2], b[GV_TOK][4];
	const uint8_t *row = p;

	for (size_t j = 0; j < 4; j++)
		head[j] = four16(p + 4 * j * row_bytes, row_bytes);
	iq4_xs_scales(head, k);
	for (size_t j = 0; j < 4; j++)
		ask_nth(asks, bytes256(IQ4_XS) / 4, 36 + j, 40, &k[j][1]);
	for (size_t t = 0; t < n_tok; t++)
		iq4_xs_starts(in->sum + (t * in->np + i) / 32, start[t]);
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		__m512i s[GV_TOK][2][4];

#pragma GCC unroll 8
		for (size_t r = 0; r < 8; r++) { /* a half of a row */
			const size_t l = r / 2, h = r % 2;
			__m512i v = _mm512_loadu_si512(row + 8 + 64 * h), w0, w1;

			LOADED(v);
			w0 = _mm512_shuffle_epi8(table, _mm512_and_si512(v, low4));
			w1 = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low4));
			for (size_t t = 0; t < n_tok; t++) {
				const int8_t *x = in->x + t * in->xp + i + 128 * h;

				s[t][h][l] = dot(start[t][h], w0, x);
				if (t == 0)
					ask_nth(asks, bytes256(IQ4_XS) / 4, 9 * j + r, 40, &s[t][h][l]);
				s[t][h][l] = dot(s[t][h][l], w1, x + 64);
				if (t == 0)
					next_lines(next, row_bytes, bytes256(IQ4_XS), 8 * j + r, 32, &s[t][h][l]);
			}
			if (h)
				step_rows(&row, row_bytes);
		}
		for (size_t t = 0; t < n_tok; t++)
			b[t][j] = _mm512_add_epi32(_mm512_mullo_epi32(sums_of_four(s[t][0]), k[j][0]),
				_mm512_mullo_epi32(sums_of_four(s[t][1]), k[j][1]));
		ask_nth(asks, bytes256(IQ4_XS) / 4, 9 * j + 8, 40, &b[0][j]);
	}
	for (size_t t = 0; t < n_tok; t++)
		acc[t] = vf_exact(acc[t], by_fours(lanes_of_four(b[t])),
			vf_halves(dwords_of(head, 0), 0, 1), in->d[(t * in->np + i) / 256]);
}
