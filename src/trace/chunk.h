/*
 * chunk.h - is a stored chunk what it should be? Used by the cursor and by `routing`.
 *
 * Part of the loadable extension: knows SQLite, the layout and nothing else.
 */
#ifndef TRACE_CHUNK_H
#define TRACE_CHUNK_H

#include "trace/layout.h"

/* The blob columns in the order in which CHUNK_BLOBS names them. */
enum chunk_blob {
	CHUNK_TOKENS, CHUNK_EXPERTS, CHUNK_WEIGHTS, CHUNK_MARGINS, CHUNK_FLAGS, CHUNK_BEFORE,
	CHUNK_LOGITS, CHUNK_N_BLOB
};

/* Checks n and codec. */
int chunk_check(int64_t id, int64_t n, int64_t codec, struct moe_err *e);

/* The bytes of blob `which` in column col of a row; *out is NULL when the column is NULL and the
 * blob may be absent. Valid until the statement moves. */
int chunk_blob(sqlite3_stmt *st, int col, enum chunk_blob which, const struct layout *l, int64_t id,
	size_t n, const void **out, struct moe_err *e);

#endif
