/*
 * peak.c - see peak.h. The loops are chains of one instruction over enough registers to hide its latency;
 * an empty assembly statement that claims to change them keeps the compiler from thinking further.
 */
#include "kern/peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include "kern/amx.h"
#include "kern/table.h"
#endif

#define ROUND ((uint64_t)1 << 20)

typedef uint64_t pair __attribute__((vector_size(16)));

#if defined(__x86_64__)
/* Ten registers of type T, started at zero, each changed by STEP(acc) once an iteration. */
#define CHAINS(T, ZERO, STEP, N)                                                              \
	T a = ZERO, b = ZERO, c = ZERO, d = ZERO, f = ZERO, g = ZERO, h = ZERO, i = ZERO, j = ZERO, k = ZERO; \
	for (uint64_t r = 0; r < (N); r++) {                                                      \
		STEP(a); STEP(b); STEP(c); STEP(d); STEP(f);                                          \
		STEP(g); STEP(h); STEP(i); STEP(j); STEP(k);                                          \
		__asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(f), "+v"(g), "+v"(h), "+v"(i), \
			"+v"(j), "+v"(k));                                                                \
	}

#define FMA512(x) x = _mm512_fmadd_ps(x, one, one)
#define FMA256(x) x = _mm256_fmadd_ps(x, one, one)
#define DOT512(x) x = _mm512_dpbusd_epi32(x, one, one)
#define DOT256(x) x = _mm256_add_epi32(x, _mm256_madd_epi16(_mm256_maddubs_epi16(x, one), two))

#define BF512(x) x = _mm512_dpbf16_ps(x, one, one)

__attribute__((target("avx512f"))) static void fma512(uint64_t n)
{
	const __m512 one = _mm512_set1_ps(0.5f);

	CHAINS(__m512, _mm512_setzero_ps(), FMA512, n)
}

__attribute__((target("avx2,fma"))) static void fma256(uint64_t n)
{
	const __m256 one = _mm256_set1_ps(0.5f);

	CHAINS(__m256, _mm256_setzero_ps(), FMA256, n)
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void dot512(uint64_t n)
{
	const __m512i one = _mm512_set1_epi8(1);

	CHAINS(__m512i, _mm512_setzero_si512(), DOT512, n)
}

__attribute__((target("avx2"))) static void dot256(uint64_t n)
{
	const __m256i one = _mm256_set1_epi8(1), two = _mm256_set1_epi16(1);

	CHAINS(__m256i, _mm256_setzero_si256(), DOT256, n)
}

__attribute__((target("avx512f,avx512bf16"))) static void bf512(uint64_t n)
{
	const __m512bh one = (__m512bh)_mm512_set1_epi16(0x3f80);

	CHAINS(__m512, _mm512_setzero_ps(), BF512, n)
}

#define TILE_MACS (16 * 16 * 64)

/* Four registers of sums, each of 16 rows by 16 columns. */
__attribute__((target("amx-tile,amx-int8"))) static void tiles(uint64_t n)
{
	const struct shapes before = shapes_now();

	set_shapes(4, 64, 16);
	for (uint64_t r = 0; r < n; r++) {
		_tile_dpbssd(0, 4, 6);
		_tile_dpbssd(1, 4, 7);
		_tile_dpbssd(2, 5, 6);
		_tile_dpbssd(3, 5, 7);
	}
	shapes_back(&before);
}

static int has_fma512(void) { return __builtin_cpu_supports("avx512f"); }
static int has_fma256(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_dot512(void)
{
	return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

static int has_bf512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
}
#endif

/* Vectors of 128 bits as the compiler has them. */
typedef float four __attribute__((vector_size(16)));

static void four_at_once(uint64_t n)
{
	four x[8] = { { 0 } }, half = { 0.5f, 0.5f, 0.5f, 0.5f };

	for (uint64_t r = 0; r < n; r++) {
		for (int i = 0; i < 8; i++)
			x[i] = x[i] * half + half;
		__asm__ volatile("" : : "r"(x) : "memory");
	}
}

static int always(void)
{
	return 1;
}

/* Best first; each is of one kind. step: multiply-adds of an iteration. */
static const struct row {
	enum peak kind;
	const char *name;
	int (*supported)(void);
	void (*run)(uint64_t n);
	uint64_t step;
} rows[] = {
#if defined(__x86_64__)
	{ PEAK_INT8, "tdpbssd of 16 by 64 bytes", amx_supported, tiles, 4 * TILE_MACS },
	{ PEAK_INT8, "vpdpbusd of 512 bits", has_dot512, dot512, 10 * 64 },
	{ PEAK_INT8, "vpmaddubsw, vpmaddwd, vpaddd of 256 bits", has_fma256, dot256, 10 * 32 },
	{ PEAK_BF16, "vdpbf16ps of 512 bits", has_bf512, bf512, 10 * 32 },
	{ PEAK_BF16, "vfmadd of 512 bits", has_fma512, fma512, 10 * 16 },
	{ PEAK_BF16, "vfmadd of 256 bits", has_fma256, fma256, 10 * 8 },
	{ PEAK_FLOAT, "vfmadd of 512 bits", has_fma512, fma512, 10 * 16 },
	{ PEAK_FLOAT, "vfmadd of 256 bits", has_fma256, fma256, 10 * 8 },
#endif
	{ PEAK_FLOAT, "products and sums of 128 bits", always, four_at_once, 8 * 4 },
	{ PEAK_BF16, "products and sums of 128 bits, single precision", always, four_at_once, 8 * 4 },
	{ PEAK_INT8, "products and sums of 128 bits, single precision", always, four_at_once, 8 * 4 },
};

static const struct row *best(enum peak p)
{
	const struct row *r = rows;

	while (r->kind != p || !r->supported())
		r++;
	return r;
}

const char *peak_name(enum peak p)
{
	return best(p)->name;
}

uint64_t peak_run(enum peak p, uint64_t rounds)
{
	const struct row *r = best(p);
	uint64_t n = rounds * (ROUND / r->step);

	r->run(n);
	return n * r->step;
}

uint64_t peak_read(const void *p, size_t n, size_t far)
{
	const struct line { pair part[4]; } *x = p;
	struct line sum = { 0 };

	for (size_t i = 0; i < n / sizeof *x; i++) {
		if (far)
			__builtin_prefetch((const char *)&x[i] + far, 0, 2);
		for (int k = 0; k < 4; k++)
			sum.part[k] ^= x[i].part[k];
	}
	sum.part[0] ^= sum.part[1] ^ sum.part[2] ^ sum.part[3];
	return sum.part[0][0] ^ sum.part[0][1];
}
