/*
 * buf.h - a growing byte buffer with a declared maximum.
 *
 * After a failed append (no memory, maximum reached) `failed` is set and further appends do
 * nothing, so a caller may append many times and check once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

struct buf {
	char *data;  /* [len], followed by a NUL that len does not count; NULL while empty */
	size_t len, cap, max;
	int failed;
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory; also clears failed */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
