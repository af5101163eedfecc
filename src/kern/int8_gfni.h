/*
 * int8_gfni.h - what int8_avx512.c leaves to CPUs that have GFNI besides: fields of bits, else a
 * shift and a mask, in one operation. Included after int8_avx512.h.
 */
#ifndef KERN_INT8_GFNI_H
#define KERN_INT8_GFNI_H

int int8_gfni_supported(void);

/* Sixteen rows of len elements at p, row_bytes apart, against n_tok tokens: lane r of acc[t] goes
 * on with row r and token t, as int8.h defines. in: of the kind (int8_few.h); twice: memory is to
 * be asked again shortly before its use. */
typedef void int8_gfni_fn(const uint8_t *p, size_t row_bytes, size_t len, const struct gv_in *in,
	size_t n_tok, int twice, struct asks *asks, __m512i acc[GV_TOK]);

/* Of Q1_0, Q2_0 and TQ2_0: for one token, and for any number up to GV_TOK. */
extern int8_gfni_fn *const int8_gfni_pieces[][2];

#endif
