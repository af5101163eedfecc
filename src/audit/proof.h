/*
 * proof.h - what a third party can check without the database: one JSON object.
 *
 * "moescope-proof/1" of kind
 *	inclusion    leaf (base64 of its 152 bytes), path, checkpoint; and what opens the commitment:
 *	             salt, payload (both left out where they are not to be shown)
 *	consistency  two checkpoints and the path that shows that one continues the other
 *	fork         two checkpoints that cannot both be of one log; where their sizes differ, the root
 *	             that the larger log has at the smaller size, and the path between those
 *
 * Hashes are base64, numbers decimal, checkpoints the signed notes as they are.
 */
#ifndef AUDIT_PROOF_H
#define AUDIT_PROOF_H

#include "audit/log.h"

/* The proof of leaf `index` under the newest checkpoint, as JSON. open: with salt and payload.
 * token: a position, for the reader's convenience, or -1. */
int proof_inclusion(sqlite3 *db, uint64_t index, int64_t token, int open, const void *payload,
	size_t n_payload, struct buf *out, struct moe_err *e);

/* From the checkpoint of `from` leaves to that of `to`; both must have been signed. */
int proof_consistency(sqlite3 *db, uint64_t from, uint64_t to, struct buf *out, struct moe_err *e);

/* Two notes; root and path (n_path < 0: the sizes are equal). */
void proof_fork(const char *a, size_t n_a, const char *b, size_t n_b, const unsigned char *root,
	const unsigned char (*path)[SHA_BYTES], int n_path, struct buf *out);

/* Does the proof hold under one of the keys? 1 = it does, 0 = it does not (why in e), -1 = it is
 * not a proof. `what`: lines that say what it shows. */
int proof_check(const char *json, size_t n, const struct note_key *keys, size_t n_key,
	struct buf *what, struct moe_err *e);

/* Append a JSON string with its quotes; bytes above 0x7e become escapes of code points. */
void proof_string(struct buf *b, const char *s, size_t n);

#endif
