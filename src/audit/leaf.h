/*
 * leaf.h - what one leaf of the log is: 152 bytes of header, and a salted commitment to a payload.
 *
 * The header is what the tree hashes; big-endian:
 *
 *	  0  16  "moescope-leaf/1\n"
 *	 16  u64  index     place in the log, from 0
 *	 24  u16  kind      enum leaf_kind
 *	 26  u16  flags     enum leaf_flag
 *	 28  u32  n         batch: tokens; gap: tokens lost (at most 2^32-1); else 0
 *	 32  u64  run       run.id, 0 = none
 *	 40  u64  seq       the engine's number of the sequence, 0 = none
 *	 48  u64  first     batch: position of the first token
 *	 56  u64  wall      ns since 1970
 *	 64  u64  mono      ns of the clock that does not step
 *	 72  16   boot      the kernel's boot id: mono counts from there
 *	 88  32   descriptor  SHA-256 of the session's description, zeros outside a session
 *	120  32   commit    SHA-256("moescope-data/1\n" || salt[32] || u64 length || payload)
 *
 * A payload is the canonical bytes of a batch's decisions (event/event.h) one after the other,
 * token by token and in a token layer by layer, or a record: lines of text, see record_*(). The
 * decisions are those that a reader of the database gets, so what a storage codec rounds is rounded
 * here too.
 */
#ifndef AUDIT_LEAF_H
#define AUDIT_LEAF_H

#include <moescope/err.h>

#include "audit/sha.h"
#include "base/buf.h"

#define LEAF_BYTES 152
#define LEAF_SALT 32
#define PAYLOAD_MAX ((size_t)512 << 20)

/* To add a kind: a number here, its name in leaf.c, a line in docs/AUDIT.md. Never change one. */
enum leaf_kind {
	LEAF_INIT = 1,       /* the log begins: origin, key, policy */
	LEAF_SESSION_START,  /* a run begins; its payload is the descriptor */
	LEAF_SESSION_END,
	LEAF_MODEL,          /* a model was loaded: name, size, hashes */
	LEAF_SEQ_START, LEAF_BATCH, LEAF_SEQ_END,
	LEAF_GAP,            /* decisions were dropped on request */
	LEAF_CLOCK,          /* the wall clock stepped against the monotonic one */
	LEAF_RECOVERY,       /* an earlier writer died */
	LEAF_HEARTBEAT,      /* nothing else to say for a while */
	LEAF_ROTATION,       /* another key signs from here on */
	LEAF_REDACTION, LEAF_PRUNE, LEAF_HOLD,
	LEAF_EXPORT, LEAF_ACCESS,
	LEAF_OPERATOR,       /* a person overrode something */
	LEAF_NOTE,           /* any other event of the run */
	LEAF_KINDS
};
/* Kinds whose payload is a record in the log; LEAF_BATCH lies in the tables of decisions. */
const char *leaf_kind_name(unsigned kind); /* NULL if unknown */

enum leaf_flag {
	LEAF_SEALED = 1,   /* batch: the payload is encrypted and in the log */
	LEAF_SUMS = 2,     /* batch: a record of counts by layer, in the log; no decisions are kept */
	LEAF_LOGITS = 4    /* batch: the events hold all router logits */
};

struct leaf {
	uint64_t index, run, seq, first, wall, mono;
	uint16_t kind, flags;
	uint32_t n;
	unsigned char boot[16], descriptor[SHA_BYTES], commit[SHA_BYTES];
};

void leaf_put(const struct leaf *l, unsigned char out[LEAF_BYTES]);
/* -1 if these are not a leaf's bytes. */
int leaf_get(struct leaf *l, const unsigned char *in, size_t n);

void leaf_commit(const unsigned char salt[LEAF_SALT], const void *payload, size_t n,
	unsigned char out[SHA_BYTES]);

/*
 * Records: "moescope-record/1 KIND\n", then lines "key value\n". In a value backslash, control
 * characters, DEL and bytes above 0x7e are written \xHH (lower case), so a record is ASCII and has
 * one encoding.
 */
void record_begin(struct buf *b, const char *kind);
void record_text(struct buf *b, const char *key, const char *value); /* NULL: no line */
void record_bytes(struct buf *b, const char *key, const void *p, size_t n);
void record_int(struct buf *b, const char *key, int64_t v);
void record_hex(struct buf *b, const char *key, const void *p, size_t n);

/* The next line of a record from *at on (0 at first): 1, 0 = end, -1 = not a record. */
struct record_line { const char *key, *value; size_t n_key, n_value; };
int record_next(const char *rec, size_t n, size_t *at, struct record_line *out);
/* The unescaped value of a key as a string, cut to size; -1 if there is none. */
int record_get(const char *rec, size_t n, const char *key, char *out, size_t size);
int64_t record_get_int(const char *rec, size_t n, const char *key, int64_t missing);
/* The key under which a descriptor holds a setting of the run: one word. */
void record_setting_key(char *out, size_t size, const char *setting);
/* The kind that a record calls itself, "" if it is none. */
void record_kind(const char *rec, size_t n, char *out, size_t size);

#endif
