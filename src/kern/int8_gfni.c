/* int8_gfni.c - rows of bits and of pairs of bits against one token or a few, with GFNI. */
#if defined(__x86_64__)
#include "kern/int8_avx512.h"

#include "kern/int8_kinds.h"
#include "kern/int8_avx512_lanes.h"
#include "kern/int8_gfni.h"
#include "kern/int8_avx512_scales.h"

#include "kern/int8_avx512_pieces.h"

#define PIECE_KINDS X(Q1_0) X(Q2_0) X(TQ2_0)

#define X(kind) \
static void one_##kind(const uint8_t *p, size_t row_bytes, size_t len, const struct gv_in *in, \
	size_t n_tok, int twice, struct asks *asks, __m512i acc[GV_TOK]) \
{ \
	(void)n_tok; \
	pieces_across(kind, p, row_bytes, len, in, 1, twice, asks, acc); \
} \
static void few_##kind(const uint8_t *p, size_t row_bytes, size_t len, const struct gv_in *in, \
	size_t n_tok, int twice, struct asks *asks, __m512i acc[GV_TOK]) \
{ \
	pieces_across(kind, p, row_bytes, len, in, n_tok, twice, asks, acc); \
}
PIECE_KINDS
#undef X

int8_gfni_fn *const int8_gfni_pieces[][2] = {
#define X(kind) [kind] = { one_##kind, few_##kind },
PIECE_KINDS
#undef X
};

int int8_gfni_supported(void)
{
	return __builtin_cpu_supports("gfni");
}
#else
typedef int int8_gfni_unused; /* ISO C wants a translation unit to declare something */
#endif
