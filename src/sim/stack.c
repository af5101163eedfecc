/*
 * stack.c - see stack.h. An access costs in the order of how many keys lie above it in the lists.
 *
 * `order` has all keys by last access, the latest first. A key's rank of lfu and lfu-aged is a
 * number, its count above its last access, so no two are alike: their lists have ranks only, as
 * many as the largest cache holds. The clock of accesses has AGE_BITS: before it runs over, last
 * accesses are numbered anew from 1 in their order. A count has room for 2^44.
 */
#include "sim/stack.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { AGE_BITS = 20 };
#define LAST ((UINT64_C(1) << AGE_BITS) - 1)

struct frequency {            /* lfu, lfu-aged */
	uint64_t *rank;           /* [n_key] count << AGE_BITS | last access */
	uint64_t *held;           /* [most] */
	size_t n;
	uint64_t *hits;           /* [most]: at this place of the list */
};

struct bound {                /* belady, one size */
	size_t slots;
	uint16_t *over;           /* [n_key + 1] most that is kept over a point between the last
	                             access of order[i + 1] (excluded) and that of order[i], its own
	                             key included */
	size_t full;              /* first i with over[i] == slots: what lies behind is not kept up */
	uint64_t hits;
};

struct sim_stack {
	size_t n_key, n_size, most; /* most: slots of the largest size */
	size_t slots[SIM_STACK_SIZES];
	uint64_t n;
	uint32_t clock;
	uint16_t *order;          /* [n_key] */
	size_t n_order;
	uint64_t *count;          /* [n_key] */
	uint64_t *lru;            /* [n_key + 1] hits at this place of `order` */
	struct frequency lfu, aged;
	struct bound bound[SIM_STACK_SIZES];
};

static int frequency_init(struct frequency *f, size_t n_key, size_t most)
{
	f->rank = calloc(n_key + 1, sizeof *f->rank);
	f->held = calloc(most + 1, sizeof *f->held);
	f->hits = calloc(most + 1, sizeof *f->hits);
	return f->rank && f->held && f->hits;
}

static void frequency_free(struct frequency *f)
{
	free(f->rank);
	free(f->held);
	free(f->hits);
}

struct sim_stack *sim_stack_new(size_t n_key, const unsigned *slots, size_t n, struct moe_err *e)
{
	struct sim_stack *s = calloc(1, sizeof *s);
	int good = s != NULL;

	if (!s)
		goto fail;
	s->n_key = n_key;
	s->n_size = n;
	for (size_t i = 0; i < n; i++) {
		struct bound *b = &s->bound[i];

		s->slots[i] = slots[i] < n_key ? slots[i] : n_key;
		s->most = s->slots[i] > s->most ? s->slots[i] : s->most;
		b->slots = s->slots[i];
		b->full = SIZE_MAX;
		b->over = calloc(n_key + 2, sizeof *b->over);
		good &= b->over != NULL;
	}
	s->order = calloc(n_key + 1, sizeof *s->order);
	s->count = calloc(n_key + 1, sizeof *s->count);
	s->lru = calloc(n_key + 1, sizeof *s->lru);
	good &= frequency_init(&s->lfu, n_key, s->most) & frequency_init(&s->aged, n_key, s->most);
	if (good && s->order && s->count && s->lru)
		return s;
	sim_stack_free(s);
fail:
	err_nomem(e, n_key * (n * 2 + 64), "expert caches");
	return NULL;
}

void sim_stack_free(struct sim_stack *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_size; i++)
		free(s->bound[i].over);
	free(s->order);
	free(s->count);
	free(s->lru);
	frequency_free(&s->lfu);
	frequency_free(&s->aged);
	free(s);
}

/* ---- belady ---- */

/* One more is kept over all points up to the access of order[d], and a new point begins: each of
 * over[1..d] becomes what was before it, plus one. Four at a time. Returns the first place that
 * has reached `slots`, SIZE_MAX = none. */
static size_t keep(uint16_t *over, size_t d, uint16_t slots)
{
	const uint64_t one = UINT64_C(0x0001000100010001), full = slots * one;
	uint64_t carry = 0;
	size_t i = 0, first = SIZE_MAX;

	for (; i + 4 <= d + 1; i += 4) {
		uint64_t x, y;

		memcpy(&x, over + i, sizeof x);
		y = (x << 16 | carry) + one;
		carry = x >> 48;
		memcpy(over + i, &y, sizeof y);
		y ^= full;
		y = (y - one) & ~y & one << 15; /* the lowest mark is right, others may not be */
		if (y && first == SIZE_MAX)
			first = i + (size_t)__builtin_ctzll(y) / 16;
	}
	for (; i <= d; i++) {
		uint16_t x = over[i];

		over[i] = (uint16_t)(carry + 1);
		carry = x;
		if (over[i] == slots && first == SIZE_MAX)
			first = i;
	}
	return first;
}

/* An access to order[d], or to a new key where d = n: before `order` changes. */
static void bound_access(struct bound *b, size_t d, size_t n)
{
	uint16_t *over = b->over;
	size_t top;

	if (d == 0 && n) {
		b->hits++;
		return; /* nothing in between, and the point of this access has nothing kept over it */
	}
	if (d < n && d <= b->full) {
		uint16_t last = over[d];

		b->hits++;
		top = keep(over, d, (uint16_t)b->slots);
		over[d] = last > over[d] ? last : over[d]; /* two stretches become one */
		if (top == SIZE_MAX && last == b->slots)
			top = d;
		b->full = top < b->full ? top : b->full;
		return;
	}
	/* a new key with room everywhere: everything moves on by one */
	top = d < b->full ? d : b->full + 1;
	memmove(over + 1, over, top * sizeof *over);
	over[0] = 1;
	b->full = b->slots == 1 ? 0 : b->full == SIZE_MAX ? SIZE_MAX : b->full + 1;
}

/* ---- lfu ---- */

/* The key comes to the top; down to where it was, the lower rank of the one on its way down and the
 * one that it meets goes on. */
static void frequency_access(struct frequency *f, uint16_t key, uint32_t now, size_t most)
{
	uint64_t was = f->rank[key], rank = ((was >> AGE_BITS) + 1) << AGE_BITS | now, down;
	size_t i;

	f->rank[key] = rank;
	if (!f->n) {
		f->held[f->n++] = rank;
		return;
	}
	down = f->held[0];
	f->held[0] = rank;
	if (down == was) {
		f->hits[0]++;
		return;
	}
	for (i = 1; i < f->n && f->held[i] != was; i++) {
		uint64_t r = f->held[i];

		f->held[i] = r > down ? r : down;
		down = r > down ? down : r;
	}
	if (i < f->n) {
		f->hits[i]++;
		f->held[i] = down;
	} else if (f->n < most) {
		f->held[f->n++] = down;
	}
}

static uint64_t half(uint64_t rank)
{
	return rank >> (AGE_BITS + 1) << AGE_BITS | (rank & LAST);
}

static void halve(struct frequency *f, size_t n_key)
{
	for (size_t k = 0; k < n_key; k++)
		f->rank[k] = half(f->rank[k]);
	for (size_t i = 0; i < f->n; i++)
		f->held[i] = half(f->held[i]);
}

/* Last accesses numbered anew, from the number of keys down, in their order. */
static void renumber(struct sim_stack *s)
{
	struct frequency *f[] = { &s->lfu, &s->aged };

	for (size_t x = 0; x < 2; x++)
		for (size_t i = s->n_order; i-- > 0;) { /* oldest first: new numbers never meet old ones */
			uint64_t *r = &f[x]->rank[s->order[i]], now = (*r & ~LAST) | (s->n_order - i);

			for (size_t h = 0; h < f[x]->n; h++)
				if (f[x]->held[h] == *r) {
					f[x]->held[h] = now;
					break;
				}
			*r = now;
		}
	s->clock = (uint32_t)s->n_order;
}

/* ---- all ---- */

/* Where key is in v [n], n = nowhere; four at a time. */
static size_t find(const uint16_t *v, size_t n, uint16_t key)
{
	const uint64_t one = UINT64_C(0x0001000100010001), four = key * one;
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		uint64_t x;

		memcpy(&x, v + i, sizeof x);
		x ^= four;
		if ((x - one) & ~x & one << 15)
			break;
	}
	while (i < n && v[i] != key)
		i++;
	return i;
}

void sim_stack_add(struct sim_stack *s, const uint16_t *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t key = keys[i];
		size_t d;

		if (s->clock == LAST)
			renumber(s);
		s->clock++;
		d = find(s->order, s->n_order, key);
		for (size_t b = 0; b < s->n_size; b++)
			bound_access(&s->bound[b], d, s->n_order);
		s->lru[d] += d < s->n_order;
		s->n_order += d == s->n_order;
		memmove(s->order + 1, s->order, d * sizeof *s->order);
		s->order[0] = key;
		s->count[key]++;
		frequency_access(&s->lfu, key, s->clock, s->most);
		frequency_access(&s->aged, key, s->clock, s->most);
		s->n++;
		if (s->n % (SIM_AGE * s->n_key) == 0)
			halve(&s->aged, s->n_key);
	}
}

uint64_t sim_stack_accesses(const struct sim_stack *s)
{
	return s->n;
}

static uint64_t sum(const uint64_t *v, size_t n)
{
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += v[i];
	return all;
}

/* The most used keys hold from the start: those with fewer than `slots` others before them. */
static uint64_t fixed(const struct sim_stack *s, size_t slots)
{
	uint64_t all = 0;

	for (size_t k = 0; k < s->n_key; k++) {
		size_t before = 0;

		for (size_t x = 0; x < s->n_key; x++)
			before += s->count[x] > s->count[k] || (s->count[x] == s->count[k] && x < k);
		all += before < slots ? s->count[k] : 0;
	}
	return all;
}

uint64_t sim_stack_hits(const struct sim_stack *s, enum sim_cache_policy p, size_t i)
{
	switch (p) {
	case SIM_LRU: return sum(s->lru, s->slots[i]);
	case SIM_LFU: return sum(s->lfu.hits, s->slots[i]);
	case SIM_LFU_AGED: return sum(s->aged.hits, s->slots[i]);
	case SIM_STATIC: return fixed(s, s->slots[i]);
	case SIM_BELADY: return s->bound[i].hits;
	case SIM_N_CACHE: break;
	}
	return 0;
}
