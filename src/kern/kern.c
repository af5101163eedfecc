/* kern.c - choosing a row of the kernel table; see kern.h. */
#include "kern/kern.h"

#include <string.h>

#include "base/err.h"
#include "kern/table.h"

/* Best first. To add an ISA: a kern_NAME.c that includes body.h, a line in table.h, a row here. */
static const struct kern *const table[] = {
#if defined(__x86_64__)
#define ALL "amx, avx512, avx2, plain"
	&kern_amx,
	&kern_avx512,
	&kern_avx2,
#elif defined(__aarch64__)
#define ALL "dotprod, neon, plain"
	&kern_dotprod,
	&kern_neon,
#else
#define ALL "plain"
#endif
	&kern_plain,
	NULL,
};

size_t kern_scratch(size_t n)
{
	return n > KERN_UNPACKED ? n : KERN_UNPACKED;
}

int kern_type_ok(uint32_t type, size_t n)
{
	static const uint32_t have[] = { QT_F32, QT_F16, QT_BF16, QT_Q8_0, QT_Q4_0, QT_Q4_1, QT_Q5_0,
		QT_Q5_1, QT_Q4_K, QT_Q5_K, QT_Q6_K, QT_MXFP4, QT_NVFP4, QT_Q2_K, QT_Q3_K, QT_IQ2_XXS,
		QT_IQ2_XS, QT_IQ2_S, QT_IQ3_XXS, QT_IQ3_S, QT_IQ1_S, QT_IQ1_M, QT_IQ4_NL, QT_IQ4_XS,
		QT_TQ1_0, QT_TQ2_0, QT_Q1_0, QT_Q2_0 };

	for (size_t i = 0; i < sizeof have / sizeof have[0]; i++)
		if (have[i] == type)
			return n % qtype_info(type)->block == 0;
	return 0;
}

const struct kern *kern_at(size_t i)
{
	return i < sizeof table / sizeof table[0] ? table[i] : NULL;
}

const struct kern *kern_pick(const char *name, struct moe_err *e)
{
	for (size_t i = 0; table[i]; i++) {
		if (name && strcmp(table[i]->name, name))
			continue;
		if (table[i]->supported())
			return table[i];
		if (name) {
			err_set(e, MOE_ERR_USAGE, "kernels '%s': this CPU does not have these instructions", name);
			return NULL;
		}
	}
	err_set(e, MOE_ERR_USAGE, "no kernels '%s'; there are " ALL, name);
	return NULL;
}
