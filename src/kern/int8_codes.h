/*
 * int8_codes.h - rows of quantised blocks as unsigned integer codes with their scales: one function
 * per type, compiled for each instruction set. Private to int8_*.c, which define half(uint16_t).
 *
 *	weight = scale * (code - off) - min                      scales of blocks in floating point
 *	weight = d * scale * (code - off) - dmin * min           integer scales under those of 256 elements
 *
 * `off` is a power of two (or 0) so that every code fits in a byte without a sign. Block layouts are
 * those of body.h, which has them drawn.
 */
#include <string.h>

#include "base/qtype.h"

#define ALWAYS static inline __attribute__((always_inline))

/* How far from what is used lies what is asked for, and what is asked for once more: the processor
 * forgets what it is asked for while it has enough to fetch. far 0: asked for once, at near; near
 * 0 as well: not so. */
struct asked { ptrdiff_t far, near; };

/* The next line to be asked for of rows that are asked for evenly, in the order of their addresses,
 * up to `to`. step: 64, or 0 when there is none; then `at` is anything. */
struct asks { const uint8_t *at, *to; size_t step; };

/* A part of one row, taken apart: places for its codes, scales and minima. Nothing is asked for
 * from `end` on. */
struct part { uint8_t *code; float *sc, *mn; const uint8_t *end; struct asked asked;
	struct asks *asks; };

/* A part of nr rows, n256 times 256 elements of each, how far ahead of each to ask, and where
 * results go: what lies as d and dmin of the k-th of row r to halves[R * k + r], and its R lanes
 * for token t to out[t * os + R * (R * k + r)]. */
struct part_rows { const uint8_t *p; size_t bytes, nr, n256; const struct asked *asked;
	struct asks *asks; const uint8_t *end; uint32_t *halves; int32_t *out; size_t os; };

#define GV_PART 8192 /* elements of a row at a time: longer ones have equal parts */
#define GV_TOK 4     /* tokens that share the unpacked codes */

/* Some of a call's activations: token t's are np, np / 256, np / blk behind token 0's. x: as
 * arrange (int8_few.h) made them of q, xp bytes a token. */
struct gv_in { const int8_t *q, *x; const float *d; const int16_t *sum; size_t np, xp; };

#define AHEAD 16384
#define AHEAD_NEAR 6144
#define AHEAD_ROW 1024 /* shorter rows come soon enough of themselves */

/* Asks the second-level cache for n bytes `far` behind p, if that is before `end`: the lines that
 * they begin, and if `all`, the one that they begin in. */
ALWAYS void ahead_at(const uint8_t *p, size_t n, ptrdiff_t far, const uint8_t *end, const int all)
{
#ifdef __AVX2__
	const char *at = (const char *)p + far;

	__asm__("" : "+r"(at)); /* one register, not one for each line */
	if (end && (ptrdiff_t)n + far <= end - p)
		for (size_t i = all ? 0 : -(uintptr_t)at % 64; i < n; i += 64)
			_mm_prefetch(at + i, _MM_HINT_T1);
#else
	(void)p, (void)n, (void)far, (void)end, (void)all;
#endif
}

/* Of the n bytes at p: rows of one or two kilobytes, used a row at a time, do not teach the
 * hardware to be early enough. */
ALWAYS void ahead(const uint8_t *p, size_t n, struct asked asked, const uint8_t *end)
{
	if (asked.far) {
		ahead_at(p, n, asked.far, end, 1);
		ahead_at(p, n, asked.near, end, 1);
	} else if (asked.near) {
		ahead_at(p, n, asked.near, end, 0);
	}
}

/* The same of sixteen rows, n bytes of each: what the processor may have dropped. */
ALWAYS void ask_again(const uint8_t *p, size_t row_bytes, ptrdiff_t far, size_t n)
{
	p += far;
#pragma GCC unroll 1
	for (size_t r = 0; r < 16; r++, p += row_bytes) {
		__asm__("" : "+r"(p)); /* or all addresses would be worked out where none is asked for */
		for (size_t i = 0; i < n + 63; i += 64)
			__builtin_prefetch(p + i, 0, 2);
	}
}

/* Where a row begins, or what is left to ask for: whether anything is. */
ALWAYS struct asks asks_now(struct asks a)
{
	a.step = a.at < a.to ? 64 : 0;
	return a;
}

ALWAYS void ask(struct asks *a)
{
#ifdef __AVX2__
	__asm__ volatile("prefetcht1 (%0)" : : "r"(a->at)); /* stays where it stands */
#endif
	a->at += a->step;
}

/* The k-th of n parts of so many lines, after *v is made and before it is used: what the compiler
 * is free to place it puts together, and asks that follow each other wait for each other. */
#ifdef __AVX512F__
ALWAYS void ask_nth(struct asks *a, size_t lines, size_t k, size_t n, __m512i *v)
{
#pragma GCC unroll 8
	for (size_t i = k * lines / n; i < (k + 1) * lines / n; i++) {
		__asm__ volatile("prefetcht1 (%1)" : "+v"(*v) : "r"(a->at));
		a->at += a->step;
	}
}
#endif

/* Lines to ask for while `bytes` bytes of rows are read, most of what they are: the rest is for
 * what is done with their sums. The k-th of n parts of them. */
#define ASK_BYTES(bytes) ((bytes) * 15 / 16)

ALWAYS void ask_part(struct asks *a, size_t bytes, size_t k, size_t n)
{
	const size_t lines = ASK_BYTES(bytes) / 64;

#pragma GCC unroll 8
	for (size_t i = k * lines / n; i < (k + 1) * lines / n; i++)
		ask(a);
}

/* One more in as many of the steps i as makes that right. */
ALWAYS void ask_more(struct asks *a, size_t bytes, size_t i)
{
	if (ASK_BYTES(bytes) % 64 + i % 4 * 16 >= 64)
		ask(a);
}

/* `bytes` bytes at p, behind which others are read, up to `most`: where they lie, or, if nothing is
 * known to be there, in room. */
ALWAYS const uint8_t *readable(const uint8_t *p, size_t bytes, size_t most, const uint8_t *end,
	uint8_t *room)
{
	if ((ptrdiff_t)most <= end - p)
		return p;
	memset(room, 0, most);
	return memcpy(room, p, bytes);
}

/* n elements (a multiple of the type's block): code [n], sc and mn [n / blk] floats, which are integers
 * where there are d and dmin besides (d_at). */
typedef void codes_fn(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn);

static inline uint16_t rd16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return v;
}

static void codes_q8_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32, p += 34) {
		*sc++ = half(rd16(p));
		for (int j = 0; j < 32; j++)
			code[i + (size_t)j] = p[2 + j] ^ 0x80;
	}
}

/* 32 codes out of 16 bytes: low nibbles, then high ones. */
static inline void nibbles(const uint8_t *restrict q, uint8_t *restrict code)
{
#ifdef __AVX2__
	__m128i v = _mm_loadu_si128((const __m128i *)q), m = _mm_set1_epi8(15);

	_mm_storeu_si128((__m128i *)code, _mm_and_si128(v, m));
	_mm_storeu_si128((__m128i *)(code + 16), _mm_and_si128(_mm_srli_epi16(v, 4), m));
#else
	for (int j = 0; j < 16; j++)
		code[j] = q[j] & 15;
	for (int j = 0; j < 16; j++)
		code[16 + j] = q[j] >> 4;
#endif
}

static void codes_q4_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32, p += 18) {
		*sc++ = half(rd16(p));
		nibbles(p + 2, code + i);
	}
}

static void codes_q4_1(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	for (size_t i = 0; i < n; i += 32, p += 20) {
		*sc++ = half(rd16(p));
		*mn++ = -half(rd16(p + 2));
		nibbles(p + 4, code + i);
	}
}

/* Adds 16 to code j where bit j of the 32 at h is set. */
static inline void fifth_bits(const uint8_t *restrict h, uint8_t *restrict code)
{
#ifdef __AVX2__
	const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
		0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	__m256i c = _mm256_loadu_si256((const __m256i *)code), b;
	int32_t bits;

	memcpy(&bits, h, 4);
	b = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), bit);
	b = _mm256_and_si256(_mm256_cmpeq_epi8(b, bit), _mm256_set1_epi8(16));
	_mm256_storeu_si256((__m256i *)code, _mm256_or_si256(c, b));
#else
	for (int j = 0; j < 32; j++)
		code[j] |= (uint8_t)((h[j >> 3] >> (j & 7) & 1) << 4);
#endif
}

static void codes_q5_0(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32, p += 22) {
		*sc++ = half(rd16(p));
		nibbles(p + 6, code + i);
		fifth_bits(p + 2, code + i);
	}
}

static void codes_q5_1(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	for (size_t i = 0; i < n; i += 32, p += 24) {
		*sc++ = half(rd16(p));
		*mn++ = -half(rd16(p + 2));
		nibbles(p + 8, code + i);
		fifth_bits(p + 4, code + i);
	}
}

#ifdef __AVX2__
/* The eight scales of Q4_K and Q5_K, then the eight minima: six bits each. */
static inline __m128i k_bytes(const uint8_t *p)
{
	/* scales 0-3, their last 4 of 8 bytes, minima 0-3, the same 4 bytes; then what carries the two high
	 * bits of the second and fourth group */
	const __m128i low = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m128i high = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
	const __m128i down = _mm_setr_epi32(0, 0, 0, 4), keep = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f,
		0x3f3f3f3f, 0x0f0f0f0f);
	__m128i v = _mm_loadu_si128((const __m128i *)p), b, h;

	b = _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi8(v, low), down), keep);
	h = _mm_and_si128(_mm_srli_epi32(_mm_shuffle_epi8(v, high), 2), _mm_set1_epi8(0x30));
	return _mm_or_si128(b, h);
}
#endif

/* The eight scales and minima of Q4_K and Q5_K. */
static inline void k_scales(const uint8_t *restrict p, float *restrict sc, float *restrict mn)
{
#ifdef __AVX2__
	__m128i b = k_bytes(p);

	_mm256_storeu_ps(sc, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)));
	_mm256_storeu_ps(mn, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))));
#else
	const uint8_t *s = p + 4;

	for (int j = 0; j < 4; j++) {
		sc[j] = (float)(s[j] & 63);
		mn[j] = (float)(s[j + 4] & 63);
		sc[j + 4] = (float)((s[j + 8] & 15) | (s[j] >> 6) << 4);
		mn[j + 4] = (float)(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
	}
#endif
}

static void codes_q4_k(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	for (size_t i = 0; i < n; i += 256, p += 144, sc += 8, mn += 8) {
		k_scales(p, sc, mn);
		for (size_t j = 0; j < 4; j++)
			for (size_t l = 0; l < 32; l++) {
				uint8_t q = p[16 + 32 * j + l];

				code[i + 64 * j + l] = q & 15;
				code[i + 64 * j + 32 + l] = q >> 4;
			}
	}
}

static void codes_q5_k(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	for (size_t i = 0; i < n; i += 256, p += 176, sc += 8, mn += 8) {
		const uint8_t *h = p + 16;

		k_scales(p, sc, mn);
		for (int j = 0; j < 4; j++) {
			uint8_t *c = code + i + 64 * (size_t)j;

			for (int l = 0; l < 32; l++) {
				uint8_t q = p[48 + 32 * j + l], b = (uint8_t)(h[l] >> 2 * j);

				c[l] = (uint8_t)((q & 15) | (b & 1) << 4);
				c[32 + l] = (uint8_t)(q >> 4 | (b & 2) << 3);
			}
		}
	}
}

static void codes_q6_k(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 210, sc += 16) {
		for (int j = 0; j < 16; j++)
			sc[j] = (float)(int8_t)p[192 + j];
		for (size_t b = 0; b < 2; b++) {
			const uint8_t *ql = p + 64 * b, *qh = p + 128 + 32 * b;
			uint8_t *c = code + i + 128 * b;

			for (int l = 0; l < 32; l++) {
				uint8_t lo = ql[l], hi = ql[32 + l], h = qh[l];

				c[l] = (uint8_t)((lo & 15) | (h & 3) << 4);
				c[32 + l] = (uint8_t)((hi & 15) | (h & 12) << 2);
				c[64 + l] = (uint8_t)(lo >> 4 | (h & 48));
				c[96 + l] = (uint8_t)(hi >> 4 | (h & 192) >> 2);
			}
		}
	}
}

static void codes_q2_k(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	for (size_t i = 0; i < n; i += 256, p += 84, sc += 16, mn += 16) {
		for (int j = 0; j < 16; j++) {
			sc[j] = (float)(p[j] & 15);
			mn[j] = (float)(p[j] >> 4);
		}
		for (size_t b = 0; b < 2; b++)
			for (size_t j = 0; j < 4; j++)
				for (size_t l = 0; l < 32; l++)
					code[i + 128 * b + 32 * j + l] = p[16 + 32 * b + l] >> 2 * j & 3;
	}
}

/* hmask u8[32], q u8[64], scales u8[12], d f16: 16 scales of six bits minus 32; a set bit of hmask
 * adds 4 to the two bits of q, and 4 is subtracted from all */
static void codes_q3_k(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 110, sc += 16) {
		const uint8_t *s = p + 96;

		for (int j = 0; j < 16; j++) {
			int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> 2 * (j / 4) & 3;

			sc[j] = (float)((low | high << 4) - 32);
		}
		for (size_t b = 0; b < 2; b++)
			for (size_t j = 0; j < 4; j++)
				for (size_t l = 0; l < 32; l++)
					code[i + 128 * b + 32 * j + l] = (uint8_t)((p[32 + 32 * b + l] >> 2 * j & 3) |
						(p[l] >> (4 * b + j) & 1) << 2);
	}
}

/* Sixteen values by nibble: those of the format plus its off. */
static inline void looked_up(const uint8_t *restrict q, const uint8_t table[16],
	uint8_t *restrict code)
{
#ifdef __AVX2__
	__m128i v = _mm_loadu_si128((const __m128i *)q), t = _mm_loadu_si128((const __m128i *)table);
	__m128i m = _mm_set1_epi8(15);

	_mm_storeu_si128((__m128i *)code, _mm_shuffle_epi8(t, _mm_and_si128(v, m)));
	_mm_storeu_si128((__m128i *)(code + 16),
		_mm_shuffle_epi8(t, _mm_and_si128(_mm_srli_epi16(v, 4), m)));
#else
	for (int j = 0; j < 16; j++) {
		code[j] = table[q[j] & 15];
		code[16 + j] = table[q[j] >> 4];
	}
#endif
}

static inline float mxfp4_scale(uint8_t e)
{
	uint32_t bits = e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23; /* 2^(e-128) */
	float f;

	memcpy(&f, &bits, 4);
	return f;
}

/* 0 0.5 1 1.5 2 3 4 6 and the same negative, twice, plus 16 */
static const uint8_t mxfp4_codes[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 };

static void codes_mxfp4(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32, p += 17) {
		*sc++ = mxfp4_scale(p[0]);
		looked_up(p + 1, mxfp4_codes, code + i);
	}
}

/* -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, plus 128 */
static const uint8_t iq4_table[16] = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197,
	217, 241 };

static void codes_iq4_nl(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 32, p += 18) {
		*sc++ = half(rd16(p));
		looked_up(p + 2, iq4_table, code + i);
	}
}

/* d f16, high bits u16, low nibbles u8[4], q u8[128]: eight scales of six bits minus 32 */
static void codes_iq4_xs(const uint8_t *restrict p, size_t n, uint8_t *restrict code,
	float *restrict sc, float *restrict mn)
{
	(void)mn;
	for (size_t i = 0; i < n; i += 256, p += 136) {
		unsigned high = rd16(p + 2);

		for (unsigned j = 0; j < 8; j++) {
			int s = (p[4 + j / 2] >> 4 * (j & 1) & 15) | (int)(high >> 2 * j & 3) << 4;

			*sc++ = (float)(s - 32);
			looked_up(p + 8 + 16 * j, iq4_table, code + i + 32 * j);
		}
	}
}

#include "kern/int8_low.h"

/* To add a type: its function above, its row here, its name in int8_type_ok (int8.c). */
static const struct codes {
	codes_fn *fn;
	uint8_t blk;       /* elements that share a scale: 32 or 16 */
	uint8_t bits;      /* that hold a code */
	uint8_t off_log2;  /* off = 1 << off_log2; 0 means none, 7 has codes of 8 bits */
	uint8_t has_min;   /* then off is none */
	uint8_t d_at;      /* where d lies in the bytes of 256 elements, and dmin behind it; or: */
#define NO_SUPER 255       /* scales are floats, there is no d */
#define SPREAD 254         /* d is spread over IQ1_M's scales */
	float d_unit;      /* d is that many of what lies there */
} codes[QT_MAX] = {
	[QT_Q8_0] = { codes_q8_0, 32, 8, 7, 0, NO_SUPER, 0 }, [QT_Q4_0] = { codes_q4_0, 32, 4, 3, 0, NO_SUPER, 0 },
	[QT_Q4_1] = { codes_q4_1, 32, 4, 0, 1, NO_SUPER, 0 }, [QT_Q5_0] = { codes_q5_0, 32, 5, 4, 0, NO_SUPER, 0 },
	[QT_Q5_1] = { codes_q5_1, 32, 5, 0, 1, NO_SUPER, 0 }, [QT_Q4_K] = { codes_q4_k, 32, 4, 0, 1, 0, 1 },
	[QT_Q5_K] = { codes_q5_k, 32, 5, 0, 1, 0, 1 }, [QT_Q6_K] = { codes_q6_k, 16, 6, 5, 0, 208, 1 },
	[QT_Q2_K] = { codes_q2_k, 16, 2, 0, 1, 80, 1 }, [QT_Q3_K] = { codes_q3_k, 16, 3, 2, 0, 108, 1 },
	[QT_MXFP4] = { codes_mxfp4, 32, 5, 4, 0, NO_SUPER, 0 },
	[QT_IQ4_NL] = { codes_iq4_nl, 32, 8, 7, 0, NO_SUPER, 0 }, [QT_IQ4_XS] = { codes_iq4_xs, 32, 8, 7, 0, 0, 1 },
	[QT_IQ2_XXS] = { codes_iq2_xxs, 32, 8, 7, 0, 0, 0.125f }, [QT_IQ2_XS] = { codes_iq2_xs, 16, 8, 7, 0, 0, 0.125f },
	[QT_IQ2_S] = { codes_iq2_s, 16, 8, 7, 0, 0, 0.125f }, [QT_IQ3_XXS] = { codes_iq3_xxs, 32, 8, 7, 0, 0, 0.25f },
	[QT_IQ3_S] = { codes_iq3_s, 32, 5, 4, 0, 0, 1 }, [QT_IQ1_S] = { codes_iq1_s, 32, 5, 4, 0, 0, 0.125f },
	[QT_IQ1_M] = { codes_iq1_m, 16, 5, 4, 0, SPREAD, 0.125f }, [QT_TQ1_0] = { codes_tq1_0, 32, 3, 1, 0, 52, 0.5f },
	[QT_TQ2_0] = { codes_tq2_0, 32, 3, 1, 0, 64, 0.5f }, [QT_Q1_0] = { codes_q1_0, 32, 3, 1, 0, NO_SUPER, 0 },
	[QT_Q2_0] = { codes_q2_0, 32, 3, 1, 0, NO_SUPER, 0 }, [QT_NVFP4] = { codes_nvfp4, 16, 5, 4, 0, NO_SUPER, 0 },
};

/* 1 if blocks have integer scales. */
ALWAYS int exact(const struct codes *c)
{
	return c->d_at != NO_SUPER;
}

/* The half float d of the 256 elements at p where it is SPREAD. */
static inline uint16_t spread_half(const uint8_t *p)
{
	const uint8_t *w = p + 48;

	return (uint16_t)(w[1] >> 4 | (w[3] & 0xf0) | (w[5] & 0xf0) << 4 | (w[7] & 0xf0) << 8);
}
