/* chunk.c - see chunk.h. */
#include "trace/chunk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/pack.h"

static const struct {
	const char *name;
	int required; /* 2 = only by codec 1: later ones may leave it out */
} blobs[CHUNK_N_BLOB] = {
	[CHUNK_TOKENS] = { "tokens", 1 }, [CHUNK_EXPERTS] = { "experts", 1 },
	[CHUNK_WEIGHTS] = { "weights", 2 }, [CHUNK_MARGINS] = { "margins", 2 },
	[CHUNK_FLAGS] = { "flags", 0 }, [CHUNK_BEFORE] = { "before", 0 },
	[CHUNK_LOGITS] = { "logits", 0 },
};

/* Bytes of a token's row in memory, which are those of codec 1. */
static size_t row_bytes(enum chunk_blob which, const struct layout *l)
{
	switch (which) {
	case CHUNK_TOKENS: return 4;
	case CHUNK_EXPERTS: case CHUNK_BEFORE: return l->k_row * 2;
	case CHUNK_WEIGHTS: return l->k_row * 4;
	case CHUNK_MARGINS: return l->n * 4;
	case CHUNK_FLAGS: return l->n;
	case CHUNK_LOGITS: return l->e_row * 4;
	case CHUNK_N_BLOB: break;
	}
	return 0;
}

void chunk_mem_free(struct chunk_mem *m)
{
	for (size_t i = 0; i < CHUNK_N_BLOB; i++)
		free(m->mem[i]);
	memset(m, 0, sizeof *m);
}

int chunk_check(int64_t id, int64_t n, int64_t codec, struct moe_err *e)
{
	if (codec < 1 || codec > LAYOUT_CODEC)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: codec %lld, this program reads 1 to %d",
			(long long)id, (long long)codec, LAYOUT_CODEC);
	if (n < 1 || n > LAYOUT_CHUNK)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %lld tokens, allowed are 1 to %d",
			(long long)id, (long long)n, LAYOUT_CHUNK);
	return 0;
}

/* Room for the blob's array; kept from chunk to chunk. */
static void *room(struct chunk_mem *m, enum chunk_blob which, size_t bytes, struct moe_err *e)
{
	if (bytes > m->size[which]) {
		free(m->mem[which]);
		m->size[which] = 0;
		m->mem[which] = malloc(bytes);
		if (!m->mem[which]) {
			err_nomem(e, bytes, "a chunk");
			return NULL;
		}
		m->size[which] = bytes;
	}
	return m->mem[which];
}

/* Bytes that the blob must have; 0 = only its unpacker can tell. */
static size_t blob_bytes(enum chunk_blob which, const struct layout *l, int64_t codec, size_t n)
{
	if (codec > 1 && (which == CHUNK_EXPERTS || which == CHUNK_BEFORE))
		return pack_experts_bytes(l, n);
	if (codec > 1 && (which == CHUNK_WEIGHTS || which == CHUNK_MARGINS))
		return 0;
	return n * row_bytes(which, l);
}

/* The blob's bytes as the array in `to`; -1 if they are not what they must be. */
static int unpack(enum chunk_blob which, const struct layout *l, int64_t codec, size_t n,
	const void *blob, size_t len, void *to)
{
	if (codec == 1)
		which = CHUNK_TOKENS; /* as they are */
	switch (which) {
	case CHUNK_EXPERTS: case CHUNK_BEFORE: unpack_experts(l, n, blob, to); return 0;
	case CHUNK_WEIGHTS: return unpack_weights(l, n, blob, len, to);
	case CHUNK_MARGINS: return unpack_margins(l, n, blob, len, to);
	case CHUNK_FLAGS: unpack_flags(l, n, blob, to); return 0;
	case CHUNK_TOKENS: case CHUNK_LOGITS: case CHUNK_N_BLOB: break;
	}
	memcpy(to, blob, len);
	return 0;
}

int chunk_take(struct chunk_mem *m, sqlite3_stmt *st, int col, enum chunk_blob which,
	const struct layout *l, int64_t codec, int64_t id, size_t n, const void **out,
	struct moe_err *e)
{
	size_t want = blob_bytes(which, l, codec, n), have, bytes = n * row_bytes(which, l);
	int required = blobs[which].required;
	const void *blob;
	float *to;

	*out = NULL;
	if (sqlite3_column_type(st, col) == SQLITE_NULL) {
		if (!required)
			return 0;
		if (required == 2 && codec > 1) {
			to = room(m, which, bytes, e);
			for (size_t i = 0; to && i < bytes / sizeof *to; i++)
				to[i] = NAN;
			*out = to;
			return to ? 0 : -1;
		}
	}
	blob = sqlite3_column_blob(st, col);
	have = (size_t)sqlite3_column_bytes(st, col);
	if (!blob || (want && have != want))
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes, %zu tokens take %zu",
			(long long)id, blobs[which].name, have, n, want);
	to = room(m, which, bytes, e);
	if (!to)
		return -1;
	if (unpack(which, l, codec, n, blob, have, to))
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes that are not the packed "
			"numbers of %zu tokens", (long long)id, blobs[which].name, have, n);
	*out = to;
	return 0;
}

int chunk_check_ids(const struct layout *l, int64_t id, const uint16_t *rows, size_t n,
	struct moe_err *e)
{
	for (size_t t = 0; rows && t < n; t++)
		for (size_t i = 0; i < l->n; i++)
			for (uint16_t k = 0; k < l->layer[i].k; k++, rows++)
				if (*rows >= l->layer[i].n_expert)
					return err_set(e, MOE_ERR_INPUT,
						"chunk %lld: token %zu, layer %d, rank %d is expert %d of %d",
						(long long)id, t, l->layer[i].layer, k, *rows, l->layer[i].n_expert);
	return 0;
}
