/* chunk.c - see chunk.h. */
#include "trace/chunk.h"

#include "base/err.h"

static const struct { const char *name; int required; } blobs[CHUNK_N_BLOB] = {
	[CHUNK_TOKENS] = { "tokens", 1 }, [CHUNK_EXPERTS] = { "experts", 1 },
	[CHUNK_WEIGHTS] = { "weights", 1 }, [CHUNK_MARGINS] = { "margins", 1 },
	[CHUNK_FLAGS] = { "flags", 0 }, [CHUNK_BEFORE] = { "before", 0 },
	[CHUNK_LOGITS] = { "logits", 0 },
};

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

int chunk_check(int64_t id, int64_t n, int64_t codec, struct moe_err *e)
{
	if (codec != LAYOUT_CODEC)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: codec %lld, this program reads %d",
			(long long)id, (long long)codec, LAYOUT_CODEC);
	if (n < 1 || n > LAYOUT_CHUNK)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %lld tokens, allowed are 1 to %d",
			(long long)id, (long long)n, LAYOUT_CHUNK);
	return 0;
}

int chunk_blob(sqlite3_stmt *st, int col, enum chunk_blob which, const struct layout *l, int64_t id,
	size_t n, const void **out, struct moe_err *e)
{
	size_t want = n * row_bytes(which, l), have;

	*out = NULL;
	if (sqlite3_column_type(st, col) == SQLITE_NULL && !blobs[which].required)
		return 0;
	*out = sqlite3_column_blob(st, col);
	have = (size_t)sqlite3_column_bytes(st, col);
	if (have != want || !*out)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: %s has %zu bytes, %zu tokens take %zu",
			(long long)id, blobs[which].name, have, n, want);
	return 0;
}
