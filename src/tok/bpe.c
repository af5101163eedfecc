/*
 * bpe.c - see bpe.h. Two ways to the same result: short pieces (nearly all) by looking through an
 * array on the stack, long ones by a linked list and a heap.
 */
#include "tok/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/map.h"

#define SHORT 48

_Thread_local uint64_t bpe_steps;

int bpe_init(struct bpe *b, size_t n_merges, uint64_t seed, struct moe_err *e)
{
	size_t size = 16, i;

	while (size < 2 * n_merges)
		size *= 2;
	b->seed = seed;
	b->mask = size - 1;
	b->slot = malloc(size * sizeof *b->slot);
	if (!b->slot)
		return err_nomem(e, size * sizeof *b->slot, "merges");
	for (i = 0; i < size; i++)
		b->slot[i] = (struct bpe_merge){ .rank = BPE_NONE };
	return 0;
}

void bpe_free(struct bpe *b)
{
	free(b->slot);
	b->slot = NULL;
}

static struct bpe_merge *probe(const struct bpe *b, uint64_t pair)
{
	size_t i = map_mix(pair ^ b->seed) & b->mask;

	while (b->slot[i].rank != BPE_NONE && b->slot[i].pair != pair)
		i = (i + 1) & b->mask;
	return &b->slot[i];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void bpe_add(struct bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
	struct bpe_merge *m = probe(b, pair_of(left, right));

	if (m->rank == BPE_NONE)
		*m = (struct bpe_merge){ pair_of(left, right), rank, id };
}

const struct bpe_merge *bpe_find(const struct bpe *b, int32_t left, int32_t right)
{
	const struct bpe_merge *m = probe(b, pair_of(left, right));

	return m->rank == BPE_NONE ? NULL : m;
}

static size_t merge_short(const struct bpe *b, int32_t *ids, size_t n)
{
	const struct bpe_merge *m[SHORT]; /* [i] = merge of ids[i] and ids[i + 1], or NULL */
	uint32_t best;
	size_t i, at;

	for (i = 0; i + 1 < n; i++)
		m[i] = bpe_find(b, ids[i], ids[i + 1]);
	while (n > 1) {
		best = BPE_NONE;
		at = 0;
		bpe_steps += n - 1;
		for (i = 0; i + 1 < n; i++)
			if (m[i] && m[i]->rank < best) {
				best = m[i]->rank;
				at = i;
			}
		if (best == BPE_NONE)
			break;
		ids[at] = m[at]->id;
		n--;
		memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
		if (at + 1 < n)
			memmove(m + at + 1, m + at + 2, (n - at - 2) * sizeof *m);
		m[at] = at + 1 < n ? bpe_find(b, ids[at], ids[at + 1]) : NULL;
		if (at)
			m[at - 1] = bpe_find(b, ids[at - 1], ids[at]);
	}
	return n;
}

/* ---- long pieces ---- */

/* A list over the bytes' positions and a heap of what may be merged. A heap entry is rank << 32 |
 * left position; a rank belongs to one pair of ids, so an entry is current exactly if the merge at
 * its position still has its rank. */
struct work {
	const struct bpe *b;
	int32_t *ids;                 /* [n], the token that starts at a position */
	const struct bpe_merge **m;   /* [n], the merge of it and the next one, or NULL */
	uint32_t *prev, *next;        /* [n], n = none */
	uint32_t n;
	uint64_t *heap;               /* [<= 2 n] */
	size_t n_heap;
};

/* Look up the merge at a position and push it. At most one push per neighbouring pair at the start
 * (n - 1), then two per merge against one pop: so the heap never holds more than 2 n. */
static void push(struct work *w, uint32_t left)
{
	uint32_t right = w->next[left];
	uint64_t key;
	size_t i;

	w->m[left] = right == w->n ? NULL : bpe_find(w->b, w->ids[left], w->ids[right]);
	if (!w->m[left])
		return;
	key = (uint64_t)w->m[left]->rank << 32 | left;
	for (i = w->n_heap++; i && key < w->heap[(i - 1) / 2]; i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = key;
}

static uint64_t pop(struct work *w)
{
	uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < w->n_heap) {
		if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child])
			child++;
		if (last <= w->heap[child])
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

static void merge_all(struct work *w)
{
	uint32_t i, left, right;
	uint64_t key;

	for (i = 0; i < w->n; i++) {
		w->prev[i] = i ? i - 1 : w->n;
		w->next[i] = i + 1;
	}
	for (i = 0; i < w->n; i++)
		push(w, i);
	while (w->n_heap) {
		key = pop(w);
		bpe_steps++;
		left = (uint32_t)key;
		if (!w->m[left] || w->m[left]->rank != key >> 32)
			continue;
		right = w->next[left];
		w->ids[left] = w->m[left]->id;
		w->m[right] = NULL;
		w->next[left] = w->next[right];
		if (w->next[right] != w->n)
			w->prev[w->next[right]] = left;
		if (w->prev[left] != w->n)
			push(w, w->prev[left]);
		push(w, left);
	}
}

static size_t merge_long(const struct bpe *b, int32_t *ids, size_t n)
{
	struct work w = { .b = b, .ids = ids, .n = (uint32_t)n };
	size_t out = 0;
	uint32_t i;

	w.prev = malloc(2 * n * sizeof *w.prev);
	w.heap = malloc(2 * n * sizeof *w.heap);
	w.m = malloc(n * sizeof *w.m);
	if (w.prev && w.heap && w.m) {
		w.next = w.prev + n;
		merge_all(&w);
		for (i = 0; i < w.n; i = w.next[i])
			ids[out++] = ids[i];
	}
	free(w.m);
	free(w.heap);
	free(w.prev);
	return out;
}

size_t bpe_merge(const struct bpe *b, int32_t *ids, size_t n)
{
	return n <= SHORT ? merge_short(b, ids, n) : merge_long(b, ids, n);
}
