/*
 * int8_vbmi.h - points of the IQ types looked up in registers: what int8_avx512.c leaves to CPUs
 * that have AVX-512 VBMI and GFNI besides. Included after int8_avx512.h.
 */
#ifndef KERN_INT8_VBMI_H
#define KERN_INT8_VBMI_H

int int8_vbmi_supported(void);
/* The same of IQ1, whose points are too many for registers: where gathers are fast. Those of AMD
 * are not, nor Intel's before Sapphire Rapids, where microcode holds them up. */
int int8_vbmi_gathers(void);

/* Sixteen rows of len elements at p, row_bytes apart, against n_tok tokens: lane r of acc[t] goes
 * on with row r and token t, as int8.h defines. type: IQ1, IQ2 or IQ3. in->x: 256 at a time as
 * arrange_points (int8_avx512_wide.h) has them; in->sum: of 16 each. twice: memory is to be asked
 * again shortly before its use. */
void int8_vbmi_rows(uint32_t type, const uint8_t *p, size_t row_bytes, size_t len,
	const struct gv_in *in, size_t n_tok, int twice, struct asks *asks, __m512i acc[GV_TOK]);

#endif
