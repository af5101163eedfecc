/* table.h - the rows of the kernel tables, one per kern_*.c and int8_*.c that this machine's compiler builds. */
#ifndef KERN_TABLE_H
#define KERN_TABLE_H

#include "kern/int8.h"

extern const struct kern kern_plain;
extern const struct int8_kern int8_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512;
/* gemm_bf16 where the CPU has AVX-512 BF16 */
void bf16_avx512(const void *rows, size_t row_bytes, size_t n, size_t r0, size_t r1, const float *x,
	size_t xs, size_t n_tok, float *y, size_t ys, float *scratch);
extern const struct int8_kern int8_avx2, int8_avx512;
#elif defined(__aarch64__)
extern const struct kern kern_neon, kern_dotprod;
extern const struct int8_kern int8_neon, int8_dotprod;
#endif

#endif
