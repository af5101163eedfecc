/* kern_avx2.c - AVX2 + FMA + F16C: 16 lanes in two registers. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>

#include "kern/tree8.h"

typedef struct { __m256 a, b; } V;

/* A half of it, for the tiles of products. */
#define HAVE_LANES
#define LANES 8
typedef __m256 L;

static inline L lzero(void) { return _mm256_setzero_ps(); }
static inline L lload(const float *p) { return _mm256_loadu_ps(p); }
static inline void lstore(float *p, L v) { _mm256_storeu_ps(p, v); }
static inline L lfma(L x, L y, L z) { return _mm256_fmadd_ps(x, y, z); }
static inline L lf16(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

static inline L lbf16(const uint8_t *p)
{
	__m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}

static inline V vzero(void) { return (V){ _mm256_setzero_ps(), _mm256_setzero_ps() }; }
static inline V vset(float f) { return (V){ _mm256_set1_ps(f), _mm256_set1_ps(f) }; }
static inline V vload(const float *p) { return (V){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }

static inline void vstore(float *p, V v)
{
	_mm256_storeu_ps(p, v.a);
	_mm256_storeu_ps(p + 8, v.b);
}

static inline V vfma(V x, V y, V z)
{
	return (V){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}

static inline V vmul(V x, V y) { return (V){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
static inline V vsub(V x, V y) { return (V){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }

#define HAVE_VMAX
static inline V vmax(V x, V y) { return (V){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) }; }

static inline V vsigned(__m128i q)
{
	return (V){ _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))) };
}

static inline V vi8(const int8_t *p)
{
	return vsigned(_mm_loadu_si128((const __m128i *)p));
}

static inline V vbytes(__m128i q)
{
	return (V){ _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q)),
		_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(q, 8))) };
}

static inline V vlo(const uint8_t *p)
{
	return vbytes(_mm_and_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(15)));
}

static inline V vhi(const uint8_t *p)
{
	__m128i q = _mm_loadu_si128((const __m128i *)p);

	return vbytes(_mm_and_si128(_mm_srli_epi16(q, 4), _mm_set1_epi8(15)));
}

static inline V vlotab(const uint8_t *p, const int8_t *t)
{
	__m128i q = _mm_and_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(15));

	return vsigned(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)t), q));
}

static inline V vhitab(const uint8_t *p, const int8_t *t)
{
	__m128i q = _mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), 4);

	q = _mm_and_si128(q, _mm_set1_epi8(15));
	return vsigned(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)t), q));
}

static inline V vf16(const uint8_t *p)
{
	return (V){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
		_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16))) };
}

static inline V vbf16(const uint8_t *p) { return (V){ lbf16(p), lbf16(p + 16) }; }

static inline float half(uint16_t h) { return _cvtsh_ss(h); }

/* Lanes l and l+8 sit in the two registers: their sum is one addition. */
static inline float vsum(V v)
{
	__m256 s = _mm256_add_ps(v.a, v.b);
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
	return _mm_cvtss_f32(q);
}

static inline void vsum8(const float (*v)[16], float out[8])
{
	__m256 s[8];

	for (int i = 0; i < 8; i++)
		s[i] = _mm256_add_ps(_mm256_loadu_ps(v[i]), _mm256_loadu_ps(v[i] + 8));
	tree8(s, out);
}

#define HAVE_FTZ
static inline unsigned ftz_on(void)
{
	unsigned was = _mm_getcsr();

	_mm_setcsr(was | 0x8040);
	return was;
}

static inline void ftz_off(unsigned was) { _mm_setcsr(was); }

#define HAVE_DOT_W
typedef struct { L odd, even; } W;

static inline W dot_w(const uint8_t *p)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)p);

	return (W){ _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000))),
		_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)) };
}

static int supported(void)
{
	unsigned a, b, c, d; /* older clang cannot be asked for "f16c" by name */

	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

#define HAVE_VBF16
#define HAVE_VSUM8
#define TILE_R 4
#define TILE_T 3
#define DOT_R 3
#define DOT_T 3
#define PART 512 /* both halves of a part should find the activations in the L1 cache */
#define PART_16BIT 512
#define KERN_NAME "avx2"
#define KERN_TABLE kern_avx2
#define KERN_SUPPORTED supported
#include "kern/table.h"
#include "kern/body.h"
#else
typedef int kern_avx2_unused; /* ISO C wants a translation unit to declare something */
#endif
