/*
 * attack.c - the attack matrix of docs/AUDIT.md: each class tried with seeded mutations on copies of a
 * clean log, and the verifier must find what it claims to find.
 *
 *	build/tests/attack [--tries N] [--seed S] [--verbose] DIRECTORY
 *
 * A fake engine writes three runs (one redacted in part, one with a gap in its clock) through the real
 * writer and recorder. A class says what is expected without an anchor and with one: found (a
 * finding of tampering or loss), not found (the "no" rows: then the clean verdict must come), or
 * whatever (raw bytes flipped: it must not crash, and may not be valid when a row changed).
 * Prints a line a class; fails if an expectation is not met.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/admin.h"
#include "audit/payload.h"
#include "audit/recorder.h"
#include "audit/verify.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/opt.h"
#include "base/rng.h"

enum { LAYERS = 3, EXPERTS = 8, K = 2 };

static long long tries = 400, seed = 1;
static int verbose;
static const struct opt opts[] = {
	{ "tries", 0, OPT_INT, &tries, "N", "mutations in all", 1, 1e7 },
	{ "seed", 0, OPT_INT, &seed, "S", "seed", 0, 1e15 },
	{ "verbose", 0, OPT_FLAG, &verbose, NULL, "say what was found", 0, 0 },
	{ 0 },
};

static char dir[900], clean[4096], older[4096], copy[4096];
static char *anchor; /* the newest checkpoint of the clean log */
static size_t n_anchor;
static struct note_secret key, other_key;
static struct rng rng;
static struct moe_err err;

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static void copy_file(const char *from, const char *to)
{
	static char part[1 << 16];
	FILE *a = fopen(from, "rb"), *b = fopen(to, "wb");
	size_t n;

	if (!a || !b)
		die("copying %s", from);
	while ((n = fread(part, 1, sizeof part, a)) > 0)
		if (fwrite(part, 1, n, b) != n)
			die("writing %s", to);
	fclose(a);
	if (fclose(b))
		die("writing %s", to);
}

/* ---- a fake engine, and a clock that can be moved ---- */

static int64_t shift_wall, shift_mono;
static int64_t wall(void) { return clock_wall() + shift_wall; }
static int64_t mono(void) { return clock_mono() + shift_mono; }
static const struct log_clock moved = { wall, mono };

static void one_batch(struct moe_hook *h, uint64_t seq, uint32_t pos, uint32_t n, int phase)
{
	static uint64_t seqs[128];
	static uint32_t poss[128];
	static int32_t toks[128];
	static uint16_t experts[128][K];
	static float weights[128][K], margin[128];
	static uint8_t flags[128];
	struct moe_batch_info done = { .seq = seq, .pos0 = pos, .n_tok = n, .phase = (uint8_t)phase,
		.busy_ns = 1000 };

	for (uint32_t t = 0; t < n; t++) {
		seqs[t] = seq;
		poss[t] = pos + t;
		toks[t] = (int32_t)rng_below(&rng, 1000);
	}
	for (int l = 0; l < LAYERS; l++) {
		struct moe_route_view v = { .layer = (uint16_t)l, .n_expert = EXPERTS, .k = K,
			.phase = (uint8_t)phase, .n_tok = n, .seq = seqs, .pos = poss, .token = toks,
			.experts = experts[0], .weights = weights[0], .margin = margin, .flags = flags };

		for (uint32_t t = 0; t < n; t++) {
			experts[t][0] = (uint16_t)rng_below(&rng, EXPERTS);
			experts[t][1] = (uint16_t)((experts[t][0] + 1 + rng_below(&rng, EXPERTS - 1)) % EXPERTS);
			weights[t][0] = 0.5f + (float)rng_unit(&rng) / 2;
			weights[t][1] = 1 - weights[t][0];
			margin[t] = (float)rng_unit(&rng);
		}
		if (h->route(h->ctx, &v, &err))
			die("%s", err.msg);
	}
	if (h->batch_end(h->ctx, &done, &err))
		die("%s", err.msg);
}

static void one_run(const char *path, int documents, int with_gap)
{
	static const struct moe_layer_desc layers[LAYERS] = { { 0, EXPERTS, K }, { 1, EXPERTS, K },
		{ 2, EXPERTS, K } };
	static const struct moe_setting made_with[] = { { "adapter 1", "1 abc one" }, { "kv type", "f16" } };
	struct moe_run_desc d = { .command = "attack", .model_name = "fake", .layers = layers,
		.settings = made_with, .n_setting = 2,
		.n_moe_layer = LAYERS, .n_layer = LAYERS, .router = "random", .score = "softmax",
		.engine = "attack" };
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .commit_ms = 20 };
	struct recorder_what what = { .clock = &moved };
	char vkey[NOTE_KEY_TEXT];
	struct log_policy policy;
	struct recorder *r;
	struct moe_trace *t;
	struct reader *read;
	struct buf desc;
	uint64_t epoch;

	buf_init(&desc, 65536);
	record_begin(&desc, "session-start");
	record_text(&desc, "command", "attack");
	record_text(&desc, "model", "fake");
	record_text(&desc, "engine", "attack");
	record_text(&desc, "weights", "exact");
	for (int i = 0; i < 2; i++) {
		char name[80];

		record_setting_key(name, sizeof name, made_with[i].key);
		record_text(&desc, name, made_with[i].value);
	}
	what.descriptor = &desc;
	read = reader_open(path, &err);
	if (!read || log_policy_read(reader_db(read), &policy, vkey, &epoch, &err))
		die("%s", err.msg);
	reader_close(read);
	r = recorder_new(&policy, vkey, &what, &err);
	o.sink = r ? recorder_sink(r) : NULL;
	t = r ? moe_trace_open(path, &o, &d, &err) : NULL;
	if (!t)
		die("%s", err.msg);
	for (uint64_t s = 1; s <= (uint64_t)documents; s++) {
		struct moe_hook *h = moe_trace_hook(t);
		struct moe_seq_info in = { .seq = s, .domain = s % 2 ? "poetry" : "code", .name = "a document" };
		struct moe_seq_result out = { .seq = s, .n_prompt = 40, .n_generated = 3, .nll = 2.5,
			.n_scored = 39, .n_bytes = 100 };
		float row[16] = { (float)s };

		if (h->seq_begin(h->ctx, &in, &err))
			die("%s", err.msg);
		one_batch(h, s, 0, 40, MOE_PREFILL);
		for (uint32_t i = 0; i < 3; i++)
			one_batch(h, s, 40 + i, 1, MOE_DECODE);
		if (recorder_logits(r, s, 42, row, 16, &err) || h->seq_end(h->ctx, &out, &err))
			die("%s", err.msg);
		if (s == 3 && moe_trace_note(t, "alarm", "something was noticed", &err))
			die("%s", err.msg);
		if (with_gap && s == 2) { /* nothing is logged for a while */
			usleep(60000);
			shift_mono += INT64_C(300000000000);
			shift_wall += INT64_C(300000000000);
		}
	}
	if (moe_trace_close(t, MOE_RUN_DONE, &err))
		die("%s", err.msg);
	recorder_free(r);
	buf_free(&desc);
}

static void new_log(const char *path, const struct note_secret *k, const char *origin)
{
	struct log_policy p = { .detail = LOG_ROUTES, .loss = LOG_STRICT, .retain_days = 183,
		.heartbeat_s = 10, .checkpoint_s = 60 };
	struct admin a;
	int bad;

	unlink(path);
	snprintf(p.origin, sizeof p.origin, "%s", origin);
	snprintf(p.key_path, sizeof p.key_path, "%s/%s", dir, k == &key ? "key" : "other");
	bad = admin_open_bare(&a, path, &err) || log_create(a.db, &p, k, NULL, "test", &err);
	if (admin_close(&a, bad, &err) || bad)
		die("%s", err.msg);
}

static void build(void)
{
	char path[4096];
	struct admin_range range = { .run = 1, .seq = 2 };
	struct admin a;
	uint64_t n;
	int bad;

	snprintf(path, sizeof path, "%s/key", dir);
	unlink(path);
	if (note_secret_create(&key, "example.org/attack", path, &err))
		die("%s", err.msg);
	snprintf(path, sizeof path, "%s/other", dir);
	unlink(path);
	if (note_secret_create(&other_key, "example.org/attack", path, &err))
		die("%s", err.msg);
	new_log(clean, &key, "example.org/attack");
	one_run(clean, 30, 0);
	bad = admin_open(&a, clean, NULL, 0, &err) ||
		admin_destroy(&a, LEAF_REDACTION, &range, "asked for", "test", &n, &err);
	if (bad || admin_close(&a, bad, &err))
		die("%s", err.msg);
	one_run(clean, 30, 0);
	copy_file(clean, older);
	one_run(clean, 8, 0);
}

/* ---- what an attacker does ---- */

static sqlite3 *db;

static void sql(const char *fmt, ...)
{
	char text[1000], *why = NULL;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (sqlite3_exec(db, text, NULL, NULL, &why))
		die("%s: %s", text, why);
}

static int64_t ask(const char *fmt, ...)
{
	char text[1000];
	sqlite3_stmt *st;
	int64_t v = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (sqlite3_prepare_v2(db, text, -1, &st, NULL))
		die("%s: %s", text, sqlite3_errmsg(db));
	if (sqlite3_step(st) == SQLITE_ROW)
		v = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return v;
}

/* A random row's key, or 0. */
static int64_t some(const char *table, const char *id, const char *where)
{
	int64_t n = ask("SELECT count(*) FROM %s WHERE %s", table, where);

	return n ? ask("SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT 1 OFFSET %u", id, table, where, id,
		rng_below(&rng, (uint32_t)n)) : -1;
}

static int64_t leaves(void)
{
	return ask("SELECT count(*) FROM audit_leaf");
}

/* Flip one bit of a blob. */
static void flip(const char *table, const char *col, const char *id, int64_t row)
{
	int64_t n = ask("SELECT length(%s) FROM %s WHERE %s = %" PRId64, col, table, id, row);
	sqlite3_blob *b;
	unsigned char x;
	int at = (int)rng_below(&rng, (uint32_t)(n ? n : 1));

	if (!n)
		die("%s.%s of %" PRId64 " is empty", table, col, row);
	if (sqlite3_blob_open(db, "main", table, col, row, 1, &b) || sqlite3_blob_read(b, &x, 1, at))
		die("%s: %s", table, sqlite3_errmsg(db));
	x ^= (unsigned char)(1u << rng_below(&rng, 8));
	if (sqlite3_blob_write(b, &x, 1, at) || sqlite3_blob_close(b))
		die("%s: %s", table, sqlite3_errmsg(db));
}

static int put_tile(void *ctx, unsigned level, uint64_t index, const unsigned char hash[SHA_BYTES],
	struct moe_err *e)
{
	sqlite3_stmt *st;

	(void)ctx, (void)e;
	if (!level || level % 8)
		return 0;
	if (sqlite3_prepare_v2(db, "INSERT INTO audit_tile(id, hashes) VALUES(?1, ?2) ON CONFLICT(id) DO "
		"UPDATE SET hashes = CAST(hashes || excluded.hashes AS BLOB)", -1, &st, NULL))
		die("%s", sqlite3_errmsg(db));
	sqlite3_bind_int64(st, 1, (int64_t)((uint64_t)(level / 8) << 56 | index / 256));
	sqlite3_bind_blob(st, 2, hash, SHA_BYTES, SQLITE_STATIC);
	sqlite3_step(st);
	sqlite3_finalize(st);
	return 0;
}

/* Make everything fit that can be made to fit without a key: indices in headers, tiles. */
static void rebuild(void)
{
	sqlite3_stmt *st, *up;
	struct tree t = { 0 };
	int64_t n = 0;

	sql("DELETE FROM audit_tile");
	if (sqlite3_prepare_v2(db, "SELECT idx, header FROM audit_leaf ORDER BY idx", -1, &st, NULL) ||
		sqlite3_prepare_v2(db, "UPDATE audit_leaf SET header = ?2 WHERE idx = ?1", -1, &up, NULL))
		die("%s", sqlite3_errmsg(db));
	while (sqlite3_step(st) == SQLITE_ROW) {
		unsigned char h[LEAF_BYTES], hash[SHA_BYTES];
		struct leaf l;

		if (leaf_get(&l, sqlite3_column_blob(st, 1), LEAF_BYTES))
			continue;
		l.index = (uint64_t)n++;
		leaf_put(&l, h);
		tree_leaf(h, LEAF_BYTES, hash);
		tree_add(&t, hash, put_tile, NULL, NULL);
		sqlite3_bind_int64(up, 1, sqlite3_column_int64(st, 0));
		sqlite3_bind_blob(up, 2, h, LEAF_BYTES, SQLITE_STATIC);
		sqlite3_step(up);
		sqlite3_reset(up);
	}
	sqlite3_finalize(st);
	sqlite3_finalize(up);
}

static const char *const in_chunk[] = { "tokens", "experts", "weights", "margins" };

static void edit_row(void)
{
	uint32_t col = rng_below(&rng, 4);

	/* Ids of 3 bits: 40 tokens fill whole bytes, so that no bit flipped is one that nobody reads. */
	flip("chunk", in_chunk[col], "id", some("chunk", "id", col == 1 ? "n = 40" : "1"));
}

static void edit_header(void)
{
	flip("audit_leaf", "header", "idx", some("audit_leaf", "idx", "1"));
}

static void edit_header_rebuilt(void)
{
	int64_t i = some("audit_leaf", "idx", "1");
	unsigned char h[LEAF_BYTES];
	struct leaf l;
	sqlite3_blob *b;

	if (sqlite3_blob_open(db, "main", "audit_leaf", "header", i, 1, &b) ||
		sqlite3_blob_read(b, h, LEAF_BYTES, 0) || leaf_get(&l, h, LEAF_BYTES))
		die("%s", sqlite3_errmsg(db));
	l.wall += 1 + rng_below(&rng, 1000);
	leaf_put(&l, h);
	sqlite3_blob_write(b, h, LEAF_BYTES, 0);
	sqlite3_blob_close(b);
	rebuild();
}

/* The decisions and everything that follows from them without a key. */
static void edit_recomputed(void)
{
	int64_t i = some("audit_leaf", "idx", "kind = 6 AND salt IS NOT NULL");
	struct log_row row;
	struct buf payload;
	struct reader *r;
	unsigned char h[LEAF_BYTES];
	sqlite3_blob *b;

	flip("chunk", "tokens", "id", ask("SELECT chunk FROM audit_leaf WHERE idx = %" PRId64, i));
	buf_init(&payload, PAYLOAD_MAX);
	r = reader_open(copy, &err);
	if (!r || log_read(reader_db(r), (uint64_t)i, &row, &err) || payload_of(r, &row, &payload, &err))
		die("%s", err.msg);
	leaf_commit(row.salt, payload.data, payload.len, row.leaf.commit);
	leaf_put(&row.leaf, h);
	reader_close(r);
	if (sqlite3_blob_open(db, "main", "audit_leaf", "header", i, 1, &b))
		die("%s", sqlite3_errmsg(db));
	sqlite3_blob_write(b, h, LEAF_BYTES, 0);
	sqlite3_blob_close(b);
	buf_free(&payload);
	log_row_free(&row);
	rebuild();
}

static void delete_middle(void)
{
	int64_t i = 1 + rng_below(&rng, (uint32_t)leaves() - 2);

	sql("DELETE FROM audit_leaf WHERE idx = %" PRId64, i);
	if (rng_below(&rng, 2)) {
		sql("UPDATE audit_leaf SET idx = -idx WHERE idx > %" PRId64, i);
		sql("UPDATE audit_leaf SET idx = -idx - 1 WHERE idx < 0");
		rebuild();
	}
}

static void reorder(void)
{
	int64_t i = 1 + rng_below(&rng, (uint32_t)leaves() - 2);

	sql("UPDATE audit_leaf SET idx = -1 WHERE idx = %" PRId64, i);
	sql("UPDATE audit_leaf SET idx = %" PRId64 " WHERE idx = %" PRId64, i, i + 1);
	sql("UPDATE audit_leaf SET idx = %" PRId64 " WHERE idx = -1", i + 1);
	if (rng_below(&rng, 2))
		rebuild();
}

static void swap_secrets(void)
{
	const char *col = rng_below(&rng, 2) ? "salt" : "payload";
	const char *where = *col == 's' ? "salt IS NOT NULL" : "payload IS NOT NULL";
	int64_t a = some("audit_leaf", "idx", where), b = some("audit_leaf", "idx", where);

	if (a == b || ask("SELECT a.%s = b.%s FROM audit_leaf a, audit_leaf b WHERE a.idx = %" PRId64
		" AND b.idx = %" PRId64, col, col, a, b)) {
		flip("audit_leaf", col, "idx", a);
		return;
	}
	sql("CREATE TEMP TABLE t AS SELECT %s AS x FROM audit_leaf WHERE idx = %" PRId64, col, a);
	sql("UPDATE audit_leaf SET %s = (SELECT %s FROM audit_leaf WHERE idx = %" PRId64 ") WHERE idx = %"
		PRId64, col, col, b, a);
	sql("UPDATE audit_leaf SET %s = (SELECT x FROM t) WHERE idx = %" PRId64, col, b);
}

/* Back to the last checkpoint that is not the newest, rows of the last run included. */
static void truncate_to(int64_t size, int and_checkpoints)
{
	int64_t run;

	sql("DELETE FROM audit_leaf WHERE idx >= %" PRId64, size);
	if (and_checkpoints)
		sql("DELETE FROM audit_checkpoint WHERE size > %" PRId64, size);
	run = ask("SELECT max(run) FROM audit_leaf WHERE kind = 3");
	sql("DELETE FROM chunk WHERE run > %" PRId64, run);
	sql("DELETE FROM load WHERE run > %" PRId64, run);
	sql("DELETE FROM pace WHERE run > %" PRId64, run);
	sql("DELETE FROM event WHERE run > %" PRId64, run);
	sql("DELETE FROM sequence WHERE run > %" PRId64, run);
	sql("DELETE FROM run WHERE id > %" PRId64, run);
	rebuild();
}

static void cut_tail(void)
{
	truncate_to(1 + rng_below(&rng, (uint32_t)leaves() - 1), 0);
}

static void cut_tail_and_checkpoints(void)
{
	truncate_to(ask("SELECT size FROM audit_checkpoint ORDER BY size DESC LIMIT 1 OFFSET 1"), 1);
}

static void older_copy(void)
{
	sqlite3_close(db);
	copy_file(older, copy);
	sqlite3_open(copy, &db);
}

static void rewrite(const struct note_secret *k)
{
	sqlite3_close(db);
	new_log(copy, k, "example.org/attack");
	one_run(copy, 5, 0);
	sqlite3_open(copy, &db);
}

static void rewrite_with_key(void) { rewrite(&key); }
static void rewrite_other_key(void) { rewrite(&other_key); }

static void fork_log(void)
{
	sqlite3_close(db);
	copy_file(older, copy);
	one_run(copy, 9, 0); /* longer than what the honest log did */
	sqlite3_open(copy, &db);
}

static void edit_projection(void)
{
	switch (rng_below(&rng, 10)) {
	case 0:
		sql("UPDATE load SET tokens = tokens + 1 WHERE (run, domain, phase, bucket, layer) IN (SELECT run, "
			"domain, phase, bucket, layer FROM load WHERE run > 1 ORDER BY 1, 2, 3, 4, 5 LIMIT 1 OFFSET %u)",
			rng_below(&rng, (uint32_t)ask("SELECT count(*) FROM load WHERE run > 1")));
		break;
	case 1: sql("UPDATE sequence SET name = 'another' WHERE id = %" PRId64, some("sequence", "id",
			"name IS NOT NULL")); break;
	case 2: sql("UPDATE sequence SET domain = 3 - domain WHERE id = %" PRId64, some("sequence", "id",
			"run > 1")); break;
	case 3: sql("UPDATE sequence SET n_generated = n_generated + 1 WHERE id = %" PRId64,
			some("sequence", "id", "run > 1")); break;
	case 4: sql("UPDATE run SET engine = 'another' WHERE id = %" PRId64, some("run", "id", "1")); break;
	case 5: sql("UPDATE event SET text = 'nothing happened' WHERE id = %" PRId64, some("event", "id",
			"kind = 'alarm'")); break;
	case 6: sql("UPDATE setting SET value = '0.5 abc one' WHERE key = 'adapter 1' AND run = %" PRId64,
			some("run", "id", "1")); break;
	case 7: sql("DELETE FROM setting WHERE key = 'kv type' AND run = %" PRId64, some("run", "id", "1")); break;
	case 8: sql("UPDATE run SET weights = 'none' WHERE id = %" PRId64, some("run", "id", "1")); break;
	default: sql("DELETE FROM event WHERE id = %" PRId64, some("event", "id", "kind = 'alarm'")); break;
	}
}

static void edit_load_counts(void)
{
	sqlite3_stmt *st, *up;
	int64_t n = ask("SELECT count(*) FROM load WHERE run > 1");
	unsigned char counts[EXPERTS * 8];

	sqlite3_prepare_v2(db, "SELECT run, domain, phase, bucket, layer, counts FROM load WHERE run > 1 "
		"ORDER BY 1, 2, 3, 4, 5 LIMIT 1 OFFSET ?", -1, &st, NULL);
	sqlite3_bind_int64(st, 1, rng_below(&rng, (uint32_t)n));
	if (sqlite3_step(st) != SQLITE_ROW || sqlite3_column_bytes(st, 5) != sizeof counts)
		die("no load");
	memcpy(counts, sqlite3_column_blob(st, 5), sizeof counts);
	counts[8 * rng_below(&rng, EXPERTS)] ^= (unsigned char)(1 << rng_below(&rng, 8));
	sqlite3_prepare_v2(db, "UPDATE load SET counts = ?6 WHERE run = ?1 AND domain = ?2 AND phase = ?3 AND "
		"bucket = ?4 AND layer = ?5", -1, &up, NULL);
	for (int i = 0; i < 5; i++)
		sqlite3_bind_int64(up, i + 1, sqlite3_column_int64(st, i));
	sqlite3_bind_blob(up, 6, counts, sizeof counts, SQLITE_STATIC);
	sqlite3_step(up);
	sqlite3_finalize(up);
	sqlite3_finalize(st);
}

static void null_payload(void)
{
	switch (rng_below(&rng, 3)) {
	case 0: sql("UPDATE audit_leaf SET payload = NULL WHERE idx = %" PRId64, some("audit_leaf", "idx",
			"payload IS NOT NULL")); break;
	case 1: sql("UPDATE audit_leaf SET salt = NULL, payload = NULL WHERE idx = %" PRId64,
			some("audit_leaf", "idx", "salt IS NOT NULL")); break;
	default: sql("DELETE FROM chunk WHERE id = %" PRId64, some("chunk", "id", "1")); break;
	}
}

static void plant_key(void)
{
	char vkey[NOTE_KEY_TEXT];
	struct log g;

	note_key_text(&other_key.key, vkey);
	sql("UPDATE audit_log SET vkey = '%s'", vkey);
	if (!rng_below(&rng, 2))
		return;
	/* and sign with it */
	if (log_open(&g, db, NULL, &err) || log_checkpoint(&g, &other_key, &err))
		die("%s", err.msg);
	sql("DELETE FROM audit_checkpoint WHERE size = (SELECT max(size) FROM audit_checkpoint) AND id < "
		"(SELECT max(id) FROM audit_checkpoint)");
	g.signed_size = 0;
	if (log_checkpoint(&g, &other_key, &err))
		die("%s", err.msg);
	log_close(&g);
}

/* A checkpoint of another log of the same key holder. */
static void paste_checkpoint(void)
{
	struct checkpoint c = { .origin = "example.org/elsewhere", .size = (uint64_t)leaves() };
	struct note_secret k = key;
	struct log_nodes nodes;
	struct tree_source src;
	struct buf text, note;

	if (log_nodes_open(&nodes, db, &err))
		die("%s", err.msg);
	src = log_source(&nodes);
	if (tree_root_at(&src, c.size, c.root, &err))
		die("%s", err.msg);
	log_nodes_close(&nodes);
	if (rng_below(&rng, 2)) { /* the same name, another tree */
		snprintf(c.origin, sizeof c.origin, "example.org/attack");
		c.root[rng_below(&rng, SHA_BYTES)] ^= 1;
	}
	buf_init(&text, NOTE_MAX);
	buf_init(&note, NOTE_MAX);
	checkpoint_text(&c, &text);
	note_sign(&k, text.data, text.len, &note);
	sql("INSERT INTO audit_checkpoint(size, note) VALUES(%" PRIu64 ", '%s')", c.size, note.data);
	buf_free(&text);
	buf_free(&note);
}

static void edit_tile(void)
{
	flip("audit_tile", "hashes", "id", some("audit_tile", "id", "1"));
}

static void edit_columns(void)
{
	static const char *const set[] = { "kind = kind % 19 + 1", "run = run + 1", "seq = seq + 1",
		"chunk = chunk + 1" };
	uint32_t i = rng_below(&rng, 4);

	sql("UPDATE audit_leaf SET %s WHERE idx = %" PRId64, set[i], some("audit_leaf", "idx",
		i == 3 ? "chunk IS NOT NULL AND salt IS NOT NULL" : "1"));
}

static void unlogged_rows(void)
{
	if (rng_below(&rng, 2))
		sql("INSERT INTO run(model, state, detail, started, heartbeat, bucket_ns) SELECT model, state, detail, "
			"started, heartbeat, bucket_ns FROM run WHERE id = 1");
	else
		sql("INSERT INTO chunk(run, sequence, pos, n, phase, time, codec, tokens, experts, weights, margins) "
			"SELECT run, sequence, pos + 100, n, phase, time, codec, tokens, experts, weights, margins FROM "
			"chunk WHERE id = %" PRId64, some("chunk", "id", "1"));
}

static void edit_note(void)
{
	int64_t id = some("audit_checkpoint", "id", "1"), n = ask("SELECT instr(note, char(10) || char(10)) "
		"FROM audit_checkpoint WHERE id = %" PRId64, id), at = 1 + rng_below(&rng, (uint32_t)n - 1);

	sql("UPDATE audit_checkpoint SET note = substr(note, 1, %" PRId64 ") || char(unicode(substr(note, %"
		PRId64 ", 1)) + 1) || substr(note, %" PRId64 ") WHERE id = %" PRId64, at - 1, at, at + 1, id);
}

static void edit_policy(void)
{
	static const char *const set[] = { "retain_days = 1", "loss = 1", "detail = 0", "heartbeat_s = 3600",
		"origin = 'example.org/b'", "epoch = 1", "checkpoint_s = 3600" };

	sql("UPDATE audit_log SET %s", set[rng_below(&rng, 7)]);
}

/* Somebody with the key lets retention take what the log promised to keep. */
static void prune_early(void)
{
	struct admin_range range = { .seq = -1, .before = (uint64_t)clock_wall() + 1000000000 };
	struct admin a;
	uint64_t n = 0;
	int bad;

	sqlite3_close(db);
	bad = admin_open(&a, copy, NULL, 0, &err) || admin_destroy(&a, LEAF_PRUNE, &range, "retention", "test",
		&n, &err);
	if (bad || admin_close(&a, bad, &err) || !n)
		die("pruning: %s", err.msg);
	sqlite3_open(copy, &db);
}

static void pause_logging(void)
{
	sqlite3_close(db);
	copy_file(older, copy);
	one_run(copy, 4, 1);
	shift_wall = shift_mono = 0;
	sqlite3_open(copy, &db);
}

/* The key holder's own log, with a clock that was set back between two leaves and not recorded. */
static void roll_clock(void)
{
	struct log g;
	struct buf rec;

	buf_init(&rec, 256);
	record_begin(&rec, "heartbeat");
	shift_wall = -INT64_C(1000000000) * (3 + rng_below(&rng, 100000));
	sql("BEGIN");
	if (log_open(&g, db, &moved, &err))
		die("%s", err.msg);
	g.last_mono = 0; /* forget that there was a leaf before */
	if (log_record(&g, LEAF_HEARTBEAT, 0, 0, NULL, &rec, &err) || log_checkpoint(&g, &key, &err))
		die("%s", err.msg);
	log_close(&g);
	sql("COMMIT");
	shift_wall = 0;
	buf_free(&rec);
}

static void flip_raw(void)
{
	FILE *f;
	long n;
	int c;

	sqlite3_close(db);
	f = fopen(copy, "r+b");
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	for (uint32_t i = 1 + rng_below(&rng, 4); i--;) {
		long at = (long)rng_below(&rng, (uint32_t)n);

		fseek(f, at, SEEK_SET);
		c = fgetc(f);
		fseek(f, at, SEEK_SET);
		fputc(c ^ (int)(1 + rng_below(&rng, 255)), f);
	}
	fclose(f);
	sqlite3_open(copy, &db);
}

static void nothing(void)
{
}

/* ---- the matrix ---- */

enum expect { NO, YES, EITHER };

static const struct attack {
	const char *name;
	void (*go)(void);
	enum expect alone, anchored;
	int slow; /* writes runs: tried less often */
} matrix[] = {
	{ "nothing at all (no false alarm)", nothing, NO, NO, 0 },
	{ "a row edited", edit_row, YES, YES, 0 },
	{ "a leaf's header edited", edit_header, YES, YES, 0 },
	{ "a header edited, tree recomputed", edit_header_rebuilt, YES, YES, 0 },
	{ "a row edited, leaf and tree recomputed", edit_recomputed, YES, YES, 0 },
	{ "a leaf deleted in the middle", delete_middle, YES, YES, 0 },
	{ "two leaves in another order", reorder, YES, YES, 0 },
	{ "salt or payload swapped or edited", swap_secrets, YES, YES, 0 },
	{ "payload gone without a redaction leaf", null_payload, YES, YES, 0 },
	{ "tail cut off, checkpoints left", cut_tail, YES, YES, 0 },
	{ "tail and checkpoints cut off", cut_tail_and_checkpoints, NO, YES, 0 },
	{ "an older copy put back (-wal removed)", older_copy, NO, YES, 0 },
	{ "whole rewrite with the key", rewrite_with_key, NO, YES, 1 },
	{ "whole rewrite with another key", rewrite_other_key, YES, YES, 1 },
	{ "fork: an older copy continued", fork_log, NO, YES, 1 },
	{ "projection edited", edit_projection, YES, YES, 0 },
	{ "load counts edited", edit_load_counts, YES, YES, 0 },
	{ "attacker's key put into the database", plant_key, YES, YES, 0 },
	{ "checkpoint of another log pasted", paste_checkpoint, YES, YES, 0 },
	{ "a checkpoint edited", edit_note, YES, YES, 0 },
	{ "stored subtree roots edited", edit_tile, YES, YES, 0 },
	{ "look-up columns of a leaf edited", edit_columns, YES, YES, 0 },
	{ "rows that were never logged", unlogged_rows, YES, YES, 0 },
	{ "policy edited", edit_policy, YES, YES, 0 },
	{ "payloads pruned before their time", prune_early, YES, YES, 1 },
	{ "logging stopped, then resumed", pause_logging, YES, YES, 1 },
	{ "clock set back without a record", roll_clock, YES, YES, 0 },
	{ "raw bytes of the file flipped", flip_raw, EITHER, EITHER, 0 },
};
enum { CLASSES = sizeof matrix / sizeof matrix[0] };

static char said[2000];

static void hear(void *ctx, enum finding f, const char *text)
{
	size_t n = strlen(said);

	(void)ctx;
	snprintf(said + n, sizeof said - n, "    %s: %s\n", finding_name(f), text);
}

/* 1 = something was found, 0 = clean, -1 = it could not even be read. */
static int detected(int with_anchor)
{
	struct verify_opt o = { .keys = &key.key, .n_key = 1, .deep = 1, .found = hear };
	struct verify_result v;
	struct reader *r;
	struct moe_err e = { 0 };
	int found;

	said[0] = 0;
	if (with_anchor) {
		o.anchor = anchor;
		o.n_anchor = n_anchor;
	}
	r = reader_open(copy, &e);
	if (!r || verify_log(r, &o, &v, &e)) {
		snprintf(said, sizeof said, "    error: %s\n", e.msg);
		reader_close(r);
		return -1;
	}
	found = v.n[FIND_TAMPERED] || v.n[FIND_MISSING] || v.n[FIND_INCOMPLETE];
	free(v.fork);
	reader_close(r);
	return found;
}

static int try(const struct attack *a, int with_anchor)
{
	enum expect want = with_anchor ? a->anchored : a->alone;
	int got;

	copy_file(clean, copy);
	if (sqlite3_open(copy, &db))
		die("%s", copy);
	a->go();
	sqlite3_close(db);
	got = detected(with_anchor);
	if (want == EITHER || got == (want == YES) || (want == YES && got < 0))
		return got != 0;
	printf("FAIL  %s, %s anchor: %s\n%s", a->name, with_anchor ? "with" : "without",
		got ? "found" : "not found", said);
	return -1;
}

int main(int argc, char **argv)
{
	long long n[CLASSES][2] = { { 0 } }, found[CLASSES][2] = { { 0 } }, failed = 0, total = 0;
	struct reader *r;
	int k;

	if (opt_parse(opts, argc, argv, &k, &err) || k != 1 || sodium_init() < 0)
		die("usage: attack [--tries N] [--seed S] [--verbose] DIRECTORY %s", err.msg);
	snprintf(dir, sizeof dir, "%s", argv[0]);
	snprintf(clean, sizeof clean, "%s/clean.db", dir);
	snprintf(older, sizeof older, "%s/older.db", dir);
	snprintf(copy, sizeof copy, "%s/copy.db", dir);
	rng_seed(&rng, (uint64_t)seed);
	build();
	r = reader_open(clean, &err);
	if (!r || log_note(reader_db(r), UINT64_MAX, &anchor, &n_anchor, &err) || !anchor)
		die("%s", err.msg);
	reader_close(r);
	for (long long i = 0; total < tries; i++) {
		int c = (int)(i % CLASSES), with = (int)(i / CLASSES % 2), got;

		if (matrix[c].slow && i / CLASSES % 10 > 1)
			continue;
		got = try(&matrix[c], with);
		total++;
		n[c][with]++;
		found[c][with] += got > 0;
		failed += got < 0;
		if (verbose && said[0])
			printf("%s%s\n%s", matrix[c].name, with ? ", anchored" : "", said);
	}
	printf("%-42s %17s %17s\n", "", "database only", "with an anchor");
	for (int c = 0; c < CLASSES; c++)
		printf("%-42s %7lld of %6lld %7lld of %6lld\n", matrix[c].name, found[c][0], n[c][0], found[c][1],
			n[c][1]);
	printf("%lld mutations, %lld not as expected\n", total, failed);
	free(anchor);
	return failed ? 1 : 0;
}
