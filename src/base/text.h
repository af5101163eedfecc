/*
 * text.h - untrusted text made safe for where it goes.
 *
 * Names, token bytes and strings of files may hold anything. Decoding is strict UTF-8; what is not
 * printable (C0, DEL, C1, bidi controls, zero-width, line separators, broken or partial sequences)
 * is shown as an escape such as \x1b or \u202e.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Decode one code point at s[0..n-1]: returns its length 1..4 and sets *cp, or 0 if the bytes are
 * not valid UTF-8 (overlong, surrogate, above U+10FFFF, truncated). n > 0. */
size_t text_decode(const char *s, size_t n, uint32_t *cp);

/* Encode: returns the length 1..4, writes to out[4]. cp must be a valid scalar value. */
size_t text_encode(uint32_t cp, char out[4]);

enum text_for { TEXT_TERMINAL, TEXT_JSON, TEXT_HTML };
/* Append s[0..n-1] to b, safe for `where`. TEXT_JSON gives the inside of a JSON string (quotes not
 * added; broken bytes become U+FFFD); TEXT_HTML escapes <>&"' as well. */
void text_escape(struct buf *b, const char *s, size_t n, enum text_for where);

/* Put a remark behind those that s holds already, "; " between them; what does not fit is cut. */
void text_remark(char *s, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Columns that the (already safe) UTF-8 string takes on a terminal; wide characters count 2. */
size_t text_width(const char *s);

#endif
