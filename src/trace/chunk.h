/*
 * chunk.h - a stored chunk as arrays, whatever its codec. Used by the cursor, scans and `routing`.
 *
 * Part of the loadable extension: knows SQLite, the layout, the codecs and nothing else.
 */
#ifndef TRACE_CHUNK_H
#define TRACE_CHUNK_H

#include "trace/layout.h"

/* The blob columns in the order in which CHUNK_BLOBS names them. */
enum chunk_blob {
	CHUNK_TOKENS, CHUNK_EXPERTS, CHUNK_WEIGHTS, CHUNK_MARGINS, CHUNK_FLAGS, CHUNK_BEFORE,
	CHUNK_LOGITS, CHUNK_N_BLOB
};

/* Where the arrays of the present chunk live; zero to begin with. */
struct chunk_mem {
	void *mem[CHUNK_N_BLOB];
	size_t size[CHUNK_N_BLOB];
};
void chunk_mem_free(struct chunk_mem *m);

/* Checks n and codec. */
int chunk_check(int64_t id, int64_t n, int64_t codec, struct moe_err *e);

/* Blob `which` in column col of a row, unpacked into m: the array of struct cursor_chunk, aligned.
 * *out is NULL when the column is NULL and may be; weights and margins that a run did not keep are
 * NAN. Valid until the next call for the same blob. Expert ids are not checked yet. */
int chunk_take(struct chunk_mem *m, sqlite3_stmt *st, int col, enum chunk_blob which,
	const struct layout *l, int64_t codec, int64_t id, size_t n, const void **out,
	struct moe_err *e);

/* Expert ids are indices for whoever reads them: -1 if one reaches beyond its layer. id [n][k_row];
 * NULL is fine. */
int chunk_check_ids(const struct layout *l, int64_t id, const uint16_t *rows, size_t n,
	struct moe_err *e);

#endif
