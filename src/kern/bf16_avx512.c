/* bf16_avx512.c - gemm_bf16 of kern.h with the instruction of AVX-512 BF16; kern_avx512.c calls it. */
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

#define DOT_R 4
#define DOT_T 4
#define PART_16BIT 2048
#include "kern/dot16.h"

void bf16_avx512(const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1, const float *x,
	size_t xs, size_t n_tok, float *y, size_t ys, float *scratch)
{
	dot_gemm(rows, row_bytes, n, r0, r1, x, xs, n_tok, y, ys, scratch);
}
#else
typedef int bf16_avx512_unused; /* ISO C wants a translation unit to declare something */
#endif
