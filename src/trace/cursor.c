/*
 * cursor.c - decisions in order of sequence and position; see reader.h.
 *
 * Each step looks the next chunk up by key and resets its statement, so that no read transaction
 * outlives the step. Sequences go by the engine's number; chunks by position, then by id for an
 * engine that rewound. Blobs are copied, so that arrays are aligned and outlive the statement.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/chunk.h"
#include "trace/reader.h"

struct cursor {
	sqlite3 *db;
	sqlite3_stmt *next_seq, *next_chunk, *find;
	struct layout lay;
	struct load_filter f;
	int started;           /* a sequence was looked for */
	int in_seq;            /* sequence, seq and domain are of a sequence */
	int64_t sequence, seq, domain;
	int64_t document;      /* first of the neighbouring sequences of this name and domain */
	char name[512];        /* of the sequence; a longer name counts as no name */
	int64_t pos, id;       /* last chunk of the sequence */
	unsigned char *mem[CHUNK_N_BLOB]; /* room for LAYOUT_CHUNK tokens each; NULL until used */
	size_t size[CHUNK_N_BLOB];
};

static const char sql_seq[] =
	"SELECT id, seq, coalesce(domain, 0), coalesce(name, '') FROM sequence WHERE run = ?1 AND seq > ?2 "
	"AND (?3 < 0 OR coalesce(domain, 0) = ?3) ORDER BY seq LIMIT 1";
static const char sql_first_seq[] =
	"SELECT id, seq, coalesce(domain, 0), coalesce(name, '') FROM sequence WHERE run = ?1 AND seq >= ?2 "
	"AND (?3 < 0 OR coalesce(domain, 0) = ?3) ORDER BY seq LIMIT 1";
static const char sql_chunk[] =
	"SELECT id, pos, n, phase, codec, tokens, experts, weights, margins, flags, before, logits "
	"FROM chunk WHERE sequence = ?1 AND (pos, id) > (?2, ?3) AND (?4 < 0 OR phase = ?4) "
	"ORDER BY pos, id LIMIT 1";

static int fail(struct cursor *c, struct moe_err *e)
{
	int kind = sqlite3_errcode(c->db) & 0xff;

	return err_set(e, kind == SQLITE_NOMEM || kind == SQLITE_BUSY || kind == SQLITE_IOERR ? MOE_ERR_SYS :
		MOE_ERR_INPUT, "%s: reading chunks of run %lld: %s",
		sqlite3_db_filename(c->db, "main"), (long long)c->f.run, sqlite3_errmsg(c->db));
}

struct cursor *cursor_open(struct reader *r, const struct load_filter *f, struct moe_err *e)
{
	struct cursor *c = calloc(1, sizeof *c);
	struct run_info *info = malloc(sizeof *info);

	if (!c || !info) {
		err_nomem(e, sizeof *c + sizeof *info, "a cursor");
		goto fail;
	}
	c->db = reader_db(r);
	if (reader_run(r, f->run, info, e) ||
		layout_init(&c->lay, info->layers, info->n_moe_layer, e))
		goto fail;
	c->f = *f;
	c->f.run = info->id;
	if (sqlite3_prepare_v3(c->db, sql_first_seq, -1, 0, &c->next_seq, NULL) ||
		sqlite3_prepare_v3(c->db, sql_chunk, -1, SQLITE_PREPARE_PERSISTENT, &c->next_chunk, NULL)) {
		fail(c, e);
		goto fail;
	}
	free(info);
	return c;
fail:
	free(info);
	cursor_close(c);
	return NULL;
}

void cursor_close(struct cursor *c)
{
	if (!c)
		return;
	sqlite3_finalize(c->next_seq);
	sqlite3_finalize(c->next_chunk);
	sqlite3_finalize(c->find);
	for (size_t i = 0; i < CHUNK_N_BLOB; i++)
		free(c->mem[i]);
	layout_free(&c->lay);
	free(c);
}

/* Take the sequence of the current row: parts of one document are neighbours with equal names. */
static void enter_seq(struct cursor *c)
{
	int64_t domain = sqlite3_column_int64(c->next_seq, 2);
	const char *name = (const char *)sqlite3_column_text(c->next_seq, 3);

	c->sequence = sqlite3_column_int64(c->next_seq, 0);
	c->seq = sqlite3_column_int64(c->next_seq, 1);
	if (!name || !*name || strlen(name) >= sizeof c->name)
		name = "";
	if (!c->started || !*name || domain != c->domain || strcmp(name, c->name))
		c->document = c->sequence;
	c->domain = domain;
	strcpy(c->name, name);
	c->pos = c->id = INT64_MIN;
	c->in_seq = 1;
	c->started += c->started < 2;
}

/* 1 = there is a next sequence, 0 = no, -1. */
static int step_seq(struct cursor *c, struct moe_err *e)
{
	int rc;

	if (c->started == 1) { /* from now on: strictly after the last one */
		sqlite3_finalize(c->next_seq);
		c->next_seq = NULL;
		if (sqlite3_prepare_v3(c->db, sql_seq, -1, SQLITE_PREPARE_PERSISTENT, &c->next_seq, NULL))
			return fail(c, e);
	}
	sqlite3_bind_int64(c->next_seq, 1, c->f.run);
	sqlite3_bind_int64(c->next_seq, 2, c->started ? c->seq : INT64_MIN);
	sqlite3_bind_int64(c->next_seq, 3, c->f.domain);
	rc = sqlite3_step(c->next_seq);
	if (rc == SQLITE_ROW) {
		enter_seq(c);
	} else if (rc != SQLITE_DONE) {
		fail(c, e);
	}
	sqlite3_reset(c->next_seq);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

/* Copy a blob of the current row; *out NULL when it is absent. */
static int take(struct cursor *c, enum chunk_blob which, size_t n, const void **out,
	struct moe_err *e)
{
	sqlite3_stmt *st = c->next_chunk;
	int col = 5 + (int)which;
	size_t len;

	if (chunk_blob(st, col, which, &c->lay, c->id, n, out, e))
		return -1;
	if (!*out)
		return 0;
	len = (size_t)sqlite3_column_bytes(st, col);
	if (len > c->size[which]) {
		free(c->mem[which]);
		c->size[which] = 0;
		c->mem[which] = malloc(len);
		if (!c->mem[which])
			return err_nomem(e, len, "a chunk");
		c->size[which] = len;
	}
	memcpy(c->mem[which], *out, len);
	*out = c->mem[which];
	return 0;
}

/* Expert ids are indices for whoever reads them: none may reach beyond its layer. */
static int check_ids(const struct cursor *c, const uint16_t *id, size_t n, struct moe_err *e)
{
	for (size_t t = 0; id && t < n; t++)
		for (size_t i = 0; i < c->lay.n; i++)
			for (uint16_t k = 0; k < c->lay.layer[i].k; k++, id++)
				if (*id >= c->lay.layer[i].n_expert)
					return err_set(e, MOE_ERR_INPUT,
						"chunk %lld: token %zu, layer %d, rank %d is expert %d of %d",
						(long long)c->id, t, c->lay.layer[i].layer, k, *id,
						c->lay.layer[i].n_expert);
	return 0;
}

static int read_chunk(struct cursor *c, struct cursor_chunk *out, struct moe_err *e)
{
	sqlite3_stmt *st = c->next_chunk;
	const void *p[CHUNK_N_BLOB];
	int64_t n = sqlite3_column_int64(st, 2), phase = sqlite3_column_int64(st, 3);

	c->id = sqlite3_column_int64(st, 0);
	c->pos = sqlite3_column_int64(st, 1);
	if (chunk_check(c->id, n, sqlite3_column_int64(st, 4), e))
		return -1;
	if (phase < 0 || phase > MOE_DECODE || c->pos < 0 || c->pos > UINT32_MAX)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: phase %lld, position %lld", (long long)c->id,
			(long long)phase, (long long)c->pos);
	for (int i = 0; i < CHUNK_N_BLOB; i++)
		if (take(c, (enum chunk_blob)i, (size_t)n, &p[i], e))
			return -1;
	if (check_ids(c, p[CHUNK_EXPERTS], (size_t)n, e) || check_ids(c, p[CHUNK_BEFORE], (size_t)n, e))
		return -1;
	*out = (struct cursor_chunk){ .id = c->id, .sequence = c->sequence, .document = c->document,
		.domain = c->domain,
		.seq = (uint64_t)c->seq, .pos = (uint32_t)c->pos, .n = (uint32_t)n, .phase = (uint8_t)phase,
		.n_layer = c->lay.n, .layers = c->lay.layer, .k_at = c->lay.k_at, .e_at = c->lay.e_at,
		.k_row = c->lay.k_row, .e_row = c->lay.e_row, .tokens = p[CHUNK_TOKENS],
		.experts = p[CHUNK_EXPERTS], .weights = p[CHUNK_WEIGHTS], .margins = p[CHUNK_MARGINS],
		.flags = p[CHUNK_FLAGS], .before = p[CHUNK_BEFORE], .logits = p[CHUNK_LOGITS] };
	return 0;
}

int cursor_next(struct cursor *c, struct cursor_chunk *out, struct moe_err *e)
{
	for (;;) {
		int rc, bad = 0;

		if (!c->in_seq && (rc = step_seq(c, e)) <= 0)
			return rc;
		sqlite3_bind_int64(c->next_chunk, 1, c->sequence);
		sqlite3_bind_int64(c->next_chunk, 2, c->pos);
		sqlite3_bind_int64(c->next_chunk, 3, c->id);
		sqlite3_bind_int(c->next_chunk, 4, c->f.phase);
		rc = sqlite3_step(c->next_chunk);
		if (rc == SQLITE_ROW)
			bad = read_chunk(c, out, e);
		else if (rc != SQLITE_DONE)
			bad = fail(c, e);
		sqlite3_reset(c->next_chunk);
		if (bad)
			return -1;
		if (rc == SQLITE_ROW)
			return 1;
		c->in_seq = 0;
	}
}

int cursor_seek(struct cursor *c, int64_t chunk, struct moe_err *e)
{
	int rc;

	if (!c->find && sqlite3_prepare_v3(c->db, "SELECT s.id, s.seq, coalesce(s.domain, 0), c.pos "
		"FROM chunk c JOIN sequence s ON s.id = c.sequence WHERE c.id = ?1 AND c.run = ?2", -1,
		SQLITE_PREPARE_PERSISTENT, &c->find, NULL))
		return fail(c, e);
	sqlite3_bind_int64(c->find, 1, chunk);
	sqlite3_bind_int64(c->find, 2, c->f.run);
	rc = sqlite3_step(c->find);
	if (rc == SQLITE_ROW) {
		c->sequence = c->document = sqlite3_column_int64(c->find, 0);
		c->seq = sqlite3_column_int64(c->find, 1);
		c->domain = sqlite3_column_int64(c->find, 2);
		c->pos = sqlite3_column_int64(c->find, 3);
		c->id = chunk - 1; /* the next one after (pos, chunk - 1) is this one */
		c->name[0] = 0;
		c->in_seq = c->started = 1;
	} else if (rc != SQLITE_DONE) {
		fail(c, e);
	}
	sqlite3_reset(c->find);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}
