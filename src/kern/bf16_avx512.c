/* bf16_avx512.c - kern_bf16 of kern.h with the instruction of AVX-512 BF16, for kern_avx512.c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kern/table.h"

typedef __m512 L;
typedef __m512bh W;
#define LANES 16

static inline L lzero(void) { return _mm512_setzero_ps(); }
static inline L lload(const float *p) { return _mm512_loadu_ps(p); }
static inline void lstore(float *p, L v) { _mm512_storeu_ps(p, v); }

/* The instruction itself does not look at the control word; the trees do. */
#define HAVE_FTZ
static inline unsigned ftz_on(void)
{
	unsigned was = _mm_getcsr();

	_mm_setcsr(was | 0x8040);
	return was;
}

static inline void ftz_off(unsigned was) { _mm_setcsr(was); }

#define HAVE_DOT
#define DOT_X 2

static inline void dot_x(const float *x, uint8_t *out)
{
	__m512bh v = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));

	memcpy(out, &v, 64);
}

static inline W dot_w(const uint8_t *p) { return (W)_mm512_loadu_si512(p); }

static inline L dot_add(W w, const uint8_t *x, L acc)
{
	return _mm512_dpbf16_ps(acc, w, (__m512bh)_mm512_loadu_si512(x));
}

#include "kern/tree8.h"

static inline void vsum8(const float (*v)[16], float out[8])
{
	__m256 s[8];

	for (int i = 0; i < 8; i++)
		s[i] = _mm256_add_ps(_mm256_loadu_ps(v[i]), _mm256_loadu_ps(v[i] + 8));
	tree8(s, out);
}

/* Of a and b, a line each: x[l] + x[l + step] of a where bit `step` of the lane is 0, of b where it is 1. */
static inline L fold(L a, L b, int step)
{
	L own, other;

	switch (step) {
	case 8:
		own = _mm512_mask_blend_ps(0xff00, a, b);
		other = _mm512_shuffle_f32x4(a, b, 0x4e);
		break;
	case 4:
		own = _mm512_mask_blend_ps(0xf0f0, a, b);
		other = _mm512_mask_blend_ps(0xf0f0, b, a);
		other = _mm512_castpd_ps(_mm512_permutex_pd(_mm512_castps_pd(other), 0x4e));
		break;
	case 2:
		own = _mm512_mask_blend_ps(0xcccc, a, b);
		other = _mm512_shuffle_ps(a, b, 0x4e);
		break;
	default:
		own = _mm512_mask_blend_ps(0xaaaa, a, b);
		other = _mm512_permute_ps(_mm512_mask_blend_ps(0xaaaa, b, a), 0xb1);
	}
	return _mm512_add_ps(own, other);
}

#define DOT_R 4
#define DOT_T 4
#define PART_16BIT 2048

/* The trees of a whole tile: folded in two again and again, lane i is what acc[i] adds up to. */
#define HAVE_DOT_OUT
static inline __attribute__((always_inline)) void dot_out(const L *acc, size_t nr, size_t nt, float *y,
	size_t ys)
{
	float sums[16][16] __attribute__((aligned(64))), out[16];
	L f[16];

	if (nr * nt < 16) {
		for (size_t k = 0; k < nr * nt; k++)
			lstore(sums[k], acc[k]);
		for (size_t k = nr * nt; k % 8; k++)
			lstore(sums[k], lzero());
		for (size_t k = 0; k < nr * nt; k += 8)
			vsum8((const float (*)[16])sums + k, out + k);
		for (size_t t = 0; t < nt; t++)
			memcpy(y + t * ys, out + t * nr, nr * 4);
		return;
	}
	memcpy(f, acc, sizeof f);
	for (int step = 8; step; step /= 2)
		for (int i = 0; i < step; i++)
			f[i] = fold(f[i], f[i + step], step);
	_mm_storeu_ps(y, _mm512_castps512_ps128(f[0]));
	_mm_storeu_ps(y + ys, _mm512_extractf32x4_ps(f[0], 1));
	_mm_storeu_ps(y + 2 * ys, _mm512_extractf32x4_ps(f[0], 2));
	_mm_storeu_ps(y + 3 * ys, _mm512_extractf32x4_ps(f[0], 3));
}

#include "kern/dot16.h"
_Static_assert(DOT_R == 4 && DOT_T == 4, "a tile has as many sums as a vector has lanes");

const struct kern_bf16 bf16_avx512 = { dot_bytes, dot_lay, dot_gemm };
#else
typedef int bf16_avx512_unused; /* ISO C wants a translation unit to declare something */
#endif
