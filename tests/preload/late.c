/*
 * late.c - the wall clock runs LATE_SECONDS ahead (a negative number: behind); the other clocks do
 * not. Loaded before the C library: LD_PRELOAD=late.so LATE_SECONDS=86400 program
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	const char *by = getenv("LATE_SECONDS");
	int rc;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	rc = real(id, t);
	if (!rc && id == CLOCK_REALTIME && by)
		t->tv_sec += atol(by);
	return rc;
}
