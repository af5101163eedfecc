/* int8_avx512_lanes.h - lanes of several vectors added up, or put into another order. */

#define W(i) ((i) * 0x0001000100010001) /* a 16-bit word four times */

/* (v & mask) | w, in the place of w, which is the one that is used but once */
static inline __m512i and_or(__m512i v, __m512i mask, __m512i w)
{
	return _mm512_ternarylogic_epi32(w, v, mask, 0xf8);
}

/* Four lanes a block: lane 4 l + i of the result is block l of vector i. */
static inline __m512i sums_of_four(const __m512i v[4])
{
	__m512i s = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]),
		_mm512_unpackhi_epi32(v[0], v[1]));
	__m512i t = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]),
		_mm512_unpackhi_epi32(v[2], v[3]));

	return _mm512_add_epi32(_mm512_unpacklo_epi64(s, t), _mm512_unpackhi_epi64(s, t));
}

/* Two vectors -> pairs of their lanes added up, which have to fit into 16 bits: products of words
 * do that where unpacking would use the ports that are short. */
static inline __m512i short_pairs(__m512i v, __m512i w)
{
	return _mm512_madd_epi16(_mm512_packs_epi32(v, w), _mm512_set1_epi16(1));
}

/* Pairs of neighbouring 128-bit lanes added up: those of v, then those of w. */
static inline __m512i lanes_of_two(__m512i v, __m512i w)
{
	return _mm512_add_epi32(_mm512_shuffle_i32x4(v, w, 0x88), _mm512_shuffle_i32x4(v, w, 0xdd));
}

/* Lane l of each b[j]: a quarter of the sums of the rows 4 j to 4 j + 3 -> all, in order. */
static inline __m512i lanes_of_four(const __m512i b[4])
{
	return lanes_of_two(lanes_of_two(b[0], b[1]), lanes_of_two(b[2], b[3]));
}

/* Lanes 4 l + i <-> l + 4 i. */
static inline __m512i by_fours(__m512i v)
{
	return _mm512_permutexvar_epi32(
		_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}

/* Two vectors of words, lane by lane, or of dwords, one after the other. */
static inline void words_in_turn(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = _mm512_unpacklo_epi16(v, w);
	o[1] = _mm512_unpackhi_epi16(v, w);
}

static inline void dwords_in_turn(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = _mm512_unpacklo_epi32(v, w);
	o[1] = _mm512_unpackhi_epi32(v, w);
}

/* Of each four lanes those that are even, of v, then of w; and the odd ones. */
ALWAYS void even_odd(__m512i v, __m512i w, __m512i o[2])
{
	o[0] = BITS(_mm512_shuffle_ps(PS(v), PS(w), 0x88));
	o[1] = BITS(_mm512_shuffle_ps(PS(v), PS(w), 0xdd));
}
