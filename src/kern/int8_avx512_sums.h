/* int8_avx512_sums.h - how the integer sums of a tile's blocks are weighed, and become floats. */

/* How a tile weighs its blocks' sums: by integers, with integer minima or without, or by floats. */
enum by { INTS, INTS_MIN, FLOATS, FLOATS_MIN };

/* Of pairs of 16-bit integers in sixteen lanes, which do not begin g, the lower or the upper ones
 * as 32 bits: those that lie in upper halves, two bytes before or not. */
ALWAYS __m512i one_of_pairs(const struct gm *g, const void *at, size_t odd)
{
	const uint8_t *p = (const uint8_t *)g + ((const uint8_t *)at - (const uint8_t *)g);

	return _mm512_srai_epi32(vi_load(p - 2 * (1 - odd)), 16);
}

/* acc with the sums of group b of 256 elements: u of products, v of minima. */
ALWAYS __m512i with_group(const enum by by, const struct gm *g, size_t b, size_t k, __m512i acc,
	__m512i u, __m512i v, float d)
{
	switch (by) {
	case INTS: return vf_exact(acc, u, vi_load(g->dt[b][k]), d);
	case INTS_MIN: return vf_exact_min(acc, u, vi_load(g->dt[b][k]), v, vi_load(g->dmt[b][k]), d);
	case FLOATS: return vf_group(acc, u, d);
	default: return vf_group_min(acc, u, v, d);
	}
}
