/* int8_neon.c - 8-bit products with AArch64's Advanced SIMD; int8_neon.h has all but their names. */
#if defined(__aarch64__)
#define INT8_NAME "neon"
#define INT8_TABLE int8_neon
#include "kern/int8_neon.h"

static int supported(void)
{
	return 1;
}
#else
typedef int int8_neon_unused; /* ISO C wants a translation unit to declare something */
#endif
