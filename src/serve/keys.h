/*
 * keys.h - the keys of clients: a file with a key a line; empty lines and lines that begin with #
 * are not.
 *
 * Only hashes are kept. How long a comparison takes does not depend on the bytes of the keys.
 */
#ifndef SERVE_KEYS_H
#define SERVE_KEYS_H

#include <moescope/err.h>

struct keys;
/* Refuses a file without a key, with more than 1024, or with one of more than 1024 bytes. */
struct keys *keys_load(const char *path, struct moe_err *e);
void keys_free(struct keys *k);
/* Is this the value of a header Authorization with one of the keys ("Bearer KEY")? NULL is not. */
int keys_allow(const struct keys *k, const char *authorization);

#endif
