/*
 * guarded.h - memory between two pages that nobody may touch: reads beside a file's mapping end a
 * program, and only there.
 *
 *	guarded_new(&g, most);
 *	if (!guarded_run(fn, ctx)) ... fn(ctx) read beside g.lo .. g.hi
 *	guarded_free(&g);
 */
#ifndef TEST_GUARDED_H
#define TEST_GUARDED_H

#include "test_util.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

struct guarded { unsigned char *lo, *hi, *map; size_t size; };

static sigjmp_buf guarded_back;

/* At least `most` bytes from lo on, or before hi. */
static inline void guarded_new(struct guarded *g, size_t most)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (most + page - 1) / page * page;

	g->size = n + 2 * page;
	g->map = mmap(NULL, g->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->map == MAP_FAILED || mprotect(g->map + page, n, PROT_READ | PROT_WRITE))
		fail_msg("no memory");
	g->lo = g->map + page;
	g->hi = g->lo + n;
}

static inline void guarded_free(struct guarded *g)
{
	munmap(g->map, g->size);
}

static inline void guarded_caught(int sig)
{
	(void)sig;
	siglongjmp(guarded_back, 1);
}

/* 1 if fn(ctx) came to its end, 0 if it touched what it must not. */
static inline int guarded_run(void (*fn)(const void *), const void *ctx)
{
	static const int sigs[2] = { SIGSEGV, SIGBUS };
	struct sigaction a = { .sa_handler = guarded_caught }, was[2];
	volatile int ok = 0;

	sigemptyset(&a.sa_mask);
	for (int i = 0; i < 2; i++)
		sigaction(sigs[i], &a, &was[i]);
	if (!sigsetjmp(guarded_back, 1)) {
		fn(ctx);
		ok = 1;
	}
	for (int i = 0; i < 2; i++)
		sigaction(sigs[i], &was[i], NULL);
	return ok;
}

#endif
