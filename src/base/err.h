/* err.h - filling in a struct moe_err; see include/moescope/err.h for the convention. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <moescope/err.h>

/* Set code and message; control characters and broken UTF-8 become "?". Returns -1.
 * e may be NULL. */
int err_set(struct moe_err *e, enum moe_err_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "<formatted text>: " in front of the message that is there; keeps the code. Returns -1. */
int err_wrap(struct moe_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* MOE_ERR_SYS "<formatted text>: <strerror(errno)>". Returns -1. */
int err_errno(struct moe_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* MOE_ERR_SYS "out of memory (<n> bytes for <what>)". Returns -1. */
int err_nomem(struct moe_err *e, unsigned long long n, const char *what);

#endif
