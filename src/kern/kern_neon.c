/* kern_neon.c - float kernels for every AArch64 CPU: kern_neon.h. */
#if defined(__aarch64__)
static int supported(void)
{
	return 1;
}

#define KERN_NAME "neon"
#define KERN_TABLE kern_neon
#define KERN_SUPPORTED supported
#include "kern/kern_neon.h"
#else
typedef int kern_neon_unused; /* ISO C wants a translation unit to declare something */
#endif
