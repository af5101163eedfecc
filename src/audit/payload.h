/*
 * payload.h - what a batch's leaf commits to, and how a subject's payloads are encrypted.
 *
 * Plain: the canonical bytes of the chunk's decisions, token by token, in a token layer by layer.
 * They are made from the chunk as a reader of the database gets it, by the writer and by the
 * verifier with the same function.
 *
 * Sealed: "moescope-seal/1\n" || key id[32] || header[24] || the plain payload as one final message
 * of libsodium's secretstream (XChaCha20-Poly1305), with run, seq, first (u64) and n (u32),
 * big-endian, as additional data. The key is the subject's own; the key id is
 * SHA-256("moescope-skid/1\n" || key). The commitment is to the sealed bytes, so they can be
 * checked without the key.
 *
 * A subject's key lies in the database, wrapped by the log's sealing key (secretbox, nonce first),
 * which lies in a file elsewhere. Destroying the wrapped key destroys all of the subject's
 * payloads.
 */
#ifndef AUDIT_PAYLOAD_H
#define AUDIT_PAYLOAD_H

#include "audit/leaf.h"
#include "audit/log.h"
#include "trace/reader.h"

/* Canonical bytes of the chunk's decisions into out (cleared first). */
int payload_events(const struct cursor_chunk *c, struct buf *out, struct moe_err *e);

/* A record of picks by expert and layer, where no decisions are kept. */
void payload_sums(const struct cursor_chunk *c, struct buf *out);

/* The same for n layers of which only sums are known. */
void payload_counts(uint64_t tokens, const struct moe_layer_desc *layers, size_t n,
	const uint64_t *const *counts, struct buf *out);

/* The bytes that a leaf commits to: kept in the log, or encoded anew from the rows of decisions. -1
 * also when they were destroyed. */
int payload_of(struct reader *r, const struct log_row *row, struct buf *out, struct moe_err *e);

/* The batch that holds position pos of a sequence: *index. */
int payload_find(struct reader *r, int64_t run, uint64_t seq, uint64_t pos, uint64_t *index,
	struct moe_err *e);

#define SEAL_KEY 32

int seal_key_create(unsigned char key[SEAL_KEY], const char *path, struct moe_err *e);
int seal_key_load(unsigned char key[SEAL_KEY], const char *path, struct moe_err *e);

/* The subject's key; made and stored when it is new and `make` is set. -1 with e filled in, also
 * when it was destroyed. */
int seal_subject(sqlite3 *db, const unsigned char master[SEAL_KEY], const char *name, int make,
	unsigned char key[SEAL_KEY], struct moe_err *e);

int seal_payload(const unsigned char key[SEAL_KEY], const struct leaf *l, const void *plain,
	size_t n, struct buf *out, struct moe_err *e);
int seal_open(const unsigned char key[SEAL_KEY], const struct leaf *l, const void *sealed, size_t n,
	struct buf *out, struct moe_err *e);

/* The name under which a sequence's payloads are sealed. */
void seal_name(char *out, size_t size, uint64_t run, uint64_t seq, const char *name);

#endif
