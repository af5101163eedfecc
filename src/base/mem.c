/* mem.c - see mem.h. Linux promises more memory than it has and kills whoever uses it. */
#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

uint64_t mem_available(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long long kib = 0;
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	char line[128];

	while (f && !kib && fgets(line, sizeof line, f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
			kib = 0;
	if (f)
		fclose(f);
	if (kib)
		return (uint64_t)kib << 10;
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}
