/* clock.c - see clock.h. */
#include "base/clock.h"

#include <time.h>

static int64_t now(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_wall(void)
{
	return now(CLOCK_REALTIME);
}

int64_t clock_mono(void)
{
	return now(CLOCK_MONOTONIC);
}
