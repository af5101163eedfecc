/*
 * int8_avx2_wide.h - rows of types with integer scales, read as they lie against one token or a
 * few: the sums of 256 products are left in eight lanes, which are added up for eight rows at once.
 */

#define WIDE(kind) (exact_of(kind) && !UNPACKED(kind))

/* ---- sums of lanes of eight rows ---- */

/* a's halves added up, then b's */
static inline __m256i both_halves(__m256i a, __m256i b)
{
	return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
		_mm256_permute2x128_si256(a, b, 0x31));
}

/* Lanes of two rows: each one's four added up in pairs. */
static inline __m256i by_twos(__m256i a, __m256i b)
{
	return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* Lane r: the lanes of s[r] added up. */
static inline VI vi_sums(const int32_t s[8][8])
{
	__m256i v[8], a[4];

	for (int i = 0; i < 8; i++) {
		v[i] = vi_load(s[i]);
		LOADED(v[i]);
	}
	for (int i = 0; i < 4; i++)
		a[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
			_mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	return both_halves(by_twos(a[0], a[1]), by_twos(a[2], a[3]));
}

/* The even lanes of s[r] added up, and the odd ones. */
static inline void vi_two_sums(const int32_t s[8][8], VI *sum, VI *m)
{
	__m256i v[8];
	__m256 a, b;

	for (int i = 0; i < 8; i++) {
		v[i] = vi_load(s[i]);
		LOADED(v[i]);
	}
	a = _mm256_castsi256_ps(both_halves(by_twos(v[0], v[1]), by_twos(v[4], v[5])));
	b = _mm256_castsi256_ps(both_halves(by_twos(v[2], v[3]), by_twos(v[6], v[7])));
	*sum = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
	*m = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
}

/* ---- points ---- */

/* 32 codes, j < 8, of 256 elements at p: magnitudes, or what is added to and weighed by itself. */
ALWAYS __m256i point_codes(enum kind kind, const uint8_t *p, const struct numbers *n, size_t j)
{
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303);
	const struct grid_bytes *g = &kern_grid_bytes;
	const uint64_t *g8 = kind == IQ2_XXS ? g->iq2_xxs : kind == IQ2_XS ? g->iq2_xs :
		kind == IQ2_S ? g->iq2_s : g->iq1;
	const uint32_t *g4 = kind == IQ3_XXS ? g->iq3_xxs : g->iq3_s;
	const uint8_t *b = p + 2 + 8 * j;
	const uint16_t *at = n->at + (kind == IQ3_S ? 8 : 4) * j;
	__m256i v;

#define N(i) (kind == IQ2_XXS || kind == IQ3_XXS ? b[i] : at[i])
	if (kind == IQ3_XXS || kind == IQ3_S)
		return _mm256_setr_epi32((int)g4[N(0)], (int)g4[N(1)], (int)g4[N(2)], (int)g4[N(3)],
			(int)g4[N(4)], (int)g4[N(5)], (int)g4[N(6)], (int)g4[N(7)]);
	v = _mm256_setr_epi64x((long long)g8[N(0)], (long long)g8[N(1)], (long long)g8[N(2)],
		(long long)g8[N(3)]);
#undef N
	if (kind == IQ1_M)
		v = _mm256_add_epi8(v, _mm256_shuffle_epi8(_mm256_set1_epi32((int)rd32(n->minus + 4 * j)),
			spread));
	return v;
}

/* Of 256 elements at p, for n_tok tokens. */
ALWAYS void point_lanes(enum kind kind, const uint8_t *p, const struct numbers *n, const int8_t *x,
	size_t xp, const int16_t *xsum, size_t n_tok, int32_t *out, size_t os)
{
	const __m256i even = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13,
		2, 3, 6, 7, 10, 11, 14, 15));
	const size_t sp = xp / blk_of(kind);
	const uint8_t *signs = signs_at(kind, p, n);
	__m256i sc = point_scales(kind, p), k, s[GV_TOK];

	k = blk_of(kind) == 16 ? _mm256_permute4x64_epi64(_mm256_shuffle_epi8(sc, even), 0xd8) :
		_mm256_permute4x64_epi64(sc, 0x44);
	for (size_t t = 0; t < n_tok; t++) {
		s[t] = _mm256_setzero_si256();
		if (kind == IQ1_S)
			s[t] = wide128(_mm_madd_epi16(shift_words(p, sc), load128(xsum + t * sp)));
		if (kind == IQ1_M)
			s[t] = _mm256_madd_epi16(sc, _mm256_slli_epi16(load256(xsum + t * sp), 4));
		if (kind == IQ1_M)
			s[t] = _mm256_sub_epi32(_mm256_setzero_si256(), s[t]);
	}
#pragma GCC unroll 8
	for (size_t j = 0; j < 8; j++) {
		__m256i w = point_codes(kind, p, n, j), kj = each(k, j), minus = w;

		if (SIGNED(kind))
			minus = bit_mask(rd32(signs + 4 * j));
		for (size_t t = 0; t < n_tok; t++) {
			__m256i v = load256(x + t * xp + 32 * j);

			if (SIGNED(kind))
				v = _mm256_sub_epi8(_mm256_xor_si256(v, minus), minus);
			s[t] = _mm256_add_epi32(s[t], _mm256_madd_epi16(_mm256_maddubs_epi16(w, v), kj));
		}
	}
	for (size_t t = 0; t < n_tok; t++)
		vi_store(out + t * os, s[t]);
}

/* ---- ternary types: twice the sum of (q - 1) x, because their d_unit is a half ---- */

ALWAYS __m256i twice_less(__m256i pairs, const int16_t *xsum)
{
	__m128i m = _mm_madd_epi16(load128(xsum), _mm_set1_epi16(2));

	return _mm256_sub_epi32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(2)), wide128(m));
}

ALWAYS __m256i tq2_0_lanes(const uint8_t *p, const int8_t *x, const int16_t *xsum)
{
	const __m256i two = _mm256_set1_epi8(3);
	__m256i s = _mm256_setzero_si256(), u = s;

#pragma GCC unroll 2
	for (size_t h = 0; h < 2; h++, x += 128) {
		__m256i v = load256(p + 32 * h);

		LOADED(v);
		s = _mm256_add_epi16(s, _mm256_maddubs_epi16(_mm256_and_si256(v, two), load256(x)));
		u = _mm256_add_epi16(u, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(v, 2), two),
			load256(x + 32)));
		s = _mm256_add_epi16(s, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(v, 4), two),
			load256(x + 64)));
		u = _mm256_add_epi16(u, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(v, 6), two),
			load256(x + 96)));
	}
	return twice_less(_mm256_add_epi16(s, u), xsum);
}

/* Digits to base 3 of a byte b as a fraction of 256: the first is the whole part of 3 b, 1 from 86
 * on and 2 from 171 on, and the others come likewise out of what is left. b - 128 is kept, so that
 * it compares: tripled it is again what is left, less 128. Here: sums with the first digits, in
 * pairs. */
ALWAYS __m256i digit_pairs(__m256i b, __m256i x)
{
	__m256i d = _mm256_sub_epi8(_mm256_setzero_si256(),
		_mm256_cmpgt_epi8(b, _mm256_set1_epi8(85 - 128)));

	return _mm256_maddubs_epi16(_mm256_sub_epi8(d,
		_mm256_cmpgt_epi8(b, _mm256_set1_epi8(170 - 128))), x);
}

ALWAYS __m256i tripled(__m256i b)
{
	return _mm256_add_epi8(b, _mm256_add_epi8(b, b));
}

ALWAYS __m256i tq1_0_lanes(const uint8_t *p, const int8_t *x, const int16_t *xsum)
{
	const __m256i top = _mm256_set1_epi8(-128);
	__m256i a = _mm256_xor_si256(load256(p), top), s = _mm256_setzero_si256(), b;

	b = _mm256_inserti128_si256(_mm256_castsi128_si256(load128(p + 32)),
		_mm_cvtsi32_si128((int)rd32(p + 48)), 1);
	b = _mm256_xor_si256(b, top);
#pragma GCC unroll 5
	for (size_t t = 0; t < 5; t++) {
		s = _mm256_add_epi16(s, digit_pairs(a, load256(x + 64 * t)));
		s = _mm256_add_epi16(s, digit_pairs(b, load256(x + 64 * t + 32)));
		a = tripled(a);
		b = tripled(b);
	}
	return twice_less(s, xsum);
}

/* The same of two rows: what fills half a vector, 16 bytes and then 4 with all their digits, is
 * taken together. last: activations 240 to 255. */
ALWAYS void tq1_0_two(const uint8_t *p, const uint8_t *q, const int8_t *x, const int8_t *last,
	const int16_t *xsum, __m256i out[2])
{
	const __m256i top = _mm256_set1_epi8(-128), odd = _mm256_set1_epi16((short)0xff00);
	const __m256i power = _mm256_broadcastsi128_si256(_mm_setr_epi32(0x00010001, 0x00030003,
		0x00090009, 0x001b001b));
	__m256i a = _mm256_xor_si256(load256(p), top), b = _mm256_xor_si256(load256(q), top);
	__m256i both = _mm256_xor_si256(two16(p + 32, q + 32), top), s[3], h;

	h = _mm256_set_m128i(_mm_set1_epi32((int)rd32(q + 48)), _mm_set1_epi32((int)rd32(p + 48)));
	h = _mm256_or_si256(_mm256_and_si256(_mm256_mullo_epi16(_mm256_and_si256(h, odd), power), odd),
		_mm256_andnot_si256(odd, _mm256_mullo_epi16(h, power)));
	s[0] = s[1] = _mm256_setzero_si256();
	s[2] = digit_pairs(_mm256_xor_si256(h, top), _mm256_broadcastsi128_si256(load128(last)));
#pragma GCC unroll 5
	for (size_t t = 0; t < 5; t++) {
		__m256i v = load256(x + 64 * t), u = _mm256_broadcastsi128_si256(load128(x + 64 * t + 32));

		s[0] = _mm256_add_epi16(s[0], digit_pairs(a, v));
		s[1] = _mm256_add_epi16(s[1], digit_pairs(b, v));
		s[2] = _mm256_add_epi16(s[2], digit_pairs(both, u));
		a = tripled(a);
		b = tripled(b);
		both = tripled(both);
	}
	out[0] = twice_less(_mm256_add_epi16(s[0], wide128(_mm256_castsi256_si128(s[2]))), xsum);
	out[1] = twice_less(_mm256_add_epi16(s[1], wide128(_mm256_extracti128_si256(s[2], 1))), xsum);
}

/* ---- the others ---- */

ALWAYS __m256i weighed_lanes(enum kind kind, const struct codes *c, const __m256i *w,
	const struct scales *f, const int8_t *x, const int16_t *xsum)
{
	const int off = off_of(kind, c);
	__m256i s = weighed_sums(kind, c, w, f->k, x), m;

	if (!min_of(kind) && !off)
		return s;
	m = _mm256_madd_epi16(f->m, blk_of(kind) == 32 ? wide128(load128(xsum)) : load256(xsum));
	if (min_of(kind)) /* in turn */
		return _mm256_add_epi32(_mm256_unpacklo_epi32(s, m), _mm256_unpackhi_epi32(s, m));
	return _mm256_sub_epi32(s, _mm256_slli_epi32(m, off));
}

/* Row r of them, and the next as well if n_row is 2. */
ALWAYS void wide_row(enum kind kind, const struct codes *c, const struct part_rows *rows, size_t r,
	const size_t n_row, const struct gv_in *in, size_t n_tok)
{
	const size_t blk = blk_of(kind), bytes = bytes256(kind);
	const size_t xb = ARRANGED(kind) ? ARRANGED(kind) : 256;
	struct numbers n[GV_PART / 256];
	const uint8_t *p = wide_begin(kind, rows, r, n_row, n);
	struct asks asks = asks_now(*rows->asks);

	for (size_t i = 0; i < rows->n256; i++, p += bytes) {
		int32_t *out = rows->out + R * (R * i + r);
		const int8_t *x = in->x + xb * i;
		const int16_t *xsum = in->sum + 256 * i / blk;
		struct scales f;
		__m256i w[9];

		for (size_t k = 0; k < n_row; k++) {
			rows->halves[R * i + r + k] = super_halves(kind, c, p + k * rows->bytes);
			if (EVENLY(kind)) {
				ask_part(&asks, bytes, 0, 2);
				ask_more(&asks, bytes, i);
			}
		}
		if (POINTS(kind)) {
			point_lanes(kind, p, &n[i], x, in->xp, xsum, n_tok, out, rows->os);
			continue;
		}
		if (kind < TQ1_0) {
			ahead(p, bytes, rows->asked[r], rows->end);
			read_codes(kind, p, NULL, w);
			f = scales_at(kind, p);
		}
		for (size_t t = 0; t < n_tok; t++, x += in->xp, xsum += in->np / blk, out += rows->os) {
			__m256i s[2];

			if (kind == TQ1_0 && n_row == 2)
				tq1_0_two(p, p + rows->bytes, x, in->q + 256 * i + 240, xsum, s);
			for (size_t k = 0; k < n_row && !(kind == TQ1_0 && n_row == 2); k++)
				s[k] = kind == TQ1_0 ? tq1_0_lanes(p + k * rows->bytes, x, xsum) :
					kind == TQ2_0 ? tq2_0_lanes(p + k * rows->bytes, x, xsum) :
					weighed_lanes(kind, c, w, &f, x, xsum);
			for (size_t k = 0; k < n_row; k++)
				vi_store(out + R * k, s[k]);
		}
		for (size_t k = 0; k < n_row && EVENLY(kind); k++)
			ask_part(&asks, bytes, 1, 2);
	}
	*rows->asks = asks;
}
