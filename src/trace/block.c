/* block.c - see block.h. Arrays are in falling order of alignment, each at a multiple of 8. */
#include "trace/block.h"

#include <string.h>

static size_t place(size_t *at, size_t bytes)
{
	size_t here = *at;

	*at = (here + bytes + 7) & ~(size_t)7;
	return here;
}

static void lay_out(struct block_shape *s, uint32_t cap)
{
	const struct layout *l = s->lay;
	size_t at = (sizeof(struct block_head) + 7) & ~(size_t)7;

	s->cap = cap;
	s->tokens = place(&at, cap * sizeof(int32_t));
	s->margins = place(&at, cap * l->n * sizeof(float));
	s->weights = place(&at, cap * l->k_row * sizeof(float));
	s->experts = place(&at, cap * l->k_row * sizeof(uint16_t));
	s->before = place(&at, cap * l->k_row * sizeof(uint16_t));
	s->flags = place(&at, cap * l->n);
	s->logits = place(&at, cap * l->e_row * sizeof(float));
	s->bytes = at < BLOCK_MIN_BYTES ? BLOCK_MIN_BYTES : at;
}

void block_shape(struct block_shape *s, const struct layout *lay, size_t max_bytes)
{
	uint32_t cap = LAYOUT_CHUNK;

	s->lay = lay;
	max_bytes = max_bytes > BLOCK_MIN_BYTES ? max_bytes : BLOCK_MIN_BYTES;
	for (lay_out(s, cap); cap > 1 && s->bytes > max_bytes; lay_out(s, cap))
		cap--;
}

int32_t *block_tokens(const struct block_shape *s, void *block)
{
	return (void *)((unsigned char *)block + s->tokens);
}

void block_rows(const struct block_shape *s, void *block, size_t i, struct block_rows *out)
{
	unsigned char *b = block;
	size_t pick = s->cap * s->lay->k_at[i];

	out->margins = (float *)(void *)(b + s->margins) + s->cap * i;
	out->weights = (float *)(void *)(b + s->weights) + pick;
	out->logits = (float *)(void *)(b + s->logits) + s->cap * s->lay->e_at[i];
	out->experts = (uint16_t *)(void *)(b + s->experts) + pick;
	out->before = (uint16_t *)(void *)(b + s->before) + pick;
	out->flags = b + s->flags + s->cap * i;
}

int block_any_edited(const struct block_shape *s, void *block)
{
	const struct block_head *h = block;
	struct block_rows r;
	int flags = 0;

	block_rows(s, block, 0, &r);
	for (size_t i = 0; h->edited && i < s->lay->n; i++, r.flags += s->cap)
		for (size_t t = 0; t < h->n; t++)
			flags |= r.flags[t];
	return (flags & MOE_EV_EDITED) != 0;
}

void block_by_token(const struct block_shape *s, const void *array, enum block_per per,
	size_t size, size_t n, void *to)
{
	const struct layout *l = s->lay;
	size_t row = size * (per == BLOCK_PICK ? l->k_row : per == BLOCK_EXPERT ? l->e_row : l->n);

	for (size_t i = 0; i < l->n; i++) {
		size_t at = size * (per == BLOCK_PICK ? l->k_at[i] : per == BLOCK_EXPERT ? l->e_at[i] : i);
		size_t len = size * (per == BLOCK_PICK ? l->layer[i].k :
			per == BLOCK_EXPERT ? l->layer[i].n_expert : 1);
		const char *from = (const char *)array + s->cap * at;
		char *p = (char *)to + at;

		for (size_t t = 0; t < n; t++, from += len, p += row)
			memcpy(p, from, len);
	}
}

size_t msg_bytes(const struct msg *m)
{
	return (sizeof *m + m->len[0] + m->len[1] + 7) & ~(size_t)7;
}
