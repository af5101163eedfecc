/* steps.c - see steps.h. */
#include "trace/steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trace/chunk.h"

static const char sql_seq[] =
	"SELECT id, seq, coalesce(domain, 0), coalesce(name, '') FROM sequence WHERE run = ?1 AND seq "
	"> ?2 AND (?3 < 0 OR coalesce(domain, 0) = ?3) ORDER BY seq LIMIT 1";
static const char sql_first_seq[] =
	"SELECT id, seq, coalesce(domain, 0), coalesce(name, '') FROM sequence WHERE run = ?1 AND seq "
	">= ?2 AND (?3 < 0 OR coalesce(domain, 0) = ?3) ORDER BY seq LIMIT 1";
/* %s: the columns that are asked for. */
static const char sql_chunk[] =
	"SELECT id, pos, n, phase, codec, %s FROM chunk "
	"WHERE sequence = ?1 AND (pos, id) > (?2, ?3) AND (?4 < 0 OR phase = ?4) ORDER BY pos, id "
	"LIMIT 1";

static int fail(struct steps *s, struct moe_err *e)
{
	int kind = sqlite3_errcode(s->db) & 0xff;

	return err_set(e, kind == SQLITE_NOMEM || kind == SQLITE_BUSY ||
		kind == SQLITE_IOERR ? MOE_ERR_SYS : MOE_ERR_INPUT, "%s: reading chunks of run %lld: %s",
		sqlite3_db_filename(s->db, "main"), (long long)s->f.run, sqlite3_errmsg(s->db));
}

int steps_open(struct steps *s, struct reader *r, const struct load_filter *f, const char *columns,
	struct moe_err *e)
{
	struct run_info *info = malloc(sizeof *info);
	char sql[512];
	int status = -1;

	memset(s, 0, sizeof *s);
	if (!info)
		return err_nomem(e, sizeof *info, "a run");
	s->db = reader_db(r);
	if (reader_run(r, f->run, info, e) ||
		layout_init(&s->lay, info->layers, info->n_moe_layer, e))
		goto out;
	s->f = *f;
	s->f.run = info->id;
	snprintf(sql, sizeof sql, sql_chunk, columns);
	if (sqlite3_prepare_v3(s->db, sql_first_seq, -1, 0, &s->next_seq, NULL) ||
		sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->st, NULL)) {
		fail(s, e);
		goto out;
	}
	status = 0;
out:
	free(info);
	return status;
}

void steps_close(struct steps *s)
{
	sqlite3_finalize(s->next_seq);
	sqlite3_finalize(s->st);
	layout_free(&s->lay);
	memset(s, 0, sizeof *s);
}

/* Take the sequence of the current row: parts of one document are neighbours with equal names. */
static void enter_seq(struct steps *s)
{
	int64_t domain = sqlite3_column_int64(s->next_seq, 2);
	const char *name = (const char *)sqlite3_column_text(s->next_seq, 3);

	s->sequence = sqlite3_column_int64(s->next_seq, 0);
	s->seq = sqlite3_column_int64(s->next_seq, 1);
	if (!name || !*name || strlen(name) >= sizeof s->name)
		name = "";
	if (!s->started || !*name || domain != s->domain || strcmp(name, s->name))
		s->document = s->sequence;
	s->domain = domain;
	strcpy(s->name, name);
	s->pos = s->id = INT64_MIN;
	s->in_seq = 1;
	s->started += s->started < 2;
}

/* 1 = there is a next sequence, 0 = no, -1. */
static int step_seq(struct steps *s, struct moe_err *e)
{
	int rc;

	if (s->started == 1) { /* from now on: strictly after the last one */
		sqlite3_finalize(s->next_seq);
		s->next_seq = NULL;
		if (sqlite3_prepare_v3(s->db, sql_seq, -1, SQLITE_PREPARE_PERSISTENT, &s->next_seq, NULL))
			return fail(s, e);
	}
	sqlite3_bind_int64(s->next_seq, 1, s->f.run);
	sqlite3_bind_int64(s->next_seq, 2, s->started ? s->seq : INT64_MIN);
	sqlite3_bind_int64(s->next_seq, 3, s->f.domain);
	rc = sqlite3_step(s->next_seq);
	if (rc == SQLITE_ROW) {
		enter_seq(s);
	} else if (rc != SQLITE_DONE) {
		fail(s, e);
	}
	sqlite3_reset(s->next_seq);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

/* What a row says of itself. */
static int check_row(struct steps *s, struct moe_err *e)
{
	int64_t phase = sqlite3_column_int64(s->st, 3);

	s->id = sqlite3_column_int64(s->st, 0);
	s->pos = sqlite3_column_int64(s->st, 1);
	s->n = sqlite3_column_int64(s->st, 2);
	s->codec = sqlite3_column_int64(s->st, 4);
	s->phase = (uint8_t)phase;
	if (chunk_check(s->id, s->n, s->codec, e))
		return -1;
	if (phase < 0 || phase > MOE_DECODE || s->pos < 0 || s->pos > UINT32_MAX)
		return err_set(e, MOE_ERR_INPUT, "chunk %lld: phase %lld, position %lld", (long long)s->id,
			(long long)phase, (long long)s->pos);
	return 0;
}

/* Does the filter's sample skip the sequence that begins? Counts it. */
static int left_out(struct steps *s)
{
	uint64_t every = s->f.every > 1 ? s->f.every : 1, n = s->nth++;

	return n % every || (s->f.half && n / every % 2 != (uint64_t)s->f.half - 1);
}

int steps_next(struct steps *s, int (*take)(void *ctx, struct moe_err *e), void *ctx,
	struct moe_err *e)
{
	for (;;) {
		int rc, bad = 0;

		if (s->f.most && s->handed >= s->f.most)
			return 0;
		if (!s->in_seq && (rc = step_seq(s, e)) <= 0)
			return rc;
		if (s->pos == INT64_MIN && left_out(s)) {
			s->in_seq = 0;
			continue;
		}
		sqlite3_bind_int64(s->st, 1, s->sequence);
		sqlite3_bind_int64(s->st, 2, s->pos);
		sqlite3_bind_int64(s->st, 3, s->id);
		sqlite3_bind_int(s->st, 4, s->f.phase);
		rc = sqlite3_step(s->st);
		if (rc == SQLITE_ROW)
			bad = check_row(s, e) || take(ctx, e);
		else if (rc != SQLITE_DONE)
			bad = fail(s, e);
		sqlite3_reset(s->st);
		if (bad)
			return -1;
		if (rc == SQLITE_ROW) {
			s->handed += (uint64_t)s->n;
			return 1;
		}
		s->in_seq = 0;
	}
}
