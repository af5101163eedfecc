/* gemmcheck.c - compares gemm.c's compiled back end with plain loops in double, over shapes that
 * leave tails in every direction, all four transpositions, set and add. The inputs are small
 * multiples of 1/8, which bfloat16 holds exactly, so that only sums can differ. Columns beyond n
 * must stay as they were. Exit status 1 on any difference above 1e-3.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gemm.h"

static float *numbers(size_t count)
{
	float *x = malloc(count * sizeof *x);
	if (!x)
		abort();
	for (size_t i = 0; i < count; i++)
		x[i] = (float)(rand() % 17 - 8) / 8;
	return x;
}

static double worst_of(int ta, int tb, int acc, size_t m, size_t n, size_t k)
{
	size_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 5, ldc = n + 1;
	float *a = numbers((ta ? k : m) * lda + 1), *b = numbers((tb ? n : k) * ldb + 1);
	float *c = numbers(m * ldc + 1), *old = numbers(m * ldc + 1);
	double worst = 0;
	memcpy(c, old, m * ldc * sizeof *c);
	gemm(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, acc);
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < ldc; j++) {
			double s = acc || j == n ? (double)old[i * ldc + j] : 0;
			for (size_t p = 0; j < n && p < k; p++)
				s += (double)(ta ? a[p * lda + i] : a[i * lda + p]) *
				     (double)(tb ? b[j * ldb + p] : b[p * ldb + j]);
			double d = fabs(s - (double)c[i * ldc + j]);
			worst = d > worst ? d : worst;
		}
	free(a);
	free(b);
	free(c);
	free(old);
	return worst;
}

int main(void)
{
	static const size_t shape[][3] = {
		{ 64, 256, 64 }, { 7, 5, 3 }, { 100, 70, 33 }, { 300, 512, 256 }, { 13, 64, 700 },
		{ 65, 130, 257 }, { 1, 1, 1 }, { 0, 64, 64 }, { 6, 64, 0 }, { 193, 17, 512 },
	};
	double worst = 0;
	for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
		for (int way = 0; way < 8; way++) {
			double d = worst_of(way & 1, way >> 1 & 1, way >> 2, shape[i][0],
					    shape[i][1], shape[i][2]);
			worst = d > worst ? d : worst;
		}
	printf("%s: worst difference %.3g (limit 1e-3)\n", gemm_backend, worst);
	return worst > 1e-3;
}
