/* map.c - see map.h. Open addressing, at most half full. */
#include "tok/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"

uint64_t map_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
		seed = (uint64_t)clock_mono() ^ (uint64_t)(uintptr_t)&seed;
	return map_mix(seed);
}

uint64_t map_hash(uint64_t seed, const char *s, size_t n)
{
	uint64_t h = seed ^ n, w;

	for (; n >= 8; s += 8, n -= 8) {
		memcpy(&w, s, 8);
		h = map_mix(h ^ w) + seed;
	}
	w = 0;
	memcpy(&w, s, n);
	return map_mix(h ^ w);
}

int map_init(struct map *m, const struct gguf_str *word, size_t n, uint64_t seed, struct moe_err *e)
{
	size_t size = 16;

	while (size < 2 * n)
		size *= 2;
	m->word = word;
	m->seed = seed;
	m->mask = size - 1;
	m->slot = calloc(size, sizeof *m->slot);
	return m->slot ? 0 : err_nomem(e, size * sizeof *m->slot, "a hash of tokens");
}

void map_free(struct map *m)
{
	free(m->slot);
	m->slot = NULL;
}

/* The slot that holds the string, or the empty one where it belongs. */
static size_t probe(const struct map *m, const char *s, size_t n)
{
	size_t i = map_hash(m->seed, s, n) & m->mask;

	for (; m->slot[i]; i = (i + 1) & m->mask) {
		const struct gguf_str *w = &m->word[m->slot[i] - 1];

		if (w->n == n && !memcmp(w->s, s, n))
			break;
	}
	return i;
}

void map_add(struct map *m, int32_t id)
{
	size_t i = probe(m, m->word[id].s, m->word[id].n);

	if (!m->slot[i])
		m->slot[i] = (uint32_t)id + 1;
}

int32_t map_find(const struct map *m, const char *s, size_t n)
{
	return (int32_t)m->slot[probe(m, s, n)] - 1;
}
