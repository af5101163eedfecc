/*
 * log.c - see log.h.
 *
 * Invariants: idx of audit_leaf runs from 0 without holes; the columns kind, run and seq repeat the
 * header's (for look-ups; the verifier compares them); a tile is appended to in the transaction
 * that completes its subtree. Nothing that is read here is trusted: a log that does not hold
 * together is refused, with what is wrong.
 */
#include "audit/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define STEP_NS \
	INT64_C(2000000000) /* a wall clock that moves by more against the other one stepped */

enum { ST_LEAF, ST_TILE, ST_NOTE, ST_LAST };

static const char ddl[] =
	"CREATE TABLE audit_log (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, "
	"  origin TEXT NOT NULL, vkey TEXT NOT NULL, epoch INTEGER NOT NULL, key_path TEXT NOT NULL, "
	"  seal_path TEXT NOT NULL, detail INTEGER NOT NULL, loss INTEGER NOT NULL, "
	"  retain_days INTEGER NOT NULL, heartbeat_s INTEGER NOT NULL, checkpoint_s INTEGER NOT NULL) "
	"  STRICT;"
	"CREATE TABLE audit_leaf (idx INTEGER PRIMARY KEY, kind INTEGER NOT NULL, run INTEGER NOT "
	"NULL, "
	"  seq INTEGER NOT NULL, chunk INTEGER, header BLOB NOT NULL, salt BLOB, payload BLOB) STRICT;"
	"CREATE INDEX audit_leaf_place ON audit_leaf (run, seq, idx) WHERE seq <> 0;"
	/* Not NOT IN: SQLite builds a table of such a list for every row that it adds. */
	"CREATE INDEX audit_leaf_record ON audit_leaf (kind, idx) WHERE kind <> 5 AND kind <> 6 "
	"  AND kind <> 7 AND kind <> 11;"
	"CREATE TABLE audit_tile (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;"
	"CREATE TABLE audit_checkpoint (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, "
	"  note TEXT NOT NULL) STRICT;"
	"CREATE INDEX audit_checkpoint_size ON audit_checkpoint (size);"
	"CREATE TABLE audit_stamp (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, note TEXT NOT NULL, "
	"  response BLOB NOT NULL) STRICT;"
	"CREATE TABLE audit_subject (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, key BLOB) "
	"STRICT;";

static int fail(sqlite3 *db, const char *what, struct moe_err *e)
{
	int kind = sqlite3_errcode(db) & 0xff;

	return err_set(e, kind == SQLITE_BUSY || kind == SQLITE_NOMEM || kind == SQLITE_IOERR ||
		kind == SQLITE_FULL ? MOE_ERR_SYS : MOE_ERR_INPUT, "the log: %s: %s", what,
		sqlite3_errmsg(db));
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL))
		fail(db, "preparing a statement", e);
	return st;
}

int log_exists(sqlite3 *db, struct moe_err *e)
{
	sqlite3_stmt *st = prepare(
		db, "SELECT count(*) FROM sqlite_schema WHERE name = 'audit_log'", e);
	int n = -1;

	if (!st)
		return -1;
	if (sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int(st, 0) > 0;
	else
		fail(db, "looking for it", e);
	sqlite3_finalize(st);
	return n;
}

/* ---- reading ---- */

int log_size(sqlite3 *db, uint64_t *n, struct moe_err *e)
{
	sqlite3_stmt *st = prepare(db, "SELECT coalesce(max(idx) + 1, 0) FROM audit_leaf", e);
	int bad = 0;

	if (!st)
		return -1;
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int64(st, 0) >= 0)
		*n = (uint64_t)sqlite3_column_int64(st, 0);
	else
		bad = fail(db, "counting leaves", e);
	sqlite3_finalize(st);
	return bad;
}

static void text(sqlite3_stmt *st, int col, char *out, size_t size)
{
	const char *s = (const char *)sqlite3_column_text(st, col);

	snprintf(out, size, "%s", s ? s : "");
}

int log_policy_read(sqlite3 *db, struct log_policy *p, char vkey[NOTE_KEY_TEXT], uint64_t *epoch,
	struct moe_err *e)
{
	sqlite3_stmt *st = prepare(db,
		"SELECT version, origin, vkey, epoch, key_path, seal_path, detail, "
		"loss, retain_days, heartbeat_s, checkpoint_s FROM audit_log WHERE id = 1",
		e);
	int64_t v;
	int bad = 0;

	memset(p, 0, sizeof *p);
	if (!st)
		return -1;
	if (sqlite3_step(st) != SQLITE_ROW) {
		bad = err_set(e, MOE_ERR_INPUT, "the log's table audit_log is empty");
		goto out;
	}
	v = sqlite3_column_int64(st, 0);
	if (v != LOG_VERSION) {
		bad = err_set(e, MOE_ERR_INPUT, "the log has version %lld, this program reads %d",
			(long long)v, LOG_VERSION);
		goto out;
	}
	text(st, 1, p->origin, sizeof p->origin);
	text(st, 2, vkey, NOTE_KEY_TEXT);
	*epoch = (uint64_t)sqlite3_column_int64(st, 3);
	text(st, 4, p->key_path, sizeof p->key_path);
	text(st, 5, p->seal_path, sizeof p->seal_path);
	p->sealed = *p->seal_path != 0;
	p->detail = sqlite3_column_int(st, 6);
	p->loss = sqlite3_column_int(st, 7);
	p->retain_days = sqlite3_column_int64(st, 8);
	p->heartbeat_s = sqlite3_column_int64(st, 9);
	p->checkpoint_s = sqlite3_column_int64(st, 10);
	if (p->detail < 0 || p->detail > LOG_FULL || p->loss < 0 || p->loss > LOG_BEST_EFFORT ||
		p->heartbeat_s < 1 || p->heartbeat_s > 86400 || p->checkpoint_s < 1 ||
		p->checkpoint_s > 86400 || !note_name_ok(p->origin) || *epoch >= LOG_KEYS_MAX)
		bad = err_set(e, MOE_ERR_INPUT, "the log's policy makes no sense (table audit_log)");
out:
	sqlite3_finalize(st);
	return bad;
}

void log_row_free(struct log_row *r)
{
	free(r->payload);
	r->payload = NULL;
}

/* Fill in from the columns header, chunk, salt, payload. */
static int take_row(sqlite3 *db, sqlite3_stmt *st, uint64_t index, struct log_row *out,
	struct moe_err *e)
{
	const void *h = sqlite3_column_blob(st, 0), *p;

	memset(out, 0, sizeof *out);
	if (!h || leaf_get(&out->leaf, h, (size_t)sqlite3_column_bytes(st, 0)))
		return err_set(e, MOE_ERR_INPUT, "leaf %" PRIu64 ": its header is not one", index);
	memcpy(out->header, h, LEAF_BYTES);
	out->chunk = sqlite3_column_int64(st, 1);
	p = sqlite3_column_blob(st, 2);
	if (p && sqlite3_column_bytes(st, 2) == LEAF_SALT) {
		memcpy(out->salt, p, LEAF_SALT);
		out->has_salt = 1;
	}
	if (sqlite3_column_type(st, 3) == SQLITE_NULL)
		return 0;
	out->has_payload = 1;
	out->n_payload = (size_t)sqlite3_column_bytes(st, 3);
	p = sqlite3_column_blob(st, 3);
	out->payload = malloc(out->n_payload + 1);
	if (!out->payload)
		return err_nomem(e, out->n_payload, "a payload");
	if (out->n_payload)
		memcpy(out->payload, p, out->n_payload);
	out->payload[out->n_payload] = 0;
	(void)db;
	return 0;
}

int log_read(sqlite3 *db, uint64_t index, struct log_row *out, struct moe_err *e)
{
	sqlite3_stmt *st = prepare(db, "SELECT header, chunk, salt, payload FROM audit_leaf "
		"WHERE idx = ?", e);
	int rc, bad;

	memset(out, 0, sizeof *out);
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, (int64_t)index);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		bad = take_row(db, st, index, out, e);
	else if (rc == SQLITE_DONE)
		bad = err_set(e, MOE_ERR_INPUT, "the log has no leaf %" PRIu64, index);
	else
		bad = fail(db, "reading a leaf", e);
	sqlite3_finalize(st);
	return bad;
}

int log_note(sqlite3 *db, uint64_t most, char **note, size_t *n, struct moe_err *e)
{
	sqlite3_stmt *st = prepare(db, "SELECT note FROM audit_checkpoint WHERE size <= ? "
		"ORDER BY size DESC, id DESC LIMIT 1", e);
	int rc, bad = 0;

	*note = NULL;
	*n = 0;
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, most > INT64_MAX ? INT64_MAX : (int64_t)most);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const char *s = (const char *)sqlite3_column_text(st, 0);

		*n = (size_t)sqlite3_column_bytes(st, 0);
		*note = s ? strndup(s, *n) : NULL;
		if (!*note)
			bad = err_nomem(e, *n, "a checkpoint");
	} else if (rc != SQLITE_DONE) {
		bad = fail(db, "reading a checkpoint", e);
	}
	sqlite3_finalize(st);
	return bad;
}

/* ---- subtree roots ---- */

int log_nodes_open(struct log_nodes *s, sqlite3 *db, struct moe_err *e)
{
	memset(s, 0, sizeof *s);
	s->db = db;
	s->n_tile = -1;
	s->leaf = prepare(
		db, "SELECT header FROM audit_leaf WHERE idx >= ?1 AND idx < ?2 ORDER BY idx", e);
	s->tile = s->leaf ? prepare(db, "SELECT hashes FROM audit_tile WHERE id = ?", e) : NULL;
	if (s->tile)
		return 0;
	log_nodes_close(s);
	return -1;
}

void log_nodes_close(struct log_nodes *s)
{
	sqlite3_finalize(s->leaf);
	sqlite3_finalize(s->tile);
	s->leaf = s->tile = NULL;
}

static void fold(unsigned char (*h)[SHA_BYTES], size_t n, unsigned char out[SHA_BYTES])
{
	for (; n > 1; n /= 2)
		for (size_t i = 0; i < n / 2; i++)
			tree_node(h[2 * i], h[2 * i + 1], h[i]);
	memcpy(out, h[0], SHA_BYTES);
}

static int64_t tile_id(unsigned level, uint64_t index)
{
	return (int64_t)((uint64_t)level << 56 | index);
}

static int from_leaves(struct log_nodes *s, unsigned level, uint64_t index,
	unsigned char out[SHA_BYTES], struct moe_err *e)
{
	unsigned char h[256][SHA_BYTES];
	size_t n = (size_t)1 << level, k = 0;
	int rc;

	sqlite3_bind_int64(s->leaf, 1, (int64_t)(index << level));
	sqlite3_bind_int64(s->leaf, 2, (int64_t)((index + 1) << level));
	while ((rc = sqlite3_step(s->leaf)) == SQLITE_ROW && k < n) {
		const void *p = sqlite3_column_blob(s->leaf, 0);

		if (!p || sqlite3_column_bytes(s->leaf, 0) != LEAF_BYTES)
			break;
		tree_leaf(p, LEAF_BYTES, h[k++]);
	}
	sqlite3_reset(s->leaf);
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		return fail(s->db, "reading leaves", e);
	if (k < n)
		return err_set(e, MOE_ERR_INPUT,
			"the log: of the leaves from %" PRIu64 " on %zu of %zu are "
			"there",
			index << level, k, n);
	fold(h, n, out);
	return 0;
}

static int load_tile(struct log_nodes *s, unsigned level, uint64_t index, struct moe_err *e)
{
	int rc, bytes;

	if (s->n_tile >= 0 && s->tile_id == (uint64_t)tile_id(level, index))
		return 0;
	s->n_tile = -1;
	sqlite3_bind_int64(s->tile, 1, tile_id(level, index));
	rc = sqlite3_step(s->tile);
	if (rc == SQLITE_ROW) {
		bytes = sqlite3_column_bytes(s->tile, 0);
		if (bytes % SHA_BYTES || bytes > (int)sizeof s->tile_hash)
			rc = SQLITE_CORRUPT;
		else if (bytes) {
			memcpy(s->tile_hash, sqlite3_column_blob(s->tile, 0), (size_t)bytes);
			s->n_tile = bytes / SHA_BYTES;
			s->tile_id = (uint64_t)tile_id(level, index);
		}
	}
	sqlite3_reset(s->tile);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE && rc != SQLITE_CORRUPT)
		return fail(s->db, "reading a tile", e);
	return s->n_tile >= 0 ? 0
						: err_set(e, MOE_ERR_INPUT,
								"the log: tile %u/%" PRIu64 " is missing or "
								"broken",
								level, index);
}

static int node(void *ctx, unsigned level, uint64_t index, unsigned char out[SHA_BYTES],
	struct moe_err *e)
{
	struct log_nodes *s = ctx;
	unsigned char h[256][SHA_BYTES];
	unsigned up = level % 8;
	uint64_t at = index << up;
	size_t n = (size_t)1 << up;

	if (level < 8)
		return from_leaves(s, level, index, out, e);
	if (load_tile(s, level / 8, at / 256, e))
		return -1;
	if (at % 256 + n > (size_t)s->n_tile)
		return err_set(e, MOE_ERR_INPUT,
			"the log: tile %u/%" PRIu64 " has %d hashes, %zu are needed", level / 8, at / 256,
			s->n_tile, (size_t)(at % 256) + n);
	memcpy(h, s->tile_hash + at % 256, n * SHA_BYTES);
	fold(h, n, out);
	return 0;
}

struct tree_source log_source(struct log_nodes *s)
{
	return (struct tree_source){ node, s };
}

/* ---- appending ---- */

static void read_boot(unsigned char out[16])
{
	char text_id[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	size_t len;

	memset(out, 0, 16);
	if (fd < 0)
		return;
	if (read(fd, text_id, sizeof text_id - 1) > 0)
		sodium_hex2bin(out, 16, text_id, strcspn(text_id, "\n"), "-", &len, NULL);
	close(fd);
}

static int load_tree(struct log *g, struct moe_err *e)
{
	struct log_nodes s;
	struct tree_source src;
	uint64_t n;
	int bad = 0;

	if (log_size(g->db, &n, e) || log_nodes_open(&s, g->db, e))
		return -1;
	src = log_source(&s);
	for (unsigned l = 0; l < 64 && !bad; l++)
		if (n >> l & 1)
			bad = src.node(src.ctx, l, (n >> l) - 1, g->tree.roots[l], e);
	g->tree.n = n;
	log_nodes_close(&s);
	return bad;
}

static int load_last(struct log *g, struct moe_err *e)
{
	struct log_row r;
	char *note;
	size_t len, n_text, used;
	struct checkpoint c;

	if (g->tree.n) {
		if (log_read(g->db, g->tree.n - 1, &r, e))
			return -1;
		if (!memcmp(r.leaf.boot, g->boot, 16)) {
			g->last_wall = (int64_t)r.leaf.wall;
			g->last_mono = (int64_t)r.leaf.mono;
		}
		log_row_free(&r);
	}
	if (log_note(g->db, UINT64_MAX, &note, &len, e))
		return -1;
	if (note &&
		(note_shape(note, len, &n_text, &used, e) || checkpoint_read(&c, note, n_text, e))) {
		free(note);
		return err_wrap(e, "the log's newest checkpoint");
	}
	g->signed_size = note ? c.size : 0;
	free(note);
	if (g->signed_size > g->tree.n)
		return err_set(e, MOE_ERR_INPUT,
			"the log has %" PRIu64 " leaves, but a checkpoint of %" PRIu64 ": its end was cut off",
			g->tree.n, g->signed_size);
	return 0;
}

static int prepare_all(struct log *g, struct moe_err *e)
{
	static const char *const sql[] = {
		[ST_LEAF] = "INSERT INTO audit_leaf(idx, kind, run, seq, chunk, header, salt, payload) "
					"VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
		[ST_TILE] =
			"INSERT INTO audit_tile(id, hashes) VALUES(?1, ?2) ON CONFLICT(id) DO UPDATE SET "
			"hashes = CAST(hashes || excluded.hashes AS BLOB)",
		[ST_NOTE] = "INSERT INTO audit_checkpoint(size, note) VALUES(?, ?)",
	};

	for (int i = 0; i < ST_LAST; i++)
		if (sqlite3_prepare_v3(g->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &g->st[i], NULL))
			return fail(g->db, "preparing a statement", e);
	return 0;
}

static void init_memory(struct log *g, sqlite3 *db, const struct log_clock *clock)
{
	memset(g, 0, sizeof *g);
	g->db = db;
	g->clock = clock ? *clock : (struct log_clock){ clock_wall, clock_mono };
	read_boot(g->boot);
	buf_init(&g->scratch, PAYLOAD_MAX);
}

int log_open(struct log *g, sqlite3 *db, const struct log_clock *clock, struct moe_err *e)
{
	init_memory(g, db, clock);
	if (sodium_init() < 0)
		return err_set(e, MOE_ERR_SYS, "libsodium does not start");
	if (log_policy_read(db, &g->policy, g->vkey, &g->epoch, e) || load_tree(g, e) ||
		load_last(g, e) || prepare_all(g, e)) {
		log_close(g);
		return -1;
	}
	g->last_checkpoint = g->clock.mono();
	log_committed(g);
	return 0;
}

void log_close(struct log *g)
{
	for (int i = 0; i < ST_LAST; i++) {
		sqlite3_finalize(g->st[i]);
		g->st[i] = NULL;
	}
	buf_free(&g->scratch);
}

void log_rollback(struct log *g)
{
	g->tree = g->saved;
	g->last_wall = g->saved_wall;
	g->last_mono = g->saved_mono;
}

void log_committed(struct log *g)
{
	g->saved = g->tree;
	g->saved_wall = g->last_wall;
	g->saved_mono = g->last_mono;
}

static int run_stmt(struct log *g, sqlite3_stmt *st, const char *what, struct moe_err *e)
{
	int rc = sqlite3_step(st), bad = 0;

	if (rc != SQLITE_DONE)
		bad = fail(g->db, what, e);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return bad;
}

static int keep_node(void *ctx, unsigned level, uint64_t index, const unsigned char hash[SHA_BYTES],
	struct moe_err *e)
{
	struct log *g = ctx;

	if (!level || level % 8)
		return 0;
	sqlite3_bind_int64(g->st[ST_TILE], 1, tile_id(level / 8, index / 256));
	sqlite3_bind_blob(g->st[ST_TILE], 2, hash, SHA_BYTES, SQLITE_STATIC);
	return run_stmt(g, g->st[ST_TILE], "adding to a tile", e);
}

static int append(struct log *g, struct log_item *it, int64_t wall, int64_t mono, struct moe_err *e)
{
	unsigned char header[LEAF_BYTES], hash[SHA_BYTES], salt[LEAF_SALT];
	sqlite3_stmt *st = g->st[ST_LEAF];
	struct leaf *l = &it->leaf;

	l->index = g->tree.n;
	l->wall = (uint64_t)wall;
	l->mono = (uint64_t)mono;
	memcpy(l->boot, g->boot, 16);
	randombytes_buf(salt, sizeof salt);
	leaf_commit(salt, it->payload, it->n_payload, l->commit);
	leaf_put(l, header);
	tree_leaf(header, sizeof header, hash);
	sqlite3_bind_int64(st, 1, (int64_t)l->index);
	sqlite3_bind_int(st, 2, l->kind);
	sqlite3_bind_int64(st, 3, (int64_t)l->run);
	sqlite3_bind_int64(st, 4, (int64_t)l->seq);
	if (it->chunk)
		sqlite3_bind_int64(st, 5, it->chunk);
	sqlite3_bind_blob(st, 6, header, sizeof header, SQLITE_STATIC);
	sqlite3_bind_blob(st, 7, salt, sizeof salt, SQLITE_STATIC);
	if (it->keep)
		sqlite3_bind_blob64(st, 8, it->n_payload ? it->payload : "", it->n_payload, SQLITE_STATIC);
	if (run_stmt(g, st, "adding a leaf", e) || tree_add(&g->tree, hash, keep_node, g, e))
		return -1;
	g->last_wall = wall;
	g->last_mono = mono;
	return 0;
}

/* Did the wall clock move against the monotonic one since the last leaf of this boot? */
static int note_step(struct log *g, const struct leaf *like, int64_t wall, int64_t mono,
	struct moe_err *e)
{
	int64_t step = (wall - mono) - (g->last_wall - g->last_mono);
	struct log_item it = { .leaf = { .kind = LEAF_CLOCK, .run = like->run }, .keep = 1 };
	struct buf rec;
	int bad;

	if (!g->last_mono || (step > -STEP_NS && step < STEP_NS))
		return 0;
	buf_init(&rec, 4096);
	record_begin(&rec, "clock");
	record_int(&rec, "step_ns", step);
	memcpy(it.leaf.descriptor, like->descriptor, SHA_BYTES);
	it.payload = rec.data;
	it.n_payload = rec.len;
	bad = rec.failed ? err_nomem(e, 4096, "a record") : append(g, &it, wall, mono, e);
	buf_free(&rec);
	return bad;
}

int log_append(struct log *g, struct log_item *it, struct moe_err *e)
{
	int64_t wall = g->clock.wall(), mono = g->clock.mono();

	return note_step(g, &it->leaf, wall, mono, e) ? -1 : append(g, it, wall, mono, e);
}

int log_record(struct log *g, enum leaf_kind kind, uint64_t run, uint64_t seq,
	const unsigned char descriptor[SHA_BYTES], const struct buf *rec, struct moe_err *e)
{
	struct log_item it = { .leaf = { .kind = (uint16_t)kind, .run = run, .seq = seq }, .keep = 1,
		.payload = rec->data, .n_payload = rec->len };

	if (rec->failed)
		return err_nomem(e, rec->len, "a record");
	if (descriptor)
		memcpy(it.leaf.descriptor, descriptor, SHA_BYTES);
	return log_append(g, &it, e);
}

int log_key_fits(const struct log *g, const struct note_secret *key, struct moe_err *e)
{
	char mine[NOTE_KEY_TEXT];

	note_key_text(&key->key, mine);
	if (strcmp(mine, g->vkey))
		return err_set(
			e, MOE_ERR_INPUT, "the log is signed by %s, the key file holds %s", g->vkey, mine);
	return 0;
}

int log_checkpoint(struct log *g, const struct note_secret *key, struct moe_err *e)
{
	struct checkpoint c = { .size = g->tree.n, .epoch = g->epoch };
	struct buf body, note;
	int bad = 0;

	g->last_checkpoint = g->clock.mono();
	if (g->signed_size == g->tree.n)
		return 0;
	buf_init(&body, NOTE_MAX);
	buf_init(&note, NOTE_MAX);
	memcpy(c.origin, g->policy.origin, sizeof c.origin);
	tree_root(&g->tree, c.root);
	checkpoint_text(&c, &body);
	if (!body.failed)
		note_sign(key, body.data, body.len, &note);
	if (body.failed || note.failed) {
		bad = err_nomem(e, 4096, "a checkpoint");
	} else {
		sqlite3_bind_int64(g->st[ST_NOTE], 1, (int64_t)c.size);
		sqlite3_bind_text(g->st[ST_NOTE], 2, note.data, (int)note.len, SQLITE_STATIC);
		bad = run_stmt(g, g->st[ST_NOTE], "adding a checkpoint", e);
	}
	if (!bad)
		g->signed_size = c.size;
	buf_free(&body);
	buf_free(&note);
	return bad;
}

/* ---- the beginning ---- */

static int insert_policy(struct log *g, struct moe_err *e)
{
	const struct log_policy *p = &g->policy;
	sqlite3_stmt *st = prepare(
		g->db, "INSERT INTO audit_log VALUES(1, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)", e);
	int bad;

	if (!st)
		return -1;
	sqlite3_bind_int(st, 1, LOG_VERSION);
	sqlite3_bind_text(st, 2, p->origin, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 3, g->vkey, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 4, p->key_path, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 5, p->seal_path, -1, SQLITE_STATIC);
	sqlite3_bind_int(st, 6, p->detail);
	sqlite3_bind_int(st, 7, p->loss);
	sqlite3_bind_int64(st, 8, p->retain_days);
	sqlite3_bind_int64(st, 9, p->heartbeat_s);
	sqlite3_bind_int64(st, 10, p->checkpoint_s);
	bad = run_stmt(g, st, "writing its policy", e);
	sqlite3_finalize(st);
	return bad;
}

/* The newest run that was there before the log: it says nothing about those. */
static int64_t last_run(sqlite3 *db)
{
	sqlite3_stmt *st = prepare(db, "SELECT coalesce(max(id), 0) FROM run", NULL);
	int64_t id = st && sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;

	sqlite3_finalize(st);
	return id;
}

int log_create(sqlite3 *db, const struct log_policy *p, const struct note_secret *key,
	const struct log_clock *clock, const char *who, struct moe_err *e)
{
	static const char *const detail[] = { "sums", "routes", "full" }, *const loss[] = { "strict",
		"best-effort" };
	struct log g;
	struct buf rec;
	int bad;

	init_memory(&g, db, clock);
	g.policy = *p;
	note_key_text(&key->key, g.vkey);
	buf_init(&rec, 65536);
	record_begin(&rec, "init");
	record_text(&rec, "origin", p->origin);
	record_text(&rec, "key", g.vkey);
	record_text(&rec, "detail", detail[p->detail]);
	record_text(&rec, "loss", loss[p->loss]);
	record_text(&rec, "payloads", *p->seal_path ? "encrypted" : "plain");
	record_int(&rec, "retain_days", p->retain_days);
	record_int(&rec, "heartbeat_s", p->heartbeat_s);
	record_int(&rec, "checkpoint_s", p->checkpoint_s);
	record_int(&rec, "runs_before", last_run(db));
	record_text(&rec, "who", who);
	bad = sqlite3_exec(db, ddl, NULL, NULL, NULL) ? fail(db, "making its tables", e) : 0;
	if (!bad)
		bad = insert_policy(&g, e) || prepare_all(&g, e) ||
			log_record(&g, LEAF_INIT, 0, 0, NULL, &rec, e) || log_checkpoint(&g, key, e);
	buf_free(&rec);
	log_close(&g);
	return bad ? -1 : 0;
}
