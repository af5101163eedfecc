/*
 * map.h - a hash from byte strings to token ids, over an array that the caller owns.
 *
 * The strings come from a model file, so the hash is keyed with a random seed: nobody can prepare a
 * vocabulary whose strings collide. Read-only after building; safe from any thread.
 */
#ifndef TOK_MAP_H
#define TOK_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "gguf/gguf.h"

struct map {
	const struct gguf_str *word; /* [ids], borrowed */
	uint32_t *slot;              /* [mask + 1], id + 1, 0 = empty */
	size_t mask;
	uint64_t seed;
};

uint64_t map_seed(void);
uint64_t map_hash(uint64_t seed, const char *s, size_t n);
static inline uint64_t map_mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

/* Room for n words of word[]. */
int map_init(struct map *m, const struct gguf_str *word, size_t n, uint64_t seed,
	struct moe_err *e);
void map_free(struct map *m);
/* Add word[id] unless an equal string is there: the first id added wins. */
void map_add(struct map *m, int32_t id);
/* The id, or -1. */
int32_t map_find(const struct map *m, const char *s, size_t n);

#endif
