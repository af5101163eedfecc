/* kern_dotprod.c - the float kernels that go with int8_dotprod.c: kern_neon.h under another name. */
#if defined(__aarch64__)
#include <sys/auxv.h>

static int supported(void)
{
	return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

#define KERN_NAME "dotprod"
#define KERN_TABLE kern_dotprod
#define KERN_SUPPORTED supported
#include "kern/kern_neon.h"
#else
typedef int kern_dotprod_unused; /* ISO C wants a translation unit to declare something */
#endif
