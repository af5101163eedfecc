/*
 * stop.h - texts that end a reply, found as it is generated, however it is cut into pieces.
 *
 * The reply ends at the first byte at which one of them is complete (of several the longest), and
 * what comes out is the text before it. Bytes that may still become one wait. Texts are valid
 * UTF-8, so what comes out is cut between characters where the pieces were.
 */
#ifndef SERVE_STOP_H
#define SERVE_STOP_H

#include "base/buf.h"

#define STOP_MOST 16   /* texts */
#define STOP_BYTES 256 /* of one */

struct stop {
	const char *text[STOP_MOST]; /* [n] borrowed, not empty, at most STOP_BYTES long */
	size_t n;
	char wait[STOP_BYTES];       /* [n_wait] the start of one, perhaps; zero to begin */
	size_t n_wait;
};

/* Appends to out what may be shown: 1 = the reply ends behind it, 0 = it goes on. */
int stop_feed(struct stop *s, const char *text, size_t n, struct buf *out);
/* There is no more: what waits was none of them. */
void stop_rest(struct stop *s, struct buf *out);

#endif
