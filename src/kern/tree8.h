/* tree8.h - eight sums at once for the x86 kernels: the last three steps of kern.h's tree. */
#ifndef KERN_TREE8_H
#define KERN_TREE8_H

#include <immintrin.h>

/* out[k] = tree of s[k]'s lanes: l + l+4, then +2, +1. */
static inline void tree8(const __m256 s[8], float out[8])
{
	__m256 h[4], q[2];

	for (int i = 0; i < 4; i++) /* lanes 0..3 of s[2i], then of s[2i+1] */
		h[i] = _mm256_add_ps(_mm256_permute2f128_ps(s[2 * i], s[2 * i + 1], 0x20),
			_mm256_permute2f128_ps(s[2 * i], s[2 * i + 1], 0x31));
	for (int i = 0; i < 2; i++) /* two lanes each of s[4i], s[4i+2]; s[4i+1], s[4i+3] */
		q[i] = _mm256_add_ps(_mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0x44),
			_mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0xee));
	h[0] = _mm256_add_ps(_mm256_shuffle_ps(q[0], q[1], 0x88), _mm256_shuffle_ps(q[0], q[1], 0xdd));
	/* 0 2 4 6, 1 3 5 7 */
	_mm256_storeu_ps(out, _mm256_permutevar8x32_ps(h[0], _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

#endif
