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

/* A merge that was possible when it was pushed; stale once either side has changed. */
struct cand { uint32_t rank; uint32_t left; int32_t left_id, right_id, id; };

struct work {
	const struct bpe *b;
	int32_t *ids;             /* [n], the token of the list element that starts here */
	uint32_t *prev, *next;    /* [n], n = none */
	uint32_t n;
	struct cand *heap;        /* [<= 2 n] by (rank, left) */
	size_t n_heap;
};

static int before(const struct cand *x, const struct cand *y)
{
	return x->rank != y->rank ? x->rank < y->rank : x->left < y->left;
}

/* At most one push per neighbouring pair at the start (n - 1), then two per merge against one pop:
 * so the heap never holds more than 2 n. */
static void push(struct work *w, uint32_t left)
{
	uint32_t right = w->next[left];
	const struct bpe_merge *m;
	struct cand c;
	size_t i;

	if (right == w->n)
		return;
	m = bpe_find(w->b, w->ids[left], w->ids[right]);
	if (!m)
		return;
	c = (struct cand){ m->rank, left, w->ids[left], w->ids[right], m->id };
	for (i = w->n_heap++; i && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = c;
}

static struct cand pop(struct work *w)
{
	struct cand top = w->heap[0], last = w->heap[--w->n_heap];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < w->n_heap) {
		if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!before(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

static void merge_all(struct work *w)
{
	uint32_t i, right;
	struct cand c;

	for (i = 0; i < w->n; i++) {
		w->prev[i] = i ? i - 1 : w->n;
		w->next[i] = i + 1;
	}
	for (i = 0; i + 1 < w->n; i++)
		push(w, i);
	while (w->n_heap) {
		c = pop(w);
		right = w->next[c.left];
		/* An element that was merged away has id -1, which no candidate has. */
		if (w->ids[c.left] != c.left_id || right == w->n || w->ids[right] != c.right_id)
			continue;
		w->ids[c.left] = c.id;
		w->ids[right] = -1;
		w->next[c.left] = w->next[right];
		if (w->next[right] != w->n)
			w->prev[w->next[right]] = c.left;
		if (w->prev[c.left] != w->n)
			push(w, w->prev[c.left]);
		push(w, c.left);
	}
}

static size_t merge_long(const struct bpe *b, int32_t *ids, size_t n)
{
	struct work w = { .b = b, .ids = ids, .n = (uint32_t)n };
	size_t out = 0;
	uint32_t i;

	w.prev = malloc(2 * n * sizeof *w.prev);
	w.heap = malloc(2 * n * sizeof *w.heap);
	if (w.prev && w.heap) {
		w.next = w.prev + n;
		merge_all(&w);
		for (i = 0; i < w.n; i = w.next[i])
			ids[out++] = ids[i];
	}
	free(w.heap);
	free(w.prev);
	return out;
}

size_t bpe_merge(const struct bpe *b, int32_t *ids, size_t n)
{
	return n <= SHORT ? merge_short(b, ids, n) : merge_long(b, ids, n);
}
