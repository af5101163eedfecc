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

void block_rows(const struct block_shape *s, void *block, struct block_rows *out)
{
	unsigned char *b = block;

	out->tokens = (void *)(b + s->tokens);
	out->margins = (void *)(b + s->margins);
	out->weights = (void *)(b + s->weights);
	out->logits = (void *)(b + s->logits);
	out->experts = (void *)(b + s->experts);
	out->before = (void *)(b + s->before);
	out->flags = b + s->flags;
}

void block_copy(const struct block_shape *s, void *dst, const void *src)
{
	const struct block_head *h = src;
	const struct layout *l = s->lay;
	const struct { size_t at, row; } part[] = {
		{ s->tokens, sizeof(int32_t) },
		{ s->margins, l->n * sizeof(float) },
		{ s->weights, l->k_row * sizeof(float) },
		{ s->experts, l->k_row * sizeof(uint16_t) },
		{ s->before, h->edited ? l->k_row * sizeof(uint16_t) : 0 },
		{ s->flags, l->n },
		{ s->logits, h->has_logits ? l->e_row * sizeof(float) : 0 },
	};

	memcpy(dst, h, sizeof *h);
	for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
		memcpy((char *)dst + part[i].at, (const char *)src + part[i].at, h->n * part[i].row);
}

size_t msg_bytes(const struct msg *m)
{
	return (sizeof *m + m->len[0] + m->len[1] + 7) & ~(size_t)7;
}
