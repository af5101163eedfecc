/*
 * audit_say.h - what a verb of `moescope audit` did, as one JSON object: "action" and its fields.
 * Without --json the verbs say it in words themselves.
 */
#ifndef CMD_AUDIT_SAY_H
#define CMD_AUDIT_SAY_H

#include <stddef.h>
#include <stdint.h>

#include <moescope/err.h>

#define SAY_NULL INT64_MIN

/* A text, or a number where text is NULL; SAY_NULL is null. */
struct say { const char *key, *text; int64_t number; };

void audit_say(const char *action, const struct say *f, size_t n);
/* The same of a signed checkpoint: origin, size, root, epoch and the note itself, then f. */
int audit_say_note(const char *action, const char *note, size_t n_note, const struct say *f,
	size_t n,
	struct moe_err *e);

#endif
