/* gemm.h - dense matrix products of the trainer, one thread each.
 *
 * C[m][n] (+)= op(A)[m][k] * op(B)[k][n], all row-major. Three back ends, chosen when compiling:
 *   AVX-512 BF16   inputs rounded to bfloat16, sums in float (vdpbf16ps); packed B is
 *                  [k block][64-column panel][k pair][64] pairs
 *   OpenBLAS       cblas_sgemm; packed B is a row-major copy
 *   double         plain loops, for the gradient check
 * Parallelism is the caller's: every call works alone, in scratch memory of its own thread, and
 * the order of each sum depends on the shapes only.
 */
#ifndef GEMM_H
#define GEMM_H

#include <stddef.h>

#include "real.h"

/* Name of the back end compiled in, for logs. */
extern const char gemm_backend[];

/* Bytes that gemm_pack writes for a B of k by n. */
size_t gemm_packed_size(size_t k, size_t n);

/* Packs op(B) once for many products. tb = 0: b is [k][n]; tb = 1: b is [n][k], used transposed.
 * `out` is 64-byte aligned and holds gemm_packed_size(k, n) bytes. */
void gemm_pack(int tb, size_t k, size_t n, const real *b, size_t ldb, void *out);

/* C = A * B, or C += A * B if acc. ta = 0: a is [m][k]; ta = 1: a is [k][m], used transposed. */
void gemm_packed(int ta, size_t m, size_t n, size_t k, const real *a, size_t lda, const void *bp,
		 real *c, size_t ldc, int acc);

/* The same with a B that is used once. m = 0 is allowed; k = 0 clears C unless acc. */
void gemm(int ta, int tb, size_t m, size_t n, size_t k, const real *a, size_t lda,
	  const real *b, size_t ldb, real *c, size_t ldc, int acc);

/* Memory of `bytes` zero bytes on huge pages where the system grants them; exits when there is
 * none, which a trainer cannot survive anyway. */
void *gemm_alloc(size_t bytes);

#endif
