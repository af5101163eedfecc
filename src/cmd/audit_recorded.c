/*
 * audit_recorded.c - see audit_recorded.h. Positions must follow one another: what comes after a
 * hole could not be run again, so it is not read.
 */
#include "cmd/audit_recorded.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void recorded_init(struct recorded *c, const struct run_info *info)
{
	memset(c, 0, sizeof *c);
	c->info = info;
	for (uint32_t i = 0; i < info->n_moe_layer; i++) {
		c->k_at[i] = c->k_row;
		c->k_row += info->layers[i].k;
	}
}

void recorded_free(struct recorded *c)
{
	free(c->tokens);
	free(c->phase);
	free(c->looked);
	free(c->experts);
	free(c->weights);
	free(c->margins);
	memset(c, 0, sizeof *c);
}

void recorded_clear(struct recorded *c)
{
	c->n = c->n_prompt = 0;
}

static int room(struct recorded *c, size_t n, struct moe_err *e)
{
	struct { void **at; size_t bytes; } part[] = { { (void **)&c->tokens, sizeof *c->tokens },
		{ (void **)&c->phase, 1 }, { (void **)&c->looked, 1 },
		{ (void **)&c->experts, c->k_row * sizeof *c->experts },
		{ (void **)&c->weights, c->k_row * sizeof *c->weights },
		{ (void **)&c->margins, c->info->n_moe_layer * sizeof *c->margins } };
	size_t cap = c->cap ? c->cap : 256;

	if (n <= c->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
		void *q = realloc(*part[i].at, cap * part[i].bytes);

		if (!q)
			return err_nomem(e, cap * part[i].bytes, "a recorded sequence");
		*part[i].at = q;
	}
	c->cap = cap;
	return 0;
}

/* ---- from rows ---- */

/* Take a chunk of the sequence in: 0, 1 = it does not follow, -1. */
static int add_chunk(struct recorded *c, const struct cursor_chunk *ch, struct moe_err *e)
{
	if (ch->pos != c->n)
		return 1;
	if (room(c, c->n + ch->n, e))
		return -1;
	memcpy(c->tokens + c->n, ch->tokens, ch->n * sizeof *c->tokens);
	memset(c->phase + c->n, ch->phase, ch->n);
	memset(c->looked + c->n, 0, ch->n);
	memcpy(c->weights + c->n * c->k_row, ch->weights, ch->n * c->k_row * sizeof *c->weights);
	memcpy(c->experts + c->n * c->k_row, ch->experts, ch->n * c->k_row * sizeof *c->experts);
	memcpy(c->margins + c->n * ch->n_layer, ch->margins, ch->n * ch->n_layer * sizeof *c->margins);
	c->n += ch->n;
	if (ch->phase == MOE_PREFILL)
		c->n_prompt += ch->n;
	return 0;
}

int recorded_rows(struct recorded *c, struct reader *r, int64_t sequence, struct moe_err *e)
{
	struct load_filter f = { .run = c->info->id, .domain = -1, .phase = -1 };
	sqlite3_stmt *first = NULL;
	struct cursor_chunk ch;
	struct cursor *cur;
	int64_t id = 0;
	int got = 0;

	if (sqlite3_prepare_v2(reader_db(r),
			"SELECT id FROM chunk WHERE sequence = ? ORDER BY pos, id LIMIT 1", -1, &first, NULL))
		return err_set(e, MOE_ERR_INPUT, "%s", sqlite3_errmsg(reader_db(r)));
	sqlite3_bind_int64(first, 1, sequence);
	if (sqlite3_step(first) == SQLITE_ROW)
		id = sqlite3_column_int64(first, 0);
	sqlite3_finalize(first);
	cur = id ? cursor_open(r, &f, e) : NULL;
	if (!cur)
		return id ? -1 : 0;
	if (cursor_seek(cur, id, e) == 1)
		while ((got = cursor_next(cur, &ch, e)) == 1 && ch.seq == c->seq)
			if ((got = add_chunk(c, &ch, e)) != 0)
				goto out;
	got = got < 0 ? -1 : 0;
out:
	cursor_close(cur);
	return got;
}

/* ---- from leaves ---- */

/* The decisions of one opened payload: 0, 1 = they do not follow, -1. */
static int add_events(struct recorded *c, const struct buf *payload, struct moe_err *e)
{
	const unsigned char *at = (const unsigned char *)payload->data;
	struct event_store *store = malloc(sizeof *store);
	struct moe_event ev;
	size_t used, li = 0;
	int rc = store ? 0 : err_nomem(e, sizeof *store, "decisions");

	for (size_t i = 0; !rc && i < payload->len; i += used) {
		size_t pos = c->n;

		rc = event_decode(at + i, payload->len - i, store, &ev, &used, e);
		if (!rc && (ev.pos != pos || ev.layer != c->info->layers[li].layer ||
			ev.k != c->info->layers[li].k))
			rc = 1; /* a hole */
		if (rc || (rc = room(c, pos + 1, e)))
			break;
		c->tokens[pos] = ev.token;
		c->phase[pos] = ev.phase;
		c->looked[pos] = 0;
		memcpy(c->experts + pos * c->k_row + c->k_at[li], ev.experts, ev.k * sizeof *ev.experts);
		memcpy(c->weights + pos * c->k_row + c->k_at[li], ev.weights, ev.k * sizeof *ev.weights);
		c->margins[pos * c->info->n_moe_layer + li] = ev.margin;
		if (++li == c->info->n_moe_layer) {
			li = 0;
			c->n++;
			c->n_prompt += ev.phase == MOE_PREFILL;
		}
	}
	free(store);
	return rc;
}

/* The name of the subject under which a sequence was sealed. */
static int subject_of(struct reader *r, uint64_t run, uint64_t seq, char out[512],
	struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(
			reader_db(r), "SELECT name FROM sequence WHERE run = ? AND seq = ?", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "%s", sqlite3_errmsg(reader_db(r)));
	sqlite3_bind_int64(st, 1, (int64_t)run);
	sqlite3_bind_int64(st, 2, (int64_t)seq);
	seal_name(out, 512, run, seq, sqlite3_step(st) == SQLITE_ROW ?
		(const char *)sqlite3_column_text(st, 0) : NULL);
	sqlite3_finalize(st);
	return 0;
}

/* Was the subject's key destroyed, maybe for another run? 1, 0, -1. */
static int is_forgotten(struct recorded *c, struct reader *r, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	char subject[512];
	int there;

	if (subject_of(r, (uint64_t)c->info->id, c->seq, subject, e))
		return -1;
	if (sqlite3_prepare_v2(reader_db(r),
			"SELECT 1 FROM audit_subject WHERE name = ? AND key IS NOT NULL", -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(r)));
	sqlite3_bind_text(st, 1, subject, -1, SQLITE_STATIC);
	there = sqlite3_step(st) == SQLITE_ROW;
	sqlite3_finalize(st);
	return !there;
}

int recorded_open(struct reader *r, const unsigned char master[SEAL_KEY], const struct log_row *row,
	struct buf *plain, struct moe_err *e)
{
	unsigned char key[SEAL_KEY];
	char subject[512];
	int bad;

	if (!row->has_payload)
		return err_set(e, MOE_ERR_INPUT, "leaf %llu: its payload was redacted or pruned",
			(unsigned long long)row->leaf.index);
	bad = subject_of(r, row->leaf.run, row->leaf.seq, subject, e) ||
		seal_subject(reader_db(r), master, subject, 0, key, e) ||
		seal_open(key, &row->leaf, row->payload, row->n_payload, plain, e);
	sodium_memzero(key, sizeof key);
	return bad ? -1 : 0;
}

int recorded_sealed(struct recorded *c, struct reader *r, const unsigned char master[SEAL_KEY],
	struct moe_err *e)
{
	static const char sql[] = "SELECT idx FROM audit_leaf WHERE run = ? AND seq = ? AND seq <> 0 "
		"AND kind = 6 ORDER BY idx";
	sqlite3_stmt *st = NULL;
	struct buf plain;
	int rc = is_forgotten(c, r, e);

	if (rc)
		return rc;
	if (sqlite3_prepare_v2(reader_db(r), sql, -1, &st, NULL))
		return err_set(e, MOE_ERR_INPUT, "the log: %s", sqlite3_errmsg(reader_db(r)));
	buf_init(&plain, PAYLOAD_MAX);
	sqlite3_bind_int64(st, 1, c->info->id);
	sqlite3_bind_int64(st, 2, (int64_t)c->seq);
	while (!rc && sqlite3_step(st) == SQLITE_ROW) {
		struct log_row row;

		rc = log_read(reader_db(r), (uint64_t)sqlite3_column_int64(st, 0), &row, e);
		if (!rc && (!(row.leaf.flags & LEAF_SEALED) || !row.has_payload))
			rc = 1;
		if (!rc)
			rc = recorded_open(r, master, &row, &plain, e) ? -1 : add_events(c, &plain, e);
		log_row_free(&row);
	}
	sqlite3_finalize(st);
	if (plain.data)
		sodium_memzero(plain.data, plain.len);
	buf_free(&plain);
	return rc;
}
