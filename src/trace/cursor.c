/*
 * cursor.c - decisions in order of sequence and position; see reader.h.
 *
 * Blobs are unpacked, so that arrays are aligned and outlive the statement.
 */
#include <stdlib.h>

#include "base/err.h"
#include "trace/chunk.h"
#include "trace/steps.h"

struct cursor {
	struct steps s;
	struct chunk_mem mem;
	struct cursor_chunk *out; /* of the step in progress */
	sqlite3_stmt *find;
};

struct cursor *cursor_open(struct reader *r, const struct load_filter *f, struct moe_err *e)
{
	struct cursor *c = calloc(1, sizeof *c);

	if (!c) {
		err_nomem(e, sizeof *c, "a cursor");
		return NULL;
	}
	if (steps_open(&c->s, r, f, "tokens, experts, weights, margins, flags, before, logits", e)) {
		cursor_close(c);
		return NULL;
	}
	return c;
}

void cursor_close(struct cursor *c)
{
	if (!c)
		return;
	sqlite3_finalize(c->find);
	steps_close(&c->s);
	chunk_mem_free(&c->mem);
	free(c);
}

static int take(void *ctx, struct moe_err *e)
{
	struct cursor *c = ctx;
	struct steps *s = &c->s;
	const void *p[CHUNK_N_BLOB];
	size_t n = (size_t)s->n;

	for (int i = 0; i < CHUNK_N_BLOB; i++)
		if (chunk_take(&c->mem, s->st, STEPS_COLUMN + i, (enum chunk_blob)i, &s->lay, s->codec,
		    s->id,
			n, &p[i], e))
			return -1;
	if (chunk_check_ids(&s->lay, s->id, p[CHUNK_EXPERTS], n, e) ||
		chunk_check_ids(&s->lay, s->id, p[CHUNK_BEFORE], n, e))
		return -1;
	*c->out = (struct cursor_chunk){ .id = s->id, .sequence = s->sequence, .document = s->document,
		.domain = s->domain, .seq = (uint64_t)s->seq, .pos = (uint32_t)s->pos, .n = (uint32_t)n,
		.phase = s->phase, .n_layer = s->lay.n, .layers = s->lay.layer, .k_at = s->lay.k_at,
		.e_at = s->lay.e_at, .k_row = s->lay.k_row, .e_row = s->lay.e_row,
		.tokens = p[CHUNK_TOKENS], .experts = p[CHUNK_EXPERTS], .weights = p[CHUNK_WEIGHTS],
		.margins = p[CHUNK_MARGINS], .flags = p[CHUNK_FLAGS], .before = p[CHUNK_BEFORE],
		.logits = p[CHUNK_LOGITS] };
	return 0;
}

int cursor_next(struct cursor *c, struct cursor_chunk *out, struct moe_err *e)
{
	c->out = out;
	return steps_next(&c->s, take, c, e);
}

int cursor_seek(struct cursor *c, int64_t chunk, struct moe_err *e)
{
	struct steps *s = &c->s;
	int rc;

	if (!c->find && sqlite3_prepare_v3(s->db, "SELECT s.id, s.seq, coalesce(s.domain, 0), c.pos "
		"FROM chunk c JOIN sequence s ON s.id = c.sequence WHERE c.id = ?1 AND c.run = ?2", -1,
		SQLITE_PREPARE_PERSISTENT, &c->find, NULL))
		return err_set(e, MOE_ERR_INPUT, "finding a chunk: %s", sqlite3_errmsg(s->db));
	sqlite3_bind_int64(c->find, 1, chunk);
	sqlite3_bind_int64(c->find, 2, s->f.run);
	rc = sqlite3_step(c->find);
	if (rc == SQLITE_ROW) {
		s->sequence = s->document = sqlite3_column_int64(c->find, 0);
		s->seq = sqlite3_column_int64(c->find, 1);
		s->domain = sqlite3_column_int64(c->find, 2);
		s->pos = sqlite3_column_int64(c->find, 3);
		s->id = chunk - 1; /* the next one after (pos, chunk - 1) is this one */
		s->name[0] = 0;
		s->in_seq = s->started = 1;
	} else if (rc != SQLITE_DONE) {
		err_set(e, MOE_ERR_INPUT, "finding a chunk: %s", sqlite3_errmsg(s->db));
	}
	sqlite3_reset(c->find);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}
