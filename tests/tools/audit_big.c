/*
 * audit_big.c - how long does a proof of inclusion take in a large log? Builds the tree of a log of N
 * leaves whose headers follow from their index, stores all tiles but only the leaves that the probed
 * proofs need, and times the proofs as `audit prove` makes them: each from a database that was just
 * opened. Some probes are the awkward ones: the ends, and the edges of tiles.
 *
 *	build/tests/audit_big 100000000 /tmp/big.db
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "audit/admin.h"
#include "audit/proof.h"
#include "base/clock.h"
#include "base/rng.h"
#include "trace/reader.h"

enum { PROBES = 100 };
static struct admin a;
static struct moe_err err;
static unsigned char tile[8][256][SHA_BYTES];
static size_t used[8];

static void die(const char *what)
{
	fprintf(stderr, "audit_big: %s: %s\n", what, a.db ? sqlite3_errmsg(a.db) : err.msg);
	exit(3);
}

static void header(uint64_t i, unsigned char h[LEAF_BYTES])
{
	struct leaf l = { .index = i, .kind = LEAF_BATCH, .run = 1, .seq = i / 100 + 1, .n = 1, .wall = i };

	leaf_put(&l, h);
}

/* Tiles are kept in memory until they are full: a row each, not 256 updates. */
static int keep(void *ctx, unsigned level, uint64_t index, const unsigned char hash[SHA_BYTES],
	struct moe_err *e)
{
	unsigned up = level / 8;
	sqlite3_stmt *st = ctx;

	(void)e;
	if (!level || level % 8)
		return 0;
	memcpy(tile[up][index % 256], hash, SHA_BYTES);
	used[up] = index % 256 + 1;
	if (used[up] < 256)
		return 0;
	sqlite3_bind_int64(st, 1, (int64_t)((uint64_t)up << 56 | index / 256));
	sqlite3_bind_blob(st, 2, tile[up], sizeof tile[up], SQLITE_STATIC);
	sqlite3_step(st);
	used[up] = 0;
	return sqlite3_reset(st) ? -1 : 0;
}

static void add_block(uint64_t at, uint64_t n)
{
	unsigned char h[LEAF_BYTES], zero[32] = { 0 };
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(a.db, "INSERT OR IGNORE INTO audit_leaf(idx, kind, run, seq, header, salt) "
		"VALUES(?, 6, 1, ?, ?, ?)", -1, &st, NULL))
		die("leaves");
	for (uint64_t i = at; i < at + 256 && i < n; i++) {
		header(i, h);
		sqlite3_bind_int64(st, 1, (int64_t)i);
		sqlite3_bind_int64(st, 2, (int64_t)(i / 100 + 1));
		sqlite3_bind_blob(st, 3, h, sizeof h, SQLITE_STATIC);
		sqlite3_bind_blob(st, 4, zero, sizeof zero, SQLITE_STATIC);
		sqlite3_step(st);
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
}

static int by_value(const void *x, const void *y)
{
	double p = *(const double *)x, q = *(const double *)y;

	return p < q ? -1 : p > q;
}

static double cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void say(const char *what, double *us)
{
	qsort(us, PROBES, sizeof *us, by_value);
	printf("  %s: median %.0f us, third quartile %.0f us, worst %.0f us\n", what, us[PROBES / 2],
		us[PROBES * 3 / 4], us[PROBES - 1]);
}

int main(int argc, char **argv)
{
	struct log_policy p = { .origin = "example.org/big", .retain_days = 183, .heartbeat_s = 10,
		.checkpoint_s = 60 };
	uint64_t n = argc == 3 ? strtoull(argv[1], NULL, 10) : 0, probe[PROBES];
	struct checkpoint c = { .origin = "example.org/big", .size = n };
	unsigned char seed[32] = { 1 }, h[LEAF_BYTES], hash[SHA_BYTES];
	double us[PROBES], busy[PROBES], cpu;
	struct note_secret key;
	struct tree t = { 0 };
	struct buf text, note, json;
	sqlite3_stmt *st;
	struct rng r;
	int64_t t0;

	if (n < 1000) {
		fprintf(stderr, "usage: audit_big LEAVES DB\n");
		return 2;
	}
	unlink(argv[2]);
	if (admin_open_bare(&a, argv[2], &err))
		die(argv[2]);
	note_secret_of(&key, p.origin, seed);
	if (log_create(a.db, &p, &key, NULL, "test", &err))
		die("log");
	sqlite3_exec(a.db, "DELETE FROM audit_leaf; DELETE FROM audit_checkpoint; COMMIT; "
		"PRAGMA journal_mode = OFF; BEGIN", NULL, NULL, NULL);
	if (sqlite3_prepare_v2(a.db, "INSERT INTO audit_tile(id, hashes) VALUES(?, ?)", -1, &st, NULL))
		die("tiles");
	t0 = clock_mono();
	for (uint64_t i = 0; i < n; i++) {
		header(i, h);
		tree_leaf(h, sizeof h, hash);
		if (tree_add(&t, hash, keep, st, &err))
			die("tree");
	}
	printf("tree of %llu leaves: %.2f us each\n", (unsigned long long)n,
		(double)(clock_mono() - t0) / 1e3 / (double)n);
	for (unsigned up = 1; up < 8; up++)
		if (used[up]) {
			uint64_t index = (n >> (8 * up)) / 256;

			sqlite3_bind_int64(st, 1, (int64_t)((uint64_t)up << 56 | index));
			sqlite3_bind_blob(st, 2, tile[up], (int)(used[up] * SHA_BYTES), SQLITE_STATIC);
			sqlite3_step(st);
			sqlite3_reset(st);
		}
	sqlite3_finalize(st);
	rng_seed(&r, 1);
	for (int i = 0; i < PROBES; i++) {
		static const uint64_t edge[] = { 1, 2, 256, 257, 65536, 65537 };

		probe[i] = i < 6 ? n - edge[i] % n : i < 12 ? edge[i - 6] % n :
			(uint64_t)((double)n * rng_unit(&r));
		add_block(probe[i] / 256 * 256, n);
	}
	add_block(n / 256 * 256, n);
	buf_init(&text, NOTE_MAX);
	buf_init(&note, NOTE_MAX);
	buf_init(&json, 1 << 20);
	tree_root(&t, c.root);
	checkpoint_text(&c, &text);
	note_sign(&key, text.data, text.len, &note);
	if (sqlite3_prepare_v2(a.db, "INSERT INTO audit_checkpoint(size, note) VALUES(?, ?)", -1, &st, NULL))
		die("checkpoint");
	sqlite3_bind_int64(st, 1, (int64_t)n);
	sqlite3_bind_text(st, 2, note.data, -1, SQLITE_STATIC);
	sqlite3_step(st);
	sqlite3_finalize(st);
	a.has_log = 0;
	if (admin_close(&a, 0, &err)) /* the write-ahead log goes into the file, as after every run */
		die("closing");
	for (int i = 0; i < PROBES; i++) {
		struct reader *reader;
		int bad;

		buf_clear(&json);
		reader = reader_open(argv[2], &err);
		if (!reader)
			die("opening");
		t0 = clock_mono();
		cpu = cpu_us();
		bad = proof_inclusion(reader_db(reader), probe[i], -1, 0, NULL, 0, &json, &err);
		us[i] = (double)(clock_mono() - t0) / 1e3;
		busy[i] = cpu_us() - cpu;
		reader_close(reader);
		if (bad) {
			fprintf(stderr, "audit_big: leaf %llu: %s\n", (unsigned long long)probe[i], err.msg);
			return 3;
		}
		buf_clear(&text);
		if (proof_check(json.data, json.len, &key.key, 1, &text, &err) != 1) {
			fprintf(stderr, "audit_big: leaf %llu: %s\n", (unsigned long long)probe[i], err.msg);
			return 1;
		}
	}
	printf("%d proofs of inclusion, each from a database that was just opened, all good; %zu bytes of JSON\n",
		PROBES, json.len);
	say("time", us);
	say("processor time", busy);
	return 0;
}
