/*
 * verify_state.h - what verify.c and verify_notes.c share while a log is verified.
 */
#ifndef AUDIT_VERIFY_STATE_H
#define AUDIT_VERIFY_STATE_H

#include "audit/deep.h"
#include "audit/verify.h"

/* Leaves from..to were taken away by leaf `by`, whose clock said `wall`. */
struct span { uint64_t from, to, by, wall; int prune; };

struct anchor { struct checkpoint c; size_t at, len; int done; };

struct verify {
	const struct verify_opt *o;
	struct verify_result *out;
	struct reader *r;
	sqlite3 *db;
	struct tree tree;
	struct leaf prev;
	uint64_t n;                  /* leaves that the table claims */
	struct note_key key[LOG_KEYS_MAX];
	uint64_t key_from[LOG_KEYS_MAX]; /* leaf that put the key in force */
	size_t n_key;
	int pinned;                  /* a key of the log is one of the caller's */
	struct span *span;
	size_t n_span;
	struct anchor *anchor;
	size_t n_anchor;
	sqlite3_stmt *notes;         /* checkpoints by size */
	int note_ready;
	uint64_t note_size;
	uint64_t session;            /* run of the open session, 0 = none */
	unsigned char descriptor[SHA_BYTES];
	int64_t runs_before, heartbeat_ns, retain, checkpoint_s;
	char detail[16], loss[16];
	int encrypted;
	struct log_nodes nodes;      /* the stored subtree roots, compared with what the leaves give */
	struct deep *deep;
	int deep_failed;
	struct moe_err deep_err;
	struct cursor *cursor;
	uint64_t cursor_run;
	struct buf scratch;
	uint64_t stored_batches;     /* that must have a row in chunk */
	int aborted;
};

/* Tell a finding and count it. */
void verify_find(struct verify *v, enum finding f, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A query that failed. */
int verify_sql(struct verify *v, const char *what, struct moe_err *e);

/* The notes that the caller kept. */
int verify_anchors(struct verify *v, struct moe_err *e);
/* The key in force from leaf `from` on; -1 if it is none. */
int verify_add_key(struct verify *v, const char *vkey, uint64_t from);
/* The record of a rotation, n bytes at p. */
void verify_rotation(struct verify *v, const struct leaf *l, const char *p, size_t n);
/* Step to the next checkpoint of the database, by size. */
int verify_next_note(struct verify *v, struct moe_err *e);
/* All checkpoints and anchors of the size that the tree has now. */
int verify_at_size(struct verify *v, struct moe_err *e);
/* After the pass: anchors that this log contradicts, with the proof if the key signed both. */
int verify_forks(struct verify *v, struct moe_err *e);

#endif
