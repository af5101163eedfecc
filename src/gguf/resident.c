/*
 * resident.c - the weights copied out of the mapped files into memory of large pages; see gguf.h.
 *
 * Tensors lie one behind the other, each at a multiple of 64 bytes. The copy goes through the
 * mapping a piece at a time, and what was copied is let go at once: the process never holds the
 * weights twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/pool.h"
#include "gguf/internal.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define PIECE ((size_t)4 << 20)

int gguf_large_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[64] = "";
	int can = f && fgets(line, sizeof line, f) && !strstr(line, "[never]");

	if (f)
		fclose(f);
	return can;
}

/* Tensors in order, cut into pieces; unit u is piece u - first_unit of its tensor. */
struct copy { const struct gguf_tensor *from; size_t at, first_unit; uint8_t *to; };
struct copy_run { struct copy *copy; size_t n; };

/* Whole pages of [p, p + n): those at its ends may hold something else. */
static void advise(const uint8_t *p, size_t n, int advice)
{
	uintptr_t lo = ((uintptr_t)p + 4095) & ~(uintptr_t)4095,
		hi = ((uintptr_t)p + n) & ~(uintptr_t)4095;

	if (lo < hi)
		(void)madvise((void *)lo, hi - lo, advice); /* it is only faster with it */
}

static void copy_unit(void *ctx, size_t unit, int worker)
{
	const struct copy_run *run = ctx;
	size_t lo = 0, hi = run->n, at, n;
	const struct copy *c;
	const uint8_t *from;

	(void)worker;
	while (hi - lo > 1) { /* last tensor that begins at or before the unit */
		size_t mid = (lo + hi) / 2;

		if (run->copy[mid].first_unit <= unit)
			lo = mid;
		else
			hi = mid;
	}
	c = &run->copy[lo];
	at = (unit - c->first_unit) * PIECE;
	from = (const uint8_t *)c->from->data + at;
	n = c->from->n_bytes - at < PIECE ? (size_t)c->from->n_bytes - at : PIECE;
#ifdef MADV_POPULATE_READ
	advise(from, n, MADV_POPULATE_READ);
#endif
	memcpy(c->to + at, from, n);
	advise(from, n, MADV_DONTNEED);
}

static uint8_t *large_memory(struct gguf *g, size_t bytes, struct moe_err *e)
{
	uint8_t *p, *aligned;

	g->own_bytes = bytes + HUGE_PAGE;
	p = mmap(NULL, g->own_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		err_nomem(e, g->own_bytes, "the weights");
		return NULL;
	}
	g->own = p;
	aligned = p + (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	(void)madvise(aligned, bytes, MADV_HUGEPAGE);
	return aligned;
}

int gguf_read_whole(const struct gguf *g, const struct gguf_tensor *t)
{
	return strcmp(t->name, "token_embd.weight") || !gguf_tensor_find(g, "output.weight");
}

int gguf_to_memory(struct gguf *g, int (*wanted)(const struct gguf *, const struct gguf_tensor *),
	int n_threads, struct moe_err *e)
{
	struct copy_run run = { calloc(g->n_tensors + 1, sizeof *run.copy), 0 };
	size_t bytes = 0, units = 0;
	struct pool *pool = NULL;
	int bad = -1;
	uint8_t *p;

	if (g->own || !run.copy) {
		free(run.copy);
		return g->own ? 0 : err_nomem(e, (g->n_tensors + 1) * sizeof *run.copy, "the weights");
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *t = &g->tensor[i];

		if (!g->file[t->part].map || !t->n_bytes || !wanted(g, t))
			continue;
		run.copy[run.n++] = (struct copy){ t, bytes, units, NULL };
		bytes += ((size_t)t->n_bytes + 63) & ~(size_t)63;
		units += ((size_t)t->n_bytes + PIECE - 1) / PIECE;
	}
	if (!run.n)
		bad = 0;
	if (run.n && (p = large_memory(g, bytes, e)) && (pool = pool_new(n_threads, e))) {
		for (size_t i = 0; i < run.n; i++)
			run.copy[i].to = p + run.copy[i].at;
		pool_run(pool, copy_unit, &run, units);
		for (size_t i = 0; i < run.n; i++)
			g->tensor[run.copy[i].from - g->tensor].data = run.copy[i].to;
		(void)mprotect(p, bytes, PROT_READ);
		bad = 0;
	}
	pool_free(pool);
	free(run.copy);
	return bad;
}
