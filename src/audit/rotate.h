/* rotate.h - another key signs from here on. */
#ifndef AUDIT_ROTATE_H
#define AUDIT_ROTATE_H

#include "audit/log.h"

/* What both keys sign: lines "moescope-rotation/1", origin, number of the new epoch, old and new
 * verifier's key. */
void rotation_statement(struct buf *out, const char *origin, uint64_t epoch, const char *old,
	const char *new);

/* Append the rotation and sign the tree with the new key; in the caller's transaction. */
int log_rotate(struct log *g, const struct note_secret *old, const struct note_secret *new,
	const char *new_path, const char *who, struct moe_err *e);

#endif
