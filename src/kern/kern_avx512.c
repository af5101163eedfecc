/* kern_avx512.c - AVX-512 F/BW/VL/DQ: 16 lanes in one register. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#include "kern/tree8.h"

typedef __m512 V;

static inline V vzero(void) { return _mm512_setzero_ps(); }
static inline V vset(float f) { return _mm512_set1_ps(f); }
static inline V vload(const float *p) { return _mm512_loadu_ps(p); }
static inline void vstore(float *p, V v) { _mm512_storeu_ps(p, v); }
static inline V vfma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V vmul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V vsub(V a, V b) { return _mm512_sub_ps(a, b); }

#define HAVE_VSOME
static inline V vsome(V v, uint32_t bits, float a)
{
	return _mm512_mask_add_ps(v, (__mmask16)bits, v, _mm512_set1_ps(a));
}

#define HAVE_VMAX
static inline V vmax(V a, V b) { return _mm512_max_ps(a, b); } /* b where one is a NaN */

static inline V vbytes(__m128i q)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

static inline V vi8(const int8_t *p)
{
	return vbytes(_mm_loadu_si128((const __m128i *)p));
}

static inline V vlo(const uint8_t *p)
{
	__m128i q = _mm_and_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(15));

	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q));
}

static inline V vhi(const uint8_t *p)
{
	__m128i q = _mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), 4);

	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(q, _mm_set1_epi8(15))));
}

static inline V vlotab(const uint8_t *p, const int8_t *t)
{
	__m128i q = _mm_and_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(15));

	return vbytes(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)t), q));
}

static inline V vhitab(const uint8_t *p, const int8_t *t)
{
	__m128i q = _mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), 4);

	q = _mm_and_si128(q, _mm_set1_epi8(15));
	return vbytes(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)t), q));
}

static inline V vf16(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline V vbf16(const void *p)
{
	__m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

	return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

static inline float half(uint16_t h) { return _cvtsh_ss(h); }

static inline float vsum(V v)
{
	__m256 s = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
	return _mm_cvtss_f32(q);
}

/* Two at a time: the sums of lanes l and l+8, then +4, +2, +1, of both in one vector. */
static inline V two(V a, V b, int step)
{
	switch (step) {
	case 8:
		return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	case 4: /* 128-bit lanes of a: 0 1 of the first, 2 3 of the second */
		return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
	case 2:
		return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
	default:
		return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
	}
}

/* Lane i: vsum(a[i]). After the steps of 8 and 4 the 128-bit lane k of c[j] has a[4 j + k], so that
 * the last two steps gather a[4 j + k] of j = 0..3 in lane k: a transposition puts them in order. */
#define HAVE_VSUM16
static inline V vsum16(const V a[16])
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	V c[4];

	for (int j = 0; j < 4; j++)
		c[j] = two(two(a[4 * j], a[4 * j + 1], 8), two(a[4 * j + 2], a[4 * j + 3], 8), 4);
	return _mm512_permutexvar_ps(order, two(two(c[0], c[1], 2), two(c[2], c[3], 2), 1));
}

static inline void vsum8(const float (*v)[16], float out[8])
{
	__m256 s[8];

	for (int i = 0; i < 8; i++)
		s[i] = _mm256_add_ps(_mm256_loadu_ps(v[i]), _mm256_loadu_ps(v[i] + 8));
	tree8(s, out);
}

static int supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

#include "kern/table.h"

static const struct kern_bf16 *best_bf16(void)
{
	return __builtin_cpu_supports("avx512bf16") ? &bf16_avx512 : kern_avx2.bf16();
}

#define KERN_BF16 best_bf16
#define HAVE_VBF16
#define HAVE_VSUM8
#define ATT_ACC 16
#define ATT_MANY 16
#define VKEEP(v) __asm__("" : "+v"(v))
#define TILE_R 4
#define TILE_T 4
#define KERN_NAME "avx512"
#define KERN_TABLE kern_avx512
#define KERN_SUPPORTED supported
#include "kern/body.h"

const struct kern kern_amx = KERN_ROW("amx", amx_supported); /* its matrices are of integers */
#else
typedef int kern_avx512_unused; /* ISO C wants a translation unit to declare something */
#endif
