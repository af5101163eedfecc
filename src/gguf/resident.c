/*
 * resident.c - weights moved out of the mapped files into memory of large pages; see gguf.h.
 *
 * A thread of its own takes the mapping a window at a time: it copies the window's bytes to fresh memory of
 * large pages and puts that in the window's place (mremap), which the kernel does as one step. So nobody
 * needs another pointer, whoever reads meanwhile gets the same bytes from before or after, and the process
 * never holds more than a window twice. A window begins and ends at a large page's boundary; what is not
 * in a whole one stays mapped.
 *
 * Invariants: windows are only replaced while the thread lives, and gguf_close ends it first. Where
 * something is refused (limits, no memory) the rest stays mapped, which is only slower.
 */
#define _GNU_SOURCE /* mremap */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/mem.h"
#include "gguf/internal.h"

#define WINDOW ((size_t)16 << 20) /* whole large pages */
#define PIECE ((size_t)1 << 20)   /* between looks at `stop` */

struct window { uint8_t *at; size_t n; };

struct resident {
	struct window *window; /* [n] */
	size_t n;
	atomic_int begun, stop;
	pthread_t thread;
	pthread_mutex_t lock;  /* of the three below */
	pthread_cond_t change;
	int running, started;
	size_t moved;          /* windows */
};

int gguf_large_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[64] = "";
	int can = f && fgets(line, sizeof line, f) && !strstr(line, "[never]");

	if (f)
		fclose(f);
	return can;
}

/* ---- one window ---- */

static int copy_window(const struct resident *r, const struct window *w, uint8_t *to)
{
	for (size_t at = 0; at < w->n; at += PIECE) {
		size_t n = w->n - at < PIECE ? w->n - at : PIECE;

		if (atomic_load(&r->stop))
			return -1;
#ifdef MADV_POPULATE_READ
		(void)madvise(w->at + at, n, MADV_POPULATE_READ); /* it is only faster with it */
#endif
		memcpy(to + at, w->at + at, n);
	}
	return 0;
}

static int move_window(const struct resident *r, const struct window *w)
{
	size_t room = w->n + MEM_HUGE_PAGE, before, moved = 0;
	uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	before = (MEM_HUGE_PAGE - (uintptr_t)p % MEM_HUGE_PAGE) % MEM_HUGE_PAGE;
	(void)madvise(p + before, w->n, MADV_HUGEPAGE);
	if (!copy_window(r, w, p + before) && !mprotect(p + before, w->n, PROT_READ) &&
	    mremap(p + before, w->n, w->n, MREMAP_MAYMOVE | MREMAP_FIXED, w->at) == w->at)
		moved = w->n;
	if (before)
		munmap(p, before);
	munmap(p + before + moved, room - before - moved);
	return moved ? 0 : -1;
}

static void *move_all(void *arg)
{
	struct resident *r = arg;
	size_t i;

	for (i = 0; i < r->n && !atomic_load(&r->stop) && !move_window(r, &r->window[i]); i++)
		;
	pthread_mutex_lock(&r->lock);
	r->moved = i;
	r->running = 0;
	pthread_cond_broadcast(&r->change);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- which windows ---- */

/* Adds the whole large pages of [lo, hi), in windows; those that are taken already end at *done. */
static int add_windows(struct resident *r, size_t *cap, const uint8_t *lo, const uint8_t *hi, uintptr_t *done)
{
	uintptr_t at = ((uintptr_t)lo + MEM_HUGE_PAGE - 1) / MEM_HUGE_PAGE * MEM_HUGE_PAGE;
	uintptr_t end = (uintptr_t)hi / MEM_HUGE_PAGE * MEM_HUGE_PAGE;

	at = at > *done ? at : *done;
	for (; at < end; at = *done) {
		if (r->n == *cap) {
			size_t room = *cap ? 2 * *cap : 64;
			struct window *more = realloc(r->window, room * sizeof *more);

			if (!more)
				return -1;
			r->window = more;
			*cap = room;
		}
		*done = end - at < WINDOW ? end : at + WINDOW;
		r->window[r->n++] = (struct window){ (uint8_t *)at, *done - at };
	}
	return 0;
}

/* Tensors that follow each other in the file are one stretch. */
static int find_windows(const struct gguf *g, struct resident *r, gguf_wanted *wanted)
{
	const uint8_t *lo = NULL, *hi = NULL;
	size_t cap = 0, part = 0;
	uintptr_t done = 0;

	for (size_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *t = &g->tensor[i];
		const uint8_t *p = t->data;

		if (!g->file[t->part].map || !t->n_bytes || !wanted(g, t))
			continue;
		if (!lo || t->part != part || p < hi || (size_t)(p - hi) > MEM_HUGE_PAGE) {
			/* files need not list in order */
			if (lo && add_windows(r, &cap, lo, hi, &done))
				return -1;
			lo = p;
			part = t->part;
			done = 0;
		}
		hi = p + t->n_bytes;
	}
	return lo ? add_windows(r, &cap, lo, hi, &done) : 0;
}

/* ---- the copy as a whole ---- */

int gguf_read_whole(const struct gguf *g, const struct gguf_tensor *t)
{
	return strcmp(t->name, "token_embd.weight") || !gguf_tensor_find(g, "output.weight");
}

int gguf_to_memory(struct gguf *g, gguf_wanted *wanted, struct moe_err *e)
{
	struct resident *r;

	if (g->resident)
		return 0;
	r = calloc(1, sizeof *r);
	if (!r || find_windows(g, r, wanted)) {
		free(r ? r->window : NULL);
		free(r);
		return err_nomem(e, sizeof *r, "the weights");
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->change, NULL);
	g->resident = r;
	return 0;
}

void gguf_copy_begin(const struct gguf *g)
{
	struct resident *r = g->resident;
	sigset_t all, old;

	if (!r || atomic_load(&r->begun))
		return;
	sigfillset(&all); /* signals are for the program's own threads, but a cut file is noticed anywhere */
	sigdelset(&all, SIGBUS);
	pthread_mutex_lock(&r->lock);
	if (!atomic_load(&r->begun)) {
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r->running = r->started = !pthread_create(&r->thread, NULL, move_all, r);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		atomic_store(&r->begun, 1);
	}
	pthread_mutex_unlock(&r->lock);
}

size_t gguf_copy_wait(const struct gguf *g)
{
	struct resident *r = g->resident;
	size_t moved;

	if (!r)
		return 0;
	gguf_copy_begin(g);
	pthread_mutex_lock(&r->lock);
	while (r->running)
		pthread_cond_wait(&r->change, &r->lock);
	moved = r->moved;
	pthread_mutex_unlock(&r->lock);
	return moved;
}

void gguf_copy_end(struct gguf *g)
{
	struct resident *r = g->resident;
	int started;

	if (!r)
		return;
	atomic_store(&r->stop, 1);
	pthread_mutex_lock(&r->lock);
	started = r->started;
	pthread_mutex_unlock(&r->lock);
	if (started)
		pthread_join(r->thread, NULL);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->change);
	free(r->window);
	free(r);
	g->resident = NULL;
}
