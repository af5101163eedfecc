/*
 * admin.h - one action on a log by a person: the only writing connection, one transaction, a leaf
 * that says who did what, a checkpoint.
 *
 *	admin_open(&a, "run.db", key_path or NULL, who, &e);
 *	... log_record(&a.log, ...) ...
 *	admin_close(&a, 0, &e);            // commits; with 1 it rolls back
 */
#ifndef AUDIT_ADMIN_H
#define AUDIT_ADMIN_H

#include "audit/log.h"

struct admin {
	sqlite3 *db;
	int lock, has_log;
	struct log log;
	struct note_secret key;
	int have_key;
	const char *path;
};

/* Begins the transaction. key_path NULL: the path that the log remembers. Without the key the
 * action is refused unless `unsigned_ok`, when it is left to the next checkpoint. */
int admin_open(struct admin *a, const char *path, const char *key_path, int unsigned_ok,
	struct moe_err *e);
/* The same for a database that has no log yet: no log, no key. */
int admin_open_bare(struct admin *a, const char *path, struct moe_err *e);
/* failed: roll back. Else sign and commit; -1 with e filled in when that fails. */
int admin_close(struct admin *a, int failed, struct moe_err *e);

/* "NAME (uid 1000 login, host)": who acts, as far as the system knows; name NULL = the login. */
void admin_who(char *out, size_t size, const char *name);

/* Is the key file in the directory that the database is in? 1, 0. Then whoever takes one has
 * both. */
int admin_same_directory(const char *db, const char *file);

/* ---- what takes things away ---- */

/* What a range of leaves stands for. */
struct admin_range {
	int64_t run;       /* 0 = all */
	int64_t seq;       /* -1 = all of the run */
	uint64_t before;   /* wall ns; leaves of runs that ended before it; 0 = any time */
};

/* Destroy the payloads, salts and rows of decisions in the range, and say so in a leaf of `kind`
 * (LEAF_REDACTION, LEAF_PRUNE). Held leaves are refused. *n: how many. */
int admin_destroy(struct admin *a, enum leaf_kind kind, const struct admin_range *r,
	const char *basis, const char *who, uint64_t *n, struct moe_err *e);

/* Hold (or release) a run or one of its sequences. */
int admin_hold(struct admin *a, const struct admin_range *r, int release, const char *reason,
	const char *who, struct moe_err *e);

#endif
