/* int8_neon.c - 8-bit products for every AArch64 CPU: int8_neon.h. */
#if defined(__aarch64__)
static int supported(void)
{
	return 1;
}

#define INT8_NAME "neon"
#define INT8_TABLE int8_neon
#include "kern/int8_neon.h"
#else
typedef int int8_neon_unused; /* ISO C wants a translation unit to declare something */
#endif
