/*
 * int8_amx.c - 8-bit products with AMX: 48 rows against 16 tokens at once, for prefill.
 *
 * One instruction multiplies 64 codes, or fewer, of each of 16 rows with those of up to 16 tokens,
 * and adds up in integers. Where blocks have integer scales, codes are multiplied by them when the
 * tile is filled: as products need more than 8 bits, into two tiles that are weighed against each
 * other, once for 256 elements. Where scales are floats, sums of blocks go through memory, eight at
 * a time, to be weighed by AVX-512.
 */
#if defined(__x86_64__)
#define GM_TOK 64 /* many, as codes should stay in the first cache meanwhile */
#define GM_GROUPS 3
#define GM_PART 2048
#define TILE_ASKS 1
#define TOKEN_TERMS(c) (!exact(c) && (c)->has_min)
#define PACKED_TILES 0
#define SIGNED_TILES 1
#define AS_CODES(c, v) \
	_mm512_sub_epi8(v, _mm512_set1_epi8((char)((c)->off_log2 ? 1u << (c)->off_log2 : 0)))
#include "kern/int8_avx512.h"

#include "kern/int8_kinds.h"
#include "kern/int8_avx512_lanes.h"
#include "kern/int8_avx512_scales.h"
#include "kern/int8_avx512_fill.h"

#define FINISH(c, g, n_group, len) split_codes(c, g, n_group, len)
struct gm;
static void split_codes(const struct codes *c, struct gm *g, size_t n_group, size_t len);

#include "kern/int8_body.h"
#include "kern/int8_avx512_sums.h"

#include "kern/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023 /* asm/prctl.h of Linux 5.16 and later */
#define XFEATURE_XTILEDATA 18

/* Of fewer tokens the products of int8_avx512 are as fast, as filling a tile costs less there; and
 * of blocks of 16 with scales in floating point, as 16 codes take an instruction as long as 64. */
#define LEAST(c) (exact(c) ? 32 : (c)->blk == 32 ? 16 : SIZE_MAX)

/* What was stored before is there, and what was stored by a tile is read again after. */
#define ORDER() __asm__ volatile("" : : : "memory")

/* ---- integer scales ---- */

/* Tiles of codes times scales: w = high 2^shift + low, of which struct gm has the low ones. */
struct two { struct gm g; uint8_t high[GM_PART / 4][GM_GROUPS][R][4]; };

_Static_assert(sizeof(struct two) <= INT8_SCRATCH, "scratch");

/* Where codes are magnitudes, the scale, of six bits, is split instead, so that products of words
 * are products of their bytes; and of Q2_K nothing need be split. */
ALWAYS unsigned shift_of(const struct codes *c)
{
	return !c->has_min ? 7 : c->bits == 2 ? 0 : 3;
}

/* Four codes a lane times the lane's scale, which is in both its words. */
ALWAYS void split(const unsigned shift, __m512i codes4, __m512i scale, __m512i *low, __m512i *high)
{
	const __m512i bytes = _mm512_set1_epi16(0xff), seven = _mm512_set1_epi16(7);
	__m512i even, odd;

	if (shift == 0) {
		*low = _mm512_mullo_epi16(codes4, scale);
		return;
	}
	if (shift == 3) {
		*low = _mm512_mullo_epi16(codes4, _mm512_and_si512(scale, seven));
		*high = _mm512_mullo_epi16(codes4, _mm512_srli_epi16(scale, 3));
		return;
	}
	even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(codes4, 8), 8), scale);
	odd = _mm512_mullo_epi16(_mm512_srai_epi16(codes4, 8), scale);
	*low = _mm512_and_si512(_mm512_set1_epi8(127),
		_mm512_ternarylogic_epi32(bytes, even, _mm512_slli_epi16(odd, 8), 0xca));
	*high = _mm512_ternarylogic_epi32(bytes, _mm512_srai_epi16(even, 7),
		_mm512_slli_epi16(odd, 1), 0xca);
}

ALWAYS void split_blocks(const unsigned shift, const size_t blk, struct two *o, size_t n_group,
	size_t len)
{
	const __m512i lower = _mm512_set1_epi32(0xffff);

	for (size_t b = 0; b < len / blk; b++)
		for (size_t k = 0; k < n_group; k++) {
			__m512i both = vi_load(o->g.sct[b / 2][k]), turned = _mm512_rol_epi32(both, 16);
			__m512i scale = b % 2 ? _mm512_ternarylogic_epi32(lower, turned, both, 0xca) :
				_mm512_ternarylogic_epi32(lower, both, turned, 0xca);
#pragma GCC unroll 8
			for (size_t i = 0; i < blk / 4; i++) {
				uint8_t *at = o->g.tile[b * (blk / 4) + i][k][0];
				__m512i low, high;

				split(shift, vi_load(at), scale, &low, &high);
				vi_store(at, low);
				if (shift)
					vi_store(o->high[b * (blk / 4) + i][k], high);
			}
		}
}

static void split_codes(const struct codes *c, struct gm *g, size_t n_group, size_t len)
{
	struct two *o = (struct two *)(void *)g;

	if (!exact(c))
		return;
	switch (shift_of(c)) {
	case 0: split_blocks(0, 16, o, n_group, len); break;
	case 3: split_blocks(3, 32, o, n_group, len); break;
	default:
		if (c->blk == 32)
			split_blocks(7, 32, o, n_group, len);
		else
			split_blocks(7, 16, o, n_group, len);
	}
}

/* Sums of low and high products of 256 elements: [sixteen][low or high][token][row]. */
typedef int32_t sums256[2][2][16][16];

#define PRODUCT(C, A, B) do { \
	if (shift == 7) \
		_tile_dpbssd(C, A, B); \
	else \
		_tile_dpbsud(C, A, B); \
	} while (0)

/* Of group k of rows and n_16 sixteens of tokens (or fewer tokens) at q, np apart; group b of 256
 * elements of the tile. */
ALWAYS void multiply256(const unsigned shift, const size_t n_16, const struct two *o, size_t k,
	size_t b, const int8_t *q, size_t np, sums256 s)
{
	ORDER();
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		_tile_loadd(4, q + 64 * j, np);
		_tile_loadd(6, o->g.tile[64 * b + 16 * j][k], sizeof o->g.tile[0]);
		PRODUCT(0, 4, 6);
		if (n_16 > 1) {
			_tile_loadd(5, q + 16 * np + 64 * j, np);
			PRODUCT(2, 5, 6);
		}
		if (shift) {
			_tile_loadd(7, o->high[64 * b + 16 * j][k], sizeof o->high[0]);
			PRODUCT(1, 4, 7);
		}
		if (shift && n_16 > 1)
			PRODUCT(3, 5, 7);
	}
	_tile_stored(0, s[0][0], 64);
	if (shift)
		_tile_stored(1, s[0][1], 64);
	if (n_16 > 1)
		_tile_stored(2, s[1][0], 64);
	if (n_16 > 1 && shift)
		_tile_stored(3, s[1][1], 64);
	ORDER();
}

/* ---- floating-point scales ---- */

/* Sums of eight blocks: [block][token][row]. */
typedef int32_t sums8[8][16][16];

/* Block i of eight, by registers. */
#define BLOCK(i, C, A, B) do { \
	_tile_zero(C); \
	_tile_loadd(A, q + 32 * (i), np); \
	_tile_loadd(B, w + 8 * (i) * sizeof g->tile[0], sizeof g->tile[0]); \
	_tile_dpbssd(C, A, B); \
	_tile_stored(C, s[i], sizeof s[i][0]); \
	} while (0)

/* Of group k of rows and the tokens at q, np apart; group b of 256 elements of the tile. */
ALWAYS void multiply8(const struct gm *g, size_t k, size_t b, const int8_t *q, size_t np, sums8 s)
{
	const uint8_t *w = g->tile[64 * b][k][0];

	ORDER();
	BLOCK(0, 0, 4, 6);
	BLOCK(1, 1, 5, 7);
	BLOCK(2, 2, 4, 6);
	BLOCK(3, 3, 5, 7);
	BLOCK(4, 0, 4, 6);
	BLOCK(5, 1, 5, 7);
	BLOCK(6, 2, 4, 6);
	BLOCK(7, 3, 5, 7);
	ORDER();
}

/* ---- tiles ---- */

/* Minima of group b of 256 elements, weighed with token t's sums. */
ALWAYS __m512i minima(const enum by by, const size_t blk, const struct gm *g, size_t k, size_t b,
	const struct gm_in *in, size_t t)
{
	const size_t per = 256 / blk;
	__m512i v = _mm512_setzero_si512();

#pragma GCC unroll 8
	for (size_t i = 0; i < per && by == INTS_MIN; i += 2) {
		int32_t two;

		memcpy(&two, in->sum + t * (in->np / blk) + b * per + i, 4);
		v = _mm512_dpwssd_epi32(v, vi_load(g->mpt[(b * per + i) / 2][k]), _mm512_set1_epi32(two));
	}
#pragma GCC unroll 8
	for (size_t i = 0; i < per && by == FLOATS_MIN; i++)
		v = vf_chain_min(v, vi_load(g->mnt[b * per + i][k]), g->sx[t][b * per + i]);
	return v;
}

/* y of the tokens, or zeros if there is none yet, and back. */
ALWAYS void begin(const size_t ng, const struct gm_in *in, const float *y, size_t ys, size_t nr,
	int first, float sum[GM_GROUPS][GM_TOK][16])
{
	for (size_t t = 0; t < in->n_tok; t++)
		for (size_t k = 0; k < ng; k++)
			vi_store(sum[k][t], _mm512_maskz_loadu_epi32(first ? 0 : k + 1 < ng ? 0xffff :
				(__mmask16)((1u << nr) - 1), y + t * ys + 16 * k));
}

ALWAYS void end(const size_t ng, const struct gm_in *in, float *y, size_t ys, size_t nr,
	float sum[GM_GROUPS][GM_TOK][16])
{
	for (size_t t = 0; t < in->n_tok; t++)
		for (size_t k = 0; k < ng; k++)
			vf_store(y + t * ys + 16 * k, vi_load(sum[k][t]), k + 1 < ng ? 16 : nr);
}

/* Sixteens of tokens, or fewer. */
ALWAYS size_t sixteens(const struct gm_in *in)
{
	return (in->n_tok + 15) / 16;
}

/* The lines of the rows that come next, of which each step asks for some: all at once, they would
 * hold up what is read meanwhile. */
struct asking { const uint8_t *at, *end; size_t rows, bytes, jump, once; };

ALWAYS struct asking asking_of(const struct next *next, size_t n_step)
{
	size_t bytes = (next->bytes + 63) / 64 * 64;

	return (struct asking){ next->p, next->p + bytes, next->n, bytes, next->step - bytes,
		(next->n * (bytes / 64) + n_step - 1) / n_step };
}

ALWAYS void ask_some(struct asking *a)
{
	for (size_t i = 0; i < a->once && a->rows; i++) {
		_mm_prefetch(a->at, _MM_HINT_T1);
		a->at += 64;
		if (a->at == a->end) {
			a->at += a->jump;
			a->end = a->at + a->bytes;
			a->rows--;
		}
	}
}

/* Step i of a tile: tokens from t on, n_16 sixteens (or fewer), of group k of rows and part e of
 * the elements. */
struct step { size_t k, e, t, n_16; };

ALWAYS struct step step_at(size_t i, size_t ng, size_t n_16, const size_t at_once)
{
	const size_t n = (n_16 + at_once - 1) / at_once, j = i % n * at_once;

	return (struct step){ i / n % ng, i / n / ng, 16 * j, n_16 - j < at_once ? n_16 - j : at_once };
}

ALWAYS void multiply_integers(const unsigned shift, const struct two *o, struct step at,
	const struct gm_in *in, sums256 s)
{
	const int8_t *q = in->q + 256 * at.e + at.t * in->np;

	if (at.n_16 > 1)
		multiply256(shift, 2, o, at.k, at.e, q, in->np, s);
	else
		multiply256(shift, 1, o, at.k, at.e, q, in->np, s);
}

/* in->n_tok tokens against ng groups of rows, as in int8_avx512.c: fewer than 16, or sixteens of
 * them. A step is 256 elements, or eight blocks, of a group and some tokens; while its sums are
 * weighed, those of the next are multiplied. */
ALWAYS void tile_integers(const size_t ng, const size_t blk, const enum by by, const unsigned shift,
	const struct two *o, size_t n256, const struct gm_in *in, float *y, size_t ys, size_t nr,
	int first)
{
	const size_t n_16 = sixteens(in), nt = in->n_tok / n_16, n_step = n256 * ng * ((n_16 + 1) / 2);
	_Alignas(64) float sum[GM_GROUPS][GM_TOK][16];
	_Alignas(64) sums256 s[2];
	struct asking ask = asking_of(&in->next, n_step);

	begin(ng, in, y, ys, nr, first, sum);
	multiply_integers(shift, o, step_at(0, ng, n_16, 2), in, s[0]);
	for (size_t i = 0; i < n_step; i++) {
		const struct step at = step_at(i, ng, n_16, 2);
		const size_t k = at.k, b = at.e;

		ask_some(&ask);
		if (i + 1 < n_step)
			multiply_integers(shift, o, step_at(i + 1, ng, n_16, 2), in, s[(i + 1) % 2]);
		for (size_t j = 0; j < nt * at.n_16; j++) {
			const size_t t = at.t + j;
			__m512i u = vi_load(s[i % 2][j / 16][0][j % 16]), high;

			if (shift) {
				high = vi_load(s[i % 2][j / 16][1][j % 16]);
				u = _mm512_add_epi32(u, _mm512_slli_epi32(high, shift));
			}
			vi_store(sum[k][t], with_group(by, &o->g, b, k, vi_load(sum[k][t]), u,
				minima(by, blk, &o->g, k, b, in, t), in->d[t * (in->np / 256) + b]));
		}
	}
	end(ng, in, y, ys, nr, sum);
}

ALWAYS void tile_floats(const size_t ng, const enum by by, const struct gm *g, size_t n256,
	const struct gm_in *in, float *y, size_t ys, size_t nr, int first)
{
	const size_t n_16 = sixteens(in), n_step = n256 * ng * n_16, nt = in->n_tok / n_16;
	_Alignas(64) float sum[GM_GROUPS][GM_TOK][16];
	_Alignas(64) sums8 s[2];
	struct asking ask = asking_of(&in->next, n_step);

	begin(ng, in, y, ys, nr, first, sum);
	multiply8(g, 0, 0, in->q, in->np, s[0]);
	for (size_t i = 0; i < n_step; i++) {
		const struct step at = step_at(i, ng, n_16, 1), next = step_at(i + 1, ng, n_16, 1);
		const size_t k = at.k, b = at.e;

		ask_some(&ask);
		if (i + 1 < n_step)
			multiply8(g, next.k, next.e, in->q + 256 * next.e + next.t * in->np, in->np,
				s[(i + 1) % 2]);
		for (size_t t = at.t; t < at.t + nt; t++) {
			__m512i u = vf_zero();

#pragma GCC unroll 8
			for (size_t j = 0; j < 8; j++)
				u = vf_chain(u, vi_load(s[i % 2][j][t - at.t]),
					vi_load(g->sct[8 * b + j][k]));
			vi_store(sum[k][t], with_group(by, g, b, k, vi_load(sum[k][t]), u,
				minima(by, 32, g, k, b, in, t), in->d[t * (in->np / 256) + b]));
		}
	}
	end(ng, in, y, ys, nr, sum);
}

#define INTEGERS(ng, blk, by, shift) \
	tile_integers(ng, blk, by, shift, o, n256, in, y, ys, nr, first)
#define FLOAT_SCALES(ng, by) tile_floats(ng, by, g, n256, in, y, ys, nr, first)
#define TILE(ng) \
static void tile##ng(const struct codes *c, const struct gm *g, size_t n256, \
	const struct gm_in *in, float *y, size_t ys, size_t nr, int first) \
{ \
	const struct two *o = (const struct two *)(const void *)g; \
\
	if (exact(c)) { \
		set_shapes(4, 64, in->n_tok / sixteens(in)); \
		if (shift_of(c) == 0) \
			INTEGERS(ng, 16, INTS_MIN, 0); \
		else if (c->has_min) \
			INTEGERS(ng, 32, INTS_MIN, 3); \
		else \
			INTEGERS(ng, 16, INTS, 7); /* blocks do not matter here */ \
		return; \
	} \
	set_shapes(4, 32, in->n_tok / sixteens(in)); \
	if (c->has_min) \
		FLOAT_SCALES(ng, FLOATS_MIN); \
	else \
		FLOAT_SCALES(ng, FLOATS); \
}
TILE(3)
TILE(1)

static void gemm(uint32_t type, const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1,
	struct act8 a, size_t n_tok, float *y, size_t ys, const void *next,
	void *scratch)
{
#define T(n, ng) { n, tile##ng, ng }
#define FOUR(n, ng) T(n + 3, ng), T(n + 2, ng), T(n + 1, ng), T(n, ng)
#define ALL(ng) T(GM_TOK, ng), T(48, ng), T(32, ng), T(16, ng), FOUR(12, ng), FOUR(8, ng), \
	FOUR(4, ng), T(3, ng), T(2, ng), T(1, ng)
	static const struct tile tiles[] = { ALL(3), ALL(1) };
	struct shapes before;

	if (n_tok < LEAST(&codes[type])) {
		int8_avx512.gemm(type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, next, scratch);
		return;
	}
	before = shapes_now();
	gemm_many(tiles, type, rows, row_bytes, n, r0, r1, a, n_tok, y, ys, scratch);
	shapes_back(&before);
}

static void round_rows(const float *x, size_t xs, size_t n, size_t r0, size_t r1, struct act8 a)
{
	int8_avx512.round(x, xs, n, r0, r1, a);
}

int amx_supported(void)
{
	return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
		int8_avx512.supported() &&
		!syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}

const struct int8_kern int8_amx = { "amx", amx_supported, round_rows, gemm };
#else
typedef int int8_amx_unused; /* ISO C wants a translation unit to declare something */
#endif
