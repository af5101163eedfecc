/*
 * int8_kinds.h - how a row of quantised blocks is read by the 8-bit kernels: as it lies, or unpacked first
 * (int8_codes.h) where no reading of its own was written. A kind is a constant that the loops of
 * int8_body.h are compiled for.
 */

/* Unpacked ones: elements that share a scale, in floating point (B) or an integer (I), with minimum or
 * without. Those from Q4_0 to MXFP4 have blocks of 32 in 16 bytes, two codes a byte. */
enum kind { B32, B32_MIN, B16, B16_MIN, I32, I32_MIN, I16, I16_MIN, Q8_0, Q6_K, Q2_K, Q3_K,
	Q1_0, Q2_0, NVFP4,
	Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS, MXFP4, Q4_K, Q5_K,
	TQ1_0, TQ2_0, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M,
	POINTS8, POINTS4 };
#define KINDS X(B32) X(B32_MIN) X(B16) X(B16_MIN) X(I32) X(I32_MIN) X(I16) X(I16_MIN) \
	X(Q8_0) X(Q6_K) X(Q2_K) X(Q3_K) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL) X(IQ4_XS) X(MXFP4) \
	X(Q4_K) X(Q5_K)
/* Those that are read as they lie only where there is one token, or a few. */
#ifdef __AVX2__
#define AVX2_KINDS KINDS X(Q1_0) X(Q2_0) X(NVFP4) X(TQ1_0) X(TQ2_0) X(IQ2_XXS) X(IQ2_XS) \
	X(IQ2_S) X(IQ3_XXS) X(IQ3_S) X(IQ1_S) X(IQ1_M)
#endif
#ifdef __AVX512F__
#define GEMV_KINDS AVX2_KINDS X(POINTS8) X(POINTS4)
#elif defined(__AVX2__)
#define GEMV_KINDS AVX2_KINDS
#else
#define GEMV_KINDS KINDS
#endif
#define UNPACKED(kind) ((kind) <= I16_MIN)
/* Those that are read as they lie up to the end of a row, where fewer blocks are left than are read
 * at once: what is behind it are codes that meet zeros, and scales that are left out. */
#ifdef __AVX2__
#define LIES(kind) ((kind) == Q8_0 || ((kind) >= Q4_0 && (kind) <= IQ4_NL) || (kind) == MXFP4 || \
	(kind) == NVFP4)
#else
#define LIES(kind) 0
#endif
/* Those of which one operation takes the same bits of many bytes. */
#define PLANES(kind) ((kind) >= Q1_0 && (kind) <= NVFP4)

ALWAYS size_t blk_of(enum kind kind)
{
	return kind == B16 || kind == B16_MIN || kind == I16 || kind == I16_MIN || kind == Q6_K ||
		kind == Q2_K || kind == Q3_K || kind == NVFP4 || kind == IQ2_XS || kind == IQ2_S ||
		kind == IQ1_M || kind == POINTS8 || kind == POINTS4 ? 16 : 32;
}

ALWAYS int min_of(enum kind kind)
{
	return kind == B32_MIN || kind == B16_MIN || kind == I32_MIN || kind == I16_MIN || kind == Q2_K ||
		kind == Q4_1 || kind == Q5_1 || kind == Q4_K || kind == Q5_K;
}

/* 1 if scales are integers under a d of 256 elements */
ALWAYS int exact_of(enum kind kind)
{
	return (kind >= I32 && kind <= I16_MIN) || kind == Q6_K || kind == Q2_K || kind == Q3_K ||
		kind == IQ4_XS || kind >= Q4_K;
}

/* The kind of the same rows once they are unpacked. */
ALWAYS enum kind unpacked_of(enum kind kind)
{
	return (exact_of(kind) ? I32 : B32) + (blk_of(kind) == 16 ? 2u : 0u) + (min_of(kind) ? 1u : 0u);
}

/* Of rows of len elements; unpacked if there are fewer than 256. */
static inline enum kind kind_of(uint32_t type, size_t len)
{
	static const enum kind direct[QT_MAX] = { [QT_Q8_0] = Q8_0, [QT_Q4_0] = Q4_0, [QT_Q5_0] = Q5_0,
		[QT_IQ4_NL] = IQ4_NL, [QT_MXFP4] = MXFP4, [QT_Q4_K] = Q4_K, [QT_Q5_K] = Q5_K, [QT_Q6_K] = Q6_K,
		[QT_Q4_1] = Q4_1, [QT_Q5_1] = Q5_1, [QT_IQ4_XS] = IQ4_XS, [QT_Q2_K] = Q2_K, [QT_Q3_K] = Q3_K };
	const struct codes *c = &codes[type];

	if (direct[type] && len >= 256)
		return direct[type];
	return (exact(c) ? I32 : B32) + (c->blk == 16 ? 2u : 0u) + (c->has_min ? 1u : 0u);
}

/* Bytes of 256 elements of the kinds that are read as they lie. */
ALWAYS size_t bytes256(enum kind kind)
{
	switch (kind) {
	case Q8_0: return 8 * 34;
	case Q4_0: case IQ4_NL: return 8 * 18;
	case Q4_1: return 8 * 20;
	case Q5_0: return 8 * 22;
	case Q5_1: return 8 * 24;
	case MXFP4: return 8 * 17;
	case Q1_0: return 2 * 18;
	case Q2_0: return 4 * 18;
	case NVFP4: return 4 * 36;
	case IQ4_XS: return 136;
	case Q4_K: return 144;
	case Q5_K: return 176;
	case Q6_K: return 210;
	case Q2_K: return 84;
	case Q3_K: case IQ3_S: return 110;
	case TQ1_0: return 54;
	case TQ2_0: case IQ2_XXS: return 66;
	case IQ2_XS: return 74;
	case IQ2_S: return 82;
	case IQ3_XXS: return 98;
	case IQ1_S: return 50;
	case IQ1_M: return 56;
	default: return 0;
	}
}

/* d and dmin of the 256 elements at p as they lie, in the low and the high half. */
ALWAYS uint32_t super_halves(enum kind kind, const struct codes *c, const uint8_t *p)
{
	uint32_t both;

	if ((UNPACKED(kind) || kind == IQ1_M) && c->d_at == SPREAD)
		return spread_half(p);
	if (!min_of(kind))
		return rd16(p + c->d_at);
	memcpy(&both, p + c->d_at, 4);
	return both;
}

/* What fill_raw (int8_body.h) did of a tile: codes, scales and minima, d and dmin as they lie. */
#define FILLED_CODES 1
#define FILLED_SCALES 2
#define FILLED_SUPER 4
#define FILLED_PACKED 8 /* codes of four bits, two a byte: of i and 16 + i, or of two blocks */
