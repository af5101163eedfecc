/*
 * log.h - the log inside a moescope database: its tables, appending, checkpoints, reading.
 *
 * `audit init` creates the tables (audit_*); a database without them has no log. Everything that
 * appends does so in a transaction of its caller, on the one writing connection. What is not
 * committed is forgotten with log_rollback(), what is with log_committed().
 *
 * Beside each leaf's header the tree keeps, from level 8 up and every 8 levels, the roots of
 * complete subtrees: tile (L, i) holds those of level 8 L with indices 256 i .. 256 i + 255. So
 * appending costs two hashes on average and a proof reads at most 512 leaves and one tile a level.
 */
#ifndef AUDIT_LOG_H
#define AUDIT_LOG_H

#include <sqlite3.h>

#include "audit/leaf.h"
#include "audit/note.h"
#include "audit/tree.h"

#define LOG_VERSION 1
/* In a query for leaves of a kind that is rare: that the index audit_leaf_record has them. Logs
 * that earlier versions made have it with the second form of the same condition. */
#define LOG_RARE(kind) " " kind " <> 5 AND " kind " <> 6 AND " kind " <> 7 AND " \
	kind " <> 11 AND " kind " NOT IN (5, 6, 7, 11) "
#define LOG_KEYS_MAX 64 /* keys that a log may have had */

enum log_detail { LOG_SUMS, LOG_ROUTES, LOG_FULL };
enum log_loss { LOG_STRICT, LOG_BEST_EFFORT };

/* What `audit init` decides; the first leaf holds the same. */
struct log_policy {
	char origin[NOTE_NAME_MAX + 1];
	char key_path[1024];     /* of the signing key, outside the database's directory */
	char seal_path[1024];    /* of the key that wraps the subjects' keys; "" = not encrypted */
	int detail, loss, sealed;
	int64_t retain_days, heartbeat_s, checkpoint_s;
};

struct log_clock { int64_t (*wall)(void), (*mono)(void); };

struct log {
	sqlite3 *db;              /* borrowed */
	struct log_policy policy;
	struct log_clock clock;
	struct tree tree, saved;  /* with what is not committed yet; what is */
	uint64_t epoch;           /* keys that were rotated out */
	char vkey[NOTE_KEY_TEXT]; /* of the current key, as the database says */
	unsigned char boot[16];
	int64_t last_wall, last_mono, saved_wall,
		saved_mono;           /* of the last leaf of this boot; 0 = none */
	int64_t last_checkpoint;  /* mono */
	uint64_t signed_size;     /* of the newest checkpoint */
	sqlite3_stmt *st[4];
	struct buf scratch;
};

/* Is there a log? 1, 0, -1. */
int log_exists(sqlite3 *db, struct moe_err *e);

/* Make the tables and the first leaf, signed; in the caller's transaction. */
int log_create(sqlite3 *db, const struct log_policy *p, const struct note_secret *key,
	const struct log_clock *clock, const char *who, struct moe_err *e);

/* For appending. clock NULL = the system's. */
int log_open(struct log *g, sqlite3 *db, const struct log_clock *clock, struct moe_err *e);
void log_close(struct log *g);

/* What one appends: kind, flags, n, run, seq, first and descriptor of l; the rest is filled in.
 * salt NULL makes one. chunk: chunk.id of a batch whose decisions are rows, else 0; keep: does the
 * payload go into the log? A clock that stepped gets a leaf of its own before. */
struct log_item {
	struct leaf leaf;
	const void *payload;
	size_t n_payload;
	int64_t chunk;
	int keep;
};
int log_append(struct log *g, struct log_item *it, struct moe_err *e);
/* The usual case: a record. kind, run and seq; the record's bytes. */
int log_record(struct log *g, enum leaf_kind kind, uint64_t run, uint64_t seq,
	const unsigned char descriptor[SHA_BYTES], const struct buf *rec, struct moe_err *e);

/* Sign the tree as it is now, unless its size is signed already. */
int log_checkpoint(struct log *g, const struct note_secret *key, struct moe_err *e);
/* Is the key the one that the log names? */
int log_key_fits(const struct log *g, const struct note_secret *key, struct moe_err *e);

void log_rollback(struct log *g);
void log_committed(struct log *g);

/* ---- reading, also of databases that nobody trusts ---- */

/* Leaves in the log, policy and current key as the database says them. */
int log_size(sqlite3 *db, uint64_t *n, struct moe_err *e);
int log_policy_read(sqlite3 *db, struct log_policy *p, char vkey[NOTE_KEY_TEXT], uint64_t *epoch,
	struct moe_err *e);

/* One leaf's row; blobs malloced in one piece at *mem. salt and payload NULL when gone. */
struct log_row {
	struct leaf leaf;
	unsigned char header[LEAF_BYTES];
	int64_t chunk;
	unsigned char salt[LEAF_SALT];
	int has_salt, has_payload;
	unsigned char *payload;
	size_t n_payload;
};
int log_read(sqlite3 *db, uint64_t index, struct log_row *out, struct moe_err *e);
void log_row_free(struct log_row *r);

/* Subtree roots from the tables: a source for proofs. */
struct log_nodes { sqlite3 *db; sqlite3_stmt *leaf, *tile; uint64_t tile_id; int n_tile;
	unsigned char tile_hash[256][SHA_BYTES]; };
int log_nodes_open(struct log_nodes *s, sqlite3 *db, struct moe_err *e);
void log_nodes_close(struct log_nodes *s);
struct tree_source log_source(struct log_nodes *s);

/* The newest checkpoint with size <= most (UINT64_MAX: the newest): its note is malloced; *note
 * NULL if there is none. */
int log_note(sqlite3 *db, uint64_t most, char **note, size_t *n, struct moe_err *e);

#endif
