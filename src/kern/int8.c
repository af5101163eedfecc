/* int8.c - the table of 8-bit kernels and the layout of rounded activations; see int8.h. */
#include "kern/int8.h"

#include <string.h>

#include "kern/table.h"

/* Best first. To add one: an int8_NAME.c, a line in table.h, a row here. */
static const struct int8_kern *const table[] = {
#if defined(__x86_64__)
	&int8_amx,
	&int8_avx512,
	&int8_avx2,
#elif defined(__aarch64__)
	&int8_dotprod,
	&int8_neon,
#endif
	&int8_plain,
	NULL,
};

const struct int8_kern *int8_at(size_t i)
{
	return i < sizeof table / sizeof table[0] ? table[i] : NULL;
}

const struct int8_kern *int8_for(const struct kern *k)
{
	size_t i = 0;

	while (table[i + 1] && strcmp(table[i]->name, k->name))
		i++;
	while (table[i + 1] && !table[i]->supported())
		i++;
	return table[i];
}

int int8_type_ok(uint32_t type, size_t n)
{
	static const uint32_t have[] = { QT_Q8_0, QT_Q4_0, QT_Q4_1, QT_Q5_0, QT_Q5_1, QT_Q2_K, QT_Q3_K,
		QT_Q4_K, QT_Q5_K, QT_Q6_K, QT_MXFP4, QT_IQ4_NL, QT_IQ4_XS,
		QT_IQ2_XXS, QT_IQ2_XS, QT_IQ2_S, QT_IQ3_XXS, QT_IQ3_S, QT_IQ1_S, QT_IQ1_M, QT_TQ1_0,
		QT_TQ2_0, QT_Q1_0, QT_Q2_0, QT_NVFP4 };

	for (size_t i = 0; i < sizeof have / sizeof have[0]; i++)
		if (have[i] == type)
			return n % qtype_info(type)->block == 0;
	return 0;
}

size_t act8_bytes(size_t n, size_t rows)
{
	size_t np = act8_pad(n);

	return rows * (np + np / 256 * (sizeof(float) + 1) + (np / 16 + np / 32) * sizeof(int16_t)) + ACT8_SLACK;
}

struct act8 act8_lay(void *mem, size_t n, size_t rows)
{
	size_t np = act8_pad(n);
	struct act8 a;

	a.q = mem;
	a.d = (float *)(void *)(a.q + rows * np);
	a.sum16 = (int16_t *)(void *)(a.d + rows * (np / 256));
	a.sum32 = a.sum16 + rows * (np / 16);
	a.fits = (uint8_t *)(a.sum32 + rows * (np / 32));
	memset(a.fits, 0, rows * (np / 256));
	return a;
}

struct act8 act8_at(struct act8 a, size_t n, size_t t)
{
	size_t np = act8_pad(n);

	return (struct act8){ a.q + t * np, a.d + t * (np / 256), a.sum16 + t * (np / 16),
		a.sum32 + t * (np / 32), a.fits + t * (np / 256) };
}
