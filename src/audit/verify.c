/*
 * verify.c - see verify.h.
 *
 * One pass over the leaves in order, inside one read transaction. What must be known before a leaf
 * is met (which later leaf redacts it, which checkpoints have its size) comes from sorted queries
 * that run beside; the redactions are read first, into intervals, and are themselves leaves of the
 * pass.
 */
#include "audit/verify_state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/payload.h"
#include "base/err.h"

#define STEP_NS INT64_C(2000000000)
#define DAY_NS UINT64_C(86400000000000)
#define LATE 4 /* a heartbeat that is this many periods late is a hole */
#define TOLD_MOST 100 /* findings of a kind that are told one by one */

void verify_find(struct verify *v, enum finding f, const char *fmt, ...)
{
	char text[800];
	va_list ap;

	if (v->out->n[f]++ >= TOLD_MOST || !v->o->found)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	v->o->found(v->o->ctx, f, text);
	if (v->out->n[f] == TOLD_MOST)
		v->o->found(v->o->ctx, f, "more of this kind are counted, not told");
}

int verify_sql(struct verify *v, const char *what, struct moe_err *e)
{
	return err_set(e, MOE_ERR_INPUT, "%s: reading %s: %s", sqlite3_db_filename(v->db, "main"), what,
		sqlite3_errmsg(v->db));
}

static int prep(struct verify *v, sqlite3_stmt **st, const char *what, const char *sql,
	struct moe_err *e)
{
	return sqlite3_prepare_v2(v->db, sql, -1, st, NULL) ? verify_sql(v, what, e) : 0;
}

/* ---- what is read before the pass ---- */

static int add_span(struct verify *v, const char *p, size_t n, const struct leaf *by,
	struct moe_err *e)
{
	unsigned long long a, b;
	char text[64];
	struct span *s;

	snprintf(text, sizeof text, "%.*s", (int)(n < 63 ? n : 63), p);
	if (sscanf(text, "%llu-%llu", &a, &b) != 2 || a > b || b >= by->index)
		return 0; /* a record that is not one is found when its leaf is met */
	s = realloc(v->span, (v->n_span + 1) * sizeof *s);
	if (!s)
		return err_nomem(e, (v->n_span + 1) * sizeof *s, "redactions");
	v->span = s;
	s[v->n_span++] = (struct span){ a, b, by->index, by->wall, by->kind == LEAF_PRUNE };
	return 0;
}

static int by_from(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* Which leaves were redacted or pruned, as leaves further on say. */
static int load_spans(struct verify *v, struct moe_err *e)
{
	sqlite3_stmt *st;
	int rc, bad = 0;

	if (prep(v, &st, "redactions",
		"SELECT header, payload FROM audit_leaf WHERE kind IN (13, 14) AND"
		LOG_RARE("kind"), e))
		return -1;
	while (!bad && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *p = sqlite3_column_blob(st, 1);
		size_t n = (size_t)sqlite3_column_bytes(st, 1), at = 0;
		const void *h = sqlite3_column_blob(st, 0);
		struct record_line l;
		struct leaf by;

		if (!h || leaf_get(&by, h, (size_t)sqlite3_column_bytes(st, 0)))
			continue; /* found when the leaf is met */
		while (!bad && p && record_next(p, n, &at, &l) == 1)
			if (l.n_key == 6 && !memcmp(l.key, "leaves", 6))
				bad = add_span(v, l.value, l.n_value, &by, e);
	}
	if (!bad && rc != SQLITE_DONE)
		bad = verify_sql(v, "redactions", e);
	sqlite3_finalize(st);
	if (v->n_span)
		qsort(v->span, v->n_span, sizeof *v->span, by_from);
	/* Overlaps become one: so that one binary search answers. */
	for (size_t i = 0, k = 0; i < v->n_span; i++) {
		if (!i)
			continue;
		if (v->span[i].from <= v->span[k].to) {
			if (v->span[i].to > v->span[k].to)
				v->span[k].to = v->span[i].to;
		} else {
			v->span[++k] = v->span[i];
		}
		if (i + 1 == v->n_span)
			v->n_span = k + 1;
	}
	return bad;
}

static const struct span *span_of(const struct verify *v, uint64_t index)
{
	size_t lo = 0, hi = v->n_span;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (v->span[mid].to < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->n_span && v->span[lo].from <= index ? &v->span[lo] : NULL;
}

/* ---- leaves ---- */

static void check_clock(struct verify *v, const struct leaf *l)
{
	const struct leaf *p = &v->prev;
	int64_t step, gap;

	if (!l->index || memcmp(p->boot, l->boot, 16))
		return;
	step = (int64_t)(l->wall - p->wall) - (int64_t)(l->mono - p->mono);
	if (l->mono < p->mono)
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": the clock that cannot step went back", l->index);
	if ((step <= -STEP_NS || step >= STEP_NS) && l->kind != LEAF_CLOCK)
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": the wall clock stepped by %.1f s without a record", l->index,
			(double)step / 1e9);
	if (l->kind == LEAF_CLOCK)
		verify_find(v, FIND_REMARK, "leaf %" PRIu64 ": the wall clock stepped by %.1f s", l->index,
			(double)step / 1e9);
	gap = (int64_t)(l->mono - p->mono);
	if (v->session && l->kind != LEAF_RECOVERY && gap > v->heartbeat_ns * LATE)
		verify_find(v, FIND_INCOMPLETE,
			"leaf %" PRIu64 ": nothing was logged for %.0f s before it, a "
			"heartbeat was due every %.0f s",
			l->index, (double)gap / 1e9, (double)v->heartbeat_ns / 1e9);
}

static void check_session(struct verify *v, const struct leaf *l)
{
	static const unsigned char none[SHA_BYTES];
	int in_session = memcmp(l->descriptor, none, SHA_BYTES) != 0;

	if (l->kind == LEAF_SESSION_START) {
		if (v->session)
			verify_find(v, FIND_TAMPERED,
				"leaf %" PRIu64 ": run %" PRIu64 " starts while run %" PRIu64
				" has not ended", l->index, l->run, v->session);
		v->session = l->run;
		memcpy(v->descriptor, l->descriptor, SHA_BYTES);
		v->out->sessions++;
		return;
	}
	if (l->kind == LEAF_RECOVERY) {
		if (v->session != l->run)
			verify_find(v, FIND_TAMPERED,
				"leaf %" PRIu64 ": run %" PRIu64 " recovered, but it was not open", l->index,
				l->run);
		else
			verify_find(v, FIND_REMARK,
				"run %" PRIu64 ": its writer died; what it had committed is here",
				l->run);
		v->session = 0;
		return;
	}
	if (in_session && (l->run != v->session || memcmp(l->descriptor, v->descriptor, SHA_BYTES)))
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 " (%s): it is of no open session", l->index,
			leaf_kind_name(l->kind));
	if (l->kind == LEAF_SESSION_END)
		v->session = 0;
}

/* A run that another program recorded: the log vouches for what was read from its file, no more. */
static void meet_import(struct verify *v, const struct leaf *l, const char *p, size_t n)
{
	char file[400], form[32], sha[2 * SHA_BYTES + 1];

	if (record_get(p, n, "imported", file, sizeof file))
		return;
	record_get(p, n, "imported_sha256", sha, sizeof sha);
	record_get(p, n, "format", form, sizeof form);
	v->out->imported++;
	verify_find(v, FIND_REMARK,
		"run %" PRIu64 ": imported from %s (%s, SHA-256 %s): not recorded here, it "
		"cannot be replayed",
		l->run, file, form, sha);
}

/* A record's payload, whose commitment has been opened. */
static void meet_record(struct verify *v, const struct leaf *l, const char *p, size_t n)
{
	char kind[32], text[NOTE_KEY_TEXT];
	unsigned char sum[SHA_BYTES];

	record_kind(p, n, kind, sizeof kind);
	if (strcmp(kind, l->kind == LEAF_BATCH ? "sums" : leaf_kind_name(l->kind)))
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": a %s whose record says %s", l->index,
			leaf_kind_name(l->kind), *kind ? kind : "nothing");
	switch ((enum leaf_kind)l->kind) {
	case LEAF_INIT:
		if (l->index)
			verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": the log begins twice", l->index);
		record_get(p, n, "origin", v->out->origin, sizeof v->out->origin);
		v->runs_before = record_get_int(p, n, "runs_before", 0);
		v->heartbeat_ns = record_get_int(p, n, "heartbeat_s", 10) * INT64_C(1000000000);
		v->retain = record_get_int(p, n, "retain_days", 0);
		v->checkpoint_s = record_get_int(p, n, "checkpoint_s", 0);
		record_get(p, n, "detail", v->detail, sizeof v->detail);
		record_get(p, n, "loss", v->loss, sizeof v->loss);
		v->encrypted = !record_get(p, n, "payloads", text, sizeof text) &&
			!strcmp(text, "encrypted");
		if (record_get(p, n, "key", text, sizeof text) || verify_add_key(v, text, 0))
			verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": the log names no key", l->index);
		v->key_from[0] = 0;
		break;
	case LEAF_ROTATION:
		verify_rotation(v, l, p, n);
		break;
	case LEAF_SESSION_START:
		sha_of(p, n, sum);
		if (memcmp(sum, l->descriptor, SHA_BYTES))
			verify_find(v, FIND_TAMPERED,
				"leaf %" PRIu64 ": its descriptor is not the one that it names",
				l->index);
		meet_import(v, l, p, n);
		break;
	case LEAF_SESSION_END:
		if (!record_get(p, n, "model_file", text, sizeof text) &&
			(!strcmp(text, "changed") || !strcmp(text, "gone")))
			verify_find(v, FIND_TAMPERED,
				"run %" PRIu64 ": when it ended the file that it was made from was %s", l->run,
				text);
		break;
	case LEAF_GAP:
		v->out->gaps++;
		verify_find(v, FIND_REMARK,
			"run %" PRIu64 ": a gap of %" PRId64 " tokens was recorded", l->run,
			record_get_int(p, n, "tokens", -1));
		break;
	default:
		break;
	}
	if (v->deep && !v->deep_failed)
		v->deep_failed = deep_record(v->deep, l, p, n, &v->deep_err);
}

/* Does the payload of leaf l open its commitment? */
static int opens(struct verify *v, const struct leaf *l, const void *salt, const void *p, size_t n)
{
	unsigned char sum[SHA_BYTES];

	leaf_commit(salt, p, n, sum);
	if (!memcmp(sum, l->commit, SHA_BYTES))
		return 1;
	verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 " (%s): its payload was changed", l->index,
		leaf_kind_name(l->kind));
	return 0;
}

static int cursor_for(struct verify *v, uint64_t run, struct moe_err *e)
{
	struct load_filter f = { .run = (int64_t)run, .domain = -1, .phase = -1 };

	if (v->cursor && v->cursor_run == run)
		return 0;
	cursor_close(v->cursor);
	v->cursor = cursor_open(v->r, &f, e);
	v->cursor_run = run;
	return v->cursor ? 0 : -1;
}

/* Encode the decisions anew from their rows. 0 also when they are not as they should be (told). */
static void check_rows(struct verify *v, const struct leaf *l, int64_t chunk, const void *salt)
{
	struct cursor_chunk c;
	struct moe_err e = { 0 };
	int rc;

	if (cursor_for(v, l->run, &e)) {
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": its run %" PRIu64 " cannot be read: %s", l->index,
			l->run, e.msg);
		return;
	}
	rc = cursor_seek(v->cursor, chunk, &e);
	if (rc == 1)
		rc = cursor_next(v->cursor, &c, &e);
	if (rc == 0) {
		verify_find(v, FIND_MISSING,
			"leaf %" PRIu64 ": its decisions (chunk %" PRId64 ") are gone and no leaf "
			"says why",
			l->index, chunk);
		return;
	}
	if (rc < 0 || c.id != chunk) {
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": chunk %" PRId64 ": %s", l->index, chunk,
			rc < 0 ? e.msg : "it is not where it belongs");
		return;
	}
	if (c.seq != l->seq || c.pos != l->first || c.n != l->n)
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": chunk %" PRId64 " is of sequence %" PRIu64
			", position %u, %u tokens; the leaf says %" PRIu64 ", %" PRIu64 ", %u", l->index, chunk,
			c.seq, c.pos, c.n, l->seq, l->first, l->n);
	else if (!c.logits != !(l->flags & LEAF_LOGITS))
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": chunk %" PRId64 " %s", l->index, chunk,
			c.logits ? "has logits that were not logged" : "lost its logits");
	else if (payload_events(&c, &v->scratch, &e))
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": chunk %" PRId64 ": %s", l->index, chunk, e.msg);
	else
		opens(v, l, salt, v->scratch.data, v->scratch.len);
}

/* Retention may take a payload only after the time that the log promised to keep it. */
static void check_age(struct verify *v, const struct leaf *l, const struct span *s)
{
	v->out->pruned++;
	if (s->wall < l->wall || (s->wall - l->wall) / DAY_NS < (uint64_t)v->retain)
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 ": pruned %.1f days after it was written, the log promised to "
			"keep it for %" PRId64,
			l->index, ((double)s->wall - (double)l->wall) / DAY_NS, v->retain);
}

/* What the leaf commits to, by where it lies. st: idx, kind, run, seq, chunk, header, salt,
 * payload. */
static void check_payload(struct verify *v, const struct leaf *l, sqlite3_stmt *st)
{
	const void *salt = sqlite3_column_blob(st, 6), *p = sqlite3_column_blob(st, 7);
	size_t n = (size_t)sqlite3_column_bytes(st, 7);
	int here = l->kind != LEAF_BATCH || l->flags & (LEAF_SEALED | LEAF_SUMS);
	const struct span *s;

	if (salt && sqlite3_column_bytes(st, 6) != LEAF_SALT) {
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": a salt of %d bytes", l->index,
			sqlite3_column_bytes(st, 6));
		return;
	}
	if (!salt || (here && sqlite3_column_type(st, 7) == SQLITE_NULL)) {
		s = span_of(v, l->index);
		if (!s)
			verify_find(v, FIND_MISSING,
				"leaf %" PRIu64 " (%s): its payload is gone and no leaf says why",
				l->index, leaf_kind_name(l->kind));
		else if (s->prune)
			check_age(v, l, s);
		else
			v->out->redacted++;
		if (v->deep && l->kind == LEAF_BATCH)
			deep_without(v->deep, l->run);
		return;
	}
	if (!here) {
		v->stored_batches++;
		if (v->o->deep)
			check_rows(v, l, sqlite3_column_int64(st, 4), salt);
		return;
	}
	if (l->flags & LEAF_SEALED) {
		v->out->sealed++;
		if (v->deep)
			deep_without(v->deep, l->run);
	}
	if (opens(v, l, salt, p ? p : "", n) && !(l->flags & LEAF_SEALED))
		meet_record(v, l, p ? p : "", n);
}

/* Proofs are made from the stored roots of subtrees, so those must be right as well. */
static int check_node(void *ctx, unsigned level, uint64_t index,
	const unsigned char hash[SHA_BYTES], struct moe_err *e)
{
	struct verify *v = ctx;
	struct tree_source s = log_source(&v->nodes);
	unsigned char stored[SHA_BYTES];

	if (!level || level % 8)
		return 0;
	if (s.node(s.ctx, level, index, stored, e))
		verify_find(v, FIND_TAMPERED, "%s", e->msg);
	else if (memcmp(stored, hash, SHA_BYTES))
		verify_find(v, FIND_TAMPERED,
			"the stored root of the %" PRIu64 " leaves from %" PRIu64 " on is not theirs",
			UINT64_C(1) << level, index << level);
	return 0;
}

static int check_leaf(struct verify *v, sqlite3_stmt *st, struct moe_err *e)
{
	const void *h = sqlite3_column_blob(st, 5);
	uint64_t index = (uint64_t)sqlite3_column_int64(st, 0);
	unsigned char hash[SHA_BYTES];
	struct leaf l;

	if (index != v->tree.n) {
		verify_find(v, FIND_TAMPERED,
			"leaf %" PRIu64 " is missing: leaf %" PRIu64 " follows", v->tree.n,
			index);
		return 1;
	}
	if (!h || sqlite3_column_bytes(st, 5) != LEAF_BYTES || leaf_get(&l, h, LEAF_BYTES)) {
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": its header is not one", index);
		return 1;
	}
	if (l.index != index || l.kind != sqlite3_column_int64(st, 1) ||
		(int64_t)l.run != sqlite3_column_int64(st, 2) ||
		(int64_t)l.seq != sqlite3_column_int64(st, 3))
		verify_find(v, FIND_TAMPERED, "leaf %" PRIu64 ": its row and its header differ", index);
	if (!index && l.kind != LEAF_INIT)
		verify_find(v, FIND_TAMPERED, "the log does not begin with its beginning");
	tree_leaf(h, LEAF_BYTES, hash);
	tree_add(&v->tree, hash, check_node, v, e);
	check_clock(v, &l);
	check_session(v, &l);
	if (l.kind == LEAF_BATCH) {
		v->out->batches++;
		v->out->tokens += l.n;
	}
	if (!v->o->headers_only || l.kind == LEAF_INIT || l.kind == LEAF_ROTATION)
		check_payload(v, &l, st);
	v->prev = l;
	return verify_at_size(v, e);
}

static int pass(struct verify *v, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, stop = 0;

	if (prep(v, &v->notes, "checkpoints",
			"SELECT size, note FROM audit_checkpoint ORDER BY size, id", e) ||
		verify_next_note(v, e) || log_nodes_open(&v->nodes, v->db, e) ||
		prep(v, &st, "leaves",
			"SELECT idx, kind, run, seq, chunk, header, salt, payload FROM audit_leaf ORDER BY idx",
			e))
		return -1;
	while (!stop && (rc = sqlite3_step(st)) == SQLITE_ROW)
		stop = check_leaf(v, st, e);
	if (!stop && rc != SQLITE_DONE)
		stop = verify_sql(v, "leaves", e);
	sqlite3_finalize(st);
	v->aborted = stop == 1;
	return stop < 0 ? -1 : 0;
}

/* ---- after the pass ---- */

/* The table that a writer goes by, against the log's first leaf and the key in force. */
static void check_policy(struct verify *v)
{
	static const char *const detail[] = { "sums", "routes", "full" }, *const loss[] = { "strict",
		"best-effort" };
	char vkey[NOTE_KEY_TEXT], now[NOTE_KEY_TEXT] = "";
	struct log_policy p;
	struct moe_err e;
	uint64_t epoch;
	int same;

	if (log_policy_read(v->db, &p, vkey, &epoch, &e)) {
		verify_find(v, FIND_TAMPERED, "%s", e.msg);
		return;
	}
	if (v->n_key)
		note_key_text(&v->key[v->n_key - 1], now);
	same = !strcmp(p.origin, v->out->origin) && !strcmp(vkey, now) && epoch + 1 == v->n_key &&
		!strcmp(detail[p.detail], v->detail) && !strcmp(loss[p.loss], v->loss) &&
		p.sealed == v->encrypted && p.retain_days == v->retain &&
		p.heartbeat_s * INT64_C(1000000000) == v->heartbeat_ns && p.checkpoint_s == v->checkpoint_s;
	if (!same)
		verify_find(v, FIND_TAMPERED,
			"table audit_log does not say what the log's first leaf and its keys say");
}

static void after(struct verify *v)
{
	if (v->aborted)
		return;
	if (!v->tree.n)
		verify_find(v, FIND_TAMPERED, "the log is empty");
	while (v->note_ready) {
		verify_find(v, FIND_TAMPERED, "checkpoint of %" PRIu64 " leaves: the log has %" PRIu64
			": its end was cut off", v->note_size, v->tree.n);
		v->note_ready = sqlite3_step(v->notes) == SQLITE_ROW;
		if (v->note_ready)
			v->note_size = (uint64_t)sqlite3_column_int64(v->notes, 0);
	}
	check_policy(v);
	if (!v->pinned)
		verify_find(v, FIND_TAMPERED, "the log's key%s not the one that was given",
			v->n_key > 1 ? "s are" : " is");
	if (v->session)
		verify_find(v, FIND_INCOMPLETE,
			"run %" PRIu64 " has not ended: it is live, or its writer died",
			v->session);
	if (v->out->signed_size < v->tree.n)
		verify_find(v, FIND_INCOMPLETE, "the last %" PRIu64 " leaves are under no signature",
			v->tree.n - v->out->signed_size);
}

static int count(struct verify *v, const char *what, const char *sql, int64_t *out,
	struct moe_err *e)
{
	sqlite3_stmt *st;
	int bad = 0;

	if (prep(v, &st, what, sql, e))
		return -1;
	sqlite3_bind_int64(st, 1, v->runs_before);
	if (sqlite3_step(st) == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	else
		bad = verify_sql(v, what, e);
	sqlite3_finalize(st);
	return bad;
}

/* Rows that no leaf speaks of, and the other way round. */
static int check_tables(struct verify *v, struct moe_err *e)
{
	int64_t n;

	if (count(v, "runs", "SELECT count(*) FROM run r WHERE r.id > ?1 AND NOT EXISTS (SELECT 1 FROM "
		"audit_leaf l WHERE l.kind = 2 AND" LOG_RARE("l.kind") "AND l.run = r.id)", &n, e))
		return -1;
	if (n)
		verify_find(v, FIND_TAMPERED, "%" PRId64 " runs in the database were not logged", n);
	if (count(v, "runs",
			"SELECT count(*) FROM audit_leaf l WHERE l.kind = 2 AND" LOG_RARE("l.kind")
			"AND l.run > ?1 AND NOT EXISTS (SELECT 1 FROM run r WHERE r.id = l.run)",
			&n, e))
		return -1;
	if (n)
		verify_find(v, FIND_TAMPERED, "%" PRId64 " logged runs are not in the database", n);
	if (count(v, "chunks", "SELECT count(*) FROM chunk WHERE run > ?1", &n, e))
		return -1;
	if (n > (int64_t)v->stored_batches)
		verify_find(v, FIND_TAMPERED, "%" PRId64 " chunks of decisions were not logged",
			n - (int64_t)v->stored_batches);
	if (n < (int64_t)v->stored_batches)
		verify_find(v, FIND_MISSING,
			"%" PRId64 " chunks of decisions are gone and no leaf says why",
			(int64_t)v->stored_batches - n);
	return 0;
}

/* ---- all of it ---- */

static void tell_deep(void *ctx, const char *text)
{
	verify_find(ctx, FIND_TAMPERED, "%s", text);
}

static void verify_free(struct verify *v)
{
	sqlite3_finalize(v->notes);
	cursor_close(v->cursor);
	deep_close(v->deep);
	log_nodes_close(&v->nodes);
	free(v->span);
	free(v->anchor);
	buf_free(&v->scratch);
}

int verify_log(struct reader *r, const struct verify_opt *o, struct verify_result *out,
	struct moe_err *e)
{
	struct verify v = { .o = o, .out = out, .r = r, .db = reader_db(r),
		.heartbeat_ns = INT64_C(10000000000) };
	int bad, have;

	memset(out, 0, sizeof *out);
	buf_init(&v.scratch, PAYLOAD_MAX);
	if (sodium_init() < 0)
		return err_set(e, MOE_ERR_SYS, "libsodium does not start");
	have = log_exists(v.db, e);
	if (have <= 0)
		return have ? -1 : err_set(e, MOE_ERR_INPUT, "%s: it has no audit log",
			sqlite3_db_filename(v.db, "main"));
	if ((o->map && sqlite3_exec(v.db, "PRAGMA mmap_size = 1099511627776", NULL, NULL, NULL)) ||
		sqlite3_exec(v.db, "BEGIN", NULL, NULL, NULL))
		return verify_sql(&v, "the database", e);
	if (o->deep && !(v.deep = deep_open(r, tell_deep, &v, e)))
		return -1;
	bad = verify_anchors(&v, e) || log_size(v.db, &v.n, e) || load_spans(&v, e) || pass(&v, e);
	if (!bad && v.deep_failed) {
		*e = v.deep_err;
		bad = -1;
	}
	if (!bad) {
		after(&v);
		bad = verify_forks(&v, e) || (!o->headers_only && !v.aborted && check_tables(&v, e)) ||
			(v.deep && !v.aborted && deep_sums(v.deep, e));
	}
	out->leaves = v.tree.n;
	out->deep = o->deep;
	tree_root(&v.tree, out->root);
	sqlite3_exec(v.db, "ROLLBACK", NULL, NULL, NULL);
	verify_free(&v);
	return bad ? -1 : 0;
}
