/*
 * lines.h - an untrusted text file, line by line, with the place for messages; and CSV fields.
 *
 * Lines end with LF or CR LF, the last one may end with the file. A byte order mark at the start is
 * skipped. A line has at most LINES_MAX bytes and no NUL.
 */
#ifndef EXCHANGE_LINES_H
#define EXCHANGE_LINES_H

#include <stdint.h>
#include <stdio.h>

#include <moescope/err.h>

enum { LINES_MAX = 1 << 20, FIELDS_MAX = 64 };

struct lines {
	const char *path;
	FILE *f;
	char *line;      /* the present line, NUL at its end; may be written to */
	size_t len;
	uint64_t number; /* from 1 */
	char *mem;       /* [LINES_MAX + 2] */
};

int lines_open(struct lines *l, const char *path, struct moe_err *e);
void lines_close(struct lines *l);
int lines_next(struct lines *l, struct moe_err *e); /* 1, 0 = end, -1; empty lines are skipped */

/* "FILE:LINE: message"; returns -1. */
int lines_fail(const struct lines *l, struct moe_err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Split the line at commas (RFC 4180 quotes; a field cannot run over the end of the line) in place.
 * Returns the number of fields, -1 on error. */
int lines_fields(struct lines *l, char *field[FIELDS_MAX], struct moe_err *e);

/* A whole decimal number, lo..hi, and nothing else. */
int lines_int(const struct lines *l, const char *what, const char *s, int64_t lo, int64_t hi,
	int64_t *out, struct moe_err *e);
/* A finite decimal number. */
int lines_real(const struct lines *l, const char *what, const char *s, double *out,
	struct moe_err *e);

#endif
