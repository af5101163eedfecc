/* admin.c - see admin.h. */
#include "audit/admin.h"

#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "trace/dbfile.h"

static int fail(struct admin *a, const char *what, struct moe_err *e)
{
	return err_set(e, MOE_ERR_SYS, "%s: %s: %s", a->path, what, sqlite3_errmsg(a->db));
}

int admin_open_bare(struct admin *a, const char *path, struct moe_err *e)
{
	memset(a, 0, sizeof *a);
	a->path = path;
	if (sodium_init() < 0)
		return err_set(e, MOE_ERR_SYS, "libsodium does not start");
	a->db = dbfile_open_writer(path, &a->lock, e);
	if (!a->db)
		return -1;
	if (sqlite3_exec(a->db, "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; BEGIN IMMEDIATE",
			NULL, NULL, NULL)) {
		fail(a, "starting", e);
		dbfile_close_writer(a->db, a->lock);
		return -1;
	}
	return 0;
}

int admin_open(struct admin *a, const char *path, const char *key_path, int unsigned_ok,
	struct moe_err *e)
{
	struct stat st;
	int have;

	if (stat(path, &st) || !st.st_size)
		return err_set(e, MOE_ERR_INPUT, "%s: no such database", path);
	if (admin_open_bare(a, path, e))
		return -1;
	have = log_exists(a->db, e);
	if (have == 0)
		err_set(e, MOE_ERR_INPUT, "%s: it has no audit log; `audit init` starts one", path);
	if (have <= 0 || log_open(&a->log, a->db, NULL, e)) {
		admin_close(a, 1, NULL);
		return -1;
	}
	a->has_log = 1;
	if (!note_secret_load(&a->key, key_path ? key_path : a->log.policy.key_path, e) &&
		!log_key_fits(&a->log, &a->key, e)) {
		a->have_key = 1;
	} else if (!unsigned_ok || key_path) {
		admin_close(a, 1, NULL);
		return -1;
	}
	return 0;
}

int admin_close(struct admin *a, int failed, struct moe_err *e)
{
	int bad = failed;

	if (!bad && a->has_log && a->have_key)
		bad = log_checkpoint(&a->log, &a->key, e);
	if (a->has_log)
		log_close(&a->log);
	if (!bad && sqlite3_exec(a->db, "COMMIT", NULL, NULL, NULL))
		bad = fail(a, "committing", e);
	if (bad)
		sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
	note_secret_forget(&a->key);
	sqlite3_wal_checkpoint_v2(a->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(a->db, 0);
	sqlite3_exec(a->db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
	dbfile_close_writer(a->db, a->lock);
	return bad && !failed ? -1 : 0;
}

void admin_who(char *out, size_t size, const char *name)
{
	struct passwd *p = getpwuid(getuid());
	char host[128] = "";

	gethostname(host, sizeof host - 1);
	snprintf(out, size, "%s (uid %ld %s, %s)", name ? name : p ? p->pw_name : "unknown",
		(long)getuid(), p ? p->pw_name : "unknown", host);
}

static int directory(const char *file, struct stat *st)
{
	char dir[PATH_MAX];
	char *slash;

	snprintf(dir, sizeof dir, "%s", file);
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = 0;
	return stat(slash ? dir : ".", st);
}

int admin_same_directory(const char *db, const char *file)
{
	struct stat a, b;

	return !directory(db, &a) && !directory(file, &b) && a.st_dev == b.st_dev &&
		a.st_ino == b.st_ino;
}

/* ---- holds ---- */

enum { HELD_RUN = 1, HELD_ONE = 2 };

/* Is the sequence held, or its run? The newest hold leaf of either counts. Bits, 0 = no, -1. */
static int held(struct admin *a, uint64_t run, uint64_t seq, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, whole = 0, one = 0;

	if (sqlite3_prepare_v2(a->db,
			"SELECT payload, seq FROM audit_leaf WHERE kind = 15 AND" LOG_RARE("kind")
			"AND run = ?1 ORDER BY idx",
			-1, &st, NULL))
		return fail(a, "reading holds", e);
	sqlite3_bind_int64(st, 1, (int64_t)run);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *p = sqlite3_column_blob(st, 0);
		size_t n = (size_t)sqlite3_column_bytes(st, 0);
		char what[16] = "", which[24] = "";

		if (!p)
			continue;
		record_get(p, n, "action", what, sizeof what);
		record_get(p, n, "sequence", which, sizeof which);
		if (!strcmp(which, "all"))
			whole = !strcmp(what, "hold");
		else if (*which && strtoull(which, NULL, 10) == seq)
			one = !strcmp(what, "hold");
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return fail(a, "reading holds", e);
	return (whole ? HELD_RUN : 0) | (one ? HELD_ONE : 0);
}

/* Is there anything to hold, or a hold to lift? */
static int can_hold(struct admin *a, const struct admin_range *r, int release, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	char what[80];
	int rc, on;

	snprintf(what, sizeof what, r->seq < 0 ? "run %lld" : "run %lld, sequence %lld",
		(long long)r->run, (long long)r->seq);
	if (release) {
		on = held(a, (uint64_t)r->run, (uint64_t)r->seq, e);
		if (on >= 0 && !(on & (r->seq < 0 ? HELD_RUN : HELD_ONE)))
			return err_set(e, MOE_ERR_USAGE, "%s is not held%s", what,
				on ? " itself, its run is" : "");
		return on < 0 ? -1 : 0;
	}
	if (sqlite3_prepare_v2(a->db,
		"SELECT 1 FROM audit_leaf WHERE run = ?1 AND (?2 < 0 OR seq = ?2) "
			"AND kind <> 15 LIMIT 1", -1, &st, NULL))
		return fail(a, "looking for what is to be held", e);
	sqlite3_bind_int64(st, 1, r->run);
	sqlite3_bind_int64(st, 2, r->seq);
	rc = sqlite3_step(st);
	sqlite3_finalize(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return fail(a, "looking for what is to be held", e);
	return rc == SQLITE_ROW ? 0 : err_set(e, MOE_ERR_USAGE, "the log has nothing of %s", what);
}

int admin_hold(struct admin *a, const struct admin_range *r, int release, const char *reason,
	const char *who, struct moe_err *e)
{
	struct buf rec;
	int bad;

	if (can_hold(a, r, release, e))
		return -1;
	buf_init(&rec, 65536);
	record_begin(&rec, "hold");
	record_text(&rec, "action", release ? "release" : "hold");
	record_int(&rec, "run", r->run);
	if (r->seq < 0)
		record_text(&rec, "sequence", "all");
	else
		record_int(&rec, "sequence", r->seq);
	record_text(&rec, "reason", reason);
	record_text(&rec, "who", who);
	bad = log_record(&a->log, LEAF_HOLD, (uint64_t)r->run, 0, NULL, &rec, e);
	buf_free(&rec);
	return bad;
}

/* ---- destroying ---- */

struct doomed { uint64_t from, to; };

/* Leaves whose payload goes: batches, and the records of sequences, which name them. */
static const char select_doomed[] =
	"SELECT idx, run, seq, chunk FROM audit_leaf l WHERE kind IN (5, 6, 7) AND salt IS NOT NULL "
	"AND (?1 = 0 OR run = ?1) AND (?2 < 0 OR seq = ?2) ORDER BY idx";

/* Did the run end before that time, by the clock of the leaf that says so? Tables are not asked:
 * they can be edited. A session that has not ended is left alone. 1, 0, -1. */
static int ended_before(struct admin *a, uint64_t run, uint64_t before, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	struct leaf l;
	int rc, yes = 0;

	if (sqlite3_prepare_v2(a->db,
			"SELECT header FROM audit_leaf WHERE kind IN (3, 10) AND" LOG_RARE("kind")
			"AND run = ? ORDER BY idx DESC LIMIT 1",
			-1, &st, NULL))
		return fail(a, "reading the ends of runs", e);
	sqlite3_bind_int64(st, 1, (int64_t)run);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW && sqlite3_column_blob(st, 0) &&
		!leaf_get(&l, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0)))
		yes = l.wall < before;
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? yes : fail(a, "reading the ends of runs", e);
}

static int wipe(struct admin *a, sqlite3_stmt *leaf, sqlite3_stmt *chunk, uint64_t index,
	int64_t id, struct moe_err *e)
{
	sqlite3_bind_int64(leaf, 1, (int64_t)index);
	sqlite3_step(leaf);
	if (sqlite3_reset(leaf))
		return fail(a, "destroying a payload", e);
	if (!id)
		return 0;
	sqlite3_bind_int64(chunk, 1, id);
	sqlite3_step(chunk);
	return sqlite3_reset(chunk) ? fail(a, "destroying decisions", e) : 0;
}

static int add_doomed(struct doomed **d, size_t *n, uint64_t index, struct moe_err *e)
{
	struct doomed *p;

	if (*n && (*d)[*n - 1].to + 1 == index) {
		(*d)[*n - 1].to = index;
		return 0;
	}
	p = *n & (*n - 1) ? *d : realloc(*d, (*n ? *n * 2 : 1) * sizeof *p);
	if (!p)
		return err_nomem(e, *n * 2 * sizeof *p, "a redaction");
	*d = p;
	p[(*n)++] = (struct doomed){ index, index };
	return 0;
}

/* A subject's key opens what other runs sealed for it, too: none of that may be held. */
static int others_held(struct admin *a, const struct admin_range *r, struct moe_err *e)
{
	sqlite3_stmt *st = NULL;
	int rc, bad = 0;

	if (sqlite3_prepare_v2(a->db,
			"SELECT o.run, o.seq, o.name FROM sequence s JOIN sequence o ON o.name = "
			"s.name WHERE s.run = ?1 AND (?2 < 0 OR s.seq = ?2) AND s.name <> '' AND EXISTS "
			"(SELECT 1 FROM audit_subject k WHERE k.name = s.name AND k.key IS NOT NULL)",
			-1, &st, NULL))
		return fail(a, "reading subjects", e);
	sqlite3_bind_int64(st, 1, r->run);
	sqlite3_bind_int64(st, 2, r->seq);
	while (!bad && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		uint64_t run = (uint64_t)sqlite3_column_int64(st, 0);
		uint64_t seq = (uint64_t)sqlite3_column_int64(st, 1);
		int on = held(a, run, seq, e);

		if (on > 0)
			err_set(e, MOE_ERR_USAGE, "the subject's key also opens run %" PRIu64 ", sequence %"
				PRIu64 ", which is under a legal hold", run, seq);
		bad = on ? -1 : 0;
	}
	if (!bad && rc != SQLITE_DONE)
		bad = fail(a, "reading subjects", e);
	sqlite3_finalize(st);
	return bad;
}

/* A sequence's name is part of what is forgotten; with `keys` so are its subject's key and name. *n
 * is the number of keys. */
static int wipe_names(struct admin *a, const struct admin_range *r, int keys, int *n,
	struct moe_err *e)
{
	static const char *const sql[] = {
		"UPDATE audit_subject SET key = NULL, name = 'erased subject ' || id WHERE name IN (SELECT "
		"coalesce(nullif(s.name, ''), 'run ' || s.run || ' sequence ' || s.seq) FROM sequence s "
		"WHERE s.run = ?1 AND (?2 < 0 OR s.seq = ?2))",
		"UPDATE sequence SET name = NULL WHERE run = ?1 AND (?2 < 0 OR seq = ?2)",
		"UPDATE event SET text = NULL WHERE run = ?1 AND sequence IN (SELECT id FROM sequence "
		"WHERE run = ?1 AND (?2 < 0 OR seq = ?2))",
	};

	for (size_t i = keys ? 0 : 1; i < 3; i++) {
		sqlite3_stmt *st = NULL;

		if (sqlite3_prepare_v2(a->db, sql[i], -1, &st, NULL))
			return fail(a, "forgetting names", e);
		sqlite3_bind_int64(st, 1, r->run);
		sqlite3_bind_int64(st, 2, r->seq);
		sqlite3_step(st);
		if (sqlite3_finalize(st))
			return fail(a, "forgetting names", e);
		if (!i)
			*n = sqlite3_changes(a->db);
	}
	return 0;
}

/* May this sequence's payloads go? 1, 0, -1: one that is held is an error where it was named, and
 * is passed over where only its age was. */
static int may_go(struct admin *a, const struct admin_range *r, uint64_t run, uint64_t seq,
	struct moe_err *e)
{
	struct admin_range one = { .run = (int64_t)run, .seq = (int64_t)seq };
	int on, old = 1, n;

	if (r->before && (old = ended_before(a, run, r->before, e)) <= 0)
		return old;
	on = held(a, run, seq, e);
	if (on < 0)
		return -1;
	if (on && !r->before)
		return err_set(e, MOE_ERR_USAGE,
			"run %" PRIu64 ", sequence %" PRIu64 " is under a legal hold; "
			"`audit hold --release` lifts it",
			run, seq);
	if (!on && r->before && wipe_names(a, &one, 0, &n, e))
		return -1;
	return !on;
}

static int destroy(struct admin *a, const struct admin_range *r, struct doomed **d, size_t *n_d,
	uint64_t *n, struct moe_err *e)
{
	sqlite3_stmt *st = NULL, *leaf = NULL, *chunk = NULL;
	int rc = SQLITE_DONE, bad = 0, goes = 0, asked = 0;
	uint64_t of_run = 0, of_seq = 0;

	if (sqlite3_prepare_v2(a->db, select_doomed, -1, &st, NULL) ||
		sqlite3_prepare_v2(a->db, "UPDATE audit_leaf SET salt = NULL, payload = NULL WHERE idx = ?",
			-1, &leaf, NULL) ||
		sqlite3_prepare_v2(a->db, "DELETE FROM chunk WHERE id = ?", -1, &chunk, NULL)) {
		bad = fail(a, "reading leaves", e);
		goto out;
	}
	sqlite3_bind_int64(st, 1, r->run);
	sqlite3_bind_int64(st, 2, r->seq);
	while (!bad && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		uint64_t index = (uint64_t)sqlite3_column_int64(st, 0);
		uint64_t run = (uint64_t)sqlite3_column_int64(st, 1);
		uint64_t seq = (uint64_t)sqlite3_column_int64(st, 2);

		if (!asked++ || run != of_run || seq != of_seq)
			goes = may_go(a, r, of_run = run, of_seq = seq, e);
		if (goes < 0) {
			bad = -1;
		} else if (goes) {
			bad = wipe(a, leaf, chunk, index, sqlite3_column_int64(st, 3), e) ||
				add_doomed(d, n_d, index, e);
			++*n;
		}
	}
	if (!bad && rc != SQLITE_DONE)
		bad = fail(a, "reading leaves", e);
out:
	sqlite3_finalize(st);
	sqlite3_finalize(leaf);
	sqlite3_finalize(chunk);
	return bad ? -1 : 0;
}

int admin_destroy(struct admin *a, enum leaf_kind kind, const struct admin_range *r,
	const char *basis, const char *who, uint64_t *n, struct moe_err *e)
{
	struct doomed *d = NULL;
	size_t n_d = 0;
	struct buf rec;
	int bad, keys = 0;

	*n = 0;
	if ((r->run && others_held(a, r, e)) || destroy(a, r, &d, &n_d, n, e) ||
		(r->run && wipe_names(a, r, 1, &keys, e))) {
		free(d);
		return -1;
	}
	buf_init(&rec, PAYLOAD_MAX);
	record_begin(&rec, leaf_kind_name(kind));
	if (r->run)
		record_int(&rec, "run", r->run);
	if (r->seq >= 0)
		record_int(&rec, "sequence", r->seq);
	if (r->before)
		record_int(&rec, "before", (int64_t)r->before);
	for (size_t i = 0; i < n_d; i++)
		buf_printf(&rec, "leaves %" PRIu64 "-%" PRIu64 "\n", d[i].from, d[i].to);
	if (keys)
		record_int(&rec, "subject_keys", keys);
	record_text(&rec, "basis", basis);
	record_text(&rec, "who", who);
	bad = n_d ? log_record(&a->log, kind, (uint64_t)r->run, 0, NULL, &rec, e) : 0;
	buf_free(&rec);
	free(d);
	return bad;
}
