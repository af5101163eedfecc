/* int8_dotprod.c - 8-bit products with SDOT, on the CPUs that have it: int8_neon.h, compiled for them. */
#if defined(__aarch64__)
#include <sys/auxv.h>

static int supported(void)
{
	return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

#define INT8_NAME "dotprod"
#define INT8_TABLE int8_dotprod
#include "kern/int8_neon.h"
#else
typedef int int8_dotprod_unused; /* ISO C wants a translation unit to declare something */
#endif
